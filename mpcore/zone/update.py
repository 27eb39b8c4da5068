"""Dynamic updates (RFC 2136): what a message asks for, whether it may, and the version of the zone that results.

The steps, in the order in which they are taken and in which the first fault decides the RCODE:

=========================================  =====================================================  ==================
step                                       fault                                                  RCODE
=========================================  =====================================================  ==================
:func:`decode_update`, section 3.1         not one zone of type SOA; does not parse               FORMERR
:meth:`UpdatePolicy.knows`, section 3.3    no rule is about the requestor                         REFUSED
:func:`check_prerequisites`, section 3.2   malformed; a name outside the zone                     FORMERR, NOTZONE
..                                         not met                                                NXDOMAIN, NXRRSET,
                                                                                                  YXDOMAIN, YXRRSET
:func:`prescan`, section 3.4.1             a name outside the zone; malformed                     NOTZONE, FORMERR
:meth:`UpdatePolicy.check`, section 3.3    a record that no rule permits                          REFUSED
:func:`apply_records`, section 3.4.2       an RRset that no answer could carry                    REFUSED
=========================================  =====================================================  ==================

Who has no rights at all is turned away before the prerequisites, which would tell him what the zone holds.  Nothing is
changed unless everything is: the result is a new version, whose serial is newer if anything in it differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, Literal, Self

from mpcore.errors import RecordError, UpdateError, ZoneError
from mpcore.zone import _message, owners
from mpcore.zone.rrset import MAX_TTL, RRset, canonical_rdata, expand_rdata, type_from_text, type_text
from mpcore.zone.serial import add, is_newer
from mpcore.zone.version import Change, ZoneVersion

__all__ = (
    "Requestor",
    "Update",
    "UpdatePolicy",
    "UpdateRecord",
    "UpdateResult",
    "UpdateRule",
    "apply_records",
    "apply_update",
    "check_prerequisites",
    "decode_update",
    "encode_update",
    "prescan",
)

_FORMERR, _NXDOMAIN, _REFUSED, _YXDOMAIN, _YXRRSET, _NXRRSET, _NOTAUTH, _NOTZONE = 1, 3, 5, 6, 7, 8, 9, 10
_OPCODE: Final = 5
_IN, _NONE, _ANY = 1, 254, 255
_NS, _CNAME, _SOA, _WKS, _DNAME, _OPT = 2, 5, 6, 11, 39, 41
_BESIDE_CNAME: Final = frozenset({_CNAME, 24, 25, 30, 46, 47})  # SIG, KEY, NXT, RRSIG, NSEC
_UNNAMED: Final = frozenset({_NS, _SOA, 46, 47, 50})  # with RRSIG, NSEC, NSEC3: only where a rule names them
_NEVER: Final = frozenset({47, 50})  # NSEC, NSEC3
_MAX_RRSET: Final = 60_000  # octets of an RRset in an answer: what a message holds, with room for signatures
_RECORD: Final = Struct("!HHIH")


def _is_meta(rdtype: int) -> bool:
    """Whether no zone can hold records of the type (RFC 6895, section 3.1)."""
    return rdtype in (0, _OPT) or 128 <= rdtype <= 255


# --- the message ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """One record of a prerequisite or update section; what its class and type mean is up to the section.

    :param owner: canonical wire octets.
    :param ttl: seconds, as sent.
    :param rdata: uncompressed wire octets; empty where the form has none.
    """

    owner: bytes
    rdtype: int
    rdclass: int
    ttl: int
    rdata: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """What an UPDATE message asks for.

    :param origin: the zone, canonical wire octets.
    :param prerequisites: its prerequisite section (RFC 2136, section 2.4).
    :param records: its update section (section 2.5).
    """

    origin: bytes
    prerequisites: tuple[UpdateRecord, ...]
    records: tuple[UpdateRecord, ...]


def decode_update(octets: bytes) -> Update:
    """Take an UPDATE message apart; TSIG or SIG(0) are removed already, other additional records are ignored.

    :raises UpdateError: it is malformed (FORMERR), or of another class than IN (NOTAUTH).
    """
    if len(octets) < _message.HEADER.size:
        raise UpdateError("the header is truncated")
    _, flags, zones, _, _, _ = _message.HEADER.unpack_from(octets)
    if flags & 0x8000 or flags >> 11 & 15 != _OPCODE or flags & 0x0200:
        raise UpdateError("not a request for an update")
    if zones != 1:
        raise UpdateError(f"{zones} zones instead of one")
    sections: tuple[list[UpdateRecord], list[UpdateRecord], list[UpdateRecord]] = ([], [], [])
    try:
        origin, end = owners.read_name(octets, 12)
        rdtype, rdclass = octets[end : end + 2], octets[end + 2 : end + 4]
        end += 4
        for record in _message.records(octets):
            end = record.end
            if record.section < 3:
                sections[record.section - 1].append(_read(octets, record))
    except RecordError as error:
        raise UpdateError(str(error)) from None
    if end != len(octets):
        raise UpdateError("octets follow the last record")
    if rdtype != b"\0\x06":
        raise UpdateError("the type of the zone section is not SOA")
    if rdclass != b"\0\x01":
        raise UpdateError("a class other than IN", rcode=_NOTAUTH)
    return Update(origin.lower(), tuple(sections[0]), tuple(sections[1]))


def _read(octets: bytes, record: _message.Located) -> UpdateRecord:
    owner = owners.read_name(octets, record.start)[0].lower()
    length = record.end - record.rdata
    names_a_record = record.rdclass == _IN or (record.rdclass == _NONE and record.section == 2)
    if _is_meta(record.rdtype) or not (length or names_a_record) or record.rdclass == _ANY:
        rdata = octets[record.rdata : record.end]
    else:
        rdata = expand_rdata(record.rdtype, octets, record.rdata, length)
    return UpdateRecord(owner, record.rdtype, record.rdclass, record.ttl, rdata)


def encode_update(update: Update, message_id: int) -> bytes:
    """The UPDATE message, without a signature.

    :param message_id: 0 to 65535.
    :raises UpdateError: it is longer than a message can be.
    """
    parts = [
        _message.HEADER.pack(message_id, _OPCODE << 11, 1, len(update.prerequisites), len(update.records), 0),
        update.origin,
        b"\0\x06\0\x01",
    ]
    for record in (*update.prerequisites, *update.records):
        parts.append(record.owner)
        parts.append(_RECORD.pack(record.rdtype, record.rdclass, record.ttl, len(record.rdata)))
        parts.append(record.rdata)
    octets = b"".join(parts)
    if len(octets) > 65535:
        raise UpdateError(f"an update of {len(octets)} octets")
    return octets


# --- prerequisites --------------------------------------------------------------------------------------------------


def check_prerequisites(version: ZoneVersion, update: Update) -> None:
    """Evaluate the prerequisite section (RFC 2136, section 3.2).

    :raises UpdateError: a prerequisite is malformed (FORMERR), outside the zone (NOTZONE) or not met (NXDOMAIN,
        YXDOMAIN, NXRRSET, YXRRSET).
    """
    wanted: dict[tuple[bytes, int], set[bytes]] = {}
    for record in update.prerequisites:
        owner, rdtype = record.owner, record.rdtype
        if record.ttl:
            raise _malformed(record, "a prerequisite with a TTL")
        if not owners.is_subdomain(owner, version.origin):
            raise _outside(record)
        if record.rdclass == _IN:
            wanted.setdefault((owner, rdtype), set()).add(canonical_rdata(rdtype, record.rdata))
            continue
        if record.rdclass not in (_ANY, _NONE):
            raise _malformed(record, f"class {record.rdclass}")
        if record.rdata:
            raise _malformed(record, "RDATA where there is none")
        if rdtype == _ANY:
            held = bool(version.types(owner))
            unmet = _NXDOMAIN, _YXDOMAIN
        else:
            held = rdtype in version.types(owner)
            unmet = _NXRRSET, _YXRRSET
        if held is not (record.rdclass == _ANY):
            raise _unmet(record, unmet[held])
    for (owner, rdtype), rdatas in wanted.items():
        rrset = version.get(owner, rdtype)
        if rrset is None or {canonical_rdata(rdtype, rdata) for rdata in rrset.rdatas} != rdatas:
            raise _unmet(UpdateRecord(owner, rdtype, _IN, 0, b""), _NXRRSET)


def prescan(origin: bytes, update: Update) -> None:
    """Check the update section before anything is changed (RFC 2136, section 3.4.1).

    :raises UpdateError: a record outside the zone (NOTZONE) or malformed (FORMERR).
    """
    for record in update.records:
        if not owners.is_subdomain(record.owner, origin):
            raise _outside(record)
        meta = _is_meta(record.rdtype)
        if record.rdclass == _IN:
            if meta:
                raise _malformed(record, "a type that no zone holds")
        elif record.rdclass not in (_ANY, _NONE):
            raise _malformed(record, f"class {record.rdclass}")
        elif record.ttl:
            raise _malformed(record, "a removal with a TTL")
        elif record.rdclass == _ANY:
            if record.rdata:
                raise _malformed(record, "RDATA where there is none")
            if meta and record.rdtype != _ANY:
                raise _malformed(record, "a type that no zone holds")
        elif meta:
            raise _malformed(record, "a type that no zone holds")


def _describe(record: UpdateRecord) -> str:
    return f"{owners.to_text(record.owner)} {type_text(record.rdtype)}"


def _malformed(record: UpdateRecord, what: str) -> UpdateError:
    return UpdateError(f"{_describe(record)}: {what}", rcode=_FORMERR)


def _outside(record: UpdateRecord) -> UpdateError:
    return UpdateError(f"{_describe(record)} is not in the zone", rcode=_NOTZONE)


def _unmet(record: UpdateRecord, rcode: int) -> UpdateError:
    return UpdateError(f"a prerequisite is not met: {_describe(record)}", rcode=rcode)


# --- policy ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requestor:
    """Who asks, as the signature of the message proves.

    :param method: how: a TSIG key and a SIG(0) key of the same name are two requestors.
    :param name: name of the key, canonical wire octets.
    """

    method: Literal["tsig", "sig0"]
    name: bytes

    def __str__(self) -> str:
        return f"{owners.to_text(self.name)} ({'TSIG' if self.method == 'tsig' else 'SIG(0)'})"


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """One permission.

    ==============  =====================================================
    match           owners of the records that the rule is about
    ==============  =====================================================
    ``zonesub``     all of the zone
    ``self``        the requestor's name
    ``selfsub``     the requestor's name and names below it
    ``name``        *name*
    ``subdomain``   *name* and names below it
    ==============  =====================================================

    :param requestor: whom it permits something.
    :param name: canonical wire octets, for ``name`` and ``subdomain``.
    :param types: the types that it is about; 255 (ANY) stands for all but NSEC and NSEC3.  ``None``: all but SOA, NS,
        RRSIG, NSEC and NSEC3.
    """

    requestor: Requestor
    match: Literal["zonesub", "self", "selfsub", "name", "subdomain"]
    name: bytes | None = None
    types: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if (self.match in ("name", "subdomain")) is (self.name is None):
            raise RecordError(f"a rule of kind {self.match} with a name too many or too few")

    @classmethod
    def of(
        cls,
        method: Literal["tsig", "sig0"],
        requestor: str,
        match: Literal["zonesub", "self", "selfsub", "name", "subdomain"],
        name: str | None = None,
        types: Iterable[str] | None = None,
    ) -> Self:
        """A rule from texts; ``ANY`` among *types* stands for all.

        :raises RecordError: a text is not a name or not a type.
        """
        numbers = None
        if types is not None:
            numbers = frozenset(_ANY if text.upper() == "ANY" else type_from_text(text) for text in types)
        return cls(
            Requestor(method, owners.from_text(requestor)),
            match,
            None if name is None else owners.from_text(name),
            numbers,
        )

    def permits(self, owner: bytes, rdtype: int) -> bool:
        """Whether the rule's requestor may change records of *owner* and type."""
        if self.types is None:
            if rdtype in _UNNAMED:
                return False
        elif rdtype not in self.types and (_ANY not in self.types or rdtype in _NEVER):
            return False
        match self.match:
            case "zonesub":
                return True
            case "self":
                return owner == self.requestor.name
            case "selfsub":
                return owners.is_subdomain(owner, self.requestor.name)
            case "name":
                return owner == self.name
            case "subdomain":
                return self.name is not None and owners.is_subdomain(owner, self.name)


