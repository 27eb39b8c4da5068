"""CHUNK (type 65288): a payload, or a piece of one, that a peer fetches (guide, wire format, "CHUNK").

RDATA: format (8 bits), length of the HMAC (16 bits), HMAC, sequence (16 bits), total (16 bits), length of the data
(16 bits), data.  Text: ``sequence total format hmac data``, with the JSON of a manifest (sequence 0) as a quoted string
and other data in base64.
"""

from __future__ import annotations

import base64
import struct
from typing import Final

import dns.immutable
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.wire

from mpcore.records._common import PrivateRdata, generic_text, octets_of, quoted, unsigned

__all__ = ("CHUNK", "CHUNK_TYPE", "FORMAT_JSON", "FORMAT_JWT")

CHUNK_TYPE: Final = 65288
"""Type number, of the range for private use."""

FORMAT_JSON: Final = 1
"""Data is JSON text."""

FORMAT_JWT: Final = 2
"""Data is a sealed payload (the name is older than the format; there is no JWT inside)."""

_FORMATS: Final = {FORMAT_JSON: "JSON", FORMAT_JWT: "JWT"}
_FORMAT_NUMBERS: Final = {name: number for number, name in _FORMATS.items()}


@dns.immutable.immutable
class CHUNK(PrivateRdata):
    """A manifest (sequence 0) or a data chunk (sequence 1 to total).

    :ivar format: 1 JSON, 2 sealed; other values 0-255 are kept.
    :ivar hmac: HMAC-SHA-256 of a manifest, usually empty.
    :ivar sequence: 0-65535.
    :ivar total: number of data chunks, 0-65535.
    :ivar data: at most 65535 octets.
    """

    __slots__ = ["data", "format", "hmac", "sequence", "total"]

    TYPE = CHUNK_TYPE

    format: int
    hmac: bytes
    sequence: int
    total: int
    data: bytes

    def __init__(
        self,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        format: int,
        hmac: bytes,
        sequence: int,
        total: int,
        data: bytes,
    ) -> None:
        super().__init__(rdclass, rdtype)
        self.format = unsigned(8, format)
        self.hmac = self._as_bytes(hmac, True, 65535)
        self.sequence = unsigned(16, sequence)
        self.total = unsigned(16, total)
        self.data = self._as_bytes(data, True, 65535)
        if 9 + len(self.hmac) + len(self.data) > 65535:
            raise ValueError("more octets than any RDATA has")

    @classmethod
    def make(cls, sequence: int, total: int, data: bytes, format: int = FORMAT_JSON, hmac: bytes = b"") -> CHUNK:
        """A new record.

        :raises ValueError: a number is out of range, or there are more than 65526 octets of HMAC and data.
        """
        rdtype = dns.rdatatype.RdataType.make(CHUNK_TYPE)
        return cls(dns.rdataclass.IN, rdtype, format, hmac, sequence, total, data)

    def to_octets(self) -> bytes:
        """The RDATA."""
        return b"".join(
            (
                struct.pack("!BH", self.format, len(self.hmac)),
                self.hmac,
                struct.pack("!HHH", self.sequence, self.total, len(self.data)),
                self.data,
            )
        )

    def to_styled_text(self, style: dns.rdata.RdataStyle) -> str:
        """Text form; the generic one for a manifest that does not begin like JSON."""
        if self.sequence == 0:
            if self.data[:1] not in (b"{", b"["):
                return generic_text(self.to_octets())
            data = quoted(self.data, always=True)
        else:
            data = base64.b64encode(self.data).decode() or '""'
        name = _FORMATS.get(self.format, f"FORMAT{self.format}")
        return f"{self.sequence} {self.total} {name} {self.hmac.hex() or quoted(b'')} {data}"

    @classmethod
    def from_text(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        tok: dns.tokenizer.Tokenizer,
        origin: dns.name.Name | None = None,
        relativize: bool = True,
        relativize_to: dns.name.Name | None = None,
    ) -> CHUNK:
        """Five tokens or more; JSON without quotes around it is understood as long as it has no blanks."""
        sequence, total = tok.get_uint16(), tok.get_uint16()
        name = tok.get_string()
        number = _FORMAT_NUMBERS.get(name)
        if number is None:
            digits = name.removeprefix("FORMAT")
            if digits == name or not (digits.isascii() and digits.isdigit()) or int(digits[:4]) > 255:
                raise ValueError(f"{name!r} is not a format")
            number = int(digits)
        hmac = bytes.fromhex(tok.get_string())
        tokens = []
        while not (token := tok.get()).is_eol_or_eof():
            tokens.append(token)
        tok.unget(token)
        if not tokens:
            raise ValueError("data is missing")
        if sequence or (len(tokens) == 1 and tokens[0].is_quoted_string()):
            data = b"".join(octets_of(token) for token in tokens)
        else:
            data = b"".join(
                b'"' + octets_of(token) + b'"' if token.is_quoted_string() else octets_of(token) for token in tokens
            )
        if sequence:
            data = base64.b64decode(data, validate=True)
        elif data[:1] not in (b"{", b"["):
            raise ValueError("a manifest is JSON")
        return cls(rdclass, rdtype, number, hmac, sequence, total, data)

    @classmethod
    def from_wire_parser(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        parser: dns.wire.Parser,
        origin: dns.name.Name | None = None,
    ) -> CHUNK:
        """The five fields; octets after the data are refused by the caller."""
        number, length = parser.get_struct("!BH")
        hmac = parser.get_bytes(length)
        sequence, total, length = parser.get_struct("!HHH")
        return cls(rdclass, rdtype, number, hmac, sequence, total, parser.get_bytes(length))
