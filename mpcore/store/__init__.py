"""Durable state: SQLite behind one writer with group commit.

:mod:`~mpcore.store.database` is the engine; :mod:`~mpcore.store.state` and :mod:`~mpcore.store.seen` are the tables
that every role has; :mod:`~mpcore.store.agent`, :mod:`~mpcore.store.combiner` and :mod:`~mpcore.store.signer` add what
one role has and open its database.
"""

from mpcore.store.database import Database, Executor, inline_executor

__all__ = ("Database", "Executor", "inline_executor")
