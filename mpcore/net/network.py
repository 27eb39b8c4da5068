"""The seam between the protocols and the sockets.

:class:`Network` is all that the rest of :mod:`mpcore.net` knows of the outside.  :class:`InternetNetwork` is the real
one, on anyio; the simulator brings another, with latency, loss and partitions.

Hosts are numeric IPv4 or IPv6 addresses throughout.  A name where an address is wanted is refused like an address that
does not exist (:class:`OSError`): the system's resolver is not consulted, since it blocks and is not validated.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from typing import Protocol, TypeAlias

import anyio
import anyio.abc

__all__ = ("Address", "ByteStream", "InternetNetwork", "Listener", "Network", "UDPSocket")

Address: TypeAlias = tuple[str, int]  #: numeric host, and port


class ByteStream(Protocol):
    """A TCP connection."""

    @property
    def local(self) -> Address:
        """Our end."""
        ...

    @property
    def peer(self) -> Address:
        """The other end."""
        ...

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Between one and *max_bytes* octets, as they come.

        :raises anyio.EndOfStream: the other end closed its side.
        :raises anyio.BrokenResourceError: the connection broke.
        :raises anyio.ClosedResourceError: it was closed here.
        """
        ...

    async def send(self, item: bytes) -> None:
        """Send all octets of *item*; returns when the operating system took them (back-pressure).

        :raises anyio.BrokenResourceError: the connection broke.
        :raises anyio.ClosedResourceError: it was closed here.
        """
        ...

    async def aclose(self) -> None:
        """Close both directions; never raises because of the other end."""
        ...


class Listener(Protocol):
    """A listening TCP socket."""

    @property
    def address(self) -> Address:
        """The address and port that it is bound to."""
        ...

    async def accept(self) -> ByteStream:
        """The next connection.

        :raises OSError: this connection could not be accepted (out of descriptors, reset by the client); the listener
            goes on.
        :raises anyio.ClosedResourceError: the listener was closed.
        """
        ...

    async def aclose(self) -> None:
        """Stop listening.  Accepted connections stay."""
        ...


class UDPSocket(Protocol):
    """A bound UDP socket that talks with anyone."""

    @property
    def address(self) -> Address:
        """The address and port that it is bound to."""
        ...

    async def receive(self) -> tuple[bytes, Address]:
        """The next datagram and where it came from.

        :raises anyio.BrokenResourceError: the socket cannot be used any more.
        :raises anyio.ClosedResourceError: it was closed here.
        """
        ...

    async def send(self, octets: bytes, address: Address) -> None:
        """Send one datagram; several tasks may.  Nothing promises that it arrives.

        :raises OSError: it is too large for a datagram, perhaps.
        :raises anyio.BrokenResourceError: the socket cannot be used any more, or this datagram could not be sent.
        """
        ...

    async def aclose(self) -> None:
        """Close the socket."""
        ...


class Network(Protocol):
    """What can be reached, and where one can listen."""

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> ByteStream:
        """Open a TCP connection.

        :param host: numeric address.
        :param port: 1 to 65535.
        :param local_host: numeric address to connect from; ``None`` leaves the choice to the routing table.
        :raises OSError: refused, unreachable, timed out by the operating system.
        """
        ...

    async def listen_tcp(self, host: str, port: int) -> Listener:
        """Listen for TCP connections.

        :param port: 0 takes any free port.
        :raises OSError: the address is in use or not ours.
        """
        ...

    async def bind_udp(self, host: str, port: int) -> UDPSocket:
        """Bind a UDP socket.

        :param port: 0 takes any free port, chosen at random.
        :raises OSError: the address is in use or not ours.
        """
        ...


