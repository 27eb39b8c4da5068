"""The database: durable, grouped, migrated, closed; on both event loops and inline."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from mpcore.errors import StoreError, StoreFullError
from mpcore.store import Database, inline_executor

pytestmark = pytest.mark.anyio

ONE = (("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",),)


def insert(n: int, connection: sqlite3.Connection) -> int:
    connection.execute("INSERT INTO t VALUES (?, ?)", (n, f"row {n}"))
    return n


def modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


@pytest.fixture
def executor(anyio_backend_name: str):
    """Worker threads on asyncio, as daemons run; on trio in line, as simulations do."""
    return inline_executor if anyio_backend_name == "trio" else None


async def test_a_write_is_seen_by_reads_and_after_reopening(tmp_path: Path, executor) -> None:
    path = tmp_path / "a.db"
    db = await Database.open(path, ONE, executor)
    assert await db.write(partial(insert, 7)) == 7
    assert await db.read(numbers) == [7]
    await db.close()
    await db.close()
    again = await Database.open(path, ONE, executor)
    assert await again.read(numbers) == [7]
    await again.close()


async def test_memory_database(executor) -> None:
    db = await Database.open(":memory:", ONE, executor)
    await db.write(partial(insert, 1))
    assert await db.read(numbers) == [1]
    await db.close()


async def test_files_are_private_and_write_ahead_with_full_synchronisation(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(mode=0o644)
    db = await Database.open(path, ONE)
    await db.write(partial(insert, 1))
    assert modes(tmp_path) == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600}
    pragmas = await db.write(
        lambda c: [
            c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )
    assert pragmas == ["wal", 2, 1]
    await db.close()


async def test_concurrent_writes_share_transactions_and_each_gets_its_result(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "a.db", ONE)
    commits: list[str] = []
    await db.write(lambda c: c.set_trace_callback(commits.append))
    results: dict[int, int] = {}

    async def one(n: int) -> None:
        results[n] = await db.write(partial(insert, n))

    async with anyio.create_task_group() as group:
        for n in range(200):
            group.start_soon(one, n)
    await db.write(lambda c: c.set_trace_callback(None))
    assert results == {n: n for n in range(200)}
    assert await db.read(numbers) == list(range(200))
    assert commits.count("COMMIT") < 50
    await db.close()


async def test_a_failing_write_undoes_only_itself(tmp_path: Path, executor) -> None:
    db = await Database.open(tmp_path / "a.db", ONE, executor)
    failures: list[str] = []

    def broken(n: int, connection: sqlite3.Connection) -> None:
        insert(n, connection)
        if n % 2:
            raise ValueError(n)
        connection.execute("INSERT INTO nowhere VALUES (1)")

    async def good(n: int) -> None:
        await db.write(partial(insert, n))

    async def bad(n: int) -> None:
        try:
            await db.write(partial(broken, n))
        except (ValueError, StoreError) as error:
            failures.append(type(error).__name__)

    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(good, n)
            group.start_soon(bad, 100 + n)
    assert await db.read(numbers) == list(range(20))
    assert sorted(failures) == ["StoreError"] * 10 + ["ValueError"] * 10
    await db.close()


async def test_a_full_disk_is_told_apart_and_reading_goes_on(tmp_path: Path, executor) -> None:
    db = await Database.open(tmp_path / "a.db", ONE, executor)
    await db.write(partial(insert, 1))
    await db.write(lambda c: c.execute("PRAGMA max_page_count=1").fetchall())  # no room for another page
    outcome: dict[str, object] = {}

    async def attempt(name: str, function) -> None:
        try:
            outcome[name] = await db.write(function)
        except StoreError as error:
            outcome[name] = error

    big = partial(lambda n, c: c.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 200_000)), 2)
    async with anyio.create_task_group() as group:
        group.start_soon(attempt, "big", big)
        group.start_soon(attempt, "small", partial(insert, 3))
        group.start_soon(attempt, "big too", big)
    assert isinstance(outcome["big"], StoreFullError)
    assert isinstance(outcome["big too"], StoreFullError)
    assert outcome["small"] == 3
    assert await db.read(numbers) == [1, 3]
    await db.close()


async def test_reads_cannot_write(tmp_path: Path, executor) -> None:
    db = await Database.open(tmp_path / "a.db", ONE, executor)
    with pytest.raises(StoreError):
        await db.read(partial(insert, 1))
    await db.close()


async def test_a_write_that_ends_the_transaction_is_refused(tmp_path: Path, executor) -> None:
    db = await Database.open(tmp_path / "a.db", ONE, executor)
    with pytest.raises(StoreError, match="ended the transaction"):
        await db.write(lambda c: c.execute("COMMIT"))
    await db.write(partial(insert, 1))
    await db.close()


async def test_cancelled_writers_do_not_stop_the_others(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "a.db", ONE)
    finished: list[int] = []

    async def one(n: int) -> None:
        await db.write(partial(insert, n))
        finished.append(n)

    for round_ in range(10):
        async with anyio.create_task_group() as others:
            for n in range(5):
                others.start_soon(one, round_ * 10 + n)
            async with anyio.create_task_group() as doomed:
                for n in range(5, 10):
                    doomed.start_soon(one, round_ * 10 + n)
                await anyio.lowlevel.checkpoint()
                doomed.cancel_scope.cancel()
    stored = await db.read(numbers)
    assert set(finished) <= set(stored)
    assert {n for n in range(100) if n % 10 < 5} <= set(stored)
    await db.close()


async def test_close_drains_and_refuses_what_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    db = await Database.open(path, ONE)
    done: list[int] = []

    started: list[int] = []

    async def one(n: int) -> None:
        started.append(n)
        done.append(await db.write(partial(insert, n)))

    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(one, n)
        while len(started) < 20:
            await anyio.lowlevel.checkpoint()
        await db.close()
    assert sorted(done) == list(range(20))
    with pytest.raises(StoreError, match="closed"):
        await db.write(partial(insert, 99))
    with pytest.raises(StoreError, match="closed"):
        await db.read(numbers)


async def test_migrations_go_forward_only(tmp_path: Path, executor) -> None:
    path = tmp_path / "a.db"
    db = await Database.open(path, ONE, executor)
    await db.write(partial(insert, 1))
    await db.close()
    two = (*ONE, ("ALTER TABLE t ADD COLUMN more TEXT", "UPDATE t SET more = 'x'"))
    db = await Database.open(path, two, executor)
    assert await db.read(lambda c: c.execute("SELECT n, more FROM t").fetchall()) == [(1, "x")]
    await db.close()
    with pytest.raises(StoreError, match="schema version 2"):
        await Database.open(path, ONE, executor)


async def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path, executor) -> None:
    path = tmp_path / "a.db"
    await (await Database.open(path, ONE, executor)).close()
    with pytest.raises(StoreError):
        await Database.open(path, (*ONE, ("ALTER TABLE t ADD COLUMN more TEXT", "nonsense")), executor)
    db = await Database.open(path, ONE, executor)
    await db.write(partial(insert, 1))
    await db.close()


async def test_databases_are_not_mixed_up(tmp_path: Path) -> None:
    await (await Database.open(tmp_path / "a.db", ONE, application_id=1)).close()
    with pytest.raises(StoreError, match="something else"):
        await Database.open(tmp_path / "a.db", ONE, application_id=2)


async def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        await Database.open(tmp_path / "missing" / "a.db", ONE)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(os.urandom(4096))
    with pytest.raises(StoreError, match="not a database"):
        await Database.open(garbage, ONE)


WRITER = """
    import sys
    from functools import partial
    import anyio
    from mpcore.store import Database

    def insert(n, connection):
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 100))

    async def writer(db, start):
        n = start
        while True:
            await db.write(partial(insert, n))
            sys.stdout.write(f"{n}\\n")
            sys.stdout.flush()
            n += 10

    async def main():
        db = await Database.open(sys.argv[1], (("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",),))
        async with anyio.create_task_group() as group:
            for start in range(10):
                group.start_soon(writer, db, start)

    anyio.run(main)
"""


@pytest.mark.parametrize("lines", [1, 37, 500])
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "a.db"

    def run() -> list[int]:
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split("\n")
        return acknowledged + [int(line) for line in rest[:-1]]

    acknowledged = await anyio.to_thread.run_sync(run)
    db = await Database.open(path, ONE)
    stored = await db.read(numbers)
    assert set(acknowledged) <= set(stored)
    assert await db.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
    await db.close()
