"""One SQLite database: durable writes in groups, reads from snapshots, migrations.

Every acknowledgement that a daemon gives waits for a commit, and a commit waits for the disk.  Writes that arrive while
a commit is under way therefore share the next one: the first of them leads, runs all that wait in one transaction, each
in a savepoint of its own, commits once, and hands the lead to the next one that came meanwhile.  With 50 writers this
is some ten times as many rows a second as one commit for each.  There is no background task: who waits does the work.

Rules for the functions given to :meth:`Database.write`: they may be run again (when a group fails, each member is tried
alone), so they touch nothing but the connection; they do not begin, commit or roll back; they are quick.

WAL with ``synchronous=FULL``: what was acknowledged survives the end of the process and the loss of power.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from mpcore.errors import StoreError, StoreFullError

__all__ = ("MAX_GROUP", "Database", "Executor", "Migration", "inline_executor")

T = TypeVar("T")

Executor = Callable[..., Awaitable[Any]]
"""Runs a function without arguments away from the event loop and returns its result."""

Migration = Sequence[str]
"""SQL statements that bring the schema from one version to the next."""

MAX_GROUP: Final = 512
"""Most writes in one transaction; it bounds how long the first of them waits."""

_MEMORY: Final = ":memory:"


async def inline_executor(function: Callable[[], T]) -> T:
    """Run *function* at once in the event loop, for simulations and tests."""
    await anyio.lowlevel.checkpoint()
    return function()


@dataclass(slots=True)
class _Write:
    """One queued write: its function, and what became of it."""

    function: Callable[[sqlite3.Connection], Any]
    wake: anyio.Event = field(default_factory=anyio.Event)
    lead: bool = False
    done: bool = False
    result: Any = None
    error: BaseException | None = None


def _store_error(error: sqlite3.Error, what: str) -> StoreError:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return StoreFullError(f"{what}: the disk is full ({error})")
    return StoreError(f"{what}: {error}")


class Database:
    """An open database; make it with :meth:`open`, end it with :meth:`close`.

    Writes are serialised, reads run beside them on a connection of their own and see everything acknowledged so far.
    """

    def __init__(
        self, path: str, writer: sqlite3.Connection, reader: sqlite3.Connection, executor: Executor | None
    ) -> None:
        self._path = path
        self._writer, self._reader = writer, reader
        self._executor = executor or partial(anyio.to_thread.run_sync, limiter=anyio.CapacityLimiter(2))
        self._read_lock = anyio.Lock()
        self._queue: deque[_Write] = deque()
        self._leading = False
        self._idle: anyio.Event | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str | Path,
        migrations: Sequence[Migration],
        executor: Executor | None = None,
        *,
        application_id: int = 0,
    ) -> Self:
        """Open the database at *path*, creating it (mode 0600) or migrating it as needed.

        :param path: file name, or ``":memory:"`` for one that ends with the process.
        :param migrations: statements for schema version 1, 2, ...; forward only.
        :param executor: where SQLite runs; ``None``: worker threads.
        :param application_id: marks whose database it is, 1 to 2147483647; 0 marks and checks nothing.
        :raises StoreError: it cannot be opened, belongs to another role, or has a newer schema than this program knows.
        """
        run = executor or anyio.to_thread.run_sync
        with anyio.CancelScope(shield=True):
            writer, reader = await run(partial(_open, str(path), tuple(migrations), application_id))
        return cls(str(path), writer, reader, executor)

    @property
    def path(self) -> str:
        """Where it is kept."""
        return self._path

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``function(connection)`` in a transaction; when this returns, what it did is durable.

        :param function: see the rules at the top of this module; what it raises is raised here, and only its own
            changes are undone.
        :raises StoreFullError: there is no room on the disk; nothing was kept.
        :raises StoreError: the database failed or is closed; nothing was kept.
        """
        if self._closed:
            raise StoreError(f"{self._path} is closed")
        mine = _Write(function)
        self._queue.append(mine)
        if self._leading:
            try:
                await mine.wake.wait()
            except BaseException:
                if mine.lead:
                    self._hand_over(skip=mine)
                elif not mine.done and mine in self._queue:
                    self._queue.remove(mine)
                raise
        else:
            self._leading = True
        if not mine.done:
            await self._lead()
        if mine.error is not None:
            raise mine.error
        return cast(T, mine.result)

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``function(connection)`` on a snapshot of everything that is committed.

        :raises StoreError: the database failed or is closed, or *function* tried to write.
        """
        async with self._read_lock:
            if self._closed:
                raise StoreError(f"{self._path} is closed")
            if self._reader is self._writer:
                return await self.write(function)
            with anyio.CancelScope(shield=True):
                result = await self._executor(partial(_read, self._reader, function, self._path))
            return cast(T, result)

    async def close(self) -> None:
        """Let the writes under way finish, refuse new ones, and close the file; idempotent."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            if self._leading:
                self._idle = anyio.Event()
                await self._idle.wait()
            async with self._read_lock:
                await self._executor(partial(_close, self._writer, self._reader))

    async def _lead(self) -> None:
        """Commit everything that waits, then give the lead away."""
        group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))]
        try:
            with anyio.CancelScope(shield=True):
                await self._executor(partial(_commit, self._writer, group, self._path))
        except BaseException as error:
            for write in group:
                if not write.done:
                    write.error, write.done = StoreError(f"{self._path}: {error!r}"), True
            if not isinstance(error, Exception):
                raise
        finally:
            for write in group:
                write.wake.set()
            self._hand_over()

    def _hand_over(self, skip: _Write | None = None) -> None:
        if skip is not None and skip in self._queue:
            self._queue.remove(skip)
        if self._queue:
            self._queue[0].lead = True
            self._queue[0].wake.set()
        else:
            self._leading = False
            if self._idle is not None:
                self._idle.set()


