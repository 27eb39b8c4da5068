"""The DNS messages around the payloads, read and written as octets (guide, wire format, "DNS messages").

======================  =============================================================================================
NOTIFY (RFC 1996)       one per peer message, over TCP: opcode 4, AA set, question ``<distribution id>.<sender> CHUNK
                        IN``, and an OPT record with option 65004 (the payload) or 65005 (where to fetch it)
response                the question copied, and on success an OPT record with option 65004 (the acknowledgement)
CHUNK query             a plain query for ``<sequence>.<receiver>.<distribution id>.<sender> CHUNK IN``
CHUNK answer            one CHUNK record of TTL 60
======================  =============================================================================================

Decoders look at every octet once, bound everything, and raise only :exc:`~mpcore.errors.FrameError`, whose ``rcode``
says how to answer.  A message that was decoded encodes again to the same octets, if it was spelled the usual way.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from mpcore.errors import FrameError, PolicyError, RecordError
from mpcore.records import CHUNK, CHUNK_ENDPOINT_OPTION, CHUNK_OPTION, CHUNK_TYPE, ChunkEndpointOption, ChunkOption

__all__ = (
    "FORMAT_CLEAR",
    "FORMAT_SEALED",
    "FORMERR",
    "MAX_MESSAGE",
    "NOERROR",
    "NOTIMP",
    "REFUSED",
    "SERVFAIL",
    "ChunkAnswer",
    "ChunkQuery",
    "Notify",
    "Response",
    "chunk_name",
    "decode_chunk_answer",
    "decode_chunk_query",
    "decode_notify",
    "decode_qname",
    "decode_response",
    "encode_chunk_answer",
    "encode_chunk_query",
    "encode_error",
    "encode_notify",
    "encode_response",
)

FORMAT_CLEAR: Final = 1
"""The data is JSON text."""

FORMAT_SEALED: Final = 2
"""The data is a sealed payload (see :mod:`mpcore.wire.seal`)."""

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NOTIMP: Final = 4
REFUSED: Final = 5

MAX_MESSAGE: Final = 65535
"""Most octets of a DNS message over TCP (RFC 1035, section 4.2.2)."""

CHUNK_TTL: Final = 60
"""TTL of a CHUNK record in an answer, seconds."""

_QUERY, _NOTIFY = 0, 4
_QR, _AA, _TC, _RD = 0x8000, 0x0400, 0x0200, 0x0100
_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")
_TYPE_CLASS = struct.pack("!HH", CHUNK_TYPE, 1)
_OPT: Final = 41
_CLASS_IN: Final = 1
_UDP_SIZE: Final = 4096
_DO: Final = 0x8000
_LABEL = re.compile(rb"[!#%-'*-\-/-:<-?A-\[\]-~]+\Z")
"""Octets that stand for themselves in a name in text: printable, none of ``" $ ( ) . ; @ \\``."""


# ------------------------------------------------------------------------------------------------------------ helpers


@dataclass(frozen=True, slots=True)
class _Header:
    id: int
    flags: int
    counts: tuple[int, int, int, int]

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15

    @property
    def rcode(self) -> int:
        return self.flags & 15


@contextmanager
def _unanswered() -> Iterator[None]:
    """Nobody answers an answer: every :exc:`FrameError` leaves with ``rcode`` ``None``."""
    try:
        yield
    except FrameError as error:
        raise FrameError(error.message, rcode=None) from None


def _read_header(octets: bytes) -> _Header:
    if len(octets) < _HEADER.size:
        raise FrameError("shorter than a header", rcode=None)
    if len(octets) > MAX_MESSAGE:
        raise FrameError("longer than a DNS message can be", rcode=None)
    ident, flags, *counts = _HEADER.unpack_from(octets)
    return _Header(ident, flags, (counts[0], counts[1], counts[2], counts[3]))


