"""Orders of the operator about the delivery queue, and what dropping a message means for the data in it."""

from __future__ import annotations

from typing import Any

import pytest

from mpcore.actions import Action, Store
from mpcore.control.models import RecordState
from mpcore.errors import ConflictError, NotFoundError
from mpcore.peer.actions import Attempt, Expired
from mpcore.peer.delivery import EXPIRY, PAUSED, DeliveryQueue
from mpcore.sde import KeysPropagated
from mpcore.wire.messages import Confirm, Operation, Sync, Update
from tests.unit.sde_world import World, agent, combiner, key, make_roles, ns

ALPHA, BRAVO, CHARLIE = agent("alpha"), agent("bravo"), agent("charlie")
CA = combiner("alpha")
NOW = 1_780_000_000.0


def sync(rrtype: str, zone: str = "a.example.") -> Sync:
    operations = [Operation(operation="replace", rrtype=rrtype, records=[])]
    return Sync(originator_id=ALPHA, your_identity=BRAVO, zone=zone, operations=operations)


def tried(actions: list[Action]) -> list[str]:
    return [action.entry.distribution_id for action in actions if isinstance(action, Attempt)]


def states(queue: DeliveryQueue) -> list[str]:
    return [item.state for item in queue.messages()]


def test_pause_holds_everything_back_and_resume_sends_it() -> None:
    queue = DeliveryQueue()
    queue.recipient_ready(BRAVO, NOW)
    queue.recipient_ready(CHARLIE, NOW)
    assert Store(PAUSED, BRAVO, {"since": NOW}) in queue.pause(BRAVO, NOW)
    assert queue.pause(BRAVO, NOW) == []
    assert tried(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW)) == []
    assert tried(queue.enqueue(CHARLIE, sync("NS"), "00000002", NOW)) == ["00000002"]
    assert tried(queue.recipient_ready(BRAVO, NOW + 1)) == []
    assert tried(queue.timer("delivery", NOW + 100)) == []
    assert tried(queue.retry(None, NOW + 100)) == []
    assert (states(queue), queue.paused) == (["paused", "under way"], (BRAVO,))
    actions = queue.resume(BRAVO, NOW + 200)
    assert Store(PAUSED, BRAVO, None) in actions
    assert tried(actions) == ["00000001"]
    assert queue.resume(BRAVO, NOW + 200) == []


def test_a_pause_outlives_a_restart_and_ends_with_the_peer() -> None:
    queue = DeliveryQueue()
    stored = {}
    for action in queue.enqueue(BRAVO, sync("NS"), "00000001", NOW):
        if isinstance(action, Store) and action.value is not None:
            stored[action.key] = action.value
    queue = DeliveryQueue()
    queue.restore(stored, NOW, {BRAVO: {"since": NOW}})
    assert tried(queue.recipient_ready(BRAVO, NOW)) == []
    assert any(isinstance(action, Expired) for action in queue.timer("delivery", NOW + EXPIRY))
    assert Store(PAUSED, BRAVO, None) in queue.forget_recipient(BRAVO, "gone", NOW)
    assert queue.paused == ()


def test_retry_now() -> None:
    queue = DeliveryQueue()
    for identity in (BRAVO, CHARLIE):
        queue.recipient_ready(identity, NOW)
        queue.enqueue(identity, sync("NS"), "00000001", NOW)
    for item in queue.messages():
        queue.failed(item.key, "refused", NOW)
    assert states(queue) == ["waiting", "waiting"]
    assert tried(queue.retry(BRAVO, NOW)) == ["00000001"]
    assert states(queue) == ["under way", "waiting"]
    assert tried(queue.retry(None, NOW)) == ["00000001"]


