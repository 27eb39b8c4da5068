"""The few DNS messages that this room reads and writes itself, as octets (RFC 1035, section 4)."""

from __future__ import annotations

import struct

from mpcore.errors import ExchangeError

__all__ = (
    "AXFR",
    "FORMERR",
    "IXFR",
    "NOERROR",
    "NOTAUTH",
    "NOTIFY",
    "NOTIMP",
    "NXDOMAIN",
    "QUERY",
    "REFUSED",
    "SERVFAIL",
    "SOA",
    "UPDATE",
    "counts",
    "empty_reply",
    "make_query",
    "name_end",
    "question_end",
    "rcode_of",
    "read_soa",
    "requested_payload",
    "skip_record",
    "truncated_reply",
)

QUERY, NOTIFY, UPDATE = 0, 4, 5  # opcodes
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH = 0, 1, 2, 3, 4, 5, 9  # RCODEs
SOA, OPT, IXFR, AXFR, _IN = 6, 41, 251, 252, 1

_COUNTS = struct.Struct("!HHHH")
_RECORD = struct.Struct("!HHIH")
_SERIAL = struct.Struct("!IIIII")


class _Short(ExchangeError):
    def __init__(self) -> None:
        super().__init__("the message ends inside a record")


def counts(octets: bytes) -> tuple[int, int, int, int]:
    """Numbers of records in the four sections, of a message of at least 12 octets."""
    return _COUNTS.unpack_from(octets, 4)


def rcode_of(octets: bytes) -> int:
    """RCODE in the header (4 bits) of a message of at least 12 octets."""
    return octets[3] & 0x0F


def question_end(octets: bytes) -> int | None:
    """Index after the first question, whose name must be uncompressed; ``None`` if there is no well-formed one."""
    position, size = 12, len(octets)
    while position < size:
        length = octets[position]
        if length == 0:
            position += 5
            return position if position <= size and position <= 12 + 255 + 4 else None
        if length > 63:
            return None
        position += length + 1
    return None


def name_end(octets: bytes, position: int) -> int:
    """Index after the possibly compressed name at *position*.

    :raises ExchangeError: the message ends inside the name, or a label has an unknown type.
    """
    start = position
    while position < len(octets) and position - start < 256:
        length = octets[position]
        if length == 0:
            return position + 1
        if length & 0xC0 == 0xC0:
            return position + 2
        if length > 63:
            raise ExchangeError("a label has an unknown type")
        position += length + 1
    raise _Short


def skip_record(octets: bytes, position: int) -> tuple[int, int, int]:
    """Type, index of the RDATA, and index after the record at *position*.

    :raises ExchangeError: the message ends inside the record.
    """
    position = name_end(octets, position)
    if position + 10 > len(octets):
        raise _Short
    rdtype, _, _, length = _RECORD.unpack_from(octets, position)
    end = position + 10 + length
    if end > len(octets):
        raise _Short
    return rdtype, position + 10, end


def requested_payload(octets: bytes) -> int:
    """Octets that the sender of a query takes over UDP (RFC 6891, section 6.2.3): 512 without an OPT record."""
    end = question_end(octets)
    if end is None or len(octets) < 12:
        return 512
    _, answers, authorities, additionals = counts(octets)
    position = end
    try:
        for index in range(answers + authorities + additionals):
            rdtype, rdata, after = skip_record(octets, position)
            if rdtype == OPT and index >= answers + authorities:
                return max(512, octets[rdata - 8] << 8 | octets[rdata - 7])
            position = after
    except ExchangeError:
        pass
    return 512


def empty_reply(octets: bytes, rcode: int, *, authoritative: bool = False, question: bool = True) -> bytes:
    """A reply without records to the request *octets* (at least 12 octets).

    :param rcode: 0 to 15.
    :param question: repeat the first question; left out too when it is malformed.
    """
    end = question_end(octets) if question and octets[4:6] == b"\0\1" else None
    first = 0x80 | (octets[2] & 0x79) | (0x04 if authoritative else 0)  # QR, opcode and RD of the request
    header = octets[:2] + bytes((first, (octets[3] & 0x10) | rcode & 0x0F))  # CD of the request
    if end is None:
        return header + b"\0\0\0\0\0\0\0\0"
    return header + b"\0\1\0\0\0\0\0\0" + octets[12:end]


def truncated_reply(reply: bytes) -> bytes:
    """*reply* cut down to header and question, with TC set (RFC 2181, section 9)."""
    end = question_end(reply) if reply[4:6] == b"\0\1" else None
    header = reply[:2] + bytes((reply[2] | 0x02, reply[3]))
    if end is None:
        return header + b"\0\0\0\0\0\0\0\0"
    return header + b"\0\1\0\0\0\0\0\0" + reply[12:end]


def make_query(
    query_id: int, owner: bytes, rdtype: int, *, opcode: int = QUERY, authoritative: bool = False, answer: bytes = b""
) -> bytes:
    """A query or NOTIFY of class IN without EDNS.

    :param query_id: 0 to 65535.
    :param owner: name asked for, uncompressed.
    :param answer: one encoded record for the answer section (SOA of a NOTIFY), or nothing.
    """
    first = opcode << 3 | (0x04 if authoritative else 0)
    header = struct.pack("!HBBHHHH", query_id, first, 0, 1, 1 if answer else 0, 0, 0)
    return header + owner + struct.pack("!HH", rdtype, _IN) + answer


def read_soa(octets: bytes) -> int | None:
    """Serial of the first SOA record in the answer section; ``None`` if it has none.

    :raises ExchangeError: the message is malformed.
    """
    if len(octets) < 12:
        raise _Short
    questions, answers, _, _ = counts(octets)
    position = 12
    for _ in range(questions):
        position = name_end(octets, position) + 4
    for _ in range(answers):
        rdtype, rdata, after = skip_record(octets, position)
        if rdtype == SOA:
            fixed = name_end(octets, name_end(octets, rdata))
            if fixed + 20 != after:
                raise ExchangeError("an SOA record of wrong length")
            serial: int = _SERIAL.unpack_from(octets, fixed)[0]
            return serial
        position = after
    return None
