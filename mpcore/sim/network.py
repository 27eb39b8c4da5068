"""A network in memory: hosts with addresses, streams and datagrams, on whatever clock the event loop has.

Theory
------
:class:`SimNetwork` is the wire between all hosts; :meth:`SimNetwork.host` gives a host's own view of it, which is a
:class:`mpcore.net.network.Network`.  Everything above it (servers, resolver, transfers, peer links) is the code that
runs in production.

There are no tasks and no threads here.  Whoever sends computes when the octets arrive and leaves them, stamped with
that moment, at the receiver; whoever receives sleeps until then.  On trio's virtual clock a run is therefore as fast as
its computations, and two runs with the same events are the same to the octet: ports count up, ties are kept in the
order of sending, nothing is random.

What becomes of a segment is decided by a :data:`Weather`, a function from :class:`Passage` to the seconds it takes, or
``None`` when it is lost.  A lost datagram is gone.  A lost TCP segment is sent again after 1, 2, 4, ... seconds, as a
kernel does (RFC 6298), and when :data:`ATTEMPTS` are lost the connection is broken.  Segments of one direction of a
stream arrive in order, datagrams as they come.

=============================  =========================================================================
event                          what happens
=============================  =========================================================================
connect, somebody listens      accepted there after one passage, established here after the passage back
connect, nobody listens        refused after both passages
connect, no such host          lost like a segment; ``ETIMEDOUT`` when :data:`ATTEMPTS` are lost
send                           taken at once while fewer than :data:`WINDOW` octets wait at the receiver
close                          the other end reads what was sent before, then the end; what it sends breaks
:meth:`SimNetwork.cut`         both ends break at once, as if a process died with data unread
datagram, nobody bound         gone
=============================  =========================================================================
"""

from __future__ import annotations

import errno
import heapq
import ipaddress
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar

import anyio
import anyio.lowlevel

from mpcore.net.network import Address, ByteStream, Listener, UDPSocket

__all__ = ("ATTEMPTS", "WINDOW", "HostNetwork", "Passage", "SimNetwork", "Weather", "fair")

WINDOW: Final = 262144
"""Octets that may wait at the receiver of a stream before its sender has to wait."""

ATTEMPTS: Final = 7
"""How often a TCP segment is sent before the connection is given up: at 0, 1, 3, 7, 15, 31 and 63 seconds."""

_DATAGRAM: Final = 65507
_DATAGRAMS_WAITING: Final = 4096
_FIRST_PORT: Final = 49152
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Passage:
    """One segment or datagram on its way.

    :param kind: ``tcp`` or ``udp``.
    :param source: numeric address and port.
    :param target: numeric address and port.
    :param octets: how many, without headers; 0 for connecting and closing.
    :param attempt: 0 for the first transmission; TCP counts up.
    :param now: time of the event loop, seconds.
    """

    kind: Literal["tcp", "udp"]
    source: Address
    target: Address
    octets: int
    attempt: int
    now: float


Weather: TypeAlias = Callable[[Passage], float | None]
"""Seconds until it arrives, at least 0, or ``None``: lost."""


def fair(passage: Passage) -> float | None:
    """Everything arrives at once."""
    return 0.0


_Bound = TypeVar("_Bound")


def _claim(table: dict[Address, _Bound], address: Address, item: _Bound) -> None:
    if address in table:
        raise OSError(errno.EADDRINUSE, f"{address[0]} port {address[1]} is in use")
    table[address] = item


def _wildcard(host: str) -> str:
    return "::" if ":" in host else "0.0.0.0"


