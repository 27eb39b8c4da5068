"""DNS framing: octet-equal to everything captured from the Go implementation, and strict with everything else."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from mpcore.errors import FrameError, PolicyError
from mpcore.records import CHUNK, ChunkOption
from mpcore.wire.chunks import decode_manifest
from mpcore.wire.frame import (
    FORMERR,
    NOTIMP,
    REFUSED,
    ChunkQuery,
    Notify,
    Response,
    chunk_name,
    decode_chunk_answer,
    decode_chunk_query,
    decode_notify,
    decode_response,
    encode_chunk_answer,
    encode_chunk_query,
    encode_error,
    encode_notify,
    encode_response,
)
from mpcore.wire.messages import decode_acknowledgement, decode_message
from mpcore.wire.seal import PrivateKey, unseal

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEYS = {name: PrivateKey.from_jwk(jwk) for name, jwk in json.loads((FIXTURES / "keys.json").read_text()).items()}
MESSAGES: list[dict[str, Any]] = json.loads((FIXTURES / "messages.json").read_text())
QUERY_MODE: list[dict[str, Any]] = json.loads((FIXTURES / "query-mode.json").read_text())

ENDPOINT_VECTOR = bytes.fromhex(
    "dc0e240000010000000000010836623034663466300561676 56e7405616c706861076578616d706c6500ff080001".replace(" ", "")
    + "0000291000000080000012fded000e3132372e302e302e313a35333031"
)
CLEAR_VECTOR = bytes.fromhex(
    "787424000001000000000001043661313205616765 6e7405627261766f076578616d706c6500ff080001".replace(" ", "")
    + "000029100000008000000bfdec0007010000" + "00027b7d"
)  # fmt: skip
BARE = CLEAR_VECTOR[:10] + b"\0\0" + CLEAR_VECTOR[12:42]


def ident(octets: bytes) -> int:
    return int.from_bytes(octets[:2])


# ------------------------------------------------------------------------------------------------------ vectors


def test_published_vectors() -> None:
    notify = decode_notify(ENDPOINT_VECTOR)
    assert notify == Notify(0xDC0E, "6b04f4f0", "agent.alpha.example.", endpoint="127.0.0.1:5301")
    assert encode_notify(0xDC0E, "6b04f4f0", "agent.alpha.example.", endpoint="127.0.0.1:5301") == ENDPOINT_VECTOR
    notify = decode_notify(CLEAR_VECTOR)
    assert notify == Notify(0x7874, "6a12", "agent.bravo.example.", 1, b"{}")
    assert encode_notify(0x7874, "6a12", "agent.bravo.example.", data=b"{}", format=1) == CLEAR_VECTOR
    assert notify.qname == "6a12.agent.bravo.example."


@pytest.mark.parametrize("captured", MESSAGES, ids=lambda item: f"{item['kind']}-{item['type']}-{item['qname']}")
def test_captured_message_encodes_to_the_same_octets(captured: dict[str, Any]) -> None:
    octets = bytes.fromhex(captured["dns_message"])
    judge = dns.message.from_wire(octets)
    (option,) = judge.options
    assert isinstance(option, ChunkOption)
    if captured["kind"] == "request":
        notify = decode_notify(octets)
        assert (notify.qname, notify.format, notify.data) == (captured["qname"], captured["chunk_format"], option.data)
        assert notify.sender == captured["sender"]
        assert notify.to_octets() == octets
        assert octets == encode_notify(
            notify.id, notify.distribution_id, notify.sender, data=notify.data, format=notify.format
        )
    else:
        response = decode_response(octets, ident(octets))
        assert (response.rcode, response.format, response.data) == (captured["rcode"], 2, option.data)
        assert response.to_octets() == octets
        request = Notify(response.id, *captured["qname"].split(".", 1), 2, b"x")
        assert encode_response(request, response.rcode, response.data) == octets
        assert encode_response(request.to_octets(), response.rcode, response.data) == octets


@pytest.mark.parametrize("captured", QUERY_MODE, ids=lambda item: f"{item['opcode']}-{item['qname']}")
def test_captured_query_mode_encodes_to_the_same_octets(captured: dict[str, Any]) -> None:
    octets = bytes.fromhex(captured["dns_message"])
    assert (captured["opcode"], captured["response"]) in {(o, r) for o in ("NOTIFY", "QUERY") for r in (True, False)}
    if captured["opcode"] == "NOTIFY" and not captured["response"]:
        notify = decode_notify(octets)
        assert notify.qname == captured["qname"]
        assert (notify.data is not None, notify.endpoint is not None) == (
            65004 in captured["options"], 65005 in captured["options"]
        )  # fmt: skip
        assert notify.to_octets() == octets
    elif captured["opcode"] == "NOTIFY":
        response = decode_response(octets, ident(octets))
        assert response.rcode == captured["rcode"]
        assert (response.data is not None) == (65004 in captured["options"])
        assert response.authoritative == (response.rcode != 0)
        assert response.to_octets() == octets
    elif not captured["response"]:
        query = decode_chunk_query(octets)
        assert query.name == captured["qname"]
        assert query.to_octets() == octets
        assert encode_chunk_query(query.id, query.name) == octets
    else:
        answer = decode_chunk_answer(octets, ident(octets), captured["qname"])
        assert answer.rcode == captured["rcode"]
        assert (answer.chunk is not None) == bool(captured["answers"])
        assert answer.to_octets() == octets
        if answer.chunk is not None:
            assert encode_chunk_answer(ChunkQuery(answer.id, captured["qname"]), answer.chunk) == octets


def test_captured_query_mode_payloads_open_and_read() -> None:
    """From the fetched manifest to the typed message, and from its response to the acknowledgement."""
    read = []
    for captured in QUERY_MODE:
        octets = bytes.fromhex(captured["dns_message"])
        labels = captured["qname"].split(".")
        if captured["response"] and captured["answers"]:
            receiver, sender = ".".join(labels[1:4]) + ".", ".".join(labels[5:])
            chunk = decode_chunk_answer(octets, ident(octets)).chunk
            assert chunk is not None
            payload = decode_manifest(chunk).payload
            assert payload is not None
            message = decode_message(unseal(payload, KEYS[sender].public(), KEYS[receiver]))
            assert message.sender == sender
            read.append(message.TYPE)
        elif captured["response"] and 65004 in captured["options"]:
            data = decode_response(octets, ident(octets)).data
            assert data is not None
            sender = ".".join(labels[1:])
            other = {"agent.alpha.example.": "agent.bravo.example.", "agent.bravo.example.": "agent.alpha.example."}
            acknowledgement = decode_acknowledgement(unseal(data, KEYS[other[sender]].public(), KEYS[sender]))
            assert acknowledgement.accepted
            assert acknowledgement.distribution_id == labels[0]
            read.append("response")
    assert read.count("beat") == 2
    assert read.count("hello") == 2
    assert read.count("response") == 4


# ---------------------------------------------------------------------------------------------- against dnspython


def test_notify_as_dnspython_reads_it() -> None:
    octets = encode_notify(7, "6b04f4f0", "agent.alpha.example.", data=b"x" * 60000, endpoint="192.0.2.1:53")
    message = dns.message.from_wire(octets)
    assert message.opcode() == dns.opcode.NOTIFY
    assert message.flags & dns.flags.AA
    assert (message.edns, message.payload, message.ednsflags) == (0, 4096, dns.flags.DO)
    assert [option.otype for option in message.options] == [65004, 65005]
    assert message.to_wire(max_size=65535) == octets


def test_notify_as_dnspython_writes_it() -> None:
    message = dns.message.make_query("6a12.Agent.Bravo.Example.", "CHUNK", use_edns=0, payload=1232, want_dnssec=False)
    message.set_opcode(dns.opcode.NOTIFY)
    message.flags = dns.opcode.to_flags(dns.opcode.NOTIFY)
    message.use_edns(options=[dns.edns.GenericOption(10, b"12345678"), ChunkOption(9, b"{}", b"\1" * 32)])
    notify = decode_notify(message.to_wire())
    assert (notify.distribution_id, notify.sender, notify.format, notify.data) == (
        "6a12", "Agent.Bravo.Example.", 9, b"{}"
    )  # fmt: skip


def test_response_as_dnspython_reads_it() -> None:
    request = decode_notify(CLEAR_VECTOR)
    octets = encode_response(request, 0, b"{}", format=1)
    message = dns.message.from_wire(octets)
    query = dns.message.from_wire(CLEAR_VECTOR)
    assert query.is_response(message)
    assert (message.payload, message.ednsflags, message.rcode()) == (4096, 0, 0)
    refused = dns.message.from_wire(encode_response(request, REFUSED, authoritative=True))
    assert (refused.rcode(), refused.edns, bool(refused.flags & dns.flags.AA)) == (dns.rcode.REFUSED, -1, True)


def test_chunk_answer_compressed_by_dnspython() -> None:
    chunk = CHUNK.make(0, 0, b'{"chunk_count":0}')
    name = chunk_name("agent.bravo.example.", "6b04ff97", "agent.alpha.example.", 0)
    message = dns.message.make_response(dns.message.from_wire(encode_chunk_query(9, name)))
    message.find_rrset(message.answer, message.question[0].name, 1, 65288, create=True).add(chunk, 60)
    octets = message.to_wire()
    assert b"\xc0\x0c" in octets
    assert decode_chunk_answer(octets, 9, name).chunk == chunk
    judge = dns.message.from_wire(encode_chunk_answer(ChunkQuery(9, name), chunk))
    assert judge.answer == message.answer
    assert judge.answer[0].ttl == 60


# ------------------------------------------------------------------------------------------------- what is refused


def replaced(octets: bytes, at: int, new: str) -> bytes:
    raw = bytes.fromhex(new)
    return octets[:at] + raw + octets[at + len(raw) :]


@pytest.mark.parametrize(
    ("octets", "rcode"),
    [
        (b"", None),
        (CLEAR_VECTOR[:11], None),
        (CLEAR_VECTOR + b"\0" * 65536, None),
        (replaced(CLEAR_VECTOR, 2, "a400"), None),  # a response
        (replaced(CLEAR_VECTOR, 2, "0000"), NOTIMP),  # a query
        (replaced(CLEAR_VECTOR, 2, "2800"), NOTIMP),  # an update
        (replaced(CLEAR_VECTOR, 2, "2600"), FORMERR),  # TC
        (replaced(CLEAR_VECTOR, 2, "2405"), FORMERR),  # RCODE
        (replaced(CLEAR_VECTOR, 4, "0000"), FORMERR),  # no question
        (replaced(CLEAR_VECTOR, 4, "0002"), FORMERR),
        (replaced(CLEAR_VECTOR, 6, "0002"), FORMERR),  # two answers
        (replaced(CLEAR_VECTOR, 6, "0001"), FORMERR),  # an answer that is not there
        (replaced(CLEAR_VECTOR, 10, "0003"), FORMERR),  # three additional records
        (replaced(CLEAR_VECTOR, 10, "0000"), FORMERR),  # octets after the last record
        (CLEAR_VECTOR + b"\0", FORMERR),
        (CLEAR_VECTOR[:-1], FORMERR),
        (CLEAR_VECTOR[:30], FORMERR),
        (replaced(CLEAR_VECTOR, 12, "c00c"), FORMERR),  # compressed question
        (replaced(CLEAR_VECTOR, 12, "40"), FORMERR),  # reserved label type
        (replaced(CLEAR_VECTOR, 38, "0006"), FORMERR),  # SOA
        (replaced(CLEAR_VECTOR, 40, "0003"), FORMERR),  # class CH
        (replaced(CLEAR_VECTOR, 13, "2e"), FORMERR),  # a dot in a label
        (replaced(CLEAR_VECTOR, 13, "00"), FORMERR),
        (replaced(CLEAR_VECTOR, 48, "01"), FORMERR),  # EDNS version 1
        (replaced(CLEAR_VECTOR, 55, "00ff"), FORMERR),  # option overruns
        (BARE[:12] + b"\x046a12\0\xff\x08\0\1", FORMERR),  # QNAME of one label
        (BARE[:12] + b"\0\xff\x08\0\1", FORMERR),  # QNAME is the root
        (BARE[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\xff\x08\0\1", FORMERR),  # QNAME of 257 octets
        (replaced(CLEAR_VECTOR, 10, "0002") + CLEAR_VECTOR[42:], FORMERR),  # two OPT
        (replaced(CLEAR_VECTOR, 10, "0001")[:42] + b"\1a" + CLEAR_VECTOR[42:], FORMERR),  # OPT not at the root
    ],
    ids=[str(number) for number in range(30)],
)
def test_notify_refused(octets: bytes, rcode: int | None) -> None:
    with pytest.raises(FrameError) as caught:
        decode_notify(octets)
    assert caught.value.rcode == rcode


def test_vector_offsets() -> None:
    """The offsets used above point where they should."""
    assert CLEAR_VECTOR[38:42].hex() == "ff080001"
    assert CLEAR_VECTOR[42:45].hex() == "000029"
    assert decode_notify(BARE).data is None


@pytest.mark.parametrize(
    "data",
    ["", "01000000", "0100000003" + "7b7d", "010041" + "00" * 65 + "0000"],
    ids=["empty", "short", "data", "hmac"],
)
def test_broken_option_counts_as_absent(data: str) -> None:
    raw = bytes.fromhex(data)
    options = struct.pack("!HH", 65004, len(raw)) + raw
    octets = BARE[:10] + b"\0\1" + BARE[12:] + struct.pack("!BHHIH", 0, 41, 4096, 0x8000, len(options)) + options
    assert decode_notify(octets).data is None
    second = options + struct.pack("!HH", 65004, 7) + bytes.fromhex("01000000027b7d")
    octets = BARE[:10] + b"\0\1" + BARE[12:] + struct.pack("!BHHIH", 0, 41, 4096, 0x8000, len(second)) + second
    assert decode_notify(octets).data == b"{}"


@pytest.mark.parametrize("endpoint", [b"", b"no port", b"a:99999999", b"\xff:53"])
def test_broken_endpoint_counts_as_absent(endpoint: bytes) -> None:
    option = struct.pack("!HH", 65005, len(endpoint)) + endpoint
    octets = BARE[:10] + b"\0\1" + BARE[12:] + struct.pack("!BHHIH", 0, 41, 4096, 0x8000, len(option)) + option
    assert decode_notify(octets).endpoint is None


def test_other_records_are_skipped() -> None:
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\xc0\0\2\1"
    octets = replaced(CLEAR_VECTOR, 6, "000100010002")[:42] + record * 2 + CLEAR_VECTOR[42:] + record
    assert decode_notify(octets).data == b"{}"


@pytest.mark.parametrize(
    "octets",
    [
        replaced(CLEAR_VECTOR, 2, "2400"),
        replaced(CLEAR_VECTOR, 2, "8000"),
        replaced(CLEAR_VECTOR, 0, "0001a000"),
        replaced(CLEAR_VECTOR, 2, "a200"),
        replaced(CLEAR_VECTOR, 2, "a0000002"),
        replaced(CLEAR_VECTOR, 2, "a00000010002"),
        replaced(CLEAR_VECTOR, 13, "ff"),  # another question
        b"",
    ],
    ids=[str(number) for number in range(8)],
)
def test_response_refused(octets: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        decode_response(octets, 0x7874, CLEAR_VECTOR[12:42])
    assert caught.value.rcode is None


def test_responses_of_a_header_only() -> None:
    octets = encode_error(replaced(CLEAR_VECTOR, 2, "2500"), FORMERR)
    assert octets.hex() == "7874a1010000000000000000"
    response = decode_response(octets, 0x7874, b"whatever")
    assert (response.rcode, response.data, response.question) == (FORMERR, None, b"")
    assert encode_response(CLEAR_VECTOR[:20], FORMERR).hex() == "7874a0010000000000000000"
    with pytest.raises(FrameError):
        encode_error(b"x", FORMERR)


def test_extended_rcode_is_read() -> None:
    octets = encode_response(decode_notify(CLEAR_VECTOR), 0, b"{}", format=1)
    at = octets.index(b"\0\0\x29\x10\0") + 5
    assert decode_response(replaced(octets, at, "01"), 0x7874).rcode == 16
    with pytest.raises(PolicyError):
        Response(1, 16).to_octets()


@pytest.mark.parametrize(
    ("distribution_id", "sender", "data", "endpoint"),
    [
        ("6a12", "agent.bravo.example.", b"x" * 65535, None),
        ("6a12", "agent.bravo.example.", b"x" * 65474, None),
        ("", "agent.bravo.example.", b"", None),
        ("6a12", "agent..example.", b"", None),
        ("6a12", "ag\\.ent.example.", b"", None),
        ("6a12", "agent.bravo.exämple.", b"", None),
        ("6" * 64, "agent.bravo.example.", b"", None),
        ("6a12", "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 60 + ".", b"", None),
        ("6a12", "agent.bravo.example.", None, "nowhere"),
    ],
    ids=[str(number) for number in range(9)],
)
def test_what_cannot_be_sent(distribution_id: str, sender: str, data: bytes | None, endpoint: str | None) -> None:
    with pytest.raises(PolicyError):
        encode_notify(1, distribution_id, sender, data=data, endpoint=endpoint)


def test_largest_payload() -> None:
    size = 65535 - len(BARE) - 11 - 4 - 5
    octets = encode_notify(1, "6a12", "agent.bravo.example.", data=b"x" * size)
    assert len(octets) == 65535
    assert decode_notify(octets).data == b"x" * size
    with pytest.raises(PolicyError):
        encode_notify(1, "6a12", "agent.bravo.example.", data=b"x" * (size + 1))
    request = decode_notify(octets)
    assert len(encode_response(request, 0, b"x" * size)) == 65535
    with pytest.raises(PolicyError):
        encode_response(request, 0, b"x" * (size + 1))


# -------------------------------------------------------------------------------------------- CHUNK queries, answers

QUERY = encode_chunk_query(9, "0.agent.bravo.example.6b04ff97.agent.alpha.example.")


@pytest.mark.parametrize(
    ("name", "sequence", "base"),
    [
        ("0.a.b.c.", 0, "a.b.c."),
        ("65535.a.b.c.", 65535, "a.b.c."),
        ("65536.a.b.c.", None, "65536.a.b.c."),
        ("0.a.b.", None, "0.a.b."),
        ("agent.bravo.example.", None, "agent.bravo.example."),
        ("1234567.a.b.c.", None, "1234567.a.b.c."),
    ],
)
def test_chunk_query_number(name: str, sequence: int | None, base: str) -> None:
    query = ChunkQuery(1, name)
    assert (query.sequence, query.base) == (sequence, base)


def test_chunk_names() -> None:
    assert chunk_name("r.example.", "6b", "s.example.") == "r.example.6b.s.example."
    assert chunk_name("r.example.", "6b", "s.example.", 3) == "3.r.example.6b.s.example."


@pytest.mark.parametrize(
    ("octets", "rcode"),
    [
        (b"", None),
        (replaced(QUERY, 2, "8000"), None),
        (replaced(QUERY, 2, "2000"), NOTIMP),
        (replaced(QUERY, 2, "0001"), FORMERR),
        (replaced(QUERY, 6, "0001"), FORMERR),
        (replaced(QUERY, 10, "0001"), FORMERR),
        (QUERY + b"x", FORMERR),
        (QUERY[:-4] + b"\0\1\0\1", FORMERR),
    ],
    ids=[str(number) for number in range(8)],
)
def test_chunk_query_refused(octets: bytes, rcode: int | None) -> None:
    with pytest.raises(FrameError) as caught:
        decode_chunk_query(octets)
    assert caught.value.rcode == rcode


def test_chunk_query_with_edns() -> None:
    octets = dns.message.make_query("0.a.b.c.", "CHUNK", use_edns=0, payload=1232).to_wire()
    assert decode_chunk_query(octets).name == "0.a.b.c."


def test_chunk_answer_refused() -> None:
    query = decode_chunk_query(QUERY)
    answer = encode_chunk_answer(query, CHUNK.make(1, 1, b"payload"))
    assert decode_chunk_answer(answer, 9, query.name).chunk == CHUNK.make(1, 1, b"payload")
    at = len(QUERY)  # the record
    fixed = at + len(query.question) - 4
    for octets in (
        b"",
        replaced(answer, 0, "0008"),
        replaced(answer, 2, "0400"),
        replaced(answer, 2, "a400"),
        replaced(answer, 2, "8600"),
        replaced(answer, 6, "0002"),
        replaced(answer, 4, "0000"),
        replaced(answer, at + 1, "31"),  # owner 1.…
        replaced(answer, fixed, "0001"),  # type A
        replaced(answer, fixed + 2, "0003"),  # class CH
        replaced(answer, fixed + 8, "0005"),  # RDATA cut
        answer[:-1],
        answer[: fixed + 4],
        answer + b"x",
    ):
        with pytest.raises(FrameError) as caught:
            decode_chunk_answer(octets, 9, query.name)
        assert caught.value.rcode is None
    with pytest.raises(FrameError):
        decode_chunk_answer(answer, 9, "1." + query.base)
    with pytest.raises(PolicyError):
        encode_chunk_answer(query, CHUNK.make(1, 1, b"x" * 65500))
    servfail = decode_chunk_answer(encode_chunk_answer(query, None, 2), 9, query.name)
    assert (servfail.rcode, servfail.chunk, servfail.authoritative) == (2, None, False)
