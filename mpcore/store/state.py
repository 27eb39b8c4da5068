"""Documents by kind and key: where the ``Store`` actions of machines go."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mpcore.actions import Store
from mpcore.errors import StoreError

__all__ = ("STATE_SCHEMA", "apply_stores", "load_state", "put_state")

STATE_SCHEMA: Final = (
    """CREATE TABLE state (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID""",
)
"""Statements that make the table; part of every role's first migration."""


def put_state(connection: sqlite3.Connection, kind: str, key: str, value: Mapping[str, Any] | None) -> None:
    """Keep *value* (JSON-able) under (*kind*, *key*) instead of what was there; ``None`` deletes."""
    if value is None:
        connection.execute("DELETE FROM state WHERE kind = ? AND key = ?", (kind, key))
        return
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    connection.execute(
        "INSERT INTO state (kind, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (kind, key, text),
    )


def apply_stores(connection: sqlite3.Connection, stores: Iterable[Store]) -> None:
    """Perform ``Store`` actions in order; give it all that one event produced, so that they are kept together."""
    for store in stores:
        put_state(connection, store.kind, store.key, store.value)


def load_state(connection: sqlite3.Connection, *kinds: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything that is kept: kind -> key -> value, in order of keys.

    :param kinds: only these; none = all.
    :raises StoreError: a value is damaged.
    """
    query = "SELECT kind, key, value FROM state"
    if kinds:
        query += f" WHERE kind IN ({','.join('?' * len(kinds))})"
    loaded: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in kinds}
    for kind, key, text in connection.execute(query + " ORDER BY kind, key", kinds):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise StoreError(f"stored {kind} {key!r} is damaged")
        loaded.setdefault(kind, {})[key] = value
    return loaded
