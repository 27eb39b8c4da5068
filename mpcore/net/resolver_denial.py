"""Proofs that something does not exist (RFC 4035 section 5.4, RFC 5155 section 8, RFC 9824), verified and read.

An NSEC record says "between this owner and the next name there is nothing", an NSEC3 record says
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

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.ANY.NSEC3 import NSEC3

from mpcore.net.resolver_types import Budget, ValidationError
from mpcore.net.resolver_validation import KeySet, signatures_of, verify_rrset

__all__ = ("DelegationProof", "Denial", "Proof", "Statement", "collect_denial")

_IN = dns.rdataclass.IN
_NS, _CNAME, _SOA, _DS = dns.rdatatype.NS, dns.rdatatype.CNAME, dns.rdatatype.SOA, dns.rdatatype.DS
_DNAME, _NSEC, _NSEC3 = dns.rdatatype.DNAME, dns.rdatatype.NSEC, dns.rdatatype.NSEC3
_NXNAME = 128  # RFC 9824, section 3.2


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
            problem = ValidationError(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} was made from a wildcard")
            continue
        ttls.append(verified.ttl)
        nsec.extend((rrset.name, rdata) for rdata in rrset if isinstance(rdata, NSEC))
        nsec3.extend((rrset.name, rdata) for rdata in rrset if isinstance(rdata, NSEC3))
    return Denial(keys.zone, nsec, nsec3, budget, min(ttls, default=None), problem)
