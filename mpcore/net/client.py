"""One DNS question, one answer: over UDP or TCP, to a numeric address."""

from __future__ import annotations

import os
from contextlib import suppress

import anyio

from mpcore.errors import ExchangeError
from mpcore.net.framing import MAX_MESSAGE, MessageStream
from mpcore.net.messages import question_end
from mpcore.net.network import ByteStream, Network
from mpcore.net.tls import TlsClient

__all__ = ("describe", "exchange", "is_answer_to", "query")


def describe(error: Exception) -> str:
    """A failure of the network in words, the same on every event loop."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or "the connection broke"


def is_answer_to(answer: bytes, query: bytes) -> bool:
    """Whether *answer* has the id, opcode and question of *query* (RFC 5452, section 9.1).

    Letter case in the name is ignored.  An error without any question, as servers send when they could not read the
    query, counts too.
    """
    if len(answer) < 12 or answer[:2] != query[:2] or not answer[2] & 0x80 or (answer[2] ^ query[2]) & 0x78:
        return False
    if answer[4:6] == b"\0\0":
        return answer[3] & 0x0F != 0 or query[4:6] == b"\0\0"
    asked, answered = question_end(query), question_end(answer)
    return asked is not None and asked == answered and query[12:asked].lower() == answer[12:asked].lower()


async def exchange(
    network: Network,
    octets: bytes,
    host: str,
    port: int = 53,
    *,
    over_tcp: bool = False,
    tls: TlsClient | None = None,
    timeout: float = 5.0,
    local_host: str | None = None,
) -> bytes:
    """Send one DNS message and return the answer to it.

    Over UDP the message is sent once, and datagrams that do not come from *host* and *port* or do not answer the
    message (id, opcode, question) are ignored until *timeout*.  Over TCP a new connection is used.

    :param octets: the message, with its id chosen by the caller at random, at most 65535 octets.
    :param host: numeric address.
    :param tls: ask over TLS (RFC 7858), whatever *over_tcp* says.
    :param timeout: seconds for everything, connecting included; above 0.
    :param local_host: numeric address to send from.
    :raises ExchangeError: no answer in time, connection refused, garbage.
    """
    if len(octets) > MAX_MESSAGE:
        raise ValueError("a DNS message has at most 65535 octets")
    try:
        with anyio.fail_after(timeout):
            if tls is not None:
                return await _over_stream(await tls.connect(network, host, port, local_host=local_host), octets)
            if over_tcp:
                return await _over_stream(await network.connect_tcp(host, port, local_host=local_host), octets)
            return await _over_udp(network, octets, host, port, local_host)
    except TimeoutError:
        transport = "TLS" if tls is not None else "TCP" if over_tcp else "UDP"
        raise ExchangeError(f"no answer from {host} port {port} over {transport} within {timeout:g} s") from None
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise ExchangeError(f"{host} port {port}: {describe(error)}") from error


async def query(
    network: Network,
    octets: bytes,
    host: str,
    port: int = 53,
    *,
    timeout: float = 5.0,
    attempts: int = 2,
    local_host: str | None = None,
) -> bytes:
    """Ask over UDP, again if nothing comes, and over TCP if the answer is truncated (RFC 7766, section 5).

    :param octets: the query; repeated with the same id.
    :param timeout: seconds for the whole, split evenly between the attempts over UDP; a truncated answer is asked for
        over TCP within the same time again.
    :param attempts: how often to send over UDP, at least 1.
    :raises ExchangeError: no answer in time, connection refused, garbage.
    """
    for attempt in range(attempts):
        try:
            answer = await exchange(network, octets, host, port, timeout=timeout / attempts, local_host=local_host)
            break
        except ExchangeError:
            if attempt + 1 == attempts:
                raise
    if answer[2] & 0x02:
        return await exchange(network, octets, host, port, over_tcp=True, timeout=timeout, local_host=local_host)
    return answer


async def _over_udp(network: Network, octets: bytes, host: str, port: int, local_host: str | None) -> bytes:
    socket = await network.bind_udp(local_host or ("::" if ":" in host else "0.0.0.0"), 0)
    try:
        await socket.send(octets, (host, port))
        while True:
            answer, source = await socket.receive()
            if source == (host, port) and is_answer_to(answer, octets):
                return answer
    finally:
        with anyio.CancelScope(shield=True), suppress(OSError):
            await socket.aclose()


async def _over_stream(connection: ByteStream, octets: bytes) -> bytes:
    stream = MessageStream(connection)
    try:
        await stream.send(octets)
        while True:
            try:
                answer = await stream.receive()
            except anyio.EndOfStream:
                host, port = stream.peer
                raise ExchangeError(f"{host} port {port} closed the connection without an answer") from None
            if is_answer_to(answer, octets):
                return answer
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()
