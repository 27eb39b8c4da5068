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

    # -- storing -------------------------------------------------------------------------------------------------

    def touch(self, row: _Row) -> None:
        """*row* changed and is to be stored."""
        self._dirty[row.KIND, row.store_key] = row

    def forget(self, row: _Row) -> None:
        """*row* left its table and is to be deleted."""
        self._dirty[row.KIND, row.store_key] = None

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
            ledger.entries.setdefault((entry.zone, entry.originator, entry.record.rrtype), {})[entry.record.text] = (
                entry
            )
            ledger.sequence = max(ledger.sequence, entry.sequence)
        for distribution in _rows(stored, Distribution):
            ledger.distributions[distribution.id] = distribution
            ledger.sequence = max(ledger.sequence, distribution.sequence)
        for inbound in _rows(stored, Inbound):
            ledger.inbounds[inbound.sender, inbound.distribution_id] = inbound
        for mark in _rows(stored, Mark):
            ledger.marks[mark.zone, mark.originator, mark.rrtype] = mark
        for memory in _rows(stored, ZoneMemory):
            ledger.zones[memory.zone] = memory
        for change in sorted(_rows(stored, Change), key=lambda change: (change.created_at, change.id)):
            ledger.changes[change.id] = change
        return ledger

    # -- reading -------------------------------------------------------------------------------------------------

    def set_of(self, key: SetKey) -> dict[str, Entry]:
        """Entries of one author and type by text, present or leaving."""
        return self.entries.get(key, {})

    def present(self, key: SetKey) -> list[Entry]:
        """The entries of the set that the author wants to be there, in order of their texts."""
        return [entry for _, entry in sorted(self.set_of(key).items()) if entry.present]

    def zone_sets(self, zone: str) -> Iterator[tuple[SetKey, dict[str, Entry]]]:
        """All sets of a zone, in order."""
        for key in sorted(key for key in self.entries if key[0] == zone):
            yield key, self.entries[key]

    def of_set(self, key: SetKey) -> list[Distribution]:
        """Distributions of one author and type, oldest first."""
        found = [item for item in self.distributions.values() if (item.zone, item.originator, item.rrtype) == key]
        return sorted(found, key=lambda item: item.sequence)

    def awaits(self, key: SetKey, recipient: str) -> bool:
        """Whether an answer of *recipient* to a message with the set is awaited."""
        return any((leg := item.legs.get(recipient)) is not None and leg.awaited for item in self.of_set(key))

    # -- changing ------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Add an entry."""
        self.entries.setdefault((entry.zone, entry.originator, entry.record.rrtype), {})[entry.record.text] = entry
        self.touch(entry)

    def drop(self, entry: Entry) -> None:
        """Remove an entry."""
        key = (entry.zone, entry.originator, entry.record.rrtype)
        held = self.entries.get(key, {})
        held.pop(entry.record.text, None)
        if not held:
            self.entries.pop(key, None)
        self.forget(entry)

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
