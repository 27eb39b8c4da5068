"""Validation of DNSSEC data: signatures, chains of trust, and proofs that something does not exist.

No I/O: messages, keys and time come in, verdicts go out.  RFC 4035 section 5, RFC 5155 section 8, RFC 6840 sections 4
and 5, RFC 8901 (multi-signer: *any* verified signature by *any* key of the validated DNSKEY RRset will do), RFC 9276
(NSEC3 iterations), RFC 9824 (compact denial), RFC 9904 and 9905 (algorithms).

**Proof of absence.**  An NSEC record says "between this owner and the next name there is nothing", an NSEC3 record says
it of hashes.  Each answer needs its own set of such statements:

====================================  ======================================  =======================================
answer                                NSEC                                    NSEC3
====================================  ======================================  =======================================
name does not exist                   name covered, wildcard covered          encloser matched, next closer and
                                                                              wildcard covered
no such type                          name matched, bit clear                 name matched, bit clear
no such type, empty non-terminal      covered, next name is below             matched, no bits
no such type at a wildcard            name covered, wildcard matched          encloser matched, next closer covered,
                                                                              wildcard matched
wildcard expanded                     name covered                            next closer covered
no DS, so not signed below            matched: NS, no DS, no SOA              the same, or next closer covered by a
                                                                              record with opt-out
====================================  ======================================  =======================================

A record of the parent's side of a delegation (NS without SOA), or one that owns a DNAME, proves nothing about names
below itself (RFC 6840, section 4.1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import dns.dnssec
import dns.dnssecalgs
import dns.dnssectypes
import dns.edns
import dns.exception
import dns.name
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.ANY.NSEC3 import NSEC3
from dns.rdtypes.ANY.RRSIG import RRSIG

from mpcore.net.resolver_types import Budget, ValidationError

__all__ = (
    "DelegationProof",
    "Denial",
    "KeySet",
    "Proof",
    "Statement",
    "Verified",
    "collect_denial",
    "entry_keys",
    "find_rrset",
    "signatures_of",
    "usable_ds",
    "verify_rrset",
)

_IN = dns.rdataclass.IN
_NS, _CNAME, _SOA, _DS = dns.rdatatype.NS, dns.rdatatype.CNAME, dns.rdatatype.SOA, dns.rdatatype.DS
_DNAME, _RRSIG, _NSEC, _NSEC3 = dns.rdatatype.DNAME, dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.NSEC3
_NXNAME = 128  # RFC 9824, section 3.2

#: RFC 9904, section 2, and RFC 9905, section 2: the SHA-1 algorithms count as unsupported.
_ALGORITHMS = frozenset({8, 10, 13, 14, 15, 16})
_DIGESTS = {1: "SHA1", 2: "SHA256", 4: "SHA384"}
_ZONE_KEY, _REVOKED = 0x0100, 0x0080


def find_rrset(
    section: Iterable[dns.rrset.RRset], name: dns.name.Name, rdtype: int, covers: int = 0
) -> dns.rrset.RRset | None:
    """The RRset of class IN, *name* and *rdtype* (of RRSIGs: those that cover *covers*) in *section*, or ``None``."""
    for rrset in section:
        if rrset.rdtype == rdtype and rrset.covers == covers and rrset.rdclass == _IN and rrset.name == name:
            return rrset if len(rrset) else None
    return None


def signatures_of(section: Iterable[dns.rrset.RRset], rrset: dns.rrset.RRset) -> dns.rrset.RRset | None:
    """The RRSIGs in *section* that cover *rrset*, or ``None``."""
    return find_rrset(section, rrset.name, _RRSIG, rrset.rdtype)


class KeySet:
    """The keys of a zone that may verify its data: zone keys of a supported algorithm, not revoked.

    :param zone: apex of the zone.
    :param keys: the DNSKEY records.  A multi-signer zone has those of every signer (RFC 8901, section 2).
    """

    __slots__ = ("_by_tag", "zone")

    def __init__(self, zone: dns.name.Name, keys: Iterable[DNSKEY]) -> None:
        self.zone = zone
        self._by_tag: dict[tuple[int, int], list[DNSKEY]] = {}
        for key in keys:
            if _is_usable_key(key):
                self._by_tag.setdefault((key.key_id(), int(key.algorithm)), []).append(key)

    def candidates(self, tag: int, algorithm: int) -> Sequence[DNSKEY]:
        """The keys that a signature with *tag* and *algorithm* can be by."""
        return self._by_tag.get((tag, int(algorithm)), ())

    def __len__(self) -> int:
        return sum(map(len, self._by_tag.values()))


def _is_usable_key(key: DNSKEY) -> bool:
    flags = int(key.flags)
    return bool(flags & _ZONE_KEY) and not flags & _REVOKED and key.protocol == 3 and key.algorithm in _ALGORITHMS


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that verified.

    :param ttl: seconds for which the RRset may be believed (RFC 4035, section 5.3.3).
    :param expanded_from: closest encloser when the RRset was made from a wildcard (RFC 4035, section 5.3.4).
    :param signature: the one that verified.
    """

    ttl: int
    expanded_from: dns.name.Name | None
    signature: RRSIG


