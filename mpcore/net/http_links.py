"""POST requests over channels that are kept for the next one (RFC 9112, section 9.3): the client of
:mod:`mpcore.net.http_server`.

One request at a time goes over a channel.  One that was kept may have been closed by the other end meanwhile: a request
that fails on such a one before any answer is sent once more, over a new channel; the receiver answers a repeated
message as it did the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio
import h11

from mpcore.errors import ExchangeError
from mpcore.net.channel import Channel, ChannelSecurity
from mpcore.net.client import describe
from mpcore.net.network import ByteStream, Network

__all__ = ("HttpLinks", "HttpTarget")

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where a request goes.

    :ivar host: numeric address.
    :ivar server_name: name of the server, for SNI and the ``Host`` header.
    """

    host: str
    port: int
    server_name: str


class HttpLinks:
    """The channels of one node to others.

    :param security: what new channels are made with; may be changed: :attr:`security`.
    :param local_host: source address, or ``None`` for the system's choice.
    :param idle: seconds for which a channel is kept; servers close idle ones after 30.
    :param per_target: channels kept to one target.
    :param capacity: channels kept in total.
    :param max_body: octets of the largest answer.
    """

    def __init__(
        self,
        network: Network,
        security: ChannelSecurity,
        *,
        local_host: str | None = None,
        idle: float = 20.0,
        per_target: int = 2,
        capacity: int = 64,
        connect_timeout: float = 3.0,
        max_body: int = 1 << 20,
    ) -> None:
        self.security = security
        self._network, self._local_host = network, local_host
        self._idle, self._per_target, self._capacity = idle, per_target, capacity
        self._connect_timeout, self._max_body = connect_timeout, max_body
        self._free: list[tuple[float, HttpTarget, ChannelSecurity, Channel, h11.Connection]] = []  # oldest first
        self._closed = False
        self.connections = 0  #: made since the start
        self.reused = 0  #: requests that went over a kept one

    async def post(
        self,
        target: HttpTarget,
        path: str,
        body: bytes,
        *,
        expected: Callable[[bytes], bool],
        timeout: float,
    ) -> tuple[int, bytes]:
        """Send one request; status and body of the answer.

        :param expected: whether the public key that the server proves is the right one; nothing is sent otherwise.
        :param timeout: seconds for everything, connecting included; above 0.
        :raises ExchangeError: no answer in time, connection refused, the wrong server, garbage.
        """
        await self._close_old()
        where = f"{target.host} port {target.port}"
        try:
            with anyio.fail_after(timeout):
                kept = self._take(target, expected)
                if kept is not None:
                    self.reused += 1
                    with suppress(ExchangeError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                        return await self._converse(target, *kept, path, body)  # else closed meanwhile, most likely
                channel = await self._connect(target)
                if not expected(channel.spki):
                    await _close(channel.stream)
                    raise ExchangeError(f"{where}: the key of its certificate is not published")
                return await self._converse(target, channel, h11.Connection(h11.CLIENT), path, body)
        except TimeoutError:
            raise ExchangeError(f"no answer from {where} over HTTPS within {timeout:g} s") from None
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ExchangeError(f"{where}: {describe(error)}") from error

    async def probe(self, target: HttpTarget, *, timeout: float) -> bytes:
        """The public key that the server proves; :raises ExchangeError: there is none."""
        try:
            with anyio.fail_after(timeout):
                channel = await self._connect(target)
        except TimeoutError:
            raise ExchangeError(f"no channel within {timeout:g} s") from None
        except OSError as error:
            raise ExchangeError(describe(error)) from error
        await _close(channel.stream)
        return channel.spki

    async def aclose(self) -> None:
        """Close what is kept; nothing is kept from now on."""
        self._closed = True
        free, self._free = self._free, []
        for _, _, _, channel, _ in free:
            await _close(channel.stream)

    async def _connect(self, target: HttpTarget) -> Channel:
        self.connections += 1
        where = f"{target.host} port {target.port}"
        try:
            with anyio.fail_after(self._connect_timeout):
                stream = await self._network.connect_tcp(target.host, target.port, local_host=self._local_host)
        except TimeoutError:
            raise ExchangeError(f"{where}: no connection within {self._connect_timeout:g} s") from None
        try:
            with anyio.fail_after(self._connect_timeout):
                return await self.security.connect(stream, target.server_name)
        except TimeoutError:
            raise ExchangeError(f"{where}: no TLS handshake within {self._connect_timeout:g} s") from None
        except ExchangeError as error:
            raise ExchangeError(f"{where}: {error}") from None

    def _take(self, target: HttpTarget, expected: Callable[[bytes], bool]) -> tuple[Channel, h11.Connection] | None:
        for index in range(len(self._free) - 1, -1, -1):
            _, other, security, channel, http = self._free[index]
            # One made with a former key of ours, or to a key that is not published any more, is left to its end.
            if other == target and security is self.security and expected(channel.spki):
                del self._free[index]
                return channel, http
        return None

    async def _converse(
        self, target: HttpTarget, channel: Channel, http: h11.Connection, path: str, body: bytes
    ) -> tuple[int, bytes]:
        done = False
        security = self.security
        try:
            headers = [
                ("host", f"{target.server_name.removesuffix('.')}:{target.port}"),
                ("content-type", "application/octet-stream"),
                ("content-length", str(len(body))),
            ]
            octets = http.send(h11.Request(method="POST", target=path, headers=headers)) or b""
            octets += http.send(h11.Data(data=body)) or b""
            octets += http.send(h11.EndOfMessage()) or b""
            await channel.stream.send(octets)
            answer = await self._answer(channel, http)
            if http.our_state is h11.DONE and http.their_state is h11.DONE:
                http.start_next_cycle()
                done = True
            return answer
        except h11.ProtocolError as error:
            raise ExchangeError(f"{target.host} port {target.port}: not HTTP: {error}") from None
        finally:
            if done and not self._closed and not http.trailing_data[0] and self._room(target):
                self._free.append((anyio.current_time(), target, security, channel, http))
            else:
                await _close(channel.stream)

    async def _answer(self, channel: Channel, http: h11.Connection) -> tuple[int, bytes]:
        status, body = 0, bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                try:
                    octets = await channel.stream.receive(_CHUNK)
                except anyio.EndOfStream:
                    raise ExchangeError("the connection was closed without an answer") from None
                http.receive_data(octets)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._max_body:
                    raise ExchangeError(f"an answer of more than {self._max_body} octets")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)
            elif not isinstance(event, h11.InformationalResponse):
                raise ExchangeError("the connection was closed without an answer")

    def _room(self, target: HttpTarget) -> bool:
        same = sum(1 for _, other, *_ in self._free if other == target)
        return same < self._per_target and len(self._free) < self._capacity

    async def _close_old(self) -> None:
        limit = anyio.current_time() - self._idle
        while self._free and self._free[0][0] < limit:
            await _close(self._free.pop(0)[3].stream)


async def _close(stream: ByteStream) -> None:
    with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.aclose()
