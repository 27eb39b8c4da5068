"""Zone transfers over the network: fetching from a primary, serving to secondaries.

The codec is :mod:`mpcore.zone.transfer`; here are connections, deadlines, access and signatures.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Protocol, Self, TypeVar

import anyio
import anyio.lowlevel
import dns.rcode

from mpcore.actions import RandomSource
from mpcore.errors import ConfigError, ExchangeError, RemoteError, TransferError, TsigError
from mpcore.net.acl import Acl
from mpcore.net.client import describe, is_answer_to
from mpcore.net.clock import Clock
from mpcore.net.framing import MessageStream
from mpcore.net.messages import (
    FORMERR,
    IXFR,
    NOTAUTH,
    REFUSED,
    SERVFAIL,
    SOA,
    counts,
    make_query,
    question_end,
    rcode_of,
    read_soa,
)
from mpcore.net.network import Address, ByteStream, Network
from mpcore.net.ratelimit import source_key
from mpcore.net.server import Answer, Request, reply
from mpcore.net.tls import TlsClient
from mpcore.zone import owners
from mpcore.zone.journal import Delta, Journal, condense
from mpcore.zone.serial import is_newer
from mpcore.zone.transfer import InboundAxfr, InboundIxfr, axfr_messages, axfr_query, ixfr_messages, ixfr_query
from mpcore.zone.tsig import (
    TSIG_RESERVE,
    TsigKey,
    TsigStreamVerifier,
    find_signature,
    sign_message,
    verify_message,
)
from mpcore.zone.version import ZoneVersion, share

__all__ = ("PrimaryConnection", "Run", "TransferLimits", "TransferServer", "run_inline", "settle", "transfer_in")

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Run(Protocol):
    """Runs a function that takes time and touches nothing else, and returns what it returns.

    :func:`anyio.to_thread.run_sync` is one, and keeps the event loop free while large zones pass; :func:`run_inline`
    is another.
    """

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Run *function*."""
        ...


async def run_inline(function: Callable[[], T], /) -> T:
    """Run on the event loop: for simulations, in which there are no threads."""
    return function()


_AT_ONCE = 1000  # records of which a zone is built, or changes are compared, on the event loop


# --- in ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Bounds of an inbound transfer.  Times are in seconds."""

    connect_timeout: float = 5.0  #: for the connection to be made
    answer_timeout: float = 5.0  #: for the answer to the SOA query
    idle_timeout: float = 30.0  #: between two messages of the transfer
    timeout: float = 900.0  #: for the whole transfer
    max_octets: int = 1 << 30  #: of all messages
    max_records: int = 10_000_000


