"""RRsets and records: the unit of a zone, their canonical order, and their text form.

RDATA is uncompressed wire octets, kept as received.  What this module understands of RDATA is a table of layouts: where
domain names stand.  From it come the expansion of compressed names on input (RFC 3597, section 4), the canonical form
(RFC 4034, section 6.2, as amended by RFC 6840, section 5.1) and the check that RDATA is well formed.  Text goes through
dnspython.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.ttl

import mpcore.records  # noqa: F401  (registers the private types with dnspython)
from mpcore.errors import RecordError
from mpcore.zone import owners, presentation

__all__ = (
    "MAX_TTL",
    "RRset",
    "canonical_rdata",
    "check_rdata",
    "expand_rdata",
    "parse_rdata",
    "parse_record",
    "parse_ttl",
    "rdata_or_generic",
    "rdata_text",
    "record_text",
    "rrsig_covered",
    "rrsig_ttl",
    "type_from_text",
    "type_text",
)

MAX_TTL: Final = 0x7FFFFFFF
"""Largest TTL; a TTL with the top bit set counts as zero (RFC 2181, section 8)."""

_RRSIG: Final = 46
_MAX_RECORDS: Final = 65535

# Layouts.  A number is that many octets, "n" a domain name, "c" a character string, "r" the rest (any length),
# "C" one or more character strings to the end.
_Field = int | str
_LAYOUTS: Final[dict[int, tuple[_Field, ...]]] = {
    1: (4,),  # A
    2: ("n",),  # NS
    3: ("n",),  # MD
    4: ("n",),  # MF
    5: ("n",),  # CNAME
    6: ("n", "n", 20),  # SOA
    7: ("n",),  # MB
    8: ("n",),  # MG
    9: ("n",),  # MR
    12: ("n",),  # PTR
    13: ("c", "c"),  # HINFO
    14: ("n", "n"),  # MINFO
    15: (2, "n"),  # MX
    16: ("C",),  # TXT
    17: ("n", "n"),  # RP
    18: (2, "n"),  # AFSDB
    21: (2, "n"),  # RT
    24: (18, "n", "r"),  # SIG
    25: (4, "r"),  # KEY
    26: (2, "n", "n"),  # PX
    28: (16,),  # AAAA
    30: ("n", "r"),  # NXT
    33: (6, "n"),  # SRV
    35: (4, "c", "c", "c", "n"),  # NAPTR
    36: (2, "n"),  # KX
    39: ("n",),  # DNAME
    43: (4, "r"),  # DS
    46: (18, "n", "r"),  # RRSIG
    47: ("n", "r"),  # NSEC
    48: (4, "r"),  # DNSKEY
    59: (4, "r"),  # CDS
    60: (4, "r"),  # CDNSKEY
    62: (6, "r"),  # CSYNC
    64: (2, "n", "r"),  # SVCB
    65: (2, "n", "r"),  # HTTPS
    66: (5, "n"),  # DSYNC
}
_COMPRESSIBLE: Final = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 21, 24, 26, 30, 33, 35})
_LOWERED: Final = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 21, 24, 26, 30, 33, 35, 36, 39, 46})
_ONE_NAME: Final = frozenset({2, 3, 4, 5, 7, 8, 9, 12, 39})

_GENERIC: Final = re.compile(r"\s*\\#\s+([0-9]{1,5})((?:\s+[0-9A-Fa-f]+)*)\s*(?:;.*)?\Z")
_STYLE: Final = dns.rdata.RdataStyle(
    origin=None, relativize=False, base64_chunk_separator="", hex_chunk_separator="", base64_chunk_size=0
)
# Types whose text dnspython always reads back, and those of which it does unless the last field is empty.
_FAITHFUL: Final = frozenset({1, 2, 5, 6, 12, 13, 15, 16, 17, 28, 33, 35, 36, 39})
_FAITHFUL_UNLESS_EMPTY: Final = frozenset({24, 43, 46, 48, 52, 59, 60})
_UPPER_HEX: Final = frozenset({43, 59})  # DS, CDS: digests in upper case


@dataclass(frozen=True, slots=True)
class RRset:
    """Records of one owner and type (RFC 2181, section 5).

    Use :meth:`make`, which brings the records into order; the bare constructor is for octets already in it.

    :param rdtype: type, 1 to 65535.
    :param ttl: seconds, 0 to :data:`MAX_TTL`.  For RRSIG it is only a summary: on output each RRSIG record takes its
        TTL from its Original TTL field, which is the TTL of the RRset it covers (RFC 4034, sections 3 and 3.1.4).
    :param rdatas: at least one; without duplicates, in canonical order (RFC 4034, section 6.3).
    """

    rdtype: int
    ttl: int
    rdatas: tuple[bytes, ...]

    @classmethod
    def make(cls, rdtype: int, ttl: int, rdatas: Iterable[bytes]) -> Self:
        """An RRset of *rdatas* in any order, duplicates allowed.

        Records that differ only in the case of names that the canonical form lowers are duplicates; the first spelling
        stays.

        :raises RecordError: no records, or a number out of range, or RDATA that does not fit its type.
        """
        unique: dict[bytes, bytes] = {}
        for rdata in rdatas:
            check_rdata(rdtype, rdata)
            unique.setdefault(canonical_rdata(rdtype, rdata), rdata)
        if not unique:
            raise RecordError(f"an RRset of type {type_text(rdtype)} without records")
        if len(unique) > _MAX_RECORDS:
            raise RecordError(f"an RRset of type {type_text(rdtype)} with more than {_MAX_RECORDS} records")
        if not 0 < rdtype < 65536 or not 0 <= ttl <= MAX_TTL:
            raise RecordError(f"type {rdtype} or TTL {ttl} is out of range")
        if rdtype == _RRSIG:
            ttl = min(rrsig_ttl(rdata) for rdata in unique.values())
        if len(unique) == 1:
            return cls(rdtype, ttl, tuple(unique.values()))
        return cls(rdtype, ttl, tuple(unique[key] for key in sorted(unique)))

    def texts(self, owner: bytes) -> list[str]:
        """One line for each record, see :func:`record_text`."""
        return [record_text(owner, self.rdtype, self.ttl, rdata) for rdata in self.rdatas]

    def adding(self, rdatas: Iterable[bytes]) -> Self:
        """This RRset and further records; :raises RecordError: as :meth:`make`."""
        return type(self).make(self.rdtype, self.ttl, [*self.rdatas, *rdatas])

    def without(self, rdatas: Iterable[bytes]) -> Self | None:
        """This RRset without the given records (compared in canonical form), ``None`` if nothing is left."""
        gone = {canonical_rdata(self.rdtype, rdata) for rdata in rdatas}
        kept = tuple(rdata for rdata in self.rdatas if canonical_rdata(self.rdtype, rdata) not in gone)
        return type(self)(self.rdtype, self.ttl, kept) if kept else None


def type_text(rdtype: int) -> str:
    """Mnemonic of a type, ``TYPEn`` if it has none (RFC 3597, section 5)."""
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))


def type_from_text(text: str) -> int:
    """Number of a type; :raises RecordError: unknown, or one that no record can have (ANY, AXFR, OPT, ...)."""
    try:
        rdtype = int(dns.rdatatype.from_text(text))
    except (dns.exception.DNSException, ValueError):
        raise RecordError(f"{text!r} is not a record type") from None
    if rdtype in (0, 41) or 128 <= rdtype <= 255:
        raise RecordError(f"{text!r} is not a type that a zone can hold")
    return rdtype


def rrsig_covered(rdata: bytes) -> int:
    """The type that an RRSIG covers."""
    return rdata[0] << 8 | rdata[1]


def rrsig_ttl(rdata: bytes) -> int:
    """The Original TTL field of an RRSIG, in seconds."""
    ttl = int.from_bytes(rdata[4:8], "big")
    return ttl if ttl <= MAX_TTL else 0


def _walk(layout: tuple[_Field, ...], rdata: bytes) -> list[tuple[int, int]]:
    """Spans of the names; :raises RecordError: the layout does not fit."""
    offset = 0
    spans = []
    size = len(rdata)
    for field in layout:
        if field == "n":
            start = offset
            while offset < size and (length := rdata[offset]):
                if length > 63:
                    raise RecordError("RDATA holds a compression pointer or a reserved label")
                offset += length + 1
            offset += 1
            if offset - start > 255:
                raise RecordError("RDATA holds a name longer than 255 octets")
            spans.append((start, offset))
        elif field == "c":
            offset += 1 + (rdata[offset] if offset < size else size)
        elif field == "C":
            if offset >= size:
                raise RecordError("RDATA lacks a character string")
            while offset < size:
                offset += 1 + rdata[offset]
        elif field == "r":
            if offset <= size:
                return spans
        else:
            offset += int(field)
    if offset != size:
        raise RecordError("RDATA is too short or too long for its type")
    return spans


def check_rdata(rdtype: int, rdata: bytes) -> None:
    """Check that uncompressed RDATA fits the layout of its type; unknown types may hold any octets.

    :raises RecordError: it does not, or it is longer than 65535 octets.
    """
    if len(rdata) > 65535:
        raise RecordError("RDATA is longer than 65535 octets")
    layout = _LAYOUTS.get(rdtype)
    if layout is not None and not (len(layout) == 1 and len(rdata) == layout[0]):
        try:
            _walk(layout, rdata)
        except RecordError as error:
            raise RecordError(f"{type_text(rdtype)}: {error}") from None


def canonical_rdata(rdtype: int, rdata: bytes) -> bytes:
    """RDATA with the names lowered that the canonical form lowers (RFC 4034, section 6.2; RFC 6840, section 5.1).

    The names in NSEC, SVCB and all later and private types keep their spelling.

    :raises RecordError: the RDATA does not fit its type.
    """
    if rdtype not in _LOWERED:
        return rdata
    if rdtype in _ONE_NAME:
        return rdata.lower()
    result = rdata
    for start, end in _walk(_LAYOUTS[rdtype], rdata):
        name = rdata[start:end]
        lowered = name.lower()
        if lowered != name:
            result = result[:start] + lowered + result[end:]
    return result


def expand_rdata(rdtype: int, message: bytes, offset: int, length: int) -> bytes:
    """RDATA of a record in a message, with compressed names expanded.

    Names are expanded only in the types for which RFC 3597, section 4 asks a receiver to do so.

    :param message: the whole message.
    :param offset: where the RDATA begins; with *length* it must lie inside the message.
    :raises RecordError: the RDATA does not fit its type, or a compressed name is faulty.
    """
    end = offset + length
    if rdtype not in _COMPRESSIBLE:
        rdata = message[offset:end]
        if len(rdata) != length:
            raise RecordError("RDATA is truncated")
        check_rdata(rdtype, rdata)
        return rdata
    parts = []
    for field in _LAYOUTS[rdtype]:
        if field == "n":
            name, offset = owners.read_name(message, offset)
            parts.append(name)
        elif field == "c":
            step = 1 + (message[offset] if offset < end else end)
            parts.append(message[offset : offset + step])
            offset += step
        elif field == "r":
            parts.append(message[offset:end])
            offset = max(offset, end)
        else:
            parts.append(message[offset : offset + int(field)])
            offset += int(field)
        if offset > end:
            break
    if offset != end or end > len(message):
        raise RecordError(f"{type_text(rdtype)}: RDATA is too short or too long for its type")
    return b"".join(parts)


def rdata_text(rdtype: int, rdata: bytes) -> str:
    """RDATA in presentation form, absolute names, single blanks between fields, base64 and hexadecimal unbroken.

    :raises RecordError: dnspython cannot decode it.
    """
    try:
        value = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), rdata, 0, len(rdata))
        text = value.to_styled_text(_STYLE)
    except Exception as error:  # whatever the library makes of octets from outside
        raise RecordError(f"{type_text(rdtype)}: RDATA does not parse: {error}") from None
    if rdtype in _UPPER_HEX:
        head, _, digest = text.rpartition(" ")
        return f"{head} {digest.upper()}"
    return text


def record_text(owner: bytes, rdtype: int, ttl: int, rdata: bytes) -> str:
    """One record on one line: owner, TTL, class, type and RDATA separated by tabs.

    RDATA that dnspython cannot decode, or whose text it would not read back as the same octets, is written in the
    generic form (RFC 3597, section 5).
    An RRSIG shows its Original TTL.

    :raises RecordError: *owner* is not a name.
    """
    if rdtype == _RRSIG and len(rdata) >= 8:
        ttl = rrsig_ttl(rdata)
    return f"{owners.to_text(owner)}\t{ttl}\tIN\t{type_text(rdtype)}\t{rdata_or_generic(rdtype, rdata)}"


def rdata_or_generic(rdtype: int, rdata: bytes) -> str:
    """RDATA as :func:`record_text` writes it: :func:`rdata_text`, or the generic form."""
    write = presentation.writer(rdtype)
    if write is not None:
        short = write(rdata)
        if short is not None:
            return short
    try:
        text = rdata_text(rdtype, rdata)
        faithful = rdtype in _FAITHFUL or _is_faithful(rdtype, rdata, text)
    except RecordError:
        faithful = False
    return text if faithful else f"\\# {len(rdata)} {rdata.hex()}".rstrip()


def _is_faithful(rdtype: int, rdata: bytes, text: str) -> bool:
    if not text or text[-1] == " ":
        return False
    return rdtype in _FAITHFUL_UNLESS_EMPTY or parse_rdata(rdtype, text) == rdata


def parse_rdata(rdtype: int, text: str, origin: bytes | None = owners.ROOT) -> bytes:
    """RDATA from its presentation form or the generic form (RFC 3597, section 5).

    The generic form is held to the same rules as octets from a transfer, see :func:`check_rdata`.

    :param origin: completes relative names; ``None`` refuses them.
    :raises RecordError: it does not parse.
    """
    generic = _GENERIC.match(text)
    if generic is not None:
        digits = "".join(generic[2].split())  # a blank may stand between any two of them
        octets = bytes.fromhex(digits) if len(digits) % 2 == 0 else b""
        if len(octets) != int(generic[1]):
            raise RecordError(f"{type_text(rdtype)}: {generic[1]} octets announced in \\# form, but not given")
        check_rdata(rdtype, octets)
        return octets
    base = None if origin is None else dns.name.from_wire(origin, 0)[0]
    try:
        value = dns.rdata.from_text(
            dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), text, origin=base, relativize=False
        )
        rdata = value.to_wire(origin=base)
    except dns.name.NeedAbsoluteNameOrOrigin:
        raise RecordError(f"{type_text(rdtype)}: a relative name, and there is no origin") from None
    except Exception as error:  # whatever the library makes of text from outside: LOC fails with struct.error
        raise RecordError(f"{type_text(rdtype)}: {error}") from None
    octets = rdata or b""
    check_rdata(rdtype, octets)
    return octets


def parse_record(text: str, origin: bytes | None = None) -> tuple[bytes, int, int, bytes]:
    """One record on one line: owner, optional TTL and class in either order, type, RDATA.

    :param origin: completes relative names; ``None`` takes them as absolute.
    :return: owner, type, TTL (0 when absent), RDATA.
    :raises RecordError: it does not parse; a class other than IN; more than one record.
    """
    if len(text) > 200_000:
        raise RecordError("a record of more than 200000 characters")
    fields = text.split(None, 4)
    if not fields:
        raise RecordError("an empty record")
    owner = owners.from_text(fields[0], origin)
    rest = text.lstrip()[len(fields[0]) :].lstrip()
    ttl: int | None = None
    seen_class = False
    while True:
        word, after = _word(rest)
        if ttl is None and word[:1].isdigit():
            ttl = parse_ttl(word)
        elif not seen_class and word.upper() in ("IN", "CLASS1"):
            seen_class = True
        else:
            rdtype = type_from_text(word)
            return owner, rdtype, ttl or 0, parse_rdata(rdtype, after, origin or owners.ROOT)
        rest = after


def parse_ttl(text: str) -> int:
    """A TTL in seconds or in units (``1h30m``); :raises RecordError: not a TTL or out of range."""
    try:
        ttl = dns.ttl.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise RecordError(f"{text!r} is not a TTL") from None
    return ttl if ttl <= MAX_TTL else 0


def _word(text: str) -> tuple[str, str]:
    parts = text.split(None, 1)
    if not parts:
        raise RecordError("a record ends before its type")
    return parts[0], parts[1] if len(parts) > 1 else ""
