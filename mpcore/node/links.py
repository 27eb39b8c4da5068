"""TCP connections to peers, kept for the next message for a few seconds (RFC 7766, section 6.2.1).

One message at a time goes over a connection.  A connection that was kept may have been closed by the other end
meanwhile: a message that fails on such a one before any answer is sent once more, over a new connection; receivers
answer a repeated message as they did the first time.
"""

from __future__ import annotations

from contextlib import suppress

import anyio

from mpcore.errors import ExchangeError
from mpcore.net.client import describe, is_answer_to
from mpcore.net.framing import MessageStream
from mpcore.net.network import Network

__all__ = ("Links",)

_Address = tuple[str, int]


class Links:
    """The connections of one node to its peers.

    :param local_host: source address, or ``None`` for the system's choice.
    :param idle: seconds for which a connection is kept; servers close idle ones after 8.
    :param per_address: connections kept to one address.
    :param capacity: connections kept in total.
    """

    def __init__(
        self,
        network: Network,
        *,
        local_host: str | None = None,
        idle: float = 5.0,
        per_address: int = 2,
        capacity: int = 64,
    ) -> None:
        self._network, self._local_host = network, local_host
        self._idle, self._per_address, self._capacity = idle, per_address, capacity
        self._free: list[tuple[float, _Address, MessageStream]] = []  # oldest first
        self._closed = False
        self.connections = 0  #: made since the start
        self.reused = 0  #: messages that went over a kept one

    async def exchange(self, octets: bytes, host: str, port: int, *, timeout: float) -> bytes:
        """Send one DNS message and return the answer to it.

        :param timeout: seconds for everything, connecting included; above 0.
        :raises ExchangeError: no answer in time, connection refused, garbage.
        """
        await self._close_old()
        try:
            with anyio.fail_after(timeout):
                kept = self._take((host, port))
                if kept is not None:
                    self.reused += 1
                    try:
                        return await self._converse(kept, (host, port), octets)
                    except (ExchangeError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                        pass  # closed by the other end, most likely
                self.connections += 1
                stream = MessageStream(await self._network.connect_tcp(host, port, local_host=self._local_host))
                return await self._converse(stream, (host, port), octets)
        except TimeoutError:
            raise ExchangeError(f"no answer from {host} port {port} over TCP within {timeout:g} s") from None
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ExchangeError(f"{host} port {port}: {describe(error)}") from error

    async def aclose(self) -> None:
        """Close what is kept; nothing is kept from now on."""
        self._closed = True
        free, self._free = self._free, []
        for _, _, stream in free:
            await _close(stream)

    def _take(self, address: _Address) -> MessageStream | None:
        for index in range(len(self._free) - 1, -1, -1):
            if self._free[index][1] == address:
                return self._free.pop(index)[2]
        return None

    async def _converse(self, stream: MessageStream, address: _Address, octets: bytes) -> bytes:
        done = False
        try:
            await stream.send(octets)
            while True:
                try:
                    answer = await stream.receive()
                except anyio.EndOfStream:
                    host, port = address
                    raise ExchangeError(f"{host} port {port} closed the connection without an answer") from None
                if is_answer_to(answer, octets):
                    done = True
                    return answer
        finally:
            if done and not stream.partial and not self._closed and self._room(address):
                self._free.append((anyio.current_time(), address, stream))
            else:
                await _close(stream)

    def _room(self, address: _Address) -> bool:
        same = sum(1 for _, other, _ in self._free if other == address)
        return same < self._per_address and len(self._free) < self._capacity

    async def _close_old(self) -> None:
        limit = anyio.current_time() - self._idle
        while self._free and self._free[0][0] < limit:
            await _close(self._free.pop(0)[2])


async def _close(stream: MessageStream) -> None:
    with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError):
        await stream.aclose()
