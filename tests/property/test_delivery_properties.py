"""Whatever happens, every message is delivered in order within its lane, or accounted for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mpcore.actions import Action, SetTimer, Store
from mpcore.errors import QueueFullError
from mpcore.peer.actions import Attempt, Expired, Superseded
from mpcore.peer.delivery import DeliveryQueue
from mpcore.peer.outbound_entry import OutboundEntry
from mpcore.wire.messages import Operation, Sync

RECIPIENTS = ("agent.b.example.", "agent.c.example.")
ZONES = ("x.example.", "y.example.")
CAPACITY = 12


class Queue(RuleBasedStateMachine):
    """A queue, its disk, and a model of what each recipient has got."""

    @initialize()
    def begin(self) -> None:
        self.now = 1_780_000_000.0
        self.queue = DeliveryQueue(capacity=CAPACITY)
        self.disk: dict[str, Mapping[str, Any]] = {}
        self.number = 0
        self.waiting: dict[tuple[str, str], list[str]] = {}
        self.under_way: dict[str, OutboundEntry] = {}
        self.ready: set[str] = set()
        self.timer_at: float | None = None

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Store):
                if action.value is None:
                    del self.disk[action.key]
                else:
                    self.disk[action.key] = json.loads(json.dumps(action.value))
            elif isinstance(action, SetTimer):
                assert action.name == "delivery"
                self.timer_at = action.at
            elif isinstance(action, Attempt):
                entry = action.entry
                lane = (entry.recipient, entry.zone)
                assert entry.recipient in self.ready
                assert entry.key in self.disk, "tried before it was stored"
                assert self.waiting[lane][0] == entry.distribution_id, "overtaken"
                assert lane not in {(other.recipient, other.zone) for other in self.under_way.values()}
                self.under_way[entry.key] = entry
            elif isinstance(action, Superseded | Expired):
                entry = action.entry
                assert entry.key not in self.disk
                if isinstance(action, Superseded):
                    assert not entry.tried
                self.waiting[entry.recipient, entry.zone].remove(entry.distribution_id)

    @rule(
        recipient=st.sampled_from(RECIPIENTS),
        zone=st.sampled_from(ZONES),
        rrtypes=st.sets(st.sampled_from(["NS", "KEY"]), min_size=1),
        operation=st.sampled_from(["replace", "replace", "add"]),
    )
    def send(self, recipient: str, zone: str, rrtypes: set[str], operation: str) -> None:
        self.number += 1
        identifier = f"{self.number:08x}"
        operations = [Operation(operation=operation, rrtype=rrtype) for rrtype in sorted(rrtypes)]
        message = Sync(originator_id="agent.a.example.", zone=zone, operations=operations)
        lane = self.waiting.setdefault((recipient, zone), [])
        lane.append(identifier)
        try:
            self.perform(self.queue.enqueue(recipient, message, identifier, self.now))
        except QueueFullError:
            assert len(self.queue) == CAPACITY
            lane.remove(identifier)

    @rule(index=st.integers(0, 20), arrived=st.booleans())
    def land(self, index: int, arrived: bool) -> None:
        if not self.under_way:
            return
        key = sorted(self.under_way)[index % len(self.under_way)]
        entry = self.under_way.pop(key)
        if arrived:
            lane = self.waiting[entry.recipient, entry.zone]
            if entry.distribution_id in lane:
                assert lane.pop(0) == entry.distribution_id
            self.perform(self.queue.delivered(key, self.now))
        else:
            self.perform(self.queue.failed(key, "no", self.now))

    @rule(recipient=st.sampled_from(RECIPIENTS), up=st.booleans())
    def readiness(self, recipient: str, up: bool) -> None:
        if up:
            self.ready.add(recipient)
            self.perform(self.queue.recipient_ready(recipient, self.now))
        else:
            self.ready.discard(recipient)
            self.perform(self.queue.recipient_not_ready(recipient, self.now))

    @rule(recipient=st.sampled_from(RECIPIENTS))
    def leave(self, recipient: str) -> None:
        self.ready.discard(recipient)
        self.perform(self.queue.forget_recipient(recipient, "gone", self.now))
        assert not any(lane for (name, _), lane in self.waiting.items() if name == recipient)

    @rule(seconds=st.sampled_from([0.1, 1.0, 60.0, 40_000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        while self.timer_at is not None and self.timer_at <= self.now:
            self.timer_at = None
            self.perform(self.queue.timer("delivery", self.now))

    @rule()
    def restart(self) -> None:
        self.queue = DeliveryQueue(capacity=CAPACITY)
        self.under_way.clear()
        self.ready.clear()
        self.timer_at = None
        self.perform(self.queue.restore(self.disk, self.now))

    @invariant()
    def the_model_the_queue_and_the_disk_agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert len(self.disk) == len(self.queue) == sum(map(len, self.waiting.values()))
        listed: dict[tuple[str, str], list[str]] = {}
        for row in self.queue.messages():
            listed.setdefault((row.recipient, row.zone), []).append(row.distribution_id)
        assert listed == {lane: waiting for lane, waiting in self.waiting.items() if waiting}

    @invariant()
    def nothing_is_stuck(self) -> None:
        for (recipient, zone), waiting in getattr(self, "waiting", {}).items():
            lanes = {(entry.recipient, entry.zone) for entry in self.under_way.values()}
            if waiting and recipient in self.ready and (recipient, zone) not in lanes:
                assert self.timer_at is not None

    def teardown(self) -> None:
        """With all recipients up everything arrives."""
        if not hasattr(self, "queue"):
            return
        for recipient in RECIPIENTS:
            self.readiness(recipient, True)
        for _ in range(200):
            self.land(0, True)
            self.wait(1.0)
        assert len(self.queue) == 0
        assert self.disk == {}


class TestQueue(Queue.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=120, stateful_step_count=40, deadline=None, derandomize=True)
