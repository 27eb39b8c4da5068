"""Elections on a simulated network: machines alone, random delays, losses, repetitions, restarts, all from a seed.

`World` delivers messages and timers on a virtual clock and writes down what every node finalises; `check_safety` judges
the record.  Each promise is also tested against a machine with a planted fault, which must break it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from mpcore.actions import Action, CancelTimer, SetTimer, Store
from mpcore.group.actions import Broadcast, LeaderChanged, Leadership
from mpcore.group.ballot import Ballot
from mpcore.group.election import Election
from mpcore.group.groups import ProviderGroup, group_hash

LETTERS = "abcdefgh"
SLOWEST = 0.2  # seconds, the longest one-way delay
BEAT = 15.0


def group_of(count: int, observers: int = 0) -> ProviderGroup:
    names = tuple(f"agent.{letter}.example." for letter in LETTERS[: count + observers])
    return ProviderGroup(group_hash(names), names, names[:count], ("zone.example.",))


@dataclass
class Record:
    """What the nodes of a world did."""

    finalised: list[tuple[float, str, int, str]] = field(default_factory=list)  # time, node, term, leader
    terms: list[tuple[float, str, int]] = field(default_factory=list)
    votes: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    messages: int = 0


class PythonNode:
    """The machine under test; its disk outlives it."""

    def __init__(self, world: World, identity: str, kind: type[Election], disk: dict[str, int]) -> None:
        self.world, self.identity, self.kind, self.disk = world, identity, kind, disk
        self.alive = True
        self.timers: dict[str, int] = {}
        self.election = self.make()

    def make(self) -> Election:
        return self.kind(
            self.identity, self.world.group, random=self.world.random, term=self.disk.get("term", 0), leader_ttl=3600
        )

    def restart(self) -> None:
        self.timers.clear()
        self.election = self.make()
        self.note()

    def note(self) -> None:
        self.world.record.terms.append((self.world.now, self.identity, self.election.term))

    def perform(self, actions: Iterable[Action]) -> None:
        world = self.world
        for action in actions:
            if isinstance(action, Store):
                assert action.value is not None
                self.disk["term"] = action.value["term"]
            elif isinstance(action, SetTimer):
                serial = next(world.count)
                self.timers[action.name] = serial
                world.at(action.at, lambda name=action.name, serial=serial: self.fire(name, serial))
            elif isinstance(action, CancelTimer):
                self.timers.pop(action.name, None)
            elif isinstance(action, Broadcast):
                for recipient in action.recipients:
                    world.send(self.identity, recipient, action.ballot)
            elif isinstance(action, LeaderChanged) and action.reason.startswith("elected"):
                held = action.leadership
                assert held is not None
                world.record.finalised.append((world.now, self.identity, held.term, held.leader))
        self.note()

    def fire(self, name: str, serial: int) -> None:
        if self.timers.get(name) == serial:
            del self.timers[name]
            self.perform(self.election.timer(name, self.world.now))

    def receive(self, sender: str, ballot: Ballot) -> None:
        self.perform(self.election.received(ballot.kind, sender, ballot.term, ballot.value, self.world.now))

    def hear(self, sender: str, told: Leadership) -> None:
        self.perform(self.election.adopt(told, sender, self.world.now))

    def tell(self) -> Leadership:
        return self.election.announced() or Leadership("", 0, 0.0)

    def edge(self, up: bool) -> None:
        now = self.world.now
        self.perform(self.election.operational(now) if up else self.election.not_operational(now))

    @property
    def state(self) -> tuple[str, int] | None:
        held = self.election.leadership
        idle = self.election.view().phase == "idle"
        return (held.leader, held.term) if held is not None and idle else None


class GoNode:
    """A model of the deployed implementation's rules: no memory, no buffer, no repetition, unanimity within 5 s."""

    def __init__(self, world: World, identity: str) -> None:
        self.world, self.identity = world, identity
        self.alive = True
        self.restart()

    def restart(self) -> None:
        self.leader, self.expiry, self.term = "", 0.0, 0
        self.active = False
        self.vote = 0
        self.votes: dict[str, int] = {}
        self.confirms: dict[str, str] = {}
        self.told = Leadership("", 0, 0.0)
        self.serials: dict[str, int] = {}

    def later(self, name: str, delay: float, what: Callable[[], None]) -> None:
        serial = self.serials[name] = next(self.world.count)
        self.world.at(self.world.now + delay, lambda: what() if self.serials.get(name) == serial else None)

    def broadcast(self, kind: str, **values: object) -> None:
        ballot = Ballot(self.world.group.hash, kind, self.term, **values)  # type: ignore[arg-type]
        for member in self.world.group.members:
            if member != self.identity:
                self.world.send(self.identity, member, ballot)

    def begin(self) -> None:
        self.active = True
        self.vote = 1 + self.world.random.getrandbits(31)
        self.votes, self.confirms = {self.identity: self.vote}, {}
        self.later("vote", 5.0, self.vote_timeout)

    def start(self) -> None:
        self.term += 1
        self.begin()
        self.broadcast("CALL", vote=self.vote)

    def edge(self, up: bool) -> None:
        if up and self.world.group.voters[0] == self.identity:
            self.start()
        elif not up and self.leader:
            self.leader = ""
            self.serials.pop("reelect", None)

    def receive(self, sender: str, ballot: Ballot) -> None:
        if ballot.kind == "CALL":
            if self.active and self.term >= ballot.term:
                return
            self.term = ballot.term
            self.begin()
            if ballot.vote:
                self.votes[sender] = ballot.vote
            self.broadcast("VOTE", vote=self.vote)
        elif not self.active or ballot.term != self.term:
            return
        elif ballot.kind == "VOTE":
            self.votes[sender] = ballot.vote or 0
        else:
            self.confirms[sender] = ballot.winner or ""
            if len(self.confirms) >= len(self.world.group.voters):
                self.finalise()
            return
        if len(self.votes) >= len(self.world.group.voters):
            self.determine()

    def determine(self) -> None:
        winner = max(sorted(self.votes), key=lambda voter: self.votes[voter])
        self.confirms[self.identity] = winner if self.votes[winner] else ""
        self.later("confirm", 5.0, self.confirm_timeout)
        self.serials.pop("vote", None)
        self.broadcast("CONFIRM", winner=self.confirms[self.identity])

    def vote_timeout(self) -> None:
        if self.active and len(self.votes) < len(self.world.group.voters):
            self.abort()

    def confirm_timeout(self) -> None:
        if self.active:
            if len(self.confirms) >= len(self.world.group.voters):
                self.finalise()
            else:
                self.abort()

    def abort(self) -> None:
        self.active = False
        self.later("retry", self.world.random.uniform(0.5, 1.5), self.start)

    def finalise(self) -> None:
        winners = set(self.confirms.values())
        if len(winners) != 1 or "" in winners:
            self.abort()
            return
        self.leader, self.expiry, self.active = winners.pop(), self.world.now + 3600, False
        self.serials.pop("confirm", None)
        self.later("reelect", 0.9 * 3600, self.start)
        self.world.record.finalised.append((self.world.now, self.identity, self.term, self.leader))

    def tell(self) -> Leadership:
        return Leadership(self.leader, self.term, self.expiry) if self.term else self.told

    def hear(self, sender: str, told: Leadership) -> None:
        if told.term <= self.told.term:
            return
        self.told = told
        if told.leader and told.term > self.term:
            self.leader, self.term, self.expiry, self.active = told.leader, told.term, told.expires, False
            self.later("reelect", 0.9 * 3600, self.start)

    @property
    def state(self) -> tuple[str, int] | None:
        return (self.leader, self.term) if self.leader and not self.active else None


