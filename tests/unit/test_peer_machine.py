"""The relationship with a peer: quick start, two directions of health, and words for what is awaited."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.actions import Action, CancelTimer, SetTimer
from mpcore.peer.actions import Discover, Forget, SendBeat, SendHello, StateChanged
from mpcore.peer.discovery import Contact
from mpcore.peer.machine import ACTIVE, Peer, PeerSettings

BRAVO = "agent.bravo.example."
NOW = 1_780_000_000.0
CONTACT = Contact(("192.0.2.1",), 5353, {"kty": "EC"}, expires=NOW + 600)
MOVED = Contact(("192.0.2.2",), 5353, {"kty": "EC"}, expires=NOW + 600)
ZONES = ("a.example.", "b.example.")


def make(**settings: float) -> Peer:
    peer = Peer(BRAVO, settings=PeerSettings(**settings))  # type: ignore[arg-type]
    peer.set_zones(ZONES, NOW)
    return peer


def known(**settings: float) -> Peer:
    peer = make(**settings)
    peer.start(NOW)
    peer.discovered(CONTACT, NOW)
    return peer


def introduced(**settings: float) -> Peer:
    peer = known(**settings)
    peer.hello_accepted(NOW, 0.01)
    return peer


def operational(**settings: float) -> Peer:
    peer = introduced(**settings)
    peer.beat_acknowledged(NOW, 0.02)
    assert peer.state == "OPERATIONAL"
    return peer


def wishes(actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, SetTimer | CancelTimer | StateChanged)]


def moves(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.old, action.new) for action in actions if isinstance(action, StateChanged)]


def timers(actions: list[Action]) -> dict[str, float]:
    return {action.name: action.at for action in actions if isinstance(action, SetTimer)}


# ------------------------------------------------------------------------------------------------------ a quick start


def test_nothing_waits_for_a_tick() -> None:
    peer = make()
    assert wishes(peer.start(NOW)) == [Discover(BRAVO)]
    actions = peer.discovered(CONTACT, NOW + 1)
    assert wishes(actions) == [SendHello(BRAVO, "a.example.")]
    assert moves(actions) == [("NEEDED", "KNOWN")]
    actions = peer.hello_accepted(NOW + 1.1)
    assert wishes(actions) == [SendBeat(BRAVO)]
    assert moves(actions) == [("KNOWN", "INTRODUCED")]
    actions = peer.beat_acknowledged(NOW + 1.2, 0.05)
    assert wishes(actions) == []
    assert moves(actions) == [("INTRODUCED", "OPERATIONAL")]
    view = peer.view(NOW + 2)
    assert (view.state, view.since, view.address) == ("OPERATIONAL", NOW + 1.2, "192.0.2.1:5353")
    assert (view.last_acknowledged, view.round_trip, view.waiting_for) == (NOW + 1.2, 0.05, None)


def test_a_side_that_is_greeted_first_beats_at_once() -> None:
    peer = known()
    actions = peer.hello_received(NOW + 1)
    assert moves(actions) == [("KNOWN", "INTRODUCED")]
    assert wishes(actions) == [SendBeat(BRAVO)]
    assert peer.hello_failed("no answer", NOW + 5) == [], "our own greeting does not matter any more"


def test_a_stranger_that_greets_is_looked_up_and_beaten() -> None:
    peer = make()
    assert wishes(peer.hello_received(NOW)) == [Discover(BRAVO)]
    assert peer.state == "NEEDED"
    actions = peer.discovered(CONTACT, NOW + 1)
    assert moves(actions) == [("NEEDED", "INTRODUCED")]
    assert wishes(actions) == [SendBeat(BRAVO)]


def test_a_beat_makes_it_operational_even_without_a_greeting() -> None:
    peer = known()
    actions = peer.beat_received(0, NOW + 1)
    assert moves(actions) == [("KNOWN", "OPERATIONAL")]
    assert wishes(actions) == [SendBeat(BRAVO)]
    peer = make()
    assert wishes(peer.beat_received(0, NOW)) == [Discover(BRAVO)]
    assert moves(peer.discovered(CONTACT, NOW)) == [("NEEDED", "INTRODUCED")]


def test_a_change_of_our_row_is_beaten_once_after_fifty_milliseconds() -> None:
    peer = operational()
    (timer,) = peer.own_row_changed(NOW + 3)
    assert timer == SetTimer("coalesce", NOW + 3.05)
    assert peer.own_row_changed(NOW + 3.01) == []
    actions = peer.timer("coalesce", NOW + 3.05)
    assert wishes(actions) == [SendBeat(BRAVO)]
    assert timers(actions)["beat"] == NOW + 3.05 + 15
    assert make().own_row_changed(NOW) == []


def test_a_change_while_a_beat_is_under_way_is_beaten_after_it() -> None:
    peer = introduced()  # a beat is under way
    peer.own_row_changed(NOW)
    assert wishes(peer.timer("coalesce", NOW + 0.05)) == []
    assert wishes(peer.beat_acknowledged(NOW + 0.1)) == [SendBeat(BRAVO)]
    assert wishes(peer.beat_acknowledged(NOW + 0.2)) == []


# ------------------------------------------------------------------------------------------------ discovery, greeting


def test_discovery_is_retried_quickly_at_first_and_with_an_empty_cache_at_every_third_failure() -> None:
    peer = make(discovery_retry=15)
    now, delays, flushes = NOW, [], []
    actions = peer.start(now)
    for _ in range(9):
        flushes.append(next(action.flush for action in actions if isinstance(action, Discover)))
        at = timers(peer.discovery_failed("no URI record", now))["discover"]
        delays.append(at - now)
        now = at
        actions = peer.timer("discover", now)
    assert delays == [0.5, 1, 2, 4, 8, 15, 15, 15, 15]
    assert flushes == [False, False, False, True, False, False, True, False, False]
    peer.discovery_failed("no URI record", now)
    assert peer.view(now).waiting_for == (
        "records of agent.bravo.example in DNS: we look them up in 15 s (last: no URI record)"
    )


def test_greetings_are_repeated_quickly_at_first_and_the_address_is_looked_up_again() -> None:
    peer = known(hello_fast_attempts=3, hello_fast_interval=1, hello_retry=15)
    now, delays, lookups = NOW, [], []
    for _ in range(5):
        actions = peer.hello_failed("timed out", now)
        at = timers(actions)["hello"]
        delays.append(at - now)
        lookups.append(Discover(BRAVO, True) in actions)
        now = at
        assert wishes(peer.timer("hello", now)) == [SendHello(BRAVO, "a.example.")]
    assert delays == [1, 1, 15, 15, 15]
    assert lookups == [False, False, False, True, False]
    assert "to accept our greeting" in (peer.view(now).waiting_for or "")


def test_a_moved_peer_is_tried_at_its_new_place_at_once() -> None:
    peer = known()
    peer.hello_failed("timed out", NOW)
    assert wishes(peer.discovered(MOVED, NOW + 1)) == [SendHello(BRAVO, "a.example.")]
    peer = operational()
    assert wishes(peer.discovered(MOVED, NOW + 1)) == [SendBeat(BRAVO)]
    assert peer.view(NOW).address == "192.0.2.2:5353"
    assert wishes(peer.discovered(MOVED, NOW + 2)) == []


def test_contacts_are_refreshed_when_their_records_expire() -> None:
    peer = make()
    peer.start(NOW)
    assert timers(peer.discovered(CONTACT, NOW))["refresh"] == NOW + 600
    assert wishes(peer.timer("refresh", NOW + 600)) == [Discover(BRAVO)]
    at = timers(peer.discovery_failed("SERVFAIL", NOW + 601))["refresh"]
    assert NOW + 602 < at <= NOW + 601 + 3600
    assert peer.ready is False
    assert peer.contact == CONTACT, "a failed refresh forgets nothing"


def test_an_unknown_key_is_looked_up_with_an_empty_cache() -> None:
    peer = operational()
    assert wishes(peer.key_unknown(NOW)) == [Discover(BRAVO, True)]
    assert peer.key_unknown(NOW + 1) == [], "one at a time"
    assert wishes(peer.key_unknown(NOW + 100)) == [Discover(BRAVO, True)], "an outcome that never came"


# ------------------------------------------------------------------------------------------------------------- health


class Side:
    """A peer machine whose beats succeed or fail as told, on a clock that runs from timer to timer."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.now, self.count = peer, NOW, itertools.count()
        self.heap: list[tuple[float, int, Callable[[], list[Action]]]] = []
        self.due: dict[str, float] = {}
        self.reachable = True
        self.history: list[tuple[float, str, str]] = []
        self.beats: list[float] = []

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SetTimer):
                self.due[action.name] = action.at
                self.at(action.at, lambda name=action.name, at=action.at: self.fire(name, at))
            elif isinstance(action, CancelTimer):
                self.due.pop(action.name, None)
            elif isinstance(action, StateChanged):
                self.history.append((self.now - NOW, action.new, action.reason))
            elif isinstance(action, SendBeat):
                self.beats.append(self.now - NOW)
                if self.reachable:
                    self.at(self.now + 0.01, lambda: self.peer.beat_acknowledged(self.now, 0.01))
                else:
                    self.at(self.now + 5, lambda: self.peer.beat_failed("timed out", self.now))

    def at(self, moment: float, what: Callable[[], list[Action]]) -> None:
        heapq.heappush(self.heap, (moment, next(self.count), what))

    def fire(self, name: str, at: float) -> list[Action]:
        if self.due.get(name) != at:
            return []
        del self.due[name]
        return self.peer.timer(name, self.now)

    def run(self, until: float) -> None:
        while self.heap and self.heap[0][0] <= NOW + until:
            self.now, _, what = heapq.heappop(self.heap)
            self.do(what())
        self.now = NOW + until

    def hear_every(self, interval: float, start: float, end: float, said: float) -> None:
        moment = start
        while moment < end:
            self.at(NOW + moment, lambda: self.peer.beat_received(said, self.now))
            moment += interval


