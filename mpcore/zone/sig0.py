"""Transaction signatures by public key (SIG(0), RFC 2931) on messages as octets.

A message ends with one SIG record, or with a few by different keys, that each cover ``RDATA without signature | the
message as it was before any of them was added``; for an answer the whole request stands between the two.  Records here
are emitted with the root as owner, class ANY and TTL 0, as the RFC asks; other owners, class IN and other TTLs are
accepted, because there are implementations that send them.

A message is taken apart with :func:`find_sig0` first, and everything that costs nothing is looked at (is the signer
known, is it the time) before the one verification that costs something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from mpcore.errors import RecordError, Sig0Error
from mpcore.zone import _message, owners
from mpcore.zone.rrset import parse_record
from mpcore.zone.serial import compare

__all__ = (
    "ALGORITHMS",
    "LIFETIME",
    "MAX_LIFETIME",
    "MAX_SIGNATURES",
    "SIG0_RESERVE",
    "SKEW",
    "Sig0Key",
    "Sig0Keys",
    "Sig0Signature",
    "check_time",
    "find_sig0",
    "fingerprint",
    "key_tag",
    "sign_sig0",
    "strip_sig0",
    "verify_sig0",
)

ALGORITHMS: Final = {8: "RSASHA256", 13: "ECDSAP256SHA256", 15: "ED25519"}
"""Algorithms of keys, by number (RFC 5702, RFC 6605, RFC 8080)."""

LIFETIME: Final = 300
"""Seconds that a signature made here is valid before and after the present (RFC 2931, section 3.3)."""

MAX_LIFETIME: Final = 3600
"""Longest time from inception to expiration that is accepted, seconds: replays must be remembered for so long."""

SKEW: Final = 60
"""How far another clock may differ from ours beyond the signature's own window, seconds."""

MAX_SIGNATURES: Final = 4
"""Most SIG records of one message: a signer that changes its key sends two."""

SIG0_RESERVE: Final = 11 + 18 + 255 + 512
"""Octets that the largest SIG record takes: leave them free in a message that will be signed."""

_SIG: Final = 24
_KEY: Final = 25
_IN: Final = 1
_ANY: Final = 255
_FIXED: Final = 18  # octets of SIG RDATA before the signer's name
_FORMERR: Final = 1
_BADSIG: Final = 16
_BADKEY: Final = 17
_BADTIME: Final = 18
_PROTOCOL: Final = 3  # DNSSEC, RFC 3445 section 4
_NO_AUTHENTICATION: Final = 0x8000  # RFC 2535, section 3.1.2
_RSA_BITS: Final = range(1024, 4097)
_MAX_EXPONENT: Final = 1 << 33


def key_tag(rdata: bytes) -> int:
    """Key tag of KEY RDATA, 0 to 65535 (RFC 4034, appendix B; not for algorithm 1)."""
    total = sum(rdata[0::2]) * 256 + sum(rdata[1::2])
    return (total + (total >> 16)) & 0xFFFF


@dataclass(frozen=True, slots=True)
class Sig0Key:
    """The public key of a signer: a KEY record.

    :param name: the signer's name, canonical wire octets.
    :param rdata: KEY RDATA.
    :raises RecordError: not a key of one of :data:`ALGORITHMS`, or one that is not for authentication.
    """

    name: bytes
    rdata: bytes
    tag: int = field(init=False)  #: key tag
    _verify: Callable[[bytes, bytes], None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.rdata) < 5:
            raise RecordError("a KEY record without a key")
        if self.rdata[2] != _PROTOCOL or int.from_bytes(self.rdata[:2], "big") & _NO_AUTHENTICATION:
            raise RecordError(f"the KEY record of {owners.to_text(self.name)} is not for authentication")
        object.__setattr__(self, "tag", key_tag(self.rdata))
        object.__setattr__(self, "_verify", _verifier(self.algorithm, self.rdata[4:]))

    @property
    def algorithm(self) -> int:
        """Number of the algorithm."""
        return self.rdata[3]

    @property
    def name_text(self) -> str:
        """The signer's name in presentation form."""
        return owners.to_text(self.name)

    @classmethod
    def from_text(cls, record: str) -> Sig0Key:
        """A key from its record, one line as ``dnssec-keygen -T KEY`` writes it.

        :raises RecordError: not a KEY record, or as the constructor.
        """
        owner, rdtype, _, rdata = parse_record(record)
        if rdtype != _KEY:
            raise RecordError("not a KEY record")
        return cls(owner, rdata)


