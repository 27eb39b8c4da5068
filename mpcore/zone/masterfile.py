"""Master files (RFC 1035, section 5; RFC 2308, section 4; RFC 3597, section 5).

Understood are all types that dnspython knows, the private types of this system, the generic forms ``TYPEn`` and
``\\#``, records over several lines in parentheses, and the directives ``$ORIGIN``, ``$TTL``, ``$INCLUDE`` and
``$GENERATE`` (see :mod:`mpcore.zone.generate`).

A TTL that is left out is that of ``$TTL``; without that, the last one that was written (RFC 1035, section 5.1); before
the first one, the MINIMUM of the SOA.  Records outside the zone and of other classes than IN are errors.  Records that
come twice count once, and different TTLs in an RRset become the smallest of them (RFC 2181, section 5.2).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import dns.exception
import dns.ipv4
import dns.ipv6

from mpcore.errors import MasterFileError, RecordError, ZoneError
from mpcore.zone import generate, owners, packed, presentation
from mpcore.zone.rrset import parse_rdata, parse_ttl, rdata_or_generic, record_text, type_from_text, type_text
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
_PIECES: Final = 1 << 16  # characters of a file that are read at a time: no other thread waits long for that
_A: Final = 1
_SOA: Final = 6
_AAAA: Final = 28
_NAMING_TYPES: Final = frozenset({24, 30, 46, 47, 50, 62})  # SIG, NXT, RRSIG, NSEC, NSEC3, CSYNC: RDATA names types
_GENERIC_NAMES: Final = {type_text(number): f"TYPE{number}" for number in range(65280, 65535)}
_PRIVATE: Final = re.compile(
    r"\b(?:" + "|".join([key for key, value in _GENERIC_NAMES.items() if key != value]) + r")\b"
)
_ONE_NAME: Final = frozenset({2, 5, 12, 39})
_SPECIAL: Final = re.compile(r'["();\\]')
_ODD: Final = re.compile(r"[^\t\n\r -~]")
_PIECE: Final = re.compile(r'\\(?:[0-9]{3}|[^0-9])|"(?:[^"\\]|\\.)*"|[();]|[^\\"();]+')
_CLASSES: Final = frozenset({"IN", "CLASS1"})
_OTHER_CLASSES: Final = re.compile(r"(?:CH|HS|CS|NONE|ANY|CLASS[0-9]+)\Z")
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_*-]+\Z")
_MEMORY: Final = 4096  # spellings of TTLs and types that are remembered


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
    reader.read([text], file, None)
    return reader.finish(file)


def write_master_lines(version: ZoneVersion, generic_private: bool = True) -> Iterator[str]:
    """The records of a zone, one line each without line feed: the SOA, then all others in canonical order of owners.

    :param generic_private: write types of the private range (65280 to 65534) in generic form, also where RDATA names
        them (RRSIG, NSEC and others), so that every name server can read the text.
    """
    for lines in _batches(version, generic_private):
        yield from lines


def write_master_text(version: ZoneVersion, generic_private: bool = True) -> str:
    """The zone as a master file, see :func:`write_master_lines`."""
    return "".join([line + "\n" for line in write_master_lines(version, generic_private)])


def write_master_file(path: Path, version: ZoneVersion, generic_private: bool = True) -> None:
    """Write a zone to a file; it blocks.  The file is replaced at once and completely, and durable on return.

    A file that is there keeps its mode and, as far as the system allows, its owner; through a symbolic link it is
    the file that is replaced.  One writer at a time.

    :param generic_private: see :func:`write_master_lines`.
    :raises OSError: it cannot be written; an existing file is as it was.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o666), "w", encoding="utf-8") as file:
            with contextlib.suppress(FileNotFoundError):
                former = path.stat()
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), former.st_uid, former.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(former.st_mode))
            for lines in _batches(version, generic_private):
                lines.append("")
                file.write("\n".join(lines))
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


def _batches(version: ZoneVersion, generic_private: bool) -> Iterator[list[str]]:
    """The lines of a zone, those of some dozens of names at a time."""
    origin = owners.to_text(version.origin)
    apex = version.packed_node(version.origin)
    assert apex is not None
    yield [record_text(version.origin, _SOA, version.soa.ttl, version.soa.rdatas[0])]
    labels: dict[int, str] = {}
    lines: list[str] = []
    _write_node(lines, origin, apex, generic_private, labels)
    yield lines
    suffix = "." + origin if len(origin) > 1 else "."
    for names in version.names_below_apex():
        lines = []
        for name, blob in names:
            if name[0] == len(name) - 1 and _PLAIN.match(name, 1):
                owner = name[1:].decode("ascii") + suffix
            else:
                owner = owners.to_text(name + version.origin)
            _write_node(lines, owner, blob, generic_private, labels)
        yield lines


