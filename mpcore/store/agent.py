"""Database of an agent: documents of its machines (elections, queue, synchronised data) and messages seen."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mpcore.store.database import Database, Executor, Migration
from mpcore.store.seen import SEEN_SCHEMA
from mpcore.store.state import STATE_SCHEMA

__all__ = ("APPLICATION_ID", "MIGRATIONS", "open_agent_database")

APPLICATION_ID: Final = 0x6D704167  # "mpAg"
"""Marks a file as an agent's database."""

MIGRATIONS: Final[tuple[Migration, ...]] = ((*STATE_SCHEMA, *SEEN_SCHEMA),)
"""Schema versions, oldest first; never changed, only added to."""


async def open_agent_database(path: str | Path, executor: Executor | None = None) -> Database:
    """Open or create the database of an agent; see :meth:`mpcore.store.database.Database.open`."""
    return await Database.open(path, MIGRATIONS, executor, application_id=APPLICATION_ID)
