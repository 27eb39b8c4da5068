"""Random histories of changes, deliveries, repetitions, losses, role changes and restarts.

Whatever happens: when everything has been delivered, every combiner keeps exactly what every author last wished,
nothing waits for ever, and a process that is killed at any point leads to the same end as one that never was.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.control.models import TransactionState
from mpcore.errors import LocalError
from mpcore.wire.messages import Confirm
from tests.unit.sde_world import ZONE, World, agent, combiner, key, make_roles, ns

LABELS = ("alpha", "bravo", "charlie")
EVERYBODY = make_roles("alpha bravo charlie")
ROLES = (EVERYBODY, make_roles("alpha bravo charlie", "alpha charlie"), make_roles("alpha bravo charlie", "alpha"))

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from(LABELS), st.sampled_from(("add", "delete")), st.integers(0, 2)),
        st.tuples(st.just("keys"), st.sampled_from(LABELS), st.sets(st.integers(1, 3))),
        st.tuples(st.just("deliver"), st.integers(0, 20), st.sampled_from(("", "twice", "again", "late"))),
        st.tuples(st.just("deliver"), st.integers(0, 20), st.just("")),
        st.tuples(st.just("deliver"), st.integers(0, 20), st.just("")),
        st.tuples(st.just("lose"), st.integers(0, 20)),
        st.tuples(st.just("roles"), st.integers(0, len(ROLES) - 1)),
        st.tuples(st.just("hydrate"), st.sampled_from(LABELS), st.booleans()),
        st.tuples(st.just("ask"), st.sampled_from(LABELS), st.sampled_from(LABELS)),
        st.tuples(st.just("tick"), st.sampled_from((60, 301, 3700))),
    ),
    min_size=5,
    max_size=50,
)


class History:
    """One run, with what each author wishes."""

    def __init__(self) -> None:
        self.world = World(EVERYBODY, " ".join(LABELS))
        self.wishes: dict[str, set[str]] = {label: set() for label in LABELS}
        self.keys: dict[str, set[int]] = {label: set() for label in LABELS}
        self.transactions: list[tuple[str, str]] = []
        self.snapshots: dict[str, Any] = {label: {} for label in LABELS}

    def step(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])

    def change(self, label: str, operation: str, number: int) -> None:
        record = ns(f"ns{number}.{label}.example.")
        try:
            self.transactions.append((label, self.world.change(label, operation, record)))
        except LocalError:
            return
        (self.wishes[label].add if operation == "add" else self.wishes[label].discard)(record)

    def keys_(self, label: str, numbers: set[int]) -> None:
        try:
            self.world.keys(label, [key(LABELS.index(label) * 10 + number) for number in sorted(numbers)], (7,))
        except LocalError:
            return
        self.keys[label] = numbers

    def deliver(self, number: int, how: str) -> None:
        lanes = self.world.waiting()
        if not lanes:
            return
        sender, recipient = lanes[number % len(lanes)]
        if how == "again":  # the acknowledgement was lost: the queue sends it once more
            self.world.receive(sender, recipient, *self.world.lanes[sender, recipient][0][:2])
        elif how == "late" and recipient in self.world.nodes:  # the deployed implementation has no lanes
            self.world.lanes[sender, recipient].rotate(-1)
        else:
            self.world.deliver(sender, recipient, twice=how == "twice")

    def lose(self, number: int) -> None:
        """The deployed implementation sends confirmations once."""
        lanes = [lane for lane in self.world.waiting() if isinstance(self.world.lanes[lane][0][1], Confirm)]
        if lanes:
            self.world.lanes[lanes[number % len(lanes)]].popleft()

    def roles(self, number: int) -> None:
        self.world.set_roles(ROLES[number])

    def hydrate(self, label: str, stale: bool) -> None:
        """The combiner's snapshot, the present one or the one of the last time."""
        world, former = self.world, self.snapshots[label]
        self.snapshots[label] = world.combiners[combiner(label)].snapshot()
        snapshot = former if stale else self.snapshots[label]
        world.perform(label, world[label].edits_received(ZONE, snapshot, world.now))

    def ask(self, asker: str, asked: str) -> None:
        if asker != asked:
            self.world.perform(asked, self.world[asked].rfi_sync(agent(asker), ZONE, self.world.now))

    def tick(self, seconds: int) -> None:
        self.world.tick(seconds)

    def finish(self) -> None:
        self.world.set_roles(EVERYBODY)
        for label in LABELS:
            self.keys_(label, self.keys[label])
        for _ in range(8):
            self.world.settle()
            self.world.tick(3601)
        self.world.settle()

    def check(self) -> None:
        world = self.world
        for label in LABELS:
            for author in LABELS:
                keys = {key(LABELS.index(author) * 10 + number) for number in self.keys[author]}
                expected = self.wishes[author] | (keys if author != label else set())
                assert world.kept(label, author) == sorted(expected), (label, author)
            assert set(world.states(label).values()) <= {"accepted", "removed"}, world[label].entries(ZONE)
            node = world.nodes[agent(label)]
            assert node.engine._ledger.zones[ZONE].tags == ()
        for label, transaction in self.transactions:
            view = world[label].transaction(transaction)
            assert view.state in (TransactionState.ACCEPTED, TransactionState.SUPERSEDED), view

    def outcome(self) -> Any:
        world = self.world
        return (
            {label: world.combiners[combiner(label)].snapshot() for label in LABELS},
            {label: {k: v for k, v in world.states(label).items() if v != "removed"} for label in LABELS},
            [world[label].transaction(transaction).state for label, transaction in self.transactions],
        )


def run(steps: list[tuple[Any, ...]], *, restart: bool) -> History:
    history = History()
    for step in steps:
        name = "keys_" if step[0] == "keys" else step[0]
        history.step((name, *step[1:]))
        if restart:
            for label in LABELS:
                history.world.restart(label)
    history.finish()
    return history


@settings(max_examples=150)
@given(STEPS)
def test_everybody_ends_with_what_the_authors_wish(steps: list[tuple[Any, ...]]) -> None:
    run(steps, restart=False).check()


@settings(max_examples=100)
@given(STEPS)
def test_a_process_killed_after_every_step_ends_in_the_same_place(steps: list[tuple[Any, ...]]) -> None:
    killed = run(steps, restart=True)
    killed.check()
    assert killed.outcome() == run(steps, restart=False).outcome()
