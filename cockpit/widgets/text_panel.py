"""Lines of text with tones: details, elections, sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.widgets import Static

from cockpit.output import printable
from cockpit.widgets.tones import TONE_CSS, TONES, Cell, tone_style

__all__ = ("TextPanel", "bar")


class TextPanel(Static):
    """Lines made of cells; nothing in them is taken for markup."""

    DEFAULT_CSS = """
    TextPanel { height: auto; background: $background; }
    """ + TONE_CSS.replace("WIDGET", "TextPanel")

    COMPONENT_CLASSES: ClassVar[set[str]] = TONES

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._shown: tuple[tuple[Cell, ...], ...] | None = None
        self._theme = ""

    def show(self, lines: Sequence[Sequence[Cell]]) -> None:
        """Show lines of cells."""
        cleaned = tuple(tuple((printable(text), tone) for text, tone in line) for line in lines)
        if cleaned == self._shown and self._theme == self.app.theme:
            return
        self._shown, self._theme = cleaned, self.app.theme
        text = Text(overflow="fold", no_wrap=False)
        for number, line in enumerate(cleaned):
            if number:
                text.append("\n")
            for part, tone in line:
                style = tone_style(self, tone)
                text.append(part, Style(color=style.color, bold=style.bold))
        self.update(text)


def bar(part: float, width: int) -> str:
    """A bar of *width* cells, *part* (0 to 1) of it filled."""
    filled = round(max(0.0, min(1.0, part)) * width)
    return "#" * filled + "." * (width - filled)
