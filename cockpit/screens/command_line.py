"""Arguments for a command from the palette, and what a command said."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, Static

from cockpit.commands import Command

__all__ = ("CommandLineDialog", "ResultScreen")


class CommandLineDialog(ModalScreen[str | None]):
    """One line to complete; the answer is the line, ``None`` when it was given up."""

    CSS = """
    CommandLineDialog { align: center middle; }
    #dialog { width: 76; max-width: 100%; height: auto; background: $surface; border: round $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel", key_display="esc")]

    def __init__(self, command: Command) -> None:
        super().__init__()
        self._command = command

    def compose(self) -> ComposeResult:
        """Usage, the line, the parameters."""
        with Vertical(id="dialog"):
            yield Label(f"{self._command.usage}: {self._command.summary}", markup=False)
            line = Input(f"{self._command.name} ", id="line", select_on_focus=False)
            line.cursor_blink = False
            yield line
            for parameter in self._command.parameters:
                name = parameter.name.upper() if parameter.positional else f"--{parameter.name.replace('_', '-')}"
                yield Label(f"{name:<12} {parameter.help}", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """The line has the focus, the cursor is at its end."""
        line = self.query_one("#line", Input)
        line.focus()
        line.cursor_position = len(line.value)

    @on(Input.Submitted)
    def _done(self, message: Input.Submitted) -> None:
        self.dismiss(message.value.strip() or None)


class ResultScreen(ModalScreen[None]):
    """What a command said."""

    CSS = """
    ResultScreen { align: center middle; }
    #result { width: 100%; height: auto; max-height: 100%; background: $surface; border: round $primary; padding: 0 1; }
    #result > .title { text-style: bold; color: $text-primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Close", key_display="esc")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        """The command and its output."""
        with VerticalScroll(id="result"):
            yield Static(self._title, classes="title", markup=False)
            yield Static(self._text.rstrip("\n"), markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Arrow keys scroll it."""
        self.query_one("#result").focus()
