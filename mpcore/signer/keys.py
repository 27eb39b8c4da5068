"""DNSSEC keys: generation, PKCS#8 PEM with or without a passphrase, key tags, and raw signatures.

A :class:`SigningKey` is immutable: a change of state makes a new one.  The private part stays PEM text in the form in
which it is kept (encrypted when there is a passphrase) and a loaded key object beside it; neither shows in ``repr``.

Algorithms: RSASHA256 (8, RFC 5702; 2048 bits), ECDSAP256SHA256 (13, RFC 6605) and ED25519 (15, RFC 8080).  ECDSA
signatures are deterministic (RFC 6979), so signing needs no randomness.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mpcore.actions import RandomSource
from mpcore.errors import ConfigError, ConflictError, LocalError, StoreError
from mpcore.names import ZoneName

__all__ = (
    "KSK_FLAGS",
    "ZSK_FLAGS",
    "Algorithm",
    "KeyState",
    "PrivateKey",
    "SigningKey",
    "algorithm_number",
    "dnskey_rdata",
    "dnskey_text",
    "dump_pem",
    "generate_private_key",
    "generate_signing_key",
    "key_tag",
    "load_pem",
    "raw_signer",
)

ZSK_FLAGS: Final = 0x0100  #: Zone Key (RFC 4034, section 2.1.1)
KSK_FLAGS: Final = 0x0101  #: Zone Key and Secure Entry Point

_RSA_BITS: Final = 2048
_ATTEMPTS: Final = 100
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Algorithm(IntEnum):
    """The DNSSEC algorithms that keys are generated for."""

    RSASHA256 = 8
    ECDSAP256SHA256 = 13
    ED25519 = 15


class KeyState(StrEnum):
    """States of a key, spelled as in key inventories (guide, wire format, "keystate").

    ==============  ==============  ================  ==========================
    state           in the RRset    signs (KSK, ZSK)  leaves when
    ==============  ==============  ================  ==========================
    created         no              no, no            distributed
    mpdist          yes             no, no            every provider has it
    published       yes             no, no            caches have it
    ds-published    yes             no, no            the DS is known everywhere
    standby         yes             no, no            rollover
    active          yes             yes, yes          rollover
    retired         yes             **yes**, no       its DS, its signatures are gone
    mpremove        no              no, no            every provider is without it
    removed         no              no, no            never; the key tag stays taken
    foreign         yes             no, no            its provider withdraws it
    ==============  ==============  ================  ==========================
    """

    CREATED = "created"
    MPDIST = "mpdist"
    PUBLISHED = "published"
    DS_PUBLISHED = "ds-published"
    STANDBY = "standby"
    ACTIVE = "active"
    RETIRED = "retired"
    MPREMOVE = "mpremove"
    REMOVED = "removed"
    FOREIGN = "foreign"

    @property
    def publishes(self) -> bool:
        """Whether a key in this state is in the zone's DNSKEY RRset."""
        return self in _PUBLISHING


_PUBLISHING: Final = frozenset(
    {
        KeyState.MPDIST,
        KeyState.PUBLISHED,
        KeyState.DS_PUBLISHED,
        KeyState.STANDBY,
        KeyState.ACTIVE,
        KeyState.RETIRED,
        KeyState.FOREIGN,
    }
)


def algorithm_number(name: str) -> Algorithm:
    """The algorithm of a mnemonic as in ``dns-security-algorithm`` registries; :raises ConfigError: not one of ours."""
    try:
        return Algorithm[name.upper()]
    except KeyError:
        raise ConfigError(f"algorithm {name!r} is not one of {', '.join(a.name for a in Algorithm)}") from None


def key_tag(rdata: bytes) -> int:
    """Key tag of a DNSKEY or KEY RDATA, 0 to 65535 (RFC 4034, appendix B; not for algorithm 1)."""
    total = sum(rdata[0::2]) * 256 + sum(rdata[1::2])
    return (total + (total >> 16)) & 0xFFFF


def dnskey_text(zone: str, ttl: int, rdata: bytes) -> str:
    """One line for a DNSKEY record: fields separated by TABs, RDATA fields by single spaces, base64 in one piece.

    :raises ConfigError: *rdata* is shorter than the four fixed octets.
    """
    if len(rdata) < 4:
        raise ConfigError("DNSKEY RDATA is too short")
    flags, protocol, algorithm = int.from_bytes(rdata[:2]), rdata[2], rdata[3]
    return f"{zone}\t{ttl}\tIN\tDNSKEY\t{flags} {protocol} {algorithm} {base64.b64encode(rdata[4:]).decode()}"