class SimNetwork:
    """The wire between all hosts.

    :param weather: what becomes of each segment; may be replaced at any time.
    """

    def __init__(self, weather: Weather = fair) -> None:
        self.weather = weather
        self.connections = 0  #: TCP connections established
        self.datagrams = 0  #: datagrams sent
        self._hosts: dict[str, HostNetwork] = {}
        self._streams: dict[_Stream, None] = {}

    def host(self, *addresses: str) -> HostNetwork:
        """The view of a new host.

        :param addresses: at least one numeric address, none of which another host has.
        :raises ValueError: not so.
        """
        names = tuple(str(ipaddress.ip_address(address)) for address in addresses)
        if not names or len(set(names)) != len(names) or any(name in self._hosts for name in names):
            raise ValueError(f"a host needs addresses of its own: {addresses}")
        host = HostNetwork(self, names)
        for name in names:
            self._hosts[name] = host
        return host

    def cut(self, address: str) -> None:
        """Break every connection from and to *address*, as when its process dies with data unread."""
        for stream in [item for item in self._streams if address in (item.local[0], item.peer[0])]:
            stream.break_off()

    # ------------------------------------------------------------- for the views

    def arrival(self, kind: Literal["tcp", "udp"], source: Address, target: Address, octets: int) -> float | None:
        """When something sent now arrives, ``None``: never."""
        now = anyio.current_time()
        pause = 0.0
        for attempt in range(ATTEMPTS if kind == "tcp" else 1):
            taken = self.weather(Passage(kind, source, target, octets, attempt, now + pause))
            if taken is not None:
                return now + pause + max(0.0, taken)
            pause += 2.0**attempt
        return None

    async def connect(self, ours: Address, theirs: Address) -> _Stream:
        """Establish a connection; see the table above."""
        there = self.arrival("tcp", ours, theirs, 0)
        if there is None or theirs[0] not in self._hosts:
            await anyio.sleep(2.0**ATTEMPTS - 1)
            raise TimeoutError(errno.ETIMEDOUT, f"no answer from {theirs[0]}")
        await _until(there)
        listener = self._hosts[theirs[0]].listener(theirs)
        back = self.arrival("tcp", theirs, ours, 0)
        if back is None:
            await anyio.sleep(2.0**ATTEMPTS - 1)
            raise TimeoutError(errno.ETIMEDOUT, f"no answer from {theirs[0]}")
        if listener is None or listener.full:
            await _until(back)
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{theirs[0]} port {theirs[1]} refuses")
        near, far = _Stream(self, ours, theirs), _Stream(self, theirs, ours)
        near.other, far.other = far, near
        self._streams[near] = self._streams[far] = None
        self.connections += 1
        listener.offer(far)
        try:
            await _until(back)
        except BaseException:
            near.close()
            raise
        return near

    def send_datagram(self, octets: bytes, source: Address, target: Address) -> None:
        """Put a datagram on its way."""
        self.datagrams += 1
        at = self.arrival("udp", source, target, len(octets))
        if at is None:
            return
        host = self._hosts.get(target[0])
        socket = host.socket(target) if host is not None else None
        if socket is not None:
            socket.deliver(at, octets, source)

    def forget(self, stream: _Stream) -> None:
        """It is closed."""
        self._streams.pop(stream, None)


async def _until(at: float) -> None:
    """Sleep until *at*; at least let others run."""
    if at > anyio.current_time():
        await anyio.sleep_until(at)
    else:
        await anyio.lowlevel.checkpoint()


