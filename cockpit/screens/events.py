"""The log: what has happened since the screens were opened, newest first."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from cockpit.output import clock_time
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.tones import Cell, Tone

__all__ = ("EventsScreen",)

_TONES: dict[str, Tone] = {"down": "bad", "up": "good", "transaction": "mark", "group": "mark", "gap": "wait"}


class EventsScreen(FleetScreen):
    """Changes of state of all daemons."""

    PLACE: ClassVar[str] = "events"
    HELP: ClassVar[str] = "Changes of state at all daemons, newest first."

    def body(self) -> ComposeResult:
        """One table."""
        yield LineTable(
            (Column("TIME"), Column("WHERE"), Column("KIND"), Column("WHAT", grows=True, least=20)),
            id="log",
            empty="nothing has happened yet",
            help_text=_HELP,
        )

    def on_mount(self) -> None:
        """The log has the focus."""
        super().on_mount()
        self.query_one("#log").focus()

    def subject(self) -> list[list[Cell]]:
        """How much there is."""
        return [[("what has happened  ", "mark"), (f"{self.model.counted} lines, times in UTC", "plain")]]

    def update_body(self) -> None:
        """Newest first."""
        self.query_one("#log", LineTable).set_rows(
            [
                Row(
                    str(line.number),
                    (
                        (clock_time(line.time), "dim"),
                        (line.source, "plain"),
                        (line.kind, _TONES.get(line.kind, "plain")),
                        (line.text, "plain"),
                    ),
                )
                for line in reversed(self.model.log)
            ]
        )


_HELP = """\
## Log

One line for each change of state, from the event streams of all daemons. `/` filters: `where:alpha kind:peer`,
`!zone`. The same lines come from `mpcockpit watch`; with `--json`, for machines.
"""
