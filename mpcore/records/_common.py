"""What the record types share: registration, octets in and out, text of character-strings."""

from __future__ import annotations

import re
from typing import TypeVar

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer

from mpcore.errors import RecordError

__all__ = (
    "RdataT",
    "character_string",
    "generic_text",
    "label_text",
    "octets_of",
    "quoted",
    "rdata_from_octets",
    "rdata_from_text",
    "register",
    "unsigned",
)

RdataT = TypeVar("RdataT", bound=dns.rdata.Rdata)

_PLAIN = re.compile(rb"[!#-'*-:<-\[\]-~]+\Z")
"""A character-string that needs no quotes and no escapes: printable, no blank, ``"``, ``(``, ``)``, ``;``, ``\\``."""


def register(cls: type[dns.rdata.Rdata], rdtype: int, mnemonic: str) -> None:
    """Make dnspython use *cls* for *rdtype* in class IN, under *mnemonic*; a second call changes nothing."""
    try:
        dns.rdata.register_type(cls, dns.rdatatype.RdataType.make(rdtype), mnemonic)
    except dns.rdata.RdatatypeExists:
        return
    # ``RdataType.make`` caches a nameless member before the mnemonic is known; without this second registration,
    # keyed by that very member, a type read from text would print as TYPEnnn.
    dns.rdatatype.register_type(dns.rdatatype.RdataType.make(rdtype), mnemonic)


def rdata_from_octets(cls: type[RdataT], rdtype: int, octets: bytes) -> RdataT:
    """The RDATA in the uncompressed *octets*.

    :raises RecordError: they are not RDATA of that type.
    """
    if len(octets) > 65535:
        raise RecordError(f"{len(octets)} octets are more than any RDATA has")
    try:
        rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), octets, 0, len(octets))
    except (dns.exception.DNSException, ValueError) as error:
        raise RecordError(f"{dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))}: {error}") from None
    assert isinstance(rdata, cls)
    return rdata


def rdata_from_text(cls: type[RdataT], rdtype: int, text: str) -> RdataT:
    """The RDATA in *text*: the type's own form, or the generic one of RFC 3597, section 5.

    :raises RecordError: it is neither.
    """
    try:
        rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), text, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise RecordError(f"{dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))}: {error}") from None
    assert isinstance(rdata, cls)
    return rdata


def generic_text(octets: bytes) -> str:
    """The generic form of RFC 3597, section 5: what a record prints as when its own form cannot carry it."""
    return rf"\# {len(octets)} {octets.hex()}".rstrip()


def quoted(octets: bytes, *, always: bool = False) -> str:
    """A character-string in text (RFC 1035, section 5.1): bare if it can be (and not *always*), else quoted."""
    if not always and _PLAIN.match(octets):
        return octets.decode("ascii")
    parts = []
    for octet in octets:
        if octet in b'"\\':
            parts.append("\\" + chr(octet))
        elif 0x20 <= octet < 0x7F:
            parts.append(chr(octet))
        else:
            parts.append(f"\\{octet:03d}")
    return '"' + "".join(parts) + '"'


def label_text(octets: bytes) -> str:
    """A provider label for comparing and showing: without one trailing dot; octets outside ASCII are escaped."""
    return octets.removesuffix(b".").decode("ascii", "backslashreplace")


def character_string(tok: dns.tokenizer.Tokenizer) -> bytes:
    """The next token as a character-string, escapes resolved.

    :raises ValueError: there is none; dnspython makes it a syntax error.
    """
    token = tok.get()
    if not (token.is_identifier() or token.is_quoted_string()):
        raise ValueError("expecting a string")
    return octets_of(token)


def octets_of(token: dns.tokenizer.Token) -> bytes:
    """The octets that *token* stands for, escapes resolved (RFC 1035, section 5.1)."""
    value: bytes = token.unescape_to_bytes().value
    return value


def unsigned(bits: int, value: int) -> int:
    """*value*, if it is an unsigned integer of so many *bits*.

    :raises ValueError: it is not.
    """
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{value} is not an unsigned integer of {bits} bits")
    return value