def _family(host: str) -> socket.AddressFamily:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise OSError(errno.EADDRNOTAVAIL, f"{host!r} is not a numeric IP address") from None
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def bound_socket(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """A non-blocking socket of *kind*, bound to *host* and *port*.

    :raises OSError: the address is in use or not ours.
    """
    family = _family(host)
    raw = socket.socket(family, kind)
    try:
        raw.setblocking(False)
        if family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        raw.bind((host, port))
    except BaseException:
        raw.close()
        raise
    return raw


async def _connect_from(local_host: str, host: str, port: int) -> anyio.abc.SocketStream:
    """Connect from an address of ours.

    anyio does the same, but on trio it forgets the socket if it is cancelled before it is bound.
    """
    raw = bound_socket(socket.SOCK_STREAM, local_host, 0)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = raw.connect_ex((host, port))
        if number == errno.EINPROGRESS:
            await anyio.wait_writable(raw)
            number = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        with anyio.CancelScope(shield=True):
            stream = await anyio.abc.SocketStream.from_socket(raw)
    except BaseException:
        raw.close()
        raise
    return stream


# What anyio raises for the addresses of a connection that ended before they were asked for: on asyncio its transport
# may have no socket any more, which anyio does not expect.
_GONE = (anyio.TypedAttributeLookupError, AttributeError, OSError)


class _Stream:
    __slots__ = ("_stream", "local", "peer")

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self.local: Address = stream.extra(anyio.abc.SocketAttribute.local_address)[:2]  # type: ignore[assignment]
        self.peer: Address = stream.extra(anyio.abc.SocketAttribute.remote_address)[:2]  # type: ignore[assignment]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def aclose(self) -> None:
        with suppress(OSError, anyio.BrokenResourceError):
            await self._stream.aclose()


class _Listener:
    __slots__ = ("_listener", "address")

    def __init__(self, listener: anyio.abc.SocketListener) -> None:
        self._listener = listener
        self.address: Address = listener.extra(anyio.abc.SocketAttribute.local_address)[:2]  # type: ignore[assignment]

    async def accept(self) -> ByteStream:
        stream = await self._listener.accept()
        try:
            return _Stream(stream)
        except _GONE as error:
            await anyio.aclose_forcefully(stream)
            raise ConnectionAbortedError(errno.ECONNABORTED, "connection reset before it was accepted") from error

    async def aclose(self) -> None:
        await self._listener.aclose()


class _Datagrams:
    __slots__ = ("_sending", "_socket", "address")

    def __init__(self, sock: anyio.abc.UDPSocket) -> None:
        self._socket = sock
        self._sending = anyio.Lock()
        self.address: Address = sock.extra(anyio.abc.SocketAttribute.local_address)[:2]  # type: ignore[assignment]

    async def receive(self) -> tuple[bytes, Address]:
        octets, address = await self._socket.receive()
        return octets, address[:2]

    async def send(self, octets: bytes, address: Address) -> None:
        async with self._sending:
            await self._socket.sendto(octets, *address)

    async def aclose(self) -> None:
        await self._socket.aclose()


class InternetNetwork:
    """The network of the operating system, through anyio."""

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> ByteStream:
        """See :meth:`Network.connect_tcp`."""
        family = _family(host)
        if local_host is not None and _family(local_host) != family:
            raise OSError(errno.EAFNOSUPPORT, f"{local_host} and {host} are of different address families")
        try:
            if local_host is None:
                stream = await anyio.connect_tcp(host, port)
            else:
                stream = await _connect_from(local_host, host, port)
        except OSError as error:  # anyio says only that all attempts failed; there was one, and it knows why
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise
        try:
            return _Stream(stream)
        except _GONE as error:
            await anyio.aclose_forcefully(stream)
            raise ConnectionResetError(errno.ECONNRESET, f"{host}:{port} reset the connection") from error

    async def listen_tcp(self, host: str, port: int) -> Listener:
        """See :meth:`Network.listen_tcp`."""
        raw = bound_socket(socket.SOCK_STREAM, host, port)
        try:
            raw.listen(1024)
            return _Listener(await anyio.abc.SocketListener.from_socket(raw))
        except BaseException:
            raw.close()
            raise

    async def bind_udp(self, host: str, port: int) -> UDPSocket:
        """See :meth:`Network.bind_udp`."""
        raw = bound_socket(socket.SOCK_DGRAM, host, port)
        try:
            # Nothing is waited for here; cancelled in the middle, uvloop would keep an endpoint that nobody closes.
            with anyio.CancelScope(shield=True):
                made = await anyio.abc.UDPSocket.from_socket(raw)
        except BaseException:
            raw.close()
            raise
        return _Datagrams(made)
