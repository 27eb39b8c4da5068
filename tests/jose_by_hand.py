"""JOSE in this one form from nothing but ``cryptography``: the independent judge of :mod:`mpcore.wire.seal`.

RFC 7515 (JWS compact, ES256), RFC 7516 (JWE compact) and RFC 7518, section 4.6 (ECDH-ES, Concat KDF).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

JWS_HEADER = {"alg": "ES256", "cty": "application/octet-stream", "typ": "JWS"}
JWE_HEADER = {"alg": "ECDH-ES", "enc": "A256GCM"}


def b64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def unb64url(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _number(text: str) -> int:
    return int.from_bytes(unb64url(text.encode()))


def public_key(jwk: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), ec.SECP256R1()).public_key()


def private_key(jwk: dict[str, Any]) -> ec.EllipticCurvePrivateKey:
    return _derived(_number(jwk["d"]))


@cache
def _derived(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


def _key(shared: bytes) -> bytes:
    def field(octets: bytes) -> bytes:
        return len(octets).to_bytes(4) + octets

    return hashlib.sha256((1).to_bytes(4) + shared + field(b"A256GCM") + field(b"") * 2 + (256).to_bytes(4)).digest()


def sign(payload: bytes, key: dict[str, Any], header: dict[str, Any] | bytes = JWS_HEADER) -> bytes:
    """JWS compact; *header* as octets goes in as it is."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = b64url(raw) + b"." + b64url(payload)
    r, s = decode_dss_signature(private_key(key).sign(signed, ec.ECDSA(hashes.SHA256())))
    return signed + b"." + b64url(r.to_bytes(32) + s.to_bytes(32))


def verify(token: bytes, key: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    header, payload, signature = token.split(b".")
    raw = unb64url(signature)
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public_key(key).verify(der, header + b"." + payload, ec.ECDSA(hashes.SHA256()))
    return json.loads(unb64url(header)), unb64url(payload)


def encrypt(
    plaintext: bytes,
    key: dict[str, Any],
    header: dict[str, Any] = JWE_HEADER,
    epk: dict[str, Any] | None = None,
    encrypted_key: bytes = b"",
) -> bytes:
    """JWE compact; *epk* replaces the ephemeral key in the header only."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    numbers = ephemeral.public_key().public_numbers()
    own = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64url(numbers.x.to_bytes(32)).decode(),
        "y": b64url(numbers.y.to_bytes(32)).decode(),
    }
    protected = b64url(json.dumps({**header, "epk": own if epk is None else epk}).encode())
    nonce = os.urandom(12)
    sealed = AESGCM(_key(ephemeral.exchange(ec.ECDH(), public_key(key)))).encrypt(nonce, plaintext, protected)
    return b".".join(
        (protected, b64url(encrypted_key), b64url(nonce), b64url(sealed[:-16]), b64url(sealed[-16:]))
    )  # fmt: skip


def decrypt(token: bytes, key: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    protected, encrypted_key, nonce, ciphertext, tag = token.split(b".")
    header = json.loads(unb64url(protected))
    assert encrypted_key == b""
    shared = private_key(key).exchange(ec.ECDH(), public_key(header["epk"]))
    return header, AESGCM(_key(shared)).decrypt(unb64url(nonce), unb64url(ciphertext) + unb64url(tag), protected)
