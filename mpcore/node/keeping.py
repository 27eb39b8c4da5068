"""How a node keeps its zones over restarts.

What is published, and what came from the primary, go into the database in the same transaction as the serial: a serial
is answered only when the version under it is durable, and after a restart that very version is served, until it expires
counted from the last refresh.  The changes between versions go with them, so that secondaries are sent changes (IXFR)
after a restart too.

What a change writes are the owners that it changes (:mod:`mpcore.zone.stored`).  The whole zone is written when it is
loaded for the first time, and when another way of making it (signed here instead of elsewhere, say) gives all owners
other records.  So much does not fit into one transaction without keeping everybody waiting: the serial and a mark that
the rows are *torn* are committed with the publication, and the rows follow in the background, a few at a time.  A stop
in the middle leaves a torn copy, which the next start throws away: the zone is then transferred whole, its serial
goes on from the one stored, and secondaries are sent the whole zone once.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

import anyio

from mpcore.errors import RecordError, StoreFullError, ZoneError
from mpcore.net.transfer import Run, settle
from mpcore.store.zones import (
    CopyState,
    clear_rows,
    delete_copy,
    drop_deltas,
    load_deltas,
    put_copy,
    put_delta,
    put_rows,
    read_rows,
    tear,
)
from mpcore.zone import owners
from mpcore.zone.journal import Delta, Journal
from mpcore.zone.serial import is_newer
from mpcore.zone.stored import INCOMING, OUTGOING, Row, read_versions, rows_between
from mpcore.zone.version import ZoneVersion

__all__ = ("Kept", "KeptZone", "Staged", "forget", "load_kept")

logger = logging.getLogger(__name__)

_SMALL: Final = 2000  # records of a zone that is written at once although nothing of it is there yet
_SLICE: Final = 2000  # rows in a transaction of a zone that is written in the background
_AGAIN: Final = 10.0  # seconds until a disk without room is tried again

Write = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a former run has left of a zone.

    :param made: how the outgoing version was made.
    :param outgoing: ``None``: nothing was published.
    :param deltas: positions and changes that lead to the outgoing version.
    """

    made: str
    incoming: ZoneVersion
    outgoing: ZoneVersion | None
    deltas: Sequence[tuple[int, Delta]]


@dataclass(frozen=True, slots=True)
class Staged:
    """A publication that is about to be made durable.

    :param write: what to write, in the transaction that stores the serial.
    :param commit: to be called when that is durable, before the version is served.
    """

    write: Callable[[sqlite3.Connection], None]
    commit: Callable[[], None]


class KeptZone:
    """One zone and its journal.

    :param write: commits a function's changes; raises :class:`~mpcore.errors.StoreFullError` without room.
    :param run: where differences of large versions are taken.
    :param spawn: starts a task beside everything else.
    """

    def __init__(
        self,
        origin: bytes,
        *,
        write: Write,
        run: Run,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        max_octets: int,
        max_changes: int,
    ) -> None:
        self.journal = Journal(max_octets=max_octets, max_deltas=max_changes)
        self.incoming: ZoneVersion | None = None  #: newest, as it came
        self.outgoing: ZoneVersion | None = None  #: newest, as it was published
        self._name = owners.to_text(origin)
        self._made = ""
        self._write, self._run, self._spawn = write, run, spawn
        self._rows: tuple[ZoneVersion, ZoneVersion | None] | None = None  # what the database has; None: torn or nothing
        self._saving = False
        self._torn = False  # rows are there that are no zone
        self._next_position = 0

    def discard(self) -> None:
        """What a former run has left is not to be used; it is removed when the zone is there again."""
        self._torn = True

    def restore(self, kept: Kept) -> None:
        """Begin with what a former run has left."""
        self.incoming, self.outgoing, self._made = kept.incoming, kept.outgoing, kept.made
        self._rows = kept.incoming, kept.outgoing
        self.journal.restore(kept.deltas)
        if kept.deltas:
            self._next_position = kept.deltas[-1][0] + 1

    def stage(self, incoming: ZoneVersion, outgoing: ZoneVersion | None, made: str = "") -> Staged:
        """Prepare a publication; one at a time, and the one before must be committed or given up.

        :param outgoing: ``None``: nothing is published.
        :param made: how *outgoing* was made, see :class:`Kept`.
        """
        old = self.outgoing
        position = self._next_position
        delta: Delta | None = None
        rows: list[Row] | None = None
        follows = old is not None and outgoing is not None and is_newer(outgoing.serial, old.serial)
        if not self._saving and self._is_small(incoming, outgoing):
            before, published = self._rows or (None, None)
            rows = list(rows_between(before, published, incoming, outgoing))
            if follows and old is not None and outgoing is not None and old.is_near(outgoing):
                delta = Delta.between(old, outgoing)
        steps = self.journal.steps
        # What is older than the journal is not needed; if the series breaks off here, nothing of it is.
        oldest = steps[0].position if steps and (follows or old is outgoing) else position

        def write(connection: sqlite3.Connection) -> None:
            if rows is None:
                tear(connection, self._name)
                return
            put_rows(connection, self._name, rows)
            put_copy(connection, self._name, _state(incoming, outgoing, made))
            if delta is not None:
                put_delta(connection, self._name, position, delta.to_octets())
            drop_deltas(connection, self._name, oldest)

        def commit() -> None:
            self.incoming, self.outgoing, self._made = incoming, outgoing, made
            if outgoing is not None:
                step = self.journal.record(old, outgoing, delta)
                if step is not None and delta is not None and rows is not None:
                    step.position = position
                    self._next_position = position + 1
            if rows is not None:
                self._rows = incoming, outgoing
            elif not self._saving:
                self._saving = True
                self._spawn(self._save)

        return Staged(write, commit)

    def _is_small(self, incoming: ZoneVersion, outgoing: ZoneVersion | None) -> bool:
        if self._rows is None:
            return (
                not self._torn
                and self.incoming is None
                and incoming.record_count + (outgoing or incoming).record_count <= _SMALL
            )
        before, published = self._rows
        return before.is_near(incoming) and (published or before).is_near(outgoing or incoming)

    async def _save(self) -> None:
        """Write the rows of the newest versions, slice by slice, until nothing newer has come meanwhile."""
        try:
            while True:
                try:
                    await self._save_newest()
                except StoreFullError:
                    await anyio.sleep(_AGAIN)
                    continue
                if self._rows == (self.incoming, self.outgoing):
                    return
        finally:
            self._saving = False

    async def _save_newest(self) -> None:
        await settle(self.journal, self._run)
        incoming, outgoing, made = self.incoming, self.outgoing, self._made
        assert incoming is not None
        if self._rows is None:
            while await self._write(partial(_clear, self._name)):
                pass
        self._torn = False
        before, published = self._rows or (None, None)
        changes = rows_between(before, published, incoming, outgoing)
        self._rows = None
        while rows := await self._run(partial(_take, changes)):
            await self._write(partial(_put, self._name, rows))
        steps = self.journal.steps
        deltas: list[tuple[int, Delta]] = []
        for step in steps:  # in their order: a change is not kept before the one that it follows
            if step.delta is None:
                break
            if step.position is None:
                step.position, self._next_position = self._next_position, self._next_position + 1
                deltas.append((step.position, step.delta))

        def finish(connection: sqlite3.Connection) -> None:
            for position, delta in deltas:
                put_delta(connection, self._name, position, delta.to_octets())
            drop_deltas(connection, self._name, steps[0].position if steps else None)
            put_copy(connection, self._name, _state(incoming, outgoing, made))

        await self._write(finish)
        self._rows = incoming, outgoing
        logger.info("%s: serial %d is kept", self._name, (outgoing or incoming).serial)


