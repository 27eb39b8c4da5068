"""Whatever arrives in whatever order, an election keeps its promises; hypothesis looks for an order that breaks one."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mpcore.actions import Action, CancelTimer, SetTimer, Store
from mpcore.errors import ConflictError
from mpcore.group.actions import Broadcast, LeaderChanged, Leadership
from mpcore.group.ballot import Ballot
from mpcore.group.election import Election
from mpcore.group.groups import ProviderGroup, group_hash

NAMES = tuple(f"agent.{letter}.example." for letter in "abc")
GROUP = ProviderGroup(group_hash(NAMES), NAMES, NAMES, ("zone.example.",))


class Group(RuleBasedStateMachine):
    """Three voters, a bag of messages under way, timers, disks; hypothesis plays the network and the operator."""

    messages = Bundle("messages")
    election_type: type[Election] = Election

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_780_000_000.0
        self.disks: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.timers: dict[str, dict[str, float]] = {name: {} for name in NAMES}
        self.bag: list[tuple[str, str, Ballot]] = []
        self.leaders: dict[int, set[str]] = {}
        self.votes: dict[tuple[str, int], set[int]] = {}
        self.highest: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.nodes = {name: self.make(name) for name in NAMES}

    def make(self, name: str) -> Election:
        return self.election_type(name, GROUP, random=self.random, term=self.disks[name], leader_ttl=600)

    def perform(self, name: str, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Store):
                assert action.value is not None
                assert action.value["term"] >= self.disks[name]
                self.disks[name] = action.value["term"]
            elif isinstance(action, SetTimer):
                self.timers[name][action.name] = action.at
            elif isinstance(action, CancelTimer):
                self.timers[name].pop(action.name, None)
            elif isinstance(action, Broadcast):
                ballot = action.ballot
                assert ballot.term <= self.disks[name], "said before it was stored"
                if ballot.kind != "CONFIRM":
                    self.votes.setdefault((name, ballot.term), set()).add(ballot.vote or 0)
                self.bag += [(name, recipient, ballot) for recipient in action.recipients]
                del self.bag[:-60]
            elif isinstance(action, LeaderChanged) and action.reason.startswith("elected"):
                assert action.leadership is not None
                self.leaders.setdefault(action.leadership.term, set()).add(action.leadership.leader)

    @rule(name=st.sampled_from(NAMES), up=st.booleans())
    def edge(self, name: str, up: bool) -> None:
        node = self.nodes[name]
        self.perform(name, node.operational(self.now) if up else node.not_operational(self.now))

    @rule(index=st.integers(0, 59), keep=st.booleans())
    def deliver(self, index: int, keep: bool) -> None:
        if self.bag:
            index %= len(self.bag)
            sender, recipient, ballot = self.bag[index] if keep else self.bag.pop(index)
            node = self.nodes[recipient]
            self.perform(recipient, node.received(ballot.kind, sender, ballot.term, ballot.value, self.now))

    @rule()
    def deliver_all(self) -> None:
        for _ in range(60):
            self.deliver(0, False)

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 6.0, 30.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for name in NAMES:
            for timer, at in sorted(self.timers[name].items()):
                if at <= self.now and self.timers[name].pop(timer, None) is not None:
                    self.perform(name, self.nodes[name].timer(timer, self.now))

    @rule(name=st.sampled_from(NAMES), timer=st.sampled_from(["phase", "retry", "start", "reelect", "resend", "x"]))
    def stray_timer(self, name: str, timer: str) -> None:
        self.perform(name, self.nodes[name].timer(timer, self.now))

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        self.timers[name].clear()
        self.nodes[name] = self.make(name)

    @rule(speaker=st.sampled_from(NAMES), listener=st.sampled_from(NAMES))
    def gossip(self, speaker: str, listener: str) -> None:
        told = self.nodes[speaker].announced() or Leadership("", 0, 0.0)
        self.perform(listener, self.nodes[listener].adopt(told, speaker, self.now))

    @rule(name=st.sampled_from(NAMES), down=st.booleans())
    def order(self, name: str, down: bool) -> None:
        node = self.nodes[name]
        try:
            self.perform(name, node.step_down(self.now) if down else node.force(self.now))
        except ConflictError:
            assert down
            assert node.leadership is None or node.leadership.leader != name

    @invariant()
    def one_leader_in_a_term(self) -> None:
        for term, leaders in getattr(self, "leaders", {}).items():
            assert len(leaders) == 1, f"term {term}: {leaders}"

    @invariant()
    def terms_never_go_back(self) -> None:
        for name, node in getattr(self, "nodes", {}).items():
            assert node.term >= self.highest[name]
            self.highest[name] = node.term

    @invariant()
    def one_vote_in_a_term(self) -> None:
        for key, votes in getattr(self, "votes", {}).items():
            assert len(votes) == 1, f"{key}: {votes}"

    @invariant()
    def every_missing_leader_is_explained(self) -> None:
        for node in getattr(self, "nodes", {}).values():
            view = node.view()
            assert (view.leader is None) == bool(view.reason)

    @invariant()
    def a_waiting_node_has_a_timer(self) -> None:
        for name, node in getattr(self, "nodes", {}).items():
            phase = node.view().phase
            if phase in ("voting", "confirming"):
                assert "phase" in self.timers[name]
            elif phase == "backoff":
                assert "retry" in self.timers[name]
            if node.leadership is not None:
                assert "expire" in self.timers[name]

    def teardown(self) -> None:
        """Left alone on a good network, the group ends up with one leader."""
        if not hasattr(self, "nodes"):
            return
        for name in NAMES:
            self.edge(name, False)
        for name in NAMES:
            self.edge(name, True)
        for _ in range(400):
            self.deliver_all()
            states = {(n.leadership.leader, n.leadership.term) if n.leadership else None for n in self.nodes.values()}
            if len(states) == 1 and None not in states and not self.bag:
                break
            self.wait(0.5)
        assert len(states) == 1, states
        assert None not in states


class TestGroup(Group.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)


def test_the_search_finds_a_planted_fault() -> None:
    """A node that votes anew when it is called twice in a term must be found out."""

    class Fickle(Election):
        def _called(self, sender: str, term: int, vote: int, now: float) -> list[Action]:
            if self._round is not None and self._round.term == term:
                self._round.vote += 1
            return super()._called(sender, term, vote, now)

    class Faulty(Group):
        election_type = Fickle

    search = settings(
        max_examples=200, stateful_step_count=30, deadline=None, derandomize=True, phases=[Phase.generate]
    )
    with pytest.raises(AssertionError, match="agent"):
        run_state_machine_as_test(Faulty, settings=search)
