"""The fast UDP listener: an asyncio datagram protocol, many times faster than anyio's UDP object.

One of the two places in the project that know asyncio.  On another event loop, and on a simulated network, the server
uses :meth:`mpcore.net.network.Network.bind_udp` instead.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from mpcore.net.network import Address, bound_socket

__all__ = ("AsyncioDatagrams", "OnDatagram", "available", "listen")

OnDatagram: TypeAlias = Callable[[bytes, Address, Callable[[bytes], None]], bytes | None]
"""Called for each datagram with its octets, its source and a function that sends an answer to the source later;
returns an answer to send at once, or ``None``.  Must not raise."""


def available() -> bool:
    """Whether an asyncio event loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class AsyncioDatagrams(asyncio.DatagramProtocol):
    """A bound UDP socket whose datagrams are handed to a function as they come.

    While the socket's send buffer is full, answers are dropped: the client asks again.
    """

    address: Address  #: what the socket is bound to

    def __init__(self, on_datagram: OnDatagram) -> None:
        self._on_datagram = on_datagram
        self._transport: asyncio.DatagramTransport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None

    def pause_writing(self) -> None:
        """Called by the event loop when the send buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by the event loop when the send buffer has room again."""
        self._paused = False

    def error_received(self, exc: Exception) -> None:
        """Called by the event loop for an ICMP error: nothing depends on it."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Called by the event loop."""

        def later(answer: bytes) -> None:
            self._send(answer, addr)

        answer = self._on_datagram(data, addr[:2], later)
        if answer is not None:
            self._send(answer, addr)

    def _send(self, answer: bytes, addr: tuple[Any, ...]) -> None:
        if self._transport is not None and not self._paused:
            with suppress(OSError, ValueError):  # too large, or a source that cannot be answered (port 0)
                self._transport.sendto(answer, addr)

    def close(self) -> None:
        """Close the socket; what is in the send buffer is dropped."""
        if self._transport is not None:
            self._transport.abort()


async def listen(host: str, port: int, on_datagram: OnDatagram) -> AsyncioDatagrams:
    """Bind a UDP socket on the running asyncio event loop.

    :param host: numeric address.
    :param port: 0 takes any free port.
    :raises OSError: the address is in use or not ours.
    """
    raw = bound_socket(socket.SOCK_DGRAM, host, port)
    try:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            raw.setsockopt(socket.SOL_SOCKET, option, 1 << 21)
        address: Address = raw.getsockname()[:2]
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(lambda: AsyncioDatagrams(on_datagram), sock=raw)
    except BaseException:
        raw.close()
        raise
    protocol.address = address
    return protocol