def side_of(peer: Peer) -> Side:
    side = Side(peer)
    side.do(peer.start(NOW))
    side.do(peer.discovered(CONTACT, NOW))
    side.do(peer.hello_accepted(NOW))
    return side


def test_steady_beats_keep_it_operational() -> None:
    side = side_of(make())
    side.hear_every(15, 5, 1000, 15)
    side.run(1000)
    assert [state for _, state, _ in side.history] == ["KNOWN", "INTRODUCED", "OPERATIONAL"]
    assert side.beats[1:4] == [15, 30, 45]


def test_a_dead_peer_is_degraded_after_two_intervals_and_interrupted_after_ten() -> None:
    side = side_of(make())
    side.hear_every(15, 0, 100, 15)
    side.run(100)  # the last acknowledgement came at 90.01
    side.reachable = False
    side.history.clear()
    side.run(400)
    assert [(round(at), state) for at, state, _ in side.history] == [(120, "DEGRADED"), (240, "INTERRUPTED")]
    assert "nothing heard for" in side.history[0][2] or "acknowledged none" in side.history[0][2]
    side.reachable = True
    side.history.clear()
    side.hear_every(15, 400, 500, 15)
    side.run(406)
    assert [state for _, state, _ in side.history] == ["OPERATIONAL"], "its first beat brings it back"