def generate_private_key(algorithm: Algorithm, random: RandomSource | None = None) -> PrivateKey:
    """A new private key.

    :param random: ``None``: the operating system's generator.  Otherwise the key is derived from it, for repeatable
        simulations; RSA keys cannot be.
    :raises ConfigError: *random* with RSASHA256.
    """
    match algorithm:
        case Algorithm.ECDSAP256SHA256:
            if random is None:
                return ec.generate_private_key(ec.SECP256R1())
            return ec.derive_private_key(random.getrandbits(320) % (_P256_ORDER - 1) + 1, ec.SECP256R1())
        case Algorithm.ED25519:
            if random is None:
                return ed25519.Ed25519PrivateKey.generate()
            return ed25519.Ed25519PrivateKey.from_private_bytes(random.getrandbits(256).to_bytes(32))
        case Algorithm.RSASHA256:
            if random is not None:
                raise ConfigError("RSA keys cannot be generated from a given source of randomness")
            return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)


def _algorithm_of(private: PrivateKey) -> Algorithm:
    if isinstance(private, rsa.RSAPrivateKey):
        return Algorithm.RSASHA256
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return Algorithm.ED25519
    return Algorithm.ECDSAP256SHA256


def dnskey_rdata(private: PrivateKey, flags: int) -> bytes:
    """DNSKEY RDATA of the public half (RFC 4034, section 2.1; key fields of RFC 3110, 6605 and 8080)."""
    public = private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8)
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        length = bytes((len(exponent),)) if len(exponent) < 256 else b"\0" + len(exponent).to_bytes(2)
        material = length + exponent + modulus
    elif isinstance(public, ed25519.Ed25519PublicKey):
        material = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    else:
        # The uncompressed point without its leading 0x04.
        material = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]
    return flags.to_bytes(2) + bytes((3, _algorithm_of(private))) + material