def verify_rrset(
    rrset: dns.rrset.RRset, signatures: dns.rrset.RRset | None, keys: KeySet, now: float, budget: Budget
) -> Verified:
    """Verify that *rrset* is signed by one of *keys* (RFC 4035, section 5.3).

    :param rrset: the RRset, with absolute names.
    :param signatures: its RRSIGs; ``None`` when there are none.
    :param now: Unix seconds.
    :raises ValidationError: no signature verifies; the message says what was wrong with the last one.
    :raises BudgetError: the question has cost too many signatures.
    """
    if signatures is None:
        raise ValidationError(f"{_what(rrset)} is not signed", dns.edns.EDECode.RRSIGS_MISSING)
    failure = ValidationError(f"no RRSIG of {_what(rrset)} can be used")
    tried = 0
    for signature in signatures:
        if not isinstance(signature, RRSIG):
            continue
        problem = _problem(rrset, signature, keys.zone, now)
        if problem is not None:
            failure = problem
            continue
        candidates = keys.candidates(signature.key_tag, signature.algorithm)
        if not candidates:
            failure = ValidationError(
                f"{_what(rrset)} is signed by key {signature.key_tag}, which {keys.zone} does not have",
                dns.edns.EDECode.DNSKEY_MISSING,
            )
        for key in candidates[: budget.limits.keys_per_tag]:
            if tried >= budget.limits.signatures_per_rrset:
                raise ValidationError(f"none of the first {tried} signatures of {_what(rrset)} verifies")
            tried += 1
            budget.take_signature()
            if _verifies(rrset, signature, key):
                return _verified(rrset, signatures, signature, now)
            failure = ValidationError(f"the signature of {_what(rrset)} by key {signature.key_tag} does not verify")
    raise failure


def _what(rrset: dns.rrset.RRset) -> str:
    return f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}"


def _seconds_after(time: int, now: float) -> int:
    """How long after *now* the RRSIG time *time* is, in serial-number arithmetic (RFC 4034, section 3.1.5)."""
    difference = (time - int(now)) & 0xFFFFFFFF
    return difference - 0x1_0000_0000 if difference & 0x8000_0000 else difference


