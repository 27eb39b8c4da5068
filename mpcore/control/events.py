"""The event stream of a node: a bounded log that any number of readers follow at their own pace.

There is no queue for a reader.  Every reader holds a position (the id of the last event it was given) in one ring,
and pulls; the ring is bounded by count and by octets, so a reader that does not pull costs nothing and holds nothing
back.  A reader whose position has left the ring is told so by a ``gap`` event and goes on from the present: it must
read the snapshot again.  A reader that lags far behind is spared events that a later one of the same kind and subject
replaces, because ``data`` is always the whole new resource.

Ids increase by one for each event.  A node starts them at a number that grows from one start of the daemon to the
next (milliseconds of the time of day), so that a position of a former run is never taken for one of this run.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import anyio
from pydantic import BaseModel

from mpcore.control.models import Event

__all__ = ("EventLog",)

_KINDS = frozenset(get_args(Event.model_fields["kind"].annotation)) - {"gap"}
_NEVER_REPLACED = frozenset({"log"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event at rest: its data stays JSON until somebody reads it."""

    id: int
    time: float
    kind: Any
    subject: str
    data: bytes

    def event(self) -> Event:
        return Event(id=self.id, time=self.time, kind=self.kind, subject=self.subject, data=json.loads(self.data))


class EventLog:
    """A bounded ring of events with increasing ids, and the way to follow it.

    Not for use from several threads: the node publishes and the readers read on one event loop.

    :param capacity: events kept, at least 1.
    :param max_octets: octets of event data kept, as JSON; the newest event is kept whatever its size.
    :param start: the id before the first event, 0 or more; see the module's text for what to pass.
    :param coalesce_after: a reader this many events behind is spared replaced ones, at least 1.
    """

    def __init__(
        self, capacity: int = 2048, *, max_octets: int = 16 * 1024 * 1024, start: int = 0, coalesce_after: int = 128
    ) -> None:
        if capacity < 1 or max_octets < 1 or start < 0 or coalesce_after < 1:
            raise ValueError("capacity, max_octets and coalesce_after are at least 1, start at least 0")
        self._capacity, self._max_octets, self._coalesce_after = capacity, max_octets, coalesce_after
        self._ring: deque[_Entry] = deque()
        self._octets = 0
        self._last_id = start
        self._last_time = 0.0
        self._newest: dict[tuple[str, str], int] = {}
        self._waiting: set[anyio.Event] = set()

    @property
    def last_id(self) -> int:
        """Id of the newest event; what a snapshot taken now carries as ``event_id``."""
        return self._last_id

    @property
    def oldest_resumable(self) -> int:
        """The smallest position from which nothing is missed."""
        return self._last_id - len(self._ring)

    def publish(self, kind: str, subject: str, data: BaseModel | Mapping[str, Any], now: float) -> int:
        """Append an event and wake the readers.

        :param kind: one of the kinds of :class:`~mpcore.control.models.Event` except ``gap``.
        :param subject: identity, group hash, zone or transaction id.
        :param data: the whole new resource; it is copied.
        :param now: Unix seconds.
        :returns: the id of the event.
        :raises ValueError: the kind is unknown, or the data is not JSON.
        """
        if kind not in _KINDS:
            raise ValueError(f"{kind!r} is not a kind of event")
        if isinstance(data, BaseModel):
            encoded = data.model_dump_json().encode()
        else:
            try:
                encoded = json.dumps(data, separators=(",", ":"), allow_nan=False, default=_plain).encode()
            except TypeError as error:
                raise ValueError(f"data of a {kind} event: {error}") from None
        self._last_id += 1
        self._last_time = now
        self._ring.append(_Entry(self._last_id, now, kind, subject, encoded))
        self._octets += len(encoded)
        self._newest[kind, subject] = self._last_id
        while len(self._ring) > self._capacity or (self._octets > self._max_octets and len(self._ring) > 1):
            dropped = self._ring.popleft()
            self._octets -= len(dropped.data)
            if self._newest[dropped.kind, dropped.subject] == dropped.id:
                del self._newest[dropped.kind, dropped.subject]
        for waiting in self._waiting:
            waiting.set()
        self._waiting.clear()
        return self._last_id

    def subscribe(self, after: int | None = None) -> AsyncIterator[Event]:
        """Follow the log; the iterator never ends by itself and holds nothing when it is dropped.

        :param after: give events with a greater id; ``None``: from this call on.
        :returns: events in the order of their ids; a ``gap`` event, with the id to resume from, where events are
            missing because they are no longer kept or *after* was not given out by this log.
        """
        return _Reader(self, self._last_id if after is None else after)

    def next_after(self, position: int) -> Event | None:
        """The event that a reader at *position* is given now, ``None`` when it has seen everything."""
        behind = self._last_id - position
        if behind == 0:
            return None
        if not 0 < behind <= len(self._ring):
            return Event(id=self._last_id, time=self._last_time, kind="gap")
        entry = self._ring[len(self._ring) - behind]
        while behind > self._coalesce_after and self._is_replaced(entry):
            behind -= 1
            entry = self._ring[len(self._ring) - behind]
        return entry.event()

    async def published(self) -> None:
        """Wait for the next :meth:`publish`."""
        wake = anyio.Event()
        self._waiting.add(wake)
        try:
            await wake.wait()
        finally:
            self._waiting.discard(wake)

    def _is_replaced(self, entry: _Entry) -> bool:
        return entry.kind not in _NEVER_REPLACED and self._newest[entry.kind, entry.subject] != entry.id


class _Reader:
    """A position in a log.  No generator: one that is dropped half-way leaves work for the event loop."""

    def __init__(self, log: EventLog, position: int) -> None:
        self._log, self._position = log, position

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Event:
        while (event := self._log.next_after(self._position)) is None:
            await self._log.published()
        self._position = event.id
        return event


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON")
