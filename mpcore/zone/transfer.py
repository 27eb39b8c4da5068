"""Zone transfer (AXFR, RFC 5936; IXFR, RFC 1995) from and to octets, without input and output.

:func:`axfr_messages` and :func:`ixfr_messages` yield the messages of an answer; :class:`InboundAxfr` and
:class:`InboundIxfr` are fed with those of one.  Signatures (TSIG) are put on and taken off outside, see
:mod:`mpcore.zone.tsig`.

What is taken for the answer to an IXFR request, record by record (RFC 1995, section 4):

===============  =================================  ==========================================================
state            record                             what follows
===============  =================================  ==========================================================
nothing seen     SOA of the newest version          *first*; if it stands alone in its message and is not newer
                                                    than the version here: done, nothing has changed
first            SOA of the version here            *removing*
first            any other                          the whole zone follows, as in AXFR
removing         SOA                                *adding*; the changes from there lead to its serial
removing         any other                          a record that the zone must have goes
adding           SOA of the newest version,         done
                 if that has been reached
adding           SOA of the version reached         *removing*
adding           any other                          a record that the zone must not have comes
===============  =================================  ==========================================================

Anything else is an error, and the caller asks for the whole zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final

import dns.rcode

from mpcore.errors import RecordError, TransferError, ZoneError
from mpcore.zone import _message, owners, packed
from mpcore.zone.journal import Delta
from mpcore.zone.rrset import MAX_TTL, RRset, canonical_rdata, expand_rdata
from mpcore.zone.serial import is_newer
from mpcore.zone.version import ZoneBuilder, ZoneVersion

__all__ = (
    "AXFR",
    "IXFR",
    "MESSAGE_SIZE",
    "InboundAxfr",
    "InboundIxfr",
    "axfr_messages",
    "axfr_query",
    "ixfr_messages",
    "ixfr_query",
)

AXFR: Final = 252
"""QTYPE of a full transfer."""
IXFR: Final = 251
"""QTYPE of an incremental transfer (RFC 1995)."""
MESSAGE_SIZE: Final = 16384
"""Octets of the messages of a transfer: compression reaches no farther (RFC 1035, section 4.1.4), and one is made in
well under a millisecond."""

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


def ixfr_query(version: ZoneVersion, query_id: int) -> bytes:
    """A request for what has changed since a version (RFC 1995, section 3).

    :param version: what the requester has.
    :param query_id: 0 to 65535.
    """
    rdata = version.soa.rdatas[0]
    head = _message.HEADER.pack(query_id, 0, 1, 0, 1, 0) + version.origin + b"\x00\xfb\x00\x01"
    return head + _POINTER + _FIXED.pack(_SOA, 1, version.soa.ttl, len(rdata)) + rdata


def axfr_messages(
    version: ZoneVersion,
    query: bytes,
    max_size: int = MESSAGE_SIZE,
    *,
    sign: Callable[[bytes], bytes] | None = None,
    reserve: int = 0,
) -> Iterator[bytes]:
    """The messages of a full transfer: SOA, everything else in canonical order, SOA.

    Every message repeats the question, and owners are compressed against it; RDATA is not compressed.

    :param version: what to transfer; it stays the same however long the iteration takes.
    :param query: the request; its id and question are repeated.
    :param max_size: octets that a message has at most, 512 to 65535, unless one record is larger.
    :param sign: applied to each message, in order, before it is yielded.
    :param reserve: octets to leave free for what *sign* adds, see :data:`mpcore.zone.tsig.TSIG_RESERVE`.
    :raises TransferError: the query's question is not the zone's name, or a record does not fit into a message.
    """
    return _messages(_stream(version), query, version.origin, max_size, sign, reserve)


def ixfr_messages(
    deltas: Sequence[Delta],
    query: bytes,
    max_size: int = MESSAGE_SIZE,
    *,
    sign: Callable[[bytes], bytes] | None = None,
    reserve: int = 0,
) -> Iterator[bytes]:
    """The messages of an incremental transfer: the newest SOA, the changes, the newest SOA.

    :param deltas: changes that follow each other, at least one; see :func:`mpcore.zone.journal.condense`.
    :param query: the request; the other parameters are those of :func:`axfr_messages`.
    :raises TransferError: the query has no question, or a record does not fit into a message.
    """
    try:
        origin = owners.read_name(query, 12, compressed=False)[0].lower()
    except RecordError as error:
        raise TransferError(f"the request does not parse: {error}") from None
    return _messages(_changes(deltas, len(origin)), query, origin, max_size, sign, reserve)


def _messages(
    runs: Iterator[tuple[bytes, bytes, int, int]],
    query: bytes,
    origin: bytes,
    max_size: int,
    sign: Callable[[bytes], bytes] | None,
    reserve: int,
) -> Iterator[bytes]:
    try:
        query_id, flags, questions, *_ = _message.HEADER.unpack_from(query)
        qname, end = owners.read_name(query, 12, compressed=False)
        question = query[12 : end + 4]
    except (RecordError, StructError) as error:
        raise TransferError(f"the request does not parse: {error}") from None
    if questions != 1 or qname.lower() != origin or len(question) != len(qname) + 4:
        raise TransferError("the request is not for this zone")
    flags = 0x8400 | (flags & 0x0100)
    base = 12 + len(question)
    room = max_size - reserve
    largest = 65535 - reserve

    def message(pieces: list[bytes], count: int) -> bytes:
        octets = b"".join([_message.HEADER.pack(query_id, flags, 1, count, 0, 0), question, *pieces])
        return octets if sign is None else sign(octets)

    pieces: list[bytes] = []
    size, count = base, 0
    for owner, blob, start, end in runs:
        name = owner
        while start < end:
            stop = start + 12 + (blob[start + 10] << 8 | blob[start + 11])
            length = len(name) + stop - start - 2
            if size + length > room and (count or size + length > largest):
                if not count:
                    raise TransferError(f"a record of {owners.to_text(owner[:-2] + origin)} does not fit in a message")
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


def _changes(deltas: Sequence[Delta], suffix: int) -> Iterator[tuple[bytes, bytes, int, int]]:
    """The records of an incremental transfer in order, in the form of :func:`_stream`."""

    def soa(rrset: RRset) -> tuple[bytes, bytes, int, int]:
        rdata = rrset.rdatas[0]
        record = _POINTER + _FIXED.pack(_SOA, 1, rrset.ttl, len(rdata)) + rdata
        return _POINTER, record, 0, len(record)

    yield soa(deltas[-1].new_soa)
    for delta in deltas:
        for boundary, records in ((delta.old_soa, delta.removed), (delta.new_soa, delta.added)):
            yield soa(boundary)
            for owner, rdtype, ttl, rdata in records:
                record = _POINTER + _FIXED.pack(rdtype, 1, ttl, len(rdata)) + rdata
                yield owner[:-suffix] + _POINTER, record, 0, len(record)
    yield soa(deltas[-1].new_soa)


def _stream(version: ZoneVersion) -> Iterator[tuple[bytes, bytes, int, int]]:
    """Runs of records in the order of a transfer: owner (its part in the zone, then a pointer), octets, span."""
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
    for names in version.names_below_apex():
        for labels, blob in names:
            yield labels + _POINTER, blob, 2 + 8 * (blob[0] << 8 | blob[1]), len(blob)
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
        self.record_count = 0
        """Records of the messages taken."""
        self._builder = ZoneBuilder(origin)
        self._sink: Callable[[bytes, int, int, bytes], None] = self._builder.add
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
        for _ in self.steps(octets):
            pass
        return self.done

    def steps(self, octets: bytes, records: int = 200) -> Iterator[None]:
        """Like :meth:`feed`, but stops after every so many records, for those who have other things to do.

        :param records: about half a millisecond for the default.
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
            yield from self._take(octets, offset, answers, records)
        except RecordError as error:
            raise TransferError(f"message {self._messages + 1} of the transfer: {error}") from None
        self._messages += 1
        self.record_count += answers
        self._message_taken(answers)

    def _check_question(self, octets: bytes, questions: int) -> int:
        if questions > 1 or (questions == 0 and not self._messages and len(octets) == 12):
            raise TransferError("an answer without, or with more than one, question")
        if not questions:
            return 12
        name, offset = owners.read_name(octets, 12)
        if name.lower() != self.origin or octets[offset : offset + 4] not in (b"\x00\xfc\x00\x01", b"\x00\xfb\x00\x01"):
            raise TransferError("an answer to another question")
        return offset + 4

    def _take(self, octets: bytes, offset: int, answers: int, pause: int) -> Iterator[None]:
        self._records_left -= answers
        if self._records_left < 0:
            raise TransferError("the transfer has more records than allowed")
        size = len(octets)
        origin = self.origin
        names: dict[int, bytes] = {12: origin}
        if octets[12 : 12 + len(origin)].lower() != origin:
            names.clear()
        unpack = _FIXED.unpack_from
        sink = self._sink
        last = b""  # the owner that was last found to be in the zone
        for number in range(1, answers + 1):
            if self.done:
                raise TransferError("records after the closing SOA")
            if number % pause == 0:
                yield
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
            elif (
                offset + 1 < size
                and 0 < (length := octets[offset]) < 64
                and octets[offset + length + 1 : offset + length + 3] == _POINTER
                and 12 in names
                and length + len(origin) < 255
            ):  # one label below the apex, as most owners are
                owner = names[start] = last = octets[offset : offset + length + 1].lower() + origin
                offset += length + 3
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
            if ttl > MAX_TTL:
                ttl = 0
            if rdtype == _SOA and owner == origin:
                self._start_of_authority(ttl, rdata, answers)
                sink = self._sink
                continue
            if not self._soa:
                raise TransferError("the transfer does not begin with the zone's SOA")
            if owner is not last:
                if not owners.is_subdomain(owner, origin):
                    raise TransferError(f"{owners.to_text(owner)} is not in {owners.to_text(origin)}")
                last = owner
            sink(owner, rdtype, ttl, rdata)

    def _start_of_authority(self, ttl: int, rdata: bytes, answers: int) -> None:
        """An SOA of the zone: the first record, or the last."""
        if self._soa:
            if rdata[-20:] != self._soa[-20:]:
                raise TransferError("the closing SOA differs from the first")
            self.done = True
        else:
            self._soa = rdata
            self.serial = int.from_bytes(rdata[-20:-16], "big")
            self._builder.add(self.origin, _SOA, ttl, rdata)

    def _message_taken(self, answers: int) -> None:
        """All records of a message were taken."""


