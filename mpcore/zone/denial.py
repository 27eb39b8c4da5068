"""Proofs that something does not exist: NSEC, NSEC3 and compact denial.

Each kind of zone has its own :class:`Denial`, which knows the four situations in which an answer carries a proof:

=============  ==========================  ==========================================  ==========================
situation      NSEC (RFC 4035, 3.1.3)      NSEC3 (RFC 5155, 7.2)                       compact (RFC 9824, 3)
=============  ==========================  ==========================================  ==========================
no data        the NSEC of the name        the NSEC3 of the name, or the closest       made for the name, lists
                                           provable encloser and a cover (opt-out)     its types
no name        covers of name, wildcard    closest encloser, covers of next closer     made for the name, lists
                                           name and wildcard                           NXNAME
wildcard used  cover of the name           cover of the next closer name               none: the answer is signed
insecure cut   the NSEC of the cut         as no data                                  made for the cut
=============  ==========================  ==========================================  ==========================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b32hexencode
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary, ref

from mpcore.zone import owners, packed
from mpcore.zone.rrset import RRset
from mpcore.zone.version import ZoneVersion

__all__ = (
    "HASH_LABEL",
    "MAX_ITERATIONS",
    "CompactDenial",
    "Denial",
    "DenialChains",
    "HashChain",
    "HashedDenial",
    "NsecDenial",
    "OnlineSignatures",
    "Piece",
    "Proof",
    "is_hash_owner",
    "nsec3_hash",
    "successor",
)

MAX_ITERATIONS: Final = 2500
"""Most NSEC3 iterations that answers are made with: the largest number that RFC 5155, section 10.3, ever allowed.
RFC 9276 asks signers for none; a chain with more than this costs too much for each answer and is not used."""

HASH_LABEL: Final = 32
"""Length of the first label of an owner of NSEC3 records: 20 octets of SHA-1 in base32hex."""

Piece: TypeAlias = tuple[bytes, bytes, int]
"""Owner, records in the form of :mod:`mpcore.zone.packed`, their number."""

Proof: TypeAlias = tuple[Piece, ...]
"""NSEC or NSEC3 records, each with its signatures; some may be there twice."""

OnlineSignatures: TypeAlias = Callable[[ZoneVersion, bytes, RRset], Sequence[bytes]]
"""Signs an RRset of a version as it is answered: version, owner, RRset; returns RRSIG RDATA, none if it cannot."""

_NS: Final = 2
_DS: Final = 43
_RRSIG: Final = 46
_NSEC: Final = 47
_NSEC3: Final = 50
_NSEC3PARAM: Final = 51
_NXNAME: Final = 128
_MAX_REMEMBERED: Final = 4096  # proofs of a version, some 400 octets each
_HASH_ONLY: Final = frozenset({_RRSIG, _NSEC3})


class Denial(ABC):
    """The proofs of one version, which must live as long as they are asked for."""

    __slots__ = ("_version",)

    def __init__(self, version: ZoneVersion) -> None:
        self._version = ref(version)  # a version is the key under which its denial is remembered

    @property
    def version(self) -> ZoneVersion:
        """The version whose proofs these are."""
        version = self._version()
        assert version is not None, "the version is gone"
        return version

    @abstractmethod
    def no_data(self, name: bytes, source: bytes, blob: bytes | None) -> Proof:
        """*name* has no records of the type asked for.

        :param source: *name*, or the wildcard that it is synthesised from.
        :param blob: packed records of *source*; ``None`` for an empty non-terminal.
        """

    @abstractmethod
    def no_name(self, name: bytes, encloser: bytes) -> Proof:
        """*name* does not exist, nor does the wildcard below its closest encloser."""

    @abstractmethod
    def expanded(self, name: bytes, encloser: bytes) -> Proof:
        """*name* does not exist, so that the wildcard below its closest encloser applies."""

    @abstractmethod
    def insecure(self, cut: bytes, blob: bytes) -> Proof:
        """The delegation at *cut* has no DS records."""


class NsecDenial(Denial):
    """NSEC records of the zone itself (RFC 4035, section 3.1.3)."""

    __slots__ = ("_found",)

    def __init__(self, version: ZoneVersion) -> None:
        super().__init__(version)
        self._found: dict[bytes, Proof] = {}

    def no_data(self, name: bytes, source: bytes, blob: bytes | None) -> Proof:
        """See :meth:`Denial.no_data`; an empty non-terminal has no NSEC, so it is covered."""
        proof = self._around(source) if blob is None else _proof(source, blob, _NSEC)
        return proof if source == name else proof + self._around(name)

    def no_name(self, name: bytes, encloser: bytes) -> Proof:
        """See :meth:`Denial.no_name`."""
        return self._around(name) + self._around(owners.wildcard_below(encloser))

    def expanded(self, name: bytes, encloser: bytes) -> Proof:
        """See :meth:`Denial.expanded`."""
        return self._around(name)

    def insecure(self, cut: bytes, blob: bytes) -> Proof:
        """See :meth:`Denial.insecure`."""
        return _proof(cut, blob, _NSEC)

    def _around(self, name: bytes) -> Proof:
        version = self.version
        key, blob = version.at_or_before(name)
        proof = self._found.get(key)
        if proof is None:
            if packed.find(blob, _NSEC) is not None:
                proof = _proof(version.owner_of(key), blob, _NSEC)
            else:  # glue and the like have none
                owner = version.covering(name)
                proof = _proof(owner, version.packed_node(owner), _NSEC)
            _remember(self._found, key, proof)
        return proof


class HashedDenial(Denial):
    """NSEC3 records of the zone itself (RFC 5155, section 7.2).

    Where a name has no NSEC3 of its own because the chain opts out, the closest provable encloser takes the place of
    the closest encloser.
    """

    __slots__ = ("_found", "chain")

    def __init__(self, version: ZoneVersion, chain: HashChain) -> None:
        super().__init__(version)
        self.chain = chain
        self._found: dict[bytes, Proof] = {}

    def no_data(self, name: bytes, source: bytes, blob: bytes | None) -> Proof:
        """See :meth:`Denial.no_data`."""
        if source == name:
            return self._matched(name) or self._enclosed(name)
        proof = self._enclosed(name, owners.parent(source))
        return proof + (self._matched(source) or self._covered(source))

    def no_name(self, name: bytes, encloser: bytes) -> Proof:
        """See :meth:`Denial.no_name`."""
        return self._enclosed(name, encloser, wildcard=True)

    def expanded(self, name: bytes, encloser: bytes) -> Proof:
        """See :meth:`Denial.expanded`; the signature of the wildcard already tells the closest encloser."""
        return self._covered(_below(encloser, name))

    def insecure(self, cut: bytes, blob: bytes) -> Proof:
        """See :meth:`Denial.insecure`."""
        return self._matched(cut) or self._enclosed(cut)

    def _enclosed(self, name: bytes, encloser: bytes | None = None, *, wildcard: bool = False) -> Proof:
        """The closest provable encloser proof (RFC 5155, section 7.2.1), with the wildcard's cover if asked for."""
        at = owners.parent(name) if encloser is None else encloser
        while not (proof := self._matched(at)) and at != self.version.origin:
            at = owners.parent(at)
        proof += self._covered(_below(at, name))
        return proof + self._covered(owners.wildcard_below(at)) if wildcard else proof

    def _matched(self, name: bytes) -> Proof:
        label = self.chain.label(name)
        return self._at(label) if self.chain.covering(label) == label else ()

    def _covered(self, name: bytes) -> Proof:
        return self._at(self.chain.covering(self.chain.label(name)))

    def _at(self, label: bytes) -> Proof:
        proof = self._found.get(label)
        if proof is None:
            version = self.version
            owner = b"\x20" + label + version.origin
            proof = _proof(owner, version.packed_node(owner), _NSEC3)
            _remember(self._found, label, proof)
        return proof


