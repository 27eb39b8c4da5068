"""An exchange of DNS messages, signed with TSIG if there is a key."""

from __future__ import annotations

from mpcore.errors import TsigError
from mpcore.net.client import exchange
from mpcore.net.clock import Clock
from mpcore.net.network import Network
from mpcore.zone.tsig import TsigKey, sign_message, verify_message

__all__ = ("signed_exchange",)


async def signed_exchange(
    network: Network,
    octets: bytes,
    host: str,
    port: int = 53,
    *,
    key: TsigKey | None,
    clock: Clock,
    over_tcp: bool = False,
    timeout: float = 5.0,
    local_host: str | None = None,
) -> bytes:
    """Like :func:`mpcore.net.client.exchange`, with the request signed and the answer's signature checked and removed.

    :param octets: the message, unsigned.
    :param key: ``None``: exchange it as it is.
    :param clock: for the time in the signature.
    :raises ExchangeError: no answer in time, connection refused, garbage.
    :raises TsigError: the answer is not signed, or not by *key*, or says that our signature is wrong (RFC 8945).
    """
    if key is None:
        return await exchange(network, octets, host, port, over_tcp=over_tcp, timeout=timeout, local_host=local_host)
    signed, mac = sign_message(octets, key, clock.now())
    answer = await exchange(network, signed, host, port, over_tcp=over_tcp, timeout=timeout, local_host=local_host)
    verified = verify_message(answer, {key.name: key}, clock.now(), request_mac=mac)
    if verified is None:
        raise TsigError(f"{host} port {port} answers without a TSIG")
    return verified.octets
