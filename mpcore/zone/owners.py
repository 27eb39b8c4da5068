"""Owner names as canonical wire octets: uncompressed, lower case, with the root label.

Zone data is keyed by such octets.  A second form, the *sort key*, is a byte string whose plain octet order is the
canonical order of names (RFC 4034, section 6.1), and in which the key of a name is a prefix of the keys of everything
below it; :mod:`mpcore.zone.version` keeps its records under these keys.
"""

from __future__ import annotations

import re

import dns.exception
import dns.name

from mpcore.errors import RecordError

__all__ = (
    "ROOT",
    "canonical_key",
    "from_text",
    "is_subdomain",
    "is_wildcard",
    "label_count",
    "labels",
    "name_from_text",
    "owner_of_key",
    "parent",
    "read_name",
    "relative_key",
    "to_text",
    "wildcard_below",
)

ROOT = b"\x00"
"""The root as an owner."""

_MAX_NAME = 255  # octets, RFC 1035 section 2.3.4
_MAX_HOPS = 128  # compression pointers in one name; 127 labels is the most a name can have
_ESCAPED = re.compile(rb"\x01[\x01\x02]")
_PLAIN = re.compile(rb"[A-Za-z0-9_*-]+\Z")
_PLAIN_RELATIVE = re.compile(r"[A-Za-z0-9_*-]{1,63}(?:\.[A-Za-z0-9_*-]{1,63})*\Z")
_PLAIN_TEXT = re.compile(r"(?:[A-Za-z0-9_*-]{1,63}\.)+\Z")


def from_text(text: str, origin: bytes | None = None) -> bytes:
    """The owner spelled *text*, in lower case; see :func:`name_from_text`."""
    return name_from_text(text, origin or ROOT).lower()


def name_from_text(text: str, origin: bytes | None) -> bytes:
    """A domain name as wire octets, in the spelling given.

    :param text: a domain name in presentation form (RFC 1035, section 5.1); ``@`` is the origin.
    :param origin: completes a name without a final dot; ``None`` refuses such a name.
    :raises RecordError: not a domain name.
    """
    if len(text) <= 250:
        if _PLAIN_TEXT.match(text):
            return b"".join([bytes((len(label),)) + label for label in text.encode("ascii").split(b".")])
        if origin is not None and _PLAIN_RELATIVE.match(text):
            name = b"".join([bytes((len(label),)) + label for label in text.encode("ascii").split(b".")]) + origin
            if len(name) <= _MAX_NAME:
                return name
    try:
        base = None if origin is None else dns.name.from_wire(origin, 0)[0]
        wire = dns.name.from_text(text, origin=base).to_wire()
    except dns.name.NeedAbsoluteNameOrOrigin:
        raise RecordError(f"{text!r} is a relative name, and there is no origin") from None
    except (dns.exception.DNSException, UnicodeError, ValueError, IndexError) as error:
        raise RecordError(f"{text!r} is not a domain name: {error}") from None
    return wire or ROOT


def to_text(owner: bytes) -> str:
    """The owner in presentation form, absolute, lower case as stored.

    :raises RecordError: the octets are not a name.
    """
    parts = labels(owner)
    if not parts:
        return "."
    if all(_PLAIN.match(part) for part in parts):
        return b".".join(parts).decode("ascii") + "."
    return dns.name.Name([*parts, b""]).to_text()


def labels(owner: bytes) -> tuple[bytes, ...]:
    """The labels from left to right, without the root label.

    :raises RecordError: the octets are not one uncompressed name.
    """
    result = []
    offset = 0
    try:
        while length := owner[offset]:
            if length > 63:
                raise RecordError("a stored name holds a compression pointer")
            offset += 1
            result.append(owner[offset : offset + length])
            offset += length
    except IndexError:
        raise RecordError("a name is truncated") from None
    if offset + 1 != len(owner) or offset >= _MAX_NAME:
        raise RecordError("a name is longer than 255 octets or followed by garbage")
    return tuple(result)


def label_count(owner: bytes) -> int:
    """Number of labels as the Labels field of an RRSIG counts them: no root, no leading ``*`` (RFC 4034, 3.1.3)."""
    count = len(labels(owner))
    return count - 1 if owner[:2] == b"\x01*" else count


def parent(owner: bytes) -> bytes:
    """The name without its first label; the root is its own parent."""
    return owner[owner[0] + 1 :] if owner[0] else owner


