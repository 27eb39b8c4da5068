"""Walking through a DNS message without decoding it (RFC 1035, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from mpcore.errors import RecordError

__all__ = ("HEADER", "Located", "records", "skip_name", "skip_question")

HEADER: Final = Struct("!HHHHHH")
"""Id, flags, and the number of entries in the four sections."""

_FIXED: Final = Struct("!HHIH")


@dataclass(frozen=True, slots=True)
class Located:
    """Where a record stands in a message.

    :param section: 1 answer, 2 authority, 3 additional.
    :param start: offset of its owner.
    :param rdata: offset of its RDATA; *end* is behind it.
    """

    section: int
    start: int
    rdtype: int
    rdclass: int
    ttl: int
    rdata: int
    end: int


def skip_name(message: bytes, offset: int) -> int:
    """The offset behind a name; :raises RecordError: truncated, or a reserved label type."""
    try:
        while length := message[offset]:
            if length >= 192:
                offset += 1
                break
            if length > 63:
                raise RecordError("a label has a reserved type")
            offset += length + 1
    except IndexError:
        raise RecordError("a name is truncated") from None
    if offset >= len(message):
        raise RecordError("a name is truncated")
    return offset + 1


def skip_question(message: bytes, count: int) -> int:
    """The offset behind *count* questions; :raises RecordError: truncated."""
    offset = 12
    for _ in range(count):
        offset = skip_name(message, offset) + 4
    if offset > len(message):
        raise RecordError("the question section is truncated")
    return offset


def records(message: bytes, *, sections: int = 3) -> Iterator[Located]:
    """All records of the first *sections* of answer, authority and additional.

    :raises RecordError: truncated.
    """
    try:
        counts = HEADER.unpack_from(message)
    except error:
        raise RecordError("the header is truncated") from None
    offset = skip_question(message, counts[2])
    size = len(message)
    for section in range(1, sections + 1):
        for _ in range(counts[2 + section]):
            start = offset
            offset = skip_name(message, offset)
            if offset + 10 > size:
                raise RecordError("a record is truncated")
            rdtype, rdclass, ttl, length = _FIXED.unpack_from(message, offset)
            rdata = offset + 10
            offset = rdata + length
            if offset > size:
                raise RecordError("a record is truncated")
            yield Located(section, start, rdtype, rdclass, ttl, rdata, offset)
