"""The relationship with one peer: wanted, found, greeted, alive.

Theory
------
An agent that shares a zone with us is *needed*.  Discovery finds its address and key in DNS: it is *known*.  A
greeting (HELLO) in either direction makes it *introduced*.  From then on both sides beat.  Health has two directions:
what we hear (beats of the peer, and its acknowledgements), and what it acknowledges.  *Operational* needs both to be
recent; if one is overdue by more than two intervals the peer is *degraded*, by more than ten *interrupted*.  The
interval of hearing is the one that the peer announces (30 s if it says 0), that of acknowledgements is ours.  A peer
that shares no zone with us any more is *legacy* and is forgotten after a time of grace (guide, wire format, "Peers").

Nothing here waits for a tick: a needed peer is looked up at once, a known one is greeted at once, an introduced one is
beaten at once, and when our row of the gossip matrix changes a beat goes out 50 ms later.

The own combiner and signer are configured, not discovered: they start as known, are never greeted, and only their
acknowledgements count, for they do not beat.

How a node drives this
----------------------
One :class:`Peer` per identity; :meth:`Peer.start` once, then report what happens: outcomes of the ``Discover``,
``SendHello`` and ``SendBeat`` actions (every one of them must be reported, also when it was cut short), messages
received from the peer after their signature was checked, outcomes of all other messages to it, timers.  On
``StateChanged`` call :meth:`GossipTable.set_own_states <mpcore.group.gossip.GossipTable.set_own_states>` with every
peer's :attr:`Peer.gossip_state`; if that returns ``True`` call :meth:`Peer.own_row_changed` of all peers.  After each
event compare :attr:`Peer.ready` with what the delivery queue was told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from mpcore.actions import Action, CancelTimer, SetTimer
from mpcore.machine import ANY, Transition, allowed
from mpcore.peer.actions import Discover, Forget, SendBeat, SendHello, StateChanged
from mpcore.peer.discovery import Contact

__all__ = ("ACTIVE", "TRANSITIONS", "Peer", "PeerSettings", "PeerView", "State")

State = Literal["NEEDED", "KNOWN", "INTRODUCED", "OPERATIONAL", "DEGRADED", "INTERRUPTED", "LEGACY"]

ACTIVE: Final = frozenset({"INTRODUCED", "OPERATIONAL", "DEGRADED", "INTERRUPTED", "LEGACY"})
"""States in which messages are delivered to the peer."""

TRANSITIONS: Final = (
    Transition("NEEDED", "discovered", "", "KNOWN", "send HELLO; a configured peer gets a BEAT"),
    Transition("NEEDED", "discovered", "it has greeted us or beaten", "INTRODUCED", "send BEAT"),
    Transition("KNOWN", "hello accepted", "", "INTRODUCED", "send BEAT"),
    Transition("KNOWN", "hello received", "", "INTRODUCED", "send BEAT"),
    Transition("KNOWN", "heard", "a BEAT", "OPERATIONAL", "send BEAT"),
    Transition("KNOWN", "acknowledged", "a configured peer", "OPERATIONAL", ""),
    Transition("INTRODUCED", "heard", "a BEAT", "OPERATIONAL", "send BEAT unless one was just acknowledged"),
    Transition("INTRODUCED", "acknowledged", "", "OPERATIONAL", ""),
    Transition("INTRODUCED", "overdue", "2 intervals", "DEGRADED", "discover again"),
    Transition("INTRODUCED", "overdue", "10 intervals", "INTERRUPTED", "discover again"),
    Transition("OPERATIONAL", "overdue", "2 intervals in one direction", "DEGRADED", "discover again"),
    Transition("OPERATIONAL", "overdue", "10 intervals in one direction", "INTERRUPTED", "discover again"),
    Transition("DEGRADED", "overdue", "10 intervals in one direction", "INTERRUPTED", "discover again"),
    Transition("INTERRUPTED", "recovering", "both directions below 10 intervals", "DEGRADED", "send BEAT"),
    Transition("DEGRADED", "recovering", "both directions below 2 intervals", "OPERATIONAL", ""),
    Transition("INTERRUPTED", "recovering", "both directions below 2 intervals", "OPERATIONAL", ""),
    Transition("INTRODUCED", "no shared zone", "", "LEGACY", "forget it after the time of grace"),
    Transition("OPERATIONAL", "no shared zone", "", "LEGACY", "forget it after the time of grace"),
    Transition("DEGRADED", "no shared zone", "", "LEGACY", "forget it after the time of grace"),
    Transition("INTERRUPTED", "no shared zone", "", "LEGACY", "forget it after the time of grace"),
    Transition("LEGACY", "shared zone", "", "INTRODUCED", "send BEAT"),
    Transition("LEGACY", "shared zone", "its health was good", "OPERATIONAL", "send BEAT"),
    Transition("LEGACY", "shared zone", "its health was bad", "DEGRADED", "send BEAT"),
    Transition("LEGACY", "shared zone", "its health was worse", "INTERRUPTED", "send BEAT"),
    Transition(ANY, "reset", "order of the operator", "NEEDED", "discover with an empty cache"),
    Transition(ANY, "reset", "order of the operator, a configured peer", "KNOWN", "send BEAT"),
)
"""Moves between the states that go out in gossip."""

_ALLOWED: Final = allowed(TRANSITIONS)
_DEGRADED_AFTER: Final = 2.0
_INTERRUPTED_AFTER: Final = 10.0
_MOST_PATIENCE: Final = 4.0
_UNKNOWN_INTERVAL: Final = 30.0
_LONGEST_INTERVAL: Final = 1800.0
_COALESCE: Final = 0.05
_IN_FLIGHT: Final = 60.0
_FIRST_DISCOVERY_RETRY: Final = 0.5
_FLUSH_AFTER: Final = 3
_REDISCOVER_AFTER_HELLOS: Final = 4
_SHORTEST_REFRESH: Final = 300.0
_LONGEST_REFRESH: Final = 3600.0


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Timing of a peer machine; all in seconds.

    :param beat_interval: between our beats, at least 1.
    :param hello_fast_attempts: greetings that are repeated after *hello_fast_interval*; the others after *hello_retry*.
    :param discovery_retry: longest pause between two failed discoveries; the first pauses are shorter.
    :param legacy_grace: how long a peer without shared zones is kept.
    """

    beat_interval: float = 15.0
    hello_fast_attempts: int = 3
    hello_fast_interval: float = 1.0
    hello_retry: float = 15.0
    discovery_retry: float = 15.0
    legacy_grace: float = 3600.0


