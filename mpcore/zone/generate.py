"""The directive ``$GENERATE`` of master files, an extension of BIND: one line that stands for many records.

``$GENERATE start-stop[/step] owner [TTL] [class] type rdata``; *owner* and *rdata* are templates.  In a template

========================  ==============================================================================
``$``                     is the counter, in decimal
``${offset}``             is the counter plus *offset*, which may be negative
``${offset,width}``       the same, filled with zeros to *width* characters
``${offset,width,base}``  in base ``d`` (decimal), ``o`` (octal), ``x`` or ``X`` (hexadecimal), or as
                          hexadecimal digits from the least one up, with dots between them, ``n`` or ``N``,
                          where *width* counts the dots too
``$$``, ``\\$``             is a dollar sign
========================  ==============================================================================

An RDATA template with blanks stands in quotes, which are taken off.  As in BIND, an offset holds for the bare ``$``
that follow it in the same template, and negative numbers are written as unsigned 32 bits in all bases but ``d``.
"""

from __future__ import annotations

import re
from typing import Final

from mpcore.errors import RecordError

__all__ = ("MAX_GENERATED", "Template", "parse_range", "unquoted")

MAX_GENERATED: Final = 1_000_000
"""Most records that the ``$GENERATE`` directives of one reading make."""

_MAX_NUMBER: Final = 0x7FFFFFFF
_MAX_WIDTH: Final = 127
_RANGE: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,10})(?:/([0-9]{1,10}))?\Z")
_PIECE: Final = re.compile(r"\$\$|\$\{([^}]*)\}|\$(?!\{)|\\.|[^$\\]+")
_FORMAT: Final = re.compile(r"(-?[0-9]{1,10})(?:,([0-9]{1,10})(?:,([doxXnN]))?)?\Z")


def parse_range(text: str) -> range:
    """The counters of ``start-stop[/step]``, all of them 0 to 2**31 - 1, *step* at least 1.

    :raises RecordError: it is no such range, or there are more than :data:`MAX_GENERATED` in it.
    """
    match = _RANGE.match(text)
    start, stop, step = (int(number or 1) for number in match.groups()) if match else (1, 0, 1)
    if start > stop or stop > _MAX_NUMBER or not 0 < step <= _MAX_NUMBER:
        raise RecordError(f"$GENERATE: {text!r} is not a range start-stop[/step]")
    counters = range(start, stop + 1, step)
    if len(counters) > MAX_GENERATED:
        raise RecordError(f"$GENERATE: {text!r} makes {len(counters)} records, more than {MAX_GENERATED}")
    return counters


def unquoted(text: str) -> str:
    """An RDATA template without the quotes around it.

    :raises RecordError: there are several words and no quotes.
    """
    text = text.strip(" \t")
    if len(text) > 1 and text[0] == '"' and re.fullmatch(r'"(?:[^"\\]|\\.)*"', text):
        return text[1:-1].replace('\\"', '"')
    if not text or " " in text or "\t" in text:
        raise RecordError("$GENERATE: the RDATA must be one word, or stand in quotes")
    return text


class Template:
    """A text with places for the counter.

    :raises RecordError: what stands in braces is not understood.
    """

    def __init__(self, text: str) -> None:
        # Text, or offset, width and base of a number.
        self._pieces: list[str | tuple[int, int, str]] = []
        offset, end = 0, 0
        for match in _PIECE.finditer(text):
            if match.start() != end:
                break
            end = match.end()
            piece = match[0]
            if piece == "$$":
                self._pieces.append("$")
            elif piece[0] != "$":
                self._pieces.append(piece)
            else:
                width, base = 0, "d"
                if len(piece) > 1:
                    form = _FORMAT.match(match[1])
                    if form is None or int(form[2] or 0) > _MAX_WIDTH:
                        raise RecordError(f"$GENERATE: {piece!r} is not ${{offset[,width[,base]]}}")
                    offset, width, base = int(form[1]), int(form[2] or 0), form[3] or "d"
                self._pieces.append((offset, width, base))
        if end != len(text):
            raise RecordError(f"$GENERATE: {text[end : end + 20]!r} is not understood")

    def fill(self, counter: int) -> str:
        """The text for one value of the counter.

        :raises RecordError: a number outside -2**31 to 2**31 - 1.
        """
        return "".join(
            [piece if isinstance(piece, str) else _number(counter + piece[0], *piece[1:]) for piece in self._pieces]
        )


def _number(value: int, width: int, base: str) -> str:
    if not -_MAX_NUMBER - 1 <= value <= _MAX_NUMBER:
        raise RecordError(f"$GENERATE: {value} is out of range")
    if base != "d" and value < 0:
        value += 1 << 32
    if base in "nN":
        digits = f"{value:0{(width + 1) // 2}{'x' if base == 'n' else 'X'}}"
        text = ".".join(reversed(digits))
        return text + "." if len(text) < width else text
    return f"{value:0{width}{base}}" if width else f"{value:{base}}"
