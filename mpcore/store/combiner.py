"""Database of a combiner: contributions, outgoing serials, documents (owed confirmations, queue), messages seen, zones.

A zone is kept as it came and as it is published, with its latest changes (:mod:`mpcore.store.zones`): after a restart
it is served at once, under the serial that it had, and secondaries get what has changed instead of the whole zone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mpcore.combiner.contributions import Contribution
from mpcore.errors import StoreError
from mpcore.names import ZoneName
from mpcore.sde.records import RDATA_TYPES, ContributedRecord
from mpcore.store.database import Database, Executor, Migration
from mpcore.store.seen import SEEN_SCHEMA
from mpcore.store.serials import SERIALS_SCHEMA
from mpcore.store.state import STATE_SCHEMA
from mpcore.store.zones import ZONES_SCHEMA

__all__ = (
    "APPLICATION_ID",
    "MIGRATIONS",
    "ContributionRow",
    "delete_contributions",
    "load_contributions",
    "open_combiner_database",
    "put_contributions",
)

APPLICATION_ID: Final = 0x6D70436F  # "mpCo"
"""Marks a file as a combiner's database."""

_CONTRIBUTIONS: Final = (
    """CREATE TABLE contributions (
        zone TEXT NOT NULL,
        originator TEXT NOT NULL,
        owner BLOB NOT NULL,
        rrtype INTEGER NOT NULL CHECK (rrtype BETWEEN 1 AND 65535),
        rdata BLOB NOT NULL,
        ttl INTEGER NOT NULL CHECK (ttl BETWEEN 0 AND 2147483647),
        record TEXT NOT NULL,
        received_at REAL NOT NULL,
        PRIMARY KEY (zone, originator, owner, rrtype, rdata)
    ) STRICT, WITHOUT ROWID""",
)

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (*STATE_SCHEMA, *SEEN_SCHEMA, *SERIALS_SCHEMA, *_CONTRIBUTIONS),
    ZONES_SCHEMA,
)
"""Schema versions, oldest first; never changed, only added to."""


@dataclass(frozen=True, slots=True)
class ContributionRow:
    """One contributed record.

    :param zone: zone name, absolute, lower case.
    :param originator: identity of the author.
    :param owner: owner, canonical wire octets.
    :param rrtype: type, 1 to 65535.
    :param rdata: wire octets, uncompressed.
    :param ttl: seconds.
    :param record: text as received.
    :param received_at: Unix seconds.
    """

    zone: str
    originator: str
    owner: bytes
    rrtype: int
    rdata: bytes
    ttl: int
    record: str
    received_at: float

    @classmethod
    def of(cls, zone: str, item: Contribution) -> Self:
        """The row of a contribution to *zone*; its owner is the apex."""
        record = item.record
        apex = ZoneName(zone)
        return cls(
            str(apex),
            item.originator,
            apex.owner,
            record.rdtype,
            record.rdata,
            record.ttl,
            record.text,
            item.received_at,
        )

    def contribution(self) -> Contribution:
        """The contribution in this row.

        :raises StoreError: it has a type that is not contributed.
        """
        rrtype = next((name for name, number in RDATA_TYPES.items() if number == self.rrtype), None)
        if rrtype is None:
            raise StoreError(f"stored contribution to {self.zone} of type {self.rrtype}")
        return Contribution(
            self.originator, ContributedRecord(self.record, rrtype, self.ttl, self.rdata), self.received_at
        )


async def open_combiner_database(path: str | Path, executor: Executor | None = None) -> Database:
    """Open or create the database of a combiner; see :meth:`mpcore.store.database.Database.open`."""
    return await Database.open(path, MIGRATIONS, executor, application_id=APPLICATION_ID)


def put_contributions(connection: sqlite3.Connection, rows: Iterable[ContributionRow]) -> None:
    """Keep contributions; one with the same zone, originator, owner, type and RDATA takes the place of the old one."""
    connection.executemany(
        "INSERT INTO contributions (zone, originator, owner, rrtype, rdata, ttl, record, received_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " ttl = excluded.ttl, record = excluded.record, received_at = excluded.received_at",
        (
            (row.zone, row.originator, row.owner, row.rrtype, row.rdata, row.ttl, row.record, row.received_at)
            for row in rows
        ),
    )


def delete_contributions(connection: sqlite3.Connection, rows: Iterable[ContributionRow]) -> None:
    """Drop contributions, known by zone, originator, owner, type and RDATA; those that are not there do not matter."""
    connection.executemany(
        "DELETE FROM contributions WHERE zone = ? AND originator = ? AND owner = ? AND rrtype = ? AND rdata = ?",
        ((row.zone, row.originator, row.owner, row.rrtype, row.rdata) for row in rows),
    )


def load_contributions(connection: sqlite3.Connection, zone: str | None = None) -> list[ContributionRow]:
    """All contributions (to *zone*), in order of zone, originator, owner, type and RDATA."""
    query = "SELECT zone, originator, owner, rrtype, rdata, ttl, record, received_at FROM contributions"
    parameters: tuple[str, ...] = ()
    if zone is not None:
        query, parameters = query + " WHERE zone = ?", (zone,)
    rows = connection.execute(query + " ORDER BY zone, originator, owner, rrtype, rdata", parameters)
    return [ContributionRow(*row) for row in rows]
