"""What the program says: data on standard output, narration on standard error, and how it went as an exit code.

This is the only module that writes to standard output, and the only one that knows the exit codes:

====  ==============================================================================
0     done
1     refused or failed
2     usage or configuration
3     try again later: a daemon or peer is out of reach or not ready, or time ran out
4     it would change something (``--expect-no-changes``)
130   interrupted
====  ==============================================================================
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, TextIO

__all__ = (
    "ExitCode",
    "Format",
    "Lines",
    "Result",
    "Styled",
    "Table",
    "Writer",
    "age",
    "clock_time",
    "duration",
    "exit_code",
    "narrate",
    "printable",
    "render",
    "short_record",
)

Format = Literal["text", "json"]

_BLOB = re.compile(r"[A-Za-z0-9+/]{33,}={0,2}|[0-9A-Fa-f]{33,}")
_GAP = "  "


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    RETRY = 3
    WOULD_CHANGE = 4
    INTERRUPTED = 130


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for *error*; anything unknown is a failure."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, TimeoutError):
        return ExitCode.RETRY
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"ControlUnreachable", "NotReadyError", "ExchangeError"}:
        return ExitCode.RETRY
    if names & {"ConfigError", "ControlUsageError", "QueryError", "InvalidNameError", "UsageError"}:
        return ExitCode.USAGE
    return ExitCode.FAILED


# ---------------------------------------------------------------------------------------------------------------------
# Results


@dataclass(frozen=True, slots=True)
class Table:
    """Columns under headings; cells are one line of text each."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "(none)"  #: shown instead of a table without rows


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of text, shown as they are."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Styled:
    """Lines made of pieces, each with a style that a terminal may show as a colour (:data:`_COLOURS`) and a text."""

    lines: Sequence[Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found out.

    :param data: for machines: a model, a list of models, or plain JSON data; ``None``: nothing.
    :param blocks: the same for people.
    :param code: how it went.
    :param note: a remark for standard error, in both formats.
    :param output: in this format, whatever the writer's is.
    :param lines: *data* is a list of which each item is a line of JSON.
    """

    data: Any
    blocks: Sequence[Table | Lines | Styled] = ()
    code: ExitCode = ExitCode.DONE
    note: str = field(default="", kw_only=True)
    output: Format | None = field(default=None, kw_only=True)
    lines: bool = field(default=False, kw_only=True)


_COLOURS = {
    "name": "36",
    "type": "35",
    "comment": "2",
    "title": "1",
    "good": "32",
    "warning": "33",
    "bad": "1;31",
}


def render(blocks: Iterable[Table | Lines | Styled], *, colour: bool = False) -> str:
    """Blocks as text, an empty line between them, each line ended.

    :param colour: show styles, for a terminal.
    """

    def text(block: Table | Lines | Styled) -> str:
        if isinstance(block, Table):
            return _table(block)
        return _lines(block) if isinstance(block, Lines) else _styled(block, colour)

    return "\n".join(map(text, blocks))


def _styled(block: Styled, colour: bool) -> str:
    return "".join(f"{_styled_line(pieces, colour)}\n" for pieces in block.lines)


def _styled_line(pieces: Sequence[tuple[str, str]], colour: bool) -> str:
    if not colour:
        return "".join(printable(text) for _, text in pieces).rstrip()
    return "".join(
        f"\x1b[{_COLOURS[style]}m{printable(text)}\x1b[0m" if style in _COLOURS else printable(text)
        for style, text in pieces
    )


def _lines(block: Lines) -> str:
    return "".join("\t".join(printable(part) for part in line.split("\t")) + "\n" for line in block.lines)


def _table(table: Table) -> str:
    if not table.rows:
        return f"{table.empty}\n"
    rows = [list(table.headings), *([printable(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.headings))]
    return "".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


class Writer:
    """Writes results to standard output in one format.

    :param output: ``text`` or ``json``.
    :param stream: standard output unless given.
    :param compact: JSON on one line each, for streams.
    """

    def __init__(self, output: Format = "text", stream: TextIO | None = None) -> None:
        self.output: Format = output
        self._stream = stream if stream is not None else sys.stdout
        self._colour = _wants_colour(self._stream)

    def result(self, result: Result, *, compact: bool = False) -> None:
        """Write one result; its note goes to standard error."""
        if (result.output or self.output) == "json":
            if result.data is None:
                return
            items = result.data if result.lines else [result.data]
            indent = None if compact else 2
            self.write("".join(json.dumps(_plain(item), indent=indent, ensure_ascii=False) + "\n" for item in items))
        else:
            self.write(render(result.blocks, colour=self._colour))
        if result.note:
            narrate(result.note)

    def write(self, text: str) -> None:
        """Write data as it is."""
        self._stream.write(text)
        self._stream.flush()


def _wants_colour(stream: TextIO) -> bool:
    """Whether *stream* is a terminal that shows colours, and nobody has said that they are unwanted."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def narrate(message: str) -> None:
    """Tell the operator something on standard error."""
    sys.stderr.write(f"{printable(message)}\n")
    sys.stderr.flush()


# ---------------------------------------------------------------------------------------------------------------------
# Words for values


def printable(text: str) -> str:
    """*text* as one line that cannot drive a terminal: tabs become spaces, other control characters are escaped."""
    text = text.replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def short_record(text: str) -> str:
    """A record with single spaces, its long keys, digests and signatures abbreviated in the middle."""
    return _BLOB.sub(lambda match: f"{match[0][:10]}...{match[0][-4:]}", " ".join(text.split()))


def duration(seconds: float) -> str:
    """A length of time: ``3s``, ``4m05s``, ``2h07m``, ``3d04h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def age(then: float | None, now: float) -> str:
    """How long ago *then* was, ``-`` if it never was."""
    return "-" if then is None else duration(now - then)


def clock_time(then: float | None, *, with_date: bool = False) -> str:
    """A time of day in UTC, ``-`` if there is none."""
    if then is None:
        return "-"
    from datetime import UTC, datetime

    return datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M:%SZ" if with_date else "%H:%M:%S")
