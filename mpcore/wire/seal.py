"""Sealing of payloads: encrypted for the receiver, signed by the sender (guide, wire format, "Sealing").

From inside out: the message P; E, the JWE (RFC 7516) of P in compact form, ``ECDH-ES`` with ``A256GCM``; S, the JWS
(RFC 7515) of the octets of E in compact form, ``ES256``; B, the standard base64 of S.  B travels.  There is no JWT, no
``kid``, no issue time: freshness and addressing are checked on the message inside.

This is the only file that knows the JOSE library.  Exactly one form is accepted: compact, these algorithms, P-256, no
compression, no ``crit``, no key wrap; every size is checked before anything is decoded, and the signature is verified
before anything is decrypted.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from jwcrypto import jwe, jwk, jws  # type: ignore[import-untyped]

from mpcore.errors import PolicyError, SealError
from mpcore.wire.times import rfc3339_seconds

__all__ = (
    "MAX_HEADER",
    "MAX_SEALED",
    "PrivateKey",
    "PublicKey",
    "looks_sealed",
    "read_private_key",
    "read_public_key",
    "read_public_keys",
    "seal",
    "unseal",
    "write_private_key",
    "write_public_key",
)

MAX_SEALED: Final = 1 << 20
"""Most octets of a sealed payload; above 65 kB it must be fetched by its receiver."""

MAX_HEADER: Final = 1024
"""Most octets of a JOSE header, as base64url text; the usual one has 480."""

_MAX_KEY_FILE: Final = 65536
_MAX_KEY: Final = 8192

_SIGN: Final = "ES256"
_AGREE: Final = "ECDH-ES"
_ENCRYPT: Final = "A256GCM"

_JWS_HEADER: Final = json.dumps(
    {"alg": _SIGN, "cty": "application/octet-stream", "typ": "JWS"}, separators=(",", ":")
)  # fmt: skip
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*\Z")
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z", re.ASCII)
"""Base64url text of 32 octets, the unused bits of its last character zero."""


# ---------------------------------------------------------------------------------------------------------------- keys


def _key_members(source: str | bytes | Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """The members *names* of a P-256 JWK, checked for form; all others are dropped, ``use`` and ``alg`` too."""
    if isinstance(source, (str, bytes)):
        if len(source) > _MAX_KEY:
            raise SealError("a key is longer than 8192 octets")
        try:
            source = json.loads(source)
        except (ValueError, RecursionError):
            raise SealError("a key is not JSON") from None
    if not isinstance(source, Mapping):
        raise SealError("a key is not a JSON object")
    if source.get("kty") != "EC" or source.get("crv") != "P-256":
        raise SealError("not a P-256 key")
    members = {"kty": "EC", "crv": "P-256"}
    for name in names:
        value = source.get(name)
        if not isinstance(value, str) or not _COORDINATE.match(value):
            raise SealError(f"member {name!r} of a key is not base64url of 32 octets")
        members[name] = value
    return members


def _integer(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "="))


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()


class PublicKey:
    """Public half of a node's key: verifies its signatures, encrypts for it.  Immutable and hashable."""

    __slots__ = ("_jwk", "_x", "_y")

    def __init__(self, x: str, y: str) -> None:
        """:param x: coordinate, base64url of 32 octets; likewise *y*.

        :raises SealError: they are not a point on P-256.
        """
        members = _key_members({"kty": "EC", "crv": "P-256", "x": x, "y": y}, ("x", "y"))
        try:
            ec.EllipticCurvePublicNumbers(_integer(x), _integer(y), ec.SECP256R1()).public_key()
        except ValueError:
            raise SealError("a key is not a point on its curve") from None
        self._x, self._y = x, y
        self._jwk = jwk.JWK(**members)

    @classmethod
    def from_jwk(cls, source: str | bytes | Mapping[str, Any]) -> Self:
        """The key in a JWK (RFC 7517), text or members; members other than ``kty``, ``crv``, ``x``, ``y`` are ignored.

        :raises SealError: it is not a P-256 key with coordinates of 32 octets that are a point on the curve.
        """
        members = _key_members(source, ("x", "y"))
        return cls(members["x"], members["y"])

    def to_jwk(self) -> dict[str, str]:
        """``kty``, ``crv``, ``x`` and ``y``, in the order in which they are published."""
        return {"kty": "EC", "crv": "P-256", "x": self._x, "y": self._y}

    @property
    def thumbprint(self) -> str:
        """SHA-256 thumbprint (RFC 7638), base64url, for people to compare."""
        text: str = self._jwk.thumbprint()
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and (self._x, self._y) == (other._x, other._y)

    def __hash__(self) -> int:
        return hash((self._x, self._y))

    def __repr__(self) -> str:
        return f"PublicKey({self.thumbprint})"


