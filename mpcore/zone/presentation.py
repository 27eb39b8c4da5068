"""The text of the commonest record types, read and written without dnspython: some ten times as fast.

What is here is a short cut.  :func:`reader` and :func:`writer` name a function for a type, and that function answers
``None`` for anything out of the ordinary (escapes, mnemonics for numbers, unusual lengths, errors), which then goes the
long way through dnspython.  What it does answer is what dnspython would have answered.
"""

from __future__ import annotations

import binascii
import re
from base64 import b32hexencode
from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, TypeAlias

import dns.exception
import dns.rdatatype
import dns.rdtypes.rrsigbase
import dns.rdtypes.util
import dns.tokenizer
import dns.wire

from mpcore.errors import RecordError
from mpcore.zone import owners

__all__ = ("Names", "bitmap_octets", "bitmap_text", "reader", "writer")

_posixtime: Callable[[str], int] = dns.rdtypes.rrsigbase.sigtime_to_posixtime
_sigtime: Callable[[int], str] = dns.rdtypes.rrsigbase.posixtime_to_sigtime
_LENGTHS: Final = [bytes((length,)) for length in range(256)]
_DECIMAL: Final = {str(number): number for number in range(256)}
_LABEL: Final = re.compile(r"[A-Za-z0-9_*-]{1,63}\Z")
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_*-]{1,63}\.)*[A-Za-z0-9_*-]{1,63}\.?\Z|[.@]\Z")
_COLONED: Final = re.compile(r"[0-9A-Fa-f:]{2,39}\Z")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+\Z")
_HASH: Final = re.compile(r"[0-9A-Va-v]{32}\Z")
_QUOTED: Final = re.compile(r'"([^"\\]*)"(?:[ \t]+|\Z)')
_PLAIN_STRING: Final = re.compile(rb"[ !#-\[\]-~]*\Z")
_ZEROS: Final = re.compile(r"(?:(?<=:)|(?<![0-9a-f:]))0(?::0)+(?![0-9a-f])")
_DIGESTS: Final = {1: 20, 2: 32, 4: 48}
_TEN_ZEROS: Final = bytes(10)
_DS: Final = Struct("!HBB")
_SIGNED: Final = Struct("!HBBIIIH")
_HASHED: Final = Struct("!BBH")
_MEMORY: Final = 4096  # names and the like that are remembered

Read: TypeAlias = "Callable[[Sequence[str], int, str, Names], bytes | None]"
"""Takes the words of a record, the place of the first one of RDATA, the record, and names; RDATA or ``None``."""
Write: TypeAlias = Callable[[bytes], str | None]
"""Takes RDATA that fits its type; its text or ``None``."""


class Names:
    """Domain names of a master file, remembered because they come again.

    :param origin: completes relative names; ``None`` refuses them.
    """

    def __init__(self, origin: bytes | None) -> None:
        self.origin = origin
        self._known: dict[str, bytes] = {}

    def read(self, text: str) -> bytes | None:
        """The name as wire octets in the spelling given, ``None`` for one that needs dnspython's attention.

        :raises RecordError: it is not a name.
        """
        found = self._known.get(text)
        if found is None:
            if not _NAME.match(text) or (self.origin is None and text[-1] != "."):
                return None
            if len(self._known) >= _MEMORY:
                self._known.clear()
            found = self._known[text] = owners.name_from_text(text, self.origin)
        return found

    def owner(self, text: str) -> bytes | None:
        """An owner of a single ordinary label before the origin, ``None`` for any other."""
        if self.origin is None or not _LABEL.match(text) or len(text) + len(self.origin) > 254:
            return None
        return _LENGTHS[len(text)] + text.lower().encode("ascii") + self.origin


def reader(rdtype: int) -> Read | None:
    """How to read the RDATA of a type from words of printable ASCII, ``None``: only by dnspython."""
    return _READERS.get(rdtype)


def writer(rdtype: int) -> Write | None:
    """How to write the RDATA of a type, ``None``: only by dnspython.

    The text is that of :func:`mpcore.zone.rrset.rdata_text`, and reads back as the same octets.
    """
    return _WRITERS.get(rdtype)


