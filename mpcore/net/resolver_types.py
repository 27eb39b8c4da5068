"""What the parts of the resolver share: verdicts, answers, and the bounds on the work that one question may cause."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import dns.edns
import dns.name
import dns.rdatatype
import dns.rrset

from mpcore.errors import BogusError, ResolutionError

__all__ = ("Answer", "Budget", "BudgetError", "ResolverLimits", "Security", "ValidationError", "weakest")


class Security(StrEnum):
    """Verdict of validation (RFC 4035, section 4.3)."""

    SECURE = "secure"  #: a chain of signatures leads from a trust anchor to the data
    INSECURE = "insecure"  #: a chain of signatures proves that the zone is not signed
    INDETERMINATE = "indeterminate"  #: no trust anchor stands above the name
    BOGUS = "bogus"  #: there should be a chain of signatures, and it is broken


_ORDER = (Security.SECURE, Security.INSECURE, Security.INDETERMINATE, Security.BOGUS)


def weakest(*verdicts: Security) -> Security:
    """The verdict on data that rests on all of *verdicts*."""
    return max(verdicts, key=_ORDER.index)


class ValidationError(BogusError):
    """Why data failed validation.

    :param message: the reason, for people.
    :param code: the reason as an extended DNS error (RFC 8914, section 4).
    """

    def __init__(self, message: str, code: dns.edns.EDECode = dns.edns.EDECode.DNSSEC_BOGUS) -> None:
        super().__init__(message)
        self.code = code


class BudgetError(ResolutionError):
    """A question needed more work than one question may cause."""


@dataclass(frozen=True, slots=True)
class ResolverLimits:
    """Bounds on what one question may cause, and on what is remembered.

    They keep a hostile zone from making the resolver work for it: delegations without glue (NXNSAttack), many keys of
    one tag or many signatures (CVE-2023-50387), many hash iterations (CVE-2023-50868).
    """

    queries: int = 120  #: messages sent to servers
    referrals: int = 24  #: delegations followed from one starting point
    aliases: int = 12  #: CNAME and DNAME records followed
    glueless_depth: int = 3  #: name servers whose names need name servers whose names ...
    glueless_names: int = 4  #: name-server names looked up for one delegation
    attempts: int = 8  #: messages sent to the servers of one zone for one question
    signatures: int = 96  #: signatures verified
    signatures_per_rrset: int = 8  #: signatures verified before an RRset is given up
    keys_per_tag: int = 4  #: keys of the same tag and algorithm tried for one signature
    hash_rounds: int = 20_000  #: rounds of SHA-1 for NSEC3
    nsec3_iterations: int = 150  #: more than this makes a zone insecure (RFC 9276, section 3.2)
    denial_records: int = 12  #: NSEC or NSEC3 RRsets of one response that are looked at
    other_servers: int = 2  #: further servers asked when the answer of one fails validation
    cache_entries: int = 10_000  #: answers; the least recently used one makes room
    max_ttl: float = 86_400.0  #: seconds that anything is believed
    max_negative_ttl: float = 300.0  #: seconds that absence is believed (RFC 2308, section 5)
    failure_ttl: float = 1.0  #: seconds that a failure is remembered; the first one a tenth of it, then doubling


class Budget:
    """The work left for one question; every part of the resolver that works for it draws on the same one."""

    __slots__ = ("hash_rounds", "limits", "queries", "signatures")

    def __init__(self, limits: ResolverLimits) -> None:
        self.limits = limits
        self.queries = limits.queries
        self.signatures = limits.signatures
        self.hash_rounds = limits.hash_rounds

    def take_query(self) -> None:
        """Account for one message to a server, or raise :class:`BudgetError`."""
        self.queries -= 1
        if self.queries < 0:
            raise BudgetError(f"more than {self.limits.queries} messages for one question")

    def take_signature(self) -> None:
        """Account for one verified signature, or raise :class:`BudgetError`."""
        self.signatures -= 1
        if self.signatures < 0:
            raise BudgetError(f"more than {self.limits.signatures} signatures for one question")

    def take_hash(self, rounds: int) -> None:
        """Account for one NSEC3 hash of *rounds* rounds, or raise :class:`BudgetError`."""
        self.hash_rounds -= rounds
        if self.hash_rounds < 0:
            raise BudgetError(f"more than {self.limits.hash_rounds} rounds of NSEC3 hashing for one question")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found out about a name and type.

    The RRsets are shared with the cache: read them, do not change them.
    """

    name: dns.name.Name  #: the name that was asked for
    rdtype: dns.rdatatype.RdataType  #: the type that was asked for
    rcode: int  #: NOERROR, NXDOMAIN or YXDOMAIN
    rrset: dns.rrset.RRset | None  #: the data, at the end of the aliases; ``None``: there is none
    security: Security
    expires: float  #: Unix seconds until which it may be used
    answer: tuple[dns.rrset.RRset, ...]  #: answer section: aliases, data and their RRSIGs
    authority: tuple[dns.rrset.RRset, ...]  #: authority section: SOA, NSEC, NSEC3 and their RRSIGs
    reason: str = ""  #: why it is not secure
    error: dns.edns.EDECode | None = None  #: the same as an extended DNS error, when it is bogus

    @property
    def secure(self) -> bool:
        """Whether a chain of signatures from a trust anchor covers the whole answer."""
        return self.security is Security.SECURE