def test_beats_that_arrive_do_not_hide_that_ours_do_not() -> None:
    """One-way: no flapping, as long as its beats come and ours are not acknowledged."""
    side = side_of(make())
    side.hear_every(15, 0, 600, 15)
    side.run(100)
    side.reachable = False
    side.history.clear()
    side.run(600)
    assert [state for _, state, _ in side.history] == ["DEGRADED", "INTERRUPTED"]
    assert "its beats arrive, but it has acknowledged none of ours" in side.history[0][2]
    assert "its beats arrive" in (side.peer.view(side.now).waiting_for or "")


def test_silence_is_judged_by_the_interval_that_the_peer_announces() -> None:
    side = side_of(make())
    side.hear_every(2, 0, 100, 2)
    side.run(100)
    side.history.clear()
    side.run(200)
    assert [state for _, state, _ in side.history][:1] == ["DEGRADED"]
    assert "it acknowledges our beats, but sent none itself" in side.history[0][2]
    slow = side_of(make())
    slow.hear_every(600, 0, 3000, 600)
    slow.run(3000)
    assert [state for _, state, _ in slow.history] == ["KNOWN", "INTRODUCED", "OPERATIONAL"]


def test_an_interval_of_zero_counts_as_thirty_seconds() -> None:
    peer = operational()
    peer.beat_received(0, NOW)
    assert peer.peer_interval == 30
    assert peer.view(NOW).beat_interval is None
    peer.beat_received(7, NOW)
    assert peer.view(NOW).beat_interval == 7


