"""A DNS server for UDP, TCP and TLS: sockets, limits and dispatch; what to answer is up to registered handlers.

A message is dropped, refused or dispatched as follows.

=============================================  ====================================================
message                                        what happens
=============================================  ====================================================
shorter than 12 octets, or a response (QR=1)   dropped
opcode other than QUERY, NOTIFY, UPDATE        NOTIMP
no well-formed single question, other counts   FORMERR
that the opcode does not have
TSIG that does not verify                      NOTAUTH with the TSIG error (RFC 8945, section 5.2)
over the rate of its source                    UDP: dropped; TCP: read later (back-pressure)
answer above the rate of its network           UDP: cut or dropped, see :mod:`mpcore.net.gate`
handler for its opcode and QTYPE               asked
QUERY, a fast handler registered               asked
handler for its opcode                         asked
nobody                                         REFUSED
=============================================  ====================================================

The answer to a request with a verified TSIG is signed here, message by message; handlers neither sign nor verify.
A handler that raises or takes too long makes SERVFAIL and one log entry, with the name asked for and the handler's, for
each place it raised at; nothing stops the server.

On TCP, messages are pipelined up to a bound and answered in any order (RFC 7766, section 6.2.1).  A connection is
closed when a message takes longer than the idle limit to arrive, so a slow writer holds it no longer than an idle one,
and when the client does not take an answer within the send limit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import anyio
import anyio.abc

from mpcore.errors import ExchangeError, RecordError, TsigError
from mpcore.net import udp_asyncio
from mpcore.net.clock import Clock, SystemClock
from mpcore.net.connections import ConnectionTable
from mpcore.net.cookies import ServerCookies
from mpcore.net.framing import MAX_MESSAGE, MessageStream
from mpcore.net.gate import ResponseGate
from mpcore.net.keyring import Keyring
from mpcore.net.messages import (
    FORMERR,
    NOTIFY,
    NOTIMP,
    QUERY,
    REFUSED,
    SERVFAIL,
    UPDATE,
    counts,
    empty_reply,
    question_end,
    requested_payload,
    truncated_reply,
)
from mpcore.net.network import Address, InternetNetwork, Listener, Network, UDPSocket
from mpcore.net.ratelimit import RateLimiter, source_key
from mpcore.net.rrl import ResponseLimiter
from mpcore.net.tls import TlsEndpoint, TlsStream, fingerprint_of, listen_tls
from mpcore.zone import owners
from mpcore.zone.rrset import type_text
from mpcore.zone.tsig import TsigKey, TsigStream, error_response, sign_message, verify_message

__all__ = ("Answer", "DnsServer", "Handler", "QueryHandler", "Request", "ServerLimits", "reply")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One message that asks for something."""

    octets: bytes  #: the whole message, without a TSIG record that was verified
    source: Address
    over_tcp: bool
    id: int
    opcode: int
    qname: bytes  #: uncompressed wire octets, lower case
    qtype: int
    qclass: int
    key: TsigKey | None = None  #: the TSIG key that the message was verified with
    mac: bytes = b""  #: its MAC, over which the server signs the answer
    tls: bool = False  #: came by TLS
    certificate: str | None = None  #: fingerprint of the client's certificate, see :mod:`mpcore.net.tls`


Answer: TypeAlias = bytes | Sequence[bytes] | AsyncIterator[bytes] | None
"""One message, several (TCP only), a stream of several that is asked for more as the client takes them, or none."""
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]
QueryHandler: TypeAlias = Callable[[bytes, Address, bool], bytes | None]
"""Synchronous: message, source, over TCP; returns the answer, or ``None`` to leave it to the next handler."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a :class:`DnsServer`.  Times are in seconds."""

    max_connections: int = 1024  #: in total; when full, the connection idle for longest makes room
    max_connections_per_source: int = 128  #: a source is an IPv4 address or an IPv6 /64
    max_pipelined: int = 32  #: messages of one connection being answered; then it is not read
    max_datagrams: int = 1024  #: UDP messages being answered by asynchronous handlers; more are dropped
    max_message: int = MAX_MESSAGE  #: octets of a request over TCP; a longer one closes the connection
    idle_timeout: float = 8.0  #: for a message to arrive completely
    send_timeout: float = 30.0  #: for the client to take one message
    answer_timeout: float = 60.0  #: for a handler to come up with its (first) message, then SERVFAIL
    rate_per_source: float = 1000.0  #: messages a second handled by asynchronous handlers
    burst_per_source: float = 2000.0
    responses_per_second: float = 500.0  #: over UDP, of one meaning to one network except loopback; 0 sets no limit
    udp_payload: int = 1232  #: octets of the largest UDP answer, if the client takes as much