class World:
    """Nodes, a network between them, and the time."""

    def __init__(
        self,
        kinds: str,
        seed: int,
        *,
        election: type[Election] = Election,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay: tuple[float, float] = (0.02, SLOWEST),
        gossip: bool = False,
        observers: int = 0,
    ) -> None:
        self.random = random.Random(seed)
        self.group = group_of(len(kinds), observers)
        self.loss, self.duplication, self.delay = loss, duplication, delay
        self.now = 1_780_000_000.0
        self.count = itertools.count()
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.record = Record()
        self.nodes: dict[str, PythonNode | GoNode] = {}
        for identity, kind in zip(self.group.members, kinds + "P" * observers, strict=True):
            self.nodes[identity] = GoNode(self, identity) if kind == "G" else PythonNode(self, identity, election, {})
        if gossip:
            for index, identity in enumerate(self.group.members):
                self.at(self.now + index + self.random.random(), lambda identity=identity: self.beat(identity))

    def at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (moment, next(self.count), what))

    def later(self, delay: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float | None:
        """Run; return the seconds until *until* was true, `None` if it never was."""
        start = self.now
        while self.heap and self.heap[0][0] <= start + seconds:
            self.now, _, what = heapq.heappop(self.heap)
            what()
            if until is not None and until():
                return self.now - start
        self.now = start + seconds
        return None

    def send(self, sender: str, recipient: str, ballot: Ballot) -> None:
        self.record.messages += 1
        if ballot.vote and ballot.kind != "CONFIRM":
            self.record.votes.setdefault((sender, ballot.term), set()).add(ballot.vote)
        if not self.nodes[sender].alive:
            return
        for _ in range(2 if self.random.random() < self.duplication else 1):
            if self.random.random() >= self.loss:
                self.later(self.random.uniform(*self.delay), lambda: self.deliver(sender, recipient, ballot))

    def deliver(self, sender: str, recipient: str, ballot: Ballot) -> None:
        node = self.nodes[recipient]
        if node.alive:
            node.receive(sender, ballot)

    def beat(self, identity: str) -> None:
        node = self.nodes[identity]
        for other in self.group.members:
            if other != identity and node.alive and self.nodes[other].alive:
                told = node.tell()
                self.later(
                    self.random.uniform(*self.delay),
                    lambda other=other, told=told: self.nodes[other].hear(identity, told),
                )
        self.later(BEAT, lambda: self.beat(identity))

    def rise(self, spread: float = 0.0) -> None:
        """The group becomes operational, seen by each node within *spread* seconds."""
        for node in self.nodes.values():
            if spread:
                self.later(self.random.uniform(0, spread), lambda node=node: node.edge(True))
            else:
                node.edge(True)

    def fall(self) -> None:
        for node in self.nodes.values():
            node.edge(False)

    def settled(self) -> bool:
        states = {self.nodes[voter].state for voter in self.group.voters}
        return len(states) == 1 and None not in states

    def state(self) -> tuple[str, int]:
        assert self.settled()
        state = self.nodes[self.group.voters[0]].state
        assert state is not None
        return state


def check_safety(world: World) -> None:
    """At most one finalised leader per term; no node's term goes back; a node has one vote per term."""
    leaders: dict[int, str] = {}
    for _, node, term, leader in world.record.finalised:
        assert leaders.setdefault(term, leader) == leader, f"term {term} has two leaders, {node} says {leader}"
    highest: dict[str, int] = {}
    for _, node, term in world.record.terms:
        assert term >= highest.get(node, 0), f"the term of {node} went back to {term}"
        highest[node] = term
    for (node, term), votes in world.record.votes.items():
        if isinstance(world.nodes[node], PythonNode):
            assert len(votes) == 1, f"{node} voted {len(votes)} times in term {term}"


def first_election(kinds: str, seed: int, limit: float, **options: object) -> float | None:
    world = World(kinds, seed, **options)  # type: ignore[arg-type]
    world.rise()
    took = world.run(limit, world.settled)
    world.run(10)
    check_safety(world)
    assert took is None or world.settled()
    return took


# ------------------------------------------------------------------------------------------------------------ liveness


@pytest.mark.parametrize("count", range(2, 9))
def test_loss_free_first_election_takes_three_one_way_delays(count: int) -> None:
    for seed in range(40):
        took = first_election("P" * count, seed, 60)
        assert took is not None
        assert took <= 3 * SLOWEST


@pytest.mark.parametrize("count", range(2, 9))
def test_a_late_rising_edge_does_not_delay_the_others(count: int) -> None:
    """Nodes see the group operational at different moments: three delays after the smallest voter does."""
    for seed in range(20):
        world = World("P" * count, seed)
        world.rise(spread=1.0)
        took = world.run(60, world.settled)
        assert took is not None
        assert took <= 1.0 + 3 * SLOWEST
        world.run(30)
        check_safety(world)
        assert {term for _, _, term, _ in world.record.finalised} == {1}


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_with_ten_percent_loss_nearly_all_elections_end_within_five_seconds(count: int) -> None:
    seeds = 200 if count < 8 else 100
    times = [first_election("P" * count, seed, 120, loss=0.1, duplication=0.05) for seed in range(seeds)]
    assert all(took is not None for took in times)
    assert sum(1 for took in times if took is not None and took <= 5.0) >= 0.99 * seeds


def test_reelection_has_one_round_and_one_caller() -> None:
    for seed in range(20):
        world = World("PPPPP", seed)
        world.rise()
        world.run(10)
        before = world.record.messages
        world.run(0.9 * 3600 + 200)
        check_safety(world)
        assert world.state()[1] == 2
        assert [term for _, _, term, _ in world.record.finalised].count(2) == 5
        assert world.record.messages - before < 5 * 4 * 20


def test_if_the_smallest_voter_is_silent_the_next_one_calls() -> None:
    world = World("PPP", 1)
    world.group = group_of(3)
    for identity in world.group.voters[1:]:
        world.nodes[identity].edge(True)  # the smallest one has not seen the edge
    assert world.run(19.9, world.settled) is None
    assert world.run(2, world.settled) is not None


def test_a_dead_voter_causes_a_bounded_number_of_rounds() -> None:
    world = World("PPP", 3)
    world.nodes[world.group.voters[2]].alive = False
    world.rise()
    world.run(600)
    node = world.nodes[world.group.voters[0]]
    assert isinstance(node, PythonNode)
    assert node.election.term <= 25  # the deployed rules would be at about 100
    assert "agent.c.example." in (node.election.view().reason or "")
    world.fall()
    world.run(120)
    term = node.election.term
    world.run(3600)
    assert node.election.term == term
    check_safety(world)


def test_observers_learn_the_leader_by_gossip_and_start_nothing() -> None:
    for seed in range(10):
        world = World("PPP", seed, gossip=True, observers=1)
        world.rise()
        world.run(60)
        leader, term = world.state()
        observer = world.nodes[world.group.members[3]]
        assert observer.state == (leader, term)
        world.run(2 * 3600)
        check_safety(world)
        assert all(node != observer for _, node, _, _ in world.record.finalised)
        assert observer.state == world.state()


# ------------------------------------------------------------------------------------------------------------ restarts


def storm(
    kinds: str, seed: int, election: type[Election] = Election, *, forget: bool = False, restarts: int = 12
) -> World:
    """Losses, repetitions, restarts and falling edges, then quiet."""
    world = World(kinds, seed, election=election, loss=0.1, duplication=0.1, delay=(0.02, 2.0), gossip=True)
    world.rise()
    for _ in range(restarts):
        world.run(world.random.uniform(0, 4))
        node = world.random.choice(list(world.nodes.values()))
        if forget and isinstance(node, PythonNode):
            node.disk.clear()
        node.restart()
        if world.random.random() < 0.5:
            node.edge(True)
        else:
            world.later(world.random.uniform(0, 10), lambda node=node: node.edge(True))
        if world.random.random() < 0.3:
            world.fall()
            world.later(1.0, world.rise)
    world.loss, world.delay = 0.0, (0.02, SLOWEST)
    world.run(90)
    world.fall()
    world.rise()
    world.run(400, world.settled)
    return world


@pytest.mark.parametrize("count", [2, 3, 5])
def test_restarts_losses_and_reordering_never_break_safety(count: int) -> None:
    for seed in range(40):
        world = storm("P" * count, seed)
        check_safety(world)
        assert world.settled()


def test_a_restarted_node_keeps_its_term_and_learns_the_leader() -> None:
    for seed in range(20):
        world = World("PPP", seed, gossip=True)
        world.rise()
        world.run(5)
        leader, term = world.state()
        node = world.nodes[world.group.voters[seed % 3]]
        node.restart()
        world.run(20)
        assert node.state == (leader, term)
        node.edge(True)
        world.run(60)
        assert world.state() == (leader, term)
        check_safety(world)


# --------------------------------------------------------------------------------------------- with the deployed rules


@pytest.mark.parametrize("kinds", ["PG", "GP", "PPG", "PGP", "GPP", "GPG", "PGG"])
def test_mixed_groups_elect(kinds: str) -> None:
    times = []
    for seed in range(40):
        took = first_election(kinds, seed, 60)
        assert took is not None
        times.append(took)
    assert sorted(times)[len(times) // 2] < 6


@pytest.mark.parametrize("kinds", ["PG", "GP", "PPG", "GPP", "GPG"])
def test_a_restarted_go_node_is_called_to_a_higher_term(kinds: str) -> None:
    """It begins again at term 1; the group must not follow it back."""
    for seed in range(15):
        world = World(kinds, seed, gossip=True)
        world.rise()
        for _ in range(3):
            world.run(20)
            world.fall()
            world.rise()
        assert world.run(60, world.settled) is not None or world.settled()
        term = world.state()[1]
        assert term >= 3
        restarted = next(node for node in world.nodes.values() if isinstance(node, GoNode))
        world.fall()
        restarted.restart()
        world.rise()
        world.run(120)
        check_python_terms(world)
        assert world.state()[1] > term


def check_python_terms(world: World) -> None:
    highest: dict[str, int] = {}
    for _, node, term in world.record.terms:
        assert term >= highest.get(node, 0)
        highest[node] = term


def test_old_leader_under_a_new_term_does_not_block_the_round() -> None:
    """During a round the deployed implementation gossips its old leader under the new term."""
    for seed in range(20):
        world = World("PGP", seed, gossip=True)
        world.rise()
        world.run(40)
        first = world.state()
        go = world.nodes[world.group.voters[1]]
        assert isinstance(go, GoNode)
        told = Leadership(go.leader, go.term + 1, go.expiry)
        for identity in ("agent.a.example.", "agent.c.example."):
            world.nodes[identity].hear(go.identity, told)
            assert world.nodes[identity].state == first
        go.start()
        world.run(60)
        check_safety(world)
        assert world.state()[1] > first[1]


def test_a_leaderless_go_voter_is_healed() -> None:
    """It alone saw a falling edge; nobody else does, and gossip of the same term does not reach it."""
    for seed in range(10):
        world = World("PPG", seed, gossip=True)
        world.rise()
        world.run(60)
        go = world.nodes[world.group.voters[2]]
        go.edge(False)
        assert not world.settled()
        assert world.run(200, world.settled) is not None
        check_safety(world)


# ------------------------------------------------------------------------------------------------------ planted faults


class Forgetful(Election):
    """Drops a VOTE that overtakes its CALL, and does not send anything twice."""

    def _keep_early(self, *_: object) -> list[Action]:  # type: ignore[override]
        return []

    def _on_resend(self, now: float) -> list[Action]:
        return []


class Unrepeating(Election):
    """Does not send anything twice."""

    def _on_resend(self, now: float) -> list[Action]:
        return []


class Hasty(Election):
    """Takes the highest of two votes for the winner, and two confirmations for all."""

    def _advance(self, now: float) -> list[Action]:
        current = self._current()
        if self._phase == "voting" and len(current.votes) >= 2:
            for voter in self._group.voters:
                current.votes.setdefault(voter, 0)
        actions = super()._advance(now)
        if self._phase == "confirming" and current.winner is not None:
            for voter in self._group.voters:
                current.confirms.setdefault(voter, current.winner)
            actions += super()._advance(now)
        return actions


class Follower(Election):
    """Joins any CALL, also that of a lower term, as the deployed implementation does."""

    def _called(self, sender: str, term: int, vote: int, now: float) -> list[Action]:
        if self._phase == "idle":
            self._voted = self._seen = term - 1
        return super()._called(sender, term, vote, now)


def test_without_the_buffer_elections_are_slower() -> None:
    times = [first_election("PPPP", seed, 60, election=Forgetful) for seed in range(40)]
    assert any(took is None or took > 3 * SLOWEST for took in times)


def test_without_repetition_losses_delay_elections() -> None:
    times = [first_election("PPPPP", seed, 120, loss=0.1, election=Unrepeating) for seed in range(60)]
    assert sum(1 for took in times if took is not None and took <= 5.0) < 30


def test_without_unanimity_a_term_has_two_leaders() -> None:
    def elect() -> None:
        for seed in range(40):
            first_election("PPPPP", seed, 60, election=Hasty)

    with pytest.raises(AssertionError, match="two leaders"):
        elect()


def test_without_the_stored_term_terms_go_back() -> None:
    def run() -> None:
        for seed in range(40):
            check_safety(storm("PPP", seed, forget=True))

    with pytest.raises(AssertionError, match=r"went back|times in term"):
        run()


def test_joining_lower_calls_lets_terms_go_back() -> None:
    def restart(election: type[Election]) -> None:
        for seed in range(15):
            world = World("GPP", seed, gossip=False, election=election)
            world.rise()
            for _ in range(3):
                world.run(20)
                world.fall()
                world.rise()
            world.run(60)
            world.fall()
            world.nodes[world.group.voters[0]].restart()
            world.rise()
            world.run(60)
            check_python_terms(world)

    restart(Election)
    with pytest.raises(AssertionError):
        restart(Follower)


def test_the_same_seed_gives_the_same_run() -> None:
    one, two = storm("PPG", 7), storm("PPG", 7)
    assert one.record == two.record
    assert one.record.finalised