class PrivateKey:
    """A node's key pair; one pair signs and decrypts.  Its text forms never show the secret, except :meth:`to_jwk`."""

    __slots__ = ("_d", "_jwk", "_public")

    def __init__(self, public: PublicKey, d: str) -> None:
        """:param d: secret, base64url of 32 octets.

        :raises SealError: it does not belong to *public*.
        """
        members = _key_members({**public.to_jwk(), "d": d}, ("x", "y", "d"))
        try:
            numbers = ec.derive_private_key(_integer(d), ec.SECP256R1()).public_key().public_numbers()
        except ValueError:
            raise SealError("the secret of a key is out of range") from None
        if (_base64url(numbers.x), _base64url(numbers.y)) != (members["x"], members["y"]):
            raise SealError("the halves of a key do not belong together")
        self._public, self._d = public, d
        self._jwk = jwk.JWK(**members)

    @classmethod
    def from_jwk(cls, source: str | bytes | Mapping[str, Any]) -> Self:
        """The key in a private JWK, text or members; members other than ``kty``, ``crv``, ``x``, ``y``, ``d`` are
        ignored, among them ``use``: one key signs and decrypts.

        :raises SealError: it is not a P-256 key, or its halves do not belong together.
        """
        members = _key_members(source, ("x", "y", "d"))
        return cls(PublicKey(members["x"], members["y"]), members["d"])

    @classmethod
    def generate(cls) -> Self:
        """A new key, from the operating system's random source."""
        key = ec.generate_private_key(ec.SECP256R1())
        numbers = key.private_numbers()
        public = PublicKey(_base64url(numbers.public_numbers.x), _base64url(numbers.public_numbers.y))
        return cls(public, _base64url(numbers.private_value))

    def public(self) -> PublicKey:
        """The public half."""
        return self._public

    def to_jwk(self) -> dict[str, str]:
        """``kty``, ``crv``, ``x``, ``y`` and the secret ``d``."""
        return {**self._public.to_jwk(), "d": self._d}

    def __repr__(self) -> str:
        return f"PrivateKey({self._public.thumbprint})"