@dataclass(frozen=True, slots=True)
class _Registered:
    handler: Handler
    name: str
    timeout: float


def _name(owner: bytes) -> str:
    try:
        return owners.to_text(owner)
    except RecordError:
        return owner.hex()


def reply(request: Request, rcode: int, *, authoritative: bool = False) -> bytes:
    """A reply without records: header and question.

    :param rcode: 0 to 15.
    """
    return empty_reply(request.octets, rcode, authoritative=authoritative)


def _parse(octets: bytes, source: Address, over_tcp: bool) -> Request | bytes | None:
    """The request, or an error reply, or ``None`` for what is not answered at all."""
    if len(octets) < 12 or octets[2] & 0x80:
        return None
    opcode = octets[2] >> 3 & 0x0F
    if opcode not in (QUERY, NOTIFY, UPDATE):
        return empty_reply(octets, NOTIMP, question=False)
    end = question_end(octets)
    questions, answers, authorities, additionals = counts(octets)
    if questions != 1 or end is None:
        return empty_reply(octets, FORMERR, question=False)
    if opcode != UPDATE and (answers > 1 or authorities > 1 or additionals > 2):
        return empty_reply(octets, FORMERR, question=False)
    return Request(
        octets=octets,
        source=source,
        over_tcp=over_tcp,
        id=octets[0] << 8 | octets[1],
        opcode=opcode,
        qname=octets[12 : end - 4].lower(),
        qtype=octets[end - 4] << 8 | octets[end - 3],
        qclass=octets[end - 2] << 8 | octets[end - 1],
    )


@dataclass(slots=True, eq=False)
class _Connection:
    messages: MessageStream
    source: str
    slots: anyio.Semaphore
    tls: TlsStream | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    in_flight: int = 0

    @property
    def idle(self) -> bool:
        return not self.in_flight


@dataclass(slots=True)
class _Datagram:
    octets: bytes
    source: Address
    send: Callable[[bytes], Awaitable[None] | None]


