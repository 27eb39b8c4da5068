"""Answers taken apart for comparison: whatever two servers may differ in, as single facts."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dns.name
import dns.rdata
import dns.rdatatype

from tests.peers.answer_corpus import Query

__all__ = ("Channel", "Difference", "Picture", "Record", "differences", "picture")

_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")
_NAMES = {2: "n", 5: "n", 6: "nn", 12: "n", 14: "nn", 15: "2n", 17: "nn", 18: "2n", 33: "6n", 39: "n"}
"""Where RDATA holds names that somebody may compress."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a message, names uncompressed, all letters lower case."""

    owner: bytes
    rdtype: int
    rdclass: int
    ttl: int
    rdata: bytes

    @property
    def covers(self) -> int:
        """Type covered, of an RRSIG."""
        return int.from_bytes(self.rdata[:2], "big") if self.rdtype == 46 else 0

    def __str__(self) -> str:
        owner = dns.name.from_wire(self.owner, 0)[0]
        rdtype = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.rdtype))
        try:
            value = dns.rdata.from_wire(self.rdclass, self.rdtype, self.rdata, 0, len(self.rdata))
            text = value.to_text()
        except Exception:
            text = self.rdata.hex()
        return f"{owner} {self.ttl} {rdtype} {text[:60]}"


@dataclass(slots=True)
class Picture:
    """A message taken apart."""

    rcode: int
    flags: int
    edns: tuple[int, int] | None
    """Version and flags of the OPT record."""
    options: frozenset[int]
    sections: tuple[frozenset[Record], frozenset[Record], frozenset[Record]]
    size: int
    repeated: bool
    """Whether a section has a record twice."""

    @property
    def truncated(self) -> bool:
        """The TC bit."""
        return bool(self.flags & 0x0200)


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact in which the answers to a query differ.

    :param program: whose answer ours is compared with.
    :param part: ``answer``, ``authority``, ``additional``, or another attribute of a :class:`Picture`.
    :param ours: the record if only ours has it, or our value.
    :param theirs: the record if only theirs has it, or their value.
    """

    query: Query
    program: str
    part: str
    ours: object
    theirs: object
    mine: Picture
    other: Picture

    def __str__(self) -> str:
        return f"{self.query}: {self.part}: ours {self.ours}, {self.program} {self.theirs}"


def _name(message: bytes, offset: int) -> tuple[bytes, int]:
    parts = []
    end = 0
    hops = 0
    while length := message[offset]:
        if length >= 192:
            end = end or offset + 2
            offset = (length & 63) << 8 | message[offset + 1]
            hops += 1
            assert hops < 128
        else:
            parts.append(message[offset : offset + length + 1])
            offset += length + 1
    return b"".join(parts).lower() + b"\0", end or offset + 1


def _rdata(message: bytes, rdtype: int, offset: int, length: int) -> bytes:
    layout = _NAMES.get(rdtype)
    if layout is None:
        return message[offset : offset + length].lower()
    parts = []
    end = offset + length
    for field in layout:
        if field == "n":
            name, offset = _name(message, offset)
            parts.append(name)
        else:
            parts.append(message[offset : offset + int(field)])
            offset += int(field)
    return b"".join([*parts, message[offset:end]])


def picture(message: bytes) -> Picture:
    """Take a message apart; fails on one that is malformed."""
    _, flags, questions, *counts = _HEADER.unpack_from(message)
    offset = 12
    for _ in range(questions):
        offset = _name(message, offset)[1] + 4
    sections: list[frozenset[Record]] = []
    edns = None
    options = set()
    rcode = flags & 15
    repeated = False
    for count in counts:
        records = []
        for _ in range(count):
            owner, offset = _name(message, offset)
            rdtype, rdclass, ttl, length = _FIXED.unpack_from(message, offset)
            offset += 10
            if rdtype == 41:
                edns = (ttl >> 16 & 255, ttl & 0xFFFF)
                rcode |= ttl >> 24 << 4
                position = offset
                while position < offset + length:
                    options.add(int.from_bytes(message[position : position + 2], "big"))
                    position += 4 + int.from_bytes(message[position + 2 : position + 4], "big")
            else:
                records.append(Record(owner, rdtype, rdclass, ttl, _rdata(message, rdtype, offset, length)))
            offset += length
        section = frozenset(records)
        repeated = repeated or len(section) != len(records)
        sections.append(section)
    assert offset == len(message), "octets behind the message"
    return Picture(rcode, flags & 0xFFF0, edns, frozenset(options), (*sections,), len(message), repeated)  # type: ignore[arg-type]


def differences(query: Query, program: str, mine: Picture, other: Picture) -> Iterator[Difference]:
    """All facts in which two answers differ."""
    for option in sorted(mine.options ^ other.options):
        ours_too = option in mine.options
        yield Difference(
            query, program, "option", option if ours_too else None, None if ours_too else option, mine, other
        )
    for part in ("rcode", "edns", "repeated"):
        ours, theirs = getattr(mine, part), getattr(other, part)
        if ours != theirs:
            yield Difference(query, program, part, ours, theirs, mine, other)
    for bit, part in ((0x8000, "qr"), (0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x80, "ra"), (0x40, "z")):
        if (mine.flags ^ other.flags) & bit:
            yield Difference(query, program, part, bool(mine.flags & bit), bool(other.flags & bit), mine, other)
    for bit, part in ((0x20, "ad"), (0x10, "cd")):
        if (mine.flags ^ other.flags) & bit:
            yield Difference(query, program, part, bool(mine.flags & bit), bool(other.flags & bit), mine, other)
    for part, ours, theirs in zip(("answer", "authority", "additional"), mine.sections, other.sections, strict=True):
        if ours != theirs:
            for record in ours - theirs:
                yield Difference(query, program, part, record, None, mine, other)
            for record in theirs - ours:
                yield Difference(query, program, part, None, record, mine, other)


class Channel:
    """A server asked over one TCP connection, pipelined, and one UDP socket."""

    def __init__(self, address: str, port: int) -> None:
        self._tcp = socket.create_connection((address, port), 10)
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._tcp.makefile("rb")
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.settimeout(10)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self._udp.connect((address, port))

    def close(self) -> None:
        """Close both."""
        self._file.close()
        self._tcp.close()
        self._udp.close()

    def send(self, queries: Sequence[tuple[Query, bytes]]) -> None:
        """Send a batch; at most a few dozen, or somebody's buffer is full."""
        self._tcp.sendall(
            b"".join([len(octets).to_bytes(2, "big") + octets for query, octets in queries if query.over_tcp])
        )
        for query, octets in queries:
            if not query.over_tcp:
                self._udp.send(octets)

    def receive(self, queries: Sequence[tuple[Query, bytes]]) -> list[bytes]:
        """The answers to a batch, in its order."""
        answers = {}
        for query, _ in queries:
            if query.over_tcp:
                octets = self._file.read(int.from_bytes(self._file.read(2), "big"))
            else:
                octets = self._udp.recv(65535)
            answers[octets[:2]] = octets
        return [answers[octets[:2]] for _, octets in queries]