def _without_comments(text: str) -> str:
    if len(text) > _MAX_KEY_FILE:
        raise SealError("a key file is longer than 65536 characters")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def read_public_keys(text: str) -> tuple[PublicKey, ...]:
    """The public key in the *text* of a file, like :func:`read_public_key`, or the keys of a JWK Set (RFC 7517).

    :raises SealError: it is neither, holds a secret in the set, or more than two keys.
    """
    clean = _without_comments(text)
    try:
        members = json.loads(clean)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict) or "keys" not in members:
        return (read_public_key(text),)
    listed = members["keys"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= 2 or not all(isinstance(key, dict) for key in listed):
        raise SealError("JWK Set: not one or two keys")
    if any("d" in key for key in listed):
        raise SealError("JWK Set: a private key")
    return tuple(dict.fromkeys(PublicKey.from_jwk(key) for key in listed))


def read_private_key(text: str) -> PrivateKey:
    """The key in the *text* of a key file: comment lines (``#``) and empty lines, then one private JWK.

    :raises SealError: there is none.
    """
    return PrivateKey.from_jwk(_without_comments(text))


def read_public_key(text: str) -> PublicKey:
    """The key in the *text* of a key file, like :func:`read_private_key`; a private JWK gives its public half.

    :raises SealError: there is none.
    """
    return PublicKey.from_jwk(_without_comments(text))


def write_private_key(key: PrivateKey, comments: Iterable[str] = ()) -> str:
    """Text of a key file with the secret, with the members that the deployed implementation writes.

    :param comments: lines to put in front.
    """
    lines = [f"# {line}" for comment in comments for line in comment.splitlines()]
    members = {"use": "enc", "kty": "EC", "crv": "P-256", "alg": _AGREE, **key.to_jwk()}
    return "\n".join([*lines, json.dumps(members, indent=2), ""])


def write_public_key(key: PublicKey) -> str:
    """Text of a public key file; without comments, because the deployed implementation cannot skip them there."""
    return json.dumps({"use": "enc", "kty": "EC", "crv": "P-256", "alg": _AGREE, **key.to_jwk()}, indent=2) + "\n"


# ------------------------------------------------------------------------------------------------------------- sealing


def seal(plaintext: bytes, sender: PrivateKey, recipient: PublicKey, recipient_identity: str, now: float) -> bytes:
    """*plaintext* encrypted for *recipient* and signed by *sender*.  Takes most of a millisecond of CPU.

    :param plaintext: the message, not empty, about 440 kB at most; about 27 kB go with a DNS message.
    :param recipient_identity: goes into the header, where nobody reads it.
    :param now: Unix seconds; goes into the header, where nobody reads it.
    :raises PolicyError: it is empty, or the result would be longer than :data:`MAX_SEALED`.
    """
    if not 1 <= len(plaintext) <= MAX_SEALED:
        raise PolicyError(f"a message of {len(plaintext)} octets cannot be sealed")
    header = {
        "alg": _AGREE,
        "enc": _ENCRYPT,
        "typ": "tdns-distribution",
        "cty": "application/octet-stream",
        "crypto_backend": "jose",
        "recipients_count": 1,
        "peer_id": recipient_identity,
        "timestamp": rfc3339_seconds(now),
    }
    envelope = jwe.JWE(plaintext, json.dumps(header, separators=(",", ":")), algs=[_AGREE, _ENCRYPT])
    envelope.add_recipient(recipient._jwk)
    signed = jws.JWS(envelope.serialize(compact=True))
    signed.allowed_algs = [_SIGN]
    signed.add_signature(sender._jwk, None, _JWS_HEADER)
    sealed = base64.b64encode(signed.serialize(compact=True).encode("ascii"))
    if len(sealed) > MAX_SEALED:
        raise PolicyError(f"a message of {len(plaintext)} octets is too long to be sealed")
    return sealed


def looks_sealed(data: bytes) -> bool:
    """Whether *data* is a sealed payload by its looks: standard base64 of something that does not begin with ``{``.

    Everything else is clear JSON, or garbage that will fail as JSON.
    """
    if data[:1] == b"{" or len(data) > MAX_SEALED:
        return False
    try:
        return _unwrap(data)[:1] not in (b"", b"{")
    except SealError:
        return False


def _unwrap(data: bytes) -> bytes:
    """The octets in standard base64 text, whole and padded; line breaks are ignored."""
    if len(data) > MAX_SEALED:
        raise SealError(f"base64: {len(data)} octets; at most {MAX_SEALED} are read")
    text = data.translate(None, b"\r\n")
    if len(text) % 4:
        raise SealError("base64: not whole groups of four")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise SealError(f"base64: {error}") from None


def _parts(layer: str, token: bytes, count: int) -> list[bytes]:
    parts = token.split(b".", count)
    if len(parts) != count:
        raise SealError(f"{layer}: not exactly {count} parts")
    if not all(_BASE64URL.match(part) for part in parts):
        raise SealError(f"{layer}: a part is not base64url")
    return parts


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _header(layer: str, part: bytes, expected: Mapping[str, str]) -> dict[str, Any]:
    """The protected header in *part*, which must say what is *expected* and nothing that changes the processing."""
    if len(part) > MAX_HEADER:
        raise SealError(f"{layer}: a header longer than {MAX_HEADER} octets")
    try:
        octets = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
        members = json.loads(octets.decode(), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError):
        raise SealError(f"{layer}: the header is not JSON in base64url") from None
    if type(members) is not dict:
        raise SealError(f"{layer}: the header is not an object")
    for name, value in expected.items():
        if members.get(name) != value:
            raise SealError(f"{layer}: {name} is not {value}")
    for name in ("crit", "zip", "b64", "apu", "apv"):
        if name in members:
            raise SealError(f"{layer}: header member {name} is not accepted")
    return members


def _verify(token: bytes, sender: PublicKey) -> bytes:
    header, _, signature = _parts("JWS", token, 3)
    _header("JWS", header, {"alg": _SIGN})
    if len(signature) != 86:
        raise SealError("JWS: the signature has not 64 octets")
    signed = jws.JWS()
    signed.allowed_algs = [_SIGN]
    try:
        signed.deserialize(token.decode("ascii"))
        signed.verify(sender._jwk, _SIGN)
        payload = signed.payload
    except Exception:  # whatever the library raises about octets from outside is the sender's fault
        raise SealError("JWS: the signature is not the sender's") from None
    if not isinstance(payload, bytes):
        raise SealError("JWS: there is no payload")
    return payload


def _decrypt(token: bytes, recipient: PrivateKey) -> bytes:
    header, encrypted_key, nonce, _, tag = _parts("JWE", token, 5)
    members = _header("JWE", header, {"alg": _AGREE, "enc": _ENCRYPT})
    ephemeral = members.get("epk")
    if type(ephemeral) is not dict or set(ephemeral) != {"kty", "crv", "x", "y"}:
        raise SealError("JWE: no ephemeral key")
    try:
        _key_members(ephemeral, ("x", "y"))
    except SealError as error:
        raise SealError(f"JWE: {error}") from None
    if encrypted_key or len(nonce) != 16 or len(tag) != 22:
        raise SealError("JWE: a part has not its fixed length")
    envelope = jwe.JWE(algs=[_AGREE, _ENCRYPT])
    try:
        envelope.deserialize(token.decode("ascii"))
        envelope.decrypt(recipient._jwk)
        plaintext = envelope.plaintext
    except Exception:  # as above
        raise SealError("JWE: not for us, or altered") from None
    if not isinstance(plaintext, bytes):
        raise SealError("JWE: there is no plaintext")
    return plaintext


def unseal(data: bytes, sender: PublicKey, recipient: PrivateKey) -> bytes:
    """The message in the sealed payload *data*.  Takes most of a millisecond of CPU.

    :param data: at most :data:`MAX_SEALED` octets; line breaks in the base64 text are ignored.
    :param sender: the key of the node that claims to have sent it.
    :param recipient: our key.
    :raises SealError: it is not sealed in the one accepted form, not signed by *sender*, or not encrypted for us.
    """
    return _decrypt(_verify(_unwrap(data), sender), recipient)
