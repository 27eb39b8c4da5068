"""What has something to say about itself when help is asked for."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ("Helpable",)


@runtime_checkable
class Helpable(Protocol):
    """A widget or screen with help: shown when it, or something inside it, has the focus."""

    @property
    def help_text(self) -> str:
        """What it shows and how to read it, in Markdown."""
        ...