class UpdatePolicy:
    """Who may change what in a zone.  Without a rule that permits it, nothing may be changed.

    :param rules: their order does not matter.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[UpdateRule] = ()) -> None:
        self._rules: dict[Requestor, list[UpdateRule]] = {}
        for rule in rules:
            self._rules.setdefault(rule.requestor, []).append(rule)

    def knows(self, requestor: Requestor) -> bool:
        """Whether the requestor may change anything at all."""
        return requestor in self._rules

    def permits(self, requestor: Requestor, owner: bytes, rdtype: int) -> bool:
        """Whether the requestor may change records of *owner* and type."""
        return any(rule.permits(owner, rdtype) for rule in self._rules.get(requestor, ()))

    def check(self, version: ZoneVersion, update: Update, requestor: Requestor) -> None:
        """Check every record of the update section (RFC 2136, section 3.3).

        Removing all RRsets of a name needs permission for each of them that is there.

        :raises UpdateError: (REFUSED) one of them is not permitted.
        """
        for record in update.records:
            if record.rdtype != _ANY:
                permitted = self.permits(requestor, record.owner, record.rdtype)
            else:
                kept = (_SOA, _NS) if record.owner == version.origin else ()
                gone = [rdtype for rdtype in version.types(record.owner) if rdtype not in kept]
                permitted = all(self.permits(requestor, record.owner, rdtype) for rdtype in gone or (_ANY,))
            if not permitted:
                raise UpdateError(f"{requestor} may not change {_describe(record)}", rcode=_REFUSED)


# --- the change -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What an update comes to.

    :param version: the new version; the old one itself if nothing differs.
    :param changes: what differs, the SOA with its serial included.
    """

    version: ZoneVersion
    changes: tuple[Change, ...]


