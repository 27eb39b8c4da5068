"""The top line: where one is, where one can go, whose view it is, and the time."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from cockpit.output import printable
from cockpit.widgets.tones import TONE_CSS, TONES, tone_style

__all__ = ("PLACES", "NavBar")

#: Key, name of the screen, word shown.
PLACES: tuple[tuple[str, str, str], ...] = (
    ("f", "fleet", "Fleet"),
    ("g", "group", "Group"),
    ("z", "zone", "Zone"),
    ("e", "edits", "Edits"),
    ("t", "changes", "Txns"),
    ("p", "peers", "Peers"),
    ("s", "keys", "Keys"),
    ("l", "events", "Log"),
)


class NavBar(Widget):
    """One line; every place in it can be clicked."""

    DEFAULT_CSS = """
    NavBar { height: 1; dock: top; background: $panel; }
    """ + TONE_CSS.replace("WIDGET", "NavBar")

    COMPONENT_CLASSES: ClassVar[set[str]] = TONES

    place: reactive[str] = reactive("fleet")
    right: reactive[tuple[str, ...]] = reactive(())  #: the first of these texts that fits is shown

    class Chosen(Message):
        """A place was clicked."""

        def __init__(self, place: str) -> None:
            self.place = place
            super().__init__()

    def render_line(self, y: int) -> Strip:
        """The line."""
        base, width = self.rich_style, self.size.width
        segments: list[Segment] = []
        for key, place, word in PLACES:
            here = place == self.place
            style = base + tone_style(self, "cursor") if here else base
            mark = tone_style(self, "mark")
            segments.append(Segment(" ", style))
            segments.append(Segment(key, style if here else base + Style(color=mark.color, bold=True)))
            segments.append(Segment(f" {word} ", style))
        used = sum(len(segment.text) for segment in segments)
        rest = width - used
        text = next((text for text in map(printable, self.right) if len(text) < rest), "")
        if rest > 0:
            head = base + tone_style(self, "head")
            segments += [Segment(" " * (rest - 1 - len(text)), head), Segment(f"{text} ", head)]
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        """Go to the place under the mouse."""
        at = 0
        for key, place, word in PLACES:
            at += len(key) + len(word) + 3
            if event.x < at:
                self.post_message(self.Chosen(place))
                return