class PrimaryConnection:
    """One TCP connection to a primary: ask for the zone's serial, transfer the zone, or both in turn.

    An asynchronous context manager.  A primary that closes the connection after each answer is connected to again.

    :param network: where to connect.
    :param origin: apex of the zone, wire octets in lower case.
    :param primary: numeric address and port.
    :param key: sign requests with it and accept only answers signed with it; ``None``: neither.
    :param clock: for TSIG.
    :param random: for message ids.
    :param local_host: numeric address to connect from.
    :param run: where long computations run, see :class:`Run`.
    :param tls: connect by TLS (RFC 9103).  A server that it does not authenticate needs a *key*.
    """

    def __init__(
        self,
        network: Network,
        origin: bytes,
        primary: Address,
        *,
        key: TsigKey | None,
        clock: Clock,
        random: RandomSource,
        limits: TransferLimits = TransferLimits(),
        local_host: str | None = None,
        run: Run = run_inline,
        tls: TlsClient | None = None,
    ) -> None:
        if tls is not None and not tls.authenticates and key is None:
            raise ConfigError("a primary reached by TLS needs pins, a certificate authority or a TSIG key", key="tls")
        self.fell_back: str | None = None  #: why the primary's answer to an IXFR request could not be used
        self._tls = tls
        self._network, self._origin, self._primary, self._key = network, origin, primary, key
        self._clock, self._random, self._limits = clock, random, limits
        self._local_host, self._run = local_host, run
        self._stream: MessageStream | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def soa_serial(self) -> int:
        """The serial of the zone at the primary (RFC 1035, section 4.3.5).

        :raises ExchangeError: no answer.
        :raises TransferError: the primary does not serve the zone.
        :raises TsigError: the answer's signature is missing or wrong.
        """
        query = make_query(self._random.getrandbits(16), self._origin, SOA)
        signed, mac = self._signed(query)
        with self._deadline(self._limits.connect_timeout + self._limits.answer_timeout, "the SOA query"):
            octets = await self._first_answer(signed)
        if self._key is not None:
            self._explain_unsigned(octets)
            verified = verify_message(octets, {self._key.name: self._key}, self._clock.now(), request_mac=mac)
            assert verified is not None
            octets = verified.octets
        if rcode_of(octets):
            raise TransferError(f"{self._where}: the SOA query was answered {_rcode(octets)}")
        serial = read_soa(octets)
        if serial is None:
            raise TransferError(f"{self._where}: the answer to the SOA query has no SOA record")
        return serial

    async def transfer(self, base: ZoneVersion | None = None, *, incremental: bool = True) -> ZoneVersion:
        """Transfer the zone: whole (AXFR, RFC 5936), or the changes since *base* (IXFR, RFC 1995).

        A primary that refuses IXFR, or whose changes do not fit *base*, is asked for the whole zone instead, see
        :attr:`fell_back`.  What came whole shares memory with *base* where it is equal.

        :param base: a version to begin with.
        :param incremental: ``False``: do not ask for changes, but for the whole zone.
        :return: the primary's version; *base* itself if the primary has no newer one.
        :raises ExchangeError: no connection, or it broke or fell silent.
        :raises TransferError: refused, malformed, too large, too slow, or the zone breaks a rule.
        :raises TsigError: a signature is missing or wrong.
        """
        limits = self._limits
        with self._deadline(limits.timeout, "the transfer"):
            if base is not None and incremental:
                query_id = self._random.getrandbits(16)
                changes = InboundIxfr(base, query_id, max_records=limits.max_records, max_octets=limits.max_octets)
                try:
                    version = await self._transfer(ixfr_query(base, query_id), changes)
                except TransferError as error:
                    self.fell_back = str(error)
                    await self._close()  # there may be more of the answer to come
                else:
                    if changes.incremental or version is base:
                        return version
                    held = [version]
                    del version, changes
                    return await self._join(held, base)
            query_id = self._random.getrandbits(16)
            held = [
                await self._transfer(
                    axfr_query(self._origin, query_id),
                    InboundAxfr(self._origin, query_id, max_records=limits.max_records, max_octets=limits.max_octets),
                )
            ]
            return held[0] if base is None else await self._join(held, base)

    async def _join(self, version: list[ZoneVersion], base: ZoneVersion) -> ZoneVersion:
        return await self._run_if(version[0].record_count > _AT_ONCE, lambda: share(version, base))

    async def _transfer(self, query: bytes, inbound: InboundAxfr) -> ZoneVersion:
        limits, key = self._limits, self._key
        signed, mac = self._signed(query)
        verifier = None if key is None else TsigStreamVerifier(key, mac)
        octets: bytes | None = None
        while not inbound.done:
            with self._deadline(limits.idle_timeout, "the next message of the transfer"):
                if octets is None:
                    octets = await self._first_answer(signed)
                    self._explain_unsigned(octets)
                else:
                    octets = await self._next()
            if verifier is not None:
                octets = verifier.verify(octets, self._clock.now())
            for _ in inbound.steps(octets):
                await anyio.lowlevel.checkpoint()
        if verifier is not None:
            verifier.finish()
        return await self._run_if(inbound.record_count > _AT_ONCE, lambda: inbound.version)

    async def _run_if(self, takes_time: bool, function: Callable[[], T]) -> T:
        return await self._run(function) if takes_time else function()

    @property
    def _where(self) -> str:
        return f"{self._primary[0]} port {self._primary[1]}"

    def _signed(self, query: bytes) -> tuple[bytes, bytes]:
        return (query, b"") if self._key is None else sign_message(query, self._key, self._clock.now())

    def _explain_unsigned(self, octets: bytes) -> None:
        """An unsigned refusal says more than that a signature is missing."""
        if self._key is None or find_signature(octets) is not None:
            return
        if rcode_of(octets):
            raise TransferError(f"{self._where} answers {_rcode(octets)}, unsigned")
        raise TsigError(f"{self._where} answers without a TSIG")

    @contextmanager
    def _deadline(self, seconds: float, what: str) -> Iterator[None]:
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            raise ExchangeError(f"{self._where}: {what} took more than {seconds:g} s") from None

    async def _first_answer(self, query: bytes) -> bytes:
        """Send *query*, on a new connection if the present one is gone, and return the first answer to it."""
        if self._stream is not None:
            try:
                return await self._ask(query)
            except ExchangeError:
                await self._close()
        with self._deadline(self._limits.connect_timeout, "connecting"):
            stream: ByteStream
            try:
                if self._tls is not None:
                    stream = await self._tls.connect(self._network, *self._primary, local_host=self._local_host)
                else:
                    stream = await self._network.connect_tcp(*self._primary, local_host=self._local_host)
            except OSError as error:
                raise ExchangeError(f"{self._where}: {describe(error)}") from error
        self._stream = MessageStream(stream)
        return await self._ask(query)

    async def _ask(self, query: bytes) -> bytes:
        assert self._stream is not None
        await self._stream.send(query)
        answer = await self._next()
        if not is_answer_to(answer, query):
            raise ExchangeError(f"{self._where} answers another question")
        return answer

    async def _next(self) -> bytes:
        assert self._stream is not None
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            raise ExchangeError(f"{self._where} closed the connection") from None

    async def _close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            with anyio.move_on_after(1, shield=True):
                await stream.aclose()


