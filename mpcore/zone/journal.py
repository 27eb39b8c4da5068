"""What changed between the versions of a zone, kept for incremental transfers (IXFR, RFC 1995).

A :class:`Delta` is the difference of two versions, record by record.  A :class:`Journal` keeps the latest of them for
one zone, within bounds, and finds those that lead a client from its serial to the present one.

Small differences are taken when they are recorded; the cost is that of the change.  Large ones are left *unsettled*:
whoever has a thread to spare takes them with :meth:`Delta.between` and hands them in, see :meth:`Journal.unsettled`.

A delta has a form in octets, in which it is kept over restarts (:mod:`mpcore.node.keeping`): the two SOA RRsets, the
number of records removed (4 octets), then all records, each as owner, type, TTL, length and RDATA.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mpcore.errors import ZoneError
from mpcore.zone.rrset import RRset, rrsig_ttl
from mpcore.zone.serial import is_newer
from mpcore.zone.version import ZoneVersion, differences

__all__ = ("Delta", "Journal", "Record", "Step", "condense")

Record: TypeAlias = tuple[bytes, int, int, bytes]
"""Owner, type, TTL, RDATA."""

_SOA: Final = 6
_RRSIG: Final = 46
_FIXED: Final = 10  # octets of a record beside owner and RDATA
_NEAR: Final = 32  # leaves of the tree that are compared at once, a millisecond or two
_HEAD: Final = struct.Struct("!BHIH")  # owner length, type, TTL, RDATA length


@dataclass(frozen=True, slots=True)
class Delta:
    """The records that one version does not have and the next does, and the other way round.

    A change of TTL removes the records of an RRset and adds them again.  The SOA records stand apart.
    """

    old_soa: RRset
    new_soa: RRset
    removed: tuple[Record, ...]
    added: tuple[Record, ...]
    octets: int = field(init=False, compare=False)  #: of all records on the wire, uncompressed

    def __post_init__(self) -> None:
        total = sum(len(owner) + _FIXED + len(rdata) for owner, _, _, rdata in (*self.removed, *self.added))
        object.__setattr__(self, "octets", total)

    def __repr__(self) -> str:
        return f"<Delta {self.old_serial} to {self.new_serial}: -{len(self.removed)} +{len(self.added)}>"

    @property
    def old_serial(self) -> int:
        """Serial of the version that it leads from."""
        return _serial(self.old_soa)

    @property
    def new_serial(self) -> int:
        """Serial of the version that it leads to."""
        return _serial(self.new_soa)

    @property
    def record_count(self) -> int:
        """Records removed and added."""
        return len(self.removed) + len(self.added)

    @classmethod
    def between(cls, old: ZoneVersion, new: ZoneVersion) -> Delta:
        """The difference of two versions; takes time in proportion to the parts that they do not share.

        :raises ZoneError: the versions are of different zones.
        """
        removed: list[Record] = []
        added: list[Record] = []
        for owner, rdtype, before, after in differences(old, new):
            if rdtype == _SOA:
                continue
            mine, theirs = _records(owner, before), _records(owner, after)
            removed += [record for record in mine if record not in theirs]
            added += [record for record in theirs if record not in mine]
        return cls(old.soa, new.soa, tuple(removed), tuple(added))

    def to_octets(self) -> bytes:
        """The form in which it is kept; :meth:`from_octets` reads it."""
        soas = [(b"", _SOA, soa.ttl, soa.rdatas[0]) for soa in (self.old_soa, self.new_soa)]
        parts = [struct.pack("!I", len(self.removed))]
        for owner, rdtype, ttl, rdata in (*soas, *self.removed, *self.added):
            parts += (_HEAD.pack(len(owner), rdtype, ttl, len(rdata)), owner, rdata)
        return b"".join(parts)

    @classmethod
    def from_octets(cls, octets: bytes) -> Delta:
        """Read what :meth:`to_octets` wrote.

        :raises ZoneError: it is damaged.
        """
        try:
            (removed,) = struct.unpack_from("!I", octets)
            records = list(_read(octets, 4))
        except (struct.error, IndexError):
            raise ZoneError("a change that was kept is damaged") from None
        soas, records = records[:2], records[2:]
        if len(soas) < 2 or any(rdtype != _SOA or len(rdata) < 22 for _, rdtype, _, rdata in soas):
            raise ZoneError("a change that was kept has no SOA records")
        if removed > len(records):
            raise ZoneError("a change that was kept is damaged")
        old, new = (RRset(_SOA, ttl, (rdata,)) for _, _, ttl, rdata in soas)
        return cls(old, new, tuple(records[:removed]), tuple(records[removed:]))


def _read(octets: bytes, offset: int) -> Iterator[Record]:
    while offset < len(octets):
        size, rdtype, ttl, length = _HEAD.unpack_from(octets, offset)
        offset += _HEAD.size
        end = offset + size + length
        if end > len(octets):
            raise IndexError
        yield octets[offset : offset + size], rdtype, ttl, octets[offset + size : end]
        offset = end


def _records(owner: bytes, rrset: RRset | None) -> dict[Record, None]:
    if rrset is None:
        return {}
    rdtype, ttl = rrset.rdtype, rrset.ttl
    if rdtype == _RRSIG:
        return {(owner, rdtype, rrsig_ttl(rdata), rdata): None for rdata in rrset.rdatas}
    return {(owner, rdtype, ttl, rdata): None for rdata in rrset.rdatas}


def _serial(soa: RRset) -> int:
    return int.from_bytes(soa.rdatas[0][-20:-16], "big")


def condense(deltas: Sequence[Delta]) -> Delta:
    """One delta with the effect of several that follow each other (RFC 1995, section 5).

    :param deltas: at least one.
    :raises ZoneError: they do not follow each other.
    """
    first = deltas[0]
    if len(deltas) == 1:
        return first
    removed, added = dict.fromkeys(first.removed), dict.fromkeys(first.added)
    serial = first.new_serial
    for delta in deltas[1:]:
        if delta.old_serial != serial:
            raise ZoneError(f"a change from serial {delta.old_serial} does not follow one to {serial}")
        serial = delta.new_serial
        _cancel(delta.removed, added, removed)
        _cancel(delta.added, removed, added)
    return Delta(first.old_soa, deltas[-1].new_soa, tuple(removed), tuple(added))


def _cancel(records: Iterable[Record], opposite: dict[Record, None], same: dict[Record, None]) -> None:
    for record in records:
        if record in opposite:
            del opposite[record]
        else:
            same[record] = None


class Step:
    """A change that a journal holds: from one serial to the next, and its delta once that is known."""

    __slots__ = ("delta", "new_serial", "old_serial", "position", "versions")

    def __init__(self, old_serial: int, new_serial: int) -> None:
        self.old_serial, self.new_serial = old_serial, new_serial
        self.delta: Delta | None = None
        self.position: int | None = None  #: where it is kept over restarts, ``None``: nowhere yet
        self.versions: tuple[ZoneVersion, ZoneVersion] | None = None
        """The two versions, until the delta is known."""

    def compute(self) -> Delta:
        """Take the difference; reads immutable data only and may run in any thread."""
        if self.versions is None:
            assert self.delta is not None
            return self.delta
        return Delta.between(*self.versions)


class Journal:
    """The latest changes of one zone.

    :param max_octets: most octets of records kept, all changes together; the oldest are dropped first, and a change
        that is larger by itself empties the journal.  0 keeps nothing.
    :param max_deltas: most changes kept.
    """

    def __init__(self, *, max_octets: int = 16 << 20, max_deltas: int = 1000) -> None:
        self._max_octets, self._max_deltas = max_octets, max_deltas
        self._steps: deque[Step] = deque()
        self._octets = 0
        self._unsettled = 0

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def octets(self) -> int:
        """Octets of the records kept, as far as changes are settled."""
        return self._octets

    @property
    def serials(self) -> tuple[int, ...]:
        """The serials from which a client can be brought up to date, oldest first."""
        return tuple(step.old_serial for step in self._steps)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The changes kept, oldest first."""
        return tuple(self._steps)

    def restore(self, deltas: Iterable[tuple[int, Delta]]) -> None:
        """Begin with changes kept from before: positions and deltas, oldest first, which follow each other."""
        self._clear()
        for position, delta in deltas:
            step = Step(delta.old_serial, delta.new_serial)
            step.delta, step.position = delta, position
            self._steps.append(step)
            self._octets += delta.octets
        self._trim()

    def record(self, old: ZoneVersion | None, new: ZoneVersion, delta: Delta | None = None) -> Step | None:
        """Note that *new* has replaced *old*.

        :param delta: the difference, where it is known already.
        :return: the change as it is kept; ``None`` if it begins a new series, or has been dropped at once.

        What does not continue the changes kept empties the journal: no old version, a serial that is not newer
        (RFC 1982), an old version other than the newest one known.
        """
        if old is new:
            return None
        if old is None or not is_newer(new.serial, old.serial):
            self._clear()
            return None
        if self._steps and self._steps[-1].new_serial != old.serial:
            self._clear()
        step = Step(old.serial, new.serial)
        step.versions = (old, new)
        self._steps.append(step)
        self._unsettled += 1
        if delta is None and old.is_near(new, _NEAR):
            delta = step.compute()
        if delta is not None:
            self.settle(step, delta)
        self._trim()
        return step if self._steps and self._steps[-1] is step else None

    def unsettled(self) -> tuple[Step, ...]:
        """The changes whose difference is to be taken: :meth:`Step.compute`, then :meth:`settle`.

        Until that is done, old versions of the zone are kept in memory whole.
        """
        if not self._unsettled:
            return ()
        return tuple(step for step in self._steps if step.delta is None)

    def settle(self, step: Step, delta: Delta) -> None:
        """Hand in the difference of an unsettled change; ignored if that was done, or the change dropped, meanwhile."""
        if step.delta is not None:
            return
        step.delta, step.versions = delta, None
        if step in self._steps:
            self._unsettled -= 1
            self._octets += delta.octets
            self._trim()

    def since(self, serial: int, until: int | None = None) -> list[Delta] | None:
        """The deltas that lead from *serial* to another; ``None`` if they are not (all) there.

        :param until: that other serial; ``None``: that of the newest version.
        """
        found: list[Delta] = []
        for step in reversed(self._steps):
            if until is not None and not found and step.new_serial != until:
                continue  # not served yet
            if step.delta is None:
                return None
            found.append(step.delta)
            if step.old_serial == serial:
                found.reverse()
                return found
        return None

    def _clear(self) -> None:
        self._steps.clear()
        self._octets = self._unsettled = 0

    def _trim(self) -> None:
        while self._steps and (len(self._steps) > self._max_deltas or self._octets > self._max_octets):
            step = self._steps.popleft()
            if step.delta is None:
                self._unsettled -= 1
            else:
                self._octets -= step.delta.octets
        if self._max_octets == 0:
            self._clear()