@dataclass(frozen=True, slots=True)
class PeerView:
    """What an operator sees of a peer; the members are those of the control API."""

    identity: str
    kind: Literal["agent", "combiner", "signer"]
    state: str
    since: float
    address: str | None
    zones: tuple[str, ...]
    beat_interval: float | None
    last_heard: float | None
    last_acknowledged: float | None
    round_trip: float | None
    last_error: str | None
    waiting_for: str | None


class Peer:
    """One peer.

    :param identity: of the peer.
    :param kind: ``agent``, or ``combiner`` or ``signer``, which are configured.
    :param settings: timing.
    :param contact: where a configured peer is reached; agents are discovered.
    """

    def __init__(
        self,
        identity: str,
        kind: Literal["agent", "combiner", "signer"] = "agent",
        settings: PeerSettings | None = None,
        *,
        contact: Contact | None = None,
    ) -> None:
        self.identity = identity
        self.kind = kind
        self._settings = settings or PeerSettings()
        self._contact = contact
        self._state: State = "KNOWN" if contact is not None else "NEEDED"
        self._since = 0.0
        self._zones: tuple[str, ...] = ()
        self._announced: float | None = None
        self._heard: float | None = None
        self._acknowledged: float | None = None
        self._active_since = 0.0
        self._round_trip: float | None = None
        self._error: str | None = None
        self._greeted_us = False
        self._beaten_us = False
        self._discoveries = 0
        self._hellos = 0
        self._beats = 0
        self._next: dict[str, float] = {}
        self._flying: dict[str, float] = {}
        self._beat_again = False
        self._patience = 1.0

    # ------------------------------------------------------------------------------------------------------- queries

    @property
    def state(self) -> State:
        """The state shown to operators."""
        return self._state

    @property
    def gossip_state(self) -> str:
        """The state word for our gossip row."""
        return self._state

    @property
    def contact(self) -> Contact | None:
        """Where it is reached; ``None``: not discovered yet."""
        return self._contact

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones that we share."""
        return self._zones

    @property
    def ready(self) -> bool:
        """Whether messages can be delivered to it."""
        return self._contact is not None and (self._configured or self._state in ACTIVE)

    @property
    def watched(self) -> bool:
        """Whether its health is a matter of beats: it was greeted, and shares a zone with us."""
        return self._state in ACTIVE and self._state != "LEGACY"

    def lateness(self, now: float) -> float:
        """By how many intervals its beats, or its acknowledgements, are overdue; above 2 it is degraded."""
        return max(self._overdue(now))

    @property
    def peer_interval(self) -> float:
        """Seconds between the peer's beats, as far as known."""
        return self._announced or _UNKNOWN_INTERVAL

    def view(self, now: float) -> PeerView:
        """What an operator sees."""
        address = None
        if self._contact is not None and self._contact.addresses:
            host = self._contact.addresses[0]
            address = f"[{host}]:{self._contact.port}" if ":" in host else f"{host}:{self._contact.port}"
        return PeerView(
            identity=self.identity,
            kind=self.kind,
            state=self._state,
            since=self._since,
            address=address,
            zones=self._zones,
            beat_interval=self._announced,
            last_heard=self._heard,
            last_acknowledged=self._acknowledged,
            round_trip=self._round_trip,
            last_error=self._error,
            waiting_for=self._waiting_for(now),
        )

    # -------------------------------------------------------------------------------------------- events of our side

    def start(self, now: float) -> list[Action]:
        """Begin: discover the peer, or beat it if it is configured."""
        self._since = now
        if not self._configured:
            return self._discover(now)
        self._active_since = now
        return [*self._beat(now), *self._watch(now)]

    def reset(self, now: float) -> list[Action]:
        """Forget what is known of it and begin anew, by order of the operator."""
        actions: list[Action] = [CancelTimer(name) for name in ("hello", "beat", "coalesce", "health", "refresh")]
        self._flying.clear()
        self._next.clear()
        self._discoveries = self._hellos = self._beats = 0
        self._heard = self._acknowledged = self._round_trip = self._error = None
        self._greeted_us = self._beaten_us = self._beat_again = False
        if self._configured:
            actions += self._enter("KNOWN", "reset", "reset by the operator", now)
            return [*actions, *self.start(now)]
        self._contact = None
        actions += self._enter("NEEDED", "reset", "reset by the operator", now)
        return [*actions, *self._discover(now, flush=True)]

    def set_zones(self, zones: Iterable[str], now: float) -> list[Action]:
        """The zones that we share with it are these; none: it becomes a former peer."""
        before, self._zones = self._zones, tuple(sorted(set(zones)))
        if self._configured or bool(before) == bool(self._zones):
            return []
        if not self._zones:
            actions: list[Action] = [SetTimer("forget", now + self._settings.legacy_grace)]
            if self._state in ACTIVE:
                actions += self._enter("LEGACY", "no shared zone", "it shares no zone with us any more", now)
            return actions
        actions = [CancelTimer("forget")]
        if self._state == "LEGACY":
            health = self._health(now)
            introduced = health == "OPERATIONAL" and self._heard is None and self._acknowledged is None
            new: State = "INTRODUCED" if introduced else health
            actions += self._enter(new, "shared zone", "it shares a zone with us again", now)
            actions += self._beat(now)
        return actions

    def set_patience(self, factor: float, now: float) -> list[Action]:
        """Stretch the time until the peer is degraded, because we suspect ourselves; what is degraded stays so.

        :param factor: 1, the usual time, to 4.
        """
        factor = min(max(factor, 1.0), _MOST_PATIENCE)
        if factor == self._patience:
            return []
        self._patience = factor
        return self._check_health(now)

    def own_row_changed(self, now: float) -> list[Action]:
        """Our row of the gossip matrix is another: beat soon, once for all changes of the next 50 ms."""
        if self._state not in ACTIVE or self._state == "LEGACY" or self._configured or "coalesce" in self._next:
            return []
        return [self._set("coalesce", now + _COALESCE)]

    def timer(self, name: str, now: float) -> list[Action]:
        """A timer set by :class:`~mpcore.actions.SetTimer` has run out."""
        if name == "forget":
            return [] if self._zones or self._configured else [Forget(self.identity)]
        due = self._next.get(name)
        if due is None:
            return []
        if now < due:
            return [SetTimer(name, due)]
        del self._next[name]
        if name == "discover":
            return self._discover(now)
        if name == "refresh":
            return self._discover(now, flush=self._state in ("DEGRADED", "INTERRUPTED"))
        if name == "hello":
            return self._hello(now)
        if name in ("beat", "coalesce"):
            return self._beat(now)
        return self._check_health(now)

    # ------------------------------------------------------------------------------------- outcomes of our messages

    def discovered(self, contact: Contact, now: float) -> list[Action]:
        """Discovery has found where the peer is reached and its key."""
        self._flying.pop("discover", None)
        self._discoveries = 0
        moved = self._contact is not None and (
            (self._contact.addresses, self._contact.port, _keys(self._contact))
            != (contact.addresses, contact.port, _keys(contact))
        )
        self._contact = contact
        keep = min(max(contact.expires - now, _SHORTEST_REFRESH), _LONGEST_REFRESH)
        actions: list[Action] = [self._set("refresh", now + keep)]
        if self._state == "NEEDED":
            self._error = None
            if self._greeted_us or self._beaten_us:
                actions += self._enter("INTRODUCED", "discovered", "found in DNS after it had called", now)
                return [*actions, *self._beat(now), *self._watch(now)]
            actions += self._enter("KNOWN", "discovered", "found in DNS", now)
            return [*actions, *self._hello(now)]
        if moved:
            actions += self._hello(now) if self._state == "KNOWN" else self._beat(now)
        return actions

    def discovery_failed(self, reason: str, now: float) -> list[Action]:
        """Discovery has found nothing usable; *reason* is shown to the operator."""
        self._flying.pop("discover", None)
        self._discoveries += 1
        if self._state != "NEEDED":
            wait = self._settings.discovery_retry
            if self._state not in ("KNOWN", "DEGRADED", "INTERRUPTED"):
                wait = min(_LONGEST_REFRESH, wait * 2.0 ** min(self._discoveries, 10))
            return [self._set("refresh", now + wait)]
        self._error = reason
        delay = min(self._settings.discovery_retry, _FIRST_DISCOVERY_RETRY * 2.0 ** min(self._discoveries - 1, 10))
        return [self._set("discover", now + delay)]

    def hello_accepted(self, now: float, round_trip: float | None = None) -> list[Action]:
        """Our HELLO was acknowledged."""
        self._flying.pop("hello", None)
        self._note_acknowledged(now, round_trip)
        if self._state != "KNOWN":
            return []
        actions = self._enter("INTRODUCED", "hello accepted", "it has accepted our greeting", now)
        return [*actions, *self._drop("hello"), *self._beat(now), *self._watch(now)]

    def hello_failed(self, reason: str, now: float) -> list[Action]:
        """Our HELLO was not answered or was refused."""
        self._flying.pop("hello", None)
        self._error = reason
        if self._state != "KNOWN":
            return []
        fast = self._hellos < self._settings.hello_fast_attempts
        delay = self._settings.hello_fast_interval if fast else self._settings.hello_retry
        actions: list[Action] = [self._set("hello", now + delay)]
        if self._hellos % _REDISCOVER_AFTER_HELLOS == 0:
            actions += self._discover(now, flush=True)
        return actions

    def beat_acknowledged(self, now: float, round_trip: float | None = None) -> list[Action]:
        """Our BEAT was acknowledged."""
        self._flying.pop("beat", None)
        self._beats = 0
        actions = self.message_acknowledged(now, round_trip)
        if self._beat_again:
            self._beat_again = False
            actions += self._beat(now)
        return actions

    def beat_failed(self, reason: str, now: float) -> list[Action]:
        """Our BEAT was not acknowledged: the next one comes sooner than usual."""
        began = self._flying.pop("beat", now)
        self._error = reason
        self._beats += 1
        if self._beat_again and self._heard is not None and self._heard >= began:
            return [*self._beat(now), *self._check_health(now)]  # it has come back while we tried
        self._beat_again = False
        delay = min(self._settings.beat_interval, 2.0 ** min(self._beats - 1, 10))
        return [self._set("beat", now + delay), *self._check_health(now)]

    def message_acknowledged(self, now: float, round_trip: float | None = None) -> list[Action]:
        """Some message to the peer was acknowledged: it lives."""
        self._note_acknowledged(now, round_trip)
        operational = self._state == "INTRODUCED" or (self._configured and self._state == "KNOWN")
        if operational:
            actions = self._enter("OPERATIONAL", "acknowledged", "it acknowledges our messages", now)
            return [*actions, *self._watch(now)]
        return self._check_health(now)

    def message_failed(self, reason: str, now: float) -> list[Action]:
        """Some other message than HELLO or BEAT was not acknowledged; only shown, health is a matter of beats."""
        self._error = reason
        return []

    # ------------------------------------------------------------------------------------------- messages of the peer

    def hello_received(self, now: float) -> list[Action]:
        """It has greeted us; a side that was greeted first need not greet."""
        self._heard = now
        self._greeted_us = True
        if self._contact is None:
            return self._discover(now)
        if self._state != "KNOWN" or self._configured:
            return self._check_health(now)
        actions = self._enter("INTRODUCED", "hello received", "it has greeted us", now)
        return [*actions, *self._drop("hello"), *self._beat(now), *self._watch(now)]

    def beat_received(self, interval: float, now: float) -> list[Action]:
        """It has beaten us.

        :param interval: seconds between its beats as it says; 0: it does not say.
        """
        self._heard = now
        self._beaten_us = True
        self._announced = min(interval, _LONGEST_INTERVAL) if interval > 0 else None
        if self._contact is None:
            return self._discover(now)
        if self._configured:
            return []
        if self._state in ("KNOWN", "INTRODUCED"):
            actions = self._enter("OPERATIONAL", "heard", "its beats arrive", now)
            if self._acknowledged is None or now - self._acknowledged > _COALESCE:
                actions += self._beat(now)
            return [*actions, *self._drop("hello"), *self._watch(now)]
        actions = []
        if self._state in ("DEGRADED", "INTERRUPTED"):
            actions += self._beat(now)  # it is back: do not wait for the interval to prove it
        return [*actions, *self._check_health(now)]

    def message_received(self, now: float) -> list[Action]:
        """Some other message of it has arrived."""
        self._heard = now
        return self._check_health(now)

    def key_unknown(self, now: float) -> list[Action]:
        """A message claims to be from it, but does not verify, or no key is known: look the key up again."""
        if self._configured:
            return []
        return self._discover(now, flush=True)

    # --------------------------------------------------------------------------------------------------- sending

    @property
    def _configured(self) -> bool:
        return self.kind != "agent"

    def _discover(self, now: float, *, flush: bool = False) -> list[Action]:
        if self._busy("discover", now) or (not self._zones and self._state == "LEGACY"):
            return []
        self._flying["discover"] = now
        flush = flush or (self._discoveries > 0 and self._discoveries % _FLUSH_AFTER == 0)
        return [*self._drop("discover"), *self._drop("refresh"), Discover(self.identity, flush)]

    def _hello(self, now: float) -> list[Action]:
        if self._state != "KNOWN" or self._configured or self._busy("hello", now):
            return []
        self._flying["hello"] = now
        self._hellos += 1
        return [SendHello(self.identity, self._zones[0] if self._zones else "")]

    def _beat(self, now: float) -> list[Action]:
        if self._contact is None or not (self._configured or self._state in ACTIVE):
            return []
        actions = self._drop("coalesce")
        actions.append(self._set("beat", now + self._settings.beat_interval))
        if self._busy("beat", now):
            self._beat_again = True
            return actions
        self._flying["beat"] = now
        self._beat_again = False
        return [*actions, SendBeat(self.identity)]

    def _busy(self, what: str, now: float) -> bool:
        since = self._flying.get(what)
        return since is not None and now - since < _IN_FLIGHT

    # ----------------------------------------------------------------------------------------------------- health

    def _overdue(self, now: float) -> tuple[float, float]:
        """How many intervals hearing and acknowledgements are old; 0 for a direction that does not count."""
        heard = max(self._heard or 0.0, self._acknowledged or 0.0, self._active_since)
        acknowledged = max(self._acknowledged or 0.0, self._active_since)
        hearing = 0.0 if self._configured else (now - heard) / self.peer_interval
        return hearing, (now - acknowledged) / self._settings.beat_interval

    def _health(self, now: float, patience: float = 1.0) -> Literal["OPERATIONAL", "DEGRADED", "INTERRUPTED"]:
        worst = max(self._overdue(now))
        if worst > _INTERRUPTED_AFTER:
            return "INTERRUPTED"
        return "DEGRADED" if worst > _DEGRADED_AFTER * patience else "OPERATIONAL"

    def _check_health(self, now: float) -> list[Action]:
        old = self._state
        if old in ("NEEDED", "LEGACY") or (old == "KNOWN" and not self._configured):
            return []
        if old == "KNOWN":
            return self._watch(now)
        order = ("INTRODUCED", "OPERATIONAL", "DEGRADED", "INTERRUPTED")
        health = self._health(now)
        worse = order.index(health) > order.index(old)
        if worse and self._patience > 1.0:
            health = self._health(now, self._patience)
            worse = order.index(health) > order.index(old)
            if not worse:
                return self._watch(now)
        if health == old or (old == "INTRODUCED" and health == "OPERATIONAL"):
            return self._watch(now)
        actions = self._enter(health, "overdue" if worse else "recovering", self._describe(now), now)
        if worse and not self._configured:
            actions += self._discover(now, flush=True)
        return [*actions, *self._watch(now)]

    def _watch(self, now: float) -> list[Action]:
        """Look again at the moment when health can get worse next."""
        heard = max(self._heard or 0.0, self._acknowledged or 0.0, self._active_since)
        acknowledged = max(self._acknowledged or 0.0, self._active_since)
        moments = [
            base + factor * interval
            for base, interval in ((heard, self.peer_interval), (acknowledged, self._settings.beat_interval))
            for factor in (_DEGRADED_AFTER, _DEGRADED_AFTER * self._patience, _INTERRUPTED_AFTER)
            if base + factor * interval >= now
        ]
        return [self._set("health", min(moments) + 0.001)] if moments else self._drop("health")

    def _describe(self, now: float) -> str:
        hearing, acknowledged = self._overdue(now)
        if max(hearing, acknowledged) <= _DEGRADED_AFTER:
            return "beats and acknowledgements arrive again"
        if hearing > _DEGRADED_AFTER and acknowledged > _DEGRADED_AFTER:
            return f"nothing heard for {hearing * self.peer_interval:.0f} s"
        if acknowledged > _DEGRADED_AFTER:
            since = acknowledged * self._settings.beat_interval
            return f"its beats arrive, but it has acknowledged none of ours for {since:.0f} s"
        return f"it acknowledges our beats, but sent none itself for {hearing * self.peer_interval:.0f} s"

    # --------------------------------------------------------------------------------------------------- small parts

    def _enter(self, new: State, event: str, reason: str, now: float) -> list[Action]:
        old = self._state
        if old == new:
            return []
        if (old, event, new) not in _ALLOWED and (ANY, event, new) not in _ALLOWED:
            raise AssertionError(f"no transition from {old} by {event} to {new}")
        self._state, self._since = new, now
        if old in ("NEEDED", "KNOWN") and new in ACTIVE:
            self._active_since = now
            self._hellos = 0
        return [StateChanged(self.identity, old, new, reason)]

    def _note_acknowledged(self, now: float, round_trip: float | None) -> None:
        self._acknowledged = now
        self._error = None
        if round_trip is not None:
            self._round_trip = round_trip

    def _set(self, name: str, at: float) -> SetTimer:
        self._next[name] = at
        return SetTimer(name, at)

    def _drop(self, name: str) -> list[Action]:
        return [CancelTimer(name)] if self._next.pop(name, None) is not None else []

    def _waiting_for(self, now: float) -> str | None:
        cause = f" (last: {self._error})" if self._error else ""
        short = self.identity.removesuffix(".")
        if self._state == "NEEDED":
            then = self._when("discover", now)
            return f"records of {short} in DNS: we look them up {then}{cause}"
        if self._state == "KNOWN":
            if self._configured:
                return f"{short} has not answered yet: we try again {self._when('beat', now)}{cause}"
            return f"{short} to accept our greeting: we try again {self._when('hello', now)}{cause}"
        if self._state == "INTRODUCED":
            return f"{short} to acknowledge our beat: we try again {self._when('beat', now)}{cause}"
        if self._state in ("DEGRADED", "INTERRUPTED"):
            return f"{short}: {self._describe(now)}; we beat again {self._when('beat', now)}{cause}"
        if self._state == "LEGACY":
            return "nothing: it shares no zone with us and will be forgotten"
        return None

    def _when(self, name: str, now: float) -> str:
        if name in self._flying:
            return "right now"
        at = self._next.get(name)
        return "soon" if at is None else f"in {max(0.0, at - now):.0f} s"


def _keys(contact: Contact) -> frozenset[str]:
    """The keys of a contact, in whatever order the DNS gave them."""
    return frozenset(repr(sorted(jwk.items())) for jwk in (contact.jwk, *contact.other_jwks))