def test_failed_beats_are_repeated_soon() -> None:
    side = side_of(make(beat_interval=60))
    side.run(59)
    side.reachable = False
    side.beats.clear()
    side.run(100)
    assert side.beats == [60, 66, 73, 82, 95]


def test_other_acknowledged_messages_count_as_life() -> None:
    peer = operational()
    peer.message_acknowledged(NOW + 29, 0.3)
    assert moves(peer.timer("health", NOW + 31)) == []
    assert peer.state == "OPERATIONAL"
    assert peer.view(NOW).round_trip == 0.3
    assert peer.message_failed("refused", NOW + 30) == []
    assert peer.view(NOW).last_error == "refused"


def test_degrading_looks_the_address_up_again() -> None:
    side = side_of(make())
    side.reachable = False
    peer = side.peer
    peer.beat_acknowledged(NOW, None)
    actions = peer.timer("health", NOW + 30.1)
    assert Discover(BRAVO, True) in actions


# --------------------------------------------------------------------------------------------- zones, reset, configured


def test_without_shared_zones_it_is_legacy_and_forgotten() -> None:
    peer = operational(legacy_grace=100)
    actions = peer.set_zones((), NOW + 10)
    assert moves(actions) == [("OPERATIONAL", "LEGACY")]
    assert timers(actions) == {"forget": NOW + 110}
    assert peer.ready
    assert peer.timer("forget", NOW + 110) == [Forget(BRAVO)]
    actions = peer.set_zones(ZONES, NOW + 20)
    assert moves(actions) == [("LEGACY", "OPERATIONAL")]
    assert CancelTimer("forget") in actions
    assert peer.timer("forget", NOW + 110) == []


@pytest.mark.parametrize(("pause", "state"), [(35, "DEGRADED"), (400, "INTERRUPTED")])
def test_coming_back_from_legacy_shows_the_true_health(pause: float, state: str) -> None:
    peer = operational()
    peer.set_zones((), NOW)
    actions = peer.set_zones(ZONES, NOW + pause)
    assert moves(actions) == [("LEGACY", state)]


def test_a_peer_that_was_never_found_is_forgotten_too() -> None:
    peer = make()
    peer.start(NOW)
    assert moves(peer.set_zones((), NOW)) == []
    assert peer.timer("forget", NOW + 3600) == [Forget(BRAVO)]


def test_reset_begins_anew_with_an_empty_cache() -> None:
    peer = operational()
    actions = peer.reset(NOW + 5)
    assert moves(actions) == [("OPERATIONAL", "NEEDED")]
    assert Discover(BRAVO, True) in actions
    assert peer.contact is None
    assert not peer.ready
    assert peer.beat_acknowledged(NOW + 6) == [], "the outcome of an exchange from before"
    assert wishes(peer.discovered(CONTACT, NOW + 7)) == [SendHello(BRAVO, "a.example.")]


