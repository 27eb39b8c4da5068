"""The durable queue of messages to peers.

Theory
------
A message that must arrive (SYNC, UPDATE, final CONFIRM) waits here until the peer has acknowledged it or a day has gone
by.  Order matters, because a later ``replace`` cancels an earlier one and no sequence number would reveal a swap: there
is one *lane* per recipient and zone, strictly first in, first out, with at most one message under way.  Lanes are
independent: a dead recipient delays nobody else, and a zone does not delay another zone.

A failed attempt is repeated after :data:`RETRY` seconds (the last value again and again), the same message under the
same distribution id.  While a recipient is not *ready* (not found or not greeted yet) its lanes rest, and that does not
count as an attempt; they continue at once when it becomes ready.

The operator may pause a recipient: its lanes rest, also after a restart, until it is resumed.

A message whose operations are all ``replace`` makes older ones of the same recipient, zone, message type and author
superfluous if it replaces all their record types.  Those that were never tried are dropped and reported as superseded;
one that was tried may have arrived and stays (guide, wire format, "Delivery").

:data:`TRANSITIONS` is the life of one entry.

How a node drives this
----------------------
Put every ``Send`` with ``durable=True`` in with :meth:`DeliveryQueue.enqueue`; call
:meth:`DeliveryQueue.recipient_ready` and :meth:`DeliveryQueue.recipient_not_ready` as
:attr:`Peer.ready <mpcore.peer.machine.Peer.ready>` changes.  Commit ``Store`` actions (kind ``outbound``) before the
``Attempt`` behind them; send each attempt in a task of its own and report :meth:`DeliveryQueue.delivered` or
:meth:`DeliveryQueue.failed` with its key.  After a restart give the stored values to :meth:`DeliveryQueue.restore`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mpcore.actions import Action, SetTimer, Store
from mpcore.errors import ConflictError, MessageError, NotFoundError, QueueFullError
from mpcore.machine import Transition
from mpcore.peer.actions import Attempt, Expired, Superseded
from mpcore.peer.outbound_entry import OutboundEntry
from mpcore.wire.messages import Message, Sync, Update

__all__ = (
    "CAPACITY",
    "EXPIRY",
    "KIND",
    "MAX_UNDER_WAY",
    "PAUSED",
    "RETRY",
    "TRANSITIONS",
    "DeliveryQueue",
    "QueuedMessage",
)

KIND: Final = "outbound"
"""Kind of the ``Store`` actions."""

PAUSED: Final = "paused"
"""Kind of the ``Store`` actions that remember paused recipients, by identity."""

CAPACITY: Final = 10000
"""Most messages in the queue."""

EXPIRY: Final = 86400.0
"""Age at which a message is given up, seconds."""

RETRY: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds between attempts."""

MAX_UNDER_WAY: Final = 16
"""Most messages under way to one recipient."""

_TIMER: Final = "delivery"

