"""The form in which zones are kept over restarts: the records of one owner as octets, and what a change rewrites.

A zone has two parts: the *incoming* version, as it came from its primary, and the *outgoing* one, as it is published.
Kept are all owners of the incoming version, and those of the outgoing one that differ from it: for a merged zone that
is the apex, for a signed zone every signed name.  An owner is known by its sort key relative to the apex
(:func:`mpcore.zone.owners.relative_key`), so that a table ordered by it lists a zone in canonical order.

The records of an owner are type (2 octets), TTL (4), length (2) and RDATA each, types ascending; no octets at all say
that the outgoing version does not have the owner.  This form stays as it is, whatever becomes of the form in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

from mpcore.errors import ZoneError
from mpcore.zone import owners, packed
from mpcore.zone.rrset import RRset
from mpcore.zone.version import Change, ZoneBuilder, ZoneVersion

__all__ = ("INCOMING", "OUTGOING", "Row", "decode_node", "read_versions", "rows_between")

INCOMING: Final = 0
"""Part: the version from the primary."""
OUTGOING: Final = 1
"""Part: what the published version has otherwise."""

Row: TypeAlias = tuple[int, bytes, bytes | None]
"""Part, sort key, records; ``None`` removes the row."""

_HEAD: Final = struct.Struct("!HIH")


def _encode(blob: bytes | None) -> bytes:
    if blob is None:
        return b""
    parts: list[bytes] = []
    for rrset in packed.unpack(blob).values():
        for rdata in rrset.rdatas:
            parts += (_HEAD.pack(rrset.rdtype, rrset.ttl, len(rdata)), rdata)
    return b"".join(parts)


def decode_node(octets: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, TTL and RDATA of each record of an owner.

    :raises ZoneError: the octets are damaged.
    """
    offset = 0
    while offset < len(octets):
        try:
            rdtype, ttl, length = _HEAD.unpack_from(octets, offset)
        except struct.error:
            raise ZoneError("records that were kept are damaged") from None
        offset += _HEAD.size
        if offset + length > len(octets):
            raise ZoneError("records that were kept are damaged")
        yield rdtype, ttl, octets[offset : offset + length]
        offset += length


def _changed(old: ZoneVersion | None, new: ZoneVersion) -> Iterator[tuple[bytes, bytes | None]]:
    if old is None:
        yield from new.nodes()
    elif old is not new:
        for owner, _, after in old.changed_nodes(new):
            yield owner, after


def rows_between(
    old_incoming: ZoneVersion | None,
    old_outgoing: ZoneVersion | None,
    incoming: ZoneVersion,
    outgoing: ZoneVersion | None,
) -> Iterator[Row]:
    """The rows to write where the old versions are kept and the new ones shall be; the cost is that of the change.

    :param old_incoming: ``None``: nothing is kept.
    :param old_outgoing: ``None``: nothing was published, which is kept like a published version that is the incoming
        one.
    """
    origin = incoming.origin
    old_out, out = old_outgoing or old_incoming, outgoing or incoming
    for owner, blob in _changed(old_incoming, incoming):
        key = owners.relative_key(owner, origin)
        assert key is not None
        yield INCOMING, key, None if blob is None else _encode(blob)
        published = out.packed_node(owner)
        if published == (None if old_out is None else old_out.packed_node(owner)):
            yield OUTGOING, key, None if published == blob else _encode(published)
    for owner, blob in _changed(old_out, out):
        key = owners.relative_key(owner, origin)
        assert key is not None
        if old_out is None and blob == incoming.packed_node(owner):
            continue  # nothing is kept, nothing to remove
        yield OUTGOING, key, None if blob == incoming.packed_node(owner) else _encode(blob)


def read_versions(
    origin: bytes, incoming: Iterable[tuple[bytes, bytes]], outgoing: Iterable[tuple[bytes, bytes]]
) -> tuple[ZoneVersion, ZoneVersion]:
    """The two versions that rows make, which share memory where they are equal; takes time for the whole zone.

    :param incoming: sort keys and records of the incoming version, in order of keys.
    :param outgoing: what the outgoing version has otherwise, in order of keys.
    :raises ZoneError: they are damaged, or do not make a zone.
    """
    builder = ZoneBuilder(origin)
    kept: list[tuple[bytes, bytes]] = []
    names = 0
    for key, octets in incoming:
        kept.append((key, octets))
        names += 1
        owner = owners.owner_of_key(key, origin)
        for rdtype, ttl, rdata in decode_node(octets):
            builder.add(owner, rdtype, ttl, rdata)
    version = builder.finish()
    others = list(outgoing)
    if not others:
        return version, version
    if 8 * len(others) < names:
        return version, version.update(_changes(version, others))
    # The last of an equal key wins: that of the outgoing version.
    rows = merge(((key, 0, octets) for key, octets in kept), ((key, 1, octets) for key, octets in others))
    for key, group in groupby(rows, itemgetter(0)):
        *_, (_, _, octets) = group
        owner = owners.owner_of_key(key, origin)
        for rdtype, ttl, rdata in decode_node(octets):
            builder.add(owner, rdtype, ttl, rdata)
    return version, builder.finish()


def _changes(version: ZoneVersion, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[Change]:
    for key, octets in rows:
        owner = owners.owner_of_key(key, version.origin)
        found: dict[int, tuple[int, list[bytes]]] = {}
        for rdtype, ttl, rdata in decode_node(octets):
            found.setdefault(rdtype, (ttl, []))[1].append(rdata)
        for rdtype in version.types(owner):
            if rdtype not in found:
                yield owner, rdtype, None
        for rdtype, (ttl, rdatas) in found.items():
            yield owner, rdtype, RRset.make(rdtype, ttl, rdatas)
