"""Every record and option survives octets, its text form and the generic form, whatever is in it."""

from __future__ import annotations

import dns.name
import dns.rdata
from hypothesis import example, given
from hypothesis import strategies as st

from mpcore.errors import RecordError
from mpcore.records import (
    CHUNK,
    CHUNK_TYPE,
    HSYNC3,
    HSYNC3_TYPE,
    HSYNCPARAM,
    HSYNCPARAM_TYPE,
    JWK,
    JWK_TYPE,
    ChunkEndpointOption,
    ChunkOption,
    dsync_from_text,
    dsync_to_text,
    make_dsync,
)

OCTETS = st.binary(max_size=255)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(st.binary(min_size=1, max_size=20), max_size=6).map(lambda labels: dns.name.Name([*labels, b""]))
CLASSES = {HSYNC3_TYPE: HSYNC3, HSYNCPARAM_TYPE: HSYNCPARAM, CHUNK_TYPE: CHUNK, JWK_TYPE: JWK}


def check(record: HSYNC3 | HSYNCPARAM | CHUNK | JWK) -> None:
    cls, octets = type(record), record.to_octets()
    assert cls.from_octets(octets) == record
    assert cls.parse(record.to_text()) == record
    assert cls.parse(record.to_generic().to_text()) == record
    assert record.to_wire() == record.to_digestable() == octets
    # dnspython's own reader for unknown types agrees about what the octets are
    assert record.to_generic().data == octets


@given(st.integers(0, 255), OCTETS, NAME, OCTETS)
def test_hsync3(state: int, label: bytes, identity: dns.name.Name, upstream: bytes) -> None:
    template = HSYNC3.make("x", "y.")
    check(HSYNC3(template.rdclass, template.rdtype, state, label, identity, upstream))


@given(LABEL, LABEL | st.just(""), st.booleans(), st.booleans())
def test_hsync3_labels_mean_the_same_in_both_spellings(label: str, upstream: str, on: bool, dotted: bool) -> None:
    record = HSYNC3.make(label, "agent.example.", upstream, on, dotted=dotted)
    check(record)
    assert (record.label_text, record.upstream_text, record.is_on) == (label, upstream, on)


PAIRS = st.dictionaries(st.integers(8, 65534), st.binary(max_size=40), max_size=5)
LISTS = st.none() | st.lists(LABEL, max_size=5)
WORDS = st.none() | st.sampled_from(["owner", "agent"])


@given(WORDS, WORDS, LISTS, LISTS, LISTS, st.booleans(), st.booleans(), st.none() | LABEL, PAIRS)
def test_hsyncparam(
    nsmgmt: str | None,
    parentsync: str | None,
    servers: list[str] | None,
    signers: list[str] | None,
    auditors: list[str] | None,
    pubkey: bool,
    pubcds: bool,
    suffix: str | None,
    other: dict[int, bytes],
) -> None:
    record = HSYNCPARAM.make(
        nsmgmt=nsmgmt,
        parentsync=parentsync,
        servers=servers,
        signers=signers,
        auditors=auditors,
        pubkey=pubkey,
        pubcds=pubcds,
        suffix=suffix,
        other=other.items(),
    )
    check(record)
    assert (record.nsmgmt, record.parentsync) == (nsmgmt or "owner", parentsync or "owner")
    assert (record.servers, record.signers, record.auditors) == tuple(
        tuple(labels or ()) for labels in (servers, signers, auditors)
    )
    assert (record.pubkey, record.pubcds, record.suffix) == (pubkey, pubcds, suffix)
    assert all(record.value(key) == value for key, value in other.items())


@given(
    st.integers(0, 255), st.binary(max_size=64), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=300)
)
@example(1, b"", 0, 0, b'{"a":"b \\" ;"}')
def test_chunk(number: int, hmac: bytes, sequence: int, total: int, data: bytes) -> None:
    check(CHUNK.make(sequence, total, data, number, hmac))


@given(st.binary(max_size=300) | st.text("abcXYZ019-_", max_size=300).map(str.encode))
def test_jwk(text: bytes) -> None:
    template = JWK.parse("e30")
    check(JWK(template.rdclass, template.rdtype, text))


@given(st.sampled_from(sorted(CLASSES)), st.binary(max_size=80))
@example(HSYNC3_TYPE, b"\x01\x00\x00\x00")
@example(HSYNCPARAM_TYPE, b"")
def test_any_octets(rdtype: int, octets: bytes) -> None:
    try:
        record = CLASSES[rdtype].from_octets(octets)
    except RecordError:
        return
    assert record.to_octets() == octets
    check(record)


@given(st.sampled_from(sorted(CLASSES)), st.text(max_size=80))
def test_any_text(rdtype: int, text: str) -> None:
    try:
        record = CLASSES[rdtype].parse(text)
    except RecordError:
        return
    check(record)


@given(st.sampled_from([59, 62, 255, 65285]), st.integers(0, 255), st.integers(0, 65535), NAME)
def test_dsync(rrtype: int, scheme: int, port: int, target: dns.name.Name) -> None:
    record = make_dsync(rrtype, scheme, port, target)
    if not any(octet <= 0x20 for label in target.labels for octet in label):
        assert dsync_from_text(dsync_to_text(record)) == record
    assert dns.rdata.from_wire("IN", "DSYNC", record.to_wire(), 0, len(record.to_wire())) == record


@given(st.integers(0, 255), st.binary(max_size=300), st.binary(max_size=64), st.binary(max_size=5))
def test_chunk_option(number: int, data: bytes, hmac: bytes, rest: bytes) -> None:
    option = ChunkOption(number, data, hmac)
    assert ChunkOption.from_octets(option.to_octets() + rest) == option


@given(st.binary(max_size=80))
def test_any_option_octets(octets: bytes) -> None:
    for cls in (ChunkOption, ChunkEndpointOption):
        try:
            option = cls.from_octets(octets)
        except RecordError:
            continue
        assert octets.startswith(option.to_octets())