def _write_node(lines: list[str], owner: str, blob: bytes, generic_private: bool, labels: dict[int, str]) -> None:
    """Add the lines of one owner, without that of the SOA.

    :param labels: what stands between TTL and RDATA, for each type seen so far.
    """
    for start, stop in packed.records(blob, packed.start(blob), len(blob)):
        rdtype = blob[start] << 8 | blob[start + 1]
        rdata = blob[start + 10 : stop]
        ttl = int.from_bytes(blob[start + 4 : start + 8], "big")
        if rdtype == _SOA:
            continue
        if generic_private and 65280 <= rdtype <= 65534:
            lines.append(f"{owner}\t{ttl}\tIN\tTYPE{rdtype}\t\\# {len(rdata)} {rdata.hex()}".rstrip())
            continue
        label = labels.get(rdtype)
        if label is None:
            label = labels[rdtype] = f"\tIN\t{type_text(rdtype)}\t"
        text = rdata_or_generic(rdtype, rdata)
        if generic_private and rdtype in _NAMING_TYPES and _PRIVATE.search(text):
            text = " ".join([_GENERIC_NAMES.get(word, word) for word in text.split(" ")])
        lines.append(f"{owner}\t{ttl}{label}{text}")


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
        self.zone: bytes | None = None
        self.owner: bytes | None = None
        self.default_ttl: int | None = None  # $TTL
        self.last_ttl: int | None = None
        self.minimum: int | None = None  # of the SOA, for want of anything better
        self.builder: ZoneBuilder | None = None
        self.waiting: list[tuple[bytes, int, int, bytes]] = []  # records before it is known which zone they are of
        self.generated = 0
        self.open: list[Path] = []
        self.ttls: dict[str, int] = {}
        self.types: dict[str, tuple[int, presentation.Read | None]] = {}
        self.spelled = ""  # the last owner as it was written, if that is still what it means
        self.named = b""
        self.sink: Callable[[bytes, int, int, bytes], None] = self.wait
        self.set_origin(origin)
        if origin is not None:
            self.set_zone(origin)

    def set_origin(self, origin: bytes | None) -> None:
        self.origin = origin
        self.names = presentation.Names(origin)
        self.spelled = ""
        self.is_inside = self.zone is None or (origin is not None and owners.is_subdomain(origin, self.zone))

    def set_zone(self, zone: bytes) -> None:
        """From here on, an owner outside the zone is found on its line."""
        self.zone = zone
        self.spelled = ""
        self.is_inside = self.origin is not None and owners.is_subdomain(self.origin, zone)
        self.absolute = presentation.Names(zone)
        self.suffix = "." + owners.to_text(zone) if len(zone) > 1 else "."
        self.builder = ZoneBuilder(zone)
        self.sink = self.builder.add
        for record in self.waiting:
            self.sink(*record)
        self.waiting.clear()

    def wait(self, *record: *tuple[bytes, int, int, bytes]) -> None:
        self.waiting.append(record)

    def finish(self, file: str) -> ZoneVersion:
        if self.builder is None:
            raise ZoneError(f"{file}: no SOA record")
        try:
            return self.builder.finish()
        except ZoneError as error:
            raise ZoneError(f"{file}: {error}") from None

    def include(self, path: Path, parent: tuple[str, int] | None) -> None:
        file, line = parent or (str(path), 1)
        if len(self.open) >= MAX_INCLUDE_DEPTH:
            raise MasterFileError(f"$INCLUDE nested deeper than {MAX_INCLUDE_DEPTH} files", file=file, line=line)
        try:
            with path.open(encoding="utf-8", newline="\n") as stream:
                self.open.append(path)
                self.read(iter(lambda: stream.read(_PIECES), ""), str(path), path.parent)
                self.open.pop()
        except OSError as error:
            raise MasterFileError(f"cannot read {path}: {error.strerror}", file=file, line=line) from None
        except UnicodeDecodeError:
            raise MasterFileError("not UTF-8", file=str(path), line=_undecodable(path)) from None
        except MasterFileError as error:
            if parent is None:
                raise
            message = f"{error.message} (included from {file}:{line})"
            raise MasterFileError(message, file=error.file, line=error.line) from None

    def read(self, pieces: Iterable[str], file: str, directory: Path | None) -> None:
        for line, record, is_plain in _records(pieces, file):
            try:
                if record[0] == "$":
                    self.directive(record, file, line, directory)
                else:
                    self.record(record, is_plain)
            except RecordError as error:
                raise MasterFileError(str(error), file=file, line=line) from None

    def directive(self, text: str, file: str, line: int, directory: Path | None) -> None:
        words = text.split()
        name = words[0].upper()
        if name == "$ORIGIN" and len(words) == 2:
            self.set_origin(owners.name_from_text(words[1], self.origin).lower())
        elif name == "$TTL" and len(words) == 2:
            self.default_ttl = parse_ttl(words[1])
        elif name == "$INCLUDE" and len(words) in (2, 3):
            if directory is None:
                raise RecordError("$INCLUDE is not possible here")
            before = self.origin, self.owner
            if len(words) == 3:
                self.set_origin(owners.name_from_text(words[2], self.origin).lower())
            self.include(directory / words[1].strip('"'), (file, line))
            self.set_origin(before[0])
            self.owner = before[1]
        elif name == "$GENERATE":
            self.generate(text)
        elif name in ("$ORIGIN", "$TTL", "$INCLUDE"):
            raise RecordError(f"{name} with {len(words) - 1} arguments")
        else:
            raise RecordError(f"{words[0]} is not a directive that is understood")

    def generate(self, text: str) -> None:
        """Make the records of a ``$GENERATE``; a record without owner behind it has the owner before it."""
        words = text.split(None, 3)
        if len(words) < 4:
            raise RecordError("$GENERATE needs a range, an owner, a type and RDATA")
        counters = generate.parse_range(words[1])
        self.generated += len(counters)
        if self.generated > generate.MAX_GENERATED:
            raise RecordError(f"the $GENERATE directives make more than {generate.MAX_GENERATED} records")
        fixed, rest = "", words[3]
        while True:
            word, rest = _word(rest)
            fixed += f" {word}"
            if word.upper() not in _CLASSES and not word[0].isdigit():
                self.type(word, False)  # a wrong one is found here once, not with each record
                break
        owner, rdata = generate.Template(words[2]), generate.Template(generate.unquoted(rest))
        before = self.owner
        for counter in counters:
            line = f"{owner.fill(counter)}{fixed} {rdata.fill(counter)}"
            try:
                for _, record, is_plain in _records([line], ""):
                    self.record(record, is_plain)
            except MasterFileError as error:
                raise RecordError(f"$GENERATE: {error.message}") from None
            self.owner = before

    def record(self, text: str, is_plain: bool) -> None:
        """Take a record.

        :param is_plain: whether all of it is printable ASCII and blanks.
        """
        words = text.split() if is_plain else _words(text)
        if text[0] in " \t":
            index = 0
            owner = self.owner
            if owner is None:
                raise RecordError("the first record has no owner")
        else:
            index = 1
            owner = self.named if words[0] == self.spelled else self.name(words[0])
        ttl: int | None = None
        is_classed = False
        types = self.types
        try:
            while (kind := types.get(word := words[index])) is None:
                if ttl is None and word[0].isdigit():
                    ttl = self.ttls.get(word)
                    if ttl is None:
                        ttl = self.ttl(word)
                elif not is_classed and word.upper() in _CLASSES:
                    is_classed = True
                else:
                    kind = self.type(word, is_classed)
                    break
                index += 1
        except IndexError:
            raise RecordError("the record ends before its type") from None
        rdtype, read = kind
        index += 1
        rdata = read(words, index, text, self.names) if read is not None and is_plain else None
        if rdata is None:
            rest = text.split(None, index)
            rdata = self.rdata(rdtype, rest[index].strip() if len(rest) > index else "")
        if rdtype == _SOA and self.minimum is None:
            self.minimum = min(int.from_bytes(rdata[-4:], "big"), 0x7FFFFFFF)
            if self.zone is None:
                self.set_zone(owner)
        if ttl is None:
            ttl = self.default_ttl
            if ttl is None:
                ttl = self.last_ttl if self.last_ttl is not None else self.minimum
            if ttl is None:
                raise RecordError("no TTL, neither here nor before")
        else:
            self.last_ttl = ttl
        self.owner = owner
        self.sink(owner, rdtype, ttl, rdata)

    def name(self, text: str) -> bytes:
        """The owner spelled *text*; records of one owner mostly stand together."""
        owner: bytes | None = None
        if text[-1] != ".":
            if self.is_inside:
                owner = self.names.owner(text)
        elif self.zone is not None and text.endswith(self.suffix):
            owner = self.absolute.owner(text[: -len(self.suffix)])
        if owner is None:
            owner = owners.name_from_text(text, self.origin).lower()
            if self.zone is not None and not owners.is_subdomain(owner, self.zone):
                raise RecordError(f"{owners.to_text(owner)} is not in {owners.to_text(self.zone)}")
        self.spelled, self.named = text, owner
        return owner

    def ttl(self, text: str) -> int:
        if len(self.ttls) >= _MEMORY:
            self.ttls.clear()
        ttl = self.ttls[text] = parse_ttl(text)
        return ttl

    def type(self, text: str, is_classed: bool) -> tuple[int, presentation.Read | None]:
        if not is_classed and _OTHER_CLASSES.match(text.upper()):
            raise RecordError(f"class {text} instead of IN")
        if len(self.types) >= _MEMORY:
            self.types.clear()
        rdtype = type_from_text(text)
        kind = self.types[text] = rdtype, presentation.reader(rdtype)
        return kind

    def rdata(self, rdtype: int, text: str) -> bytes:
        """RDATA the long way, by dnspython."""
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