def is_subdomain(owner: bytes, origin: bytes) -> bool:
    """Whether *owner* is *origin* or below it."""
    cut = len(owner) - len(origin)
    if cut < 0 or owner[cut:] != origin:
        return False
    offset = 0
    while offset < cut:
        offset += owner[offset] + 1
    return offset == cut


def is_wildcard(owner: bytes) -> bool:
    """Whether the first label is ``*`` (RFC 4592, section 2.1.1)."""
    return owner[:2] == b"\x01*"


def wildcard_below(owner: bytes) -> bytes:
    """The wildcard directly below *owner*."""
    return b"\x01*" + owner


def canonical_key(owner: bytes) -> bytes:
    """Sort key: octet order of keys is the canonical order of names (RFC 4034, section 6.1).

    Labels stand from right to left, each closed by a zero octet; the octets 0 and 1 inside a label are escaped.
    """
    parts = labels(owner.lower())
    if not parts:
        return b""
    return b"\x00".join([_escape(part) for part in parts[::-1]]) + b"\x00"


def relative_key(owner: bytes, origin: bytes) -> bytes | None:
    """Sort key of *owner* relative to *origin*: its :func:`canonical_key` without that of the origin in front.

    :return: empty for the origin itself, ``None`` for a name that is not at or below it.
    """
    cut = len(owner) - len(origin)
    if cut < 0 or owner[cut:] != origin:
        return None
    if not cut:
        return b""
    if owner[0] == cut - 1:  # one label, as most have
        key = owner[1:cut]
        return key + b"\x00" if b"\x00" not in key and b"\x01" not in key else canonical_key(owner[:cut] + ROOT)
    offset = 0
    parts = []
    while offset < cut:
        length = owner[offset]
        offset += 1
        parts.append(owner[offset : offset + length])
        offset += length
    if offset != cut:
        return None
    parts.reverse()
    parts.append(b"")
    key = b"\x00".join(parts)
    plain = key.count(b"\x00") == len(parts) - 1
    return key if plain and b"\x01" not in key else canonical_key(owner[:cut] + ROOT)


def owner_of_key(key: bytes, origin: bytes = ROOT) -> bytes:
    """Inverse of :func:`canonical_key`, for a key relative to *origin*."""
    if not key:
        return origin
    parts = key.split(b"\x00")
    parts.pop()
    if b"\x01" in key:
        parts = [_ESCAPED.sub(lambda match: bytes((match[0][1] - 1,)), part) for part in parts]
    parts.reverse()
    return b"".join([bytes((len(part),)) + part for part in parts]) + origin


def _escape(label: bytes) -> bytes:
    if b"\x00" in label or b"\x01" in label:
        return label.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")
    return label


def read_name(message: bytes, offset: int, *, compressed: bool = True) -> tuple[bytes, int]:
    """Read a name from a message, following compression pointers (RFC 1035, section 4.1.4).

    A pointer must lead to an octet before the place where the name, or the part reached by the last pointer, began;
    so every name ends.

    :param message: the whole message.
    :param offset: where the name begins.
    :param compressed: ``False`` refuses pointers.
    :return: the uncompressed name in the spelling of the message, and the offset behind it.
    :raises RecordError: truncated, longer than 255 octets, or a pointer that does not lead strictly backwards.
    """
    parts: list[bytes] = []
    total = 0
    end = -1
    limit = offset
    hops = 0
    try:
        while length := message[offset]:
            if length < 64:
                total += length + 1
                if total >= _MAX_NAME:
                    raise RecordError("a name is longer than 255 octets")
                piece = message[offset : offset + length + 1]
                if len(piece) != length + 1:
                    raise RecordError("a name is truncated")
                parts.append(piece)
                offset += length + 1
            elif length >= 192:
                target = (length & 63) << 8 | message[offset + 1]
                if end < 0:
                    end = offset + 2
                hops += 1
                if not compressed or target >= limit or hops > _MAX_HOPS:
                    raise RecordError("a compression pointer does not lead strictly backwards or is not allowed here")
                limit = offset = target
            else:
                raise RecordError("a label has a reserved type")
    except IndexError:
        raise RecordError("a name is truncated") from None
    parts.append(ROOT)
    return b"".join(parts), (offset + 1 if end < 0 else end)
