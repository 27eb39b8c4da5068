"""A group: the live matrix, the election, and what is wrong, in words."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Label

from cockpit.commands.common import common_suffix, short_name
from cockpit.output import clock_time, duration
from cockpit.screens.base import FleetScreen
from cockpit.widgets.matrix import Matrix
from cockpit.widgets.text_panel import TextPanel, bar
from cockpit.widgets.tones import Cell
from mpcore.control.models import Election, Group

__all__ = ("GroupScreen",)

_LEADER_TTL = 3600.0


class GroupScreen(FleetScreen):
    """One group, as one provider sees it."""

    PLACE: ClassVar[str] = "group"
    HELP: ClassVar[str] = """\
## A group

The matrix, and below it the leader election.

An election starts when every agent of the group reports every other as OPERATIONAL. Each voter draws a number and tells
it (**voting**), then each tells who won by the numbers it saw (**confirming**); when all agree, the winner leads
for the
time shown. When they do not, all wait a random time (**backoff**) and try again with the next term.

`[` and `]` look at the same group from another provider, `n` at the next group.
"""

    CSS = (
        FleetScreen.CSS
        + """
    #lower { layout: vertical; height: 1fr; }
    #lower > VerticalScroll { height: auto; max-height: 100%; }
    #election-box { padding: 0 1; }
    #problems-box { padding: 0 1; height: 1fr; }
    GroupScreen.-wide #lower { layout: horizontal; }
    GroupScreen.-wide #lower > VerticalScroll { width: 1fr; height: 1fr; }
    """
    )

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [Binding("n", "next", "Next")]

    def body(self) -> ComposeResult:
        """Matrix, cell, election, problems."""
        yield Matrix(id="matrix")
        yield TextPanel(id="cell", classes="subject")
        with Container(id="lower"):
            with VerticalScroll(id="election-box", can_focus=False):
                yield Label("Election", classes="heading", markup=False)
                yield TextPanel(id="election")
            with VerticalScroll(id="problems-box", can_focus=False):
                yield Label("In words", classes="heading", markup=False)
                yield TextPanel(id="problems")

    def on_mount(self) -> None:
        """The matrix has the focus."""
        super().on_mount()
        self.query_one("#matrix").focus()

    @property
    def group(self) -> Group | None:
        """The group shown."""
        return self.agent.groups.get(self.cockpit.group_hash or "")

    def action_next(self) -> None:
        """Show the next group."""
        groups = list(self.agent.groups)
        if groups:
            present = groups.index(self.cockpit.group_hash) if self.cockpit.group_hash in groups else -1
            self.cockpit.group_hash = groups[(present + 1) % len(groups)]
            self.show_model()

    def subject(self) -> list[list[Cell]]:
        """Which group, whose view, operational or not."""
        group = self.group
        if group is None:
            return [[(f"{self.cockpit.context_name} knows no group", "dim")]]
        state: Cell = ("operational", "good") if group.operational else ("not operational", "wait")
        line: list[Cell] = [(f"group {group.hash[:8]} ", "mark"), state]
        line.append((f"  as {self.cockpit.context_name} sees it  {', '.join(group.zones)}", "plain"))
        if not self.agent.connected:
            line.append(("  agent DOWN", "bad"))
        return [line]

    def _names(self, group: Group) -> dict[str, str]:
        labels = self.model.labels()
        suffix = common_suffix(group.members)
        return {member: labels.get(member) or short_name(member, suffix) for member in group.members}

    def update_body(self) -> None:
        """All of it."""
        group = self.group
        matrix = self.query_one(Matrix)
        if group is None:
            matrix.show((), (), {}, self.now)
            for name in ("#cell", "#election", "#problems"):
                self.query_one(name, TextPanel).show([])
            return
        names = self._names(group)
        matrix.show(group.members, group.rows, names, self.now)
        self._show_cell(group, names)
        self.query_one("#election", TextPanel).show(self._election(group, names))
        problems: list[list[Cell]] = [[(f"- {text}", "wait")] for text in group.problems]
        healthy: list[Cell] = [("- every agent hears every other", "good")]
        silent: list[Cell] = [("- no reports yet", "dim")]
        self.query_one("#problems", TextPanel).show(problems or [healthy if group.operational else silent])

    @on(Matrix.Moved)
    def _moved(self) -> None:
        if self.is_showing and self.group is not None:
            self._show_cell(self.group, self._names(self.group))

    def _show_cell(self, group: Group, names: dict[str, str]) -> None:
        cursor = self.query_one(Matrix).cursor
        line: list[Cell] = []
        if cursor is not None:
            reporter, peer = cursor
            row = next((row for row in group.rows if row.reporter == reporter), None)
            at = clock_time(row.reported_at) if row else "-"
            if reporter == peer:
                line = [(f"{names[reporter]} is {reporter}; its report is of {at}", "dim")]
            else:
                said = row.states.get(peer, "nothing yet") if row else "nothing yet"
                back = next((each for each in group.rows if each.reporter == peer), None)
                other = back.states.get(reporter, "nothing yet") if back else "nothing yet"
                line = [(f"{names[reporter]} says of {names[peer]}: {said} ({at}); {names[peer]} says: {other}", "dim")]
        self.query_one("#cell", TextPanel).show([line])

    def _election(self, group: Group, names: dict[str, str]) -> list[list[Cell]]:
        election = group.election
        phase: list[Cell] = [("phase   ", "dim"), (election.phase, "plain" if election.phase == "idle" else "wait")]
        if election.deadline is not None:
            what = "next try" if election.phase in ("backoff", "idle") else "ends"
            phase.append((f"  {what} in {max(0.0, election.deadline - self.now):.0f}s", "wait"))
        lines: list[list[Cell]] = [phase, [("term    ", "dim"), (str(election.term), "plain")]]
        if election.leader is not None:
            lines.append([("leader  ", "dim"), (names.get(election.leader, election.leader), "mark")])
            if election.leader_expires is not None:
                left = max(0.0, election.leader_expires - self.now)
                part = left / max(_LEADER_TTL, left)
                lines.append([("left    ", "dim"), (f"{duration(left)} ", "plain"), (bar(part, 20), "good")])
        else:
            lines.append([("leader  ", "dim"), (f"none: {election.reason or 'no election was held'}", "wait")])
        lines += _votes(election, group, names)
        return lines


def _votes(election: Election, group: Group, names: dict[str, str]) -> list[list[Cell]]:
    if not election.votes and not election.confirms:
        return []
    highest = max(election.votes.values(), default=None)
    lines: list[list[Cell]] = [[("votes   ", "dim"), ("the highest number wins", "dim")]]
    for voter in group.voters:
        vote = election.votes.get(voter)
        winner = election.confirms.get(voter)
        words = "no vote yet" if vote is None else str(vote)
        tone: Cell = (f"{names.get(voter, voter):<12}", "plain")
        lines.append(
            [
                ("        ", "dim"),
                tone,
                (f"{words:<12}", "dim" if vote is None else "good" if vote == highest else "plain"),
                ("" if winner is None else f" says {names.get(winner, winner)} won", "plain"),
            ]
        )
    return lines