def _undecodable(path: Path) -> int:
    """The number of the first line of a file that is not UTF-8."""
    number = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):  # noqa: B007
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
    return number


def _word(text: str) -> tuple[str, str]:
    parts = text.split(None, 1)
    if not parts:
        raise RecordError("the record ends before its type")
    return parts[0], parts[1] if len(parts) > 1 else ""


def _words(text: str) -> list[str]:
    """Owner, TTL, class and type, and whatever else there is among the first words."""
    return text.split(None, 5)


def _lines(pieces: Iterable[str], file: str) -> Iterator[tuple[int, str, bool, bool]]:
    """The lines of a text that comes in pieces, numbered, without line ends.

    With each: whether there may be anything in it that :func:`_scan` looks for, and whether it is printable ASCII.
    """
    number = 0
    rest = ""
    for piece in pieces:
        text = rest + piece if rest else piece
        lines = text.split("\n")
        rest = lines.pop()
        if len(rest) > _MAX_RECORD:
            raise MasterFileError("a line is too long", file=file, line=number + len(lines) + 1)
        if lines and (_SPECIAL.search(text) or _ODD.search(text) or "\r" in text):
            for line in lines:
                number += 1
                yield number, line.rstrip("\r"), _SPECIAL.search(line) is not None, _ODD.search(line) is None
            continue
        for line in lines:
            number += 1
            yield number, line, False, True
    if rest:
        yield number + 1, rest.rstrip("\r"), _SPECIAL.search(rest) is not None, _ODD.search(rest) is None


def _records(pieces: Iterable[str], file: str) -> Iterator[tuple[int, str, bool]]:
    """Records and directives, each as one line without comments and parentheses.

    With each: the number of its first line, and whether it is printable ASCII.
    """
    lines = _lines(pieces, file)
    for number, line, is_special, is_plain in lines:
        if not is_special:
            if line and not line.isspace():
                yield number, line, is_plain
            continue
        first = number
        begins_bare = line[0] == "("  # what follows is an owner even if a blank comes before it
        parts: list[str] = []
        depth = size = 0
        while True:
            depth = _scan(line, depth, parts, file, number)
            if depth == 0:
                break
            size += len(line)
            if size > _MAX_RECORD:
                raise MasterFileError("a record in parentheses is too long", file=file, line=first)
            parts.append(" ")
            number, line, _, is_too = next(lines, (-1, "", False, True))
            is_plain = is_plain and is_too
            if number < 0:
                raise MasterFileError("a parenthesis is not closed", file=file, line=first)
        record = "".join(parts)
        if begins_bare:
            record = record.lstrip()
        if record and not record.isspace():
            yield first, record, is_plain


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