class HostNetwork:
    """The network as one host sees it: a :class:`mpcore.net.network.Network`.

    :param wire: the network of all hosts.
    :param addresses: the host's own; the first is where it speaks from unless told otherwise.
    """

    def __init__(self, wire: SimNetwork, addresses: tuple[str, ...]) -> None:
        self.wire, self.addresses = wire, addresses
        self._listeners: dict[Address, _Listener] = {}
        self._sockets: dict[Address, _Socket] = {}
        self._port = _FIRST_PORT

    def listener(self, address: Address) -> _Listener | None:
        """Who takes connections to *address*."""
        return self._listeners.get(address) or self._listeners.get((_wildcard(address[0]), address[1]))

    def socket(self, address: Address) -> _Socket | None:
        """Who takes datagrams to *address*."""
        return self._sockets.get(address) or self._sockets.get((_wildcard(address[0]), address[1]))

    def forget(self, gone: _Listener | _Socket) -> None:
        """It is closed."""
        table: dict[Address, Any] = self._listeners if isinstance(gone, _Listener) else self._sockets
        if table.get(gone.address) is gone:
            del table[gone.address]

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> ByteStream:
        """See :meth:`mpcore.net.network.Network.connect_tcp`."""
        target = self._numeric(host)
        source = self._own(local_host) if local_host is not None else self.source(target)
        if (":" in source) != (":" in target):
            raise OSError(errno.EAFNOSUPPORT, f"{source} and {target} are of different address families")
        return await self.wire.connect((source, self._next_port(source)), (target, port))

    async def listen_tcp(self, host: str, port: int) -> Listener:
        """See :meth:`mpcore.net.network.Network.listen_tcp`."""
        await anyio.lowlevel.checkpoint()
        address = self._own(host)
        listener = _Listener(self, (address, port or self._next_port(address)))
        _claim(self._listeners, listener.address, listener)
        return listener

    async def bind_udp(self, host: str, port: int) -> UDPSocket:
        """See :meth:`mpcore.net.network.Network.bind_udp`."""
        await anyio.lowlevel.checkpoint()
        address = self._own(host)
        if not port and address in _WILDCARDS:
            address = self.source(address)  # a client: it speaks from one address
        socket = _Socket(self, (address, port or self._next_port(address)))
        _claim(self._sockets, socket.address, socket)
        return socket

    def _numeric(self, host: str) -> str:
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            raise OSError(errno.EADDRNOTAVAIL, f"{host!r} is not a numeric IP address") from None

    def _own(self, host: str) -> str:
        address = self._numeric(host)
        if address in _WILDCARDS:
            return address
        if address not in self.addresses:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of this host")
        return address

    def source(self, target: str) -> str:
        """The address that the host speaks to *target* from; :raises OSError: it has none of that family."""
        for address in self.addresses:
            if (":" in address) == (":" in target):
                return address
        raise OSError(errno.ENETUNREACH, f"no address to reach {target} from")

    def _next_port(self, address: str) -> int:
        for _ in range(65536 - _FIRST_PORT):
            port = self._port
            self._port = port + 1 if port < 65535 else _FIRST_PORT
            if (address, port) not in self._listeners and (address, port) not in self._sockets:
                return port
        raise OSError(errno.EADDRINUSE, "no free port")


class _Stream:
    """One end of a connection."""

    other: _Stream

    def __init__(self, wire: SimNetwork, local: Address, peer: Address) -> None:
        self.local, self.peer = local, peer
        self._wire = wire
        self._arriving: deque[tuple[float, bytes]] = deque()  # the empty string is the end
        self._waiting = 0  # octets in it
        self._last = 0.0  # moment of the newest arrival: segments do not overtake
        self._closed = self._broken = self._ended = False
        self._came = anyio.Event()  # something came, or the state changed
        self._room = anyio.Event()
        self._receiving = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        self._receiving = True
        try:
            await anyio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise anyio.ClosedResourceError
                if self._ended:
                    raise anyio.EndOfStream
                if self._arriving and self._arriving[0][0] <= anyio.current_time():
                    return self._take(max_bytes)
                if self._broken:
                    raise anyio.BrokenResourceError
                self._came = anyio.Event()
                due = self._arriving[0][0] if self._arriving else None
                with anyio.move_on_at(due) if due is not None else anyio.CancelScope():
                    await self._came.wait()
        finally:
            self._receiving = False

    def _take(self, max_bytes: int) -> bytes:
        taken = bytearray()
        while self._arriving and self._arriving[0][0] <= anyio.current_time() and len(taken) < max_bytes:
            at, octets = self._arriving[0]
            if not octets:
                if not taken:
                    self._ended = True
                    raise anyio.EndOfStream
                break
            room = max_bytes - len(taken)
            taken += octets[:room]
            if len(octets) > room:
                self._arriving[0] = (at, octets[room:])
                break
            self._arriving.popleft()
        self._waiting -= len(taken)
        self._room.set()
        return bytes(taken)

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        other = self.other
        rest = memoryview(item)
        while rest:
            while other._waiting >= WINDOW and not (self._closed or self._broken or other._closed):
                other._room = anyio.Event()
                await other._room.wait()
            if self._closed:
                raise anyio.ClosedResourceError
            if self._broken or other._closed:
                raise anyio.BrokenResourceError
            part = bytes(rest[: WINDOW - other._waiting])
            rest = rest[len(part) :]
            if not self._pass(part):
                self.break_off()
                raise anyio.BrokenResourceError

    def _pass(self, octets: bytes) -> bool:
        """Put octets, or the end, on their way; ``False``: they never arrive."""
        at = self._wire.arrival("tcp", self.local, self.peer, len(octets))
        if at is None:
            return False
        other = self.other
        other._last = max(other._last, at)
        other._arriving.append((other._last, octets))
        other._waiting += len(octets)
        other._came.set()
        return True

    async def aclose(self) -> None:
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """See :meth:`aclose`."""
        if self._closed:
            return
        self._closed = True
        self._wire.forget(self)
        if not self._broken and not self.other._closed and not self._pass(b""):
            self.other.break_off()
        self._wake()

    def break_off(self) -> None:
        """Break both ends."""
        for end in (self, self.other):
            end._broken = True
            end._arriving.clear()
            end._waiting = 0
            end._wire.forget(end)
            end._wake()

    def _wake(self) -> None:
        self._came.set()
        self._room.set()
        self.other._room.set()