class _Draft:
    """The names that an update touches, with their RRsets as they become."""

    def __init__(self, version: ZoneVersion) -> None:
        self._version = version
        self._nodes: dict[bytes, dict[int, RRset]] = {}

    def node(self, owner: bytes) -> dict[int, RRset]:
        node = self._nodes.get(owner)
        if node is None:
            node = self._nodes[owner] = dict(self._version.node(owner) or {})
        return node

    def changes(self) -> list[Change]:
        found: list[Change] = []
        for owner, node in self._nodes.items():
            before: Mapping[int, RRset] = self._version.node(owner) or {}
            found += [
                (owner, rdtype, node.get(rdtype))
                for rdtype in sorted(before.keys() | node.keys())
                if before.get(rdtype) != node.get(rdtype)
            ]
        return found


def apply_records(version: ZoneVersion, records: Sequence[UpdateRecord]) -> UpdateResult:
    """Carry out an update section that has passed :func:`prescan` (RFC 2136, sections 3.4.2 and 3.6).

    The SOA is replaced only by one with a newer serial and never removed; the zone's last NS record stays; a CNAME and
    other data do not come together: what would bring them together is passed over.  All records of an RRset take the
    TTL of the record added last (RFC 2181, section 5.2).  If anything differs and the SOA was not replaced, the serial
    is advanced by one.

    :raises UpdateError: (REFUSED) the result would be an RRset that no answer could carry.
    """
    draft = _Draft(version)
    replaced_soa = False
    for record in records:
        node = draft.node(record.owner)
        apex = record.owner == version.origin
        if record.rdclass == _IN:
            if _passed_over(node, record, apex):
                continue
            replaced_soa = replaced_soa or record.rdtype == _SOA
            _add(node, record)
        elif record.rdclass == _ANY:
            for rdtype in list(node) if record.rdtype == _ANY else [record.rdtype]:
                if not (apex and rdtype in (_SOA, _NS)):
                    node.pop(rdtype, None)
        else:
            _remove(node, record, apex)
    try:
        changes = draft.changes()
        if not changes:
            return UpdateResult(version, ())
        new = version.update(changes)
        if not replaced_soa:
            new = new.with_serial(add(version.serial, 1))
            changes.append((version.origin, _SOA, new.soa))
    except ZoneError as error:
        raise UpdateError(str(error), rcode=_REFUSED) from None
    return UpdateResult(new, tuple(changes))