class InboundIxfr(InboundAxfr):
    """Collects the changes since a version from the messages of the answer to :func:`ixfr_query`.

    The answer may also be the whole zone, or say that nothing has changed (RFC 1995, section 4).

    :param base: the version that the request named.
    :param query_id: id of the request.
    :param max_records: most records accepted.
    :param max_octets: most octets of messages accepted.
    """

    def __init__(
        self, base: ZoneVersion, query_id: int, *, max_records: int = 20_000_000, max_octets: int = 4_000_000_000
    ) -> None:
        super().__init__(base.origin, query_id, max_records=max_records, max_octets=max_octets)
        self.base = base
        self.incremental = False
        """Whether the answer consists of changes; once its second record was seen."""
        self._sink = self._whole_zone
        self._first_ttl = 0
        self._reached: bytes = base.soa.rdatas[0]
        self._adding = False
        self._open: dict[tuple[bytes, int], tuple[int, dict[bytes, bytes]]] = {}

    @property
    def version(self) -> ZoneVersion:
        """The zone, the *base* itself if nothing has changed.

        :raises TransferError: the transfer is not complete, or the zone breaks a rule.
        """
        if self._version is None and self.done and self.incremental:
            try:
                self._version = self._changed()
            except (ZoneError, RecordError) as error:
                raise TransferError(f"the changed zone is not usable: {error}") from error
        return super().version

    def _changed(self) -> ZoneVersion:
        changes: list[tuple[bytes, int, RRset | None]] = [
            (owner, rdtype, RRset.make(rdtype, ttl, held.values()) if held else None)
            for (owner, rdtype), (ttl, held) in self._open.items()
        ]
        changes.append((self.origin, _SOA, RRset(_SOA, self._first_ttl, (self._soa,))))
        return self.base.update(changes)

    def _whole_zone(self, owner: bytes, rdtype: int, ttl: int, rdata: bytes) -> None:
        """The second record is no SOA: what follows is the whole zone."""
        self._sink = self._builder.add
        self._sink(owner, rdtype, ttl, rdata)

    def _start_of_authority(self, ttl: int, rdata: bytes, answers: int) -> None:
        if not self._soa:
            super()._start_of_authority(ttl, rdata, answers)
            self._first_ttl = ttl
        elif not self.incremental:
            if self._sink == self._builder.add or rdata[-20:] == self._soa[-20:]:
                super()._start_of_authority(ttl, rdata, answers)
            elif rdata == self._reached:
                self.incremental = True
                self._sink = self._remove
            else:
                raise TransferError("the changes do not begin with the version that is here")
        elif not self._adding:
            self._adding, self._sink, self._reached = True, self._add, rdata
        elif self._reached[-20:] == self._soa[-20:] and rdata[-20:] == self._soa[-20:]:
            self.done = True
        elif rdata == self._reached:
            self._adding, self._sink = False, self._remove
        else:
            raise TransferError("the changes do not follow each other")

    def _message_taken(self, answers: int) -> None:
        alone = self._messages == 1 and answers == 1 and self.serial is not None
        if alone and not is_newer(self.serial or 0, self.base.serial):
            self.done, self._version = True, self.base

    def _held(self, owner: bytes, rdtype: int) -> tuple[int, dict[bytes, bytes]]:
        held = self._open.get((owner, rdtype))
        if held is None:
            rrset = self.base.get(owner, rdtype)
            records = {} if rrset is None else {canonical_rdata(rdtype, rdata): rdata for rdata in rrset.rdatas}
            held = self._open[owner, rdtype] = (0 if rrset is None else rrset.ttl, records)
        return held

    def _remove(self, owner: bytes, rdtype: int, ttl: int, rdata: bytes) -> None:
        if self._held(owner, rdtype)[1].pop(canonical_rdata(rdtype, rdata), None) is None:
            raise TransferError(f"a record of {owners.to_text(owner)} is removed that is not here")

    def _add(self, owner: bytes, rdtype: int, ttl: int, rdata: bytes) -> None:
        records = self._held(owner, rdtype)[1]
        key = canonical_rdata(rdtype, rdata)
        if key in records:
            raise TransferError(f"a record of {owners.to_text(owner)} is added that is here already")
        records[key] = rdata
        self._open[owner, rdtype] = (ttl, records)
