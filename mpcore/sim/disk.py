"""The disk of one simulated daemon: SQLite runs in the loop, a commit takes time, and the power can fail at any commit.

A database is two files, the database and its write-ahead log.  A power failure leaves what had reached the disk: all of
the log up to the last commit, and of a commit under way any part of the octets that it was writing.  The next start
finds a copy of exactly that.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.lowlevel

from mpcore.errors import StoreError

__all__ = ("Disk", "PowerFailure")


class PowerFailure(BaseException):
    """The daemon that was writing is gone; nothing of it may go on, so this is no error that it could handle."""


_COMMIT = "_commit"
_FILE = "state.sqlite3"


class Disk:
    """Directories of the lives of one daemon, and the executor that its database runs on.

    :param directory: where to put them.
    :param random: of the latency of commits.
    :param on_failure: called when the power fails at a commit, see :meth:`fail_at`.
    """

    def __init__(self, directory: Path, random: Random, on_failure: Callable[[], None]) -> None:
        self._directory, self._random, self._on_failure = directory, random, on_failure
        self.latency: tuple[float, float] = (0.001, 0.005)  #: seconds that a commit takes, at least and at most
        self.commits = 0  #: commits since the beginning
        self._life = 0
        self._dead = 0  # the last life that has ended
        self._image: dict[str, bytes] = {}
        self._fail_at: int | None = None
        self._written = 1.0

    @property
    def directory(self) -> Path:
        """Of the present life."""
        return self._directory / f"life-{self._life}"

    def fail_at(self, commit: int, written: float = 1.0) -> None:
        """Let the power fail at a commit.

        :param commit: as :attr:`commits` counts; 1 is the first, 0 none.
        :param written: how much of what the commit writes reaches the disk, 0 to 1.  With less than 1 the commit is
            lost.
        """
        self._fail_at, self._written = commit, written

    def fail(self) -> None:
        """The power fails now, between two commits; the present life writes no more."""
        if self._dead < self._life:
            self._image = self._files()
            self._dead = self._life

    def mount(self) -> Path:
        """Begin the next life with what is on the disk; return its directory."""
        self._life += 1
        path = self.directory
        path.mkdir(parents=True)
        for name, octets in self._image.items():
            (path / name).write_bytes(octets)
        return path

    def executor(self) -> Callable[..., Any]:
        """The executor of the present life (see :mod:`mpcore.store.database`)."""
        return partial(self._execute, self._life)

    def clear(self) -> None:
        """Remove the directories of lives that are over."""
        for life in range(1, self._life):
            shutil.rmtree(self._directory / f"life-{life}", ignore_errors=True)

    async def _execute(self, life: int, function: Callable[[], Any]) -> Any:
        if getattr(getattr(function, "func", None), "__name__", "") != _COMMIT:
            await anyio.lowlevel.checkpoint()
            return function()
        await anyio.sleep(self._random.uniform(*self.latency))
        if life <= self._dead:
            raise StoreError("the power is off")
        self.commits += 1
        if self.commits != self._fail_at:
            return function()
        before = self._files()
        function()
        after = self._files()
        self._image = {name: _torn(before.get(name, b""), octets, self._written) for name, octets in after.items()}
        self._fail_at = None
        self._dead = life
        self._on_failure()
        raise PowerFailure

    def _files(self) -> dict[str, bytes]:
        found = {}
        for name in (_FILE, f"{_FILE}-wal"):
            path = self.directory / name
            if path.exists():
                found[name] = path.read_bytes()
        return found


def _torn(before: bytes, after: bytes, written: float) -> bytes:
    """*before*, of which the first part of what makes it *after* has been overwritten."""
    if written >= 1.0 or before == after:
        return after
    start = next((index for index, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), None)
    start = min(len(before), len(after)) if start is None else start
    cut = start + int((len(after) - start) * written)
    return after[:cut] + before[cut:]
