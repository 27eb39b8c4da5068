"""What was encoded decodes to the same, at every layer; and no octets make a decoder raise anything foreign."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mpcore.errors import FrameError, MessageError, SealError
from mpcore.wire import messages as m
from mpcore.wire.chunks import decode_manifest, join, split
from mpcore.wire.frame import (
    ChunkQuery,
    Notify,
    chunk_name,
    decode_chunk_answer,
    decode_chunk_query,
    decode_notify,
    decode_response,
    encode_chunk_answer,
    encode_chunk_query,
    encode_response,
)
from mpcore.wire.seal import PrivateKey, looks_sealed, seal, unseal
from mpcore.wire.times import parse_rfc3339, rfc3339

ID = st.integers(0, 65535)
LABEL = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,20}", fullmatch=True)
IDENTITY = st.lists(LABEL, min_size=1, max_size=5).map(lambda labels: ".".join(labels) + ".")
ENDPOINT = st.sampled_from(["127.0.0.1:5301", "[2001:db8::1]:53", "dns.agent.example.:65535"])
PAYLOAD = st.binary(max_size=2000)


# ------------------------------------------------------------------------------------------------------------ frame


@given(ID, LABEL, IDENTITY, st.integers(0, 255), st.none() | PAYLOAD, st.none() | ENDPOINT)
def test_notify(
    ident: int, distribution_id: str, sender: str, number: int, data: bytes | None, endpoint: str | None
) -> None:
    notify = Notify(ident, distribution_id, sender, number if data is not None else 0, data, endpoint)
    octets = notify.to_octets()
    decoded = decode_notify(octets)
    assert decoded == notify
    assert decoded.to_octets() == octets


@given(ID, LABEL, IDENTITY, st.integers(0, 15), st.none() | PAYLOAD, st.integers(1, 2), st.booleans())
def test_response(
    ident: int, distribution_id: str, sender: str, rcode: int, data: bytes | None, number: int, aa: bool
) -> None:
    request = Notify(ident, distribution_id, sender)
    octets = encode_response(request, rcode, data, format=number, authoritative=aa)
    assert octets == encode_response(request.to_octets(), rcode, data, format=number, authoritative=aa)
    response = decode_response(octets, ident, decode_notify(request.to_octets()).question)
    assert (response.id, response.rcode, response.data, response.authoritative) == (ident, rcode, data, aa)
    assert response.format == (number if data is not None else 0)
    assert response.to_octets() == octets
    with pytest.raises(FrameError):
        decode_response(octets, ident ^ 1)


@given(ID, IDENTITY, LABEL, IDENTITY, PAYLOAD, st.integers(1, 300))
def test_query_mode(
    ident: int, receiver: str, distribution_id: str, sender: str, payload: bytes, chunk_size: int
) -> None:
    """The whole way: cut, ask for every piece, answer, put together."""
    chunks = split(
        payload,
        content="sync",
        distribution_id=distribution_id,
        receiver=receiver,
        timestamp=1,
        chunk_size=max(chunk_size, len(payload) // 1000 + 1),
    )
    fetched = []
    for chunk in chunks:
        query = decode_chunk_query(
            encode_chunk_query(ident, chunk_name(receiver, distribution_id, sender, chunk.sequence))
        )
        if query.name.count(".") >= 4:
            assert query.sequence == chunk.sequence
            assert query.base == chunk_name(receiver, distribution_id, sender)
        answer = decode_chunk_answer(encode_chunk_answer(query, chunk), ident, query.name)
        assert answer.chunk == chunk
        fetched.append(answer.chunk)
    assert join(decode_manifest(fetched[0]), fetched[1:]) == payload


@given(st.binary(max_size=200), st.booleans())
@example(b"\0" * 12, False)
def test_any_octets_as_frame(octets: bytes, headed: bool) -> None:
    for flags, decode in (
        (b"\x24\0", decode_notify),
        (b"\xa0\0", lambda octets: decode_response(octets, 1)),
        (b"\0\0", decode_chunk_query),
        (b"\x84\0", lambda octets: decode_chunk_answer(octets, 1)),
    ):
        try:
            decode(b"\0\1" + flags + b"\0\1\0\0\0\0\0\0" + octets if headed else octets)  # type: ignore[operator]
        except FrameError:
            continue


@given(ID, IDENTITY)
def test_chunk_query_name(ident: int, name: str) -> None:
    assert decode_chunk_query(encode_chunk_query(ident, name)) == ChunkQuery(ident, name)


# ------------------------------------------------------------------------------------------------------------- seal

ONE, OTHER = PrivateKey.generate(), PrivateKey.generate()


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=5000), IDENTITY, st.floats(0, 4e9))
def test_seal(plaintext: bytes, identity: str, now: float) -> None:
    sealed = seal(plaintext, ONE, OTHER.public(), identity, now)
    assert looks_sealed(sealed)
    assert unseal(sealed, ONE.public(), OTHER) == plaintext
    with pytest.raises(SealError):
        unseal(sealed, OTHER.public(), OTHER)
    with pytest.raises(SealError):
        unseal(sealed, ONE.public(), ONE)


@given(st.binary(max_size=300))
@example(b"Li4=")
@example(b"LS4uLg==")
def test_any_octets_as_sealed(octets: bytes) -> None:
    looks_sealed(octets)
    with pytest.raises(SealError):
        unseal(octets, ONE.public(), OTHER)


# --------------------------------------------------------------------------------------------------------- messages

WORD = st.text(max_size=40)
TEXTS = st.lists(WORD, max_size=4)
U16, U32 = st.integers(0, 65535), st.integers(0, 2**32 - 1)
MICROS = st.integers(-(10**15), 10**16).map(lambda micros: micros / 1_000_000)
TIME = MICROS.map(rfc3339)
OPERATIONS = st.lists(
    st.builds(m.Operation, operation=st.sampled_from(["replace", "add", "delete"]), rrtype=WORD, records=TEXTS),
    max_size=3,
)
GOSSIP = st.lists(
    st.builds(
        m.GossipMessage,
        group_hash=WORD,
        group_name=st.builds(m.GroupName, group_hash=WORD, name=WORD, proposer=WORD, proposed_at=TIME),
        members=st.dictionaries(
            WORD,
            st.builds(
                m.GossipRow,
                identity=WORD,
                peer_states=st.dictionaries(WORD, WORD, max_size=3),
                zones=TEXTS,
                timestamp=TIME,
                beat_interval=U32,
            ),
            max_size=2,
        ),
        election=st.builds(m.GossipElection, leader=WORD, term=U32, leader_expiry=TIME),
    ),
    max_size=2,
)
PUBLISH = st.builds(m.Publish, key_rrs=TEXTS, cds_rrs=TEXTS, locations=TEXTS)
ITEMS = st.lists(st.builds(m.RejectedItem, record=WORD, reason=WORD), max_size=2)
INVENTORY = st.lists(
    st.builds(m.KeyInventoryEntry, key_tag=U16, algorithm=st.integers(0, 255), flags=U16, state=WORD, keyrr=WORD),
    max_size=3,
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | WORD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3), max_leaves=8
)

GREETING: dict[str, Any] = {"my_identity": WORD, "your_identity": WORD, "time": TIME}
DATA: dict[str, Any] = {
    "originator_id": WORD,
    "your_identity": WORD,
    "zone": WORD,
    "operations": OPERATIONS,
    "records": st.dictionaries(WORD, TEXTS, max_size=3),
    "time": TIME,
    "rfi_type": WORD,
    "rfi_subtype": WORD,
    "nonce": WORD,
    "zone_class": WORD,
    "publish": st.none() | PUBLISH,
}
MESSAGE: st.SearchStrategy[m.Message] = st.one_of(
    st.builds(m.Hello, **GREETING, zone=WORD),
    st.builds(m.Beat, **GREETING, my_beat_interval=U32, zones=TEXTS, gossip=st.none() | GOSSIP),
    st.builds(m.Ping, **GREETING, nonce=WORD),
    st.builds(m.Sync, **DATA),
    st.builds(m.Update, **DATA),
    st.builds(m.Rfi, **DATA),
    st.builds(
        m.Confirm,
        sender_id=WORD,
        zone=WORD,
        distribution_id=WORD,
        nonce=WORD,
        status=WORD,
        message=WORD,
        applied_count=U32,
        applied_records=TEXTS,
        removed_records=TEXTS,
        ignored_records=TEXTS,
        rejected_items=ITEMS,
        truncated=st.booleans(),
        timestamp=U32,
    ),
    st.builds(
        m.KeyState,
        **GREETING,
        zone=WORD,
        key_tag=U16,
        algorithm=st.integers(0, 255),
        signal=WORD,
        message=WORD,
        key_inventory=st.none() | INVENTORY,
    ),
    st.builds(
        m.Edits,
        **GREETING,
        zone=WORD,
        agent_records=st.dictionaries(WORD, st.dictionaries(WORD, TEXTS, max_size=2), max_size=2),
    ),
    st.builds(m.Config, **GREETING, zone=WORD, subtype=WORD, config_data=st.dictionaries(WORD, WORD, max_size=3)),
    st.builds(m.Audit, **GREETING, zone=WORD, audit_data=JSON),
    st.builds(
        m.StatusUpdate, **GREETING, zone=WORD, sub_type=WORD, ns_records=TEXTS, ds_records=TEXTS, result=WORD, msg=WORD
    ),
    st.builds(
        m.Relocate,
        sender_id=WORD,
        new_address=st.builds(m.Address, host=WORD, port=U16, transport=WORD, path=WORD),
        reason=WORD,
        valid_until=U32,
    ),
)


@given(MESSAGE)
def test_message(message: m.Message) -> None:
    octets = message.to_json()
    assert m.decode_message(octets) == message
    assert json.loads(octets) == message.to_plain()


@given(MESSAGE, st.sampled_from([str.upper, str.lower, str.title]))
def test_message_in_another_case(message: m.Message, change: Any) -> None:
    members = {change(name): value for name, value in message.to_plain().items()}
    assert m.decode_message(json.dumps(members).encode()) == message


@given(
    st.builds(
        m.Acknowledgement,
        type=WORD.filter(bool),
        sender_id=WORD,
        nonce=WORD,
        distribution_id=WORD,
        status=WORD,
        message=WORD,
        timestamp=st.none() | U32,
        gossip=st.none() | GOSSIP,
        applied_records=TEXTS,
        rejected_items=ITEMS,
        truncated=st.booleans(),
    )
)
def test_acknowledgement(acknowledgement: m.Acknowledgement) -> None:
    assert m.decode_acknowledgement(acknowledgement.to_json()) == acknowledgement


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_octets_as_message(octets: bytes) -> None:
    for decode in (m.decode_message, m.decode_acknowledgement):
        try:
            decode(octets)  # type: ignore[operator]
        except MessageError:
            continue


@given(st.sampled_from(sorted(m.MESSAGE_TYPES)), st.data())
def test_any_members_of_a_message(word: str, data: st.DataObject) -> None:
    cls = m.MESSAGE_TYPES[word]
    names = [wire.name for _, wire in cls._wire]
    members = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=4))
    octets = json.dumps({"MessageType": word, **members}).encode()
    try:
        message = m.decode_message(octets)
    except MessageError:
        return
    assert m.decode_message(message.to_json()) == message


# ------------------------------------------------------------------------------------------------------------ times


@given(MICROS)
def test_time(seconds: float) -> None:
    assert math.isclose(parse_rfc3339(rfc3339(seconds)), seconds, rel_tol=1e-15, abs_tol=1e-5)


@given(
    st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", fullmatch=True)
)
def test_any_text_as_time(text: str) -> None:
    try:
        seconds = parse_rfc3339(text)
    except MessageError:
        return
    if -62135596800 <= seconds < 253402300800:
        assert math.isclose(parse_rfc3339(rfc3339(seconds)), seconds, rel_tol=1e-15, abs_tol=1e-5)
