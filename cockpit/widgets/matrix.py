"""The matrix of a group: row and column say what the reporter reports about the peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cockpit.output import age, printable
from cockpit.widgets.line_table import fit
from cockpit.widgets.tones import TONE_CSS, TONES, tone_of_state, tone_style
from mpcore.control.models import MatrixRow

__all__ = ("Matrix",)

_SHORT = {
    "OPERATIONAL": "OPER",
    "INTRODUCED": "INTR",
    "INTERRUPTED": "LOST",
    "DEGRADED": "DEGR",
    "NEEDED": "NEED",
    "KNOWN": "KNOW",
    "LEGACY": "LEGA",
}
_SELF, _UNKNOWN = "-", "?"
_AGE = 8


class Matrix(ScrollView, can_focus=True):
    """Who reports what about whom, with the age of each row."""

    help_text = """\
## The matrix

A **row** is one provider's agent: what *it reports* about each of the others. A **column** is what the others report
about one agent. `OPERATIONAL` everywhere is health; the group can elect a leader only then.

| word | meaning |
|---|---|
| NEEDED | it shares a zone with us, but its addresses and key are not found yet |
| KNOWN | found in DNS; our hello is not accepted yet |
| INTRODUCED | hello accepted; no beat in both directions yet |
| OPERATIONAL | beats go both ways |
| DEGRADED | beats are late |
| INTERRUPTED | beats are missing |
| ? | the reporter says nothing about it |

**AGE** is the time since the row arrived here; a row older than a few beat intervals is coloured.
Two cells that disagree (A hears B, B does not hear A) mean a one-way problem: the sentences below name it.
"""

    DEFAULT_CSS = """
    Matrix { height: auto; min-height: 2; max-height: 50%; background: $background; overflow-x: hidden;
             scrollbar-size-vertical: 1; }
    """ + TONE_CSS.replace("WIDGET", "Matrix")

    COMPONENT_CLASSES: ClassVar[set[str]] = TONES

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1, 0)", "Up", show=False),
        Binding("down", "move(1, 0)", "Down", show=False),
        Binding("left", "move(0, -1)", "Left", show=False),
        Binding("right", "move(0, 1)", "Right", show=False),
    ]

    class Moved(Message):
        """The cursor is on another cell."""

        def __init__(self, reporter: str, peer: str) -> None:
            self.reporter, self.peer = reporter, peer
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._members: tuple[str, ...] = ()
        self._names: dict[str, str] = {}
        self._rows: dict[str, MatrixRow] = {}
        self._now = 0.0
        self._row = self._column = 0

    def show(self, members: Sequence[str], rows: Sequence[MatrixRow], names: Mapping[str, str], now: float) -> None:
        """Show the rows of a group.

        :param names: identity to short name.
        :param now: Unix seconds, for the ages.
        """
        grown = len(members) != len(self._members)
        self._members = tuple(members)
        self._names = {member: printable(names.get(member, member)) for member in members}
        self._rows = {row.reporter: row for row in rows}
        self._now = now
        self._row, self._column = (min(each, max(0, len(members) - 1)) for each in (self._row, self._column))
        self.virtual_size = Size(0, len(members) + 1)
        self.refresh(layout=grown)

    @property
    def cursor(self) -> tuple[str, str] | None:
        """Reporter and peer of the cell under the cursor."""
        return (self._members[self._row], self._members[self._column]) if self._members else None

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Headings and a line for each member."""
        return max(1, len(self._members)) + 1

    def _widths(self, width: int) -> tuple[int, int]:
        """Width of the names and of a cell, its gap included."""
        names = min(max([len("REPORTER"), *map(len, self._names.values())]), 20) + 2
        count = max(1, len(self._members))
        return names, max(6, min((width - names - 2 * _AGE) // count, max(13, names)))

    def render_line(self, y: int) -> Strip:
        """One line: the headings stay at the top."""
        width = self.scrollable_content_region.width
        names, cell = self._widths(width)
        base = self.rich_style
        if y == 0:
            head = base + tone_style(self, "head")
            texts = [("REPORTER", names), *((self._names[member], cell) for member in self._members)]
            return self._line([(text, size, head) for text, size in [*texts, ("AGE", _AGE), ("BEATS", _AGE)]], head)
        index = self.scroll_offset.y + y - 1
        if index >= len(self._members):
            text = "  the group has no members yet" if not self._members and index == 0 else ""
            return Strip([Segment(fit(text, width), base + _ink(tone_style(self, "dim")))], width)
        member = self._members[index]
        row = self._rows.get(member)
        parts = [(self._names[member], names, base + _ink(tone_style(self, "mark")))]
        for column, peer in enumerate(self._members):
            word, tone = self._word(row, member, peer, cell)
            style = base + _ink(tone_style(self, tone))
            if self.has_focus and (index, column) == (self._row, self._column):
                style = base + tone_style(self, "cursor")
            parts.append((word, cell, style))
        parts.append((age(row.received_at if row else None, self._now), _AGE, base + _ink(self._age_style(row))))
        beats = f"{row.beat_interval:g}s" if row and row.beat_interval else "-"
        parts.append((beats, _AGE, base + _ink(tone_style(self, "dim"))))
        return self._line(parts, base)

    def _word(self, row: MatrixRow | None, reporter: str, peer: str, cell: int) -> tuple[str, str]:
        if reporter == peer:
            return _SELF, "dim"
        state = printable(row.states.get(peer, _UNKNOWN)) if row else _UNKNOWN
        short = state if len(state) < cell - 1 else _SHORT.get(state, state[: cell - 2])
        return short, "dim" if state == _UNKNOWN else tone_of_state(state)

    def _age_style(self, row: MatrixRow | None) -> Style:
        if row is None or row.received_at is None:
            return tone_style(self, "dim")
        late = self._now - row.received_at > 4 * (row.beat_interval or 15)
        return tone_style(self, "bad" if late else "plain")

    def _line(self, parts: Sequence[tuple[str, int, Style]], filler: Style) -> Strip:
        width = self.scrollable_content_region.width
        segments = []
        for text, size, style in parts:
            segments.append(Segment(fit(text, size - 2), style))
            segments.append(Segment("  ", filler))
        return Strip(segments).adjust_cell_length(width, filler)

    def action_move(self, rows: int, columns: int) -> None:
        """Move the cursor."""
        last = len(self._members) - 1
        self._put(max(0, min(self._row + rows, last)), max(0, min(self._column + columns, last)))

    def _put(self, row: int, column: int) -> None:
        if not self._members:
            return
        self._row, self._column = row, column
        self.refresh()
        reporter, peer = self._members[row], self._members[column]
        self.post_message(self.Moved(reporter, peer))

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor on a cell."""
        names, cell = self._widths(self.scrollable_content_region.width)
        row, column = self.scroll_offset.y + event.y - 1, (event.x - names) // cell
        if event.y > 0 and 0 <= row < len(self._members):
            self._put(row, max(0, min(column, len(self._members) - 1)))


def _ink(tone: Style) -> Style:
    return Style(color=tone.color, bold=tone.bold)