def _problem(rrset: dns.rrset.RRset, signature: RRSIG, zone: dns.name.Name, now: float) -> ValidationError | None:
    """What forbids to use *signature* before any cryptography (RFC 4035, section 5.3.1)."""
    labels = len(rrset.name) - 1 - (1 if rrset.name.is_wild() else 0)
    if signature.signer != zone:
        return ValidationError(f"{_what(rrset)} is signed by {signature.signer}, not by {zone}")
    if signature.type_covered != rrset.rdtype or signature.labels > labels:
        return ValidationError(f"the RRSIG of {_what(rrset)} does not fit it")
    if signature.labels < len(zone) - 1:
        return ValidationError(f"the RRSIG of {_what(rrset)} is for a name above {zone}")
    if _seconds_after(signature.expiration, now) < 0:
        return ValidationError(f"the signature of {_what(rrset)} has expired", dns.edns.EDECode.SIGNATURE_EXPIRED)
    if _seconds_after(signature.inception, now) > 0:
        return ValidationError(
            f"the signature of {_what(rrset)} is not valid yet", dns.edns.EDECode.SIGNATURE_NOT_YET_VALID
        )
    if signature.algorithm not in _ALGORITHMS:
        return ValidationError(
            f"{_what(rrset)} is signed with algorithm {int(signature.algorithm)}, which is not supported",
            dns.edns.EDECode.UNSUPPORTED_DNSKEY_ALGORITHM,
        )
    return None


def _verifies(rrset: dns.rrset.RRset, signature: RRSIG, key: DNSKEY) -> bool:
    keys: dict[dns.name.Name, dns.rdataset.Rdataset] = {signature.signer: dns.rdataset.from_rdata(0, key)}
    try:
        # The times were checked by the caller; any instant between them will do here.
        dns.dnssec.validate_rrsig(rrset, signature, keys, now=signature.expiration)  # type: ignore[arg-type]
    except (dns.exception.DNSException, ValueError):
        return False
    return True


def _verified(rrset: dns.rrset.RRset, signatures: dns.rrset.RRset, signature: RRSIG, now: float) -> Verified:
    ttl = min(rrset.ttl, signatures.ttl, signature.original_ttl, max(0, _seconds_after(signature.expiration, now)))
    expanded = None
    if signature.labels < len(rrset.name) - 1 - (1 if rrset.name.is_wild() else 0):
        expanded = rrset.name.split(signature.labels + 1)[1]
    return Verified(int(ttl), expanded, signature)


def usable_ds(rrset: dns.rrset.RRset) -> list[DS]:
    """The DS records that can be used: supported algorithm and digest, and no SHA-1 beside a better digest.

    An empty list means that the zone is to be treated as not signed (RFC 4035, section 5.2; RFC 4509, section 3).
    """
    usable = [ds for ds in rrset if isinstance(ds, DS) and ds.algorithm in _ALGORITHMS and ds.digest_type in _DIGESTS]
    if any(ds.digest_type != 1 for ds in usable):
        usable = [ds for ds in usable if ds.digest_type != 1]
    return usable


def entry_keys(
    zone: dns.name.Name,
    keys: Iterable[DNSKEY],
    signatures: Iterable[RRSIG],
    anchors: Iterable[DS | DNSKEY],
    budget: Budget,
) -> KeySet:
    """Those of *keys* that a DS record or a trust anchor names: the only ones that may verify the DNSKEY RRset.

    Keys that made none of *signatures* are left out: they could not verify it.

    :param zone: apex of the zone.
    :param keys: its DNSKEY RRset as received.
    :param signatures: the RRSIGs that cover it.
    :param anchors: usable DS records from the parent, or trust anchors.
    :raises BudgetError: too many keys and DS records of the same tag.
    """
    named = list(anchors)
    wanted = {(signature.key_tag, int(signature.algorithm)) for signature in signatures}
    public = {(int(key.algorithm), key.key) for key in named if isinstance(key, DNSKEY)}
    digests = [ds for ds in named if isinstance(ds, DS)]
    trusted: list[DNSKEY] = []
    for key in keys:
        tag = (key.key_id(), int(key.algorithm))
        if not _is_usable_key(key) or tag not in wanted:
            continue
        if (int(key.algorithm), key.key) in public or any(
            _digest_matches(zone, key, ds, budget) for ds in digests if (ds.key_tag, int(ds.algorithm)) == tag
        ):
            trusted.append(key)
    return KeySet(zone, trusted)


def _digest_matches(zone: dns.name.Name, key: DNSKEY, ds: DS, budget: Budget) -> bool:
    budget.take_signature()
    try:
        made = dns.dnssec.make_ds(zone, key, _DIGESTS[int(ds.digest_type)], validating=True)
    except (dns.exception.DNSException, ValueError, KeyError):
        return False
    return bool(made.digest == ds.digest)


