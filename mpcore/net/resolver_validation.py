"""Validation of DNSSEC data: signatures, and the keys that open a zone.

No I/O: messages, keys and time come in, verdicts go out.  RFC 4035 section 5, RFC 5155 section 8, RFC 6840 sections 4
and 5, RFC 8901 (multi-signer: *any* verified signature by *any* key of the validated DNSKEY RRset will do), RFC 9276
(NSEC3 iterations), RFC 9824 (compact denial), RFC 9904 and 9905 (algorithms).

What is proven not to exist is the matter of :mod:`mpcore.net.resolver_denial`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
from dns.rdtypes.ANY.RRSIG import RRSIG

from mpcore.net.resolver_types import Budget, ValidationError

__all__ = (
    "KeySet",
    "Verified",
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
