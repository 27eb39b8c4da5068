"""A small HTTP/1.1 server for channels (:mod:`mpcore.net.channel`): one kind of request, bounds on everything.

======================================================  =======================================
what a client does                                      what happens
======================================================  =======================================
more connections, or handshakes, than allowed           closed
no handshake in time, plain HTTP, no certificate        closed
nothing within the idle limit                           closed
a request that takes longer than its limit              408, closed: a slow writer holds no more
                                                        than an idle one
no HTTP, a header section above its limit               400 or 431, closed
a body above its limit                                  413, closed
another method than POST                                405
the handler says nothing                                closed
the handler raises, or takes too long                   503
======================================================  =======================================

Bodies have no other form than octets; requests are answered one after the other (RFC 9112, section 9.3.2).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import MappingProxyType

import anyio
import anyio.abc
import h11

from mpcore.errors import ExchangeError
from mpcore.net.channel import ChannelSecurity
from mpcore.net.connections import ConnectionTable
from mpcore.net.network import Address, ByteStream, Listener, Network
from mpcore.net.ratelimit import RateLimiter, source_key

__all__ = ("Handler", "HttpLimits", "HttpRequest", "HttpResponse", "HttpServer")

_log = logging.getLogger(__name__)
_CHUNK = 65536
_TYPE = b"application/octet-stream"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One POST.

    :ivar path: as sent, at most 8192 characters.
    :ivar spki: the public key that the client proved, DER.
    """

    path: str
    body: bytes
    source: Address
    spki: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The answer to it."""

    status: int
    body: bytes = b""


Handler = Callable[[HttpRequest], Awaitable[HttpResponse | None]]
"""Answers a request; ``None`` closes the connection without a word."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of an :class:`HttpServer`.  Times are in seconds."""

    max_connections: int = 256  #: in total; when full, the connection idle for longest makes room
    max_connections_per_source: int = 32  #: a source is an IPv4 address or an IPv6 /64
    handshakes_per_second: float = 20.0  #: of one source; peers keep their connections
    handshake_burst: float = 100.0
    handshake_timeout: float = 5.0
    idle_timeout: float = 30.0  #: until a request begins
    request_timeout: float = 10.0  #: from its first octet to its last
    answer_timeout: float = 60.0  #: for the handler, then 503
    send_timeout: float = 30.0  #: for the client to take its answer
    max_header: int = 8192  #: octets of a request line with its header section
    max_body: int = 1 << 20  #: octets


@dataclass(slots=True, eq=False)
class _Connection:
    stream: ByteStream
    source: str
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    busy: bool = True

    @property
    def idle(self) -> bool:
        return not self.busy


class _BadRequestError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"status {status}")