def _state(incoming: ZoneVersion, outgoing: ZoneVersion | None, made: str) -> CopyState:
    return CopyState(
        made,
        incoming.serial,
        incoming.record_count,
        None if outgoing is None else outgoing.serial,
        None if outgoing is None else outgoing.record_count,
    )


def _take(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, _SLICE))


def _put(zone: str, rows: list[Row], connection: sqlite3.Connection) -> None:
    tear(connection, zone)
    put_rows(connection, zone, rows)


def _clear(zone: str, connection: sqlite3.Connection) -> bool:
    tear(connection, zone)
    return clear_rows(connection, zone, _SLICE)


def load_kept(connection: sqlite3.Connection, origin: bytes, state: CopyState) -> Kept:
    """What a former run has left of a zone; takes time for the whole zone.

    :param state: what :func:`~mpcore.store.zones.load_copies` says.
    :raises ZoneError: it cannot be used.
    """
    name = owners.to_text(origin)
    if not state.whole:
        raise ZoneError("it is torn: the last run ended while it was written")
    try:
        incoming, outgoing = read_versions(
            origin, read_rows(connection, name, INCOMING), read_rows(connection, name, OUTGOING)
        )
    except RecordError as error:
        raise ZoneError(str(error)) from None
    if (incoming.serial, incoming.record_count) != (state.incoming_serial, state.incoming_records):
        raise ZoneError("the records from the primary are not those that were stored")
    if state.outgoing_serial is None:
        return Kept(state.made, incoming, None, ())
    if (outgoing.serial, outgoing.record_count) != (state.outgoing_serial, state.outgoing_records):
        raise ZoneError("the records published are not those that were stored")
    return Kept(state.made, incoming, outgoing, _chain(name, load_deltas(connection, name), outgoing.serial))


def _chain(name: str, rows: Sequence[tuple[int, bytes]], serial: int) -> list[tuple[int, Delta]]:
    """The longest series of changes that leads to *serial*."""
    found: list[tuple[int, Delta]] = []
    for position, octets in reversed(rows):
        try:
            delta = Delta.from_octets(octets)
        except ZoneError as error:
            logger.warning("%s: %s; secondaries of older versions are sent the whole zone", name, error)
            break
        if delta.new_serial != serial:
            logger.warning(
                "%s: the change kept to serial %d does not lead to %d; secondaries of older versions are sent the"
                " whole zone",
                name,
                delta.new_serial,
                serial,
            )
            break
        found.append((position, delta))
        serial = delta.old_serial
    found.reverse()
    return found


def forget(connection: sqlite3.Connection, zone: str) -> bool:
    """Remove some of what is kept of a zone; whether there is more."""
    if _clear(zone, connection):
        return True
    delete_copy(connection, zone)
    return False
