"""One message to one peer: sealed, sent as NOTIFY(CHUNK) over TCP or as POST over HTTPS, its inline answer opened and
checked.

HTTPS is there where both sides have it; which of the two is tried first is a setting, and what gets through in one way
no more goes the other (:mod:`mpcore.node.transports`), sealed once, so that the receiver knows it again.

By DNS the payload goes with the message (edns0 mode), or is kept for the receiver to fetch (query mode): by the setting
``chunk_mode``, where ``auto`` means with the message unless it is too large for that.  CONFIRM and STATUS-UPDATE go
with the message whenever they fit, as in the deployed implementation (guide, wire format, "Query mode").
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Literal, Protocol

import anyio
import dns.rcode

from mpcore.errors import DeliveryError, ExchangeError, PolicyError, RemoteError
from mpcore.node.chunks import ChunkStore
from mpcore.node.directory import Contact, Directory
from mpcore.node.distributions import Distribution, DistributionLog
from mpcore.node.links import Links
from mpcore.node.ownkeys import OwnKeys
from mpcore.node.runtime import Runtime
from mpcore.node.transports import Transport, in_order
from mpcore.wire import frame
from mpcore.wire.messages import Acknowledgement, Message, decode_acknowledgement
from mpcore.wire.seal import PrivateKey

__all__ = ("ChunkMode", "FailedExchangeError", "HttpsSender", "Outbound", "Stage")

logger = logging.getLogger(__name__)

ChunkMode = Literal["edns0", "query", "auto"]

_LARGEST_DATA = 60000  #: octets of option data; one DNS message carries 65,535
_LARGEST_FETCHED = 1 << 20  #: octets of a payload that receivers fetch
_ALWAYS_INSIDE = ("confirm", "status-update")


Stage = Literal["size", "network", "rcode", "answer", "opening", "status"]


class FailedExchangeError(DeliveryError):
    """A message was not acknowledged, and at which stage that failed.

    :param stage: ``size``: it cannot be sent; ``network``: nobody answered; ``rcode``: refused; ``answer``: no proof of
        receipt; ``opening``: the proof cannot be opened or is not the peer's; ``status``: received, but not accepted.
    :param rcode: of the answer, at stage ``rcode``.
    """

    def __init__(self, stage: Stage, text: str, rcode: int | None = None) -> None:
        self.stage, self.rcode = stage, rcode
        super().__init__(text)


class HttpsSender(Protocol):
    """The other way to peers that have it."""

    @property
    def first(self) -> bool:
        """Whether it is preferred to DNS."""
        ...

    @property
    def alone(self) -> bool:
        """Whether DNS is not used to a peer that has it."""
        ...

    async def post(self, contact: Contact, name: str, body: bytes) -> frame.Response:
        """Send *body* under what would be its QNAME; :raises ExchangeError: there is no answer."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class Outbound:
    """Sends messages, and keeps the statistics of :class:`~mpcore.node.directory.Directory`.

    :param identity: our identity, suffix of every QNAME sent.
    :param concurrency: exchanges under way at once.
    :param local_host: source address, or ``None`` for the system's choice.
    :param chunks: keeps payloads for receivers that fetch them; ``None``: every payload goes with its message.
    :param mode: which way payloads go.
    :param endpoint: ``host:port`` where *chunks* are answered, as a recipient is told; ``None``: it knows.
    :param history: where messages are listed.
    """

    def __init__(
        self,
        identity: str,
        keys: OwnKeys,
        directory: Directory,
        runtime: Runtime,
        *,
        concurrency: int = 64,
        timeout: float = 5.0,
        local_host: str | None = None,
        chunks: ChunkStore | None = None,
        mode: ChunkMode = "auto",
        endpoint: Callable[[str], str | None] = lambda recipient: None,
        history: DistributionLog | None = None,
    ) -> None:
        self._identity, self._keys, self._directory, self._runtime = identity, keys, directory, runtime
        self._slots = anyio.Semaphore(concurrency)
        self._timeout = timeout
        self._chunks, self._mode, self._endpoint = chunks, mode, endpoint
        self._history = history if history is not None else DistributionLog(runtime.clock)
        self._fetching: dict[str, anyio.Lock] = {}  # receivers fetch one payload of ours at a time
        self.links = Links(runtime.network, local_host=local_host)
        self.https: HttpsSender | None = None

    async def exchange(
        self,
        contact: Contact,
        message: Message,
        distribution_id: str,
        *,
        key: PrivateKey | None = None,
        way: Transport | None = None,
    ) -> Acknowledgement:
        """Send *message* and return the inline answer.

        :param key: sign with this key of ours instead of the current one.
        :param way: send it this way only.
        :raises DeliveryError: the peer cannot be reached, refused, or did not prove that the answer is its own; the
            text says which.
        """
        traffic = self._directory.traffic(contact.identity)
        started = self._runtime.clock.now()
        listed = self._history.begin("out", contact.identity, message.TYPE, message.zone_name, distribution_id)
        try:
            async with self._slots:
                acknowledgement = await self._exchange(contact, message, distribution_id, listed, key, way)
        except DeliveryError as error:
            traffic.last_error = str(error)
            self._history.end(listed, str(error))
            raise
        self._history.end(listed)
        traffic.sent[message.TYPE] = traffic.sent.get(message.TYPE, 0) + 1
        now = self._runtime.clock.now()
        traffic.last_acknowledged = now
        traffic.round_trip = now - started
        traffic.last_error = None
        return acknowledgement

    async def aclose(self) -> None:
        """Close what is kept open towards peers."""
        await self.links.aclose()
        if self.https is not None:
            await self.https.aclose()

    async def _exchange(
        self,
        contact: Contact,
        message: Message,
        distribution_id: str,
        listed: Distribution,
        key: PrivateKey | None,
        way: Transport | None,
    ) -> Acknowledgement:
        try:
            data = self._runtime.sealing.seal(
                message.to_json(), key or self._keys.current, contact.key, contact.identity, self._runtime.clock.now()
            )
        except PolicyError as error:
            raise FailedExchangeError("size", str(error)) from None
        listed.octets = len(data)
        failures: list[tuple[Transport, FailedExchangeError]] = []
        for transport in self._ways(contact, len(data)) if way is None else (way,):
            health = self._directory.traffic(contact.identity).over(transport)
            began = self._runtime.clock.now()
            try:
                if transport == "https":
                    listed.mode = "https"
                    response = await self._by_https(contact, distribution_id, data)
                else:
                    response = await self._by_dns(contact, message, distribution_id, data, listed)
                acknowledgement = self._checked(response, contact, distribution_id)
            except FailedExchangeError as error:
                now = self._runtime.clock.now()
                failures.append((transport, error))
                if error.stage == "status" or error.rcode == frame.SERVFAIL:
                    health.acknowledged(now, now - began)
                    break  # it has the message, and would say the same again
                health.failed(str(error), now, answered=error.stage != "network")
                continue
            now = self._runtime.clock.now()
            health.acknowledged(now, now - began)
            return acknowledgement
        if len(failures) == 1:
            raise failures[0][1]
        traffic = self._directory.traffic(contact.identity)
        if all(error.stage == "rcode" for _, error in failures):
            for transport, _ in failures:
                traffic.over(transport).excused()
        last = failures[-1][1]
        text = "; ".join(f"by {transport.upper()}: {error}" for transport, error in failures)
        raise FailedExchangeError(last.stage, text, last.rcode)

    def _ways(self, contact: Contact, size: int) -> tuple[Transport, ...]:
        """In which order the ways to a peer are tried."""
        if self.https is None or contact.https is None:
            return ("dns",)
        if self.https.alone:
            return ("https",)
        first = self.https.first or size > _LARGEST_DATA  # what DNS would have to cut in pieces goes in one there
        ways: tuple[Transport, ...] = ("https", "dns") if first else ("dns", "https")
        return in_order(ways, self._directory.traffic(contact.identity).transports, self._runtime.clock.now())

    async def _by_https(self, contact: Contact, distribution_id: str, data: bytes) -> frame.Response:
        if self.https is None or contact.https is None:
            raise FailedExchangeError("network", "there is no HTTPS between it and us")
        if len(data) > _LARGEST_FETCHED:
            raise FailedExchangeError("size", f"a sealed message of {len(data)} octets is more than peers take")
        try:
            return await self.https.post(contact, f"{distribution_id}.{self._identity}", data)
        except ExchangeError as error:
            raise FailedExchangeError("network", str(error)) from None

    async def _by_dns(
        self, contact: Contact, message: Message, distribution_id: str, data: bytes, listed: Distribution
    ) -> frame.Response:
        listed.mode = "edns0"
        request_id = self._runtime.random.getrandbits(16)
        async with AsyncExitStack() as stack:
            if self._by_query(message, len(data)):
                assert self._chunks is not None
                listed.mode = "query"
                await stack.enter_async_context(self._fetching.setdefault(contact.identity, anyio.Lock()))
                try:
                    self._chunks.put(contact.identity, distribution_id, self._identity, message.TYPE, data)
                except DeliveryError as error:
                    raise FailedExchangeError("size", str(error)) from None
                endpoint = self._endpoint(contact.identity)
                octets = frame.encode_notify(request_id, distribution_id, self._identity, endpoint=endpoint)
            else:
                octets = frame.encode_notify(request_id, distribution_id, self._identity, data=data)
            answer = await self._deliver(contact, octets)
        try:
            return frame.decode_response(answer, request_id)
        except RemoteError as error:
            raise FailedExchangeError("answer", f"unreadable answer: {error}") from None

    def _checked(self, response: frame.Response, contact: Contact, distribution_id: str) -> Acknowledgement:
        """What a response says; :raises FailedExchangeError: it does not prove that the peer has the message."""
        if response.rcode != 0:
            word = dns.rcode.to_text(dns.rcode.Rcode.make(response.rcode))
            raise FailedExchangeError("rcode", f"answered {word} (rcode {response.rcode})", response.rcode)
        if response.data is None:
            raise FailedExchangeError("answer", "answered without a confirmation")
        if response.format != frame.FORMAT_SEALED:
            raise FailedExchangeError("answer", "answered in clear text, which proves nothing")
        try:
            opened, proven = self._keys.open(self._runtime.sealing, response.data, contact)
            self._directory.proven(contact, proven)
            acknowledgement = decode_acknowledgement(opened)
        except RemoteError as error:
            raise FailedExchangeError("opening", f"the confirmation cannot be used: {error}") from None
        if acknowledgement.distribution_id != distribution_id:
            raise FailedExchangeError("opening", "the confirmation is for another distribution")
        if acknowledgement.type not in ("confirm", "ping_confirm"):
            reason = acknowledgement.message or "no reason given"
            raise FailedExchangeError("status", f"answered {acknowledgement.type}: {reason}")
        if not acknowledgement.received:
            reason = acknowledgement.message or "no reason given"
            raise FailedExchangeError("status", f"answered {acknowledgement.status!r}: {reason}")
        return acknowledgement

    def _by_query(self, message: Message, size: int) -> bool:
        """Whether the receiver shall fetch the payload; :raises DeliveryError: it can be had in no way."""
        fits = size <= _LARGEST_DATA
        if self._chunks is None or self._mode == "edns0":
            if not fits:
                text = f"the sealed {message.TYPE} has {size} octets, more than one DNS message carries"
                raise FailedExchangeError("size", text)
            return False
        if size > _LARGEST_FETCHED:
            text = f"the sealed {message.TYPE} has {size} octets, more than receivers fetch"
            raise FailedExchangeError("size", text)
        return not fits or (self._mode == "query" and message.TYPE not in _ALWAYS_INSIDE)

    async def _deliver(self, contact: Contact, octets: bytes) -> bytes:
        failures = []
        for host, port in contact.addresses:
            try:
                return await self.links.exchange(octets, host, port, timeout=self._timeout)
            except ExchangeError as error:
                failures.append(f"{host} port {port}: {error}")
        raise FailedExchangeError("network", "; ".join(failures) or "no address known")
