"""Zones kept over restarts: their records, the latest changes, and when a primary confirmed them last.

The rows of a zone are rewritten owner by owner (:mod:`mpcore.zone.stored`): a change costs what it changes.  A zone
whose rows are being rewritten in several transactions is *torn* meanwhile, and not to be used by the next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mpcore.zone.stored import Row

__all__ = (
    "ZONES_SCHEMA",
    "CopyState",
    "clear_rows",
    "delete_copy",
    "drop_deltas",
    "load_copies",
    "load_deltas",
    "load_refreshes",
    "put_copy",
    "put_delta",
    "put_refresh",
    "put_rows",
    "read_rows",
    "tear",
)

ZONES_SCHEMA: Final = (
    """CREATE TABLE zone_copies (
        id INTEGER NOT NULL PRIMARY KEY,
        zone TEXT NOT NULL UNIQUE,
        whole INTEGER NOT NULL CHECK (whole IN (0, 1)),
        made TEXT NOT NULL,
        incoming_serial INTEGER NOT NULL,
        incoming_records INTEGER NOT NULL,
        outgoing_serial INTEGER,
        outgoing_records INTEGER
    ) STRICT""",
    """CREATE TABLE zone_rows (
        copy INTEGER NOT NULL,
        part INTEGER NOT NULL CHECK (part IN (0, 1)),
        owner BLOB NOT NULL,
        records BLOB NOT NULL,
        PRIMARY KEY (copy, part, owner)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE zone_deltas (
        copy INTEGER NOT NULL,
        position INTEGER NOT NULL,
        records BLOB NOT NULL,
        UNIQUE (copy, position)
    ) STRICT""",
    """CREATE TABLE zone_refreshes (
        zone TEXT NOT NULL,
        source TEXT NOT NULL,
        refreshed_at REAL NOT NULL,
        PRIMARY KEY (zone, source)
    ) STRICT, WITHOUT ROWID""",
)
"""Statements that make the tables; a migration of combiner and signer."""


@dataclass(frozen=True, slots=True)
class CopyState:
    """What is kept of one zone.

    :param made: how the outgoing version came about, in the role's own words: another way makes another version.
    :param outgoing_serial: ``None``: nothing was published.
    """

    made: str
    incoming_serial: int
    incoming_records: int
    outgoing_serial: int | None
    outgoing_records: int | None
    whole: bool = True


def load_copies(connection: sqlite3.Connection) -> dict[str, CopyState]:
    """What is kept: zone -> state."""
    rows = connection.execute(
        "SELECT zone, made, incoming_serial, incoming_records, outgoing_serial, outgoing_records, whole"
        " FROM zone_copies ORDER BY zone"
    )
    return {row[0]: CopyState(row[1], row[2], row[3], row[4], row[5], bool(row[6])) for row in rows}


def put_copy(connection: sqlite3.Connection, zone: str, state: CopyState) -> None:
    """Say what the rows of *zone* are."""
    connection.execute(
        "INSERT INTO zone_copies"
        " (zone, made, incoming_serial, incoming_records, outgoing_serial, outgoing_records, whole)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (zone) DO UPDATE SET made = excluded.made,"
        " incoming_serial = excluded.incoming_serial, incoming_records = excluded.incoming_records,"
        " outgoing_serial = excluded.outgoing_serial, outgoing_records = excluded.outgoing_records,"
        " whole = excluded.whole",
        (
            zone,
            state.made,
            state.incoming_serial,
            state.incoming_records,
            state.outgoing_serial,
            state.outgoing_records,
            int(state.whole),
        ),
    )


def tear(connection: sqlite3.Connection, zone: str) -> None:
    """The rows of *zone*, if there are any, are no zone any more until :func:`put_copy` says so."""
    connection.execute("UPDATE zone_copies SET whole = 0 WHERE zone = ?", (zone,))


def _copy(connection: sqlite3.Connection, zone: str) -> int:
    found = connection.execute("SELECT id FROM zone_copies WHERE zone = ?", (zone,)).fetchone()
    if found is None:
        put_copy(connection, zone, CopyState("", 0, 0, None, None, whole=False))
        return _copy(connection, zone)
    return int(found[0])


def put_rows(connection: sqlite3.Connection, zone: str, rows: Iterable[Row]) -> None:
    """Write and remove rows of *zone*; :func:`put_copy` must follow in this transaction or a later one."""
    copy = _copy(connection, zone)
    for part, owner, records in rows:
        if records is None:
            connection.execute("DELETE FROM zone_rows WHERE copy = ? AND part = ? AND owner = ?", (copy, part, owner))
        else:
            connection.execute("INSERT OR REPLACE INTO zone_rows VALUES (?, ?, ?, ?)", (copy, part, owner, records))


def read_rows(connection: sqlite3.Connection, zone: str, part: int) -> Iterator[tuple[bytes, bytes]]:
    """Sort keys and records of a part of *zone*, in order of keys."""
    yield from connection.execute(
        "SELECT owner, records FROM zone_rows WHERE copy = (SELECT id FROM zone_copies WHERE zone = ?) AND part = ?"
        " ORDER BY owner",
        (zone, part),
    )


def clear_rows(connection: sqlite3.Connection, zone: str, limit: int) -> bool:
    """Remove up to *limit* rows of *zone*; whether there are more."""
    copy = _copy(connection, zone)
    keys = connection.execute("SELECT part, owner FROM zone_rows WHERE copy = ? LIMIT ?", (copy, limit)).fetchall()
    connection.executemany(
        "DELETE FROM zone_rows WHERE copy = ? AND part = ? AND owner = ?", ((copy, *key) for key in keys)
    )
    return len(keys) == limit


def delete_copy(connection: sqlite3.Connection, zone: str) -> None:
    """Forget a zone whose rows are gone: its changes, refreshes and state."""
    drop_deltas(connection, zone, None)
    connection.execute("DELETE FROM zone_copies WHERE zone = ?", (zone,))
    connection.execute("DELETE FROM zone_refreshes WHERE zone = ?", (zone,))


def put_delta(connection: sqlite3.Connection, zone: str, position: int, octets: bytes) -> None:
    """Keep a change of *zone*; positions ascend."""
    connection.execute(
        "INSERT OR REPLACE INTO zone_deltas VALUES (?, ?, ?)", (_copy(connection, zone), position, octets)
    )


def drop_deltas(connection: sqlite3.Connection, zone: str, before: int | None) -> None:
    """Forget the changes of *zone* at positions below *before*; ``None``: all."""
    connection.execute(
        "DELETE FROM zone_deltas WHERE copy = (SELECT id FROM zone_copies WHERE zone = ?) AND position < ?",
        (zone, (1 << 62) if before is None else before),
    )


def load_deltas(connection: sqlite3.Connection, zone: str) -> list[tuple[int, bytes]]:
    """The changes of *zone*: positions and octets, oldest first."""
    return connection.execute(
        "SELECT position, records FROM zone_deltas WHERE copy = (SELECT id FROM zone_copies WHERE zone = ?)"
        " ORDER BY position",
        (zone,),
    ).fetchall()


def put_refresh(connection: sqlite3.Connection, zone: str, source: str, refreshed_at: float) -> None:
    """Note that a primary confirmed *zone* at *refreshed_at* (Unix seconds).

    :param source: which secondary of ours it is, in the role's own words.
    """
    connection.execute("INSERT OR REPLACE INTO zone_refreshes VALUES (?, ?, ?)", (zone, source, refreshed_at))


def load_refreshes(connection: sqlite3.Connection) -> dict[tuple[str, str], float]:
    """Zone and source -> Unix time of the last confirmation."""
    rows = connection.execute("SELECT zone, source, refreshed_at FROM zone_refreshes ORDER BY zone, source")
    return {(zone, source): refreshed_at for zone, source, refreshed_at in rows}
