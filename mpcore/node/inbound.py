"""One NOTIFY(CHUNK) in, one answer out: everything that is checked before a role sees a message.

In this order, cheapest first, authorization before cryptography:

1. the frame (FORMERR or NOTIMP as the frame says);
2. the rate of the source and of the claimed sender;
3. is the claimed sender authorised for anything, and is its key known;
4. the payload is sealed: clear text is refused, whoever sends it;
5. signature of the claimed sender, encryption for us;
6. the JSON and its type (FORMERR);
7. the identity inside is the sender's, save in an UPDATE, where our own agent speaks for the author of the data; the
   receiver inside is us;
8. the sender is authorised for the zone in the message;
9. the message is new, or is answered as it was the first time; its own time is not older than a queue keeps messages;
10. the role handles it, and whatever it changes is durable; then the answer is sealed and sent.

Steps 3 to 5 and 8 give the same bare REFUSED, so that a stranger does not learn who is authorised, or whose key is
known (guide, wire format, "Answers").
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import dns.rcode

from mpcore.errors import FrameError, LocalError, MessageError, RemoteError, SealError
from mpcore.net.ratelimit import RateLimiter
from mpcore.net.server import Request
from mpcore.node.directory import Directory
from mpcore.node.replay import MAX_AGE, ReplayMemory, SeenKey, seen_key
from mpcore.node.runtime import Runtime
from mpcore.wire import frame
from mpcore.wire.messages import Acknowledgement, Beat, Message, Update, decode_message
from mpcore.wire.seal import PrivateKey

__all__ = ("Authorizer", "Inbound", "Incoming")

logger = logging.getLogger(__name__)

_REFUSED = int(dns.rcode.REFUSED)
_SERVFAIL = int(dns.rcode.SERVFAIL)
_FORMERR = int(dns.rcode.FORMERR)
_FUTURE = 600.0  #: seconds that a sender's clock may be ahead of ours before its messages are refused as unfresh


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that passed every check."""

    sender: str
    message: Message
    distribution_id: str
    now: float
    key: SeenKey


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


class Inbound:
    """The door for peer messages.

    :param handler: the role; what it changes is durable when it returns.
    :param recall: looks a message up in the durable part of the replay memory.
    """

    def __init__(
        self,
        identity: str,
        key: PrivateKey,
        directory: Directory,
        authorizer: Authorizer,
        handler: Handler,
        recall: Recall,
        runtime: Runtime,
    ) -> None:
        self._identity, self._key, self._directory = identity, key, directory
        self._authorizer, self._handler, self._recall, self._runtime = authorizer, handler, recall, runtime
        self._memory = ReplayMemory()
        self._sources = RateLimiter(rate=200, burst=400)
        self._senders = RateLimiter(rate=200, burst=400)

    def remember(self, key: SeenKey, answer: bytes, seen_at: float) -> None:
        """Take over a message that a former run has seen; oldest first."""
        self._memory.remember(key, answer, seen_at)

    async def handle(self, request: Request) -> bytes | None:
        """The answer to a NOTIFY(CHUNK), for :class:`mpcore.net.server.DnsServer`."""
        now = self._runtime.clock.now()
        if not self._sources.allow(request.source[0], now):
            return None
        try:
            notify = frame.decode_notify(request.octets)
        except FrameError as error:
            logger.info("malformed CHUNK message from %s: %s", request.source[0], error)
            if error.rcode is None:
                return None
            return frame.encode_response(request.octets, error.rcode, authoritative=True)
        rcode, answer = await self._open(notify, now)
        if rcode is None:
            return frame.encode_response(notify, 0, answer)
        return frame.encode_response(notify, rcode, authoritative=True)

    async def _open(self, notify: frame.Notify, now: float) -> tuple[int | None, bytes | None]:
        sender = notify.sender
        if not self._authorizer.allows(sender, ""):
            logger.info("message from %s refused: not authorised", sender)
            return _REFUSED, None
        if not self._senders.allow(sender, now):
            return _REFUSED, None
        contact = self._directory.get(sender)
        if contact is None:
            self._authorizer.unknown_key(sender, now)
            return _REFUSED, None
        if notify.data is None:
            return _FORMERR, None
        try:
            payload = self._runtime.sealing.unseal(notify.data, contact.key, self._key)
        except SealError as error:
            logger.warning("message %s from %s refused: %s", notify.distribution_id, sender, error)
            self._authorizer.unknown_key(sender, now)
            return _REFUSED, None
        try:
            message = decode_message(payload)
        except MessageError as error:
            logger.warning("message %s from %s is malformed: %s", notify.distribution_id, sender, error)
            return _FORMERR, None
        refusal = self._refusal(sender, message, now)
        if refusal is not None:
            logger.warning("%s %s from %s refused: %s", message.TYPE, notify.distribution_id, sender, refusal)
            return _REFUSED, None
        traffic = self._directory.traffic(sender)
        traffic.received[message.TYPE] = traffic.received.get(message.TYPE, 0) + 1
        traffic.last_heard = now
        key = seen_key(sender, self._identity, notify.distribution_id, message, payload)
        answer = self._memory.answer(key, now)
        if answer is None and not self._memory.complete:
            answer = await self._recall(key)
        if answer is None:
            try:
                acknowledgement = await self._handler(Incoming(sender, message, notify.distribution_id, now, key))
            except (LocalError, RemoteError) as error:
                logger.warning("%s %s from %s failed: %s", message.TYPE, notify.distribution_id, sender, error)
                return _SERVFAIL, None
            answer = acknowledgement.to_json()
        self._memory.remember(key, answer, now)
        return None, self._runtime.sealing.seal(answer, self._key, contact.key, sender, now)

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
        if sent is not None and not now - MAX_AGE <= sent <= now + _FUTURE:
            return f"it was made {now - sent:.0f} s ago"
        return None
