"""One message in, one answer out: everything that is checked before a role sees a message, by whatever way it came.

In this order, cheapest first, authorization before cryptography:

1. it came over a connection, so that its source is no invention;
2. the rate of failures of its source;
3. the frame (FORMERR or NOTIMP as the frame says);
4. is the claimed sender authorised for anything, is its key known, and is the channel its own, if it came by one that
   is anybody's (the certificate of HTTPS);
5. the payload is there, or the sender keeps it where it is known to be;
6. the payload is sealed: clear text is refused, whoever sends it; signature of the claimed sender, encryption for us;
7. the rate of the sender, now that it is proven: more than that has to wait;
8. the JSON and its type (FORMERR; a type that nobody knows is told to be unsupported);
9. the identity inside is the sender's, save in an UPDATE, where our own agent speaks for the author of the data; the
   receiver inside is us;
10. the sender is authorised for the zone in the message;
11. the message is new, or is answered as it was the first time; its own time is not older than a queue keeps messages,
    and for what is never queued, not older than clocks differ;
12. the role handles it, and whatever it changes is durable; then the answer is sealed and sent.

Steps 4 to 6, 9 and 10 give the same bare REFUSED, so that a stranger does not learn who is authorised, or whose key is
known (guide, wire format, "Answers").

There is one door: NOTIFY(CHUNK) comes through :meth:`Inbound.handle`, a POST through :meth:`Inbound.posted`, and both
go through :meth:`Inbound.admit`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import anyio
import dns.rcode

from mpcore.errors import (
    ExchangeError,
    FrameError,
    LocalError,
    MessageError,
    RemoteError,
    SealError,
    UnknownTypeError,
)
from mpcore.net.ratelimit import RateLimiter
from mpcore.net.server import Request
from mpcore.node.directory import Contact, Directory
from mpcore.node.distributions import Distribution, DistributionLog, Mode
from mpcore.node.ownkeys import OwnKeys
from mpcore.node.replay import MAX_AGE, ReplayMemory, SeenKey, seen_key
from mpcore.node.runtime import Runtime
from mpcore.node.transports import Transport
from mpcore.peer.dane import matches
from mpcore.wire import frame
from mpcore.wire.messages import (
    Acknowledgement,
    Beat,
    Hello,
    Message,
    Ping,
    Rfi,
    Update,
    decode_message,
)

__all__ = ("Authorizer", "Fetch", "Inbound", "Incoming", "Verdict", "unsupported")

logger = logging.getLogger(__name__)

_REFUSED = int(dns.rcode.REFUSED)
_SERVFAIL = int(dns.rcode.SERVFAIL)
_FORMERR = int(dns.rcode.FORMERR)
_SKEW = 600.0  #: seconds by which a sender's clock may differ from ours before its messages are refused as unfresh
_FRESH = (Hello, Beat, Ping, Rfi)  #: never queued by their senders
_ERROR = b'{"type":"error",'
_LONGEST_WAIT = 2.0  #: seconds that a sender over its rate is made to wait; above that it gets SERVFAIL


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that passed every check."""

    sender: str
    message: Message
    distribution_id: str
    now: float
    key: SeenKey


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the door says.

    :ivar rcode: as in a DNS message; 0: the message is taken.
    :ivar data: the acknowledgement, sealed for the sender.
    """

    rcode: int
    data: bytes | None = None


def unsupported(distribution_id: str, reason: str, now: float) -> Acknowledgement:
    """The inline answer to a type that is not taken."""
    return Acknowledgement(
        type="error", distribution_id=distribution_id, status="unsupported", message=reason, timestamp=int(now)
    )


class Authorizer(Protocol):
    """Who may send what."""

    def allows(self, sender: str, zone: str) -> bool:
        """May *sender* send anything about *zone* (``""``: about no zone in particular)?"""
        ...

    def unknown_key(self, sender: str, now: float) -> None:
        """An authorised sender whose key is not known yet has called: look for it."""
        ...


Handler = Callable[[Incoming], Awaitable[Acknowledgement]]
Recall = Callable[[SeenKey], Awaitable[bytes | None]]
Fetch = Callable[[frame.Notify, Contact], Awaitable[bytes]]


class Inbound:
    """The door for peer messages.

    :param handler: the role; what it changes is durable when it returns.
    :param recall: looks a message up in the durable part of the replay memory.
    :param fetch: gets the payload of a message that came without; ``None``: such messages are refused.
    :param history: where messages that were opened are listed.
    """

    def __init__(
        self,
        identity: str,
        keys: OwnKeys,
        directory: Directory,
        authorizer: Authorizer,
        handler: Handler,
        recall: Recall,
        runtime: Runtime,
        fetch: Fetch | None = None,
        history: DistributionLog | None = None,
    ) -> None:
        self._identity, self._keys, self._directory = identity, keys, directory
        self._authorizer, self._handler, self._recall, self._runtime = authorizer, handler, recall, runtime
        self._fetch = fetch
        self._history = history if history is not None else DistributionLog(runtime.clock)
        self._memory = ReplayMemory()
        self._under_way: dict[SeenKey, anyio.Event] = {}
        self._failures = RateLimiter(rate=50, burst=200)  # by source address
        self._senders = RateLimiter(rate=200, burst=400)  # by identity, proven
        self._lines = RateLimiter(rate=0.2, burst=10)  # by identity, claimed: lines in the log

    def remember(self, key: SeenKey, answer: bytes, seen_at: float) -> None:
        """Take over a message that a former run has seen; oldest first."""
        self._memory.remember(key, answer, seen_at)

    async def handle(self, request: Request) -> bytes | None:
        """The answer to a NOTIFY(CHUNK), for :class:`mpcore.net.server.DnsServer`."""
        now = self._runtime.clock.now()
        source = request.source[0]
        if not request.over_tcp:
            return frame.encode_error(request.octets, _REFUSED)
        if not self._failures.available(source, now):
            return None
        try:
            notify = frame.decode_notify(request.octets)
        except FrameError as error:
            self._failures.allow(source, now)
            if error.rcode is None:
                return None
            return frame.encode_response(request.octets, error.rcode, authoritative=True)
        verdict = await self.admit(notify, source, "dns")
        if verdict.data is None:
            return frame.encode_response(notify, verdict.rcode, authoritative=verdict.rcode != _SERVFAIL)
        return frame.encode_response(notify, verdict.rcode, verdict.data)

    async def posted(self, name: str, body: bytes, source: str, spki: bytes) -> Verdict | None:
        """The answer to a message that came by HTTPS; ``None``: none.

        :param name: what would be the QNAME: ``<distribution id>.<sender>``.
        :param body: the payload, sealed.
        :param source: numeric address.
        :param spki: the public key of the certificate that the client proved, DER.
        """
        now = self._runtime.clock.now()
        if not self._failures.available(source, now):
            return None
        try:
            notify = frame.decode_qname(name, body)
        except FrameError as error:
            self._failures.allow(source, now)
            return Verdict(error.rcode or _FORMERR)
        return await self.admit(notify, source, "https", spki)

    async def admit(
        self, notify: frame.Notify, source: str, transport: Transport, spki: bytes | None = None
    ) -> Verdict:
        """Everything from step 4 on.

        :param notify: the message; nothing has proved its sender yet.
        :param source: numeric address.
        :param spki: the public key that the other end of the channel has proved, if there is such a thing.
        """
        now = self._runtime.clock.now()
        opened = await self._open(notify, now, spki)
        if opened is None:
            self._failures.allow(source, now)
            return Verdict(_REFUSED)
        contact, payload = opened
        listed = self._history.begin("in", contact.identity, "", "", notify.distribution_id)
        listed.octets, listed.mode = len(payload), self._mode(notify, transport)
        rcode, answer = await self._answer(notify, contact, payload, listed, transport)
        self._history.end(listed, None if rcode == 0 else f"answered {dns.rcode.to_text(dns.rcode.Rcode.make(rcode))}")
        if answer is None:
            return Verdict(rcode)
        sealed = self._runtime.sealing.seal(
            answer, self._keys.current, contact.key, contact.identity, self._runtime.clock.now()
        )
        return Verdict(rcode, sealed)

    @staticmethod
    def _mode(notify: frame.Notify, transport: Transport) -> Mode:
        if transport == "https":
            return "https"
        return "edns0" if notify.data is not None else "query"

    def _log(self, notify: frame.Notify, now: float, text: str) -> None:
        """Say why a message was not accepted, but not for each of thousands."""
        if self._lines.allow(notify.sender, now):
            logger.warning("message %s from %s: %s", notify.distribution_id, notify.sender, text)

    async def _open(self, notify: frame.Notify, now: float, spki: bytes | None = None) -> tuple[Contact, bytes] | None:
        """The payload of a message that is proven to be from its sender, or ``None``."""
        sender = notify.sender
        if not self._authorizer.allows(sender, ""):
            self._log(notify, now, "refused: not authorised")
            return None
        contact = self._directory.get(sender)
        if contact is None:
            self._log(notify, now, "refused: its key is not known yet")
            self._authorizer.unknown_key(sender, now)
            return None
        if spki is not None and (contact.https is None or not matches(contact.https.tlsa, spki)):
            self._log(notify, now, "refused: the key of its certificate is not published")
            self._authorizer.unknown_key(sender, now)
            return None
        try:
            data = notify.data
            if data is None:
                if self._fetch is None:
                    raise FrameError("it has no payload")
                data = await self._fetch(notify, contact)
            payload, key = self._keys.open(self._runtime.sealing, data, contact)
            return self._directory.proven(contact, key), payload
        except (ExchangeError, FrameError) as error:
            self._log(notify, now, f"refused: {error}")
        except SealError as error:
            self._log(notify, now, f"refused: {error}")
            self._authorizer.unknown_key(sender, now)
        return None

    async def _answer(
        self, notify: frame.Notify, contact: Contact, payload: bytes, listed: Distribution, transport: Transport
    ) -> tuple[int, bytes | None]:
        """RCODE of, and acknowledgement for, an opened message."""
        sender = contact.identity
        now = self._runtime.clock.now()
        wait = self._senders.delay(sender, now)
        if wait > _LONGEST_WAIT:
            self._log(notify, now, "refused: it sends too much")
            return _SERVFAIL, None
        if wait:
            await anyio.sleep(wait)
            now = self._runtime.clock.now()
        try:
            message = decode_message(payload)
        except UnknownTypeError as error:
            self._log(notify, now, str(error))
            return _REFUSED, unsupported(notify.distribution_id, str(error), now).to_json()
        except MessageError as error:
            self._log(notify, now, f"malformed: {error}")
            return _FORMERR, None
        listed.type, listed.zone = message.TYPE, message.zone_name
        refusal = self._refusal(sender, message, now)
        if refusal is not None:
            self._log(notify, now, f"{message.TYPE} refused: {refusal}")
            return _REFUSED, None
        traffic = self._directory.traffic(sender)
        traffic.received[message.TYPE] = traffic.received.get(message.TYPE, 0) + 1
        traffic.last_heard = now
        traffic.over(transport).heard(now)
        key = seen_key(sender, self._identity, notify.distribution_id, message, payload)
        if key in self._under_way:
            # A sender that has lost patience: it gets the answer of its first attempt.
            await self._under_way[key].wait()
        answer = await self._remembered(key, now)
        if answer is None:
            if key in self._under_way:
                return _SERVFAIL, None
            done = self._under_way[key] = anyio.Event()
            try:
                acknowledgement = await self._handler(Incoming(sender, message, notify.distribution_id, now, key))
            except (LocalError, RemoteError) as error:
                self._log(notify, now, f"{message.TYPE} failed: {error}")
                return _SERVFAIL, None
            else:
                answer = acknowledgement.to_json()
                self._memory.remember(key, answer, now)
            finally:
                del self._under_way[key]
                done.set()
        return (_REFUSED if answer.startswith(_ERROR) else 0), answer

    async def _remembered(self, key: SeenKey, now: float) -> bytes | None:
        """The inline answer given to *key* before."""
        answer = self._memory.answer(key, now)
        if answer is None and not self._memory.complete:
            answer = await self._recall(key)
        return answer

    def _refusal(self, sender: str, message: Message, now: float) -> str | None:
        if not isinstance(message, Update) and message.sender != sender:
            return f"it names {message.sender or 'nobody'} as its sender"
        receiver = getattr(message, "your_identity", None)
        if receiver and receiver != self._identity:
            return f"it is addressed to {receiver}"
        zones = message.zones if isinstance(message, Beat) else None
        if not any(self._authorizer.allows(sender, zone) for zone in zones or [message.zone_name]):
            return f"the sender has no part in {message.zone_name}"
        sent = message.sent_at
        oldest = _SKEW if isinstance(message, _FRESH) else MAX_AGE
        if sent is not None and not now - oldest <= sent <= now + _SKEW:
            return f"it was made {now - sent:.0f} s ago"
        return None
