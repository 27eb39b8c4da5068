"""Sealing against captured messages, a published vector, and JOSE done by hand."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mpcore.errors import PolicyError, SealError
from mpcore.wire.frame import decode_notify, decode_response
from mpcore.wire.seal import (
    MAX_SEALED,
    PrivateKey,
    PublicKey,
    looks_sealed,
    read_private_key,
    read_public_key,
    seal,
    unseal,
    write_private_key,
    write_public_key,
)
from tests import jose_by_hand as jose

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEYS: dict[str, dict[str, Any]] = json.loads((FIXTURES / "keys.json").read_text())
MESSAGES: list[dict[str, Any]] = json.loads((FIXTURES / "messages.json").read_text())
NOW = 1795491259.75

ALPHA_JWK, BRAVO_JWK = KEYS["agent.alpha.example."], KEYS["agent.bravo.example."]
ALPHA, BRAVO = PrivateKey.from_jwk(ALPHA_JWK), PrivateKey.from_jwk(BRAVO_JWK)

# A ping as sealed by the Go implementation, with the throw-away keys published for it.
GO_ALPHA = """{"node": "alpha", "use": "enc", "kty": "EC", "crv": "P-256", "alg": "ECDH-ES",
 "x": "Ut5co_7ep-N7bvqTuoeAGldLVQBxi-MRjaQQEbNM90E", "y": "aUUPM24eCBo-dsbMEP3EaoF2vwZPxjo4QpSYf0m7dj4",
 "d": "8yGfU3CFe_6yD3PpbRnJWgHlNLF19Etopym3L8Dq-Uw"}"""
GO_BRAVO = """{"node": "bravo", "use": "enc", "kty": "EC", "crv": "P-256", "alg": "ECDH-ES",
 "x": "O33vhCrkccjaW0v2DpUrlwwTxWkvSrqS8JvdtIDzsJQ", "y": "WAEGgHkRm9dNBnXgIWDMRVysphMI52YAH6zAWYiAUCc",
 "d": "3-jIZAOmgzfH_gjFXZ5ipL4kEjZ3XFh5X4rejOY3B-U"}"""
GO_PING = """
ZXlKaGJHY2lPaUpGVXpJMU5pSXNJbU4wZVNJNkltRndjR3hwWTJGMGFXOXVMMjlqZEdWMExYTjBjbVZoYlNJc0luUjVjQ0k2SWtwWFV5SjkuWlhsS2FHSkhZ
MmxQYVVwR1VUQlNTVXhWVmxSSmFYZHBXVE5LTldOSVVuWllNa3BvV1RKMGJHSnRVV2xQYVVweFlqTk9iRWxwZDJsWk0xSTFTV3B2YVZsWVFuZGlSMnhxV1Zo
U2NHSXlOSFppTWs0d1dsaFJkR016VW5sYVYwWjBTV2wzYVZwWE5XcEphbTlwVVZSSk1VNXJaRVJVVTBselNXMVdkMkY1U1RabGVVcHlaRWhyYVU5cFNrWlJl
VWx6U1cxT2VXUnBTVFpKYkVGMFRXcFZNa2xwZDJsbFEwazJTVzVrZDFwWGN6VllNMXA1WW10U2MyRkdSbGxQUlZGNVpHeEtSbFZWUm5OWU1tZDNaVmhCZEdK
V1FsZGpNbXN3V1hwR1lWUnJhRnBPVjJOcFRFTktOVWxxYjJsV1JWWjRaSHBTVW1GR1ZreFpiWGcyVkdwU1IxUjZXWGhWVkVaTlpHeFdhRlpVVFRSaGJFSnNW
V3BPY1dOdVRuWlpWekZhVTFSR1VsTlRTamxNUTBwM1dsZFdlVmd5Ykd0SmFtOXBXVmRrYkdKdVVYVlpia3BvWkcwNGRWcFlhR2hpV0VKeldsTTBhVXhEU25s
YVYwNXdZMGRzYkdKdVVucFlNazUyWkZjMU1FbHFiM2hNUTBvd1lWY3hiR016VW1oaVdFRnBUMmxKZVUxRVNUSk1WRVY0VEZSSk1GWkVRWGxQYWtrMVQycFZl
RmRwU1hOSmJsSTFZME5KTmtsdVVtdGliazEwV2tkc2VtUklTbkJaYmxZd1lWYzVkVWx1TUM0dVlVazNTR0oxTlZaTVNuRm9hMHMxWWk1ME0xb3djR1YwWms5
MGQzVmtUR1F6Ym1kdVpVSTFhRkpXYVVwdmF6ZFpaVWR4Vmt0UmNrZEdWelZpV0Mxb1RETnpjV2h2TVRsaFJrdFFjV2RoUkVOTGJFb3hWbXhOZURkbVMxbHpi
V3RRZGkxSE9HcERia0ZuVjBKT1J6ZHRTRUphVG5kVU1YUlliMlJLZEZGUGFIZzVjM1ZYV0dsVmJ6STVMVTl0VHpsTlRtZFFhVGhwYVZCRVlVbFZjVkl5ZUcw
NVRtTnpabFUyZGpKMU9XZFhNVWhKVG1SVU9FMUxlRUpYT1ZCRFp6ZElTbW80WlUxMGEzSk5SMmxVTlRaRmFXSnhUVlExUTJacVdWRkpabmRmTVhkVmNYbDFl
a0ZhTTBsRGR5NVFWbmRMTTBab1Z6VXdVMEZHTm05RGRqYzJSVGxuLnBHdnJyTExCUS1iOXYxaWxZOGpsd3hEZFlyckpzSTNHQVdJZzlRUTV6VkZhZHptaFZz
blg2bU9VUEZVeW9UOHNKMXU5Wm1USkI3WElucThQTnlqYzhB
"""


def wrap(token: bytes) -> bytes:
    return base64.b64encode(token)


def test_published_vector() -> None:
    data = GO_PING.encode()
    assert len(data.replace(b"\n", b"")) == 1488
    alpha, bravo = read_private_key(GO_ALPHA), read_private_key(GO_BRAVO)
    ping = json.loads(unseal(data, alpha.public(), bravo))
    assert (ping["MessageType"], ping["Nonce"], ping["Time"]) == (
        "ping", "00112233445566aa", "2026-05-17T10:00:00.123456789Z"
    )  # fmt: skip
    assert looks_sealed(data)


@pytest.mark.parametrize("captured", MESSAGES, ids=lambda item: f"{item['kind']}-{item['type']}-{item['qname']}")
def test_captured_message_opens(captured: dict[str, Any]) -> None:
    octets = bytes.fromhex(captured["dns_message"])
    if captured["kind"] == "request":
        data = decode_notify(octets).data
    else:
        data = decode_response(octets, int.from_bytes(octets[:2])).data
    assert data is not None
    sender, receiver = KEYS[captured["sender"]], KEYS[captured["receiver"]]
    assert unseal(data, PublicKey.from_jwk(sender), PrivateKey.from_jwk(receiver)).decode() == captured["payload"]
    assert looks_sealed(data)
    assert not looks_sealed(captured["payload"].encode())


def test_headers_are_those_of_the_go_implementation() -> None:
    """The same members with the same values as in a captured message, opened by hand."""
    sealed = seal(b"{}", ALPHA, BRAVO.public(), "agent.bravo.example.", NOW)
    jws_header, envelope = jose.verify(base64.b64decode(sealed), ALPHA_JWK)
    header, plaintext = jose.decrypt(envelope, BRAVO_JWK)
    assert plaintext == b"{}"
    captured = next(
        item for item in MESSAGES if item["kind"] == "request" and item["receiver"] == "agent.bravo.example."
    )
    data = decode_notify(bytes.fromhex(captured["dns_message"])).data
    assert data is not None
    go_jws_header, go_envelope = jose.verify(base64.b64decode(data), KEYS[captured["sender"]])
    go_header, _ = jose.decrypt(go_envelope, BRAVO_JWK)
    assert jws_header == go_jws_header
    assert header.pop("timestamp") == "2026-11-24T03:34:19Z"
    assert set(header.pop("epk")) == set(go_header.pop("epk"))
    go_header.pop("timestamp")
    assert header == go_header


def test_opens_what_was_sealed_by_hand() -> None:
    data = wrap(jose.sign(jose.encrypt(b"by hand", BRAVO_JWK), ALPHA_JWK))
    assert unseal(data, ALPHA.public(), BRAVO) == b"by hand"
    other = jose.sign(jose.encrypt(b"-", BRAVO_JWK), ALPHA_JWK, {"alg": "ES256"})
    assert unseal(wrap(other), ALPHA.public(), BRAVO) == b"-"
    assert unseal(data[:100] + b"\r\n" + data[100:], ALPHA.public(), BRAVO) == b"by hand"


def test_empty_and_largest() -> None:
    with pytest.raises(SealError, match="JWE"):
        unseal(wrap(jose.sign(jose.encrypt(b"", BRAVO_JWK), ALPHA_JWK)), ALPHA.public(), BRAVO)
    large = b"x" * 440_000
    assert unseal(seal(large, ALPHA, BRAVO.public(), "b.", NOW), ALPHA.public(), BRAVO) == large
    for size in (0, 450_000, MAX_SEALED + 1):
        with pytest.raises(PolicyError):
            seal(b"x" * size, ALPHA, BRAVO.public(), "b.", NOW)


def test_wrong_keys() -> None:
    data = seal(b"{}", ALPHA, BRAVO.public(), "agent.bravo.example.", NOW)
    with pytest.raises(SealError, match="JWS: the signature is not"):
        unseal(data, BRAVO.public(), BRAVO)
    with pytest.raises(SealError, match="JWE: not for us"):
        unseal(data, ALPHA.public(), ALPHA)


JWE_OK = {"alg": "ECDH-ES", "enc": "A256GCM"}


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"alg": "none"}, "alg is not"),
        ({"alg": "HS256"}, "alg is not"),
        ({"alg": "ES384"}, "alg is not"),
        ({}, "alg is not"),
        ({"alg": ["ES256"]}, "alg is not"),
        ({"alg": "ES256", "crit": ["exp"]}, "crit is not accepted"),
        ({"alg": "ES256", "crit": ["b64"], "b64": False}, "crit is not accepted"),
        ({"alg": "ES256", "b64": False}, "b64 is not accepted"),
        (b'{"alg":"HS256","alg":"ES256"}', "not JSON"),
        (b"[" * 700, "not JSON"),
        (b'"ES256"', "not an object"),
        (b"\xff", "not JSON"),
        (b'{"alg":"ES256","x":"' + b"x" * 800 + b'"}', "longer than"),
    ],
)
def test_signature_headers_refused(header: dict[str, Any] | bytes, match: str) -> None:
    data = wrap(jose.sign(jose.encrypt(b"{}", BRAVO_JWK), ALPHA_JWK, header))
    with pytest.raises(SealError, match=f"JWS: .*{match}"):
        unseal(data, ALPHA.public(), BRAVO)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"alg": "ECDH-ES+A256KW", "enc": "A256GCM"}, "alg is not"),
        ({"alg": "dir", "enc": "A256GCM"}, "alg is not"),
        ({"alg": "RSA1_5", "enc": "A256GCM"}, "alg is not"),
        ({"alg": "ECDH-ES", "enc": "A128GCM"}, "enc is not"),
        ({"alg": "ECDH-ES", "enc": "A256CBC-HS512"}, "enc is not"),
        ({**JWE_OK, "zip": "DEF"}, "zip is not accepted"),
        ({**JWE_OK, "crit": []}, "crit is not accepted"),
        ({**JWE_OK, "apu": ""}, "apu is not accepted"),
        ({**JWE_OK, "apv": "QQ"}, "apv is not accepted"),
        ({**JWE_OK, "pad": "x" * 800}, "longer than"),
    ],
)
def test_encryption_headers_refused(header: dict[str, Any], match: str) -> None:
    data = wrap(jose.sign(jose.encrypt(b"{}", BRAVO_JWK, header), ALPHA_JWK))
    with pytest.raises(SealError, match=f"JWE: .*{match}"):
        unseal(data, ALPHA.public(), BRAVO)


ON_CURVE = ALPHA.public().to_jwk()


@pytest.mark.parametrize(
    "epk",
    [
        {},
        {**ON_CURVE, "crv": "P-384"},
        {**ON_CURVE, "kty": "OKP"},
        {**ON_CURVE, "y": ON_CURVE["x"]},  # not on the curve
        {**ON_CURVE, "x": "A" * 43, "y": "A" * 43},  # the point at infinity
        {**ON_CURVE, "x": ON_CURVE["x"] + "="},
        {**ON_CURVE, "d": ALPHA_JWK["d"]},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
        [],
    ],
)
def test_ephemeral_keys_refused(epk: Any) -> None:
    data = wrap(jose.sign(jose.encrypt(b"{}", BRAVO_JWK, epk=epk), ALPHA_JWK))
    with pytest.raises(SealError, match="JWE: "):
        unseal(data, ALPHA.public(), BRAVO)


def test_encrypted_key_refused() -> None:
    data = wrap(jose.sign(jose.encrypt(b"{}", BRAVO_JWK, encrypted_key=b"x" * 40), ALPHA_JWK))
    with pytest.raises(SealError, match="JWE: a part has not its fixed length"):
        unseal(data, ALPHA.public(), BRAVO)


def test_only_compact_forms() -> None:
    envelope = jose.encrypt(b"{}", BRAVO_JWK)
    token = jose.sign(envelope, ALPHA_JWK)
    protected, payload, signature = token.split(b".")
    as_json = json.dumps(
        {"payload": payload.decode(), "protected": protected.decode(), "signature": signature.decode()}
    ).encode()
    for octets, match in (
        (as_json, "JWS: not exactly 3 parts"),
        (token + b".", "JWS: not exactly 3 parts|not base64url"),
        (token + b".AA.AA", "JWS: not exactly 3 parts|not base64url"),
        (protected + b"." + payload, "JWS: not exactly 3 parts"),
        (protected + b".." + signature, "JWS: the signature is not"),
        (token.replace(b".", b".=", 1), "JWS: a part is not base64url"),
        (jose.sign(b'{"ciphertext":"AA"}', ALPHA_JWK), "JWE: not exactly 5 parts"),
        (jose.sign(envelope + b".AA", ALPHA_JWK), "JWE: not exactly 5 parts|not base64url"),
        (jose.sign(b"", ALPHA_JWK), "JWE: not exactly 5 parts|JWS"),
    ):
        with pytest.raises(SealError, match=match):
            unseal(wrap(octets), ALPHA.public(), BRAVO)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "JWS: not exactly"),
        (b"A", "base64: "),
        (b"AAAA=", "base64: "),
        (b"AA_A", "base64: "),
        (b"A" * (MAX_SEALED + 1), "base64: 1048577 octets"),
        (b'{"MessageType":"ping"}', "base64: "),
    ],
)
def test_base64_refused(data: bytes, match: str) -> None:
    with pytest.raises(SealError, match=match):
        unseal(data, ALPHA.public(), BRAVO)


@pytest.mark.parametrize(
    ("data", "sealed"),
    [
        (b"", False),
        (b"{}", False),
        (b" {}", False),
        (b"[1]", False),
        (base64.b64encode(b"{}"), False),
        (base64.b64encode(b"eyJ.x"), True),
        (b"abc", False),
        (b"\xff\xff\xff\xff", False),
        (b"QUJD\r\nREVG", True),
        (b"A" * (MAX_SEALED + 4), False),
    ],
)
def test_looks_sealed(data: bytes, sealed: bool) -> None:
    assert looks_sealed(data) is sealed


# -------------------------------------------------------------------------------------------------------- keys


def test_key_files() -> None:
    text = write_private_key(ALPHA, ["agent alpha", "keep it\nsecret"])
    assert text.startswith("# agent alpha\n# keep it\n# secret\n{")
    assert json.loads(text.partition("\n{")[2].join(("{", ""))) == {
        "use": "enc", "kty": "EC", "crv": "P-256", "alg": "ECDH-ES", **{name: ALPHA_JWK[name] for name in "xyd"}
    }  # fmt: skip
    assert read_private_key("\n# more\n\n" + text).to_jwk() == ALPHA.to_jwk()
    assert read_public_key(text) == ALPHA.public()
    public = write_public_key(ALPHA.public())
    assert "#" not in public
    assert "d" not in json.loads(public)
    assert read_public_key(public) == ALPHA.public()
    with pytest.raises(SealError):
        read_private_key(public)


def test_keys_never_show_the_secret() -> None:
    assert ALPHA_JWK["d"] not in repr(ALPHA) + str(ALPHA)
    assert repr(ALPHA.public()) == f"PublicKey({ALPHA.public().thumbprint})"


def test_public_key_is_a_value() -> None:
    assert PublicKey.from_jwk(ALPHA_JWK) == ALPHA.public()
    assert hash(PublicKey.from_jwk(json.dumps(ALPHA_JWK).encode())) == hash(ALPHA.public())
    assert ALPHA.public() != BRAVO.public()
    assert ALPHA.public() != "x"
    assert list(ALPHA.public().to_jwk()) == ["kty", "crv", "x", "y"]


def test_thumbprint_of_rfc_7638_form() -> None:
    import hashlib

    jwk = ALPHA.public().to_jwk()
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    assert ALPHA.public().thumbprint == jose.b64url(hashlib.sha256(text.encode()).digest()).decode()


def test_generated_keys_work() -> None:
    one, other = PrivateKey.generate(), PrivateKey.generate()
    assert one.public() != other.public()
    assert PrivateKey.from_jwk(one.to_jwk()).public() == one.public()
    assert unseal(seal(b"x", one, other.public(), "b.", NOW), one.public(), other) == b"x"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "{}",
        "null",
        {**ALPHA_JWK, "kty": "RSA"},
        {**ALPHA_JWK, "crv": "secp256k1"},
        {**ALPHA_JWK, "x": "AAAA"},
        {**ALPHA_JWK, "x": ALPHA_JWK["x"] + "="},
        {**ALPHA_JWK, "x": ALPHA_JWK["y"]},
        {**ALPHA_JWK, "x": None},
        {**ALPHA_JWK, "x": "A" * 42 + "B"},  # unused bits set
    ],
)
def test_bad_public_keys(source: Any) -> None:
    with pytest.raises(SealError):
        PublicKey.from_jwk(source)


@pytest.mark.parametrize("d", ["A" * 43, "_" * 42 + "8", BRAVO_JWK["d"], "", 7])
def test_bad_private_keys(d: Any) -> None:
    with pytest.raises(SealError):
        PrivateKey.from_jwk({**ALPHA_JWK, "d": d})
    with pytest.raises(SealError):
        read_private_key("#" * 70_000)