def _read_labels(octets: bytes, start: int) -> tuple[tuple[bytes, ...], int]:
    """The labels of the uncompressed name at *start* and the offset after it (RFC 1035, section 3.1)."""
    labels: list[bytes] = []
    at = start
    while True:
        if at >= len(octets):
            raise FrameError("a name runs out of the message")
        length = octets[at]
        if length > 63:
            raise FrameError("a name in the question is compressed")
        at += 1
        if length == 0:
            break
        label = octets[at : at + length]
        if len(label) != length:
            raise FrameError("a name runs out of the message")
        labels.append(label)
        at += length
        if at - start > 254:
            raise FrameError("a name is longer than 255 octets")
    return tuple(labels), at


def _read_question(octets: bytes) -> tuple[tuple[bytes, ...], int]:
    """The labels of the only question, which asks for CHUNK IN, and the offset after it."""
    labels, at = _read_labels(octets, _HEADER.size)
    if octets[at : at + 4] != _TYPE_CLASS:
        raise FrameError("the question is not for CHUNK IN")
    return labels, at + 4


def _skip_name(octets: bytes, at: int) -> int:
    """The offset after the name at *at*, which may end in a compression pointer; pointers are not followed."""
    while at < len(octets):
        length = octets[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
    raise FrameError("a name runs out of the message")


def _read_options(octets: bytes, at: int, records: int) -> tuple[dict[int, list[bytes]] | None, int]:
    """Walk *records* records to the very end of the message.

    Returns the options of the OPT record by code (``None``: there is no OPT record) and the upper bits of the RCODE.
    """
    options: dict[int, list[bytes]] | None = None
    extended = 0
    for _ in range(records):
        owner_is_root = octets[at : at + 1] == b"\0"
        at = _skip_name(octets, at)
        if at + _FIXED.size > len(octets):
            raise FrameError("a record runs out of the message")
        rdtype, _, ttl, length = _FIXED.unpack_from(octets, at)
        at += _FIXED.size
        end = at + length
        if end > len(octets):
            raise FrameError("a record runs out of the message")
        if rdtype == _OPT:
            if options is not None or not owner_is_root:
                raise FrameError("there is more than one OPT record, or its owner is not the root")
            if ttl >> 16 & 0xFF:
                raise FrameError("an EDNS version other than 0")
            options, extended = {}, ttl >> 24
            while at < end:
                if at + 4 > end:
                    raise FrameError("an EDNS option runs out of its record")
                code, size = struct.unpack_from("!HH", octets, at)
                at += 4
                if at + size > end:
                    raise FrameError("an EDNS option runs out of its record")
                options.setdefault(code, []).append(octets[at : at + size])
                at += size
        at = end
    if at != len(octets):
        raise FrameError("octets after the last record")
    return options, extended


def _payload(options: dict[int, list[bytes]] | None) -> tuple[int, bytes | None]:
    """Format and data of the first CHUNK option that parses; one that does not counts as absent."""
    for octets in (options or {}).get(CHUNK_OPTION, ()):
        try:
            option = ChunkOption.from_octets(octets)
        except RecordError:
            continue
        return option.format, option.data
    return 0, None


def _endpoint(options: dict[int, list[bytes]] | None) -> str | None:
    for octets in (options or {}).get(CHUNK_ENDPOINT_OPTION, ()):
        try:
            return ChunkEndpointOption.from_octets(octets).endpoint or None
        except RecordError:
            continue
    return None


def _name_text(labels: tuple[bytes, ...]) -> str:
    for label in labels:
        if not _LABEL.match(label):
            raise FrameError("a label has octets that would need an escape")
    return b".".join(labels).decode("ascii") + "."


def _name_octets(name: str) -> bytes:
    """The wire form of *name*, which has its trailing dot and no escapes.

    :raises PolicyError: it is not a name that can be sent.
    """
    octets = bytearray()
    try:
        labels = name.encode("ascii").removesuffix(b".").split(b".")
    except UnicodeEncodeError:
        raise PolicyError(f"{name!r} cannot be sent as a name") from None
    for label in labels:
        if len(label) > 63 or not _LABEL.match(label):
            raise PolicyError(f"{name!r} cannot be sent as a name")
        octets.append(len(label))
        octets += label
    if len(octets) > 254:
        raise PolicyError(f"{name!r} is longer than a name may be")
    return bytes(octets) + b"\0"


def _opt(ttl: int, options: list[tuple[int, bytes]]) -> bytes:
    rdata = b"".join(struct.pack("!HH", code, len(data)) + data for code, data in options)
    return b"\0" + _FIXED.pack(_OPT, _UDP_SIZE, ttl, len(rdata)) + rdata


def _chunk_option(number: int, data: bytes, room: int) -> tuple[int, bytes]:
    """Option 65004 with *data*, if it fits into *room* octets (header of the option included)."""
    if len(data) + 9 > room:
        raise PolicyError(f"a payload of {len(data)} octets does not fit one DNS message")
    return CHUNK_OPTION, ChunkOption(number, data).to_octets()


# ------------------------------------------------------------------------------------------------- NOTIFY and response


@dataclass(frozen=True, slots=True)
class Notify:
    """One peer message in its DNS message.

    :ivar id: message id, 0-65535.
    :ivar distribution_id: first label of the QNAME.
    :ivar sender: the rest of the QNAME, with its trailing dot, spelled as sent.  Nothing has proved it yet.
    :ivar format: 1 clear JSON, 2 sealed; other values can be received and mean nothing; 0 if there is no data.
    :ivar data: the payload; ``None``: it is to be fetched from the sender.
    :ivar endpoint: ``host:port`` where the sender answers CHUNK queries, if it says so.
    :ivar question: the question section as received, for the response; empty in one made here.
    """

    id: int
    distribution_id: str
    sender: str
    format: int = 0
    data: bytes | None = None
    endpoint: str | None = None
    question: bytes = field(default=b"", repr=False, compare=False)

    @property
    def qname(self) -> str:
        """``<distribution id>.<sender>``."""
        return f"{self.distribution_id}.{self.sender}"

    def to_octets(self) -> bytes:
        """The DNS message.

        :raises PolicyError: a name cannot be sent, or the payload does not fit 65535 octets.
        """
        question = self.question or _name_octets(self.qname) + _TYPE_CLASS
        options = []
        if self.data is not None:
            options.append(_chunk_option(self.format, self.data, MAX_MESSAGE - _HEADER.size - len(question) - 11))
        if self.endpoint is not None:
            try:
                options.append((CHUNK_ENDPOINT_OPTION, ChunkEndpointOption(self.endpoint).to_octets()))
            except ValueError as error:
                raise PolicyError(str(error)) from None
        opt = _opt(_DO, options) if options else b""
        octets = _HEADER.pack(self.id, _NOTIFY << 11 | _AA, 1, 0, 0, 1 if opt else 0) + question + opt
        if len(octets) > MAX_MESSAGE:
            raise PolicyError("the message is longer than a DNS message can be")
        return octets


def encode_notify(
    id: int,
    distribution_id: str,
    sender: str,
    *,
    data: bytes | None = None,
    format: int = FORMAT_SEALED,
    endpoint: str | None = None,
) -> bytes:
    """The DNS message that carries *data*, or says that it can be fetched.

    :param id: message id, 0-65535, unpredictable.
    :param distribution_id: 8 lower-case hex digits.
    :param sender: our identity.
    :param data: the payload, about 65 kB at most; ``None``: the receiver fetches it.
    :param format: 1 clear, 2 sealed.
    :param endpoint: ``host:port`` where we answer CHUNK queries.
    :raises PolicyError: a name cannot be sent, or the payload does not fit 65535 octets.
    """
    return Notify(id, distribution_id, sender, format if data is not None else 0, data, endpoint).to_octets()


def decode_notify(octets: bytes) -> Notify:
    """The NOTIFY(CHUNK) in *octets*.

    Like the deployed implementation this accepts up to one record in the answer and authority sections and two in the
    additional section, and looks only at OPT.

    :raises FrameError: it is none.  ``rcode``: ``None`` (do not answer) for a fragment or a response, NOTIMP for
        another opcode, FORMERR for everything else, a QNAME of one label included.
    """
    header = _read_header(octets)
    if header.flags & _QR:
        raise FrameError("a response, not a request", rcode=None)
    if header.opcode != _NOTIFY:
        raise FrameError(f"opcode {header.opcode} is not NOTIFY", rcode=NOTIMP)
    questions, answers, authorities, additional = header.counts
    if questions != 1 or answers > 1 or authorities > 1 or additional > 2:
        raise FrameError("a NOTIFY has one question and few records")
    if header.flags & (_TC | 0x000F):
        raise FrameError("a NOTIFY is whole and has no RCODE")
    labels, at = _read_question(octets)
    if len(labels) < 2:
        raise FrameError("the QNAME has no sender")
    text = _name_text(labels)
    options, _ = _read_options(octets, at, answers + authorities + additional)
    distribution_id, _, sender = text.partition(".")
    number, data = _payload(options)
    return Notify(header.id, distribution_id, sender, number, data, _endpoint(options), octets[_HEADER.size : at])


def decode_qname(text: str, data: bytes) -> Notify:
    """What a NOTIFY with this QNAME and payload would say, for a message that came another way.

    :param text: ``<distribution id>.<sender>``, with the trailing dot.
    :raises FrameError: it is not such a name.
    """
    try:
        labels = tuple(text.encode("ascii").removesuffix(b".").split(b"."))
    except UnicodeEncodeError:
        raise FrameError("a label has octets that would need an escape") from None
    if not text.endswith(".") or any(len(label) > 63 for label in labels) or len(text) > 254:
        raise FrameError("not an absolute name")
    if len(labels) < 2:
        raise FrameError("the name has no sender")
    distribution_id, _, sender = _name_text(labels).partition(".")
    return Notify(0, distribution_id, sender, FORMAT_SEALED, data)


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a NOTIFY.

    :ivar id: message id, the one of the NOTIFY.
    :ivar rcode: 0 NOERROR, 1 FORMERR, 2 SERVFAIL, 5 REFUSED, ...; extended RCODEs included.
    :ivar data: the acknowledgement; ``None`` if there is none, and then the message was not received.
    :ivar format: 1 clear JSON, 2 sealed; 0 if there is no data.
    :ivar authoritative: the AA bit, which means nothing.
    :ivar question: the question section as received; empty if it is missing.
    """

    id: int
    rcode: int
    data: bytes | None = None
    format: int = 0
    authoritative: bool = False
    question: bytes = field(default=b"", repr=False)

    def to_octets(self) -> bytes:
        """The DNS message.

        :raises PolicyError: the payload does not fit 65535 octets, or the RCODE needs more than 4 bits.
        """
        if not 0 <= self.rcode <= 15:
            raise PolicyError(f"RCODE {self.rcode} does not fit the header")
        flags = _QR | _NOTIFY << 11 | (_AA if self.authoritative else 0) | self.rcode
        opt = b""
        if self.data is not None:
            room = MAX_MESSAGE - _HEADER.size - len(self.question) - 11
            opt = _opt(0, [_chunk_option(self.format, self.data, room)])
        return _HEADER.pack(self.id, flags, 1 if self.question else 0, 0, 0, 1 if opt else 0) + self.question + opt


def encode_response(
    request: Notify | bytes,
    rcode: int,
    data: bytes | None = None,
    *,
    format: int = FORMAT_SEALED,
    authoritative: bool = False,
) -> bytes:
    """The response to *request*.

    :param request: the NOTIFY, decoded or as octets; undecodable octets get a response of a header only.
    :param rcode: 0-15.
    :param data: the acknowledgement.
    :param format: 1 clear, 2 sealed.
    :param authoritative: the AA bit; the deployed implementation sets it in error responses.
    :raises PolicyError: the payload does not fit 65535 octets.
    :raises FrameError: *request* is shorter than a header.
    """
    if isinstance(request, Notify):
        notify = request
    else:
        try:
            notify = decode_notify(request)
        except FrameError:
            return encode_error(request, rcode)
    question = notify.question or _name_octets(notify.qname) + _TYPE_CLASS
    number = format if data is not None else 0
    return Response(notify.id, rcode, data, number, authoritative, question).to_octets()


def encode_error(request: bytes, rcode: int) -> bytes:
    """The response of a header only to a *request* that cannot be decoded: its id, opcode and RD bit, and *rcode*.

    :raises FrameError: it is shorter than a header.
    """
    header = _read_header(request)
    return _HEADER.pack(header.id, _QR | header.flags & (0x7800 | _RD) | rcode & 15, 0, 0, 0, 0)


def decode_response(octets: bytes, expected_id: int, expected_question: bytes | None = None) -> Response:
    """The response to a NOTIFY in *octets*.

    :param expected_id: id of the NOTIFY.
    :param expected_question: its question section; ``None``: any is accepted.  A response of a header only has none.
    :raises FrameError: it is no response to that NOTIFY; ``rcode`` is ``None``.
    """
    with _unanswered():
        return _decode_response(octets, expected_id, expected_question)


def _decode_response(octets: bytes, expected_id: int, expected_question: bytes | None) -> Response:
    header = _read_header(octets)
    if not header.flags & _QR or header.opcode != _NOTIFY or header.id != expected_id:
        raise FrameError("not the response to the NOTIFY")
    questions, answers, authorities, additional = header.counts
    if questions > 1 or answers > 1 or authorities > 1 or additional > 2 or header.flags & _TC:
        raise FrameError("a response to a NOTIFY is whole and has few records")
    at = _HEADER.size
    if questions:
        _, at = _read_question(octets)
        if expected_question is not None and octets[_HEADER.size : at] != expected_question:
            raise FrameError("the response is about another question")
    options, extended = _read_options(octets, at, answers + authorities + additional)
    number, data = _payload(options)
    question = octets[_HEADER.size : at]
    return Response(header.id, extended << 4 | header.rcode, data, number, bool(header.flags & _AA), question)


# ------------------------------------------------------------------------------------------------ CHUNK query, answer


def chunk_name(receiver: str, distribution_id: str, sender: str, sequence: int | None = None) -> str:
    """The name under which *sender* keeps a piece for *receiver*; without *sequence* the name of the whole payload.

    :param sequence: 0 the manifest, 1-65535 a data chunk.
    """
    base = f"{receiver.removesuffix('.')}.{distribution_id}.{sender}"
    return base if sequence is None else f"{sequence}.{base}"


@dataclass(frozen=True, slots=True)
class ChunkQuery:
    """A query for a piece of a payload.

    :ivar id: message id.
    :ivar name: QNAME with its trailing dot, spelled as sent.
    :ivar question: the question section as received, for the answer.
    """

    id: int
    name: str
    question: bytes = field(default=b"", repr=False, compare=False)

    @property
    def sequence(self) -> int | None:
        """The number in the first label, ``None`` if it has none: decimal, at most 65535, in a name of four labels."""
        first, _, rest = self.name.partition(".")
        if not (first.isdigit() and len(first) <= 5 and rest.count(".") >= 3):
            return None
        return number if (number := int(first)) <= 65535 else None

    @property
    def base(self) -> str:
        """The name without the number."""
        return self.name if self.sequence is None else self.name.partition(".")[2]

    def to_octets(self) -> bytes:
        """The DNS message.

        :raises PolicyError: the name cannot be sent.
        """
        question = self.question or _name_octets(self.name) + _TYPE_CLASS
        return _HEADER.pack(self.id, _QUERY, 1, 0, 0, 0) + question


def encode_chunk_query(id: int, name: str) -> bytes:
    """The query for the CHUNK record at *name*.

    :raises PolicyError: the name cannot be sent.
    """
    return ChunkQuery(id, name).to_octets()


def decode_chunk_query(octets: bytes) -> ChunkQuery:
    """The CHUNK query in *octets*; it may carry an OPT record.

    :raises FrameError: it is none.  ``rcode``: ``None`` for a fragment or a response, NOTIMP for another opcode,
        FORMERR for everything else.
    """
    header = _read_header(octets)
    if header.flags & _QR:
        raise FrameError("a response, not a query", rcode=None)
    if header.opcode != _QUERY:
        raise FrameError(f"opcode {header.opcode} is not QUERY", rcode=NOTIMP)
    questions, answers, authorities, additional = header.counts
    if questions != 1 or answers or authorities or additional > 1 or header.flags & (_TC | 0x000F):
        raise FrameError("a CHUNK query has one question and nothing else")
    labels, at = _read_question(octets)
    name = _name_text(labels)
    _read_options(octets, at, additional)
    return ChunkQuery(header.id, name, octets[_HEADER.size : at])


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """The answer to a CHUNK query.

    :ivar id: message id.
    :ivar rcode: 0-15.
    :ivar chunk: the record; ``None`` if there is none.
    :ivar authoritative: the AA bit.
    :ivar question: the question section as received.
    """

    id: int
    rcode: int
    chunk: CHUNK | None = None
    authoritative: bool = True
    question: bytes = field(default=b"", repr=False)

    def to_octets(self) -> bytes:
        """The DNS message, its owner name spelled out.

        :raises PolicyError: the record does not fit 65535 octets.
        """
        flags = _QR | (_AA if self.authoritative else 0) | self.rcode
        answer = b""
        if self.chunk is not None:
            rdata = self.chunk.to_octets()
            answer = self.question[:-4] + _FIXED.pack(CHUNK_TYPE, _CLASS_IN, CHUNK_TTL, len(rdata)) + rdata
        octets = _HEADER.pack(self.id, flags, 1, 1 if answer else 0, 0, 0) + self.question + answer
        if len(octets) > MAX_MESSAGE:
            raise PolicyError("the chunk does not fit one DNS message")
        return octets


def encode_chunk_answer(query: ChunkQuery, chunk: CHUNK | None, rcode: int = NOERROR) -> bytes:
    """The answer to *query*: the record, or *rcode* if there is none.

    :raises PolicyError: the record does not fit 65535 octets.
    """
    question = query.question or _name_octets(query.name) + _TYPE_CLASS
    return ChunkAnswer(query.id, rcode, chunk, chunk is not None, question).to_octets()


def decode_chunk_answer(octets: bytes, expected_id: int, expected_name: str | None = None) -> ChunkAnswer:
    """The answer to a CHUNK query in *octets*.

    :param expected_id: id of the query.
    :param expected_name: its QNAME; ``None``: any is accepted.
    :raises FrameError: it is no answer to that query, or has records other than one CHUNK record at its own QNAME;
        ``rcode`` is ``None``.
    """
    with _unanswered():
        return _decode_chunk_answer(octets, expected_id, expected_name)


def _decode_chunk_answer(octets: bytes, expected_id: int, expected_name: str | None) -> ChunkAnswer:
    header = _read_header(octets)
    if not header.flags & _QR or header.opcode != _QUERY or header.id != expected_id:
        raise FrameError("not the answer to the query")
    questions, answers, authorities, additional = header.counts
    if questions != 1 or answers > 1 or header.flags & _TC or authorities > 16 or additional > 16:
        raise FrameError("an answer to a CHUNK query has at most one record")
    labels, at = _read_question(octets)
    if expected_name is not None and _name_text(labels) != expected_name:
        raise FrameError("the answer is about another name")
    question = octets[_HEADER.size : at]
    chunk = None
    if answers:
        owner = at
        at = _skip_name(octets, at)
        if octets[owner:at] not in (question[:-4], b"\xc0\x0c"):
            raise FrameError("the record has another owner")
        if at + _FIXED.size > len(octets):
            raise FrameError("the record runs out of the message")
        rdtype, rdclass, _, length = _FIXED.unpack_from(octets, at)
        at += _FIXED.size
        rdata = octets[at : at + length]
        at += length
        if rdtype != CHUNK_TYPE or rdclass != _CLASS_IN or len(rdata) != length:
            raise FrameError("the record is not a CHUNK record")
        try:
            chunk = CHUNK.from_octets(rdata)
        except RecordError as error:
            raise FrameError(str(error)) from None
    _read_options(octets, at, authorities + additional)
    return ChunkAnswer(header.id, header.rcode, chunk, bool(header.flags & _AA), question)
