"""The records of one owner as one octet string, small in memory and ready to be sent.

Layout: the number of types (2 octets); for each type in ascending order type, number of records (2 octets each) and the
offset behind its last record (4 octets); then the records.  Each record begins with the compression pointer ``C0 0C``
to the name in the question of a message (RFC 1035, section 4.1.4), followed by type, class, TTL, length and RDATA: an
answer to a query for this owner is a slice of these octets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Final

from mpcore.zone.rrset import RRset, rrsig_ttl

__all__ = (
    "count",
    "find",
    "pack",
    "pack_records",
    "records",
    "signatures",
    "start",
    "types",
    "unpack",
    "unpack_one",
    "update",
)

_HEAD: Final = Struct("!HHHIH")  # pointer, type, class, TTL, RDATA length
_ENTRY: Final = Struct("!HHI")
_SINGLE: Final = Struct("!HHHI")
_ONE: Final = Struct("!HHHIHHHIH")
_POINTER: Final = 0xC00C
_RRSIG: Final = 46

_directories: Final = [Struct("!" + "HHI" * number) for number in range(64)]


def _directory(blob: bytes) -> tuple[int, ...]:
    number = blob[0] << 8 | blob[1]
    layout = _directories[number] if number < 64 else Struct("!" + "HHI" * number)
    return layout.unpack_from(blob, 2)


def _body(rrset: RRset) -> bytes:
    rdtype, ttl = rrset.rdtype, rrset.ttl
    if rdtype == _RRSIG:
        return b"".join([_HEAD.pack(_POINTER, 46, 1, rrsig_ttl(rdata), len(rdata)) + rdata for rdata in rrset.rdatas])
    return b"".join([_HEAD.pack(_POINTER, rdtype, 1, ttl, len(rdata)) + rdata for rdata in rrset.rdatas])


def _assemble(parts: list[tuple[int, int, bytes]]) -> bytes:
    if len(parts) == 1:
        rdtype, number, body = parts[0]
        return _SINGLE.pack(1, rdtype, number, 10 + len(body)) + body
    parts.sort()
    offset = 2 + 8 * len(parts)
    directory = [len(parts).to_bytes(2, "big")]
    bodies = []
    for rdtype, number, body in parts:
        offset += len(body)
        directory.append(_ENTRY.pack(rdtype, number, offset))
        bodies.append(body)
    return b"".join(directory + bodies)


def pack(node: Mapping[int, RRset]) -> bytes:
    """Pack the RRsets of one owner; at least one."""
    return _assemble([(rrset.rdtype, len(rrset.rdatas), _body(rrset)) for rrset in node.values()])


def pack_records(node: Mapping[int, tuple[int, list[bytes]]]) -> tuple[bytes, int]:
    """Pack the records of one owner, given as type -> (TTL, RDATA in any order, duplicates allowed).

    :return: the packed node and the number of records in it.
    :raises RecordError: see :meth:`mpcore.zone.rrset.RRset.make`.
    """
    if len(node) == 1:
        ((rdtype, (ttl, rdatas)),) = node.items()
        if len(rdatas) == 1 and rdtype != _RRSIG:
            size = len(rdatas[0])
            return _ONE.pack(1, rdtype, 1, 22 + size, _POINTER, rdtype, 1, ttl, size) + rdatas[0], 1
    parts = []
    total = 0
    for rdtype, (ttl, rdatas) in node.items():
        if len(rdatas) == 1 and rdtype != _RRSIG:
            parts.append((rdtype, 1, _HEAD.pack(_POINTER, rdtype, 1, ttl, len(rdatas[0])) + rdatas[0]))
            total += 1
        else:
            rrset = RRset.make(rdtype, ttl, rdatas)
            parts.append((rdtype, len(rrset.rdatas), _body(rrset)))
            total += len(rrset.rdatas)
    return _assemble(parts), total


def types(blob: bytes) -> tuple[int, ...]:
    """The types present, ascending."""
    return _directory(blob)[::3]


def count(blob: bytes) -> int:
    """Number of records."""
    return sum(_directory(blob)[1::3])


def start(blob: bytes) -> int:
    """Offset of the first record; the last one ends with the octets."""
    return 2 + 8 * (blob[0] << 8 | blob[1])


def find(blob: bytes, rdtype: int) -> tuple[int, int, int] | None:
    """Number of records of a type and the span of their octets, or ``None``."""
    directory = _directory(blob)
    begin = start(blob)
    for index in range(0, len(directory), 3):
        if directory[index] == rdtype:
            return directory[index + 1], begin, directory[index + 2]
        begin = directory[index + 2]
    return None


def signatures(blob: bytes, rdtype: int) -> tuple[int, int, int] | None:
    """Number and span of the RRSIG records that cover a type, or ``None``.

    They stand together, because RDATA is ordered and begins with the type covered.
    """
    found = find(blob, _RRSIG)
    if found is None:
        return None
    _, offset, end = found
    number, first, last = 0, 0, 0
    while offset < end:
        stop = offset + 12 + (blob[offset + 10] << 8 | blob[offset + 11])
        if blob[offset + 12] << 8 | blob[offset + 13] == rdtype:
            if not number:
                first = offset
            number += 1
            last = stop
        elif number:
            break
        offset = stop
    return (number, first, last) if number else None


def records(blob: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of the single records between two offsets, each without its pointer (type, class, TTL, length, RDATA)."""
    while begin < end:
        stop = begin + 12 + (blob[begin + 10] << 8 | blob[begin + 11])
        yield begin + 2, stop
        begin = stop


def _rrset(blob: bytes, rdtype: int, begin: int, end: int) -> RRset:
    ttl = int.from_bytes(blob[begin + 6 : begin + 10], "big")
    rdatas = tuple([blob[first + 10 : stop] for first, stop in records(blob, begin, end)])
    if rdtype == _RRSIG and len(rdatas) > 1:
        ttl = min(rrsig_ttl(rdata) for rdata in rdatas)
    return RRset(rdtype, ttl, rdatas)


def unpack_one(blob: bytes, rdtype: int) -> RRset | None:
    """The RRset of one type, or ``None``."""
    found = find(blob, rdtype)
    return None if found is None else _rrset(blob, rdtype, found[1], found[2])


def unpack(blob: bytes) -> dict[int, RRset]:
    """All RRsets, by ascending type."""
    directory = _directory(blob)
    begin = start(blob)
    result = {}
    for index in range(0, len(directory), 3):
        rdtype, end = directory[index], directory[index + 2]
        result[rdtype] = _rrset(blob, rdtype, begin, end)
        begin = end
    return result


def update(blob: bytes | None, changes: Mapping[int, RRset | None]) -> bytes | None:
    """Replace or remove (``None``) the RRsets of some types; ``None`` if nothing is left."""
    parts: list[tuple[int, int, bytes]] = []
    if blob is not None:
        directory = _directory(blob)
        begin = start(blob)
        for index in range(0, len(directory), 3):
            end = directory[index + 2]
            if directory[index] not in changes:
                parts.append((directory[index], directory[index + 1], blob[begin:end]))
            begin = end
    parts += [(rrset.rdtype, len(rrset.rdatas), _body(rrset)) for rrset in changes.values() if rrset is not None]
    return _assemble(parts) if parts else None