@lru_cache(_MEMORY)
def bitmap_octets(text: str) -> bytes | None:
    """The type bitmap (RFC 4034, section 4.1.2) of types separated by blanks, ``None`` if there is anything wrong."""
    try:
        types = [dns.rdatatype.from_text(word) for word in text.split(" ")]
        windows = dns.rdtypes.util.Bitmap.from_rdtypes(types).windows
    except (dns.exception.DNSException, ValueError):
        return None
    if 0 in types:
        return None
    return b"".join([bytes((window, len(octets))) + octets for window, octets in windows])


@lru_cache(_MEMORY)
def bitmap_text(octets: bytes) -> str | None:
    """The types of a bitmap in ascending order, ``None`` if their text would not give the same octets."""
    try:
        text = dns.rdtypes.util.Bitmap.from_wire_parser(dns.wire.Parser(octets)).to_text()[1:]
    except (dns.exception.DNSException, ValueError):
        return None
    return text if text and bitmap_octets(text) == octets else None


# -- reading -------------------------------------------------------------------------------------------------------


def _numbers(words: Sequence[str], limits: tuple[int, ...]) -> list[int] | None:
    """As many numbers as there are limits (the first number that is too large) at the beginning of *words*."""
    if len(words) < len(limits):
        return None
    numbers = []
    for word, limit in zip(words, limits, strict=False):
        if not word.isdigit() or len(word) > 10 or (number := int(word)) >= limit:
            return None
        numbers.append(number)
    return numbers