# --- proofs of absence ---


class Proof(Enum):
    """What a set of NSEC or NSEC3 records says about a claim."""

    NONE = auto()  #: nothing
    SECURE = auto()  #: it is true
    INSECURE = auto()  #: it may be true: opt-out (RFC 5155, section 9.2) or too many iterations (RFC 9276)


class DelegationProof(Enum):
    """What a response without DS records says about a name below a signed zone (RFC 4035, section 5.2)."""

    NONE = auto()  #: nothing: the response is bogus
    UNSIGNED = auto()  #: there may be a zone, and it is not signed
    NO_CUT = auto()  #: the name is in the same zone
    ABSENT = auto()  #: neither the name nor anything below it exists


@dataclass(frozen=True, slots=True)
class Statement:
    """What one NSEC or NSEC3 record that verified says about one name."""

    subject: dns.name.Name
    matches: bool  #: the record is that of *subject*, and lists its types; else: there is nothing by that name
    owner: str  #: of an NSEC record a name, of an NSEC3 record a hash (base32hex, upper case)
    next: str  #: likewise
    types: tuple[int, ...]  #: what *owner* has, in ascending order
    hashed: str | None = None  #: NSEC3: the hash of *subject*
    opt_out: bool = False  #: NSEC3: there may be unsigned delegations between the two (RFC 5155, section 6)


@dataclass(frozen=True, slots=True)
class _Interval:
    """An NSEC record that verified."""

    owner: dns.name.Name
    next: dns.name.Name
    types: frozenset[int]

    def covers(self, name: dns.name.Name) -> bool:
        if self.owner < self.next:
            return bool(self.owner < name < self.next)
        return bool(self.owner < name)  # the last record of the chain: next is the apex

    def speaks_below(self, name: dns.name.Name) -> bool:
        """Whether it may be used about *name* (RFC 6840, section 4.1)."""
        return not (name != self.owner and name.is_subdomain(self.owner) and _ends_zone(self.types))


@dataclass(frozen=True, slots=True)
class _HashInterval:
    """An NSEC3 record that verified."""

    owner: bytes
    next: bytes
    types: frozenset[int]
    opt_out: bool

    def covers(self, digest: bytes) -> bool:
        if self.owner < self.next:
            return self.owner < digest < self.next
        return digest > self.owner or digest < self.next


def _ends_zone(types: frozenset[int]) -> bool:
    return _DNAME in types or (_NS in types and _SOA not in types)


def _lacks(types: frozenset[int], name: dns.name.Name, rdtype: int) -> bool:
    """Whether a record that matches *name* proves that it has no *rdtype* (RFC 6840, sections 4.1 and 4.3)."""
    if rdtype in types or _CNAME in types or _NXNAME in types:
        return False
    if rdtype == _DS:
        return _SOA not in types or name == dns.name.root
    return not (_NS in types and _SOA not in types)


def _bitmap(windows: Iterable[tuple[int, bytes]]) -> frozenset[int]:
    return frozenset(
        window * 256 + index * 8 + bit
        for window, octets in windows
        for index, octet in enumerate(octets)
        for bit in range(8)
        if octet & (0x80 >> bit)
    )


def _wildcard(encloser: dns.name.Name) -> dns.name.Name | None:
    try:
        return dns.name.Name((b"*", *encloser.labels))
    except dns.name.NameTooLong:
        return None


