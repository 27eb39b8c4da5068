"""What the record types share: registration, octets in and out, text of character-strings."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer

from mpcore.errors import RecordError

__all__ = (
    "PrivateRdata",
    "character_string",
    "generic_text",
    "label_text",
    "octets_of",
    "quoted",
    "register",
    "unsigned",
)

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


class PrivateRdata(dns.rdata.Rdata):  # type: ignore[misc, unused-ignore]
    """RDATA of a private type, which says itself what its octets are.

    :cvar TYPE: number of the type.
    """

    __slots__: list[str] = []

    TYPE: ClassVar[int]

    @classmethod
    def from_octets(cls, octets: bytes) -> Self:
        """The record with this RDATA, uncompressed.

        :raises RecordError: it is not RDATA of this type.
        """
        if len(octets) > 65535:
            raise RecordError(f"{len(octets)} octets are more than any RDATA has")
        rdtype = dns.rdatatype.RdataType.make(cls.TYPE)
        try:
            rdata = dns.rdata.from_wire(dns.rdataclass.IN, rdtype, octets, 0, len(octets))
        except (dns.exception.DNSException, ValueError) as error:
            raise RecordError(f"{dns.rdatatype.to_text(rdtype)}: {error}") from None
        assert isinstance(rdata, cls)
        return rdata

    @classmethod
    def parse(cls, text: str) -> Self:
        """The record with this text: the type's own form, or the generic one of RFC 3597, section 5.

        :raises RecordError: it is neither.
        """
        rdtype = dns.rdatatype.RdataType.make(cls.TYPE)
        try:
            rdata = dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, relativize=False)
        except (dns.exception.DNSException, ValueError) as error:
            raise RecordError(f"{dns.rdatatype.to_text(rdtype)}: {error}") from None
        assert isinstance(rdata, cls)
        return rdata

    def to_octets(self) -> bytes:
        """The RDATA."""
        raise NotImplementedError

    def _to_wire(
        self,
        file: Any,
        compress: dns.name.CompressType | None = None,
        origin: dns.name.Name | None = None,
        canonicalize: bool = False,
    ) -> None:
        # Names inside a private type are neither compressed (RFC 3597, section 4) nor made lower case.
        file.write(self.to_octets())


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
