"""What all screens on the fleet have: the top line, a subject, a filter, and being shown anew on every change."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer, Input

from cockpit.model import Daemon
from cockpit.output import clock_time
from cockpit.widgets.line_table import LineTable
from cockpit.widgets.nav_bar import NavBar
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell

if TYPE_CHECKING:
    from cockpit.app import CockpitApp
    from cockpit.model import Model

__all__ = ("FleetScreen",)


class FleetScreen(Screen[None]):
    """A screen that shows a part of the model."""

    PLACE: ClassVar[str] = ""
    HELP: ClassVar[str] = ""

    CSS = """
    #filter { dock: bottom; display: none; height: 1; border: none; padding: 0 1; background: $boost; }
    #filter.-open { display: block; }
    """

    @property
    def help_text(self) -> str:
        """See :class:`~cockpit.widgets.helpable.Helpable`."""
        return self.HELP

    @property
    def cockpit(self) -> CockpitApp:
        """The application."""
        from cockpit.app import CockpitApp

        app = self.app
        assert isinstance(app, CockpitApp)
        return app

    @property
    def model(self) -> Model:
        """What is known now."""
        return self.cockpit.model

    @property
    def now(self) -> float:
        """Unix seconds, for ages."""
        return self.cockpit.clock()

    @property
    def agent(self) -> Daemon:
        """The agent of the provider whose view this is."""
        return self.model.daemon(self.cockpit.context_name, "agent")

    def compose(self) -> ComposeResult:
        """Top line, subject, the screen's own part, filter, keys."""
        yield NavBar()
        yield TextPanel(id="subject", classes="subject")
        yield from self.body()
        yield Input(placeholder="words, title:word, !word", id="filter", select_on_focus=False)
        yield Footer(show_command_palette=False, compact=True)

    def body(self) -> ComposeResult:
        """The screen's own part."""
        yield from ()

    def on_mount(self) -> None:
        """Set up what does not change; the model is shown when the screen comes to the top."""
        self.query_one("#filter", Input).cursor_blink = False
        self.query_one(NavBar).place = self.PLACE

    def on_screen_resume(self) -> None:
        """Show what is known by now."""
        self.show_model()

    # -- to be filled in

    def subject(self) -> list[list[Cell]]:
        """The lines under the top line."""
        return []

    def update_body(self) -> None:
        """Show the model in the screen's own part."""

    def context_changed(self) -> None:
        """Another provider was chosen."""

    def cursor_moved(self, table: LineTable, key: str) -> None:
        """The cursor of a table is on another row."""

    def record_under_cursor(self) -> str | None:
        """The record that 'delete' is about."""
        return None

    # -- done for all

    @property
    def is_showing(self) -> bool:
        """Whether its widgets are there: not before it is composed, not while it is being removed."""
        return self.is_mounted and self.app.is_running and self in self.app.screen_stack

    def show_model(self) -> None:
        """Show the model as it is now."""
        if not self.is_showing:
            return
        bar = self.query_one(NavBar)
        who, short, time = self.cockpit.context_name, "", clock_time(self.now)
        if self.cockpit.read_only or self.cockpit.session.read_only:
            who, short = f"{who} read-only", f"{who} r/o"
        bar.right = (f"{who} {time}Z", f"{who} {time}", who, short, self.cockpit.context_name)
        self.query_one("#subject", TextPanel).show(self.subject())
        self.update_body()

    @on(LineTable.Highlighted)
    def _cursor_moved(self, message: LineTable.Highlighted) -> None:
        if self.is_showing:
            self.cursor_moved(message.table, message.key)

    @on(NavBar.Chosen)
    def _go(self, message: NavBar.Chosen) -> None:
        self.cockpit.action_go(message.place)

    def _table(self) -> LineTable | None:
        focused = self.focused
        if isinstance(focused, LineTable):
            return focused
        tables = list(self.query(LineTable))
        return tables[0] if tables else None

    def open_filter(self) -> None:
        """Let words be typed that rows must contain."""
        table = self._table()
        if table is None:
            return
        table.focus()
        self._filtered = table
        field = self.query_one("#filter", Input)
        field.value = table.filter_text
        field.add_class("-open")
        field.focus()

    def close_filter(self) -> bool:
        """Remove the filter; ``False``: there was none."""
        field = self.query_one("#filter", Input)
        filtered = [table for table in self.query(LineTable) if table.filter_text]
        if not field.has_class("-open") and not filtered:
            return False
        field.remove_class("-open")
        for table in filtered:
            table.set_filter("")
        target = getattr(self, "_filtered", None) or self._table()
        if target is not None:
            target.focus()
        return True

    @on(Input.Changed, "#filter")
    def _filter(self, message: Input.Changed) -> None:
        table = getattr(self, "_filtered", None)
        if table is not None:
            table.set_filter(message.value)

    @on(Input.Submitted, "#filter")
    def _keep_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("-open")
        table = getattr(self, "_filtered", None)
        if table is not None:
            table.focus()