class Denial:
    """The NSEC and NSEC3 records of one response, verified: what they prove.

    Made by :func:`collect_denial`.

    :param zone: apex of the zone that signed them.
    :param budget: pays for the hashes.
    :param ttl: smallest TTL of the records, seconds; ``None`` if there are none.
    :param problem: why a record could not be used, if one could not.
    """

    __slots__ = ("_budget", "_digests", "_hashed", "_intervals", "_iterations", "_salt", "problem", "ttl", "zone")

    def __init__(
        self,
        zone: dns.name.Name,
        nsec: Sequence[tuple[dns.name.Name, NSEC]],
        nsec3: Sequence[tuple[dns.name.Name, NSEC3]],
        budget: Budget,
        ttl: int | None,
        problem: ValidationError | None = None,
    ) -> None:
        self.zone, self.ttl, self.problem = zone, ttl, problem
        self._budget = budget
        self._digests: dict[dns.name.Name, bytes] = {}
        self._intervals = [
            _Interval(owner, rdata.next, _bitmap(rdata.windows))
            for owner, rdata in nsec
            if rdata.next.is_subdomain(zone) and (owner < rdata.next or rdata.next == zone)
        ]
        self._hashed: list[_HashInterval] = []
        self._iterations, self._salt = 0, b""
        parameters: tuple[int, bytes] | None = None
        for owner, rdata in nsec3:
            # RFC 5155, sections 8.1 and 8.2: unknown algorithms and flags do not count; one set of parameters does.
            if rdata.algorithm != 1 or rdata.flags not in (0, 1) or owner.parent() != zone:
                continue
            if parameters is None:
                parameters = self._iterations, self._salt = rdata.iterations, rdata.salt
            digest = _unhex32(owner.labels[0])
            if parameters == (rdata.iterations, rdata.salt) and digest is not None and len(rdata.next) == len(digest):
                self._hashed.append(_HashInterval(digest, rdata.next, _bitmap(rdata.windows), bool(rdata.flags & 1)))

    @property
    def _too_costly(self) -> bool:
        return bool(self._hashed) and self._iterations > self._budget.limits.nsec3_iterations

    def name_error(self, name: dns.name.Name) -> Proof:
        """That *name* does not exist and no wildcard stands in for it (RFC 4035 section 5.4, RFC 5155 section 8.4)."""
        if self._too_costly:
            return Proof.INSECURE
        if any(interval.owner == name and _NXNAME in interval.types for interval in self._intervals):
            return Proof.SECURE  # compact denial (RFC 9824, section 3.1)
        covering = self._covering(name)
        if covering is not None and not covering.next.is_subdomain(name):
            wildcard = _wildcard(_encloser(name, covering))
            if wildcard is None:
                return Proof.SECURE
            denied = self._covering(wildcard)
            if denied is not None and not denied.next.is_subdomain(wildcard):
                return Proof.SECURE
        encloser, next_closer = self._closest_encloser(name)
        if encloser is None or next_closer is None:
            return Proof.NONE
        wildcard = _wildcard(encloser)
        if wildcard is not None and self._covering_hash(wildcard) is None:
            return Proof.NONE
        return Proof.INSECURE if next_closer.opt_out else Proof.SECURE

    def no_data(self, name: dns.name.Name, rdtype: int) -> Proof:
        """That *name* exists, or a wildcard stands in for it, and that there is no RRset of *rdtype*.

        RFC 4035 section 5.4, RFC 5155 sections 8.5 to 8.7.
        """
        if self._too_costly:
            return Proof.INSECURE
        for interval in self._intervals:
            if interval.owner == name:
                return Proof.SECURE if _lacks(interval.types, name, rdtype) else Proof.NONE
        covering = self._covering(name)
        if covering is not None:
            if covering.next.is_subdomain(name):
                return Proof.SECURE  # an empty non-terminal
            return self._no_data_at_wildcard(_encloser(name, covering), rdtype)
        matching = self._matching_hash(name)
        if matching is not None:
            return Proof.SECURE if _lacks(matching.types, name, rdtype) else Proof.NONE
        encloser, next_closer = self._closest_encloser(name)
        if encloser is None or next_closer is None:
            return Proof.NONE
        wildcard = _wildcard(encloser)
        matching = None if wildcard is None else self._matching_hash(wildcard)
        if wildcard is not None and matching is not None and _lacks(matching.types, wildcard, rdtype):
            return Proof.INSECURE if next_closer.opt_out else Proof.SECURE
        return Proof.INSECURE if next_closer.opt_out else Proof.NONE

    def _no_data_at_wildcard(self, encloser: dns.name.Name, rdtype: int) -> Proof:
        wildcard = _wildcard(encloser)
        if wildcard is None:
            return Proof.NONE
        for interval in self._intervals:
            if interval.owner == wildcard:
                return Proof.SECURE if _lacks(interval.types, wildcard, rdtype) else Proof.NONE
        covering = self._covering(wildcard)
        return Proof.SECURE if covering is not None and covering.next.is_subdomain(wildcard) else Proof.NONE

    def no_closer_match(self, name: dns.name.Name, encloser: dns.name.Name) -> Proof:
        """That nothing between *name* and the wildcard below *encloser* exists (RFC 4035, section 5.3.4)."""
        if self._too_costly:
            return Proof.INSECURE
        covering = self._covering(name)
        if covering is not None and not covering.next.is_subdomain(name) and _encloser(name, covering) == encloser:
            return Proof.SECURE
        if not self._hashed or len(name) <= len(encloser):
            return Proof.NONE
        next_closer = self._covering_hash(name.split(len(encloser) + 1)[1])
        if next_closer is None:
            return Proof.NONE
        return Proof.INSECURE if next_closer.opt_out else Proof.SECURE

    def delegation(self, name: dns.name.Name) -> DelegationProof:
        """What the absence of DS records at *name* means (RFC 4035 section 5.2, RFC 5155 section 8.9)."""
        if self._too_costly:
            return DelegationProof.UNSIGNED
        matches = [interval.types for interval in self._intervals if interval.owner == name]
        hashed = self._matching_hash(name) if not matches else None
        if hashed is not None:
            matches = [hashed.types]
        for types in matches:
            if _NXNAME in types:
                return DelegationProof.ABSENT
            if _DS in types or _SOA in types:
                return DelegationProof.NONE
            return DelegationProof.UNSIGNED if _NS in types else DelegationProof.NO_CUT
        covering = self._covering(name)
        if covering is not None:
            return DelegationProof.NO_CUT if covering.next.is_subdomain(name) else DelegationProof.ABSENT
        encloser, next_closer = self._closest_encloser(name)
        if encloser is None or next_closer is None:
            return DelegationProof.NONE
        return DelegationProof.UNSIGNED if next_closer.opt_out else DelegationProof.ABSENT

    def statements(self, name: dns.name.Name) -> tuple[Statement, ...]:
        """What the records say about *name*, its closest encloser and the wildcard there, for people to read."""
        if self._too_costly or not name.is_subdomain(self.zone):
            return ()
        return tuple(self._statements_by_name(name) or self._statements_by_hash(name))

    def _statements_by_name(self, name: dns.name.Name) -> Iterable[Statement]:
        found: list[Statement] = []

        def say(subject: dns.name.Name) -> _Interval | None:
            own = next((interval for interval in self._intervals if interval.owner == subject), None)
            record = own or self._covering(subject)
            if record is not None:
                types = tuple(sorted(record.types))
                owner, following = record.owner.to_text(), record.next.to_text()
                found.append(Statement(subject, own is not None, owner, following, types))
            return record if own is None else None

        covering = say(name)
        wildcard = None if covering is None else _wildcard(_encloser(name, covering))
        if wildcard is not None and wildcard != name:
            say(wildcard)
        return found

    def _statements_by_hash(self, name: dns.name.Name) -> Iterable[Statement]:
        found: list[Statement] = []

        def say(subject: dns.name.Name, record: _HashInterval | None, matches: bool) -> None:
            if record is not None:
                owner, following, digest = map(_hex32, (record.owner, record.next, self._digest(subject)))
                types = tuple(sorted(record.types))
                found.append(Statement(subject, matches, owner, following, types, digest, record.opt_out))

        matching = self._matching_hash(name)
        if matching is not None:
            say(name, matching, True)
            return found
        encloser, next_closer = self._closest_encloser(name)
        if encloser is None:
            return found
        say(encloser, self._matching_hash(encloser), True)
        say(name.split(len(encloser) + 1)[1], next_closer, False)
        wildcard = _wildcard(encloser)
        if wildcard is not None:
            own = self._matching_hash(wildcard)
            say(wildcard, own or self._covering_hash(wildcard), own is not None)
        return found

    def _covering(self, name: dns.name.Name) -> _Interval | None:
        if not name.is_subdomain(self.zone):
            return None
        for interval in self._intervals:
            if interval.covers(name) and interval.speaks_below(name):
                return interval
        return None

    def _digest(self, name: dns.name.Name) -> bytes:
        digest = self._digests.get(name)
        if digest is None:
            self._budget.take_hash(self._iterations + 1)
            digest = name.canonicalize().to_wire() or b""
            for _ in range(self._iterations + 1):
                digest = hashlib.sha1(digest + self._salt, usedforsecurity=False).digest()
            self._digests[name] = digest
        return digest

    def _matching_hash(self, name: dns.name.Name) -> _HashInterval | None:
        if not self._hashed or not name.is_subdomain(self.zone):
            return None
        digest = self._digest(name)
        return next((interval for interval in self._hashed if interval.owner == digest), None)

    def _covering_hash(self, name: dns.name.Name) -> _HashInterval | None:
        if not self._hashed or not name.is_subdomain(self.zone):
            return None
        digest = self._digest(name)
        return next((interval for interval in self._hashed if interval.covers(digest)), None)

    def _closest_encloser(self, name: dns.name.Name) -> tuple[dns.name.Name | None, _HashInterval | None]:
        """The closest encloser of *name*, and the record that covers the next closer name (RFC 5155, section 8.3)."""
        if not self._hashed or not name.is_subdomain(self.zone):
            return None, None
        for depth in range(len(name) - 1, len(self.zone) - 1, -1):
            candidate = name.split(depth)[1]
            matching = self._matching_hash(candidate)
            if matching is not None:
                if _ends_zone(matching.types):
                    return None, None
                return candidate, self._covering_hash(name.split(depth + 1)[1])
        return None, None