class Sig0Keys:
    """The keys that may sign, found by signer, algorithm and tag.  Immutable.

    :param keys: no two of one signer with the same algorithm and tag: a message is verified once, so there must be no
        choice.
    :raises RecordError: there are two.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[Sig0Key] = ()) -> None:
        self._keys: dict[tuple[bytes, int, int], Sig0Key] = {}
        for key in keys:
            if self._keys.setdefault((key.name, key.algorithm, key.tag), key) != key:
                raise RecordError(f"two keys of {key.name_text} have the tag {key.tag}")

    def __len__(self) -> int:
        return len(self._keys)

    def choose(self, signatures: Sequence[Sig0Signature]) -> tuple[Sig0Signature, Sig0Key]:
        """The first signature whose key is known, and that key; :raises Sig0Error: (BADKEY) there is none."""
        for signature in signatures:
            key = self._keys.get((signature.signer, signature.algorithm, signature.key_tag))
            if key is not None:
                return signature, key
        names = ", ".join(f"{owners.to_text(signature.signer)} {signature.key_tag}" for signature in signatures)
        raise Sig0Error(f"no key is known for SIG(0) by {names}", rcode=_BADKEY)


@dataclass(frozen=True, slots=True)
class Sig0Signature:
    """One SIG(0) record of a message.

    :param signer: name of the key, canonical wire octets.
    :param inception: Unix seconds modulo 2**32, as is *expiration*.
    :param prefix: RDATA up to the signature, as it is signed.
    :param start: offset of the first of the message's SIG(0) records.
    :param count: how many there are.
    """

    signer: bytes
    algorithm: int
    key_tag: int
    inception: int
    expiration: int
    signature: bytes
    prefix: bytes
    start: int
    count: int


def find_sig0(octets: bytes) -> tuple[Sig0Signature, ...]:
    """The SIG(0) records at the end of a message, in their order; empty if it carries none.

    :raises Sig0Error: (FORMERR) the message does not parse, a SIG(0) is malformed or stands before other records, or
        there are more than :data:`MAX_SIGNATURES`.
    """
    found: list[_message.Located] = []
    end = 0
    try:
        for record in _message.records(octets):
            end = record.end
            if record.section == 3 and record.rdtype == _SIG and octets[record.rdata : record.rdata + 2] == b"\0\0":
                found.append(record)
                if len(found) > MAX_SIGNATURES:
                    raise Sig0Error(f"more than {MAX_SIGNATURES} SIG(0) records")
            elif found:
                raise Sig0Error("SIG(0) is not the last record")
        if found and end != len(octets):
            raise Sig0Error("octets follow the last record")
        return tuple(_signature(octets, record, found[0].start, len(found)) for record in found)
    except RecordError as error:
        raise Sig0Error(f"the message does not parse: {error}") from None


def _signature(octets: bytes, record: _message.Located, start: int, count: int) -> Sig0Signature:
    if record.rdclass not in (_ANY, _IN):
        raise Sig0Error(f"SIG(0) of class {record.rdclass}")
    fixed = octets[record.rdata : record.rdata + _FIXED]
    if record.end - record.rdata <= _FIXED:
        raise Sig0Error("SIG(0) is truncated")
    signer, behind = owners.read_name(octets, record.rdata + _FIXED)
    if behind >= record.end:
        raise Sig0Error("SIG(0) without a signature")
    return Sig0Signature(
        signer=signer.lower(),
        algorithm=fixed[2],
        key_tag=int.from_bytes(fixed[16:18], "big"),
        inception=int.from_bytes(fixed[12:16], "big"),
        expiration=int.from_bytes(fixed[8:12], "big"),
        signature=octets[behind : record.end],
        prefix=fixed + signer,
        start=start,
        count=count,
    )


def strip_sig0(octets: bytes, signature: Sig0Signature) -> bytes:
    """The message as it was before its SIG(0) records were added."""
    count = int.from_bytes(octets[10:12], "big") - signature.count
    return octets[:10] + count.to_bytes(2, "big") + octets[12 : signature.start]


def check_time(signature: Sig0Signature, now: float) -> None:
    """Check that it is the time of a signature (serial arithmetic, RFC 4034, section 3.1.5).

    :param now: Unix seconds.
    :raises Sig0Error: (BADTIME) it is not, or the signature would be valid for longer than :data:`MAX_LIFETIME`.
    """
    present = int(now)
    lifetime = (signature.expiration - signature.inception) & 0xFFFFFFFF
    if not 0 <= lifetime <= MAX_LIFETIME:
        raise Sig0Error(f"SIG(0) that is valid for {lifetime} seconds", rcode=_BADTIME)
    if compare(signature.inception, (present + SKEW) & 0xFFFFFFFF) > 0:
        raise Sig0Error("SIG(0) from the future", rcode=_BADTIME)
    if compare((present - SKEW) & 0xFFFFFFFF, signature.expiration) > 0:
        raise Sig0Error("SIG(0) has expired", rcode=_BADTIME)


def fingerprint(octets: bytes, signature: Sig0Signature, *, request: bytes = b"") -> bytes:
    """SHA-256 of what a signature covers: the same for every signature of one key over one message at one time.

    It is not taken over the signature itself, which for ECDSA anybody can turn into another valid one.
    """
    return hashlib.sha256(signature.prefix + request + strip_sig0(octets, signature)).digest()


def verify_sig0(octets: bytes, signature: Sig0Signature, key: Sig0Key, *, request: bytes = b"") -> bytes:
    """Verify one signature; the caller has checked the time and chosen the key.

    :param octets: the message as received.
    :param request: for an answer, the request as it was sent, with its signature.
    :return: the message without its SIG(0) records.
    :raises Sig0Error: (BADSIG) it does not verify.
    """
    message = strip_sig0(octets, signature)
    try:
        key._verify(signature.signature, signature.prefix + request + message)
    except (InvalidSignature, ValueError):
        raise Sig0Error(f"SIG(0) by {key.name_text} {key.tag} does not verify", rcode=_BADSIG) from None
    return message


def sign_sig0(
    octets: bytes,
    key: Sig0Key,
    sign: Callable[[bytes], bytes],
    now: float,
    *,
    lifetime: int = LIFETIME,
    request: bytes = b"",
) -> bytes:
    """Sign a message.

    :param octets: the message, with :data:`SIG0_RESERVE` octets to spare below 65535.
    :param key: the signer's public key: name, algorithm and tag.
    :param sign: from the octets to be signed to the signature field, see :func:`mpcore.signer.keys.raw_signer`.
    :param now: Unix seconds.
    :param lifetime: seconds of validity before and after *now*, 1 to half of :data:`MAX_LIFETIME`.
    :param request: for an answer, the request as it was received, with its signature.
    """
    present = int(now)
    prefix = (
        bytes((0, 0, key.algorithm, 0, 0, 0, 0, 0))
        + ((present + lifetime) & 0xFFFFFFFF).to_bytes(4, "big")
        + ((present - lifetime) & 0xFFFFFFFF).to_bytes(4, "big")
        + key.tag.to_bytes(2, "big")
        + key.name
    )
    rdata = prefix + sign(prefix + request + octets)
    count = int.from_bytes(octets[10:12], "big") + 1
    head = b"\x00\x00\x18\x00\xff\x00\x00\x00\x00" + len(rdata).to_bytes(2, "big")
    return octets[:10] + count.to_bytes(2, "big") + octets[12:] + head + rdata


def _verifier(algorithm: int, material: bytes) -> Callable[[bytes, bytes], None]:
    """A function of signature and data that raises InvalidSignature or ValueError."""
    try:
        if algorithm == 15:
            return ed25519.Ed25519PublicKey.from_public_bytes(material).verify
        if algorithm == 13:
            return _ecdsa(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + material))
        if algorithm == 8:
            return _rsa(material)
    except (ValueError, IndexError):
        raise RecordError(f"a KEY record with a faulty {ALGORITHMS[algorithm]} key") from None
    raise RecordError(f"a KEY record of algorithm {algorithm}, which is not verified here")


def _ecdsa(public: ec.EllipticCurvePublicKey) -> Callable[[bytes, bytes], None]:
    scheme = ec.ECDSA(hashes.SHA256())

    def verify(signature: bytes, data: bytes) -> None:
        if len(signature) != 64:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        public.verify(utils.encode_dss_signature(r, s), data, scheme)

    return verify


def _rsa(material: bytes) -> Callable[[bytes, bytes], None]:
    # RFC 3110, section 2: length of the exponent in one octet, or in two after a zero
    start, length = (1, material[0]) if material[0] else (3, int.from_bytes(material[1:3], "big"))
    exponent = int.from_bytes(material[start : start + length], "big")
    modulus = int.from_bytes(material[start + length :], "big")
    if modulus.bit_length() not in _RSA_BITS or not 1 < exponent <= _MAX_EXPONENT:
        raise ValueError
    public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    return lambda signature, data: public.verify(signature, data, scheme, digest)