def dump_pem(private: PrivateKey, passphrase: bytes | None = None) -> str:
    """PKCS#8 PEM text; encrypted when *passphrase* is given (some 10 ms of CPU)."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def load_pem(text: str | bytes, passphrase: bytes | None = None, *, file: str | None = None) -> PrivateKey:
    """Read a private key that :func:`dump_pem`, ``openssl genpkey`` or the Go implementation wrote.

    :param file: where *text* came from, for the error message.
    :raises ConfigError: no PKCS#8 key, the wrong passphrase or none, or a kind of key that does not sign here.
    """
    data = text.encode() if isinstance(text, str) else text
    try:
        encrypted = b"ENCRYPTED" in data
        key = serialization.load_pem_private_key(data, passphrase if encrypted and passphrase else None)
    except TypeError:
        raise ConfigError("the private key is encrypted and no passphrase is configured", file=file) from None
    except (ValueError, UnsupportedAlgorithm):
        reason = "does not open with the passphrase" if encrypted else "is not PKCS#8 PEM"
        raise ConfigError(f"the private key {reason}", file=file) from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and 1024 <= key.key_size <= 4096:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ConfigError("the private key is not RSA (1024 to 4096 bits), P-256 or Ed25519", file=file)


def raw_signer(private: PrivateKey) -> Callable[[bytes], bytes]:
    """A function from the octets to be signed to the signature field of an RRSIG (RFC 4034, section 3.1.8).

    It holds no lock and releases the interpreter while it computes: threads may share it.
    """
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign
    if isinstance(private, rsa.RSAPrivateKey):
        pkcs1, sha256, rsa_sign = padding.PKCS1v15(), hashes.SHA256(), private.sign
        return lambda data: rsa_sign(data, pkcs1, sha256)
    ecdsa, ec_sign = ec.ECDSA(hashes.SHA256(), deterministic_signing=True), private.sign

    def sign(data: bytes) -> bytes:
        # SEQUENCE of two INTEGERs, 72 octets at most, to the two 32-octet numbers of RFC 6605, section 4.
        der = ec_sign(data, ecdsa)
        middle = 4 + der[3]
        return der[4:middle][-32:].rjust(32, b"\0") + der[middle + 2 :][-32:].rjust(32, b"\0")

    return sign


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of a zone, our own: public part, state and (until it is removed) private part.

    :param zone: zone name, absolute, lower case.
    :param dnskey: DNSKEY RDATA in wire form.
    :param created_at: Unix seconds.
    :param changed_at: Unix seconds of the last change of state.
    :param pem: PKCS#8 PEM as it is kept, encrypted if a passphrase is configured; ``None`` once the key is removed.
    :param rejected: reason of the last refusal by a provider, ``""`` if there is none.
    """

    zone: str
    state: KeyState
    dnskey: bytes
    created_at: float
    changed_at: float
    rejected: str = ""
    pem: str | None = field(default=None, repr=False)
    private: PrivateKey | None = field(default=None, repr=False, compare=False)

    @property
    def flags(self) -> int:
        """DNSKEY flags, 256 (ZSK) or 257 (KSK)."""
        return int.from_bytes(self.dnskey[:2])

    @property
    def algorithm(self) -> int:
        """DNSSEC algorithm number."""
        return self.dnskey[3]

    @property
    def key_tag(self) -> int:
        """Key tag (RFC 4034, appendix B)."""
        return key_tag(self.dnskey)

    @property
    def is_ksk(self) -> bool:
        """Whether the Secure Entry Point flag is set."""
        return bool(self.dnskey[1] & 1)

    @property
    def store_key(self) -> str:
        """Key under which the signer's database keeps it: zone, tag and algorithm."""
        return f"{self.zone}/{self.key_tag}/{self.algorithm}"

    def signer(self) -> Callable[[bytes], bytes]:
        """The key's :func:`raw_signer`; :raises ConflictError: the private part is gone."""
        if self.private is None:
            raise ConflictError(f"key {self.key_tag} of {self.zone} has no private part")
        return raw_signer(self.private)

    def to_state(self, state: KeyState, now: float) -> Self:
        """The key in another state; ``removed`` drops the private part."""
        if state is KeyState.REMOVED:
            return replace(self, state=state, changed_at=now, rejected="", pem=None, private=None)
        return replace(self, state=state, changed_at=now, rejected="")

    def with_rejection(self, reason: str) -> Self:
        """The key with the reason why a provider refused it; its state stays."""
        return replace(self, rejected=reason)

    def to_value(self) -> dict[str, Any]:
        """JSON-able form for the database; :meth:`from_value` reads it."""
        return {
            "zone": self.zone,
            "algorithm": self.algorithm,
            "flags": self.flags,
            "key_tag": self.key_tag,
            "state": self.state.value,
            "dnskey": base64.b64encode(self.dnskey).decode(),
            "created_at": self.created_at,
            "changed_at": self.changed_at,
            "rejected": self.rejected,
            "pem": self.pem,
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any], passphrase: bytes | None = None) -> Self:
        """Read what :meth:`to_value` wrote.

        :raises ConfigError: the passphrase does not open the private part.
        :raises StoreError: the value is damaged, or public and private part do not belong together.
        """
        try:
            rdata = base64.b64decode(value["dnskey"], validate=True)
            zone, state = ZoneName(value["zone"]), KeyState(value["state"])
            created, changed = float(value["created_at"]), float(value["changed_at"])
            rejected, pem = str(value.get("rejected", "")), value["pem"]
        except (KeyError, TypeError, ValueError, binascii.Error, LocalError) as error:
            raise StoreError(f"stored key does not parse: {error!r}") from None
        private = None if pem is None else load_pem(pem, passphrase)
        if len(rdata) < 5 or (private is not None and dnskey_rdata(private, int.from_bytes(rdata[:2])) != rdata):
            raise StoreError(f"stored key of {zone}: the public part does not belong to the private part")
        return cls(zone, state, rdata, created, changed, rejected, pem, private)

    @classmethod
    def from_private(
        cls,
        zone: str,
        private: PrivateKey,
        *,
        ksk: bool,
        now: float,
        state: KeyState = KeyState.ACTIVE,
        passphrase: bytes | None = None,
    ) -> Self:
        """A key of *zone* around an existing private key."""
        rdata = dnskey_rdata(private, KSK_FLAGS if ksk else ZSK_FLAGS)
        return cls(ZoneName(zone), state, rdata, now, now, "", dump_pem(private, passphrase), private)

    @classmethod
    def from_pem(
        cls,
        zone: str,
        text: str | bytes,
        *,
        ksk: bool,
        now: float,
        passphrase: bytes | None = None,
        file: str | None = None,
    ) -> Self:
        """An active key from a PEM file, as for the agent's identity zone.

        :raises ConfigError: see :func:`load_pem`.
        """
        return cls.from_private(zone, load_pem(text, passphrase, file=file), ksk=ksk, now=now, passphrase=passphrase)


def generate_signing_key(
    zone: str,
    algorithm: int,
    ksk: bool,
    now: float,
    *,
    state: KeyState = KeyState.CREATED,
    passphrase: bytes | None = None,
    avoid: Collection[int] = (),
    random: RandomSource | None = None,
) -> SigningKey:
    """Generate a key whose tag is none of *avoid* and not 0, which peers cannot name in a KEYSTATE message.

    P-256 and Ed25519 take well under a millisecond, RSA and encryption with a passphrase tens to hundreds: use a
    worker thread for them.

    :param algorithm: one of :class:`Algorithm`.
    :param avoid: key tags taken by own, foreign and removed keys of the zone.
    :param random: see :func:`generate_private_key`.
    :raises ConfigError: an algorithm that is not generated here.
    :raises ConflictError: 100 keys in a row had a tag that is taken.
    """
    try:
        kind = Algorithm(algorithm)
    except ValueError:
        raise ConfigError(f"keys of algorithm {algorithm} are not generated here") from None
    for _ in range(_ATTEMPTS):
        private = generate_private_key(kind, random)
        tag = key_tag(dnskey_rdata(private, KSK_FLAGS if ksk else ZSK_FLAGS))
        if tag and tag not in avoid:
            return SigningKey.from_private(zone, private, ksk=ksk, now=now, state=state, passphrase=passphrase)
    raise ConflictError(f"{zone}: no key tag is free for another key")
