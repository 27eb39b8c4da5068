"""One immutable version of a zone.

A version is a persistent map from owner to packed records, ordered canonically.  Keeping an old version costs nothing
beyond what has changed since; an update costs what it changes.  Whether a name is an empty non-terminal, and which
name comes before or after it, follows from the order, so there is nothing beside the map to keep in step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from heapq import merge
from typing import Final, NoReturn

from mpcore.errors import RecordError, ZoneError
from mpcore.zone import owners, packed
from mpcore.zone.rrset import MAX_TTL, RRset, type_text
from mpcore.zone.tree import Tree, TreeBuilder

__all__ = ("Change", "Difference", "Standing", "ZoneBuilder", "ZoneVersion", "diff", "differences", "share")

Change = tuple[bytes, int, RRset | None]
"""Owner, type, and the RRset that shall stand there; ``None`` removes it."""

Difference = tuple[bytes, int, RRset | None, RRset | None]
"""Owner, type, old RRset, new RRset."""

_NS: Final = 2
_CNAME: Final = 5
_SOA: Final = 6
_DNAME: Final = 39
_RRSIG: Final = 46
_LENGTHS: Final = [bytes((length,)) for length in range(64)]
_RUN: Final = 8192  # keys sorted at a time, a few milliseconds
_BESIDE_CNAME: Final = frozenset({_CNAME, 24, 25, 30, _RRSIG, 47})  # SIG, KEY, NXT, RRSIG, NSEC (RFC 4034; RFC 2181)


class Standing(Enum):
    """What a name of a zone is, as far as signing and answering are concerned."""

    AUTHORITATIVE = "authoritative"
    """The zone's own data."""
    DELEGATION = "delegation"
    """The owner of the NS records of a zone cut: only DS, NSEC and their signatures are the zone's own."""
    OCCLUDED = "occluded"
    """Below a zone cut or a DNAME: glue, or data that nobody can see."""


