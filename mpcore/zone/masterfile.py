"""Master files (RFC 1035, section 5; RFC 2308, section 4; RFC 3597, section 5).

Understood are all types that dnspython knows, the private types of this system, the generic forms ``TYPEn`` and
``\\#``, records over several lines in parentheses, and the directives ``$ORIGIN``, ``$TTL`` and ``$INCLUDE``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import dns.exception
import dns.ipv4
import dns.ipv6

from mpcore.errors import MasterFileError, RecordError, ZoneError
from mpcore.zone import owners
from mpcore.zone.rrset import parse_rdata, parse_ttl, record_text, type_from_text, type_text
from mpcore.zone.version import ZoneBuilder, ZoneVersion

__all__ = (
    "MAX_INCLUDE_DEPTH",
    "read_master_file",
    "read_master_text",
    "write_master_file",
    "write_master_lines",
    "write_master_text",
)

MAX_INCLUDE_DEPTH: Final = 10
"""Most files open at the same time through ``$INCLUDE``."""

_MAX_RECORD: Final = 400_000  # characters of one record
_A: Final = 1
_SOA: Final = 6
_AAAA: Final = 28
_NAMING_TYPES: Final = frozenset({24, 30, 46, 47, 50, 62})  # SIG, NXT, RRSIG, NSEC, NSEC3, CSYNC: RDATA names types
_GENERIC_NAMES: Final = {type_text(number): f"TYPE{number}" for number in range(65280, 65535)}
_ONE_NAME: Final = frozenset({2, 5, 12, 39})
_SPECIAL: Final = re.compile(r'["();\\]')
_PIECE: Final = re.compile(r'\\(?:[0-9]{3}|[^0-9])|"(?:[^"\\]|\\.)*"|[();]|[^\\"();]+')
_CLASSES: Final = frozenset({"IN", "CLASS1"})
_OTHER_CLASSES: Final = re.compile(r"(?:CH|HS|CS|NONE|ANY|CLASS[0-9]+)\Z")


def read_master_file(path: str | Path, origin: str | bytes | None = None) -> ZoneVersion:
    """Read a zone from a file; it blocks.

    :param path: the file; files that it includes are found relative to its directory.
    :param origin: the zone's name, as text or wire octets; completes relative names until ``$ORIGIN`` says otherwise.
        ``None``: the zone is the owner of the SOA record, and names must be absolute until ``$ORIGIN``.
    :raises MasterFileError: the file cannot be read or a line does not parse.
    :raises ZoneError: the records do not make a zone.
    """
    reader = _Reader(_origin(origin))
    reader.include(Path(path), None)
    return reader.finish(str(path))


def read_master_text(text: str, origin: str | bytes | None = None, *, file: str = "<text>") -> ZoneVersion:
    """Read a zone from text, in which ``$INCLUDE`` is refused.

    :param text: contents of a master file.
    :param origin: see :func:`read_master_file`.
    :param file: what errors call the text.
    :raises MasterFileError: a line does not parse.
    :raises ZoneError: the records do not make a zone.
    """
    reader = _Reader(_origin(origin))
    reader.read(text, file, None)
    return reader.finish(file)


def write_master_lines(version: ZoneVersion, generic_private: bool = True) -> Iterator[str]:
    """The records of a zone, one line each without line feed: the SOA, then all others in canonical order of owners.

    :param generic_private: write types of the private range (65280 to 65534) in generic form, also where RDATA names
        them (RRSIG, NSEC and others), so that every name server can read the text.
    """
    yield record_text(version.origin, _SOA, version.soa.ttl, version.soa.rdatas[0])
    for owner, rrset in version.rrsets():
        if rrset.rdtype == _SOA:
            continue
        if generic_private and 65280 <= rrset.rdtype <= 65534:
            name = owners.to_text(owner)
            for rdata in rrset.rdatas:
                yield f"{name}\t{rrset.ttl}\tIN\tTYPE{rrset.rdtype}\t\\# {len(rdata)} {rdata.hex()}".rstrip()
        elif generic_private and rrset.rdtype in _NAMING_TYPES:
            yield from map(_generic_types, rrset.texts(owner))
        else:
            yield from rrset.texts(owner)


def _generic_types(line: str) -> str:
    """A line whose RDATA names types, with those of the private range in generic form."""
    *head, rdata = line.split("\t")
    return "\t".join([*head, " ".join([_GENERIC_NAMES.get(word, word) for word in rdata.split(" ")])])


def write_master_text(version: ZoneVersion, generic_private: bool = True) -> str:
    """The zone as a master file, see :func:`write_master_lines`."""
    return "".join([line + "\n" for line in write_master_lines(version, generic_private)])


def write_master_file(path: Path, version: ZoneVersion, generic_private: bool = True) -> None:
    """Write a zone to a file; it blocks.  The file is replaced at once and completely, and durable on return.

    :param generic_private: see :func:`write_master_lines`.
    :raises OSError: it cannot be written; an existing file is as it was.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in write_master_lines(version, generic_private))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _origin(origin: str | bytes | None) -> bytes | None:
    if isinstance(origin, str):
        try:
            return owners.from_text(origin)
        except RecordError as error:
            raise ZoneError(str(error)) from None
    return origin