class HttpServer:
    """Listens, and hands each request to *handler*.

    :param endpoints: numeric addresses and ports; port 0 takes a free one.
    :param security: looked up for each connection, so that our key may change: :attr:`security`.
    """

    def __init__(
        self,
        network: Network,
        endpoints: Sequence[Address],
        security: ChannelSecurity,
        handler: Handler,
        *,
        limits: HttpLimits = HttpLimits(),
    ) -> None:
        self.security = security
        self._network, self._endpoints, self._handler, self._limits = network, tuple(endpoints), handler, limits
        self._connections = ConnectionTable[_Connection](limits.max_connections, limits.max_connections_per_source)
        self._handshakes = RateLimiter(limits.handshakes_per_second, limits.handshake_burst)
        self._counters: Counter[str] = Counter()
        self.addresses: tuple[Address, ...] = ()  #: what is listened on, once :meth:`serve` has started

    @property
    def counters(self) -> Mapping[str, int]:
        """Numbers of events since the start: ``connections``, ``requests``, ``refused connections``, ``failed
        handshakes``, ``bad requests``, ``failed``."""
        return MappingProxyType(self._counters)

    async def serve(
        self, *, task_status: anyio.abc.TaskStatus[tuple[Address, ...]] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; reports the addresses listened on as soon as all are bound.

        :raises OSError: an address is in use or not ours.
        """
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            listeners: list[Listener] = []
            for host, port in self._endpoints:
                listener = await self._network.listen_tcp(host, port)
                stack.push_async_callback(listener.aclose)
                listeners.append(listener)
            self.addresses = tuple(listener.address for listener in listeners)
            for listener in listeners:
                tasks.start_soon(self._accept, listener, tasks)
            task_status.started(self.addresses)
            await anyio.sleep_forever()

    # ----------------------------------------------------------- connections

    async def _accept(self, listener: Listener, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                _log.warning("accepting a connection failed: %s", error)
                await anyio.sleep(0.05)  # out of descriptors: let some be closed
                continue
            source = source_key(stream.peer[0])
            allowed = self._handshakes.allow(stream.peer[0], anyio.current_time())
            if not allowed or not self._connections.room_for(source):
                self._counters["refused connections"] += 1
                await _close(stream)
                continue
            self._counters["connections"] += 1
            connection = _Connection(stream, source)
            self._connections.add(connection)
            tasks.start_soon(self._converse, connection)

    async def _converse(self, connection: _Connection) -> None:
        try:
            with connection.scope:
                try:
                    with anyio.fail_after(self._limits.handshake_timeout):
                        channel = await self.security.accept(connection.stream)
                except (ExchangeError, TimeoutError) as error:
                    self._counters["failed handshakes"] += 1
                    _log.debug("%s: %s", connection.source, str(error) or "no handshake in time")
                    return
                connection.stream = channel.stream
                await self._requests(connection, channel.spki)
        finally:
            self._connections.remove(connection)
            with anyio.move_on_after(1, shield=True):
                await _close(connection.stream)

    # -------------------------------------------------------------- requests

    async def _requests(self, connection: _Connection, spki: bytes) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.max_header)
        try:
            while True:
                connection.busy = False
                if not await self._begun(connection, http):
                    return
                connection.busy = True
                self._connections.heard(connection)
                try:
                    with anyio.fail_after(self._limits.request_timeout):
                        request = await self._read(connection, http, spki)
                except TimeoutError:
                    raise _BadRequestError(408) from None
                self._counters["requests"] += 1
                answer = await self._ask(request)
                if answer is None:
                    return
                await self._send(connection, http, answer)
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    return
                http.start_next_cycle()
        except _BadRequestError as error:
            self._counters["bad requests"] += 1
            if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send(connection, http, HttpResponse(error.status), close=True)
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError, TimeoutError):
            return

    async def _begun(self, connection: _Connection, http: h11.Connection) -> bool:
        """Wait for the first octet of a request; ``False``: there will be none."""
        if http.trailing_data[0]:
            return True
        with anyio.move_on_after(self._limits.idle_timeout):
            try:
                octets = await connection.stream.receive(_CHUNK)
            except anyio.EndOfStream:
                return False
            http.receive_data(octets)
            return True
        return False

    async def _read(self, connection: _Connection, http: h11.Connection, spki: bytes) -> HttpRequest:
        path, body = "", bytearray()
        while True:
            event = await self._event(connection, http)
            if isinstance(event, h11.Request):
                if event.method != b"POST":
                    raise _BadRequestError(405)
                path = event.target.decode("ascii", "replace")
                if self._announced(event) > self._limits.max_body:
                    raise _BadRequestError(413)
                if http.they_are_waiting_for_100_continue:
                    await self._write(connection, http.send(h11.InformationalResponse(status_code=100, headers=[])))
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.max_body:
                    raise _BadRequestError(413)
            elif isinstance(event, h11.EndOfMessage):
                return HttpRequest(path, bytes(body), connection.stream.peer, spki)
            else:
                raise anyio.EndOfStream

    @staticmethod
    def _announced(request: h11.Request) -> int:
        for name, value in request.headers:
            if name == b"content-length":
                return int(value)  # h11 has seen that it is a number
        return 0

    async def _event(self, connection: _Connection, http: h11.Connection) -> object:
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                raise _BadRequestError(error.error_status_hint) from None
            if event is not h11.NEED_DATA:
                return event
            try:
                octets = await connection.stream.receive(_CHUNK)
            except anyio.EndOfStream:
                octets = b""
            http.receive_data(octets)

    async def _ask(self, request: HttpRequest) -> HttpResponse | None:
        try:
            with anyio.fail_after(self._limits.answer_timeout):
                return await self._handler(request)
        except Exception:
            self._counters["failed"] += 1
            if self._counters["failed"] == 1:  # a stranger must not be able to fill the log
                _log.exception("the handler failed; this is logged once")
            return HttpResponse(503)

    async def _send(
        self, connection: _Connection, http: h11.Connection, answer: HttpResponse, *, close: bool = False
    ) -> None:
        headers = [(b"content-length", str(len(answer.body)).encode())]
        if answer.body:
            headers.append((b"content-type", _TYPE))
        if close:
            headers.append((b"connection", b"close"))
        octets = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        octets += http.send(h11.Data(data=answer.body)) or b""
        octets += http.send(h11.EndOfMessage()) or b""
        await self._write(connection, octets)

    async def _write(self, connection: _Connection, octets: bytes | None) -> None:
        with anyio.fail_after(self._limits.send_timeout):
            await connection.stream.send(octets or b"")


async def _close(stream: ByteStream) -> None:
    with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.aclose()