class _Listener:
    """A listening socket."""

    _BACKLOG = 1024

    def __init__(self, host: HostNetwork, address: Address) -> None:
        self.address = address
        self._host = host
        self._offered: deque[_Stream] = deque()
        self._came = anyio.Event()
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether no more connections can wait to be accepted."""
        return len(self._offered) >= self._BACKLOG

    def offer(self, stream: _Stream) -> None:
        """A connection for :meth:`accept`."""
        self._offered.append(stream)
        self._came.set()

    async def accept(self) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        while not self._offered:
            if self._closed:
                raise anyio.ClosedResourceError
            self._came = anyio.Event()
            await self._came.wait()
        return self._offered.popleft()

    async def aclose(self) -> None:
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """See :meth:`aclose`."""
        self._closed = True
        self._host.forget(self)
        while self._offered:
            self._offered.popleft().break_off()
        self._came.set()


class _Socket:
    """A bound datagram socket."""

    def __init__(self, host: HostNetwork, address: Address) -> None:
        self.address = address
        self._host = host
        self._arriving: list[tuple[float, int, bytes, Address]] = []
        self._count = 0
        self._came = anyio.Event()
        self._closed = False

    def deliver(self, at: float, octets: bytes, source: Address) -> None:
        """A datagram that arrives at *at*; too many are lost."""
        if len(self._arriving) < _DATAGRAMS_WAITING:
            self._count += 1
            heapq.heappush(self._arriving, (at, self._count, octets, source))
            self._came.set()

    async def receive(self) -> tuple[bytes, Address]:
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            due = self._arriving[0][0] if self._arriving else None
            if due is not None and due <= anyio.current_time():
                _, _, octets, source = heapq.heappop(self._arriving)
                return octets, source
            self._came = anyio.Event()
            with anyio.move_on_at(due) if due is not None else anyio.CancelScope():
                await self._came.wait()

    async def send(self, octets: bytes, address: Address) -> None:
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise anyio.ClosedResourceError
        if len(octets) > _DATAGRAM:
            raise OSError(errno.EMSGSIZE, "longer than a datagram can be")
        source, port = self.address
        self._host.wire.send_datagram(
            octets, (self._host.source(address[0]), port) if source in _WILDCARDS else self.address, address
        )

    async def aclose(self) -> None:
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """See :meth:`aclose`."""
        self._closed = True
        self._host.forget(self)
        self._came.set()
