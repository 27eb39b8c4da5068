"""Signing a zone: NSEC chain (RFC 4034, section 4), RRSIGs, the DNSKEY RRset of a multi-signer group, CDS and CDNSKEY.

What goes in is the zone as the combiner made it; what comes out is the zone as it is served:

* RRSIG, NSEC, NSEC3, NSEC3PARAM and ZONEMD records that came in are dropped: they belong to another signing.
* The apex DNSKEY RRset becomes own keys in a publishing state plus foreign keys, one TTL (RFC 8901, section 2.1.2).
* CDS and CDNSKEY at the apex are replaced, whoever contributed them: they are derived from every KSK of the agreed
  DNSKEY RRset, so that all signers come to the same set (RFC 8901, section 8; RFC 7344).  An own key that is still
  being distributed (``mpdist``) is not agreed yet.
* Everything else stays as it is.  Authoritative RRsets get an RRSIG by every signing key; delegation NS, glue and
  whatever lies below a delegation or a DNAME do not (RFC 4035, section 2.2).
* The chain links owners with authoritative data and delegations.  Its TTL is the lesser of the SOA's TTL and minimum
  (RFC 9077, section 3.2).

Who signs: KSKs sign DNSKEY, CDS and CDNSKEY; ZSKs everything but DNSKEY.  If an algorithm has only one of the two
kinds active, that kind signs everything, so that each RRset has a signature of each algorithm (RFC 4035, section 2.2);
a single KSK alone is thus a combined signing key.  A retired KSK goes on signing DNSKEY, since its DS may be the only
one that a resolver knows.  Signatures of a ZSK that is no longer active are replaced in the pass that notices.

Cost: the first pass and a pass with other zone signing keys or another NSEC TTL walk the zone; any other pass costs
what changed since the last one, plus what is due for refresh.  Signatures are due ``refresh`` seconds before they
expire; expirations are spread by a hash of the owner over half of what lies between, so that the zone is not due all
at once.  Due owners wait in buckets of time.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mpcore.errors import ConfigError, NotReadyError, ZoneError
from mpcore.signer.keys import KeyState, SigningKey, key_tag
from mpcore.zone import packed
from mpcore.zone.owners import is_subdomain, label_count, to_text
from mpcore.zone.rrset import RRset, canonical_rdata, rrsig_covered
from mpcore.zone.version import Change, Standing, ZoneVersion, diff

__all__ = ("Progress", "SigningPolicy", "ZoneSigner", "ds_digest", "foreign_dnskeys", "sign_zone", "type_bitmap")

NS: Final = 2
SOA: Final = 6
DNAME: Final = 39
DS: Final = 43
RRSIG: Final = 46
NSEC: Final = 47
DNSKEY: Final = 48
NSEC3: Final = 50
NSEC3PARAM: Final = 51
CDS: Final = 59
CDNSKEY: Final = 60
ZONEMD: Final = 63

#: Of an upstream signing, dropped wherever they stand.
_STRIPPED: Final = frozenset({RRSIG, NSEC, NSEC3, NSEC3PARAM})
#: Made here, at the apex.
_DERIVED: Final = frozenset({DNSKEY, CDS, CDNSKEY})
_DENIAL: Final = frozenset({RRSIG, NSEC})
#: Signed by the KSKs: RFC 4035, section 2.2, and RFC 7344, section 4.1.
_KEY_SIGNED: Final = frozenset({DNSKEY, CDS, CDNSKEY})

_RRSIG_FIXED: Final = struct.Struct("!HBBIIIH")
_RR_FIXED: Final = struct.Struct("!HHIH")
_BUCKETS: Final = 256
_CHUNK: Final = 16  # owners between two steps: with P-256 one or two milliseconds
_RSA: Final = 8

Node = dict[int, RRset]
_Written = tuple[RRset, RRset, int]


@dataclass(frozen=True, slots=True)
class SigningPolicy:
    """How a zone is signed.

    :param lifetime: validity of a new signature in seconds, at least 3600, counted from now.
    :param refresh: a signature with this many seconds left is replaced; at least 60 and below *lifetime*.  It should
        exceed the zone's largest TTL plus the time that secondaries need to follow.
    :param dnskey_ttl: TTL in seconds of DNSKEY, CDS and CDNSKEY, 0 to 2**31 - 1.
    :param backdate: seconds by which the inception lies before now, for resolvers whose clocks are behind.
    :param publish_cds: ``False`` leaves CDS and CDNSKEY out altogether.
    :raises ConfigError: a value is out of its range.
    """

    lifetime: float = 14 * 86400
    refresh: float = 7 * 86400
    dnskey_ttl: int = 3600
    backdate: float = 3600
    publish_cds: bool = True

    def __post_init__(self) -> None:
        if not 3600 <= self.lifetime <= 366 * 86400:
            raise ConfigError("a signature lifetime is 1 hour to 366 days")
        if not 60 <= self.refresh < self.lifetime:
            raise ConfigError("signatures are refreshed at least 60 seconds before they expire, within their lifetime")
        if not 0 <= self.dnskey_ttl < 1 << 31 or not 0 <= self.backdate <= 86400:
            raise ConfigError("DNSKEY TTL or backdating is out of range")

    @property
    def spread(self) -> int:
        """Largest number of seconds by which an owner's signatures expire before the full lifetime."""
        return int(self.lifetime - self.refresh) // 2

    @property
    def bucket(self) -> int:
        """Length in seconds of the intervals that due owners are collected in."""
        return max(1, int(self.lifetime - self.refresh) // _BUCKETS)

    def expiration(self, owner: bytes, now: float) -> int:
        """When signatures made *now* at *owner* expire, Unix seconds: always the same for the same arguments."""
        spread = self.spread
        return int(now + self.lifetime) - (zlib.crc32(owner) % (spread + 1) if spread else 0)

    def due_bucket(self, expiration: int) -> int:
        """The interval in which a signature is to be replaced, counted from the epoch."""
        return int(expiration - self.refresh) // self.bucket


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a signing pass is: *done* of *total*, counted in records of the zone or in owners that changed."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class _Signer:
    algorithm: int
    tag: int
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class _KeySet:
    """Who signs and what the apex says about it, for one pass."""

    dnskeys: tuple[bytes, ...]
    agreed_ksks: tuple[bytes, ...]
    for_dnskey: tuple[_Signer, ...]
    for_cds: tuple[_Signer, ...]
    for_data: tuple[_Signer, ...]

    @property
    def data_ids(self) -> frozenset[tuple[int, int]]:
        return frozenset(_ids(self.for_data))

    def signers(self, rdtype: int, at_apex: bool) -> tuple[_Signer, ...]:
        if at_apex and rdtype in _KEY_SIGNED:
            return self.for_dnskey if rdtype == DNSKEY else self.for_cds
        return self.for_data


def type_bitmap(types: Iterable[int]) -> bytes:
    """The Type Bit Maps field of an NSEC record (RFC 4034, section 4.1.2)."""
    windows: dict[int, bytearray] = {}
    for rdtype in types:
        windows.setdefault(rdtype >> 8, bytearray(32))[(rdtype & 255) >> 3] |= 0x80 >> (rdtype & 7)
    fields = []
    for window in sorted(windows):
        block = bytes(windows[window]).rstrip(b"\0")
        fields.append(bytes((window, len(block))) + block)
    return b"".join(fields)


def ds_digest(zone: bytes, dnskey: bytes) -> bytes:
    """RDATA of the DS or CDS record with a SHA-256 digest (RFC 4034, section 5.1; RFC 4509).

    :param zone: apex as canonical wire octets.
    :param dnskey: DNSKEY RDATA.
    """
    return key_tag(dnskey).to_bytes(2) + dnskey[3:4] + b"\x02" + hashlib.sha256(zone + dnskey).digest()


def _is_usable(dnskey: bytes) -> bool:
    """A zone key, protocol 3, with some key in it (RFC 4034, section 2.1)."""
    return len(dnskey) > 4 and dnskey[2] == 3 and bool(dnskey[0] & 1)


def _is_ksk(dnskey: bytes) -> bool:
    """Secure Entry Point set, REVOKE (RFC 5011) not set."""
    return bool(dnskey[1] & 1) and not dnskey[1] & 0x80


def foreign_dnskeys(unsigned: ZoneVersion, own: Iterable[SigningKey]) -> tuple[bytes, ...]:
    """The other providers' keys: apex DNSKEY RDATA of the incoming zone without our own keys of any state.

    Compared octet by octet, not by key tag.  Records that are not usable zone keys are left out.
    """
    rrset = unsigned.get(unsigned.origin, DNSKEY)
    if rrset is None:
        return ()
    mine = {key.dnskey for key in own}
    return tuple(rdata for rdata in rrset.rdatas if rdata not in mine and _is_usable(rdata))


def _key_set(keys: Iterable[SigningKey], foreign: Iterable[bytes], zone: str) -> _KeySet:
    own = list(keys)
    published = {key.dnskey for key in own if key.state.publishes}
    mine = {key.dnskey for key in own}
    others = {rdata for rdata in foreign if rdata not in mine and _is_usable(rdata)}
    undistributed = {key.dnskey for key in own if key.state is KeyState.MPDIST}
    dnskeys = tuple(sorted(published | others))
    active = [key for key in own if key.state is KeyState.ACTIVE]
    retired = [key for key in own if key.state is KeyState.RETIRED and key.is_ksk]
    if not active:
        raise NotReadyError(f"{zone}: no key is active")
    ksks = [key for key in active if key.is_ksk]
    zsks = [key for key in active if not key.is_ksk]
    # An algorithm with one kind only: that kind takes both parts.
    only_ksk = {key.algorithm for key in ksks} - {key.algorithm for key in zsks}
    only_zsk = {key.algorithm for key in zsks} - {key.algorithm for key in ksks + retired}
    made = {
        key.dnskey: _Signer(key.algorithm, key.key_tag, key.signer()) for key in sorted(active + retired, key=_order)
    }

    def pick(members: list[SigningKey]) -> tuple[_Signer, ...]:
        chosen = {key.dnskey for key in members}
        return tuple(signer for dnskey, signer in made.items() if dnskey in chosen)

    for_dnskey = pick([*ksks, *retired, *(key for key in zsks if key.algorithm in only_zsk)])
    for_data = pick([*zsks, *(key for key in ksks if key.algorithm in only_ksk)])
    for_cds = tuple(dict.fromkeys(pick(ksks) + for_data))
    agreed = tuple(rdata for rdata in dnskeys if _is_ksk(rdata) and rdata not in undistributed)
    return _KeySet(dnskeys, agreed, for_dnskey, for_cds, for_data)


def _order(key: SigningKey) -> tuple[int, int]:
    return key.algorithm, key.key_tag


def _with_serial(soa: RRset, serial: int) -> RRset:
    rdata = soa.rdatas[0]
    return RRset(SOA, soa.ttl, (rdata[:-20] + (serial & 0xFFFFFFFF).to_bytes(4) + rdata[-16:],))


class _Pen:
    """Makes the records that signing adds to one owner."""

    def __init__(self, origin: bytes, policy: SigningPolicy, keys: _KeySet, now: float, nsec_ttl: int) -> None:
        self._origin = origin
        self._policy = policy
        self._keys = keys
        self._now = now
        self._inception = int(now - policy.backdate)
        self._present = int(now) // policy.bucket
        self._nsec_ttl = nsec_ttl
        self._bitmaps: dict[tuple[int, ...], bytes] = {}

    def write(self, owner: bytes, data: Node, following: bytes, old: Mapping[int, RRset] | None) -> _Written:
        """NSEC and RRSIGs of a link of the chain, and the first expiration among its signatures.

        :param data: what the zone has at *owner*, without RRSIG and NSEC.
        :param following: next link of the chain.
        :param old: the node of the previous signed version, whose signatures are kept where they still fit.
        """
        at_apex = owner == self._origin
        delegation = not at_apex and NS in data
        types = tuple(rdtype for rdtype in data if not delegation or rdtype in (NS, DS))
        key = (*sorted(types), RRSIG, NSEC)
        bitmap = self._bitmaps.get(key)
        if bitmap is None:
            bitmap = self._bitmaps[key] = type_bitmap(key)
        nsec = RRset(NSEC, self._nsec_ttl, (following + bitmap,))
        node = {**data, NSEC: nsec}
        expiration = self._policy.expiration(owner, self._now)
        labels = label_count(owner)
        kept = self._usable(old, node) if old else None
        signatures: list[bytes] = []
        ttl = self._nsec_ttl
        first = expiration
        for rdtype in (*types, NSEC):
            if delegation and rdtype == NS:
                continue
            rrset = node[rdtype]
            ttl = min(ttl, rrset.ttl)
            signers = self._keys.signers(rdtype, at_apex)
            usable = kept.get(rdtype, ()) if kept else ()
            if usable and len(usable) == len(signers) and {_id_of(rdata) for rdata in usable} == _ids(signers):
                signatures += usable
                first = min(first, *(int.from_bytes(rdata[8:12]) for rdata in usable))
            else:
                signatures += self._sign(owner, rrset, labels, expiration, signers)
        return nsec, RRset(RRSIG, ttl, tuple(sorted(signatures))), first

    def _usable(self, old: Mapping[int, RRset], node: Node) -> dict[int, list[bytes]]:
        """Signatures of the previous version over RRsets that did not change, not due for refresh, by covered type."""
        signatures = old.get(RRSIG)
        usable: dict[int, list[bytes]] = {}
        if signatures is None:
            return usable
        unchanged: dict[int, bool] = {}
        for rdata in signatures.rdatas:
            covered = rrsig_covered(rdata)
            if (same := unchanged.get(covered)) is None:
                same = unchanged[covered] = old.get(covered) == node.get(covered)
            if same and self._policy.due_bucket(int.from_bytes(rdata[8:12])) > self._present:
                usable.setdefault(covered, []).append(rdata)
        return usable

    def _sign(
        self, owner: bytes, rrset: RRset, labels: int, expiration: int, signers: tuple[_Signer, ...]
    ) -> list[bytes]:
        """RRSIG RDATA over one RRset by each signer (RFC 4034, section 3.1.8.1)."""
        rdtype, ttl = rrset.rdtype, rrset.ttl
        pack = _RR_FIXED.pack
        fields = [canonical_rdata(rdtype, rdata) for rdata in rrset.rdatas]
        data = b"".join([owner + pack(rdtype, 1, ttl, len(field)) + field for field in fields])
        result = []
        for signer in signers:
            head = (
                _RRSIG_FIXED.pack(
                    rdtype,
                    signer.algorithm,
                    labels,
                    ttl,
                    expiration & 0xFFFFFFFF,
                    self._inception & 0xFFFFFFFF,
                    signer.tag,
                )
                + self._origin
            )
            result.append(head + signer.sign(head + data))
        return result


class ZoneSigner:
    """Signs successive versions of one zone, doing again only what a change or the time asks for.

    Not for concurrent use: one pass at a time.  A pass that is abandoned half-way leaves no trace.

    :param origin: apex as canonical wire octets.
    """

    def __init__(self, origin: bytes, policy: SigningPolicy | None = None) -> None:
        self._origin = origin
        self._policy = policy or SigningPolicy()
        self._keys: tuple[SigningKey, ...] = ()
        self._foreign: tuple[bytes, ...] | None = None
        self._unsigned: ZoneVersion | None = None
        self._signed: ZoneVersion | None = None
        self._data_ids: frozenset[tuple[int, int]] = frozenset()
        self._due = _DueOwners()

    @property
    def signed(self) -> ZoneVersion | None:
        """The version that the last pass made, or ``None``."""
        return self._signed

    @property
    def unsigned(self) -> ZoneVersion | None:
        """The version that the last pass signed, or ``None``."""
        return self._unsigned

    def set_keys(self, keys: Iterable[SigningKey], foreign: Iterable[bytes] | None = None) -> None:
        """Use other keys from the next pass on.

        :param keys: own keys in all states; removed ones too, so that they are not taken for foreign.
        :param foreign: DNSKEY RDATA of other providers.  ``None``: those in the incoming zone; empty: none, as for a
            zone that no other provider signs.
        """
        self._keys = tuple(keys)
        self._foreign = None if foreign is None else tuple(foreign)

    def next_due(self) -> float | None:
        """When the next pass for the sake of old signatures should run, Unix seconds; ``None`` before the first."""
        bucket = self._due.first()
        return None if bucket is None else float(bucket * self._policy.bucket)

    def sign(self, unsigned: ZoneVersion, now: float, serial: int) -> ZoneVersion:
        """A whole pass at once: :meth:`signing_steps` driven to its end, with the same result and errors."""
        steps = self.signing_steps(unsigned, now, serial)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: ZoneVersion = end.value
                return result

    def signing_steps(
        self, unsigned: ZoneVersion, now: float, serial: int, *, chunk: int | None = None
    ) -> Generator[Progress, None, ZoneVersion]:
        """One pass as a generator that gives way after every *chunk* owners and returns the signed version.

        By default a step takes a few milliseconds: 16 owners, or one with RSA.
        The version of the former pass is returned itself if there is nothing to do: no change, no signature due.

        :param now: Unix seconds; signatures are valid from an hour before.
        :param serial: SOA serial of the result.
        :raises NotReadyError: no key is active.
        :raises ZoneError: *unsigned* is another zone.
        """
        if unsigned.origin != self._origin:
            raise ZoneError("another zone than the signer was made for")
        foreign = foreign_dnskeys(unsigned, self._keys) if self._foreign is None else self._foreign
        keys = _key_set(self._keys, foreign, to_text(self._origin))
        if chunk is None:
            chunk = 1 if any(signer.algorithm == _RSA for signer in keys.for_data) else _CHUNK
        pen = _Pen(self._origin, self._policy, keys, now, unsigned.minimum)
        present = int(now) // self._policy.bucket
        due: list[tuple[int, bytes]] = []
        if self._must_walk(keys, unsigned.minimum):
            result = yield from self._walk(unsigned, pen, keys, serial, due, chunk)
            self._due = _DueOwners()
        else:
            result = yield from self._follow(unsigned, pen, keys, serial, due, present, chunk)
            self._due.drop_until(present)
        self._due.add(due)
        self._unsigned, self._signed, self._data_ids = unsigned, result, keys.data_ids
        return result

    def _must_walk(self, keys: _KeySet, nsec_ttl: int) -> bool:
        if self._signed is None or self._unsigned is None or keys.data_ids != self._data_ids:
            return True
        return nsec_ttl != self._unsigned.minimum

    def _is_due(self, version: ZoneVersion, owner: bytes, present: int) -> bool:
        signatures = version.get(owner, RRSIG)
        return signatures is not None and any(
            self._policy.due_bucket(int.from_bytes(rdata[8:12])) <= present for rdata in signatures.rdatas
        )

    def adopt(self, signed: ZoneVersion) -> None:
        """Take over a version that an earlier signer of this zone made, before the first pass.

        The first pass then keeps those of its signatures that still fit.

        :raises ZoneError: *signed* is another zone.
        """
        if signed.origin != self._origin:
            raise ZoneError("another zone than the signer was made for")
        self._signed = signed

    def resume(self, unsigned: ZoneVersion, signed: ZoneVersion) -> None:
        """Go on where an earlier signer of this zone ended, before the first pass; takes time for the whole zone.

        The next pass then costs what has changed since, as if this signer had made *signed* itself.

        :param unsigned: the version that the earlier signer signed.
        :param signed: what it made of it.
        :raises ZoneError: they are another zone.
        """
        if {unsigned.origin, signed.origin} != {self._origin}:
            raise ZoneError("another zone than the signer was made for")
        due = _DueOwners()
        bucket = self._policy.due_bucket
        for owner, blob in signed.nodes():
            rrset = packed.unpack_one(blob, RRSIG)
            if rrset is not None:
                due.add([(bucket(min(int.from_bytes(rdata[8:12]) for rdata in rrset.rdatas)), owner)])
        self._unsigned, self._signed, self._due = unsigned, signed, due
        self._data_ids = frozenset(_signed_by(signed, SOA))

    def _apex(self, keys: _KeySet) -> Node:
        """The RRsets at the apex that are made here."""
        ttl = self._policy.dnskey_ttl
        node = {DNSKEY: RRset.make(DNSKEY, ttl, keys.dnskeys)}
        if self._policy.publish_cds and keys.agreed_ksks:
            node[CDS] = RRset.make(CDS, ttl, [ds_digest(self._origin, rdata) for rdata in keys.agreed_ksks])
            node[CDNSKEY] = RRset.make(CDNSKEY, ttl, keys.agreed_ksks)
        return node

    def _data(self, owner: bytes, node: Mapping[int, RRset]) -> Node:
        """What is kept of an incoming node."""
        dropped = _STRIPPED if owner != self._origin else _STRIPPED | _DERIVED | {ZONEMD}
        return {rdtype: rrset for rdtype, rrset in node.items() if rdtype not in dropped}

    def _walk(
        self, unsigned: ZoneVersion, pen: _Pen, keys: _KeySet, serial: int, due: list[tuple[int, bytes]], chunk: int
    ) -> Generator[Progress, None, ZoneVersion]:
        """Make every owner anew, keeping signatures of the former version that still fit."""
        origin, result = self._origin, unsigned
        changes: list[Change] = []
        waiting: tuple[bytes, Node] | None = None  # a link whose successor is not known yet
        looked = 0
        for number, (owner, blob, standing) in enumerate(unsigned.survey(), 1):
            if number % chunk == 0:
                result, changes = result.update(changes), []
                yield Progress(looked, unsigned.record_count)
            held = packed.unpack(blob)
            looked += packed.count(blob)
            node = self._data(owner, held)
            changes += [(owner, rdtype, None) for rdtype in held if rdtype not in node]
            if owner == origin:
                node |= self._apex(keys)
                node[SOA] = _with_serial(unsigned.soa, serial)
                changes += [(origin, rdtype, rrset) for rdtype, rrset in node.items()]
            if not node or standing is Standing.OCCLUDED:
                continue
            if waiting is not None:
                changes += self._link(pen, *waiting, owner, due)
            waiting = owner, node
        assert waiting is not None  # there is an apex
        changes += self._link(pen, *waiting, origin, due)
        return result.update(changes)

    def _link(
        self, pen: _Pen, owner: bytes, data: Node, following: bytes, due: list[tuple[int, bytes]]
    ) -> list[Change]:
        """Make NSEC and RRSIG of one owner."""
        former = None if self._signed is None else self._signed.node(owner)
        nsec, signatures, expiration = pen.write(owner, data, following, former)
        due.append((self._policy.due_bucket(expiration), owner))
        return [(owner, NSEC, nsec), (owner, RRSIG, signatures)]

    def _follow(
        self,
        unsigned: ZoneVersion,
        pen: _Pen,
        keys: _KeySet,
        serial: int,
        due: list[tuple[int, bytes]],
        present: int,
        chunk: int,
    ) -> Generator[Progress, None, ZoneVersion]:
        """Make anew what a change touches or the time asks for."""
        origin, former, before = self._origin, self._signed, self._unsigned
        assert former is not None
        assert before is not None
        touched: set[bytes] = set()
        cuts: set[bytes] = set()
        changes: list[Change] = []
        moved = False
        for owner, rdtype, old, new in diff(before, unsigned):
            moved = moved or (owner == origin and rdtype == SOA)
            if rdtype in _STRIPPED or (owner == origin and (rdtype in _DERIVED or rdtype in (SOA, ZONEMD))):
                continue
            changes.append((owner, rdtype, new))
            touched.add(owner)
            if (old is None) != (new is None) and (rdtype == DNAME or (rdtype == NS and owner != origin)):
                cuts.add(owner)
        apex = self._apex(keys)
        for rdtype in sorted(_DERIVED):
            wanted = apex.get(rdtype)
            if wanted != former.get(origin, rdtype):
                changes.append((origin, rdtype, wanted))
            elif wanted is not None and _signed_by(former, rdtype) != _ids(keys.signers(rdtype, True)):
                moved = True
        late = {owner for owner in self._due.until(present) if self._is_due(former, owner, present)}
        if not (changes or late or moved):
            return former
        touched |= late
        touched.add(origin)
        changes.append((origin, SOA, _with_serial(unsigned.soa, serial)))
        interim = former.update(changes)
        # What lost its data loses its link, and the signatures with it.
        gone = [owner for owner in touched if _DENIAL.issuperset(interim.types(owner))]
        interim = interim.update((owner, rdtype, None) for owner in gone for rdtype in _DENIAL)
        for cut in cuts:
            for version in (former, interim):
                touched.update(_links_below(version, cut))
        again = set(touched)
        for owner in touched:
            if _is_link(interim, owner) != (NSEC in former.types(owner)):
                again.add(interim.neighbours(owner)[0])
        final: list[Change] = []
        for done, owner in enumerate(sorted(again), 1):
            if _is_link(interim, owner):
                data = {t: rrset for t, rrset in (interim.node(owner) or {}).items() if t not in _DENIAL}
                final += self._link(pen, owner, data, interim.neighbours(owner)[1], due)
            else:
                final += [(owner, rdtype, None) for rdtype in interim.types(owner) if rdtype in _DENIAL]
            if done % chunk == 0:
                yield Progress(done, len(again))
        return interim.update(final)


def _is_link(version: ZoneVersion, owner: bytes) -> bool:
    """Whether *owner* has records and is not hidden below a zone cut or a DNAME."""
    return bool(version.types(owner)) and version.standing(owner) is not Standing.OCCLUDED


def _links_below(version: ZoneVersion, cut: bytes) -> Iterator[bytes]:
    """The links of the chain below *cut*."""
    owner = version.neighbours(cut)[1]
    while owner != cut and is_subdomain(owner, cut):
        yield owner
        owner = version.neighbours(owner)[1]


def _signed_by(version: ZoneVersion, covered: int) -> set[tuple[int, int]]:
    """Algorithm and key tag of the signatures over one type at the apex."""
    signatures = version.get(version.origin, RRSIG)
    rdatas = () if signatures is None else signatures.rdatas
    return {_id_of(rdata) for rdata in rdatas if rrsig_covered(rdata) == covered}


def _ids(signers: Iterable[_Signer]) -> set[tuple[int, int]]:
    return {(signer.algorithm, signer.tag) for signer in signers}


def _id_of(signature: bytes) -> tuple[int, int]:
    """Algorithm and key tag in RRSIG RDATA."""
    return signature[2], int.from_bytes(signature[16:18])


class _DueOwners:
    """Owners by the interval in which their signatures fall due.

    An owner may stand in several intervals; only its signatures tell whether it is really due.  Looking at it too
    early costs one look.
    """

    def __init__(self) -> None:
        self._owners: dict[int, dict[bytes, None]] = {}
        self._buckets: list[int] = []

    def first(self) -> int | None:
        """The earliest interval."""
        return self._buckets[0] if self._buckets else None

    def until(self, last: int) -> Iterator[bytes]:
        """Owners of the intervals up to *last*."""
        for bucket in [bucket for bucket in self._buckets if bucket <= last]:
            yield from self._owners[bucket]

    def drop_until(self, last: int) -> None:
        """Forget the intervals up to *last*."""
        while self._buckets and self._buckets[0] <= last:
            del self._owners[heapq.heappop(self._buckets)]

    def add(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Note owners: (interval, owner)."""
        for bucket, owner in entries:
            owners = self._owners.get(bucket)
            if owners is None:
                owners = self._owners[bucket] = {}
                heapq.heappush(self._buckets, bucket)
            owners[owner] = None


def sign_zone(
    unsigned: ZoneVersion,
    keys: Iterable[SigningKey],
    foreign: Iterable[bytes] | None = None,
    *,
    now: float,
    serial: int,
    lifetime: float = 14 * 86400,
    refresh: float = 7 * 86400,
    dnskey_ttl: int = 3600,
    previous: ZoneVersion | None = None,
) -> ZoneVersion:
    """Sign one version by itself, for zones that seldom change; :class:`ZoneSigner` follows a zone.

    :param foreign: see :meth:`ZoneSigner.set_keys`.
    :param now: Unix seconds.
    :param serial: SOA serial of the result.
    :param lifetime, refresh, dnskey_ttl: see :class:`SigningPolicy`.
    :param previous: a signed version of the same zone, whose signatures are kept where they still fit.
    :raises NotReadyError: no key is active.
    :raises ConfigError: a value is out of its range.
    """
    signer = ZoneSigner(unsigned.origin, SigningPolicy(lifetime, refresh, dnskey_ttl))
    signer.set_keys(keys, foreign)
    if previous is not None:
        signer.adopt(previous)
    return signer.sign(unsigned, now, serial)
