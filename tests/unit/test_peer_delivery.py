"""The delivery queue: order, retries, what is superseded, what survives a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mpcore.actions import Action, SetTimer, Store
from mpcore.errors import LocalError, QueueFullError
from mpcore.peer.actions import Attempt, Expired, Superseded
from mpcore.peer.delivery import EXPIRY, MAX_UNDER_WAY, RETRY, DeliveryQueue
from mpcore.peer.outbound_entry import OutboundEntry
from mpcore.wire.messages import Confirm, Operation, Publish, Sync, Update

ALPHA, BRAVO, CHARLIE = (f"agent.{name}.example." for name in ("alpha", "bravo", "charlie"))
NOW = 1_780_000_000.0
ZONE, OTHER = "a.example.", "b.example."


def sync(
    *rrtypes: str, zone: str = ZONE, records: tuple[str, ...] = (), operation: str = "replace", author: str = ALPHA
) -> Sync:
    operations = [Operation(operation=operation, rrtype=rrtype, records=list(records)) for rrtype in rrtypes]
    return Sync(
        originator_id=author, your_identity=BRAVO, zone=zone, operations=operations, time="2026-05-20T10:00:00Z"
    )


def confirm(distribution_id: str, status: str = "SUCCESS") -> Confirm:
    return Confirm(sender_id=ALPHA, zone=ZONE, distribution_id=distribution_id, status=status)


def ready(*recipients: str, **options: int) -> DeliveryQueue:
    queue = DeliveryQueue(**options)
    for recipient in recipients or (BRAVO,):
        queue.recipient_ready(recipient, NOW)
    return queue


def attempts(actions: list[Action]) -> list[OutboundEntry]:
    return [action.entry for action in actions if isinstance(action, Attempt)]


def ids(actions: list[Action]) -> list[str]:
    return [entry.distribution_id for entry in attempts(actions)]


def kept(actions: list[Action], disk: dict[str, Mapping[str, Any]] | None = None) -> dict[str, Mapping[str, Any]]:
    disk = {} if disk is None else disk
    for action in actions:
        if isinstance(action, Store):
            assert action.kind == "outbound"
            if action.value is None:
                disk.pop(action.key, None)
            else:
                disk[action.key] = json.loads(json.dumps(action.value))
    return disk


def due(actions: list[Action]) -> float:
    return next(action.at for action in actions if isinstance(action, SetTimer))


# --------------------------------------------------------------------------------------------------------------- order


def test_a_message_is_stored_and_then_tried_at_once() -> None:
    queue = ready()
    actions = queue.enqueue(BRAVO, sync("NS"), "00000001", NOW)
    assert [type(action) for action in actions][:2] == [Store, Attempt]
    (entry,) = attempts(actions)
    assert (entry.recipient, entry.zone, entry.distribution_id, entry.tried) == (BRAVO, ZONE, "00000001", True)
    done = queue.delivered(entry.key, NOW + 0.1)
    assert Store("outbound", entry.key, None) in done
    assert len(queue) == 0
    assert queue.delivered(entry.key, NOW + 0.2) == []
    assert queue.failed(entry.key, "late", NOW + 0.2) == []


def test_one_at_a_time_and_in_order_within_recipient_and_zone() -> None:
    queue = ready()
    first = queue.enqueue(BRAVO, sync("NS"), "00000001", NOW)
    assert ids(queue.enqueue(BRAVO, sync("KEY"), "00000002", NOW)) == []
    assert ids(queue.enqueue(BRAVO, sync("CDS"), "00000003", NOW)) == []
    (entry,) = attempts(first)
    actions = queue.failed(entry.key, "timed out", NOW + 5)
    assert ids(actions) == [], "the second does not overtake"
    assert ids(queue.timer("delivery", NOW + 5.2)) == ["00000001"]
    second = queue.delivered(entry.key, NOW + 6)
    assert ids(second) == ["00000002"]
    third = queue.delivered(attempts(second)[0].key, NOW + 7)
    assert ids(third) == ["00000003"]


def test_lanes_do_not_delay_each_other() -> None:
    queue = ready(BRAVO, CHARLIE)
    (dead,) = attempts(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    assert ids(queue.enqueue(CHARLIE, sync("NS"), "00000001", NOW)) == ["00000001"]
    assert ids(queue.enqueue(BRAVO, sync("NS", zone=OTHER), "00000002", NOW)) == ["00000002"]
    queue.failed(dead.key, "timed out", NOW + 5)
    assert ids(queue.enqueue(CHARLIE, sync("KEY", zone=OTHER), "00000003", NOW + 5)) == ["00000003"]


def test_a_recipient_is_not_flooded() -> None:
    queue = ready(BRAVO, CHARLIE)
    running: list[OutboundEntry] = []
    for number in range(MAX_UNDER_WAY + 5):
        running += attempts(queue.enqueue(BRAVO, sync("NS", zone=f"z{number}.example."), f"{number:08x}", NOW))
    assert len(running) == MAX_UNDER_WAY
    assert ids(queue.enqueue(CHARLIE, sync("NS"), "0000ffff", NOW)) == ["0000ffff"]
    tried = {entry.zone for entry in running}
    while running:
        more = attempts(queue.delivered(running.pop(0).key, NOW))
        tried |= {entry.zone for entry in more}
        running += more
        assert len(running) <= MAX_UNDER_WAY
    assert len(tried) == MAX_UNDER_WAY + 5
    assert len(queue) == 1


# ------------------------------------------------------------------------------------------------------------- retries


def test_retries_come_soon_at_first_and_every_minute_later() -> None:
    queue = ready()
    (entry,) = attempts(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    now, delays = NOW, []
    for _ in range(12):
        at = due(queue.failed(entry.key, "timed out", now))
        assert ids(queue.timer("delivery", at - 0.01)) == []
        delays.append(round(at - now, 3))
        now = at
        (again,) = attempts(queue.timer("delivery", now))
        assert again == entry, "the same message under the same id"
    assert delays == [*RETRY, 60, 60, 60]
    (row,) = queue.messages()
    assert (row.attempts, row.last_error, row.type, row.zone) == (13, "timed out", "sync", ZONE)


def test_an_unready_recipient_waits_without_counting_and_goes_on_at_once() -> None:
    queue = DeliveryQueue()
    assert ids(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW)) == []
    assert ids(queue.timer("delivery", NOW + 100)) == []
    assert queue.messages()[0].attempts == 0
    (entry,) = attempts(queue.recipient_ready(BRAVO, NOW + 200))
    queue.recipient_not_ready(BRAVO, NOW + 201)
    at = NOW + 205
    queue.failed(entry.key, "timed out", at)
    assert ids(queue.timer("delivery", at + 60)) == []
    assert queue.messages()[0].attempts == 1
    assert ids(queue.recipient_ready(BRAVO, at + 61)) == ["00000001"]


def test_becoming_ready_again_cuts_a_long_pause_short() -> None:
    queue = ready()
    (entry,) = attempts(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    for number in range(9):
        queue.failed(entry.key, "timed out", NOW + 100 * number)
        queue.timer("delivery", NOW + 100 * number + 99)
    queue.failed(entry.key, "timed out", NOW + 1000)
    assert ids(queue.recipient_ready(BRAVO, NOW + 1001)) == ["00000001"]
    assert ids(queue.recipient_ready(BRAVO, NOW + 1002)) == [], "it is under way already"


def test_a_day_old_message_is_given_up() -> None:
    queue = DeliveryQueue()
    at = due(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    assert at == NOW + EXPIRY
    queue.enqueue(BRAVO, sync("KEY"), "00000002", NOW + 10)
    actions = queue.timer("delivery", at)
    (gone,) = (action for action in actions if isinstance(action, Expired))
    assert gone.entry.distribution_id == "00000001"
    assert actions.index(Store("outbound", gone.entry.key, None)) < actions.index(gone)
    assert due(actions) == NOW + 10 + EXPIRY
    assert ids(queue.recipient_ready(BRAVO, at + 1)) == ["00000002"]


def test_a_message_under_way_expires_when_its_attempt_fails() -> None:
    queue = ready()
    (entry,) = attempts(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    assert not any(isinstance(action, Expired) for action in queue.timer("delivery", NOW + EXPIRY + 1))
    assert any(isinstance(action, Expired) for action in queue.failed(entry.key, "timed out", NOW + EXPIRY + 2))
    assert len(queue) == 0
    assert ids(queue.enqueue(BRAVO, sync("NS"), "00000002", NOW + EXPIRY + 3)) == ["00000002"]


def test_a_recipient_that_has_left_is_given_up() -> None:
    queue = ready(BRAVO, CHARLIE)
    (entry,) = attempts(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    queue.enqueue(BRAVO, sync("KEY"), "00000002", NOW)
    queue.enqueue(CHARLIE, sync("NS"), "00000001", NOW)
    actions = queue.forget_recipient(BRAVO, "it has left all zones", NOW)
    gone = [action for action in actions if isinstance(action, Expired)]
    assert [action.entry.distribution_id for action in gone] == ["00000001", "00000002"]
    assert {action.reason for action in gone} == {"it has left all zones"}
    assert len(queue) == 1
    assert queue.delivered(entry.key, NOW + 1) == [], "the outcome of the exchange that was under way"
    queue.recipient_ready(BRAVO, NOW + 2)
    assert ids(queue.enqueue(BRAVO, sync("NS"), "00000003", NOW + 2)) == ["00000003"]


# -------------------------------------------------------------------------------------------------------- superseding


def superseded_by(newer: Sync | Update | Confirm, *older: Sync | Update | Confirm) -> list[str]:
    """Queue *older* for a recipient that is not ready, then *newer*; which of the older ones are dropped?"""
    queue = DeliveryQueue()
    actions: list[Action] = []
    for number, message in enumerate(older):
        actions += queue.enqueue(BRAVO, message, f"{number:08x}", NOW)
    last = queue.enqueue(BRAVO, newer, "ffffffff", NOW + 1)
    assert all(action.by == "ffffffff" for action in last if isinstance(action, Superseded))
    gone = [action.entry.distribution_id for action in [*actions, *last] if isinstance(action, Superseded)]
    assert len(kept([*actions, *last])) == len(queue) == len(older) + 1 - len(gone)
    return gone


def test_a_newer_set_replaces_older_ones_that_were_never_tried() -> None:
    assert superseded_by(sync("NS"), sync("NS", records=("x",)), sync("KEY"), sync("NS", records=("y",))) == [
        "00000000",
        "00000002",
    ]
    assert sorted(superseded_by(sync("NS", "KEY"), sync("KEY"), sync("NS"), sync("NS", "CDS"))) == [
        "00000000",
        "00000001",
    ]


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        (sync("NS"), sync("NS", zone=OTHER)),
        (sync("NS"), sync("NS", author=CHARLIE)),
        (sync("NS"), sync("NS", operation="add")),
        (sync("NS", operation="delete"), sync("NS")),
        (sync("NS"), sync()),
        (sync(), sync("NS")),
        (sync("NS"), confirm("00000000")),
        (confirm("ffffffff"), sync("NS")),
        (
            sync("KEY"),
            sync("KEY").model_copy(update={"publish": Publish(key_rrs=["x"], locations=["at-apex"])}),
        ),
        (Update(**sync("NS").model_dump()), sync("NS")),
    ],
    ids=["zone", "author", "add", "delete", "empty", "by empty", "confirm", "by confirm", "publish", "type"],
)
def test_what_is_not_superseded(newer: Sync, older: Sync) -> None:
    assert superseded_by(newer, older) == []


def test_what_was_tried_may_have_arrived_and_stays() -> None:
    queue = ready()
    (entry,) = attempts(queue.enqueue(BRAVO, sync("NS", records=("x",)), "00000001", NOW))
    actions = queue.enqueue(BRAVO, sync("NS", records=("y",)), "00000002", NOW)
    assert not any(isinstance(action, Superseded) for action in actions)
    queue.failed(entry.key, "timed out", NOW + 1)
    actions = queue.enqueue(BRAVO, sync("NS", records=("z",)), "00000003", NOW + 1)
    assert [action.entry.distribution_id for action in actions if isinstance(action, Superseded)] == ["00000002"]
    assert [row.distribution_id for row in queue.messages()] == ["00000001", "00000003"]


def test_the_same_message_again_is_ignored() -> None:
    queue = DeliveryQueue()
    queue.enqueue(BRAVO, confirm("00000001", "PENDING"), "00000001", NOW)
    assert queue.enqueue(BRAVO, confirm("00000001", "PENDING"), "00000001", NOW + 1) == []
    queue.enqueue(BRAVO, confirm("00000001"), "00000001", NOW + 2)
    assert len(queue) == 2, "the final confirmation has the id of the pending one"


# ---------------------------------------------------------------------------------------------------- room and restart


def test_the_queue_has_an_end() -> None:
    queue = DeliveryQueue(capacity=3)
    for number in range(3):
        queue.enqueue(BRAVO, confirm(f"{number:08x}"), f"{number:08x}", NOW)
    with pytest.raises(QueueFullError, match="3 messages wait") as caught:
        queue.enqueue(BRAVO, confirm("00000009"), "00000009", NOW)
    assert isinstance(caught.value, LocalError)
    assert len(queue) == 3
    full = DeliveryQueue(capacity=1)
    full.enqueue(BRAVO, sync("NS"), "00000001", NOW)
    full.enqueue(BRAVO, sync("NS", records=("x",)), "00000002", NOW)
    assert [row.distribution_id for row in full.messages()] == ["00000002"]


def test_a_restart_loses_nothing_and_keeps_the_order() -> None:
    queue = ready()
    disk: dict[str, Mapping[str, Any]] = {}
    messages = [sync("NS"), confirm("00000007"), sync("KEY", records=("x",)), sync("NS", zone=OTHER)]
    for number, message in enumerate(messages):
        kept(queue.enqueue(BRAVO, message, f"{number:08x}", NOW + number), disk)
    again = DeliveryQueue()
    assert ids(again.restore(disk, NOW + 50)) == []
    assert [(row.distribution_id, row.enqueued_at) for row in again.messages()] == [
        (f"{number:08x}", NOW + number) for number in range(4)
    ]
    actions = again.recipient_ready(BRAVO, NOW + 51)
    assert [entry.message for entry in attempts(actions)] == [messages[0], messages[3]]
    fresh = again.enqueue(BRAVO, sync("NS", records=("new",)), "0000000f", NOW + 52)
    assert not any(isinstance(action, Superseded) for action in fresh), "nobody knows what was tried before"
    assert max(kept(fresh)) > max(disk)


def test_restoring_gives_up_what_is_too_old_or_damaged() -> None:
    queue = DeliveryQueue()
    disk = kept(queue.enqueue(BRAVO, sync("NS"), "00000001", NOW))
    disk["junk"] = {"recipient": 1}
    disk["000000000009"] = {**next(iter(disk.values())), "message": "{}"}
    again = DeliveryQueue()
    actions = again.restore(disk, NOW + EXPIRY)
    assert kept(actions, dict(disk)) == {}
    assert [type(action) for action in actions if isinstance(action, Expired)] == [Expired]
    assert len(again) == 0


def test_other_timers_are_not_ours() -> None:
    assert ready().timer("beat", NOW) == []
