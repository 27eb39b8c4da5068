"""Transactions: changes made here, how far each has come, and who acts next."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from cockpit.commands.common import owing
from cockpit.commands.transactions import LEVELS
from cockpit.output import age, clock_time, short_record
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell, tone_of_state
from mpcore.control.models import Transaction

__all__ = ("ChangesScreen",)


class ChangesScreen(FleetScreen):
    """The transactions of one agent."""

    PLACE: ClassVar[str] = "changes"
    HELP: ClassVar[str] = "Every change made at this agent since it started, newest first."
    CSS = (
        FleetScreen.CSS
        + """
    #detail-box { height: auto; max-height: 12; padding: 0 1; background: $surface; }
    #detail-box TextPanel { background: $surface; }
    """
    )

    def body(self) -> ComposeResult:
        """Table and detail."""
        yield LineTable(
            (
                Column("AGE"),
                Column("CHANGE"),
                Column("STATE"),
                Column("REACHED"),
                Column("OWED BY", grows=True, least=7, spare=1),
                Column("RECORD", grows=True, least=30),
                Column("ID", spare=2),
            ),
            id="transactions",
            empty="no change was made at this agent; 'a' makes one",
            help_text=_HELP,
        )
        with VerticalScroll(id="detail-box", can_focus=False):
            yield TextPanel(id="detail")

    def on_mount(self) -> None:
        """The table has the focus."""
        super().on_mount()
        self.query_one("#transactions").focus()

    def subject(self) -> list[list[Cell]]:
        """Whose changes."""
        found = self.agent.transactions.values()
        pending = sum(each.state == "pending" for each in found)
        line: list[Cell] = [(f"changes made at {self.cockpit.context_name}  ", "mark")]
        line.append((f"{len(found)}, {pending} pending", "wait" if pending else "plain"))
        return [line]

    def update_body(self) -> None:
        """Newest first."""
        labels = self.model.labels()
        found = sorted(self.agent.transactions.values(), key=lambda each: -each.created_at)
        self.query_one("#transactions", LineTable).set_rows([self._row(each, labels) for each in found])
        self._show_detail()

    def _row(self, each: Transaction, labels: dict[str, str]) -> Row:
        owed = [labels.get(who, who.split(".")[0]) for who in owing(each.confirmations)]
        return Row(
            each.id,
            (
                (age(each.created_at, self.now), "dim"),
                (each.operation, "plain"),
                (each.state.value, tone_of_state(each.state.value)),
                (each.reached.value, "plain"),
                (", ".join(owed) or "-", "wait" if owed else "dim"),
                (short_record(each.record), "plain"),
                (each.id, "dim"),
            ),
        )

    def cursor_moved(self, table: LineTable, key: str) -> None:
        """The detail follows the cursor."""
        self._show_detail()

    def _show_detail(self) -> None:
        key = self.query_one("#transactions", LineTable).cursor_key
        each = self.agent.transactions.get(key or "")
        self.query_one("#detail", TextPanel).show([] if each is None else _detail(each))

    def record_under_cursor(self) -> str | None:
        """The record of the change."""
        each = self.agent.transactions.get(self.query_one("#transactions", LineTable).cursor_key or "")
        return None if each is None else each.record


def _detail(each: Transaction) -> list[list[Cell]]:
    lines: list[list[Cell]] = [[(short_record(each.record), "plain")]]
    steps: list[Cell] = []
    for level in LEVELS:
        at = each.reached_at.get(level)
        took = "" if at is None else f" {max(0.0, at - each.created_at):.2f}s"
        steps += [(f"{level}{took}", "dim" if at is None else "good"), ("  >  " if level != LEVELS[-1] else "", "dim")]
    lines.append(steps)
    if each.waiting_for:
        lines.append([(f"waiting for {each.waiting_for}", "wait")])
    if each.reason:
        lines.append([(each.reason, "bad")])
    for answer in each.confirmations:
        line: list[Cell] = [(f"  {answer.recipient:<30} ", "plain")]
        line.append((f"{answer.status:<9}", tone_of_state(answer.status)))
        line.append((f" {clock_time(answer.at)}  {answer.reason or ''}", "dim"))
        lines.append(line)
    return lines


_HELP = """\
## Transactions

A change goes through levels: **here** (durable at our agent), **combiner** (our combiner confirmed it), **everywhere**
(every provider gave its final answer), **dns** (every name server of the zone answers with it; looked at when somebody
waits for it). Below the table: the times, what it waits for, and each answer.

There is no undo key: the opposite change is `d` or `a` with the same record.
"""