class DnsServer:
    """Listens on UDP, TCP and TLS and hands each message to the handler registered for it.

    :param network: where to listen.
    :param endpoints: numeric addresses and ports; port 0 takes a free one, the same for UDP and TCP.
    :param limits: see :class:`ServerLimits`.
    :param keyring: TSIG keys that requests may be signed with; looked up for each message, so it may change.
    :param clock: for TSIG, cookies and rates.
    :param cookies: ``None`` ignores DNS cookies.
    :param tls: where to listen for DNS over TLS (RFC 7858) besides.
    """

    def __init__(
        self,
        network: Network,
        endpoints: Sequence[Address],
        *,
        limits: ServerLimits = ServerLimits(),
        keyring: Keyring = MappingProxyType({}),
        clock: Clock | None = None,
        cookies: ServerCookies | None = None,
        tls: Sequence[TlsEndpoint] = (),
    ) -> None:
        self._keyring, self._clock = keyring, clock or SystemClock()
        self._network, self._endpoints, self._limits = network, tuple(endpoints), limits
        self._tls = tuple(tls)
        self._handlers: dict[tuple[int, int | None], _Registered] = {}
        self._special: set[int] = set()
        self._fast: QueryHandler | None = None
        self._rates = RateLimiter(limits.rate_per_source, limits.burst_per_source)
        limiter = ResponseLimiter(limits.responses_per_second) if limits.responses_per_second else None
        self._gate = ResponseGate(cookies, limiter, limits.udp_payload)
        self._connections = ConnectionTable[_Connection](limits.max_connections, limits.max_connections_per_source)
        self._datagrams = 0
        self._logged: set[tuple[object, ...]] = set()
        self._counters: Counter[str] = Counter()
        self.addresses: tuple[Address, ...] = ()  #: what is listened on, once :meth:`serve` has started
        self.tls_addresses: tuple[Address, ...] = ()  #: the same for TLS

    @property
    def counters(self) -> Mapping[str, int]:
        """Numbers of events since the start: ``received``, ``dropped``, ``failed``,
        ``refused connections``, ``signature failures``, ``limited`` (answers not sent, see :mod:`mpcore.net.gate`)."""
        return MappingProxyType(self._counters)

    def register(
        self,
        handler: Handler,
        opcode: int,
        qtype: int | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Answer messages of *opcode* and *qtype* with *handler*; the most specific registration wins.

        :param opcode: 0 (QUERY), 4 (NOTIFY) or 5 (UPDATE).
        :param qtype: type in the question; ``None`` for all that have no handler of their own.
        :param name: for the log.
        :param timeout: seconds for the (first) message of the answer, at most those of the limits; ``None``: those.
        :raises ValueError: there is one already, or no such opcode can arrive.
        """
        if opcode not in (QUERY, NOTIFY, UPDATE):
            raise ValueError(f"opcode {opcode} is not dispatched")
        if (opcode, qtype) in self._handlers:
            raise ValueError(f"opcode {opcode}, type {qtype} has a handler")
        limit = self._limits.answer_timeout
        what = name or f"of opcode {opcode}, type {'any' if qtype is None else type_text(qtype)}"
        self._handlers[opcode, qtype] = _Registered(handler, what, limit if timeout is None else min(timeout, limit))
        if opcode == QUERY and qtype is not None:
            self._special.add(qtype)

    def register_query(self, handler: QueryHandler) -> None:
        """Answer queries that have no handler for their type with *handler*, synchronously and fast.

        :raises ValueError: there is one already.
        """
        if self._fast is not None:
            raise ValueError("there is a fast query handler")
        self._fast = handler

    async def serve(
        self, *, task_status: anyio.abc.TaskStatus[tuple[Address, ...]] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; reports the addresses listened on as soon as all are bound.

        :raises OSError: an address is in use or not ours.
        """
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            listeners: list[Listener] = []
            portable: list[UDPSocket] = []
            for host, port in self._endpoints:
                listeners.append(await self._bind(stack, tasks, host, port, portable))
            self.addresses = tuple(listener.address for listener in listeners)
            for endpoint in self._tls:
                listener = await listen_tls(self._network, endpoint)
                stack.push_async_callback(listener.aclose)
                listeners.append(listener)
            self.tls_addresses = tuple(listener.address for listener in listeners[len(self.addresses) :])
            for listener in listeners:
                tasks.start_soon(self._accept, listener, tasks)
            for socket in portable:
                tasks.start_soon(self._receive, socket, tasks)
            task_status.started(self.addresses)
            await anyio.sleep_forever()

    async def _bind(
        self, stack: AsyncExitStack, tasks: anyio.abc.TaskGroup, host: str, port: int, portable: list[UDPSocket]
    ) -> Listener:
        for attempts_left in range(0 if port else 15, -1, -1):
            listener = await self._network.listen_tcp(host, port)
            try:
                if isinstance(self._network, InternetNetwork) and udp_asyncio.available():
                    stack.callback((await self._bind_fast(tasks, host, listener.address[1])).close)
                else:
                    socket = await self._network.bind_udp(host, listener.address[1])
                    stack.push_async_callback(socket.aclose)
                    portable.append(socket)
            except OSError:
                await listener.aclose()
                if not attempts_left:
                    raise
            else:
                stack.push_async_callback(listener.aclose)
                return listener
        raise AssertionError

    async def _bind_fast(self, tasks: anyio.abc.TaskGroup, host: str, port: int) -> udp_asyncio.AsyncioDatagrams:
        # Tasks are not started from the event loop's callback but by this consumer, over a bounded queue.
        sender, receiver = anyio.create_memory_object_stream[_Datagram](self._limits.max_datagrams)

        async def consume() -> None:
            async with sender, receiver:
                async for datagram in receiver:
                    tasks.start_soon(self._answer_datagram, datagram)

        def on_datagram(octets: bytes, source: Address, send: Callable[[bytes], None]) -> bytes | None:
            self._counters["received"] += 1
            handled, answer = self._answer_fast(octets, source)
            if not handled:
                try:
                    sender.send_nowait(_Datagram(octets, source, send))
                except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    self._counters["dropped"] += 1
            return answer

        datagrams = await udp_asyncio.listen(host, port, on_datagram)
        tasks.start_soon(consume)
        return datagrams

    # --- TSIG ------------------------------------------------------------------------------------------------------

    def _open(self, octets: bytes, source: Address, over_tcp: bool) -> Request | bytes | None:
        """The request with its TSIG verified and removed, or an error reply, or ``None`` for nothing."""
        request = _parse(octets, source, over_tcp)
        if not isinstance(request, Request) or octets[10:12] == b"\0\0":
            return request
        try:
            verified = verify_message(octets, self._keyring, self._clock.now())
        except TsigError as error:
            self._counters["signature failures"] += 1
            return error_response(octets, error, self._keyring, self._clock.now())
        if verified is None:
            return request
        return replace(request, octets=verified.octets, key=verified.key, mac=verified.mac)

    def _sign(self, request: Request | None, answer: bytes) -> bytes:
        if request is None or request.key is None:
            return answer
        return sign_message(answer, request.key, self._clock.now(), request_mac=request.mac)[0]

    # --- answering -------------------------------------------------------------------------------------------------

    def _answer_fast(self, octets: bytes, source: Address) -> tuple[bool, bytes | None]:
        """Answer a plain query over UDP at once: (whether that was it, the answer)."""
        if self._fast is None or len(octets) < 17 or octets[2] & 0xF8 or octets[4:10] != b"\0\1\0\0\0\0":
            return False, None
        end = question_end(octets)
        if end is None or octets[end - 4] << 8 | octets[end - 3] in self._special:
            return False, None
        # no additional record, or one whose owner is the root and whose type is OPT: no TSIG
        if octets[10:12] != b"\0\0" and (octets[10:12] != b"\0\1" or octets[end : end + 3] != b"\0\0\x29"):
            return False, None
        try:
            answer = self._fast(octets, source, False)
        except Exception as error:
            self._failed("the query handler", error)
            return True, empty_reply(octets, SERVFAIL)
        if answer is None:
            return False, None
        return True, self._pass(octets, source, answer, over_tcp=False)

    def _pass(self, octets: bytes, source: Address, answer: bytes, *, over_tcp: bool) -> bytes | None:
        """What is sent of an answer; ``None`` for nothing."""
        if not self._gate.holds(octets, source[0]) or len(answer) < 12:
            return answer
        passed = self._gate.respond(octets, source[0], answer, self._clock.now(), over_tcp=over_tcp)
        if passed is None:
            self._counters["limited"] += 1
        return passed

    def _pass_opened(
        self, opened: Request | bytes | None, octets: bytes, source: Address, answer: bytes, *, over_tcp: bool
    ) -> bytes | None:
        """:meth:`_pass` for what :meth:`_open` has seen; errors about signatures stay as they are."""
        if isinstance(opened, Request):
            return self._pass(opened.octets, source, answer, over_tcp=over_tcp)
        return self._pass(octets, source, answer, over_tcp=over_tcp) if octets[4:6] == b"\0\0" else answer

    def _failed(self, what: str, error: Exception) -> None:
        """Log a failed handler, once for each place it failed at: a stranger must not be able to fill the log."""
        self._counters["failed"] += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (type(error), trace and trace.tb_frame.f_code.co_filename, trace and trace.tb_lineno)
        if place not in self._logged and len(self._logged) < 1000:
            self._logged.add(place)
            reason = "it took too long" if isinstance(error, TimeoutError) else error
            _log.error("%s failed and will be logged once: %s", what, reason, exc_info=error)

    async def _ask(self, request: Request) -> Answer:
        """What the handlers answer; SERVFAIL for one that raises or takes too long."""
        what = "the query handler"
        try:
            registered = self._handlers.get((request.opcode, request.qtype))
            if registered is None and request.opcode == QUERY and self._fast is not None:
                answer = self._fast(request.octets, request.source, request.over_tcp)
                if answer is not None:
                    return answer
            registered = registered or self._handlers.get((request.opcode, None))
            if registered is None:
                return reply(request, REFUSED)
            what = f"{_name(request.qname)}: handler {registered.name}"
            with anyio.fail_after(registered.timeout):
                return await registered.handler(request)
        except Exception as error:
            self._failed(what, error)
            return reply(request, SERVFAIL)

    async def _answer_datagram(self, datagram: _Datagram) -> None:
        if self._datagrams >= self._limits.max_datagrams or not self._rates.allow(
            datagram.source[0], anyio.current_time()
        ):
            self._counters["dropped"] += 1
            return
        self._datagrams += 1
        try:
            opened = self._open(datagram.octets, datagram.source, False)
            request = opened if isinstance(opened, Request) else None
            answer = await self._only(await self._ask(opened)) if isinstance(opened, Request) else opened
            if answer is not None:
                answer = self._pass_opened(opened, datagram.octets, datagram.source, answer, over_tcp=False)
            if answer is not None:
                limit = min(requested_payload(datagram.octets), self._limits.udp_payload)
                octets = self._sign(request, answer)
                if len(octets) > limit and request is not None:
                    octets = self._sign(request, truncated_reply(answer))
                sent = datagram.send(octets)
                if sent is not None:
                    await sent
            else:
                self._counters["dropped"] += 1
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._counters["dropped"] += 1
        finally:
            self._datagrams -= 1

    async def _only(self, answer: Answer) -> bytes | None:
        """The one message that goes over UDP; an answer of several belongs on TCP."""
        if answer is None or isinstance(answer, bytes):
            return answer
        messages = [message async for message in _upto(answer, 2)]
        return messages[0] if len(messages) == 1 else truncated_reply(messages[0]) if messages else None

    # --- UDP, portable ---------------------------------------------------------------------------------------------

    async def _receive(self, socket: UDPSocket, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            octets, source = await socket.receive()
            self._counters["received"] += 1
            handled, answer = self._answer_fast(octets, source)
            if handled:
                if answer is not None:
                    try:
                        await socket.send(answer, source)
                    except (OSError, anyio.BrokenResourceError):
                        self._counters["dropped"] += 1
            elif self._datagrams >= self._limits.max_datagrams:
                self._counters["dropped"] += 1
            else:

                def send(answer: bytes, source: Address = source) -> Awaitable[None]:
                    return socket.send(answer, source)

                tasks.start_soon(self._answer_datagram, _Datagram(octets, source, send))

    # --- TCP -------------------------------------------------------------------------------------------------------

    async def _accept(self, listener: Listener, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                self._failed("accepting a connection", error)
                await anyio.sleep(0.05)  # out of descriptors: let some be closed
                continue
            source = source_key(stream.peer[0])
            if not self._connections.room_for(source):
                self._counters["refused connections"] += 1
                await stream.aclose()
                continue
            tls = stream if isinstance(stream, TlsStream) else None
            connection = _Connection(MessageStream(stream), source, anyio.Semaphore(self._limits.max_pipelined), tls)
            self._connections.add(connection)
            tasks.start_soon(self._converse, connection)

    async def _converse(self, connection: _Connection) -> None:
        try:
            with connection.scope:
                async with anyio.create_task_group() as tasks:
                    while (octets := await self._next(connection)) is not None:
                        tasks.start_soon(self._answer_message, connection, octets)
        finally:
            self._connections.remove(connection)
            with anyio.move_on_after(1, shield=True):
                await connection.messages.aclose()

    async def _next(self, connection: _Connection) -> bytes | None:
        """The next message of a connection, with a slot taken for its answer; ``None`` when there will be none."""
        await connection.slots.acquire()
        while True:
            with anyio.move_on_after(self._limits.idle_timeout):
                try:
                    octets = await connection.messages.receive(self._limits.max_message)
                except (ExchangeError, anyio.EndOfStream, anyio.ClosedResourceError):
                    return None
                break
            if not connection.in_flight or connection.messages.partial:
                return None
        self._counters["received"] += 1
        connection.in_flight += 1
        self._connections.heard(connection)
        delay = self._rates.delay(connection.messages.peer[0], anyio.current_time())
        if delay:
            await anyio.sleep(delay)
        return octets

    async def _answer_message(self, connection: _Connection, octets: bytes) -> None:
        try:
            opened = self._open(octets, connection.messages.peer, True)
            if connection.tls is not None and isinstance(opened, Request):
                shown = connection.tls.certificate
                opened = replace(opened, tls=True, certificate=None if shown is None else fingerprint_of(shown))
            request = opened if isinstance(opened, Request) else None
            answer = await self._ask(opened) if isinstance(opened, Request) else opened
            if answer is None:
                self._counters["dropped"] += 1
            elif isinstance(answer, bytes):
                passed = self._pass_opened(opened, octets, connection.messages.peer, answer, over_tcp=True)
                if passed is not None:
                    await self._send(connection, self._sign(request, passed))
            else:
                signer = None if request is None or request.key is None else TsigStream(request.key, request.mac)
                async with aclosing(_upto(answer, None)) as messages:
                    async for message in messages:
                        now = self._clock.now()
                        await self._send(connection, message if signer is None else signer.sign(message, now))
        except ExchangeError:
            connection.scope.cancel()
        except Exception as error:  # in the middle of a stream: the rest cannot be had on this connection
            self._failed("a streamed answer", error)
            connection.scope.cancel()
        finally:
            connection.in_flight -= 1
            connection.slots.release()

    async def _send(self, connection: _Connection, message: bytes) -> None:
        try:
            with anyio.fail_after(self._limits.send_timeout):
                await connection.messages.send(message)
        except TimeoutError:
            raise ExchangeError("the client does not take its answer") from None


async def _upto(answer: Sequence[bytes] | AsyncIterator[bytes], limit: int | None) -> AsyncGenerator[bytes, None]:
    """The first *limit* messages of an answer; all of them for ``None``."""
    if isinstance(answer, Sequence):
        for message in answer[:limit]:
            yield message
        return
    left = limit
    try:
        async for message in answer:
            yield message
            if left is not None:
                left -= 1
                if left == 0:
                    break
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()
