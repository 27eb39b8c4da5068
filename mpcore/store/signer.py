"""Database of a signer: signing keys, outgoing serials, documents (rollover plans, queue), messages seen, zones.

A zone is kept as it came and as it is published, signatures included, with its latest changes
(:mod:`mpcore.store.zones`): after a restart it is served at once under the serial that it had and with the signatures
that it had, and secondaries get what has changed instead of the whole zone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mpcore.errors import StoreError
from mpcore.store.database import Database, Executor, Migration
from mpcore.store.seen import SEEN_SCHEMA
from mpcore.store.serials import SERIALS_SCHEMA
from mpcore.store.state import STATE_SCHEMA
from mpcore.store.zones import ZONES_SCHEMA

__all__ = ("APPLICATION_ID", "MIGRATIONS", "delete_key", "load_keys", "open_signer_database", "put_key")

APPLICATION_ID: Final = 0x6D705369  # "mpSi"
"""Marks a file as a signer's database."""

_KEYS: Final = (
    """CREATE TABLE keys (
        key TEXT NOT NULL PRIMARY KEY,
        zone TEXT NOT NULL,
        key_tag INTEGER NOT NULL CHECK (key_tag BETWEEN 0 AND 65535),
        algorithm INTEGER NOT NULL CHECK (algorithm BETWEEN 0 AND 255),
        flags INTEGER NOT NULL CHECK (flags BETWEEN 0 AND 65535),
        state TEXT NOT NULL,
        changed_at REAL NOT NULL,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX keys_by_zone ON keys (zone)",
)

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (*STATE_SCHEMA, *SEEN_SCHEMA, *SERIALS_SCHEMA, *_KEYS),
    ZONES_SCHEMA,
)
"""Schema versions, oldest first; never changed, only added to."""


async def open_signer_database(path: str | Path, executor: Executor | None = None) -> Database:
    """Open or create the database of a signer; see :meth:`mpcore.store.database.Database.open`."""
    return await Database.open(path, MIGRATIONS, executor, application_id=APPLICATION_ID)


def put_key(connection: sqlite3.Connection, key: str, value: Mapping[str, Any] | None) -> None:
    """Keep a signing key under *key* (see :attr:`mpcore.signer.keys.SigningKey.store_key`); ``None`` deletes it.

    :param value: JSON-able, with the members ``zone``, ``key_tag``, ``algorithm``, ``flags``, ``state`` and
        ``changed_at`` (Unix seconds) beside whatever else; the private part in it is PEM, encrypted if so configured.
    :raises StoreError: one of these members is missing.
    """
    if value is None:
        delete_key(connection, key)
        return
    try:
        columns = tuple(value[name] for name in ("zone", "key_tag", "algorithm", "flags", "state", "changed_at"))
    except KeyError as error:
        raise StoreError(f"key {key} without {error}") from None
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, *columns, text))


def delete_key(connection: sqlite3.Connection, key: str) -> None:
    """Forget a signing key, its private part included."""
    connection.execute("DELETE FROM keys WHERE key = ?", (key,))


def load_keys(connection: sqlite3.Connection, zone: str | None = None) -> dict[str, dict[str, Any]]:
    """Signing keys (of *zone*): key -> value as given to :func:`put_key`, in order of keys.

    :raises StoreError: a value is damaged.
    """
    rows = connection.execute("SELECT key, value FROM keys WHERE zone = ? OR ? IS NULL ORDER BY key", (zone, zone))
    keys: dict[str, dict[str, Any]] = {}
    for key, text in rows:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise StoreError(f"stored key {key!r} is damaged")
        keys[key] = value
    return keys
