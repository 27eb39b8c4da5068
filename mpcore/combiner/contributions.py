"""What the providers contribute to one zone, as this combiner keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mpcore.names import ZoneName
from mpcore.sde.records import ContributedRecord

__all__ = ("Contribution", "Contributions")


@dataclass(frozen=True, slots=True)
class Contribution:
    """One record of one author.

    :param originator: identity of the author, maybe an agent of another provider.
    :param record: the record; its owner is the apex of the zone.
    :param received_at: Unix seconds.
    """

    originator: str
    record: ContributedRecord
    received_at: float


class Contributions:
    """The contributions to one zone: author -> type -> records; immutable.

    Of one author and type there is one record for each RDATA, whatever its TTL and spelling.

    :param zone: name of the zone.
    :param items: what is kept; of two with the same author, type and RDATA the later one.
    """

    __slots__ = ("_sets", "zone")

    def __init__(self, zone: str, items: Iterable[Contribution] = ()) -> None:
        self.zone = ZoneName(zone)
        sets: dict[tuple[str, str], dict[bytes, Contribution]] = {}
        for item in items:
            sets.setdefault((item.originator, item.record.rrtype), {})[item.record.key] = item
        self._sets: dict[tuple[str, str], Mapping[bytes, Contribution]] = dict(sets)

    def __iter__(self) -> Iterator[Contribution]:
        """All contributions in order of author, type and RDATA."""
        for _, held in sorted(self._sets.items()):
            for _, item in sorted(held.items()):
                yield item

    def __len__(self) -> int:
        return sum(len(held) for held in self._sets.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Contributions):
            return NotImplemented
        return self.zone == other.zone and self._sets == other._sets

    __hash__ = None  # type: ignore[assignment]

    def get(self, originator: str, rrtype: str) -> Mapping[bytes, Contribution]:
        """What *originator* contributes of a type (mnemonic): canonical RDATA -> contribution."""
        return self._sets.get((originator, rrtype), {})

    def of_type(self, rrtype: str) -> list[Contribution]:
        """All contributions of a type (mnemonic), in order of author and RDATA."""
        return [
            item
            for (_, held_type), held in sorted(self._sets.items())
            if held_type == rrtype
            for _, item in sorted(held.items())
        ]

    def originators(self) -> tuple[str, ...]:
        """Identities of all authors, sorted."""
        return tuple(sorted({originator for originator, _ in self._sets}))

    def with_set(self, originator: str, rrtype: str, held: Mapping[bytes, Contribution]) -> Contributions:
        """The contributions with those of one author and type replaced; none = they are gone."""
        result = Contributions(self.zone)
        result._sets = {key: value for key, value in self._sets.items() if key != (originator, rrtype)}
        if held:
            result._sets[originator, rrtype] = dict(held)
        return result

    def snapshot(self) -> dict[str, dict[str, list[str]]]:
        """Author -> owner -> record texts: the ``AgentRecords`` of an EDITS message (guide, wire format)."""
        result: dict[str, dict[str, list[str]]] = {}
        for item in self:
            result.setdefault(item.originator, {}).setdefault(str(self.zone), []).append(item.record.text)
        return result