def test_a_configured_peer_is_beaten_at_once_and_never_greeted() -> None:
    peer = Peer("combiner.alpha.example.", "combiner", contact=CONTACT)
    assert peer.ready
    actions = peer.start(NOW)
    assert wishes(actions) == [SendBeat(peer.identity)]
    assert peer.state == "KNOWN"
    actions = peer.beat_failed("refused", NOW + 1)
    assert timers(actions)["beat"] == NOW + 2
    assert "has not answered yet" in (peer.view(NOW + 1).waiting_for or "")
    assert wishes(peer.timer("beat", NOW + 2)) == [SendBeat(peer.identity)]
    assert moves(peer.beat_acknowledged(NOW + 2)) == [("KNOWN", "OPERATIONAL")]
    assert moves(peer.timer("health", NOW + 2 + 31)) == [("OPERATIONAL", "DEGRADED")]
    assert wishes(peer.key_unknown(NOW)) == []
    assert peer.ready
    assert moves(peer.reset(NOW + 50)) == [("DEGRADED", "KNOWN")]
    assert peer.set_zones((), NOW) == []


EVENTS = (
    "hello_accepted",
    "hello_failed",
    "hello_received",
    "beat_acknowledged",
    "beat_failed",
    "beat_received",
    "discovered",
    "moved",
    "discovery_failed",
    "message_received",
    "message_acknowledged",
    "key_unknown",
    "own_row",
    "reset",
    "no_zones",
    "zones",
    "timers",
)
PAUSES = st.sampled_from([0.0, 0.05, 1.0, 10.0, 40.0, 400.0])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), PAUSES), max_size=40), st.booleans())
def test_any_order_of_events_keeps_to_the_table_and_never_stalls(events: list[tuple[str, float]], ours: bool) -> None:
    peer = Peer("combiner.example.", "combiner", contact=CONTACT) if ours else make()
    due: dict[str, float] = {}
    now = NOW

    def do(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SetTimer):
                due[action.name] = action.at
            elif isinstance(action, CancelTimer):
                due.pop(action.name, None)

    calls: dict[str, Callable[[], list[Action]]] = {
        "hello_accepted": lambda: peer.hello_accepted(now),
        "hello_failed": lambda: peer.hello_failed("no", now),
        "beat_acknowledged": lambda: peer.beat_acknowledged(now),
        "beat_failed": lambda: peer.beat_failed("no", now),
        "discovered": lambda: peer.discovered(CONTACT, now),
        "moved": lambda: peer.discovered(MOVED, now),
        "discovery_failed": lambda: peer.discovery_failed("no", now),
        "hello_received": lambda: peer.hello_received(now),
        "beat_received": lambda: peer.beat_received(15, now),
        "message_received": lambda: peer.message_received(now),
        "message_acknowledged": lambda: peer.message_acknowledged(now),
        "key_unknown": lambda: peer.key_unknown(now),
        "own_row": lambda: peer.own_row_changed(now),
        "reset": lambda: peer.reset(now),
        "no_zones": lambda: peer.set_zones((), now),
        "zones": lambda: peer.set_zones(ZONES, now),
        "timers": list,
    }
    do(peer.start(now))
    for event, pause in events:
        now += pause
        for name in sorted(name for name, at in due.items() if at <= now):
            if due.pop(name, None) is not None:
                do(peer.timer(name, now))
        do(calls[event]())
        view = peer.view(now)
        assert (view.waiting_for is None) == (view.state == "OPERATIONAL")
        assert peer.ready or peer.state not in ACTIVE
        awaited = {"NEEDED": "discover", "KNOWN": "beat" if ours else "hello"}.get(view.state, "beat")
        assert awaited in due or awaited in peer._flying
