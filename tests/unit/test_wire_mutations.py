"""Damage at every layer: only the project's own error comes out, and the damage does reach the layer it is meant for.

A mutant of an inner layer is sealed again with valid keys, so that the layers around it let it pass.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcore.errors import FrameError, MessageError, RecordError, RemoteError, SealError, UnknownTypeError
from mpcore.records import CHUNK, HSYNC3, HSYNCPARAM, JWK, ChunkEndpointOption, ChunkOption, dsync_from_text
from mpcore.wire.chunks import decode_manifest
from mpcore.wire.frame import (
    decode_chunk_answer,
    decode_chunk_query,
    decode_notify,
    decode_response,
    encode_error,
    encode_response,
)
from mpcore.wire.messages import decode_acknowledgement, decode_message
from mpcore.wire.seal import PrivateKey, looks_sealed, seal, unseal
from tests import jose_by_hand as jose

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEYS: dict[str, dict[str, Any]] = json.loads((FIXTURES / "keys.json").read_text())
MESSAGES: list[dict[str, Any]] = json.loads((FIXTURES / "messages.json").read_text())
QUERY_MODE: list[dict[str, Any]] = json.loads((FIXTURES / "query-mode.json").read_text())
ALPHA_JWK, BRAVO_JWK = KEYS["agent.alpha.example."], KEYS["agent.bravo.example."]
ALPHA, BRAVO = PrivateKey.from_jwk(ALPHA_JWK), PrivateKey.from_jwk(BRAVO_JWK)
INTERESTING = (0, 1, 2, 0x2E, 0x3D, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)


def mutate(octets: bytes, source: random.Random) -> bytes:
    """One to three small damages: an octet changed, octets cut, doubled or put in."""
    damaged = bytearray(octets)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(damaged) + 1)
        kind = source.randrange(6)
        if kind == 0 and at < len(damaged):
            damaged[at] ^= 1 << source.randrange(8)
        elif kind == 1 and at < len(damaged):
            damaged[at] = source.choice(INTERESTING)
        elif kind == 2:
            del damaged[at : at + source.randint(1, 8)]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + source.randint(1, 8)]
        elif kind == 4:
            damaged[at:at] = source.randbytes(source.randint(1, 4))
        else:
            del damaged[source.randrange(len(damaged) + 1) :]
    return bytes(damaged)


def raised(error: type[RemoteError], call: Callable[..., object], *arguments: object) -> str | None:
    """The text of the *error* that the call raised, ``None`` if it raised none; any other exception fails the test."""
    try:
        call(*arguments)
    except error as caught:
        return str(caught)
    return None


def test_frames() -> None:
    source = random.Random(1)
    captured = [bytes.fromhex(item["dns_message"])[:600] for item in (*MESSAGES, *QUERY_MODE)]
    whole = [bytes.fromhex(item["dns_message"]) for item in (*MESSAGES[:6], *QUERY_MODE)]
    deep = 0
    for octets in captured + whole:
        for _ in range(30):
            mutant = mutate(octets, source)
            ident = int.from_bytes(mutant[:2])
            errors = [
                raised(FrameError, decode_notify, mutant),
                raised(FrameError, decode_response, mutant, ident),
                raised(FrameError, decode_chunk_query, mutant),
                raised(FrameError, decode_chunk_answer, mutant, ident),
                raised(FrameError, decode_response, mutant, ident, octets[12:40]),
            ]
            # A mutant is past the header when one of the decoders no longer says that it is the other kind of message.
            shallow = (
                "shorter than",
                "not the response",
                "not the answer",
                "a response, not",
                "opcode",
                "has one question",
            )
            deep += any(error is None or not error.startswith(shallow) for error in errors)
            raised(FrameError, encode_error, mutant, 1)
            if len(mutant) >= 12:
                encode_response(mutant, 1)
    assert deep >= 0.5 * 30 * len(captured + whole)


def test_base64() -> None:
    source = random.Random(2)
    sealed = seal(b'{"MessageType":"ping"}', ALPHA, BRAVO.public(), "b.", 1.0)
    reached = 0
    for _ in range(1000):
        mutant = mutate(sealed, source)
        looks_sealed(mutant)
        error = raised(SealError, unseal, mutant, ALPHA.public(), BRAVO)
        reached += error is not None and error.startswith("base64")
    assert reached >= 500


def test_signatures() -> None:
    """Damage to the JWS under sound base64."""
    source = random.Random(3)
    token = jose.sign(jose.encrypt(b"{}", BRAVO_JWK), ALPHA_JWK)
    reached = 0
    for _ in range(1000):
        error = raised(SealError, unseal, base64.b64encode(mutate(token, source)), ALPHA.public(), BRAVO)
        reached += error is not None and error.startswith("JWS")
    assert reached >= 900


def test_signature_headers() -> None:
    """Damage to the header of the JWS, which is signed again."""
    source = random.Random(4)
    envelope = jose.encrypt(b"{}", BRAVO_JWK)
    header = json.dumps(jose.JWS_HEADER).encode()
    reached = 0
    for _ in range(500):
        token = jose.sign(envelope, ALPHA_JWK, mutate(header, source))
        error = raised(SealError, unseal, base64.b64encode(token), ALPHA.public(), BRAVO)
        assert error is None or error.startswith("JWS")
        reached += error != "JWS: the signature is not the sender's"
    assert reached >= 450


def test_encryption() -> None:
    """Damage to the JWE, which is signed again."""
    source = random.Random(5)
    envelope = jose.encrypt(b"{}", BRAVO_JWK)
    reached = 0
    for number in range(600):
        if number % 2:
            header, rest = envelope.split(b".", 1)
            mutant = jose.b64url(mutate(jose.unb64url(header), source)) + b"." + rest
        else:
            mutant = mutate(envelope, source)
        error = raised(SealError, unseal, base64.b64encode(jose.sign(mutant, ALPHA_JWK)), ALPHA.public(), BRAVO)
        reached += error is not None and error.startswith("JWE")
    assert reached >= 550


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**63, 2**64 - 1),
    *("", "x" * 300, "\ud800", "\x00", "PING", "ping", "confirm", "0001-01-01T00:00:00Z", "2026-99-99T00:00:00Z"),
    *([], [None], [[]], ["x"] * 501, {}, {"": None}, {"records": None}, [{"operation": 5}]),
]


def mutate_json(value: Any, source: random.Random) -> Any:
    """A member replaced, dropped, renamed or doubled under another spelling, somewhere in the tree."""
    if isinstance(value, dict) and value and source.random() < 0.8:
        name = source.choice(list(value))
        changed = dict(value)
        kind = source.randrange(6)
        if kind == 0:
            changed[name] = source.choice(ODD_VALUES)
        elif kind == 1:
            del changed[name]
        elif kind == 2:
            changed[source.choice((name.upper(), name.lower(), name + "x", "type", "zone", "sender_id"))] = changed.pop(
                name
            )
        elif kind == 3:
            changed[source.choice((name.upper(), name.lower(), "MessageType"))] = source.choice(ODD_VALUES)
        else:
            changed[name] = mutate_json(changed[name], source)
        return changed
    if isinstance(value, list) and value and source.random() < 0.8:
        at = source.randrange(len(value))
        return [*value[:at], mutate_json(value[at], source), *value[at + source.randrange(2) :]]
    return source.choice(ODD_VALUES)


def test_json_octets() -> None:
    """Damage to the JSON text, sealed again: everything between is passed, then JSON or the models refuse it."""
    source = random.Random(6)
    refused = 0
    for number in range(300):
        captured = MESSAGES[number % len(MESSAGES)]
        mutant = mutate(captured["payload"].encode(), source) or b"x"
        opened = unseal(seal(mutant, ALPHA, BRAVO.public(), "b.", 1.0), ALPHA.public(), BRAVO)
        assert opened == mutant
        decode = decode_message if captured["kind"] == "request" else decode_acknowledgement
        refused += raised(MessageError, decode, opened) is not None
    assert refused >= 150


def test_json_values() -> None:
    """Damage to the values in the JSON, which stays JSON: at least half of the mutants reach the models."""
    source = random.Random(7)
    reached = models = 0
    for _ in range(60):
        for captured in MESSAGES:
            mutant = json.loads(captured["payload"])
            for _ in range(source.randint(1, 3)):
                mutant = mutate_json(mutant, source)
            octets = json.dumps(mutant).encode()
            decode = decode_message if captured["kind"] == "request" else decode_acknowledgement
            try:
                model = decode(octets)
            except UnknownTypeError:
                continue
            except MessageError as error:
                reached += not str(error).startswith(("not usable JSON", "the JSON text", "the message has no type"))
                continue
            reached += 1
            models += 1
            assert decode(model.to_json()) == model
    assert reached >= 0.5 * 60 * len(MESSAGES)
    assert models >= 500


RECORDS: list[tuple[Any, bytes]] = [
    (HSYNC3, HSYNC3.make("alpha", "agent.alpha.example.", "bravo").to_octets()),
    (HSYNCPARAM, HSYNCPARAM.parse('nsmgmt=agent servers="a,b" pubkey suffix=prov key100="hi"').to_octets()),
    (CHUNK, CHUNK.make(0, 2, b'{"chunk_count":2}', hmac=b"x" * 32).to_octets()),
    (JWK, JWK.from_public_key_jwk(ALPHA.public().to_jwk()).to_octets()),
]


@pytest.mark.parametrize(("cls", "octets"), RECORDS, ids=[cls.__name__ for cls, _ in RECORDS])
def test_record_octets(cls: Any, octets: bytes) -> None:
    source = random.Random(8)
    read = 0
    for _ in range(1500):
        mutant = mutate(octets, source)
        if raised(RecordError, cls.from_octets, mutant) is None:
            read += 1
            record = cls.from_octets(mutant)
            assert record.to_octets() == mutant
            assert cls.parse(record.to_text()) == record
            if cls is JWK:
                raised(RecordError, record.jwk)
            if cls is CHUNK:
                raised(FrameError, decode_manifest, record)
    assert read >= 50


@pytest.mark.parametrize(("cls", "octets"), RECORDS, ids=[cls.__name__ for cls, _ in RECORDS])
def test_record_text(cls: Any, octets: bytes) -> None:
    source = random.Random(9)
    read = 0
    for _ in range(1500):
        mutant = mutate(cls.from_octets(octets).to_text().encode(), source).decode("latin-1")
        if raised(RecordError, cls.parse, mutant) is None:
            read += 1
            record = cls.parse(mutant)
            assert cls.from_octets(record.to_octets()) == record
    assert read >= 50


def test_option_octets_and_dsync_text() -> None:
    source = random.Random(10)
    for _ in range(1500):
        raised(RecordError, ChunkOption.from_octets, mutate(ChunkOption(2, b"data", b"hmac").to_octets(), source))
        raised(RecordError, ChunkEndpointOption.from_octets, mutate(b"[2001:db8::1]:53", source))
        raised(RecordError, dsync_from_text, mutate(b"ANY UPDATE 53 updates.example.", source).decode("latin-1"))
