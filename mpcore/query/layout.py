"""Lines of text made of pieces, each with a style, so that a terminal can colour what a file gets plain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

__all__ = ("STYLES", "Piece", "StyledLine", "aligned", "comment", "line", "plain", "printable", "words_of_time")

Piece: TypeAlias = tuple[str, str]
"""Style and text."""

StyledLine: TypeAlias = tuple[Piece, ...]

STYLES: Final = ("", "name", "type", "comment", "title", "good", "warning", "bad")
"""Styles that pieces have; the empty one is plain text."""


def line(*pieces: Piece | str) -> StyledLine:
    """A line; a text alone has no style."""
    return tuple(("", piece) if isinstance(piece, str) else piece for piece in pieces)


def comment(text: str, style: str = "comment") -> StyledLine:
    """A line that begins with two semicolons."""
    return ((style, f";; {text}" if text else ";;"),)


def plain(lines: Iterable[StyledLine]) -> str:
    """The lines without styles, with newlines between them and without blanks at their ends."""
    return "\n".join("".join(text for _, text in pieces).rstrip() for pieces in lines)


def printable(text: str) -> str:
    """*text* with control and other unprintable characters escaped: the other side does not drive our terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def aligned(rows: Sequence[Sequence[Piece]], limits: Sequence[int] = ()) -> list[StyledLine]:
    """Rows of cells as lines, the cells of a column below each other with a blank between; the last one as it is.

    :param limits: characters beyond which a cell of a column does not make the column wider.
    """
    widths: dict[int, int] = {}
    for row in rows:
        for column, (_, text) in enumerate(row[:-1]):
            limit = limits[column] if column < len(limits) else len(text)
            widths[column] = max(widths.get(column, 0), min(len(text), limit))
    return [
        tuple(
            (style, text if column == len(row) - 1 else f"{text:<{widths[column]}} ")
            for column, (style, text) in enumerate(row)
        )
        for row in rows
    ]


def words_of_time(seconds: float) -> str:
    """A length of time with its two largest units: ``13d04h``, ``2h07m``, ``4m05s``, ``3s``."""
    whole = max(0, int(seconds))
    for size, unit, below, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // below:02}{name}"
    return f"{whole}s"