TRANSITIONS: Final = (
    Transition("queued", "head of its lane", "recipient ready", "under way", "attempt"),
    Transition("queued", "superseded", "never tried", "gone", "report"),
    Transition("queued", "a day old", "", "gone", "report"),
    Transition("queued", "recipient removed", "", "gone", "report"),
    Transition("under way", "acknowledged", "", "gone", "next of the lane"),
    Transition("under way", "failed", "", "waiting", "set the timer"),
    Transition("under way", "failed", "a day old", "gone", "report"),
    Transition("waiting", "timer", "recipient ready", "under way", "attempt"),
    Transition("waiting", "recipient becomes ready", "", "under way", "attempt"),
    Transition("waiting", "a day old", "", "gone", "report"),
    Transition("queued", "dropped", "order of the operator", "gone", ""),
    Transition("waiting", "dropped", "order of the operator", "gone", ""),
    Transition("waiting", "recipient removed", "", "gone", "report"),
)
"""The life of one message."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """What an operator sees of a message; the members are those of the control API."""

    recipient: str
    type: str
    zone: str
    distribution_id: str
    enqueued_at: float
    attempts: int
    next_attempt: float
    last_error: str | None
    key: str = ""  #: of the entry
    state: Literal["queued", "under way", "waiting", "resting", "paused"] = "queued"


@dataclass(slots=True)
class _Lane:
    """Messages to one recipient about one zone, oldest first."""

    entries: deque[OutboundEntry]
    attempts: int = 0  #: of the first entry
    next_attempt: float = 0.0
    last_error: str | None = None
    under_way: str | None = None  #: key of the message whose outcome is awaited; it may have been given up meanwhile


_LaneKey = tuple[str, str]


class DeliveryQueue:
    """All messages of one node that wait for delivery.

    :param capacity: most messages.
    """

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._entries: dict[str, OutboundEntry] = {}  # in the order of their keys
        self._lanes: dict[_LaneKey, _Lane] = {}
        self._ready: set[str] = set()
        self._paused: set[str] = set()
        self._under_way: dict[str, _LaneKey] = {}  # key of a message -> its lane
        self._load: dict[str, int] = {}  # recipient -> messages under way
        self._blocked: dict[str, deque[_LaneKey]] = {}  # recipient -> lanes that wait for its load to sink
        self._due: list[tuple[float, _LaneKey]] = []
        self._number = 0
        self._timer_at: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def messages(self, zone: str | None = None) -> list[QueuedMessage]:
        """What waits, oldest first, of one zone or of all."""
        found: list[QueuedMessage] = []
        for entry in self._entries.values():
            if zone is not None and entry.zone != zone:
                continue
            lane = self._lanes[entry.recipient, entry.zone]
            first = lane.entries[0].key == entry.key
            found.append(
                QueuedMessage(
                    recipient=entry.recipient,
                    type=entry.message.TYPE,
                    zone=entry.zone,
                    distribution_id=entry.distribution_id,
                    enqueued_at=entry.enqueued_at,
                    attempts=lane.attempts if first else 0,
                    next_attempt=max(lane.next_attempt, entry.enqueued_at),
                    last_error=lane.last_error if first else None,
                    key=entry.key,
                    state=self._state_of(entry, lane),
                )
            )
        return found

    def _state_of(
        self, entry: OutboundEntry, lane: _Lane
    ) -> Literal["queued", "under way", "waiting", "resting", "paused"]:
        if entry.key in self._under_way:
            return "under way"
        if entry.recipient in self._paused:
            return "paused"
        if entry.recipient not in self._ready:
            return "resting"
        return "waiting" if lane.entries[0].key == entry.key and lane.attempts else "queued"

    @property
    def capacity(self) -> int:
        """Most messages."""
        return self._capacity

    @property
    def paused(self) -> tuple[str, ...]:
        """Recipients to which nothing is sent, by order of the operator."""
        return tuple(sorted(self._paused))

    def entry(self, key: str) -> OutboundEntry | None:
        """The message *key*, or ``None``."""
        return self._entries.get(key)

    # -------------------------------------------------------------------------------------------------------- events

    def restore(self, stored: Mapping[str, Mapping[str, Any]], now: float, paused: Iterable[str] = ()) -> list[Action]:
        """Take over what a former run has stored, key -> value; call it once, before anything else.

        Values that are damaged are deleted.

        :param paused: keys of the ``Store`` actions of kind :data:`PAUSED`.
        """
        self._paused.update(paused)
        actions: list[Action] = []
        for key in sorted(stored):
            try:
                entry = OutboundEntry.from_value(key, stored[key])
                self._number = max(self._number, int(key))
            except (MessageError, ValueError):
                actions.append(Store(KIND, key, None))
                continue
            self._append(entry)
        return [*actions, *self._expire(now), *self._set_timer()]

    def enqueue(self, recipient: str, message: Message, distribution_id: str, now: float) -> list[Action]:
        """Put a message into the queue.

        The same message once more, to the same recipient under the same distribution id, is ignored.

        :raises QueueFullError: the queue has no room.
        """
        lane = self._lanes.get((recipient, message.zone_name))
        waiting = lane.entries if lane is not None else ()
        if any(entry.distribution_id == distribution_id and entry.message == message for entry in waiting):
            return []
        superseded = [entry for entry in waiting if not entry.tried and _replaces(message, entry.message)]
        if len(self._entries) - len(superseded) >= self._capacity:
            raise QueueFullError(f"{len(self._entries)} messages wait for delivery, no more are taken")
        self._number += 1
        entry = OutboundEntry(f"{self._number:012d}", recipient, message, distribution_id, now)
        self._append(entry)
        actions: list[Action] = [Store(KIND, entry.key, entry.to_value())]
        for old in superseded:
            self._remove(old)
            actions += [Store(KIND, old.key, None), Superseded(old, distribution_id)]
        return [*actions, *self._go((recipient, entry.zone), now), *self._set_timer()]

    def recipient_ready(self, recipient: str, now: float) -> list[Action]:
        """Messages can be delivered to *recipient* (again): whatever waits for it is tried at once."""
        self._ready.add(recipient)
        actions: list[Action] = []
        for key, lane in list(self._lanes.items()):
            if key[0] == recipient:
                lane.next_attempt = min(lane.next_attempt, now)
                actions += self._go(key, now)
        return [*actions, *self._set_timer()]

    def recipient_not_ready(self, recipient: str, now: float) -> list[Action]:
        """Messages cannot be delivered to *recipient* for now; those under way go on."""
        self._ready.discard(recipient)
        return self._set_timer()

    def forget_recipient(self, recipient: str, reason: str, now: float) -> list[Action]:
        """Give up everything for *recipient*, for example because it has left all zones.

        :param reason: in words.
        """
        self._ready.discard(recipient)
        actions: list[Action] = []
        if recipient in self._paused:
            self._paused.discard(recipient)
            actions.append(Store(PAUSED, recipient, None))
        for entry in [entry for entry in self._entries.values() if entry.recipient == recipient]:
            actions += self._give_up(entry, reason)
        return [*actions, *self._set_timer()]

    # ------------------------------------------------------------------------------------------ orders of the operator

    def pause(self, recipient: str, now: float) -> list[Action]:
        """Send nothing to *recipient* until :meth:`resume`, also after a restart; what is under way goes on.

        Messages are given up all the same when they are a day old.
        """
        if recipient in self._paused:
            return []
        self._paused.add(recipient)
        return [Store(PAUSED, recipient, {"since": now}), *self._set_timer()]

    def resume(self, recipient: str, now: float) -> list[Action]:
        """Send to *recipient* again: whatever waits for it is tried at once."""
        if recipient not in self._paused:
            return []
        self._paused.discard(recipient)
        return [Store(PAUSED, recipient, None), *self.retry(recipient, now)]

    def retry(self, recipient: str | None, now: float) -> list[Action]:
        """Try at once what waits for its next attempt: to *recipient*, or ``None``: to anybody."""
        actions: list[Action] = []
        for key, lane in list(self._lanes.items()):
            if recipient in (None, key[0]):
                lane.next_attempt = min(lane.next_attempt, now)
                actions += self._go(key, now)
        return [*actions, *self._set_timer()]

    def drop(self, key: str, now: float) -> list[Action]:
        """Give the message *key* up; it is not reported as :class:`~mpcore.peer.actions.Expired`.

        :raises NotFoundError: there is none.
        :raises ConflictError: it is under way.
        """
        entry = self._entries.get(key)
        if entry is None:
            raise NotFoundError(f"no message {key.lstrip('0') or '0'} is in the queue")
        if key in self._under_way:
            raise ConflictError(f"message {key.lstrip('0')} is under way right now")
        self._remove(entry)
        return [Store(KIND, key, None), *self._go((entry.recipient, entry.zone), now), *self._set_timer()]

    # ------------------------------------------------------------------------------------------------------- outcomes

    def delivered(self, key: str, now: float) -> list[Action]:
        """The recipient has acknowledged the message *key*."""
        lane_key = self._landed(key)
        actions: list[Action] = []
        entry = self._entries.get(key)
        if entry is not None:
            self._remove(entry)
            actions.append(Store(KIND, key, None))
        return [*actions, *self._continue(lane_key, now), *self._set_timer()]

    def failed(self, key: str, reason: str, now: float) -> list[Action]:
        """The attempt to deliver the message *key* has failed.

        :param reason: in words, for the operator.
        """
        lane_key = self._landed(key)
        lane = self._lanes.get(lane_key) if lane_key is not None else None
        if lane is not None and key in self._entries:
            lane.last_error = reason
            lane.next_attempt = now + RETRY[min(lane.attempts, len(RETRY)) - 1]
        return [*self._expire(now), *self._continue(lane_key, now), *self._set_timer()]

    def timer(self, name: str, now: float) -> list[Action]:
        """The timer ``delivery`` has run out."""
        if name != _TIMER:
            return []
        self._timer_at = None
        actions = self._expire(now)
        while self._due and self._due[0][0] <= now:
            at, lane_key = heapq.heappop(self._due)
            lane = self._lanes.get(lane_key)
            if lane is not None and lane.next_attempt <= at:
                actions += self._go(lane_key, now)
        return [*actions, *self._set_timer()]

    # --------------------------------------------------------------------------------------------------------- parts

    def _append(self, entry: OutboundEntry) -> None:
        self._entries[entry.key] = entry
        self._lanes.setdefault((entry.recipient, entry.zone), _Lane(deque())).entries.append(entry)

    def _remove(self, entry: OutboundEntry) -> None:
        del self._entries[entry.key]
        lane = self._lanes[entry.recipient, entry.zone]
        if lane.entries[0].key == entry.key:
            lane.entries.popleft()
            lane.attempts, lane.next_attempt, lane.last_error = 0, 0.0, None
        else:
            lane.entries = deque(kept for kept in lane.entries if kept.key != entry.key)
        if not lane.entries and lane.under_way is None:
            del self._lanes[entry.recipient, entry.zone]

    def _go(self, lane_key: _LaneKey, now: float) -> list[Action]:
        """Attempt the first message of a lane, if it is its time."""
        recipient = lane_key[0]
        lane = self._lanes.get(lane_key)
        if lane is None or not lane.entries or lane.under_way is not None or recipient not in self._ready:
            return []
        if recipient in self._paused:
            return []
        if lane.next_attempt > now:
            heapq.heappush(self._due, (lane.next_attempt, lane_key))
            return []
        if self._load.get(recipient, 0) >= MAX_UNDER_WAY:
            self._blocked.setdefault(recipient, deque()).append(lane_key)
            return []
        entry = lane.entries[0]
        if not entry.tried:
            entry = replace(entry, tried=True)
            lane.entries[0] = self._entries[entry.key] = entry
        lane.attempts += 1
        lane.under_way = entry.key
        self._under_way[entry.key] = lane_key
        self._load[recipient] = self._load.get(recipient, 0) + 1
        return [Attempt(entry)]

    def _landed(self, key: str) -> _LaneKey | None:
        """The outcome of the message *key* is known."""
        lane_key = self._under_way.pop(key, None)
        if lane_key is not None:
            self._lanes[lane_key].under_way = None
            self._load[lane_key[0]] -= 1
            if not self._load[lane_key[0]]:
                del self._load[lane_key[0]]
        return lane_key

    def _continue(self, lane_key: _LaneKey | None, now: float) -> list[Action]:
        """A message of this lane has landed: go on with it, or with one that was blocked by the load."""
        if lane_key is None:
            return []
        lane = self._lanes.get(lane_key)
        if lane is not None and not lane.entries and lane.under_way is None:
            del self._lanes[lane_key]
        recipient = lane_key[0]
        blocked = self._blocked.get(recipient)
        actions: list[Action] = []
        while blocked and self._load.get(recipient, 0) < MAX_UNDER_WAY:
            actions += self._go(blocked.popleft(), now)
        if not blocked:
            self._blocked.pop(recipient, None)
        return [*actions, *self._go(lane_key, now)]

    def _expire(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for entry in list(self._entries.values()):
            if entry.enqueued_at + EXPIRY > now:
                break
            if entry.key not in self._under_way:
                actions += self._give_up(entry, "it could not be delivered within a day")
        return actions

    def _give_up(self, entry: OutboundEntry, reason: str) -> list[Action]:
        self._remove(entry)
        return [Store(KIND, entry.key, None), Expired(entry, reason)]

    def _set_timer(self) -> list[Action]:
        moments = [self._due[0][0]] if self._due else []
        for entry in self._entries.values():
            if entry.key not in self._under_way:
                moments.append(entry.enqueued_at + EXPIRY)
                break
        at = min(moments, default=None)
        if at is None or (self._timer_at is not None and self._timer_at <= at):
            return []
        self._timer_at = at
        return [SetTimer(_TIMER, at)]


def _replaces(newer: Message, older: Message) -> bool:
    """Whether *newer* makes *older*, to the same recipient about the same zone, superfluous."""
    if not isinstance(newer, Sync | Update) or type(newer) is not type(older) or not isinstance(older, Sync | Update):
        return False
    return (
        newer.originator_id == older.originator_id
        and _only_replaces(newer)
        and _only_replaces(older)
        and {item.rrtype for item in older.operations} <= {item.rrtype for item in newer.operations}
    )


def _only_replaces(message: Sync | Update) -> bool:
    """Whether a message does nothing but replace complete sets."""
    return bool(message.operations) and (
        all(item.operation == "replace" for item in message.operations)
        and not message.records
        and message.publish is None
    )
