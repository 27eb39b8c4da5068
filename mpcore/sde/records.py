"""One record that a provider contributes to a zone, checked.

The rules are the same for agents and combiners (guide, wire format, "Operations"): the types DNSKEY, CDS, CSYNC, NS and
KEY, at the apex, class IN, a TTL of at most a week, and the type that the operation says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import dns.rdatatype

from mpcore.errors import RecordError
from mpcore.zone import owners
from mpcore.zone.roles import SYNCHRONISED_TYPES
from mpcore.zone.rrset import canonical_rdata, parse_record, record_text, type_text

__all__ = (
    "MAX_OPERATION_OCTETS",
    "MAX_RECORD_TTL",
    "RDATA_TYPES",
    "ContributedRecord",
    "read_any_record",
    "read_record",
)

MAX_RECORD_TTL: Final = 604800
"""Largest TTL of a contributed record, seconds (guide, wire format)."""

MAX_OPERATION_OCTETS: Final = 24_000
"""Most octets of record texts in one operation: sealed, a message must fit the 65,535 octets of one DNS message."""

RDATA_TYPES: Final = {name: int(dns.rdatatype.from_text(name)) for name in SYNCHRONISED_TYPES}
"""Mnemonic -> type number of the synchronised types."""

_DNSKEY: Final = 48
_LIMITED: Final = frozenset({_DNSKEY, 25})  # DNSKEY and KEY: protocol must be 3 (RFC 4034, 2.1.2; RFC 3445)


@dataclass(frozen=True, slots=True)
class ContributedRecord:
    """A record at the apex of a zone.

    :param text: as received or entered; confirmations repeat it octet by octet.
    :param rrtype: mnemonic, one of the synchronised types.
    :param ttl: seconds, 0 to 604800.
    :param rdata: wire octets, uncompressed.
    """

    text: str
    rrtype: str
    ttl: int
    rdata: bytes

    @property
    def rdtype(self) -> int:
        """Type number."""
        return RDATA_TYPES[self.rrtype]

    @property
    def key(self) -> bytes:
        """What makes two records the same whatever their TTL and spelling: the canonical RDATA (RFC 4034, 6.2)."""
        return canonical_rdata(self.rdtype, self.rdata)

    @property
    def is_sep(self) -> bool:
        """Whether it is a DNSKEY with the Secure Entry Point flag (RFC 4034, section 2.1.1)."""
        return self.rrtype == "DNSKEY" and bool(self.rdata[1] & 1)

    @property
    def key_tag(self) -> int | None:
        """Key tag of a DNSKEY (RFC 4034, appendix B); ``None`` for other types."""
        if self.rrtype != "DNSKEY":
            return None
        total = sum(self.rdata[0::2]) * 256 + sum(self.rdata[1::2])
        return (total + (total >> 16)) & 0xFFFF


def read_record(text: str, rrtype: str, apex: bytes) -> ContributedRecord:
    """The record spelled *text*, checked.

    :param text: one line of master-file text with absolute names.
    :param rrtype: the type that it must have, upper case.
    :param apex: owner that it must have, canonical wire octets.
    :raises RecordError: it breaks a rule; the message is fit for a ``rejected_items`` reason.
    """
    if any(character < " " and character != "\t" for character in text):
        raise RecordError("a record is one line without control characters")
    owner, rdtype, ttl, rdata = parse_record(text)
    if rdtype != RDATA_TYPES.get(rrtype):
        raise RecordError(f"the record has type {type_text(rdtype)}, the operation is for {rrtype}")
    if owner != apex:
        raise RecordError(f"the owner {owners.to_text(owner)} is not the apex {owners.to_text(apex)}")
    written = next((word for word in text.split(None, 3)[1:3] if word.isdecimal()), "0")
    if ttl > MAX_RECORD_TTL or len(written) > 6 or int(written) > MAX_RECORD_TTL:
        raise RecordError(f"the TTL is above {MAX_RECORD_TTL}")
    if rdtype in _LIMITED and (len(rdata) < 5 or rdata[2] != 3):
        raise RecordError(f"the protocol of a {rrtype} must be 3, and it must have a key")
    if rdtype == _DNSKEY and not rdata[0] & 1:
        raise RecordError("the DNSKEY is no zone key (RFC 4034, section 2.1.1)")
    return ContributedRecord(text, rrtype, ttl, rdata)


def read_any_record(text: str, apex: bytes) -> ContributedRecord:
    """The record spelled *text*, of whichever synchronised type it is, its text brought into the form of the wire.

    :raises RecordError: it breaks a rule.
    """
    if any(character < " " and character != "\t" for character in text):
        raise RecordError("a record is one line without control characters")
    owner, rdtype, ttl, rdata = parse_record(text, apex)
    rrtype = type_text(rdtype)
    if rrtype not in RDATA_TYPES:
        raise RecordError(f"{rrtype} records are not synchronised; only {', '.join(SYNCHRONISED_TYPES)} are")
    if owner != apex:
        raise RecordError(f"the owner {owners.to_text(owner)} is not the apex {owners.to_text(apex)}")
    if ttl > MAX_RECORD_TTL:
        raise RecordError(f"the TTL is above {MAX_RECORD_TTL}")
    return read_record(record_text(owner, rdtype, ttl, rdata), rrtype, apex)
