"""The server's handler for dynamic updates (RFC 2136), authenticated by TSIG (RFC 8945) or SIG(0) (RFC 2931).

What an update has to pass, cheap things first; the first that fails decides the answer:

====================================================  ==============================================================
not more than *rate* updates a second of one source   dropped
zone section of type SOA, class IN                    FORMERR, NOTAUTH
a zone that is kept here                              NOTAUTH
a source that the zone's list permits                 REFUSED
not more records than *max_records*                   REFUSED
signed at all, and not twice                          REFUSED, FORMERR
SIG(0): a known key, its time, not too many checks    BADKEY, BADTIME, dropped
SIG(0): the signature                                 BADSIG
a message not handled before                          the answer it had then; dropped while that is on its way
what :mod:`mpcore.zone.update` says                   its RCODE
the change durable                                    SERVFAIL
====================================================  ==============================================================

TSIG has been verified by the server before the handler is asked.  BADKEY, BADTIME and BADSIG are extended RCODEs, so
their answers carry an OPT record.

Messages are remembered for as long as their signatures are valid, so a repetition, by a client whose answer was lost or
by somebody who recorded it, changes nothing.  Across a restart they are not remembered.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio

from mpcore.errors import LocalError, Sig0Error, UpdateError
from mpcore.net.acl import Acl
from mpcore.net.clock import Clock
from mpcore.net.messages import FORMERR, NOERROR, NOTAUTH, REFUSED, SERVFAIL, SOA, counts
from mpcore.net.ratelimit import RateLimiter
from mpcore.net.server import Request, reply
from mpcore.net.transfer import Run, run_inline
from mpcore.zone import owners
from mpcore.zone.sig0 import SKEW, Sig0Keys, check_time, find_sig0, fingerprint, verify_sig0
from mpcore.zone.tsig import FUDGE
from mpcore.zone.update import Requestor, UpdatePolicy, UpdateResult, apply_update, decode_update
from mpcore.zone.version import ZoneVersion

__all__ = ("ANYWHERE", "ReplayMemory", "UpdatableZone", "UpdateLimits", "UpdateServer")

_log = logging.getLogger(__name__)

_IN = 1
_AT_ONCE = 50  # records that are worked on in the event loop, in about a millisecond
_TSIG_WINDOW = 2.0 * FUDGE

ANYWHERE = Acl.of([("0.0.0.0/0", None), ("::/0", None)])
"""Every source: the key alone decides."""


@dataclass(frozen=True, slots=True)
class UpdatableZone:
    """A zone that can be updated, and what it takes to do so.

    :param version: the present version; ``None`` while there is none.
    :param commit: awaited with the new version; when it returns, the version is durable and served.  If it raises a
        :class:`~mpcore.errors.LocalError`, the update is answered SERVFAIL and nothing has changed.
    :param policy: who may change what.
    :param keys: SIG(0) keys.
    :param sources: from where; an entry with a key is for updates that this TSIG key signs.
    """

    version: Callable[[], ZoneVersion | None]
    commit: Callable[[UpdateResult, Requestor], Awaitable[None]]
    policy: UpdatePolicy
    keys: Sig0Keys = field(default_factory=Sig0Keys)
    sources: Acl = ANYWHERE


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """Bounds of an :class:`UpdateServer`."""

    rate: float = 50.0  #: updates a second from one source
    burst: float = 200.0
    verifications: float = 20.0  #: of SIG(0), a second from one source
    verification_burst: float = 40.0
    max_records: int = 2000  #: of one update, prerequisites included
    max_waiting: int = 64  #: updates of one zone that wait for the one at work; more are answered SERVFAIL
    max_remembered: int = 32768  #: messages of one requestor; more are answered SERVFAIL until some are forgotten


class ReplayMemory:
    """Which signed messages were handled, and how they were answered, for as long as their signatures are valid.

    :param max_per_requestor: what is remembered of each; a requestor can push out neither another's messages nor its
        own.
    """

    def __init__(self, max_per_requestor: int) -> None:
        self._max = max_per_requestor
        self._seen: dict[Requestor, OrderedDict[bytes, tuple[float, bytes | None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._seen.values()))

    def known(self, requestor: Requestor, digest: bytes) -> bool:
        """Whether the message was begun or answered before."""
        return digest in self._seen.get(requestor, ())

    def answer(self, requestor: Requestor, digest: bytes) -> bytes | None:
        """How a known message was answered; ``None`` while it is being handled."""
        return self._seen[requestor][digest][1]

    def begin(self, requestor: Requestor, digest: bytes, now: float, until: float) -> bool:
        """Remember a message that is about to be handled; ``False``: there is no room.

        :param until: Unix seconds after which its signature is not valid any more.
        """
        seen = self._seen.setdefault(requestor, OrderedDict())
        while seen:
            oldest = next(iter(seen))
            expires, answer = seen[oldest]
            if expires >= now or answer is None:
                break
            del seen[oldest]
        if len(seen) >= self._max:
            return False
        seen[digest] = until, None
        return True

    def answered(self, requestor: Requestor, digest: bytes, answer: bytes | None) -> None:
        """Remember how a message that was begun was answered; ``None`` forgets it: it may be tried again."""
        seen = self._seen[requestor]
        until, _ = seen.pop(digest) if answer is None else seen[digest]
        if answer is not None:
            seen[digest] = until, answer


class UpdateServer:
    """The handler: register its :meth:`handle` for opcode 5.  See the module's text.

    Updates of one zone are worked on one after the other, in the order of their arrival.

    :param zones: apex (wire octets, lower case) -> zone; looked up for each message, so it may change.
    :param clock: for the time of signatures.
    :param run: where larger updates are worked on, see :class:`mpcore.net.transfer.Run`.
    """

    def __init__(
        self,
        zones: Mapping[bytes, UpdatableZone],
        *,
        clock: Clock,
        limits: UpdateLimits = UpdateLimits(),
        run: Run = run_inline,
    ) -> None:
        self._zones, self._clock, self._limits, self._run = zones, clock, limits, run
        self._rates = RateLimiter(limits.rate, limits.burst)
        self._verifications = RateLimiter(limits.verifications, limits.verification_burst)
        self._lines = RateLimiter(1.0, 20.0)
        self._replays = ReplayMemory(limits.max_remembered)
        self._locks: dict[bytes, anyio.Lock] = {}

    async def handle(self, request: Request) -> bytes | None:
        """Answer one update."""
        if not self._rates.allow(request.source[0], anyio.current_time()):
            return None
        if request.qtype != SOA:
            return reply(request, FORMERR)
        zone = self._zones.get(request.qname)
        if request.qclass != _IN or zone is None:
            return reply(request, NOTAUTH)
        if not zone.sources.permits(request.source[0], request.key.name if request.key else None):
            return self._refused(request, f"not from {request.source[0]}")
        _, prerequisites, records, _ = counts(request.octets)
        if prerequisites + records > self._limits.max_records:
            return self._refused(request, f"{prerequisites + records} records")
        try:
            opened = self._authenticate(request, zone)
        except Sig0Error as error:
            self._tell(request, str(error))
            return reply(request, error.rcode) if error.rcode < 16 else _extended(request, error.rcode)
        if opened is None:
            return None
        if isinstance(opened, str):
            return self._refused(request, opened)
        requestor, octets, digest, until = opened
        if self._replays.known(requestor, digest):
            answer = self._replays.answer(requestor, digest)
            return None if answer is None else request.octets[:2] + answer[2:]
        now = self._clock.now()
        if not self._replays.begin(requestor, digest, now, until):
            return reply(request, SERVFAIL)
        answer = None
        try:
            answer = await self._update(request, zone, octets, requestor)
            return answer
        finally:
            # What failed for reasons of ours may be sent again.
            failed = answer is None or answer[3] & 15 == SERVFAIL
            self._replays.answered(requestor, digest, None if failed else answer)

    def _refused(self, request: Request, why: str) -> bytes:
        self._tell(request, f"refused: {why}")
        return reply(request, REFUSED)

    def _tell(self, request: Request, why: str) -> None:
        """Log what happened to a message that nobody known need have sent: not more than a line a second."""
        if self._lines.allow("", anyio.current_time()):
            _log.info("%s: update from %s: %s", owners.to_text(request.qname), request.source[0], why)

    def _authenticate(
        self, request: Request, zone: UpdatableZone
    ) -> tuple[Requestor, bytes, bytes, float] | str | None:
        """Requestor, message without signature, digest of the message, and until when it is valid.

        :return: a text says why it is refused; ``None``: not to be answered.
        :raises Sig0Error: a faulty SIG(0).
        """
        now = self._clock.now()
        signatures = find_sig0(request.octets)
        if request.key is not None:
            if signatures:
                raise Sig0Error("both TSIG and SIG(0)")
            requestor = Requestor("tsig", request.key.name)
            if not zone.policy.knows(requestor):
                return f"{requestor} may change nothing"
            return requestor, request.octets, request.mac, now + _TSIG_WINDOW
        if not signatures:
            return "not signed"
        signature, key = zone.keys.choose(signatures)
        check_time(signature, now)
        requestor = Requestor("sig0", key.name)
        if not zone.policy.knows(requestor):
            return f"{requestor} may change nothing"
        if not self._verifications.allow(request.source[0], anyio.current_time()):
            return None
        octets = verify_sig0(request.octets, signature, key)
        left = (signature.expiration - int(now) + SKEW) & 0xFFFFFFFF
        return requestor, octets, fingerprint(request.octets, signature), now + left + 1

    async def _update(self, request: Request, zone: UpdatableZone, octets: bytes, requestor: Requestor) -> bytes:
        name = owners.to_text(request.qname)
        lock = self._locks.setdefault(request.qname, anyio.Lock())
        if lock.statistics().tasks_waiting >= self._limits.max_waiting:
            return reply(request, SERVFAIL)
        async with lock:
            version = zone.version()
            if version is None:
                return reply(request, SERVFAIL)
            _, prerequisites, records, _ = counts(octets)
            run = self._run if prerequisites + records > _AT_ONCE else run_inline
            try:
                result = await run(lambda: apply_update(version, decode_update(octets), zone.policy, requestor))
            except UpdateError as error:
                _log.info("%s: update by %s: %s", name, requestor, error)
                return reply(request, error.rcode)
            if result.changes:
                try:
                    # Not given up half-way: what was begun becomes durable or fails.
                    with anyio.CancelScope(shield=True):
                        await zone.commit(result, requestor)
                except LocalError as error:
                    _log.error("%s: update by %s cannot be kept: %s", name, requestor, error)
                    return reply(request, SERVFAIL)
                _log.info("%s: serial %d by an update of %s", name, result.version.serial, requestor)
        return reply(request, NOERROR)


def _extended(request: Request, rcode: int) -> bytes:
    """An answer with an RCODE above 15, for which it takes an OPT record (RFC 6891, section 6.1.3)."""
    head = reply(request, rcode & 15)
    opt = b"\0\0\x29" + (1232).to_bytes(2, "big") + bytes((rcode >> 4, 0, 0, 0, 0, 0))
    return head[:10] + b"\0\1" + head[12:] + opt