def _open(
    path: str, migrations: tuple[Migration, ...], application_id: int
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    opened: list[sqlite3.Connection] = []
    try:
        if path != _MEMORY:
            # Before SQLite opens it: its -wal and -shm files take the mode of the database file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.chmod(path, 0o600)
        writer = _connect(path)
        opened.append(writer)
        if path != _MEMORY and writer.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise StoreError(f"{path}: the file system does not support write-ahead logging")
        writer.execute("PRAGMA synchronous=FULL")
        _migrate(writer, path, migrations, application_id)
        reader = writer
        if path != _MEMORY:
            reader = _connect(path)
            opened.append(reader)
            reader.execute("PRAGMA query_only=ON")
    except BaseException as error:
        for connection in opened:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _store_error(error, path) from None
        if isinstance(error, OSError):
            raise StoreError(f"{path}: {error.strerror or error}") from None
        raise
    return writer, reader


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA secure_delete=ON")  # private keys are among what is deleted
    return connection


def _migrate(connection: sqlite3.Connection, path: str, migrations: tuple[Migration, ...], application_id: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
        if application_id and version and owner != application_id:
            raise StoreError(f"{path} is the database of something else (application id {owner})")
        if version > len(migrations):
            raise StoreError(
                f"{path} has schema version {version}; this program knows {len(migrations)} and does not go back"
            )
        for number, statements in enumerate(migrations[version:], version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")
        if application_id and owner != application_id:
            connection.execute(f"PRAGMA application_id={application_id}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _commit(connection: sqlite3.Connection, group: Sequence[_Write], path: str) -> None:
    """Run *group* in one transaction; if that fails as a whole, each member in one of its own."""
    error = _attempt(connection, group, path)
    if error is None:
        return
    if len(group) == 1:
        group[0].error, group[0].done = error, True
        return
    for write in group:
        failure = _attempt(connection, (write,), path)
        if failure is not None:
            write.error, write.done = failure, True


def _attempt(connection: sqlite3.Connection, group: Sequence[_Write], path: str) -> StoreError | None:
    """Commit *group*; return why nothing of it was kept, or ``None``."""
    for write in group:
        write.result = write.error = None
        write.done = False
    try:
        connection.execute("BEGIN IMMEDIATE")
        for write in group:
            _run(connection, write, path)
        connection.execute("COMMIT")
    except StoreError as error:
        _roll_back(connection)
        return error
    except sqlite3.Error as error:
        _roll_back(connection)
        return _store_error(error, path)
    for write in group:
        write.done = True
    return None


def _run(connection: sqlite3.Connection, write: _Write, path: str) -> None:
    """Run one write in its savepoint.

    :raises StoreError: the transaction as a whole is lost.
    """
    connection.execute("SAVEPOINT one")
    try:
        write.result = write.function(connection)
    except Exception as error:
        converted: BaseException = error
        if isinstance(error, sqlite3.Error):
            converted = _store_error(error, path)
        if not connection.in_transaction:  # SQLite itself rolls back on a full disk, an I/O error, lack of memory
            raise converted if isinstance(converted, StoreError) else StoreError(f"{path}: {error}") from None
        connection.execute("ROLLBACK TO one")
        write.error = converted
    if not connection.in_transaction:
        raise StoreError(f"{path}: a write ended the transaction it was part of")
    connection.execute("RELEASE one")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:  # rolled back by SQLite itself
            return


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, function: Callable[[sqlite3.Connection], T], path: str) -> T:
    try:
        with _snapshot(connection):
            return function(connection)
    except sqlite3.Error as error:
        raise _store_error(error, path) from None


def _close(writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
    if reader is not writer:
        reader.close()
    writer.close()