async def transfer_in(
    network: Network,
    origin: bytes,
    primary: Address,
    *,
    key: TsigKey | None,
    clock: Clock,
    random: RandomSource,
    limits: TransferLimits = TransferLimits(),
    local_host: str | None = None,
    run: Run = run_inline,
    tls: TlsClient | None = None,
    base: ZoneVersion | None = None,
) -> ZoneVersion:
    """Transfer a zone on a connection of its own.

    Parameters are those of :class:`PrimaryConnection`, errors those of its :meth:`~PrimaryConnection.transfer`.
    """
    async with PrimaryConnection(
        network,
        origin,
        primary,
        key=key,
        clock=clock,
        random=random,
        limits=limits,
        local_host=local_host,
        run=run,
        tls=tls,
    ) as connection:
        return await connection.transfer(base)


def _rcode(octets: bytes) -> str:
    return dns.rcode.to_text(dns.rcode.Rcode.make(rcode_of(octets)))


# --- out -----------------------------------------------------------------------------------------------------------


class TransferServer:
    """The server's handler for transfers: register its :meth:`handle` for opcode 0 and types 252 (AXFR) and 251 (IXFR).

    AXFR is answered over TCP with the whole zone, message by message as the client takes them; the server signs them
    if the request was signed.  Each message is made when the one before is gone, in well under a millisecond.

    IXFR (RFC 1995) is answered with the SOA alone if the client is up to date or asks over UDP; with what has changed
    if the journal knows that and it has fewer records than the zone; and with the whole zone otherwise.

    A zone that is not here is answered NOTAUTH, a client that the zone's access list does not permit REFUSED, and so is
    AXFR over UDP; IXFR without the client's SOA is answered FORMERR.

    :param zones: apex (wire octets, lower case) -> version to serve; looked up for each request, so it may change.
        The version that a transfer began with is served to its end.
    :param acls: who may transfer: one list for all zones, or apex -> list.  A zone without a list is for nobody.
    :param max_concurrent: transfers at a time; more are refused.
    :param max_per_source: transfers at a time to one IPv4 address or IPv6 /64; more are refused.
    :param run: where large changes are compared, see :class:`Run`.
    :param journals: apex -> what has changed lately; it must be told of each new version before *zones* is.
    :param condense: send one change from the client's version to the newest instead of one after the other
        (RFC 1995, section 5).
    """

    def __init__(
        self,
        zones: Mapping[bytes, ZoneVersion],
        acls: Acl | Mapping[bytes, Acl],
        *,
        max_concurrent: int = 64,
        max_per_source: int = 32,
        run: Run = run_inline,
        journals: Mapping[bytes, Journal] = MappingProxyType({}),
        condense: bool = True,
    ) -> None:
        self._zones, self._acls, self._run = zones, acls, run
        self._max_concurrent, self._max_per_source = max_concurrent, max_per_source
        self._journals, self._condense = journals, condense
        self._running: Counter[str] = Counter()

    async def handle(self, request: Request) -> Answer:
        """Answer one request for a transfer."""
        acl = self._acls if isinstance(self._acls, Acl) else self._acls.get(request.qname)
        if request.qclass != 1 or (request.qname not in self._zones and acl is None):
            return reply(request, NOTAUTH)
        name = owners.to_text(request.qname)
        if acl is None or not acl.permits(
            request.source[0],
            request.key.name if request.key else None,
            tls=request.tls,
            certificate=request.certificate,
        ):
            _log.info("%s: transfer refused to %s", name, request.source[0])
            return reply(request, REFUSED)
        serial = _serial_of_client(request) if request.qtype == IXFR else None
        if request.qtype == IXFR and serial is None:
            return reply(request, FORMERR)
        journal = self._journals.get(request.qname)
        if serial is not None and journal is not None and request.over_tcp:
            await settle(journal, self._run)
        version = self._zones.get(request.qname)
        if version is None:
            return reply(request, SERVFAIL if isinstance(self._acls, Mapping) else NOTAUTH)
        if serial is not None and (not request.over_tcp or not is_newer(version.serial, serial)):
            return _only_soa(request, version)
        source = source_key(request.source[0])
        if (
            not request.over_tcp
            or self._running.total() >= self._max_concurrent
            or self._running[source] >= self._max_per_source
        ):
            return reply(request, REFUSED)
        deltas = await self._changes(journal, serial, version)
        reserve = 0 if request.key is None else TSIG_RESERVE
        if deltas is None:
            return self._stream(request, version, axfr_messages(version, request.octets, reserve=reserve))
        return self._stream(request, version, ixfr_messages(deltas, request.octets, reserve=reserve), serial)

    async def _changes(
        self, journal: Journal | None, serial: int | None, version: ZoneVersion
    ) -> Sequence[Delta] | None:
        """What leads from *serial* to *version*; ``None``: send the whole zone."""
        deltas = None if journal is None or serial is None else journal.since(serial, version.serial)
        if not deltas:
            return None
        total = sum(delta.record_count for delta in deltas)
        if self._condense and len(deltas) > 1:
            run = self._run if total > _AT_ONCE else run_inline
            deltas = [await run(partial(condense, deltas))]
            total = deltas[0].record_count
        return deltas if total < version.record_count else None

    async def _stream(
        self, request: Request, version: ZoneVersion, messages: Iterator[bytes], since: int | None = None
    ) -> AsyncIterator[bytes]:
        source = source_key(request.source[0])
        self._running[source] += 1
        octets = 0
        try:
            for message in messages:
                octets += len(message)
                yield message
        finally:
            self._running[source] -= 1
            if not self._running[source]:
                del self._running[source]
        name = owners.to_text(request.qname)
        what = "whole" if since is None else f"as changes since {since}"
        _log.info(
            "%s: serial %d transferred to %s %s, %d octets", name, version.serial, request.source[0], what, octets
        )


async def settle(journal: Journal, run: Run) -> None:
    """Take the differences that a journal has left open.

    :param run: where, see :class:`Run`.
    """
    for step in journal.unsettled():
        journal.settle(step, await run(step.compute))


def _serial_of_client(request: Request) -> int | None:
    """Serial of the version that the client of an IXFR request has; ``None`` if it does not say."""
    end = question_end(request.octets)
    if end is None or counts(request.octets)[1:3] != (0, 1):
        return None
    # the SOA stands in the authority section; read it as if it were an answer
    octets = request.octets[:6] + b"\0\1\0\0" + request.octets[10:]
    try:
        return read_soa(octets)
    except RemoteError:
        return None


def _only_soa(request: Request, version: ZoneVersion) -> bytes:
    soa = version.soa
    head = reply(request, 0, authoritative=True)
    record = b"\xc0\x0c" + struct.pack("!HHIH", SOA, 1, soa.ttl, len(soa.rdatas[0])) + soa.rdatas[0]
    return head[:6] + b"\0\1" + head[8:] + record
