"""Synchronised data: every record with its state and who still owes a confirmation; or what the combiner holds."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from cockpit.commands.common import owing
from cockpit.output import age, clock_time, duration, short_record
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell, tone_of_state
from mpcore.control.models import Contribution, SdeRecord

__all__ = ("EditsScreen",)


class EditsScreen(FleetScreen):
    """The agent's synchronised data of a zone, or the combiner's contributions."""

    PLACE: ClassVar[str] = "edits"
    HELP: ClassVar[str] = """\
## Synchronised data

Every record that a provider contributes to the zone, as this provider's **agent** knows it. `v` shows what its
**combiner** holds instead: `applied` records are in the zone it publishes, `stored` ones wait for a role that
allows them.
"""
    CSS = (
        FleetScreen.CSS
        + """
    #detail-box { height: auto; max-height: 10; padding: 0 1; background: $surface; }
    #detail-box TextPanel { background: $surface; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "view", "Swap"),
        Binding("n", "next", "Next zone", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._combiner = False

    def body(self) -> ComposeResult:
        """Table and detail."""
        yield LineTable(
            (
                Column("ORIGIN"),
                Column("TYPE"),
                Column("STATE"),
                Column("AGE", spare=2),
                Column("OWED BY", grows=True, least=7),
                Column("KEY", spare=1),
                Column("RECORD", grows=True, least=28),
            ),
            id="edits",
            empty="nobody contributes anything to this zone",
            help_text=_EDITS_HELP,
        )
        with VerticalScroll(id="detail-box", can_focus=False):
            yield TextPanel(id="detail")

    def on_mount(self) -> None:
        """The table has the focus."""
        super().on_mount()
        self.query_one("#edits").focus()

    def action_view(self) -> None:
        """Look at the other daemon."""
        self._combiner = not self._combiner
        self.show_model()

    def action_next(self) -> None:
        """Show the next zone."""
        zones = self.model.zones()
        if self.cockpit.zone_name in zones:
            self.cockpit.zone_name = zones[(zones.index(self.cockpit.zone_name) + 1) % len(zones)]
            self.show_model()

    def subject(self) -> list[list[Cell]]:
        """Which zone, whose view, what is in the queue."""
        who = "combiner" if self._combiner else "agent"
        line: list[Cell] = [
            (self.cockpit.zone_name or "no zone", "mark"),
            (f"  at the {who} of {self.cockpit.context_name}", "plain"),
        ]
        edits = self.agent.edits.get(self.cockpit.zone_name or "")
        if edits is not None and not self._combiner:
            waiting = len(edits.outbound)
            line.append((f"  outbound queue: {waiting or 'empty'}", "wait" if waiting else "dim"))
        return [line]

    def _records(self) -> list[SdeRecord]:
        edits = self.agent.edits.get(self.cockpit.zone_name or "")
        return [] if edits is None else list(edits.records)

    def _held(self) -> list[Contribution]:
        combiner = self.model.daemon(self.cockpit.context_name, "combiner")
        held = combiner.contributions.get(self.cockpit.zone_name or "")
        return [] if held is None else list(held.records)

    def update_body(self) -> None:
        """Table and detail."""
        labels = self.model.labels()
        rows = self._combiner_rows(labels) if self._combiner else self._agent_rows(labels)
        self.query_one("#edits", LineTable).set_rows(rows)
        self._show_detail()

    def _agent_rows(self, labels: dict[str, str]) -> list[Row]:
        rows = []
        for record in self._records():
            owed = [labels.get(who, who.split(".")[0]) for who in owing(record.confirmations)]
            state = record.state.value
            key = "" if record.key_tag is None else f"{record.key_tag} {record.key_state or ''}".strip()
            rows.append(
                Row(
                    f"{record.originator} {record.record}",
                    (
                        (labels.get(record.originator, record.originator), "plain"),
                        (record.type, "plain"),
                        (state, tone_of_state(state)),
                        (age(record.updated_at, self.now), "dim"),
                        (", ".join(owed) or "-", "wait" if owed else "dim"),
                        (key or "-", "dim"),
                        (short_record(record.record), "plain"),
                    ),
                )
            )
        return rows

    def _combiner_rows(self, labels: dict[str, str]) -> list[Row]:
        return [
            Row(
                f"{record.originator} {record.record}",
                (
                    (labels.get(record.originator, record.originator), "plain"),
                    (record.type, "plain"),
                    ("applied", "good") if record.applied else ("stored", "dim"),
                    (age(record.received_at, self.now), "dim"),
                    (record.reason or "-", "dim"),
                    ("-", "dim"),
                    (short_record(record.record), "plain"),
                ),
            )
            for record in self._held()
        ]

    def cursor_moved(self, table: LineTable, key: str) -> None:
        """The detail follows the cursor."""
        self._show_detail()

    def _show_detail(self) -> None:
        key = self.query_one("#edits", LineTable).cursor_key
        lines: list[list[Cell]] = []
        for record in self._records() if not self._combiner else ():
            if key == f"{record.originator} {record.record}":
                lines = self._detail(record)
        for held in self._held() if self._combiner else ():
            if key == f"{held.originator} {held.record}":
                lines = [[(" ".join(held.record.split()), "plain")], [(held.reason or "", "wait")]]
        self.query_one("#detail", TextPanel).show(lines)

    def _detail(self, record: SdeRecord) -> list[list[Cell]]:
        lines: list[list[Cell]] = [[(short_record(record.record), "plain")]]
        if record.reason:
            lines.append([(record.reason, "bad" if record.state == "rejected" else "wait")])
        for each in record.confirmations:
            line: list[Cell] = [
                (f"  {each.recipient:<30} ", "plain"),
                (f"{each.status:<9}", tone_of_state(each.status)),
            ]
            line.append((f" {clock_time(each.at)}  {each.reason or ''}", "dim"))
            lines.append(line)
        edits = self.agent.edits.get(self.cockpit.zone_name or "")
        for message in edits.outbound if edits else ():
            if message.distribution_id == record.distribution_id:
                when = duration(message.next_attempt - self.now)
                words = f"  {message.type} to {message.recipient}: attempt {message.attempts + 1} in {when}"
                lines.append([(words + (f", last: {message.last_error}" if message.last_error else ""), "wait")])
        return lines

    def record_under_cursor(self) -> str | None:
        """The record under the cursor."""
        key = self.query_one("#edits", LineTable).cursor_key
        return key.partition(" ")[2] if key else None


_EDITS_HELP = """\
## Records and confirmations

- **pending**: told to everybody, not answered by all. **OWED BY** names who still owes an answer.
- **accepted**: every provider that may publish the record has it; the others have taken note.
- **ignored**: nobody who answered may publish it. **rejected**: somebody refused, the reason is below.
- **pending-removal**, **removed**: the same on the way out.

The lines below the table are the answers to the record under the cursor. Who owes an answer is asked again by itself.
"""