class CompactDenial(Denial):
    """NSEC records made and signed for each answer (RFC 9824).

    :param sign: signs them.
    """

    __slots__ = ("_sign",)

    def __init__(self, version: ZoneVersion, sign: OnlineSignatures) -> None:
        super().__init__(version)
        self._sign = sign

    def no_data(self, name: bytes, source: bytes, blob: bytes | None) -> Proof:
        """See :meth:`Denial.no_data` (RFC 9824, sections 3.2 and 3.3)."""
        types = () if blob is None else packed.types(blob)
        if _NS in types and source != self.version.origin:
            types = tuple({_NS, _DS}.intersection(types))  # what else is at a zone cut is not the zone's own
        return self._made(name, types)

    def no_name(self, name: bytes, encloser: bytes) -> Proof:
        """See :meth:`Denial.no_name` (RFC 9824, section 3.1)."""
        return self._made(name, (_NXNAME,))

    def expanded(self, name: bytes, encloser: bytes) -> Proof:
        """Nothing: the answer is signed as if the name existed (RFC 9824, section 3.3), see :meth:`signed`."""
        return ()

    def insecure(self, cut: bytes, blob: bytes) -> Proof:
        """See :meth:`Denial.insecure`: of the types at a zone cut only NS is listed."""
        return self._made(cut, (_NS,))

    def signed(self, owner: bytes, rrset: RRset) -> Proof:
        """An RRset and signatures made for it."""
        signatures = tuple(sorted(self._sign(self.version, owner, rrset)))
        node = {rrset.rdtype: rrset}
        if signatures:
            node[_RRSIG] = RRset(_RRSIG, rrset.ttl, signatures)
        return _proof(owner, packed.pack(node), rrset.rdtype)

    def _made(self, name: bytes, types: Iterable[int]) -> Proof:
        held = {_RRSIG, _NSEC, *types} - {_NSEC3}
        rdata = successor(name, self.version.origin) + _bitmap(held)
        return self.signed(name, RRset(_NSEC, self.version.minimum, (rdata,)))


