"""SOA serials that a daemon has served, so that they never go back (RFC 1982)."""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = ("SERIALS_SCHEMA", "delete_serial", "load_serials", "put_serial")

SERIALS_SCHEMA: Final = (
    """CREATE TABLE serials (
        zone TEXT NOT NULL PRIMARY KEY,
        serial INTEGER NOT NULL CHECK (serial BETWEEN 0 AND 4294967295),
        updated_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
)
"""Statements that make the table; part of the first migration of combiner and signer."""


def put_serial(connection: sqlite3.Connection, zone: str, serial: int, now: float) -> None:
    """Keep the *serial* (0 to 4294967295) that is about to be served for *zone*."""
    connection.execute(
        "INSERT INTO serials (zone, serial, updated_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET serial = excluded.serial, updated_at = excluded.updated_at",
        (zone, serial, now),
    )


def delete_serial(connection: sqlite3.Connection, zone: str) -> None:
    """Forget the serial of *zone*."""
    connection.execute("DELETE FROM serials WHERE zone = ?", (zone,))


def load_serials(connection: sqlite3.Connection) -> dict[str, int]:
    """Zone -> last serial."""
    return dict(connection.execute("SELECT zone, serial FROM serials ORDER BY zone"))