def _passed_over(node: Mapping[int, RRset], record: UpdateRecord, apex: bool) -> bool:
    """Whether a record to be added is one that the zone cannot take (RFC 2136, section 3.4.2.2)."""
    if record.rdtype == _SOA:
        present = node.get(_SOA)
        return not apex or present is None or not is_newer(_serial(record.rdata), _serial(present.rdatas[0]))
    if record.rdtype == _CNAME:
        return not _BESIDE_CNAME.issuperset(node)
    return _CNAME in node and record.rdtype not in _BESIDE_CNAME


def _serial(soa: bytes) -> int:
    return int.from_bytes(soa[-20:-16], "big")


def _add(node: dict[int, RRset], record: UpdateRecord) -> None:
    rdtype = record.rdtype
    present = node.get(rdtype)
    ttl = record.ttl if record.ttl <= MAX_TTL else 0
    kept: list[bytes] = []
    try:
        if present is not None:
            canonical = canonical_rdata(rdtype, record.rdata)
            if ttl == present.ttl and any(canonical_rdata(rdtype, rdata) == canonical for rdata in present.rdatas):
                return  # there already, if perhaps in another spelling
            if rdtype not in (_SOA, _CNAME, _DNAME):
                kept = [rdata for rdata in present.rdatas if not _replaces(rdtype, record.rdata, rdata)]
        # The spelling of the update comes first: of two records that differ in case only, it stays.
        rrset = RRset.make(rdtype, ttl, [record.rdata, *kept])
    except RecordError as error:
        raise UpdateError(f"{_describe(record)}: {error}", rcode=_FORMERR) from None
    if sum(map(len, rrset.rdatas)) + 12 * len(rrset.rdatas) > _MAX_RRSET:
        raise UpdateError(f"{_describe(record)} would be too large for an answer", rcode=_REFUSED)
    node[rdtype] = rrset


