"""Zone transfer (AXFR, RFC 5936) from and to octets, without input and output.

:func:`axfr_messages` yields the messages of an answer; :class:`InboundAxfr` is fed with those of one.  Signatures
(TSIG) are put on and taken off outside, see :mod:`mpcore.zone.tsig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from struct import error as StructError
from typing import Final

import dns.rcode

from mpcore.errors import RecordError, TransferError, ZoneError
from mpcore.zone import _message, owners, packed
from mpcore.zone.rrset import MAX_TTL, expand_rdata
from mpcore.zone.version import ZoneBuilder, ZoneVersion

__all__ = ("AXFR", "IXFR", "InboundAxfr", "axfr_messages", "axfr_query")

AXFR: Final = 252
"""QTYPE of a full transfer."""
IXFR: Final = 251
"""QTYPE of an incremental transfer (RFC 1995)."""

_SOA: Final = 6
_FIXED: Final = Struct("!HHIH")
_POINTER: Final = b"\xc0\x0c"
_SOA_MIN: Final = 22  # two root names and five numbers


def axfr_query(origin: bytes, query_id: int, qtype: int = AXFR) -> bytes:
    """A request for the transfer of a zone.

    :param origin: apex of the zone, wire octets.
    :param query_id: 0 to 65535.
    """
    return _message.HEADER.pack(query_id, 0, 1, 0, 0, 0) + origin + qtype.to_bytes(2, "big") + b"\x00\x01"


def axfr_messages(
    version: ZoneVersion,
    query: bytes,
    max_size: int = 65535,
    *,
    sign: Callable[[bytes], bytes] | None = None,
    reserve: int = 0,
) -> Iterator[bytes]:
    """The messages of a full transfer: SOA, everything else in canonical order, SOA.

    Every message repeats the question, and owners are compressed against it; RDATA is not compressed.

    :param version: what to transfer; it stays the same however long the iteration takes.
    :param query: the request; its id and question are repeated.
    :param max_size: most octets of a message, 512 to 65535.
    :param sign: applied to each message, in order, before it is yielded.
    :param reserve: octets to leave free for what *sign* adds, see :data:`mpcore.zone.tsig.TSIG_RESERVE`.
    :raises TransferError: the query's question is not the zone's name, or a record does not fit into a message.
    """
    try:
        query_id, flags, questions, *_ = _message.HEADER.unpack_from(query)
        qname, end = owners.read_name(query, 12, compressed=False)
        question = query[12 : end + 4]
    except (RecordError, StructError) as error:
        raise TransferError(f"the request does not parse: {error}") from None
    if questions != 1 or qname.lower() != version.origin or len(question) != len(qname) + 4:
        raise TransferError("the request is not for this zone")
    flags = 0x8400 | (flags & 0x0100)
    base = 12 + len(question)
    room = max_size - reserve

    def message(pieces: list[bytes], count: int) -> bytes:
        octets = b"".join([_message.HEADER.pack(query_id, flags, 1, count, 0, 0), question, *pieces])
        return octets if sign is None else sign(octets)

    pieces: list[bytes] = []
    size, count = base, 0
    for owner, blob, start, end in _stream(version):
        name = owner
        while start < end:
            stop = start + 12 + (blob[start + 10] << 8 | blob[start + 11])
            length = len(name) + stop - start - 2
            if size + length > room:
                if not count:
                    raise TransferError(f"a record of {owners.to_text(owner)} does not fit into a message")
                yield message(pieces, count)
                pieces, size, count = [], base, 0
                name = owner
                continue
            pieces.append(name)
            pieces.append(blob[start + 2 : stop])
            if len(name) > 2 and size < 0x4000:
                name = (0xC000 | size).to_bytes(2, "big")
            size += length
            count += 1
            start = stop
    yield message(pieces, count)


def _stream(version: ZoneVersion) -> Iterator[tuple[bytes, bytes, int, int]]:
    """Runs of records in the order of a transfer: owner (its part in the zone, then a pointer), octets, span."""
    suffix = len(version.origin)
    apex = version.packed_node(version.origin)
    assert apex is not None
    found = packed.find(apex, _SOA)
    assert found is not None
    _, start, end = found
    yield _POINTER, apex, start, end
    first = packed.start(apex)
    if first < start:
        yield _POINTER, apex, first, start
    if end < len(apex):
        yield _POINTER, apex, end, len(apex)
    nodes = version.nodes()
    next(nodes)
    for owner, blob in nodes:
        yield owner[:-suffix] + _POINTER, blob, packed.start(blob), len(blob)
    yield _POINTER, apex, start, end


class InboundAxfr:
    """Collects a full transfer from the messages of its answer.

    :param origin: apex of the zone, canonical wire octets.
    :param query_id: id of the request.
    :param max_records: most records accepted.
    :param max_octets: most octets of messages accepted.
    """

    def __init__(
        self, origin: bytes, query_id: int, *, max_records: int = 20_000_000, max_octets: int = 4_000_000_000
    ) -> None:
        self.origin, self.query_id = origin, query_id
        self.serial: int | None = None
        """Serial of the version that is being transferred, once the first record was seen."""
        self.done = False
        """Whether the closing SOA was seen."""
        self._builder = ZoneBuilder(origin)
        self._records_left, self._octets_left = max_records, max_octets
        self._messages = 0
        self._soa: bytes = b""
        self._version: ZoneVersion | None = None

    @property
    def version(self) -> ZoneVersion:
        """The zone.  The first use builds it, which takes time in proportion to its size.

        :raises TransferError: the transfer is not complete, or the zone breaks a rule.
        """
        if self._version is None:
            if not self.done:
                raise TransferError(f"the transfer of {owners.to_text(self.origin)} is not complete")
            try:
                self._version = self._builder.finish()
            except ZoneError as error:
                raise TransferError(f"the transferred zone is not usable: {error}") from error
        return self._version

    def feed(self, octets: bytes) -> bool:
        """Take the next message.

        :param octets: one message, without length prefix and TSIG.
        :return: whether the transfer is complete.
        :raises TransferError: refused, malformed, out of bounds, or not an answer to the request.
        """
        if self.done:
            raise TransferError("a message after the end of the transfer")
        self._octets_left -= len(octets)
        if self._octets_left < 0:
            raise TransferError("the transfer is larger than allowed")
        if len(octets) < 12:
            raise TransferError("a message without a header")
        ident, flags, questions, answers, _, _ = _message.HEADER.unpack_from(octets)
        if ident != self.query_id:
            raise TransferError("a message with another id")
        if flags & 0xF800 != 0x8000:
            raise TransferError("a message that is not an answer to a query")
        if flags & 0x0F:
            raise TransferError(f"the primary answered {dns.rcode.to_text(dns.rcode.Rcode.make(flags & 0x0F))}")
        if flags & 0x0200:
            raise TransferError("a truncated message")
        try:
            offset = self._check_question(octets, questions)
            self._take(octets, offset, answers)
        except RecordError as error:
            raise TransferError(f"message {self._messages + 1} of the transfer: {error}") from None
        self._messages += 1
        return self.done

    def _check_question(self, octets: bytes, questions: int) -> int:
        if questions > 1 or (questions == 0 and not self._messages and len(octets) == 12):
            raise TransferError("an answer without, or with more than one, question")
        if not questions:
            return 12
        name, offset = owners.read_name(octets, 12)
        if name.lower() != self.origin or octets[offset : offset + 4] not in (b"\x00\xfc\x00\x01", b"\x00\xfb\x00\x01"):
            raise TransferError("an answer to another question")
        return offset + 4

    def _take(self, octets: bytes, offset: int, answers: int) -> None:
        self._records_left -= answers
        if self._records_left < 0:
            raise TransferError("the transfer has more records than allowed")
        size = len(octets)
        names: dict[int, bytes] = {12: self.origin}
        if octets[12 : 12 + len(self.origin)].lower() != self.origin:
            names.clear()
        unpack = _FIXED.unpack_from
        add = self._builder.add
        known: set[bytes] = set()
        owner = b""
        for _ in range(answers):
            if self.done:
                raise TransferError("records after the closing SOA")
            start = offset
            if offset + 1 < size and octets[offset] >= 192:
                target = (octets[offset] & 63) << 8 | octets[offset + 1]
                if target >= offset:
                    raise RecordError("a compression pointer does not lead backwards")
                offset += 2
                found = names.get(target)
                if found is None:
                    found = names[target] = owners.read_name(octets, target)[0].lower()
                owner = found
            else:
                owner, offset = owners.read_name(octets, offset)
                owner = names[start] = owner.lower()
            if offset + 10 > size:
                raise RecordError("a record is truncated")
            rdtype, rdclass, ttl, length = unpack(octets, offset)
            offset += 10
            if offset + length > size:
                raise RecordError("a record is truncated")
            if rdclass != 1:
                raise RecordError(f"a record of class {rdclass}")
            if rdtype in (0, 41) or 128 <= rdtype <= 255:
                raise RecordError(f"a record of type {rdtype}, which no zone can hold")
            if rdtype == 1 and length == 4:
                rdata = octets[offset : offset + 4]
            else:
                rdata = expand_rdata(rdtype, octets, offset, length)
            offset += length
            if rdtype == _SOA and owner == self.origin:
                if self._soa:
                    self._close(rdata)
                    continue
                self._soa = rdata
                self.serial = int.from_bytes(rdata[-20:-16], "big")
            elif not self._soa:
                raise TransferError("the transfer does not begin with the zone's SOA")
            if owner not in known:
                if not owners.is_subdomain(owner, self.origin):
                    raise TransferError(f"{owners.to_text(owner)} is not in {owners.to_text(self.origin)}")
                known.add(owner)
            add(owner, rdtype, ttl if ttl <= MAX_TTL else 0, rdata)

    def _close(self, rdata: bytes) -> None:
        if rdata[-20:] != self._soa[-20:]:
            raise TransferError("the closing SOA differs from the first")
        self.done = True
