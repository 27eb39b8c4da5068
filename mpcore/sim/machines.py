"""The election machines of one group without nodes around them: thousands of seeds, hours of virtual time.

Members beat each other with rows that say whom they hear, and elect by the machine of :mod:`mpcore.group.election` that
nodes run.  Everything goes wrong at random for most of the run: losses, repetitions, delays that reorder, links dead in
one direction, partitions, links that flap, slow members, members that stand still, crashes before and after a term is
stored, clocks that differ.  Then everything is whole, and the members must agree on a leader.

A run is a function of its seed: one heap of events, one generator.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from mpcore.actions import Action, CancelTimer, SetTimer, Store
from mpcore.group.actions import Broadcast, LeaderChanged, Leadership
from mpcore.group.ballot import Ballot
from mpcore.group.election import Election
from mpcore.group.groups import ProviderGroup, group_hash

__all__ = ("MachineRun", "Outcome", "run_machines")

_EPOCH = 1_780_000_000.0
_MOST_EVENTS = 60_000
_Rows = dict[str, tuple[float, frozenset[str]]]


@dataclass
class Outcome:
    """What came of a run.

    :param breaches: what must not happen and did, in words.
    :param healed_in: seconds from the last fault until all members agreed on a leader; ``None``: they did not.
    :param matrix_in: seconds until all matrices were complete.
    :param terms: the highest term.
    :param faults: how many things went wrong.
    :param digest: of all votes and leaderships and their moments: the same seed gives the same one.
    """

    seed: int
    breaches: list[str] = field(default_factory=list)
    healed_in: float | None = None
    matrix_in: float | None = None
    terms: int = 0
    faults: int = 0
    events: int = 0
    digest: int = 0


class _Member:
    """One member: its machine, its rows, and its disk, which outlives it."""

    def __init__(self, run: MachineRun, identity: str, skew: float) -> None:
        self.run, self.identity, self.skew = run, identity, skew
        self.stored = 0
        self.alive = False
        self.paused_until = 0.0
        self.slow = 0.0
        self.life = 0
        self.crash_on_store: str | None = None

    @property
    def clock(self) -> float:
        return self.run.now + self.skew

    def start(self) -> None:
        run = self.run
        self.alive, self.life = True, self.life + 1
        self.timers: dict[str, int] = {}
        self.rows: _Rows = {}
        self.heard: dict[str, float] = {}
        self.election = run.kind(
            self.identity,
            run.group,
            random=run.random,
            term=self.stored,
            leader_ttl=run.leader_ttl,
            beat_interval=run.beat,
        )
        self.own_row()
        self.beat(self.life, again=True)

    def crash(self) -> None:
        self.alive = False
        self.life += 1

    # ---------------------------------------------------------------- gossip

    def own_row(self) -> bool:
        now = self.run.now
        hears = frozenset(other for other, at in self.heard.items() if now - at <= 2 * self.run.beat)
        before = self.rows.get(self.identity)
        self.rows[self.identity] = (self.clock, hears)
        return before is None or before[1] != hears

    def beat(self, life: int, *, again: bool = False) -> None:
        if life != self.life or not self.alive:
            return
        self.own_row()
        self.evaluate()
        rows = dict(self.rows)
        told = self.election.announced() or Leadership("", 0, 0.0)
        for other in self.run.group.members:
            if other != self.identity:
                self.run.send(self, other, lambda member: member.beaten(self.identity, rows, told))
        if again:
            self.run.at_member(self, self.run.beat, lambda: self.beat(life, again=True))

    def beaten(self, sender: str, rows: _Rows, told: Leadership) -> None:
        self.heard[sender] = self.run.now
        for reporter, row in rows.items():
            if reporter != self.identity and row[0] > self.rows.get(reporter, (0.0,))[0]:
                self.rows[reporter] = row
        if self.own_row():
            life = self.life
            self.run.at_member(self, 0.05, lambda: self.beat(life))
        self.perform(self.election.adopt(told, sender, self.clock))
        if self.alive:
            self.evaluate()

    @property
    def operational(self) -> bool:
        everybody = len(self.run.group.members)
        return len(self.rows) == everybody and all(len(hears) == everybody - 1 for _, hears in self.rows.values())

    def evaluate(self) -> None:
        edge = self.election.operational if self.operational else self.election.not_operational
        self.perform(edge(self.clock))

    # -------------------------------------------------------------- election

    def receive(self, sender: str, ballot: Ballot) -> None:
        self.perform(self.election.received(ballot.kind, sender, ballot.term, ballot.value, self.clock))

    def perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Store):
                if self.crash_on_store == "before":
                    self.run.crashed_at_store(self)
                    return
                if action.value is not None:
                    self.stored = int(action.value["term"])
                if self.crash_on_store == "after":
                    self.run.crashed_at_store(self)
                    return
            elif isinstance(action, SetTimer):
                self.set_timer(action.name, action.at)
            elif isinstance(action, CancelTimer):
                self.timers.pop(action.name, None)
            elif isinstance(action, Broadcast):
                self.run.note_ballot(self, action.ballot)
                for recipient in action.recipients:
                    self.run.send(self, recipient, partial(_Member.receive, sender=self.identity, ballot=action.ballot))
            elif isinstance(action, LeaderChanged):
                self.run.note_leader(self, action.leadership)

    def set_timer(self, name: str, at: float) -> None:
        serial = self.run.count
        self.timers[name] = serial
        life = self.life

        def fire() -> None:
            if life == self.life and self.alive and self.timers.get(name) == serial:
                del self.timers[name]
                self.perform(self.election.timer(name, self.clock))

        self.run.at_member(self, max(0.0, at - self.clock), fire)


class MachineRun:
    """One run.

    :param count: members, 2 to 8.
    :param hours: virtual time in which things go wrong.
    :param kind: the election machine; a planted fault is a subclass.
    """

    def __init__(
        self,
        seed: int,
        *,
        count: int = 5,
        hours: float = 1.0,
        faults: int = 30,
        beat: float = 30.0,
        kind: type[Election] = Election,
    ) -> None:
        self.random = Random(seed)
        self.kind, self.beat = kind, beat
        self.leader_ttl = self.random.choice([600.0, 3600.0])
        names = tuple(f"agent.{letter}.example." for letter in "abcdefgh"[:count])
        self.group = ProviderGroup(group_hash(names), names, names, ("zone.example.",))
        self.now = _EPOCH
        self.count = 0
        self.outcome = Outcome(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._loss = self._repeat = self._jitter = 0.0
        self._dead: dict[tuple[str, str], int] = {}
        self._leaders: dict[int, str] = {}
        self._votes: dict[str, dict[int, int]] = {}
        self.members = {name: _Member(self, name, self.random.uniform(-2, 2)) for name in names}
        self._length = hours * 3600
        for _ in range(faults):
            self._plan_fault()

    # ------------------------------------------------------------ the engine

    def at(self, delay: float, what: Callable[[], None]) -> None:
        """Do something later."""
        self.count += 1
        heapq.heappush(self._heap, (self.now + delay, self.count, what))

    def at_member(self, member: _Member, delay: float, what: Callable[[], None]) -> None:
        """Do something at a member later; one that stands still does it afterwards."""

        def when_awake() -> None:
            if member.paused_until > self.now:
                self.at(member.paused_until - self.now, when_awake)
            else:
                what()

        self.at(delay, when_awake)

    def send(self, sender: _Member, recipient: str, what: Callable[[_Member], None]) -> None:
        """Deliver something to a member, or not."""
        random, member = self.random, self.members[recipient]
        if self._dead.get((sender.identity, recipient)):
            return
        for _ in range(2 if random.random() < self._repeat else 1):
            if random.random() < self._loss:
                continue
            delay = random.uniform(0.02, 0.2) + random.random() * self._jitter + sender.slow + member.slow

            def arrive() -> None:
                if member.alive:
                    what(member)

            self.at_member(member, delay, arrive)

    def run(self) -> Outcome:
        """Play the run and judge it."""
        for member in self.members.values():
            self.at(self.random.uniform(0, 5), member.start)
        self._until(_EPOCH + self._length)
        self._heal()
        quiet = self.now
        outcome = self.outcome
        while self._heap and self.now < quiet + 600 and outcome.healed_in is None and not self._runaway:
            self._step()
            if outcome.matrix_in is None and all(member.operational for member in self.members.values()):
                outcome.matrix_in = self.now - quiet
            if outcome.matrix_in is not None and self._agreed():
                outcome.healed_in = self.now - quiet
        if self._runaway:
            outcome.breaches.append(f"{_MOST_EVENTS} events: the members never rest")
        elif outcome.healed_in is None:
            outcome.breaches.append("no leader within 600 s after the last fault")
        else:
            self._until(self.now + 2 * self.beat)
            if not self._agreed():
                outcome.breaches.append("the agreement did not last")
        outcome.terms = max(self._leaders, default=0)
        return outcome

    def _until(self, moment: float) -> None:
        while self._heap and self._heap[0][0] <= moment and not self._runaway:
            self._step()
        self.now = moment

    @property
    def _runaway(self) -> bool:
        return self.outcome.events >= _MOST_EVENTS

    def _step(self) -> None:
        self.now, _, what = heapq.heappop(self._heap)
        self.outcome.events += 1
        what()

    def _agreed(self) -> bool:
        held = {
            None if (leadership := member.election.leadership) is None else (leadership.leader, leadership.term)
            for member in self.members.values()
            if member.alive
        }
        alive = all(member.alive for member in self.members.values())
        return alive and len(held) == 1 and None not in held

    # ----------------------------------------------------------------- notes

    def note_leader(self, member: _Member, held: Leadership | None) -> None:
        """A member believes in a leader."""
        if held is None or not held.term:
            return
        first = self._leaders.setdefault(held.term, held.leader)
        self.outcome.digest = hash((self.outcome.digest, round(self.now, 6), held.term)) & 0xFFFFFFFFFFFF
        if first != held.leader:
            self.outcome.breaches.append(f"term {held.term} has two leaders, {first} and {held.leader}")

    def note_ballot(self, member: _Member, ballot: Ballot) -> None:
        """A member sends a vote."""
        if ballot.kind == "CONFIRM" or not ballot.vote:
            return
        self.outcome.digest = hash((self.outcome.digest, round(self.now, 6), ballot.vote)) & 0xFFFFFFFFFFFF
        votes = self._votes.setdefault(member.identity, {})
        before = votes.get(ballot.term)
        if before is None:
            if votes and ballot.term < max(votes):
                self.outcome.breaches.append(f"{member.identity} votes in term {ballot.term} after {max(votes)}")
            votes[ballot.term] = ballot.vote
        elif before != ballot.vote:
            self.outcome.breaches.append(f"{member.identity} votes twice in term {ballot.term}")

    # ---------------------------------------------------------------- faults

    def _plan_fault(self) -> None:
        random = self.random
        kinds = ("loss", "repeat", "jitter", "one-way", "partition", "flap", "slow", "pause", "crash", "store")
        kind = random.choice(kinds)
        start = random.uniform(5, self._length * 0.95)
        lasts = min(random.expovariate(1 / 120) + 1, self._length - start)
        self.at(start, lambda: self._fault(kind, lasts))

    def _fault(self, kind: str, lasts: float) -> None:
        random = self.random
        self.outcome.faults += 1
        names = list(self.members)
        member = self.members[random.choice(names)]
        match kind:
            case "loss":
                self._loss = random.uniform(0.02, 0.5)
                self.at(lasts, lambda: setattr(self, "_loss", 0.0))
            case "repeat":
                self._repeat = random.uniform(0.1, 0.6)
                self.at(lasts, lambda: setattr(self, "_repeat", 0.0))
            case "jitter":
                self._jitter = random.choice([1.0, 4.0, 12.0])
                self.at(lasts, lambda: setattr(self, "_jitter", 0.0))
            case "one-way":
                self._cut([tuple(random.sample(names, 2))], lasts)  # type: ignore[list-item]
            case "partition":
                random.shuffle(names)
                cut = random.randint(1, len(names) - 1)
                pairs = [(one, two) for one in names[:cut] for two in names[cut:]]
                self._cut([*pairs, *((two, one) for one, two in pairs)], lasts)
            case "flap":
                one, two = random.sample(names, 2)
                period = random.uniform(0.5, 20)
                for number in range(int(lasts / period / 2) + 1):
                    self.at(2 * number * period, lambda: self._cut([(one, two), (two, one)], period))
            case "slow":
                member.slow = random.uniform(0.2, 4)
                self.at(lasts, lambda: setattr(member, "slow", 0.0))
            case "pause":
                member.paused_until = max(member.paused_until, self.now + lasts)
            case "crash":
                self._crash(member, min(lasts, 120))
            case "store":
                member.crash_on_store = random.choice(["before", "after"])

    def crashed_at_store(self, member: _Member) -> None:
        """A member crashes while it stores a term."""
        member.crash_on_store = None
        self._crash(member, self.random.uniform(0.1, 60))

    def _crash(self, member: _Member, back_after: float) -> None:
        if member.alive:
            member.crash()
            self.at(back_after, lambda: None if member.alive else member.start())

    def _cut(self, pairs: Iterable[tuple[str, str]], lasts: float) -> None:
        dead = list(pairs)
        for pair in dead:
            self._dead[pair] = self._dead.get(pair, 0) + 1

        def mend() -> None:
            for pair in dead:
                self._dead[pair] = max(0, self._dead.get(pair, 0) - 1)

        self.at(lasts, mend)

    def _heal(self) -> None:
        self._loss = self._repeat = self._jitter = 0.0
        self._dead.clear()
        for member in self.members.values():
            member.slow, member.crash_on_store, member.paused_until = 0.0, None, 0.0
            if not member.alive:
                member.start()


def run_machines(seeds: Iterable[int], *, kind: type[Election] = Election, count: int = 5) -> list[Outcome]:
    """Play one run for each of *seeds*."""
    return [MachineRun(seed, kind=kind, count=count).run() for seed in seeds]
