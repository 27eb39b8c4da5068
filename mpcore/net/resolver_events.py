"""What a resolver does while it works on a question, told as it happens: for people who want to see it.

A :class:`~mpcore.net.resolver.Resolver` that is given an *observer* calls it with these, in the order in which things
happen.  What was remembered is not told again.  Something that was tried twice, because the first answer was bogus, is
told twice; the last telling counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS

from mpcore.net.network import Address
from mpcore.net.resolver_types import ValidationError

if TYPE_CHECKING:
    from mpcore.net.resolver_denial import DelegationProof, Proof, Statement
    from mpcore.net.resolver_validation import Verified

__all__ = (
    "AbsenceJudged",
    "Asked",
    "DataJudged",
    "DelegationJudged",
    "Event",
    "KeysJudged",
    "Observer",
    "Referred",
    "ServerLame",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One message was sent, and this came of it."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    server: Address
    over_tcp: bool
    seconds: float
    message: dns.message.Message | None  #: the answer, ``None`` if there was none that could be read
    problem: str  #: why there was none


@dataclass(frozen=True, slots=True)
class Referred:
    """A server of *zone* referred to a zone below."""

    zone: dns.name.Name
    server: Address
    child: dns.name.Name
    nameservers: tuple[dns.name.Name, ...]
    addresses: tuple[str, ...]  #: that came along with it (glue)


@dataclass(frozen=True, slots=True)
class ServerLame:
    """A server that should serve *zone* does not."""

    zone: dns.name.Name
    server: Address
    problem: str


@dataclass(frozen=True, slots=True)
class DelegationJudged:
    """What the zone above says about a name as the apex of a signed zone."""

    apex: dns.name.Name
    parent: dns.name.Name  #: the zone above, whose keys were used
    ds: tuple[DS, ...]  #: as received
    usable: tuple[DS, ...]  #: those of a supported algorithm and digest
    verified: Verified | None  #: the signature over them
    proof: DelegationProof | None  #: what their absence means
    statements: tuple[Statement, ...]  #: and what shows it
    problem: ValidationError | None  #: why it is bogus


@dataclass(frozen=True, slots=True)
class KeysJudged:
    """What was made of the DNSKEY RRset of a zone."""

    zone: dns.name.Name
    anchors: tuple[DS | DNSKEY, ...]  #: usable DS records of the zone above, or trust anchors
    keys: tuple[DNSKEY, ...]
    verified: Verified | None
    problem: ValidationError | None


@dataclass(frozen=True, slots=True)
class DataJudged:
    """What was made of an RRset of the answer."""

    zone: dns.name.Name  #: whose keys were used
    rrset: dns.rrset.RRset
    verified: Verified | None
    statements: tuple[Statement, ...]  #: for data made from a wildcard: that nothing closer exists
    problem: ValidationError | None


@dataclass(frozen=True, slots=True)
class AbsenceJudged:
    """What was made of the proof that something does not exist."""

    zone: dns.name.Name
    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    rcode: int  #: NXDOMAIN: the name does not exist; NOERROR: the type does not
    proof: Proof | None
    statements: tuple[Statement, ...]
    problem: ValidationError | None


Event: TypeAlias = Asked | Referred | ServerLame | DelegationJudged | KeysJudged | DataJudged | AbsenceJudged
Observer: TypeAlias = Callable[[Event], None]