def test_drop_gives_way_to_the_next_of_the_lane() -> None:
    queue = DeliveryQueue()
    queue.recipient_ready(BRAVO, NOW)
    queue.enqueue(BRAVO, sync("NS"), "00000001", NOW)
    queue.enqueue(BRAVO, sync("CDS"), "00000002", NOW)
    first, second = (item.key for item in queue.messages())
    assert states(queue) == ["under way", "queued"]
    with pytest.raises(ConflictError, match="under way"):
        queue.drop(first, NOW)
    queue.failed(first, "refused", NOW)
    actions = queue.drop(first, NOW)
    assert Store("outbound", first, None) in actions
    assert tried(actions) == ["00000002"]
    with pytest.raises(NotFoundError):
        queue.drop(first, NOW)
    queue.failed(second, "refused", NOW)
    queue.drop(second, NOW)
    assert queue.messages() == []


# --------------------------------------------------------------------------------------------------- what it means


def outgoing(world: World, recipient: str, kind: type[Any]) -> str:
    return next(id_ for id_, message in world.between(ALPHA, recipient) if isinstance(message, kind))


def drop(world: World, recipient: str, distribution_id: str, kind: str) -> list[Action]:
    lane = world.lanes[ALPHA, recipient]
    for item in [item for item in lane if item[0] == distribution_id]:
        lane.remove(item)
    return world["alpha"].dropped(recipient, distribution_id, world.now, kind)


def test_a_dropped_sync_counts_as_refused_and_is_offered_again() -> None:
    world = World(make_roles("alpha bravo"))
    world.settle()
    world.change("alpha", "add", "@ 3600 NS ns1.alpha.example.")
    dropped = outgoing(world, BRAVO, Sync)
    (first, again) = world["alpha"].drop_effects(BRAVO, dropped, "sync")
    assert first.startswith(f"{BRAVO} does not learn of our 1 NS records")
    assert "after an hour" in again
    world.perform("alpha", drop(world, BRAVO, dropped, "sync"))
    world.settle()
    (record,) = world["alpha"].entries("example.com.")
    assert record.state is RecordState.REJECTED
    assert "dropped from the queue by the operator" in (record.reason or "")
    assert {item.recipient: item.status for item in record.confirmations} == {CA: "accepted", BRAVO: "rejected"}
    assert world["alpha"].dropped(BRAVO, dropped, world.now, "sync") == []
    world.now += 3601
    world.perform("alpha", world["alpha"].timer("tick", world.now))
    world.settle()
    (record,) = world["alpha"].entries("example.com.")
    assert record.state is RecordState.ACCEPTED


def test_dropped_keys_are_told_to_the_signer() -> None:
    world = World(make_roles("alpha bravo", "alpha bravo"))
    world.settle()
    actions = world["alpha"].local_dnskeys("example.com.", [key(1)], [], world.now)
    world.perform("alpha", actions)
    dropped = outgoing(world, BRAVO, Sync)
    assert any("signer" in text for text in world["alpha"].drop_effects(BRAVO, dropped, "sync"))
    told = [item for item in drop(world, BRAVO, dropped, "sync") if isinstance(item, KeysPropagated)]
    assert [item.rejected for item in told] == [True]


def test_other_messages_leave_the_data_alone() -> None:
    world = World(make_roles("alpha bravo"))
    world.settle()
    world.change("bravo", "add", "@ 3600 NS ns1.bravo.example.")
    world.deliver(BRAVO, ALPHA)
    update = outgoing(world, CA, Update)
    assert agent("bravo") in " ".join(world["alpha"].drop_effects(CA, update, "update"))
    world.perform("alpha", drop(world, CA, update, "update"))
    (refusal,) = [item for _, item in world.between(ALPHA, BRAVO) if isinstance(item, Confirm) and item.rejected_items]
    assert "dropped" in refusal.rejected_items[0].reason
    assert "final answer" in world["alpha"].drop_effects(BRAVO, "00000000", "confirm")[0]
    assert "nothing here waits" in world["alpha"].drop_effects(BRAVO, "00000000", "rfi")[0]
    assert not world["alpha"].dropped(BRAVO, update, world.now, "confirm")
    assert ns("ns1.bravo.example.") in {item.record for item in world["alpha"].entries("example.com.")}
