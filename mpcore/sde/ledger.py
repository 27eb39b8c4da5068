"""The tables of the synchronised data engine, and what of them has changed since it was last stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from mpcore.actions import Store
from mpcore.errors import StoreError
from mpcore.sde.model import Change, Distribution, Entry, Inbound, Mark, ZoneMemory

__all__ = ("Ledger", "SetKey")

SetKey = tuple[str, str, str]
"""Zone, author, type (mnemonic): whose records of what."""


class _Row(Protocol):
    KIND: ClassVar[str]

    @property
    def store_key(self) -> str: ...

    def to_value(self) -> dict[str, Any]: ...


_RowT = TypeVar("_RowT", Entry, Distribution, Inbound, Mark, ZoneMemory, Change)


class Ledger:
    """Entries, distributions, received messages, marks, zones and changes.

    Whoever changes a row says so with :meth:`touch`; :meth:`stores` gives the ``Store`` actions that bring the database
    up to date.
    """

    def __init__(self) -> None:
        self.entries: dict[SetKey, dict[str, Entry]] = {}
        self.distributions: dict[str, Distribution] = {}
        self.inbounds: dict[tuple[str, str], Inbound] = {}
        self.marks: dict[SetKey, Mark] = {}
        self.zones: dict[str, ZoneMemory] = {}
        self.changes: dict[str, Change] = {}
        self.sequence = 0
        self._dirty: dict[tuple[str, str], _Row | None] = {}
        self._sets_of_zone: dict[str, dict[SetKey, None]] = {}
        self._distributions_of_set: dict[SetKey, dict[str, Distribution]] = {}
        self._inbounds_of_author: dict[tuple[str, str], dict[str, Inbound]] = {}
        self._open_changes: dict[str, dict[str, Change]] = {}
        self._moved: dict[str, None] = {}

    # -- storing -------------------------------------------------------------------------------------------------

    def touch(self, row: _Row) -> None:
        """*row* changed and is to be stored."""
        self._dirty[row.KIND, row.store_key] = row
        if isinstance(row, Entry | Change):
            self._moved[row.zone] = None

    def forget(self, row: _Row) -> None:
        """*row* left its table and is to be deleted."""
        self._dirty[row.KIND, row.store_key] = None
        if isinstance(row, Entry):
            self._moved[row.zone] = None

    def stores(self) -> list[Store]:
        """What to store since the last call."""
        dirty, self._dirty = self._dirty, {}
        return [Store(kind, key, None if row is None else row.to_value()) for (kind, key), row in dirty.items()]

    @classmethod
    def restored(cls, stored: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Ledger:
        """The tables as they were stored.

        :raises StoreError: a value is damaged.
        """
        ledger = cls()
        for entry in _rows(stored, Entry):
            ledger.put(entry)
            ledger.sequence = max(ledger.sequence, entry.sequence)
        for distribution in _rows(stored, Distribution):
            ledger.add_distribution(distribution)
            ledger.sequence = max(ledger.sequence, distribution.sequence)
        for inbound in _rows(stored, Inbound):
            ledger.add_inbound(inbound)
        for mark in _rows(stored, Mark):
            ledger.marks[mark.zone, mark.originator, mark.rrtype] = mark
        for memory in _rows(stored, ZoneMemory):
            ledger.zones[memory.zone] = memory
        for change in sorted(_rows(stored, Change), key=lambda change: (change.created_at, change.id)):
            ledger.add_change(change)
        ledger._dirty.clear()
        ledger._moved.clear()
        return ledger

    # -- reading -------------------------------------------------------------------------------------------------

    def set_of(self, key: SetKey) -> dict[str, Entry]:
        """Entries of one author and type by text, present or leaving."""
        return self.entries.get(key, {})

    def present(self, key: SetKey) -> list[Entry]:
        """The entries of the set that the author wants to be there, in order of their texts."""
        return [entry for _, entry in sorted(self.set_of(key).items()) if entry.present]

    def zone_names(self) -> list[str]:
        """The zones that have entries, in order."""
        return sorted(zone for zone, sets in self._sets_of_zone.items() if sets)

    def zone_sets(self, zone: str) -> Iterator[tuple[SetKey, dict[str, Entry]]]:
        """All sets of a zone, in order."""
        for key in sorted(self._sets_of_zone.get(zone, ())):
            yield key, self.entries[key]

    def of_set(self, key: SetKey) -> list[Distribution]:
        """Distributions of one author and type, oldest first."""
        return sorted(self._distributions_of_set.get(key, {}).values(), key=lambda item: item.sequence)

    def of_author(self, zone: str, author: str) -> list[Inbound]:
        """Messages of one author about a zone, oldest first."""
        return list(self._inbounds_of_author.get((zone, author), {}).values())

    def awaits(self, key: SetKey, recipient: str) -> bool:
        """Whether an answer of *recipient* to a message with the set is awaited."""
        return any((leg := item.legs.get(recipient)) is not None and leg.awaited for item in self.of_set(key))

    # -- changing ------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Add an entry."""
        key = (entry.zone, entry.originator, entry.record.rrtype)
        self.entries.setdefault(key, {})[entry.record.text] = entry
        self._sets_of_zone.setdefault(entry.zone, {})[key] = None
        self.touch(entry)

    def drop(self, entry: Entry) -> None:
        """Remove an entry."""
        key = (entry.zone, entry.originator, entry.record.rrtype)
        held = self.entries.get(key, {})
        held.pop(entry.record.text, None)
        if not held:
            self.entries.pop(key, None)
            self._sets_of_zone.get(entry.zone, {}).pop(key, None)
        self.forget(entry)

    def add_distribution(self, distribution: Distribution) -> None:
        """Add a distribution."""
        key = (distribution.zone, distribution.originator, distribution.rrtype)
        self.distributions[distribution.id] = distribution
        self._distributions_of_set.setdefault(key, {})[distribution.id] = distribution
        self.touch(distribution)

    def drop_distribution(self, distribution: Distribution) -> None:
        """Remove a distribution, if it is there."""
        if self.distributions.pop(distribution.id, None) is None:
            return
        key = (distribution.zone, distribution.originator, distribution.rrtype)
        held = self._distributions_of_set[key]
        del held[distribution.id]
        if not held:
            del self._distributions_of_set[key]
        self.forget(distribution)

    def add_inbound(self, inbound: Inbound) -> None:
        """Add a received message, in the place of one with the same sender and distribution id."""
        former = self.inbounds.get((inbound.sender, inbound.distribution_id))
        if former is not None:
            self.drop_inbound(former)
        self.inbounds[inbound.sender, inbound.distribution_id] = inbound
        self._inbounds_of_author.setdefault((inbound.zone, inbound.sender), {})[inbound.distribution_id] = inbound
        self.touch(inbound)

    def drop_inbound(self, inbound: Inbound) -> None:
        """Remove a received message, if it is there."""
        if self.inbounds.pop((inbound.sender, inbound.distribution_id), None) is None:
            return
        held = self._inbounds_of_author[inbound.zone, inbound.sender]
        del held[inbound.distribution_id]
        if not held:
            del self._inbounds_of_author[inbound.zone, inbound.sender]
        self.forget(inbound)

    def add_change(self, change: Change) -> None:
        """Add a change."""
        self.changes[change.id] = change
        if change.open:
            self._open_changes.setdefault(change.zone, {})[change.id] = change
        self.touch(change)

    def close_change(self, change: Change) -> None:
        """The fate of a change is sealed."""
        held = self._open_changes.get(change.zone, {})
        held.pop(change.id, None)
        if not held:
            self._open_changes.pop(change.zone, None)

    def drop_change(self, change: Change) -> None:
        """Remove a change."""
        self.close_change(change)
        del self.changes[change.id]
        self.forget(change)

    def moved_changes(self) -> list[Change]:
        """Open changes of the zones in which something changed since the last call."""
        moved, self._moved = self._moved, {}
        return [change for zone in moved for change in self._open_changes.get(zone, {}).values()]

    def next_sequence(self) -> int:
        """The number of the next distribution."""
        self.sequence += 1
        return self.sequence


def _rows(stored: Mapping[str, Mapping[str, Mapping[str, Any]]], cls: type[_RowT]) -> Iterator[_RowT]:
    for key, value in stored.get(cls.KIND, {}).items():
        try:
            yield cls.from_value(value)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise StoreError(f"stored {cls.KIND} {key!r} is damaged: {error!r}") from None