def _replaces(rdtype: int, new: bytes, old: bytes) -> bool:
    """Whether a record replaces another although their RDATA differs: WKS of one address and protocol."""
    return rdtype == _WKS and len(new) >= 5 and new[:5] == old[:5]


def _remove(node: dict[int, RRset], record: UpdateRecord, apex: bool) -> None:
    present = node.get(record.rdtype)
    if present is None or record.rdtype == _SOA:
        return
    try:
        left = present.without([record.rdata])
    except RecordError as error:
        raise UpdateError(f"{_describe(record)}: {error}", rcode=_FORMERR) from None
    if left is not None:
        node[record.rdtype] = left
    elif not (apex and record.rdtype == _NS):
        del node[record.rdtype]


def apply_update(version: ZoneVersion, update: Update, policy: UpdatePolicy, requestor: Requestor) -> UpdateResult:
    """All steps after decoding.

    :raises UpdateError: see the module's table; nothing is changed then.
    """
    if update.origin != version.origin:
        raise UpdateError(f"not the zone {owners.to_text(version.origin)}", rcode=_NOTAUTH)
    if not policy.knows(requestor):
        raise UpdateError(f"{requestor} may not change {owners.to_text(version.origin)}", rcode=_REFUSED)
    check_prerequisites(version, update)
    prescan(version.origin, update)
    policy.check(version, update, requestor)
    return apply_records(version, update.records)