def _read_a(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    if len(words) != index + 1:
        return None
    try:
        first, second, third, fourth = words[index].split(".")
        return bytes((_DECIMAL[first], _DECIMAL[second], _DECIMAL[third], _DECIMAL[fourth]))
    except (KeyError, ValueError):
        return None


def _read_aaaa(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    if len(words) != index + 1:
        return None
    word = words[index]
    if "." in word:  # the last four octets as in an IPv4 address
        front, _, last = word.rpartition(":")
        octets = _read_a((last,), 0, text, names)
        if octets is None:
            return None
        word = f"{front}:{octets[:2].hex()}:{octets[2:].hex()}"
    if not _COLONED.match(word):
        return None
    head, gap, tail = word.partition("::")
    groups = head.split(":") if head else []
    if gap:
        behind = tail.split(":") if tail else []
        if len(groups) + len(behind) > 7:
            return None
        groups += ["0"] * (8 - len(groups) - len(behind)) + behind
    if len(groups) != 8 or not all(groups):
        return None
    digits = "".join([group.rjust(4, "0") for group in groups])
    return bytes.fromhex(digits) if len(digits) == 32 else None


def _read_name(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    return names.read(words[index]) if len(words) == index + 1 else None


def _read_numbered_name(limits: tuple[int, ...]) -> Read:
    """Numbers of two octets, then a name."""

    def read(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
        numbers = _numbers(words[index:-1], limits)
        if numbers is None or len(words) != index + len(limits) + 1:
            return None
        name = names.read(words[-1])
        return None if name is None else b"".join([number.to_bytes(2, "big") for number in numbers]) + name

    return read


def _read_strings(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    """Character strings: all of them in quotes, or none."""
    if len(words) == index:
        return None
    if '"' in text:
        rest = text.split(None, index)[index].rstrip(" \t")
        strings: Sequence[str] = _QUOTED.findall(rest)
        if "".join(_QUOTED.split(rest)[::2]):
            return None
    else:
        strings = words[index:]
    if "\\" in text or not all(len(string) < 256 for string in strings):
        return None
    return b"".join([_LENGTHS[len(string)] + string.encode("ascii") for string in strings])


def _read_digest(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    numbers = _numbers(words[index:], (65536, 256, 256))
    digits = "".join(words[index + 3 :])
    if numbers is None or _DIGESTS.get(numbers[2], 0) * 2 != len(digits) or not _HEX.match(digits):
        return None
    return _DS.pack(*numbers) + bytes.fromhex(digits)


def _read_key(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    numbers = _numbers(words[index:], (65536, 256, 256))
    key = _base64("".join(words[index + 3 :]))
    return None if numbers is None or not key else _DS.pack(*numbers) + key


def _read_rrsig(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    if len(words) < index + 9:
        return None
    numbers = _numbers(words[index + 1 :], (256, 256, 0x80000000))
    expiration, inception = _time_octets(words[index + 4]), _time_octets(words[index + 5])
    tag = _numbers(words[index + 6 :], (65536,))
    covered = _type_number(words[index])
    signature = _base64("".join(words[index + 8 :]))
    if None in (numbers, expiration, inception, tag, covered) or not signature:
        return None
    signer = names.read(words[index + 7])
    if signer is None:
        return None
    return _SIGNED.pack(covered, *numbers, expiration, inception, *tag) + signer + signature  # type: ignore[misc]


def _read_nsec(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    if len(words) < index + 2:
        return None
    bitmap = bitmap_octets(" ".join(words[index + 1 :]))
    following = names.read(words[index])
    return None if bitmap is None or following is None else following + bitmap


def _read_nsec3(words: Sequence[str], index: int, text: str, names: Names) -> bytes | None:
    numbers = _numbers(words[index:], (256, 256, 65536))
    if numbers is None or len(words) < index + 6:
        return None
    salt, hashed = words[index + 3 : index + 5]
    bitmap = bitmap_octets(" ".join(words[index + 5 :]))
    if bitmap is None or not _HASH.match(hashed):
        return None
    if salt == "-":
        salt = ""
    elif not _HEX.match(salt) or len(salt) > 510:
        return None
    octets = int(hashed, 32).to_bytes(20, "big")
    return _HASHED.pack(*numbers) + _LENGTHS[len(salt) // 2] + bytes.fromhex(salt) + b"\x14" + octets + bitmap


def _base64(text: str) -> bytes:
    """The octets, none if it is not base64."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return b""


@lru_cache(_MEMORY)
def _time_octets(text: str) -> int | None:
    """Seconds since 1970 of a time in a signature (RFC 4034, section 3.2)."""
    try:
        seconds = _posixtime(text) if text.isdigit() else -1
    except (dns.exception.DNSException, ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < 1 << 32 else None


@lru_cache(_MEMORY)
def _type_number(text: str) -> int | None:
    try:
        return int(dns.rdatatype.from_text(text))
    except (dns.exception.DNSException, ValueError):
        return None


# -- writing -------------------------------------------------------------------------------------------------------


def _write_a(rdata: bytes) -> str | None:
    return "%d.%d.%d.%d" % tuple(rdata) if len(rdata) == 4 else None  # noqa: UP031 (twice as fast)


def _write_aaaa(rdata: bytes) -> str | None:
    if len(rdata) != 16:
        return None
    if rdata[:10] == _TEN_ZEROS:  # with IPv4 addresses in them
        if rdata[10:12] == b"\xff\xff":
            return "::ffff:%d.%d.%d.%d" % tuple(rdata[12:])  # noqa: UP031
        if rdata[10:12] == b"\0\0" and rdata[12:14] != b"\0\0":
            return "::%d.%d.%d.%d" % tuple(rdata[12:])  # noqa: UP031
    text = rdata.hex(":", -2)
    if "0" in text:
        text = ":".join([group.lstrip("0") or "0" for group in text.split(":")])
        runs = _ZEROS.findall(text)
        if runs:
            longest = max(runs, key=len)  # the first of equal ones
            place = _ZEROS.search(text)
            while place is not None and len(place[0]) < len(longest):
                place = _ZEROS.search(text, place.end())
            assert place is not None
            text = text[: place.start()].rstrip(":") + "::" + text[place.end() :].lstrip(":")
    return text


@lru_cache(_MEMORY)
def _name_text(name: bytes) -> str | None:
    try:
        return owners.to_text(name)
    except RecordError:
        return None


def _write_name(rdata: bytes) -> str | None:
    return _name_text(rdata)


def _write_mx(rdata: bytes) -> str | None:
    name = _name_text(rdata[2:])
    return None if name is None else f"{rdata[0] << 8 | rdata[1]} {name}"


def _write_srv(rdata: bytes) -> str | None:
    name = _name_text(rdata[6:])
    if name is None:
        return None
    return f"{rdata[0] << 8 | rdata[1]} {rdata[2] << 8 | rdata[3]} {rdata[4] << 8 | rdata[5]} {name}"


def _write_strings(rdata: bytes) -> str | None:
    offset, size = 0, len(rdata)
    strings = []
    while offset < size:
        end = offset + 1 + rdata[offset]
        string = rdata[offset + 1 : end]
        if end > size or not _PLAIN_STRING.match(string):
            return None
        strings.append(f'"{string.decode("ascii")}"')
        offset = end
    return " ".join(strings) or None


def _write_digest(rdata: bytes) -> str | None:
    if len(rdata) < 4 or _DIGESTS.get(rdata[3]) != len(rdata) - 4:
        return None
    return f"{rdata[0] << 8 | rdata[1]} {rdata[2]} {rdata[3]} {rdata[4:].hex().upper()}"


def _write_key(rdata: bytes) -> str | None:
    if len(rdata) < 5:
        return None
    return f"{rdata[0] << 8 | rdata[1]} {rdata[2]} {rdata[3]} {_base64_text(rdata[4:])}"


def _write_rrsig(rdata: bytes) -> str | None:
    end = _name_end(rdata, 18)
    if not end or end >= len(rdata):
        return None
    covered, algorithm, labels, ttl, expiration, inception, tag = _SIGNED.unpack_from(rdata)
    signer = _name_text(rdata[18:end])
    if signer is None:
        return None
    times = f"{_time_text(expiration)} {_time_text(inception)}"
    return f"{_type_name(covered)} {algorithm} {labels} {ttl} {times} {tag} {signer} {_base64_text(rdata[end:])}"


def _write_nsec(rdata: bytes) -> str | None:
    end = _name_end(rdata, 0)
    types = bitmap_text(rdata[end:]) if end else None
    name = _name_text(rdata[:end])
    return None if name is None or types is None else f"{name} {types}"


def _write_nsec3(rdata: bytes) -> str | None:
    if len(rdata) < 27:
        return None
    place = 5 + rdata[4]
    types = bitmap_text(rdata[place + 21 :])
    if types is None or rdata[place] != 20:  # with types, the hash is there too
        return None
    algorithm, flags, iterations = _HASHED.unpack_from(rdata)
    hashed = b32hexencode(rdata[place + 1 : place + 21]).decode("ascii").lower()
    return f"{algorithm} {flags} {iterations} {rdata[5:place].hex() or '-'} {hashed} {types}"


def _name_end(rdata: bytes, offset: int) -> int:
    """Where the name at *offset* ends, 0 if it does not."""
    size = len(rdata)
    while offset < size:
        length = rdata[offset]
        offset += length + 1
        if not length:
            return offset
    return 0


def _base64_text(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode("ascii")


@lru_cache(_MEMORY)
def _time_text(seconds: int) -> str:
    return _sigtime(seconds)


@lru_cache(_MEMORY)
def _type_name(rdtype: int) -> str:
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))


_READERS: Final[dict[int, Read]] = {
    1: _read_a,
    2: _read_name,
    5: _read_name,
    12: _read_name,
    15: _read_numbered_name((65536,)),
    16: _read_strings,
    28: _read_aaaa,
    33: _read_numbered_name((65536, 65536, 65536)),
    39: _read_name,
    43: _read_digest,
    46: _read_rrsig,
    47: _read_nsec,
    48: _read_key,
    50: _read_nsec3,
    60: _read_key,
}
_WRITERS: Final[dict[int, Write]] = {
    1: _write_a,
    2: _write_name,
    5: _write_name,
    12: _write_name,
    15: _write_mx,
    16: _write_strings,
    28: _write_aaaa,
    33: _write_srv,
    39: _write_name,
    43: _write_digest,
    46: _write_rrsig,
    47: _write_nsec,
    48: _write_key,
    50: _write_nsec3,
    60: _write_key,
}