class ZoneVersion:
    """An immutable version of a zone; make one with :meth:`build` or :class:`ZoneBuilder`.

    Owners are canonical wire octets (see :mod:`mpcore.zone.owners`).
    """

    __slots__ = ("__weakref__", "_tree", "origin", "record_count", "soa")

    origin: bytes
    """Apex of the zone."""
    soa: RRset
    """The SOA RRset: one record."""
    record_count: int
    """Number of records, signatures included."""

    def __init__(self, origin: bytes, tree: Tree, record_count: int) -> None:
        self.origin = origin
        self._tree = tree
        self.record_count = record_count
        apex = tree.get(b"")
        soa = None if apex is None else packed.unpack_one(apex, _SOA)
        if soa is None:
            raise ZoneError(f"{owners.to_text(origin)} has no SOA record")
        if len(soa.rdatas) != 1:
            raise ZoneError(f"{owners.to_text(origin)} has {len(soa.rdatas)} SOA records")
        self.soa = soa

    def __repr__(self) -> str:
        return f"<ZoneVersion {owners.to_text(self.origin)} serial {self.serial}, {self.record_count} records>"

    @classmethod
    def build(cls, origin: bytes, rrsets: Iterable[tuple[bytes, RRset]]) -> ZoneVersion:
        """A version made of *rrsets*; RRsets of the same owner and type are joined.

        :raises ZoneError: no SOA or more than one, an owner outside the zone, CNAME beside other data.
        """
        builder = ZoneBuilder(origin)
        for owner, rrset in rrsets:
            for rdata in rrset.rdatas:
                builder.add(owner, rrset.rdtype, rrset.ttl, rdata)
        return builder.finish()

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def serial(self) -> int:
        """Serial of the SOA record."""
        return int.from_bytes(self.soa.rdatas[0][-20:-16], "big")

    @property
    def minimum(self) -> int:
        """TTL of negative answers: the smaller of the SOA's MINIMUM and TTL (RFC 2308, section 5; RFC 9077)."""
        minimum = int.from_bytes(self.soa.rdatas[0][-4:], "big")
        return min(self.soa.ttl, minimum if minimum <= MAX_TTL else 0)

    def contains(self, owner: bytes) -> bool:
        """Whether *owner* lies at or below the apex."""
        return self._key(owner) is not None

    def packed_node(self, owner: bytes) -> bytes | None:
        """All records of *owner* in the form of :mod:`mpcore.zone.packed`, ``None`` if it has none."""
        key = self._key(owner)
        return None if key is None else self._tree.get(key)

    def get(self, owner: bytes, rdtype: int) -> RRset | None:
        """The RRset of *owner* and type, ``None`` if there is none."""
        blob = self.packed_node(owner)
        return None if blob is None else packed.unpack_one(blob, rdtype)

    def node(self, owner: bytes) -> Mapping[int, RRset] | None:
        """All RRsets of *owner* by type, ``None`` if it has none."""
        blob = self.packed_node(owner)
        return None if blob is None else packed.unpack(blob)

    def types(self, owner: bytes) -> tuple[int, ...]:
        """The types of *owner*, ascending."""
        blob = self.packed_node(owner)
        return () if blob is None else packed.types(blob)

    def owners(self) -> Iterator[bytes]:
        """All names with records, in canonical order."""
        origin = self.origin
        for key in self._tree.keys():  # noqa: SIM118 (not a dict)
            yield owners.owner_of_key(key, origin)

    def nodes(self) -> Iterator[tuple[bytes, bytes]]:
        """All names with their packed records, in canonical order."""
        origin = self.origin
        for key, blob in self._tree.items():
            yield owners.owner_of_key(key, origin), blob

    def nodes_below_apex(self, length: int) -> Iterator[tuple[bytes, bytes]]:
        """The names one label below the apex whose label has *length* octets: that label, and the packed records.

        Labels come in ascending order; those with an octet 0 or 1 are left out.  Reads the whole zone, quickly.
        """
        for key, blob in self._tree.items():
            if len(key) == length + 1 and key.find(b"\x00") == length and b"\x01" not in key:
                yield key[:length], blob

    def changed_nodes(self, other: ZoneVersion) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
        """The names whose records differ in another version of the zone: owner, packed records here, and there.

        Parts that the versions share are not read.
        """
        origin = self.origin
        for key, before, after in self._tree.difference(other._tree):
            yield owners.owner_of_key(key, origin), before, after

    def names_below_apex(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """All names but the apex, each as its labels in front of the apex, with packed records, in canonical order.

        They come in lists of up to 128, which is faster than one by one.
        """
        lengths, find, owner_of_key = _LENGTHS, bytes.find, owners.owner_of_key
        for keys, blobs in self._tree.leaves():
            yield [
                (
                    lengths[len(key) - 1] + key[:-1]
                    if len(key) < 65 and find(key, b"\x00") == len(key) - 1 and b"\x01" not in key
                    else owner_of_key(key, b""),
                    blob,
                )
                for key, blob in zip(keys, blobs, strict=True)
                if key
            ]

    def rrsets(self) -> Iterator[tuple[bytes, RRset]]:
        """All RRsets, owners in canonical order, types ascending."""
        for owner, blob in self.nodes():
            for rrset in packed.unpack(blob).values():
                yield owner, rrset

    def path(self, owner: bytes) -> list[tuple[bytes, bytes | None]]:
        """The names from the apex down to *owner*, each with its packed records, ``None`` for a name without any.

        :raises ZoneError: *owner* is outside the zone.
        """
        key = self._require(owner)
        get = self._tree.get
        result: list[tuple[bytes, bytes | None]] = [(owner, get(key))]
        position = len(key)
        while position:
            owner = owner[owner[0] + 1 :]
            position = key.rfind(b"\x00", 0, position - 1) + 1
            result.append((owner, get(key[:position])))
        result.reverse()
        return result

    def exists(self, owner: bytes) -> bool:
        """Whether *owner* exists: it has records, or a name below it has (an empty non-terminal, RFC 4592, 2.2.2)."""
        key = self._key(owner)
        if key is None:
            return False
        entry = self._tree.ceiling(key)
        return entry is not None and entry[0].startswith(key)

    def closest_encloser(self, owner: bytes) -> bytes:
        """The longest existing name that is *owner* or above it (RFC 4592, section 3.3.1).

        :raises ZoneError: *owner* is outside the zone.
        """
        key = self._require(owner)
        # Every existing ancestor that is not an ancestor of the neighbours too would have to lie between them.
        best = 0
        for entry in (self._tree.floor(key), self._tree.ceiling(key)):
            if entry is not None:
                best = max(best, _common_labels(key, entry[0]))
        depth = key.count(b"\x00")
        for _ in range(depth - best):
            owner = owners.parent(owner)
        return owner

    def miss(self, owner: bytes) -> tuple[bool, bytes, bytes | None, bool]:
        """What an answer about a name without records depends on, found at one go.

        :return: whether *owner* exists all the same (an empty non-terminal); the closest encloser; the packed records
            of the wildcard below that; whether that wildcard exists.
        :raises ZoneError: *owner* is outside the zone.
        """
        key = self._require(owner)
        tree = self._tree
        after = tree.ceiling(key)
        if after is not None and after[0].startswith(key):
            return True, owner, None, False
        # As in closest_encloser(): an existing ancestor is one of a neighbour too.
        best = 0 if after is None else _common_octets(key, after[0])
        before = tree.floor(key)
        if before is not None:
            best = max(best, _common_octets(key, before[0]))
        for _ in range(key.count(b"\x00", best)):
            owner = owner[owner[0] + 1 :]
        wildcard = key[:best] + b"*\x00"
        after = tree.ceiling(wildcard)
        if after is None or not after[0].startswith(wildcard):
            return False, owner, None, False
        return False, owner, after[1] if after[0] == wildcard else None, True

    def at_or_before(self, owner: bytes) -> tuple[bytes, bytes]:
        """The last name with records that is *owner* or before it in canonical order.

        :return: its sort key, for :meth:`owner_of`, and its packed records.
        :raises ZoneError: *owner* is outside the zone.
        """
        entry = self._tree.floor(self._require(owner))
        assert entry is not None  # the apex has the least key
        return entry

    def owner_of(self, key: bytes) -> bytes:
        """The name of a sort key of this zone."""
        return owners.owner_of_key(key, self.origin)

    # -- zone cuts and order -----------------------------------------------------------------------------------------

    def delegation_of(self, owner: bytes) -> bytes | None:
        """The zone cut at or above *owner*: the topmost name below the apex with NS records; ``None`` if there is none.

        :raises ZoneError: *owner* is outside the zone.
        """
        cut = self._cut(owner)
        return cut[0] if cut is not None and cut[1] == _NS else None

    def is_glue_or_occluded(self, owner: bytes) -> bool:
        """Whether *owner* lies below a zone cut or a DNAME, so that its data is not the zone's own.

        :raises ZoneError: *owner* is outside the zone.
        """
        cut = self._cut(owner)
        return cut is not None and cut[0] != owner

    def standing(self, owner: bytes) -> Standing:
        """What *owner* is; :raises ZoneError: *owner* is outside the zone."""
        cut = self._cut(owner)
        if cut is None:
            return Standing.AUTHORITATIVE
        if cut[0] != owner:
            return Standing.OCCLUDED
        return Standing.DELEGATION

    def survey(self) -> Iterator[tuple[bytes, bytes, Standing]]:
        """All names in canonical order with their packed records and standing; faster than asking for each."""
        barrier: bytes | None = None
        origin = self.origin
        for key, blob in self._tree.items():
            owner = owners.owner_of_key(key, origin)
            if barrier is not None and key.startswith(barrier):
                yield owner, blob, Standing.OCCLUDED
                continue
            barrier = None
            held = packed.types(blob)
            if key and _NS in held:
                barrier = key
                yield owner, blob, Standing.DELEGATION
            else:
                if _DNAME in held:
                    barrier = key
                yield owner, blob, Standing.AUTHORITATIVE

    def neighbours(self, owner: bytes) -> tuple[bytes, bytes]:
        """The names before and after *owner* in the chain of names that own NSEC records (RFC 4034, section 4.1.1).

        Names below zone cuts and DNAMEs and empty non-terminals are no members of the chain.  The chain is closed:
        before the apex comes the last name, after the last name the apex.  *owner* itself need not exist and is never
        returned, unless the apex is the only member.

        :raises ZoneError: *owner* is outside the zone.
        """
        key = self._require(owner)
        return self._before(key), self._after(key)

    def covering(self, owner: bytes) -> bytes:
        """The member of the NSEC chain at or before *owner*: the owner of the NSEC that matches or covers it.

        :raises ZoneError: *owner* is outside the zone.
        """
        key = self._require(owner)
        entry = self._tree.floor(key)
        assert entry is not None  # the apex has the least key
        found = owners.owner_of_key(entry[0], self.origin)
        cut = self._cut(found)
        return found if cut is None else cut[0]

    def _before(self, key: bytes) -> bytes:
        entry = self._tree.floor(key, strict=True) if key else self._tree.last()
        assert entry is not None
        found = owners.owner_of_key(entry[0], self.origin)
        cut = self._cut(found)
        return found if cut is None else cut[0]

    def _after(self, key: bytes) -> bytes:
        entry = self._tree.ceiling(key, strict=True)
        while entry is not None:
            found = owners.owner_of_key(entry[0], self.origin)
            cut = self._cut(found)
            if cut is None or cut[0] == found:
                return found
            barrier = self._require(cut[0])
            if not barrier:
                break
            entry = self._tree.ceiling(barrier[:-1] + b"\x01")
        return self.origin

    def _cut(self, owner: bytes) -> tuple[bytes, int] | None:
        """The topmost name at or above *owner* that hides what is below it, and the type (NS or DNAME) that does.

        A DNAME hides only what is below it, not its own name.
        """
        for name, blob in self.path(owner):
            if blob is not None:
                held = packed.types(blob)
                if _NS in held and name != self.origin:
                    return name, _NS
                if _DNAME in held and name != owner:
                    return name, _DNAME
        return None

    def _key(self, owner: bytes) -> bytes | None:
        """Sort key relative to the apex, or ``None`` for a name outside the zone."""
        return owners.relative_key(owner, self.origin)

    def _require(self, owner: bytes) -> bytes:
        key = self._key(owner)
        if key is None:
            raise ZoneError(f"{_name(owner)} is not in {owners.to_text(self.origin)}")
        return key

    # -- change --------------------------------------------------------------------------------------------------

    def is_near(self, other: ZoneVersion, leaves: int = 32) -> bool:
        """Whether the two versions share almost everything, so that :func:`diff` takes about a millisecond.

        :param leaves: most leaves of the tree, of up to 128 names each, that may be found in one of them only.
        """
        return self._tree.is_near(other._tree, leaves)

    def sharing_with(self, old: ZoneVersion) -> ZoneVersion:
        """This version, kept as the changes to *old*: it shares what is equal, so that memory and later comparisons
        cost the changes only.  Takes time in proportion to the zone.

        :raises ZoneError: the versions are of different zones.
        """
        if old.origin != self.origin:
            raise ZoneError(f"{owners.to_text(old.origin)} and {owners.to_text(self.origin)} are different zones")
        changes = [(key, new) for key, _, new in old._tree.difference(self._tree)]
        if 8 * len(changes) > self.record_count:
            return self
        return ZoneVersion(self.origin, old._tree.apply(changes), self.record_count)

    def update(self, changes: Iterable[Change]) -> ZoneVersion:
        """The version that follows when *changes* are made; the cost is that of the changes.

        A later change of the same owner and type replaces an earlier one.

        :raises ZoneError: an owner outside the zone, no SOA or more than one afterwards, CNAME beside other data, an
            RRset under a wrong type.
        """
        by_key: dict[bytes, dict[int, RRset | None]] = {}
        for owner, rdtype, rrset in changes:
            if rrset is not None and rrset.rdtype != rdtype:
                raise ZoneError(f"an RRset of type {type_text(rrset.rdtype)} given as {type_text(rdtype)}")
            if rdtype == _SOA and owner != self.origin:
                _fault(owner, "SOA below the apex")
            by_key.setdefault(self._require(owner), {})[rdtype] = rrset
        return self._replace(by_key)

    def _replace(self, by_key: dict[bytes, dict[int, RRset | None]]) -> ZoneVersion:
        if not by_key:
            return self
        entries = []
        total = self.record_count
        for key, node in by_key.items():
            old = self._tree.get(key)
            new = packed.update(old, node)
            if new is not None:
                _check_node(owners.owner_of_key(key, self.origin), new)
                total += packed.count(new)
            if old is not None:
                total -= packed.count(old)
            entries.append((key, new))
        return ZoneVersion(self.origin, self._tree.apply(entries), total)

    def with_serial(self, serial: int) -> ZoneVersion:
        """This version under another serial (0 to 2**32 - 1); signatures are left as they are."""
        if serial == self.serial:
            return self
        rdata = self.soa.rdatas[0]
        soa = RRset(_SOA, self.soa.ttl, (rdata[:-20] + serial.to_bytes(4, "big") + rdata[-16:],))
        return self._replace({b"": {_SOA: soa}})


_Node = dict[int, tuple[int, list[bytes]]]  # type -> TTL and RDATA, as they come


class ZoneBuilder:
    """Collects the records of a zone one by one, from a transfer or a file.

    The records of an owner are packed when another owner's come, so that little is left to do at the end and few small
    objects live meanwhile.  Owners that come in canonical order, as in a transfer, go straight into the leaves of the
    tree; no other thread has to wait for a list or dictionary of the whole zone to be made, sorted or freed.  An owner
    that comes back is kept open until the end.

    :param origin: apex of the zone.
    """

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self.record_count = 0
        self._tree = TreeBuilder()
        self._others: dict[bytes, bytes] = {}  # what came out of order, or replaces what is in the tree
        self._total = 0
        self._open: dict[bytes, _Node] = {}
        self._owner = b""
        self._key: bytes | None = None
        self._node: _Node = {}
        self._fault: ZoneError | None = None

    def add(self, owner: bytes, rdtype: int, ttl: int, rdata: bytes) -> None:
        """Add a record; *rdata* must already have been checked against its type.

        Records of one RRset with different TTLs get the smallest of them (RFC 2181, section 5.2).
        """
        if owner != self._owner:
            self._turn_to(owner)
        node = self._node
        held = node.get(rdtype)
        if held is None:
            node[rdtype] = (ttl, [rdata])
        else:
            held[1].append(rdata)
            if ttl < held[0]:
                node[rdtype] = (ttl, held[1])
        self.record_count += 1

    def _turn_to(self, owner: bytes) -> None:
        if self._node:
            self._put_away()
        self._owner = owner
        node = self._open.get(owner)
        if node is None:
            key = self._key = owners.relative_key(owner, self.origin)
            node = {}
            if key is None:
                self._fault = self._fault or ZoneError(f"{_name(owner)} is not in {owners.to_text(self.origin)}")
            elif (blob := self._find(key)) is not None:
                self._total -= packed.count(blob)
                node = self._open[owner] = {
                    rdtype: (rrset.ttl, list(rrset.rdatas)) for rdtype, rrset in packed.unpack(blob).items()
                }
        self._node = node

    def _find(self, key: bytes) -> bytes | None:
        return self._others.get(key) or self._tree.get(key)

    def _put_away(self) -> None:
        """Pack the records of the present owner, unless it is kept open."""
        key = self._key
        if key is None or self._owner in self._open:
            return
        blob = self._pack(self._owner, self._node)
        if blob is not None:
            self._place(key, blob)

    def _place(self, key: bytes, blob: bytes) -> None:
        if not self._tree.append(key, blob):
            self._others[key] = blob

    def _pack(self, owner: bytes, node: _Node) -> bytes | None:
        """The records of an owner, ``None`` if they break a rule, which is kept for the end."""
        try:
            if _SOA in node and owner != self.origin:
                _fault(owner, "SOA below the apex")
            blob, number = packed.pack_records(node)
            if _CNAME in node or _DNAME in node:
                _check_node(owner, blob)
        except RecordError as error:
            self._fault = self._fault or ZoneError(f"{_name(owner)}: {error}")
        except ZoneError as error:
            self._fault = self._fault or error
        else:
            self._total += number
            return blob
        return None

    def finish(self) -> ZoneVersion:
        """The version; the builder is empty afterwards.

        :raises ZoneError: no SOA or more than one, an owner outside the zone, CNAME beside other data.
        """
        if self._node:
            self._put_away()
        for owner, node in self._open.items():
            key = owners.relative_key(owner, self.origin)
            blob = self._pack(owner, node)
            if key is not None and blob is not None:
                self._place(key, blob)
        tree, others, total, fault = self._tree, self._others, self._total, self._fault
        apex = self._find(b"")
        self.__init__(self.origin)  # type: ignore[misc]
        if fault is not None:
            raise fault
        if apex is None or packed.find(apex, _SOA) is None:
            raise ZoneError(f"{owners.to_text(self.origin)} has no SOA record")
        ordered = tree.finish()
        if 8 * len(others) > total:
            tree = TreeBuilder()
            in_order = (entry for entry in ordered.items() if entry[0] not in others)
            for key, blob in merge(in_order, ((key, others[key]) for key in _sorted(others))):
                tree.append(key, blob)
            ordered = tree.finish()
        elif others:
            ordered = ordered.apply(others.items())
        return ZoneVersion(self.origin, ordered, total)


def _sorted(keys: Iterable[bytes]) -> list[bytes]:
    """The keys in order; in pieces, because a sort does not let other threads run before it is done."""
    every = list(keys)
    runs = [sorted(every[start : start + _RUN]) for start in range(0, len(every), _RUN)]
    return list(merge(*runs))


def _check_node(owner: bytes, blob: bytes) -> None:
    held = packed.types(blob)
    for single in (_CNAME, _DNAME):
        if single in held:
            found = packed.find(blob, single)
            if found is not None and found[0] > 1:
                _fault(owner, f"more than one {type_text(single)} record")
    if _CNAME in held and not _BESIDE_CNAME.issuperset(held):
        other = next(rdtype for rdtype in held if rdtype not in _BESIDE_CNAME)
        _fault(owner, f"CNAME and {type_text(other)} at the same name")


def _fault(owner: bytes, message: str) -> NoReturn:
    raise ZoneError(f"{_name(owner)}: {message}")


def _name(owner: bytes) -> str:
    try:
        return owners.to_text(owner)
    except RecordError:
        return owner.hex()


def _common_labels(left: bytes, right: bytes) -> int:
    count = 0
    for mine, theirs in zip(left.split(b"\x00")[:-1], right.split(b"\x00")[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _common_octets(left: bytes, right: bytes) -> int:
    """Octets of the whole labels that two sort keys have in common."""
    position = 0
    while (end := left.find(b"\x00", position) + 1) and left[position:end] == right[position:end]:
        position = end
    return position


def diff(old: ZoneVersion, new: ZoneVersion) -> list[Difference]:
    """The RRsets that differ between two versions of one zone, in canonical order of owners and ascending types.

    Parts that the versions share are not read.  RRSIG records are compared signature by signature: an RRset of type
    RRSIG differs when any of its records does.

    :raises ZoneError: the versions are of different zones.
    """
    return list(differences(old, new))


def differences(old: ZoneVersion, new: ZoneVersion) -> Iterator[Difference]:
    """What :func:`diff` lists, one by one."""
    if old.origin != new.origin:
        raise ZoneError(f"{owners.to_text(old.origin)} and {owners.to_text(new.origin)} are different zones")
    for owner, before, after in old.changed_nodes(new):
        mine = {} if before is None else packed.unpack(before)
        theirs = {} if after is None else packed.unpack(after)
        for rdtype in sorted(mine.keys() | theirs.keys()):
            left, right = mine.get(rdtype), theirs.get(rdtype)
            if left != right:
                yield owner, rdtype, left, right


def share(version: list[ZoneVersion], old: ZoneVersion) -> ZoneVersion:
    """:meth:`ZoneVersion.sharing_with` for a version that is not needed any more; for a thread of its own.

    A large zone that is freed at once keeps all other threads waiting meanwhile; here it is freed bit by bit.

    :param version: a list with the only reference to it, empty afterwards.
    """
    own = version.pop()
    shared = own.sharing_with(old)
    if shared is not own:
        leaves = own._tree.parts()
        del own
        while leaves:
            leaves.pop()
    return shared
