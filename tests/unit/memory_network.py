"""A network in memory for tests on the virtual clock: streams and datagrams, and hosts that go down."""

from __future__ import annotations

import errno
import itertools
import math
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from mpcore.net.network import Address, ByteStream, Listener, UDPSocket

__all__ = ("MemoryNetwork",)


class MemoryNetwork:
    """Connects at once and delivers at once, unless a host is in *down* or *drops* says so."""

    def __init__(self) -> None:
        self.down: set[str] = set()  #: hosts that refuse connections and swallow datagrams
        self.drops: Callable[[bytes, Address, Address], bool] = lambda octets, source, target: False
        self.connections = 0  #: TCP connections made
        self.datagrams: list[tuple[bytes, Address, Address]] = []  #: UDP messages sent
        self._listeners: dict[Address, _Listener] = {}
        self._sockets: dict[Address, _Socket] = {}
        self._ports = itertools.count(20000)

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        listener = self._listeners.get((host, port))
        if listener is None or host in self.down:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        self.connections += 1
        ours, theirs = (local_host or "10.0.0.1", next(self._ports)), (host, port)
        to_them, from_us = anyio.create_memory_object_stream[bytes](4)
        to_us, from_them = anyio.create_memory_object_stream[bytes](4)
        await listener.incoming.send(_Stream(theirs, ours, to_us, from_us))
        return _Stream(ours, theirs, to_them, from_them)

    async def listen_tcp(self, host: str, port: int) -> Listener:
        address = (host, port or next(self._ports))
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, "in use")
        self._listeners[address] = _Listener(self._listeners, address)
        return self._listeners[address]

    async def bind_udp(self, host: str, port: int) -> UDPSocket:
        address = (host if host != "0.0.0.0" else "10.0.0.1", port or next(self._ports))
        if address in self._sockets:
            raise OSError(errno.EADDRINUSE, "in use")
        self._sockets[address] = _Socket(self, address)
        return self._sockets[address]

    def deliver(self, octets: bytes, source: Address, target: Address) -> None:
        self.datagrams.append((octets, source, target))
        socket = self._sockets.get(target)
        if socket is not None and not {source[0], target[0]} & self.down and not self.drops(octets, source, target):
            socket.incoming.send_nowait((octets, source))

    def forget(self, address: Address) -> None:
        self._sockets.pop(address, None)


class _Stream:
    def __init__(
        self,
        local: Address,
        peer: Address,
        sender: MemoryObjectSendStream[bytes],
        receiver: MemoryObjectReceiveStream[bytes],
    ) -> None:
        self.local, self.peer = local, peer
        self._sender, self._receiver = sender, receiver
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        octets = self._rest or await self._receiver.receive()
        self._rest = octets[max_bytes:]
        return octets[:max_bytes]

    async def send(self, item: bytes) -> None:
        await self._sender.send(item)

    async def aclose(self) -> None:
        self._sender.close()
        self._receiver.close()


class _Listener:
    def __init__(self, listeners: dict[Address, _Listener], address: Address) -> None:
        self.address = address
        self._listeners = listeners
        self.incoming, self._accepting = anyio.create_memory_object_stream[_Stream](math.inf)

    async def accept(self) -> ByteStream:
        return await self._accepting.receive()

    async def aclose(self) -> None:
        self._listeners.pop(self.address, None)
        self.incoming.close()
        while True:
            try:
                await self._accepting.receive_nowait().aclose()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        self._accepting.close()


class _Socket:
    def __init__(self, network: MemoryNetwork, address: Address) -> None:
        self.address = address
        self._network = network
        self.incoming, self._receiving = anyio.create_memory_object_stream[tuple[bytes, Address]](math.inf)

    async def receive(self) -> tuple[bytes, Address]:
        return await self._receiving.receive()

    async def send(self, octets: bytes, address: Address) -> None:
        await anyio.lowlevel.checkpoint()
        self._network.deliver(octets, self.address, address)

    async def aclose(self) -> None:
        self._network.forget(self.address)
        self.incoming.close()
        self._receiving.close()