class _Reader:
    """State of one reading: origin, last owner and TTLs go on from line to line."""

    def __init__(self, origin: bytes | None) -> None:
        self.zone = origin
        self.origin = origin
        self.owner: bytes | None = None
        self.default_ttl: int | None = None  # $TTL
        self.last_ttl: int | None = None
        self.minimum: int | None = None  # of the SOA, for want of anything better
        self.records: list[tuple[bytes, int, int, bytes]] = []
        self.open: list[Path] = []
        self.types: dict[str, int] = {}
        self.last: tuple[str, bytes | None, bytes] = "", None, b""  # text and origin of the last owner, and what it is

    def finish(self, file: str) -> ZoneVersion:
        records, self.records = self.records, []
        if self.zone is None:
            raise ZoneError(f"{file}: no SOA record")
        builder = ZoneBuilder(self.zone)
        try:
            for record in records:
                builder.add(*record)
            records.clear()
            return builder.finish()
        except ZoneError as error:
            raise ZoneError(f"{file}: {error}") from None

    def include(self, path: Path, parent: tuple[str, int] | None) -> None:
        file, line = parent or (str(path), 1)
        if len(self.open) >= MAX_INCLUDE_DEPTH:
            raise MasterFileError(f"$INCLUDE nested deeper than {MAX_INCLUDE_DEPTH} files", file=file, line=line)
        try:
            octets = path.read_bytes()
        except OSError as error:
            raise MasterFileError(f"cannot read {path}: {error.strerror}", file=file, line=line) from None
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError as error:
            line = octets.count(b"\n", 0, error.start) + 1
            raise MasterFileError("not UTF-8", file=str(path), line=line) from None
        del octets
        self.open.append(path)
        self.read(text, str(path), path.parent)
        self.open.pop()

    def read(self, text: str, file: str, directory: Path | None) -> None:
        for line, record in _records(text, file):
            try:
                if record[0] == "$":
                    self.directive(record, file, line, directory)
                else:
                    self.record(record)
            except RecordError as error:
                raise MasterFileError(str(error), file=file, line=line) from None

    def directive(self, text: str, file: str, line: int, directory: Path | None) -> None:
        words = text.split()
        name = words[0].upper()
        if name == "$ORIGIN" and len(words) == 2:
            self.origin = owners.name_from_text(words[1], self.origin).lower()
        elif name == "$TTL" and len(words) == 2:
            self.default_ttl = parse_ttl(words[1])
        elif name == "$INCLUDE" and len(words) in (2, 3):
            if directory is None:
                raise RecordError("$INCLUDE is not possible here")
            before = self.origin, self.owner
            if len(words) == 3:
                self.origin = owners.name_from_text(words[2], self.origin).lower()
            self.include(directory / words[1].strip('"'), (file, line))
            self.origin, self.owner = before
        elif name in ("$ORIGIN", "$TTL", "$INCLUDE"):
            raise RecordError(f"{name} with {len(words) - 1} arguments")
        else:
            raise RecordError(f"{words[0]} is not a directive that is understood")

    def record(self, text: str) -> None:
        if text[0] in " \t":
            owner = self.owner
            if owner is None:
                raise RecordError("the first record has no owner")
            word, rest = _word(text)
        else:
            name, rest = _word(text)
            owner = self.named(name)
            word, rest = _word(rest)
        ttl: int | None = None
        classed = False
        while True:
            if ttl is None and word[0].isdigit():
                ttl = parse_ttl(word)
            elif not classed and word.upper() in _CLASSES:
                classed = True
            else:
                break
            word, rest = _word(rest)
        rdtype = self.types.get(word)
        if rdtype is None:
            if not classed and _OTHER_CLASSES.match(word.upper()):
                raise RecordError(f"class {word} instead of IN")
            rdtype = self.types[word] = type_from_text(word)
        rdata = self.rdata(rdtype, rest.strip())
        if rdtype == _SOA and self.minimum is None:
            self.minimum = min(int.from_bytes(rdata[-4:], "big"), 0x7FFFFFFF)
            if self.zone is None:
                self.zone = owner  # from here on, an owner outside the zone is found on its line
        if ttl is None:
            ttl = self.default_ttl
            if ttl is None:
                ttl = self.last_ttl if self.last_ttl is not None else self.minimum
            if ttl is None:
                raise RecordError("no TTL, neither here nor before")
        else:
            self.last_ttl = ttl
        self.owner = owner
        self.records.append((owner, rdtype, ttl, rdata))

    def named(self, text: str) -> bytes:
        """The owner spelled *text*; records of one owner mostly stand together."""
        if self.last[:2] == (text, self.origin):
            return self.last[2]
        owner = owners.name_from_text(text, self.origin).lower()
        if self.zone is not None and not owners.is_subdomain(owner, self.zone):
            raise RecordError(f"{owners.to_text(owner)} is not in {owners.to_text(self.zone)}")
        self.last = text, self.origin, owner
        return owner

    def rdata(self, rdtype: int, text: str) -> bytes:
        """RDATA; the commonest types without dnspython's tokenizer."""
        if not text.startswith("\\#") and '"' not in text:
            if rdtype in _ONE_NAME and len(text.split()) == 1:
                return owners.name_from_text(text, self.origin)
            try:
                if rdtype == _A:
                    return dns.ipv4.inet_aton(text)
                if rdtype == _AAAA:
                    return dns.ipv6.inet_aton(text)
            except (dns.exception.SyntaxError, ValueError):
                raise RecordError(f"{type_text(rdtype)}: {text!r} is not an address") from None
        return parse_rdata(rdtype, text, self.origin)