def _encloser(name: dns.name.Name, covering: _Interval) -> dns.name.Name:
    """The closest encloser of *name* that the NSEC record *covering* shows."""
    common = max(name.fullcompare(covering.owner)[2], name.fullcompare(covering.next)[2])
    return name.split(common)[1]


def _hex32(digest: bytes) -> str:
    return base64.b32hexencode(digest).decode()


def _unhex32(label: bytes) -> bytes | None:
    try:
        return base64.b32hexdecode(label.upper()) if len(label) == 32 else None
    except (binascii.Error, ValueError):
        return None


def collect_denial(authority: Sequence[dns.rrset.RRset], keys: KeySet, now: float, budget: Budget) -> Denial:
    """Verify the NSEC and NSEC3 RRsets of an authority section; those that do not verify prove nothing.

    :param authority: the authority section.
    :param keys: validated keys of the zone that should have signed it.
    :param now: Unix seconds.
    """
    nsec: list[tuple[dns.name.Name, NSEC]] = []
    nsec3: list[tuple[dns.name.Name, NSEC3]] = []
    ttls: list[int] = []
    problem: ValidationError | None = None
    records = [rrset for rrset in authority if rrset.rdtype in (_NSEC, _NSEC3) and rrset.rdclass == _IN]
    for rrset in records[: budget.limits.denial_records]:
        if not rrset.name.is_subdomain(keys.zone):
            continue
        try:
            verified = verify_rrset(rrset, signatures_of(authority, rrset), keys, now, budget)
        except ValidationError as error:
            problem = error
            continue
        if verified.expanded_from is not None:
            problem = ValidationError(f"{_what(rrset)} was made from a wildcard")
            continue
        ttls.append(verified.ttl)
        nsec.extend((rrset.name, rdata) for rdata in rrset if isinstance(rdata, NSEC))
        nsec3.extend((rrset.name, rdata) for rdata in rrset if isinstance(rdata, NSEC3))
    return Denial(keys.zone, nsec, nsec3, budget, min(ttls, default=None), problem)
