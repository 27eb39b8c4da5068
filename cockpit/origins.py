"""Where served records come from: what a signer calls ``owner`` may have been contributed through its combiner.

A signer knows which records it made itself; whether the others come from the zone's owner or were merged in for an
agent,
its combiner knows.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpcore.control.models import Contribution, ZoneRecords

__all__ = ("with_contributors",)


def with_contributors(served: ZoneRecords, contributions: Iterable[Contribution]) -> ZoneRecords:
    """*served* with the contributing agent as origin of each applied contribution."""
    contributors = {_identity(each.record): each.originator for each in contributions if each.applied}
    if not contributors:
        return served
    records = tuple(
        record.model_copy(update={"origin": contributors[key]})
        if (key := _identity(record.record)) in contributors
        else record
        for record in served.records
    )
    return served.model_copy(update={"records": records})


def _identity(record: str) -> tuple[str, ...]:
    """Owner, type and data of a record; its TTL may differ, that of a set is one (RFC 2181, section 5.2)."""
    owner, _, *rest = record.split()
    return (owner.lower(), *rest)