class HashChain:
    """The NSEC3 chain of a version: its parameters and the hashes in it, in order.

    :param iterations: additional iterations, as found in the zone.
    :param salt: as found in the zone.
    :param labels: first labels of the owners of its NSEC3 records, lower case, ascending; at least one.
    """

    __slots__ = ("_labels", "iterations", "salt")

    def __init__(self, iterations: int, salt: bytes, labels: list[bytes]) -> None:
        self.iterations, self.salt, self._labels = iterations, salt, labels

    def __len__(self) -> int:
        return len(self._labels)

    def label(self, name: bytes) -> bytes:
        """The hash of *name* as a label of the chain."""
        return nsec3_hash(name, self.iterations, self.salt)

    def covering(self, label: bytes) -> bytes:
        """The member of the chain at or before *label*; the chain is closed."""
        return self._labels[bisect_right(self._labels, label) - 1]

    @classmethod
    def of(cls, version: ZoneVersion, iterations: int, salt: bytes) -> HashChain | None:
        """The chain of a version with the given parameters; ``None`` if the apex is not in it.

        Reads the whole zone.
        """
        parameters = _parameters(iterations, salt)
        labels = [label for label, blob in version.nodes_below_apex(HASH_LABEL) if _has_parameters(blob, parameters)]
        chain = cls(iterations, salt, labels)
        return chain if chain._is_whole(version) else None

    def follow(self, old: ZoneVersion, new: ZoneVersion) -> HashChain | None:
        """This chain of *old* as it is in *new*; the cost is that of the difference."""
        parameters = _parameters(self.iterations, self.salt)
        labels = self._labels.copy()
        for owner, _, blob in old.changed_nodes(new):
            if not _could_be_hash(owner, new.origin):
                continue
            label = owner[1:33]
            index = bisect_left(labels, label)
            present = index < len(labels) and labels[index] == label
            if present != (blob is not None and _has_parameters(blob, parameters)):
                if present:
                    del labels[index]
                else:
                    labels.insert(index, label)
        chain = HashChain(self.iterations, self.salt, labels)
        return chain if chain._is_whole(new) else None

    def _is_whole(self, version: ZoneVersion) -> bool:
        apex = self.label(version.origin)
        return bool(self._labels) and self.covering(apex) == apex


class DenialChains:
    """Finds the :class:`Denial` of a version, and remembers it for as long as the version lives."""

    __slots__ = ("_denials",)

    def __init__(self) -> None:
        self._denials: WeakKeyDictionary[ZoneVersion, Denial | None] = WeakKeyDictionary()

    def find(self, version: ZoneVersion) -> Denial | None:
        """How a version proves denial: NSEC3 if it has NSEC3PARAM and such a chain, else NSEC if its apex has one.

        The first time that a zone with NSEC3 is seen, all of it is read: seconds for a million names, so ask once where
        that does no harm, see :meth:`mpcore.zone.answer.Responder.prepare`.  The chain of a later version is made from
        that of one before it, at the cost of the difference.

        :return: ``None`` if the version is not signed, or its chain is broken or has more than :data:`MAX_ITERATIONS`.
        """
        try:
            return self._denials[version]
        except KeyError:
            denial = self._denials[version] = self._make(version)
            return denial

    def _make(self, version: ZoneVersion) -> Denial | None:
        apex = version.packed_node(version.origin)
        if apex is None:
            return None
        found = packed.find(apex, _NSEC3PARAM)
        if found is not None:
            chain = self._chain(version, apex, found)
            if chain is not None:
                return HashedDenial(version, chain)
        return NsecDenial(version) if packed.find(apex, _NSEC) is not None else None

    def _chain(self, version: ZoneVersion, apex: bytes, found: tuple[int, int, int]) -> HashChain | None:
        parameters = [
            (int.from_bytes(apex[first + 12 : first + 14], "big"), apex[first + 15 : stop])
            for first, stop in packed.records(apex, found[1], found[2])
            if apex[first + 10 : first + 12]
            == b"\x01\x00"  # SHA-1, and no flag that is not understood (RFC 5155, 4.1.2)
        ]
        for iterations, salt in sorted(parameters):
            if iterations > MAX_ITERATIONS:
                continue
            before = self._before(version, iterations, salt)
            chain = HashChain.of(version, iterations, salt) if before is None else before[1].follow(before[0], version)
            if chain is not None:
                return chain
        return None

    def _before(self, version: ZoneVersion, iterations: int, salt: bytes) -> tuple[ZoneVersion, HashChain] | None:
        """The version of the same zone that was seen last, if it had such a chain."""
        result = None
        for other, denial in self._denials.items():
            if other.origin == version.origin and isinstance(denial, HashedDenial):
                chain = denial.chain
                if (chain.iterations, chain.salt) == (iterations, salt):
                    result = other, chain
        return result


