"""Tones: what a piece of text says by its colour; the colours belong to the theme."""

from __future__ import annotations

from typing import Literal

from rich.style import Style
from textual.widget import Widget

__all__ = ("TONES", "TONE_CSS", "Cell", "Tone", "tone_of_state", "tone_style")

Tone = Literal["plain", "dim", "good", "wait", "bad", "mark", "head"]

#: Text and how it is meant.
Cell = tuple[str, Tone]

#: Component classes for widgets that draw lines themselves.
TONES: set[str] = {f"tone--{tone}" for tone in ("plain", "dim", "good", "wait", "bad", "mark", "head")} | {
    "tone--cursor",
    "tone--cursor-blurred",
}

#: To be put into the DEFAULT_CSS of such a widget, its name in place of WIDGET.
TONE_CSS = """
WIDGET > .tone--plain { color: $foreground; }
WIDGET > .tone--dim { color: $text-muted; }
WIDGET > .tone--good { color: $text-success; }
WIDGET > .tone--wait { color: $text-warning; }
WIDGET > .tone--bad { color: $text-error; text-style: bold; }
WIDGET > .tone--mark { color: $text-accent; text-style: bold; }
WIDGET > .tone--head { color: $text-primary; text-style: bold; background: $panel; }
WIDGET > .tone--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
WIDGET > .tone--cursor-blurred { background: $surface-lighten-2; }
"""

_STATES: dict[str, Tone] = {
    "OPERATIONAL": "good",
    "LEGACY": "wait",
    "NEEDED": "wait",
    "KNOWN": "wait",
    "INTRODUCED": "wait",
    "DEGRADED": "bad",
    "INTERRUPTED": "bad",
    "DOWN": "bad",
    "ready": "good",
    "loading": "wait",
    "starting": "wait",
    "expired": "bad",
    "error": "bad",
    "accepted": "good",
    "applied": "good",
    "active": "good",
    "removed": "dim",
    "superseded": "dim",
    "ignored": "dim",
    "stored": "dim",
    "pending": "wait",
    "pending-removal": "wait",
    "owed": "wait",
    "received": "wait",
    "rejected": "bad",
    "warning": "wait",
}


def tone_of_state(state: str) -> Tone:
    """The tone for a state word of a peer, daemon, zone, record, transaction or key."""
    return _STATES.get(state, "plain")


def tone_style(widget: Widget, tone: str) -> Style:
    """The style of a tone in the present theme."""
    return widget.get_component_rich_style(f"tone--{tone}")
