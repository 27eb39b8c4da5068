"""Messages that were processed, with the inline answer that each got (guide, wire format, "Replay").

A message is known by sender, receiver, distribution id, type and SHA-256 of the opened payload: ids alone repeat
legitimately.  Remember it in the same write that keeps what it changed.
"""

from __future__ import annotations

import sqlite3
from typing import Final, Protocol

__all__ = ("SEEN_LIFETIME", "SEEN_SCHEMA", "MessageKey", "load_seen", "purge_seen", "remember_answer", "stored_answer")

SEEN_LIFETIME: Final = 86400.0
"""Seconds for which a message is remembered: as long as a queue keeps trying to deliver it."""

SEEN_SCHEMA: Final = (
    """CREATE TABLE seen (
        sender TEXT NOT NULL,
        receiver TEXT NOT NULL,
        distribution_id TEXT NOT NULL,
        type TEXT NOT NULL,
        digest BLOB NOT NULL,
        answer BLOB NOT NULL,
        seen_at REAL NOT NULL,
        PRIMARY KEY (sender, receiver, distribution_id, type, digest)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX seen_by_time ON seen (seen_at)",
)
"""Statements that make the table; part of every role's first migration."""


class MessageKey(Protocol):
    """What makes a message the same message; :class:`mpcore.node.replay.SeenKey` is one."""

    @property
    def sender(self) -> str: ...

    @property
    def receiver(self) -> str: ...

    @property
    def distribution_id(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def digest(self) -> bytes: ...


def _columns(key: MessageKey) -> tuple[str, str, str, str, bytes]:
    return key.sender, key.receiver, key.distribution_id, key.type, key.digest


def stored_answer(connection: sqlite3.Connection, key: MessageKey) -> bytes | None:
    """The inline answer that the message got (opened, not sealed), or ``None`` if it is new."""
    row = connection.execute(
        "SELECT answer FROM seen WHERE sender = ? AND receiver = ? AND distribution_id = ? AND type = ? AND digest = ?",
        _columns(key),
    ).fetchone()
    return None if row is None else bytes(row[0])


def remember_answer(connection: sqlite3.Connection, key: MessageKey, answer: bytes, now: float) -> None:
    """Keep *answer* for repeats of *key*; the first answer stays.

    :param now: Unix seconds.
    """
    connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?)", (*_columns(key), answer, now))


def load_seen(
    connection: sqlite3.Connection, after: float, limit: int | None = None
) -> list[tuple[tuple[str, str, str, str, bytes], bytes, float]]:
    """Messages seen after *after* (Unix seconds), oldest first: key columns, answer, time.

    :param limit: only so many, the newest; ``None``: all.
    """
    rows = connection.execute(
        "SELECT sender, receiver, distribution_id, type, digest, answer, seen_at FROM seen WHERE seen_at > ?"
        " ORDER BY seen_at DESC, sender DESC, distribution_id DESC LIMIT ?",
        (after, -1 if limit is None else limit),
    ).fetchall()
    return [((row[0], row[1], row[2], row[3], bytes(row[4])), bytes(row[5]), row[6]) for row in reversed(rows)]


def purge_seen(connection: sqlite3.Connection, now: float, lifetime: float = SEEN_LIFETIME) -> int:
    """Forget messages older than *lifetime* seconds; return how many."""
    return connection.execute("DELETE FROM seen WHERE seen_at < ?", (now - lifetime,)).rowcount