@lru_cache(maxsize=8192)
def nsec3_hash(name: bytes, iterations: int, salt: bytes) -> bytes:
    """The hash of a name (RFC 5155, section 5) as a label: base32hex, lower case.

    :param name: canonical wire octets.
    :param iterations: additional iterations, 0 to 65535.
    """
    digest = sha1(name + salt).digest()
    for _ in range(iterations):
        digest = sha1(digest + salt).digest()
    return b32hexencode(digest).lower()


def is_hash_owner(types: Iterable[int]) -> bool:
    """Whether a name with these types is there only for the NSEC3 chain, and so does not exist (RFC 5155, 7.2.8)."""
    return _HASH_ONLY.issuperset(types)


def successor(name: bytes, origin: bytes) -> bytes:
    """The name that follows *name* immediately in the canonical order of the zone (RFC 4471, section 3.1.2).

    :param name: canonical wire octets, at or below *origin*.
    :return: the origin after the last possible name.
    """
    if len(name) <= 253:
        return b"\x01\x00" + name
    while name != origin:
        label, rest = name[1 : name[0] + 1], name[name[0] + 1 :]
        if len(label) < 63 and len(name) < 255:
            return bytes((len(label) + 1,)) + label + b"\x00" + rest
        label = label.rstrip(b"\xff")
        if label:
            last = label[-1] + 1
            label = label[:-1] + bytes((0x5B if last == 0x41 else last,))  # upper case letters sort as lower case
            return bytes((len(label),)) + label + rest
        name = rest
    return origin


def _below(encloser: bytes, name: bytes) -> bytes:
    """The next closer name: *name* cut to one label more than *encloser*."""
    target = len(encloser)
    while len(name) - name[0] - 1 > target:
        name = name[name[0] + 1 :]
    return name


def _could_be_hash(owner: bytes, origin: bytes) -> bool:
    return owner[0] == HASH_LABEL and len(owner) == HASH_LABEL + 1 + len(origin)


def _parameters(iterations: int, salt: bytes) -> bytes:
    return iterations.to_bytes(2, "big") + bytes((len(salt),)) + salt


def _has_parameters(blob: bytes, parameters: bytes) -> bool:
    """Whether a node has an NSEC3 record with the given iterations and salt, and SHA-1."""
    found = packed.find(blob, _NSEC3)
    if found is None:
        return False
    start = found[1] + 12
    return blob[start] == 1 and blob.startswith(parameters, start + 2)


def _proof(owner: bytes, blob: bytes | None, rdtype: int) -> Proof:
    """An RRset and its signatures, if it is there."""
    found = None if blob is None else packed.find(blob, rdtype)
    if blob is None or found is None:
        return ()
    number, start, end = found
    signatures = packed.signatures(blob, rdtype)
    if signatures is None:
        return ((owner, blob[start:end], number),)
    return ((owner, blob[start:end] + blob[signatures[1] : signatures[2]], number + signatures[0]),)


def _remember(found: dict[bytes, Proof], key: bytes, proof: Proof) -> None:
    if len(found) >= _MAX_REMEMBERED:
        found.clear()
    found[key] = proof


def _bitmap(types: Iterable[int]) -> bytes:
    """The Type Bit Maps field (RFC 4034, section 4.1.2)."""
    windows: dict[int, bytearray] = {}
    for rdtype in types:
        windows.setdefault(rdtype >> 8, bytearray(32))[(rdtype & 255) >> 3] |= 0x80 >> (rdtype & 7)
    blocks = [(window, bytes(windows[window]).rstrip(b"\0")) for window in sorted(windows)]
    return b"".join([bytes((window, len(block))) + block for window, block in blocks])
