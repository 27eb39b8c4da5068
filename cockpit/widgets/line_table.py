"""A table drawn line by line: only what is on the screen is ever rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cockpit.output import printable
from cockpit.widgets.tones import TONE_CSS, TONES, Cell, tone_style

__all__ = ("Column", "LineTable", "Row", "fit")

_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    :param title: heading; a filter ``title:text`` looks only here.
    :param least: width it is shrunk to before a column is left out.
    :param grows: gives room away first; as the last column it takes what is left.
    :param spare: when there is no room, columns with the highest number are left out; 0: never.
    """

    title: str
    least: int = 4
    grows: bool = False
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    :param key: what it is about; the cursor stays with it when rows come and go.
    :param cells: as many as there are columns.
    """

    key: str
    cells: tuple[Cell, ...]


def fit(text: str, width: int) -> str:
    """*text* in exactly *width* cells; what is cut off shows as an ellipsis."""
    if cell_len(text) > width:
        return set_cell_size(text, max(0, width - 1)) + ("…" if width > 0 else "")
    return set_cell_size(text, width)


def _over(base: Style, tone: Style) -> Style:
    """The letters of *tone* on the ground of *base*."""
    return base + Style(color=tone.color, bold=tone.bold)


class LineTable(ScrollView, can_focus=True):
    """Rows under headings, with a cursor and a filter.

    :param columns: the columns.
    :param help_text: Markdown, shown by ``?`` when the table has the focus.
    :param empty: shown when there are no rows.
    """

    DEFAULT_CSS = """
    LineTable {
        height: 1fr; min-height: 2; background: $background; scrollbar-size-vertical: 1; overflow-x: hidden;
    }
    LineTable.-fitted { height: auto; max-height: 50%; }
    """ + TONE_CSS.replace("WIDGET", "LineTable")

    COMPONENT_CLASSES: ClassVar[set[str]] = TONES

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move_to(0)", "First", show=False),
        Binding("end", "move_to(-1)", "Last", show=False),
        Binding("enter", "select", "Open", show=False),
    ]

    class Highlighted(Message):
        """The cursor is on another row."""

        def __init__(self, table: LineTable, key: str) -> None:
            self.table, self.key = table, key
            super().__init__()

        @property
        def control(self) -> LineTable:
            """The table."""
            return self.table

    class Selected(Message):
        """A row was chosen with enter or a double click."""

        def __init__(self, table: LineTable, key: str) -> None:
            self.table, self.key = table, key
            super().__init__()

        @property
        def control(self) -> LineTable:
            """The table."""
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        help_text: str,
        empty: str = "nothing",
        id: str | None = None,
        classes: str = "",
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = tuple(columns)
        self.help_text = help_text
        self.empty = empty
        self._all: tuple[Row, ...] = ()
        self._rows: tuple[Row, ...] = ()
        self._filter = ""
        self._cursor = 0
        self._widths: list[int] = []
        self._measured_for = -1

    # -- content

    @property
    def rows(self) -> tuple[Row, ...]:
        """Rows that pass the filter."""
        return self._rows

    @property
    def cursor_key(self) -> str | None:
        """Key of the row under the cursor."""
        return self._rows[self._cursor].key if self._rows else None

    @property
    def filter_text(self) -> str:
        """What rows must contain; see :meth:`set_filter`."""
        return self._filter

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show other rows; the cursor stays on the row it is on."""
        cleaned = tuple(Row(row.key, tuple((printable(text), tone) for text, tone in row.cells)) for row in rows)
        if cleaned == self._all:
            return
        self._all = cleaned
        self._apply()

    def set_filter(self, text: str) -> None:
        """Show only rows with all the words of *text*; ``title:word`` looks in one column, ``!word`` excludes."""
        self._filter = text.strip()
        self._apply()

    def move_cursor_to(self, key: str) -> None:
        """Put the cursor on a row, if it is there."""
        for index, row in enumerate(self._rows):
            if row.key == key:
                self._put(index)

    def _apply(self) -> None:
        key, former = self.cursor_key, len(self._rows)
        words = self._filter.lower().split()
        self._rows = tuple(row for row in self._all if all(self._passes(row, word) for word in words))
        self._cursor = next((index for index, row in enumerate(self._rows) if row.key == key), self._cursor)
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        self._measured_for = -1
        self.virtual_size = Size(0, len(self._rows) + 1)
        self.refresh(layout=former != len(self._rows) and self.has_class("-fitted"))
        if self.cursor_key is not None and self.cursor_key != key:
            self.post_message(self.Highlighted(self, self.cursor_key))

    def _passes(self, row: Row, word: str) -> bool:
        if word.startswith("!"):
            return len(word) == 1 or not self._passes(row, word[1:])
        title, colon, rest = word.partition(":")
        cells = list(zip(self.columns, row.cells, strict=True))
        if colon and any(column.title.lower() == title for column in self.columns):
            return any(rest in cell[0].lower() for column, cell in cells if column.title.lower() == title)
        return any(word in cell[0].lower() for _, cell in cells)

    # -- layout

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Headings and rows; a line for the words when there are none."""
        return max(1, len(self._rows)) + 1

    def _measure(self, room: int) -> None:
        """Share *room* among the columns; leave columns out when even their least widths do not fit."""
        if room == self._measured_for:
            return
        self._measured_for = room
        natural = [
            max([cell_len(column.title), *(cell_len(row.cells[index][0]) for row in self._rows)])
            for index, column in enumerate(self.columns)
        ]
        shown = list(range(len(self.columns)))

        def needed(widths: list[int]) -> int:
            return sum(widths[index] for index in shown) + _GAP * max(0, len(shown) - 1)

        least = [
            min(width, column.least) if column.grows else width
            for column, width in zip(self.columns, natural, strict=True)
        ]
        while needed(least) > room:
            spare = max(shown, key=lambda index: (self.columns[index].spare, index), default=None)
            if spare is None or self.columns[spare].spare == 0:
                break
            shown.remove(spare)
        widths = [natural[index] if index in shown else 0 for index in range(len(self.columns))]
        growing = [index for index in shown if self.columns[index].grows]
        excess = needed(widths) - room
        while excess > 0 and (giving := [index for index in growing if widths[index] > least[index]]):
            widths[max(giving, key=lambda index: widths[index])] -= 1
            excess -= 1
        if excess < 0 and growing and growing[-1] == shown[-1]:
            widths[growing[-1]] -= excess
        self._widths = widths

    # -- drawing

    def render_line(self, y: int) -> Strip:
        """One line of the widget: the headings stay at the top."""
        width = self.scrollable_content_region.width
        self._measure(width)
        base = self.rich_style
        if y == 0:
            head = base + tone_style(self, "head")
            cells = [(column.title, head) for column in self.columns]
            return self._strip(cells, width, head)
        index = self.scroll_offset.y + y - 1
        if not self._rows and index == 0:
            words = f"no row contains {self._filter!r}" if self._filter and self._all else self.empty
            return Strip([Segment(fit(f"  {words}", width), base + tone_style(self, "dim"))], width)
        if index >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[index]
        if index == self._cursor and self.has_focus:
            cursor = base + tone_style(self, "cursor")
            return self._strip([(text, cursor) for text, _ in row.cells], width, cursor)
        if index == self._cursor and len(self._rows) > 1:
            base = base + tone_style(self, "cursor-blurred")
        return self._strip([(text, _over(base, tone_style(self, tone))) for text, tone in row.cells], width, base)

    def _strip(self, cells: Sequence[tuple[str, Style]], width: int, filler: Style) -> Strip:
        segments: list[Segment] = []
        used = 0
        for (text, style), size in zip(cells, self._widths, strict=False):
            if size == 0 or used >= width:
                continue
            if segments:
                segments.append(Segment(" " * _GAP, filler))
                used += _GAP
            size = min(size, width - used)
            segments.append(Segment(fit(text, size), style))
            used += size
        if used < width:
            segments.append(Segment(" " * (width - used), filler))
        return Strip(segments, max(used, width)).crop(0, width)

    # -- moving

    def action_move(self, step: int) -> None:
        """Move the cursor by *step* rows."""
        self._put(self._cursor + step)

    def action_page(self, direction: int) -> None:
        """Move the cursor by what the window shows."""
        self._put(self._cursor + direction * max(1, self.scrollable_content_region.height - 2))

    def action_move_to(self, index: int) -> None:
        """Move the cursor to a row, -1 for the last."""
        self._put(len(self._rows) - 1 if index < 0 else index)

    def action_select(self) -> None:
        """Choose the row under the cursor."""
        if self.cursor_key is not None:
            self.post_message(self.Selected(self, self.cursor_key))

    def _put(self, index: int) -> None:
        if not self._rows:
            return
        former, self._cursor = self._cursor, max(0, min(index, len(self._rows) - 1))
        top, height = self.scroll_offset.y, max(1, self.scrollable_content_region.height - 1)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False)
        self.refresh()
        if self._cursor != former:
            self.post_message(self.Highlighted(self, self._rows[self._cursor].key))

    def on_click(self, event: events.Click) -> None:
        """One click moves the cursor, two choose."""
        if event.y == 0 or not self._rows:
            return
        index = self.scroll_offset.y + event.y - 1
        if 0 <= index < len(self._rows):
            self._put(index)
            if event.chain == 2:
                self.action_select()
