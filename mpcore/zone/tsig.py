"""Transaction signatures (TSIG, RFC 8945) on messages as octets; the arithmetic is dnspython's.

A request is signed with :func:`sign_message` and checked with :func:`verify_message`; the answer is signed over the
MAC of the request.  Answers of several messages (zone transfers) go through :class:`TsigStream` on the way out and
:class:`TsigStreamVerifier` on the way in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import dns.exception
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from mpcore.errors import RecordError, TsigError
from mpcore.zone import _message, owners

__all__ = (
    "ALGORITHMS",
    "FUDGE",
    "TSIG_RESERVE",
    "Signature",
    "TsigKey",
    "TsigStream",
    "TsigStreamVerifier",
    "Verified",
    "error_response",
    "find_signature",
    "sign_message",
    "strip_signature",
    "verify_message",
)

ALGORITHMS: Final[Mapping[str, int]] = {
    "hmac-sha1": 20,
    "hmac-sha224": 28,
    "hmac-sha256": 32,
    "hmac-sha384": 48,
    "hmac-sha512": 64,
}
"""Algorithms that keys may have, with the size of their MAC in octets (RFC 8945, section 6)."""

FUDGE: Final = 300
"""How far the clocks of the two sides may differ, seconds (RFC 8945, section 10)."""

TSIG_RESERVE: Final = 10 + 255 + 255 + 16 + 64 + 6
"""Octets that the largest TSIG record takes: leave them free in a message that will be signed."""

_hmac: Any = dns.tsig  # dnspython does not annotate these
_rdata_class: Any = dns.rdtypes.ANY.TSIG.TSIG

_TSIG: Final = 250
_ANY: Final = 255
_FORMERR: Final = 1
_NOTAUTH: Final = 9
_BADSIG: Final = 16
_BADKEY: Final = 17
_BADTIME: Final = 18
_BADTRUNC: Final = 22
_MAX_UNSIGNED: Final = 99  # messages between two signed ones, RFC 8945 section 5.3.1


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret.  Its ``repr`` does not show the secret.

    :param name: the key's name as canonical wire octets.
    :param algorithm: one of :data:`ALGORITHMS`; the key is used with no other.
    :param secret: the octets.
    :raises ValueError: an unknown algorithm or an empty secret.
    """

    name: bytes
    algorithm: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"TSIG algorithm {self.algorithm!r} is not one of {', '.join(ALGORITHMS)}")
        if not self.secret:
            raise ValueError(f"TSIG key {owners.to_text(self.name)} has an empty secret")

    @classmethod
    def from_text(cls, name: str, algorithm: str, secret: str) -> TsigKey:
        """A key as configured: *secret* in base64, algorithm in any case, with or without a final dot.

        :raises ValueError: a faulty name, algorithm or secret; the message does not show the secret.
        """
        try:
            octets = base64.b64decode("".join(secret.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the secret of TSIG key {name!r} is not base64") from None
        try:
            owner = owners.from_text(name)
        except RecordError as error:
            raise ValueError(str(error)) from None
        return cls(owner, algorithm.lower().removesuffix("."), octets)

    @property
    def name_text(self) -> str:
        """The key's name in presentation form."""
        return owners.to_text(self.name)

    def _key(self) -> dns.tsig.Key:
        return dns.tsig.Key(_name(self.name), self.secret, dns.name.from_text(self.algorithm))


@dataclass(frozen=True, slots=True)
class Signature:
    """The TSIG record of a message.

    :param name: name of the key, canonical wire octets.
    :param algorithm: name of the algorithm as text, lower case, without the final dot.
    :param time: Time Signed, Unix seconds.
    :param mac: the MAC; empty in an answer to a request that did not verify.
    :param error: 0, or what the other side found wrong (16 BADSIG, 17 BADKEY, 18 BADTIME, 22 BADTRUNC).
    :param start: offset of the record in the message.
    """

    name: bytes
    algorithm: str
    time: int
    fudge: int
    mac: bytes
    original_id: int
    error: int
    other: bytes
    start: int
    _rdata: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Verified:
    """A message whose TSIG was right.

    :param octets: the message without its TSIG.
    :param key: the key that signed it.
    :param mac: its MAC, over which an answer must be signed.
    """

    octets: bytes
    key: TsigKey
    mac: bytes


def _name(wire: bytes) -> dns.name.Name:
    return dns.name.from_wire(wire, 0)[0]


def find_signature(octets: bytes) -> Signature | None:
    """The TSIG record of a message, ``None`` if it has none.

    :raises TsigError: (FORMERR) the message does not parse, or has a TSIG that is not its last record or is malformed.
    """
    found: _message.Located | None = None
    last: _message.Located | None = None
    try:
        for last in _message.records(octets):
            if last.rdtype == _TSIG:
                if found is not None:
                    raise TsigError("more than one TSIG", rcode=_FORMERR)
                found = last
        if found is None:
            return None
        if found is not last or found.section != 3 or found.end != len(octets):
            raise TsigError("TSIG is not the last record", rcode=_FORMERR)
        if found.rdclass != _ANY or found.ttl != 0:
            raise TsigError("TSIG with a class other than ANY or a TTL", rcode=_FORMERR)
        owner = owners.read_name(octets, found.start)[0].lower()
        rdata = dns.rdata.from_wire(
            dns.rdataclass.ANY, dns.rdatatype.TSIG, octets, found.rdata, found.end - found.rdata
        )
    except (RecordError, dns.exception.DNSException, ValueError) as error:
        raise TsigError(f"the message does not parse: {error}", rcode=_FORMERR) from None
    assert isinstance(rdata, dns.rdtypes.ANY.TSIG.TSIG)
    return Signature(
        name=owner,
        algorithm=rdata.algorithm.to_text(omit_final_dot=True).lower(),
        time=rdata.time_signed,
        fudge=rdata.fudge,
        mac=rdata.mac,
        original_id=rdata.original_id,
        error=int(rdata.error),
        other=rdata.other,
        start=found.start,
        _rdata=rdata,
    )


def strip_signature(octets: bytes, signature: Signature) -> bytes:
    """The message without its TSIG record."""
    count = int.from_bytes(octets[10:12], "big") - 1
    return octets[:10] + count.to_bytes(2, "big") + octets[12 : signature.start]


def _append(octets: bytes, name: bytes, rdata: Any) -> bytes:
    wire = rdata.to_wire() or b""
    count = int.from_bytes(octets[10:12], "big") + 1
    head = name + b"\x00\xfa\x00\xff\x00\x00\x00\x00" + len(wire).to_bytes(2, "big")
    return octets[:10] + count.to_bytes(2, "big") + octets[12:] + head + wire


def _record(
    octets: bytes, algorithm: str, time: int, *, original_id: int | None = None, error: int = 0, other: bytes = b""
) -> Any:
    return _rdata_class(
        dns.rdataclass.ANY,
        dns.rdatatype.TSIG,
        dns.name.from_text(algorithm),
        time,
        FUDGE,
        b"",
        int.from_bytes(octets[:2], "big") if original_id is None else original_id,
        error,
        other,
    )


def sign_message(
    octets: bytes, key: TsigKey, now: float, *, request_mac: bytes = b"", error: int = 0, other: bytes = b""
) -> tuple[bytes, bytes]:
    """Sign a request, or an answer of one message.

    :param octets: the message, without TSIG, with :data:`TSIG_RESERVE` octets to spare below 65535.
    :param now: Unix time in seconds.
    :param request_mac: for an answer, the MAC of the request.
    :param error: Error field of the TSIG.
    :param other: Other Data field of the TSIG.
    :return: the signed message and its MAC.
    """
    rdata = _record(octets, key.algorithm, int(now), error=error, other=other)
    signed, _ = _hmac.sign(octets, key._key(), rdata, int(now), request_mac)
    return _append(octets, key.name, signed), signed.mac


def verify_message(
    octets: bytes, keys: Mapping[bytes, TsigKey], now: float, *, request_mac: bytes = b""
) -> Verified | None:
    """Check the TSIG of a request, or of an answer of one message.

    :param keys: acceptable keys by name.
    :param now: Unix time in seconds.
    :param request_mac: for an answer, the MAC of the request.
    :return: the message without its TSIG; ``None`` if it carries none.
    :raises TsigError: it does not verify; its ``rcode`` and ``error`` are those for an answer, see
        :func:`error_response`.
    """
    signature = find_signature(octets)
    if signature is None:
        return None
    key = _find_key(signature, keys)
    _validate(octets, signature, key, now, request_mac, None, False)
    return Verified(strip_signature(octets, signature), key, signature.mac)


def _find_key(signature: Signature, keys: Mapping[bytes, TsigKey]) -> TsigKey:
    key = keys.get(signature.name)
    if key is None or key.algorithm != signature.algorithm:
        raise TsigError(
            f"TSIG key {owners.to_text(signature.name)} ({signature.algorithm}) is not known", error=_BADKEY
        )
    return key


def _validate(
    octets: bytes, signature: Signature, key: TsigKey, now: float, request_mac: bytes, context: Any, multi: bool
) -> Any:
    """Context for the next message, if *multi*."""
    if not signature.error:
        size = ALGORITHMS[key.algorithm]
        if len(signature.mac) > size or len(signature.mac) < max(10, size // 2):
            raise TsigError("TSIG with a MAC of impossible length", rcode=_FORMERR)
        if len(signature.mac) < size:
            raise TsigError("TSIG with a truncated MAC", error=_BADTRUNC)
    try:
        return _hmac.validate(
            octets,
            key._key(),
            _name(signature.name),
            signature._rdata,
            int(now),
            request_mac,
            signature.start,
            context,
            multi,
        )
    except dns.tsig.PeerError as error:
        raise TsigError(f"the other side refused our TSIG: {_peer_error(signature.error)}") from error
    except dns.tsig.BadTime:
        raise TsigError(
            f"TSIG was signed {signature.time - int(now):+d} seconds from our time", error=_BADTIME
        ) from None
    except (dns.tsig.BadKey, dns.tsig.BadAlgorithm):
        raise TsigError("TSIG with another key", error=_BADKEY) from None
    except (dns.tsig.BadSignature, dns.exception.DNSException, ValueError):
        raise TsigError(f"TSIG with key {key.name_text} does not verify", error=_BADSIG) from None


def _peer_error(error: int) -> str:
    return {_BADSIG: "BADSIG", _BADKEY: "BADKEY", _BADTIME: "BADTIME", _BADTRUNC: "BADTRUNC"}.get(error, str(error))


def error_response(request: bytes, fault: TsigError, keys: Mapping[bytes, TsigKey], now: float) -> bytes:
    """The answer to a request whose TSIG did not verify (RFC 8945, sections 5.2 and 5.3.2).

    The header alone, with the fault's RCODE and, except for FORMERR, an unsigned TSIG that tells the error; BADTIME is
    signed and carries our time.

    :param request: at least a header.
    """
    flags = 0x8000 | (request[2] & 0x79) << 8 | fault.rcode
    head = _message.HEADER.pack(int.from_bytes(request[:2], "big"), flags, 0, 0, 0, 0)
    if not fault.error:
        return head
    try:
        signature = find_signature(request)
    except TsigError:
        signature = None
    if signature is None:
        return head
    key = keys.get(signature.name)
    other = int(now).to_bytes(6, "big") if fault.error == _BADTIME else b""
    rdata = _record(
        head, signature.algorithm, signature.time, original_id=signature.original_id, error=fault.error, other=other
    )
    if key is not None and fault.error in (_BADTIME, _BADTRUNC):
        rdata, _ = _hmac.sign(head, key._key(), rdata, signature.time, signature.mac)
    return _append(head, signature.name, rdata)


class TsigStream:
    """Signs the messages of one answer, every one of them (RFC 8945, section 5.3.1).

    :param key: the key of the request.
    :param request_mac: the MAC of the request.
    """

    def __init__(self, key: TsigKey, request_mac: bytes) -> None:
        self._key, self._mac = key, request_mac
        self._context: Any = None

    def __repr__(self) -> str:
        return f"<TsigStream key {self._key.name_text}>"

    def sign(self, octets: bytes, now: float) -> bytes:
        """The next message with its TSIG.

        :param octets: the message, with :data:`TSIG_RESERVE` octets to spare below 65535.
        :param now: Unix time in seconds.
        """
        rdata = _record(octets, self._key.algorithm, int(now))
        signed, self._context = _hmac.sign(octets, self._key._key(), rdata, int(now), self._mac, self._context, True)
        return _append(octets, self._key.name, signed)


class TsigStreamVerifier:
    """Checks the messages of one answer.  The first and the last must be signed, and every hundredth at least.

    :param key: the key with which the request was signed.
    :param request_mac: the MAC of the request.
    """

    def __init__(self, key: TsigKey, request_mac: bytes) -> None:
        self._key, self._mac = key, request_mac
        self._context: Any = None
        self._unsigned = 0

    def __repr__(self) -> str:
        return f"<TsigStreamVerifier key {self._key.name_text}>"

    def verify(self, octets: bytes, now: float) -> bytes:
        """The next message without its TSIG.  It is not to be trusted before a signed message follows.

        :param now: Unix time in seconds.
        :raises TsigError: wrong, or missing where it must not be.
        """
        signature = find_signature(octets)
        if signature is None:
            if self._context is None:
                raise TsigError("the first message of the answer is not signed")
            self._unsigned += 1
            if self._unsigned > _MAX_UNSIGNED:
                raise TsigError("more than 99 messages of the answer in a row are not signed")
            self._context.update(octets)
            return octets
        key = _find_key(signature, {self._key.name: self._key})
        self._context = _validate(octets, signature, key, now, self._mac, self._context, True)
        self._unsigned = 0
        return strip_signature(octets, signature)

    def finish(self) -> None:
        """To be called after the last message; :raises TsigError: that message was not signed."""
        if self._context is None or self._unsigned:
            raise TsigError("the last message of the answer is not signed")