def _word(text: str) -> tuple[str, str]:
    parts = text.split(None, 1)
    if not parts:
        raise RecordError("the record ends before its type")
    return parts[0], parts[1] if len(parts) > 1 else ""


def _records(text: str, file: str) -> Iterator[tuple[int, str]]:
    """Records and directives, each as one line without comments and parentheses, with the number of its first line."""
    lines = iter(enumerate(text.split("\n"), 1))
    for number, line in lines:
        if not _SPECIAL.search(line):
            if line and not line.isspace():
                yield number, line.rstrip("\r")
            continue
        first = number
        pieces: list[str] = []
        depth = size = 0
        while True:
            depth = _scan(line.rstrip("\r"), depth, pieces, file, number)
            if depth == 0:
                break
            size += len(line)
            if size > _MAX_RECORD:
                raise MasterFileError("a record in parentheses is too long", file=file, line=first)
            pieces.append(" ")
            number, line = next(lines, (-1, ""))
            if number < 0:
                raise MasterFileError("a parenthesis is not closed", file=file, line=first)
        record = "".join(pieces)
        if record and not record.isspace():
            yield first, record


def _scan(line: str, depth: int, pieces: list[str], file: str, number: int) -> int:
    """Take a line apart; the depth of parentheses after it."""
    offset, end = 0, len(line)
    while offset < end:
        match = _PIECE.match(line, offset)
        if match is None:
            what = "a quoted string is not closed" if line[offset] == '"' else "a backslash before nothing"
            raise MasterFileError(what, file=file, line=number)
        piece = match[0]
        offset = match.end()
        if piece == ";":
            break
        if piece == "(":
            depth += 1
            pieces.append(" ")
        elif piece == ")":
            depth -= 1
            pieces.append(" ")
            if depth < 0:
                raise MasterFileError("a closing parenthesis without an opening one", file=file, line=number)
        else:
            pieces.append(piece)
    return depth
