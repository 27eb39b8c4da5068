"""The overview: every daemon, every group, and what needs a look."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.widgets import Label

from cockpit.model import Daemon, attention, owed_by
from cockpit.output import age, duration
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.tones import Cell, tone_of_state

__all__ = ("OverviewScreen",)


class OverviewScreen(FleetScreen):
    """The fleet."""

    PLACE: ClassVar[str] = "fleet"
    HELP: ClassVar[str] = (
        "The fleet: all daemons of all contexts, the provider groups, and a list of what needs a look."
    )

    def body(self) -> ComposeResult:
        """Three tables."""
        yield LineTable(
            (
                Column("DAEMON", grows=True, least=10),
                Column("STATE"),
                Column("UP", spare=2),
                Column("ZONES", spare=3),
                Column("PEERS"),
                Column("GROUPS", spare=4),
                Column("LEADER", grows=True, least=8),
                Column("PENDING", spare=1),
                Column("WARNINGS", spare=5),
            ),
            id="daemons",
            classes="-fitted",
            empty="no daemon is known",
            help_text=_DAEMONS_HELP,
        )
        yield LineTable(
            (
                Column("GROUP", least=8),
                Column("STATE"),
                Column("MEMBERS", grows=True, least=12),
                Column("LEADER", least=8, grows=True),
                Column("TERM", spare=2),
                Column("TIME LEFT", spare=1),
                Column("ZONES", grows=True, least=8, spare=3),
            ),
            id="groups",
            classes="-fitted",
            empty="no groups yet: no zone with HSYNC3 records is loaded",
            help_text=_GROUPS_HELP,
        )
        yield Label("What needs a look, and what is on its way", classes="heading", markup=False)
        yield LineTable(
            (Column("KIND"), Column("WHERE"), Column("SINCE", spare=1), Column("WHAT", grows=True, least=20)),
            id="attention",
            empty="nothing: all is well",
            help_text=_ATTENTION_HELP,
        )

    def on_mount(self) -> None:
        """The daemons have the focus."""
        super().on_mount()
        self.query_one("#daemons").focus()

    def subject(self) -> list[list[Cell]]:
        """How many daemons answer."""
        daemons = self.model.daemons.values()
        reached = sum(daemon.connected for daemon in daemons)
        zones = self.model.zones()
        shown = f"{len(zones)} zone{'' if len(zones) == 1 else 's'}" if len(zones) != 1 else f"zone {zones[0]}"
        return [
            [
                (f"{len(self.model.contexts)} providers  ", "plain"),
                (f"{reached}/{len(self.model.daemons)} daemons answer", "good" if reached == len(daemons) else "bad"),
                (f"  {shown}", "plain"),
            ]
        ]

    def update_body(self) -> None:
        """All three tables."""
        labels = self.model.labels()
        self.query_one("#daemons", LineTable).set_rows(
            [
                self._daemon(daemon, labels)
                for context in self.model.contexts
                for daemon in self.model.of_context(context)
            ]
        )
        self.query_one("#groups", LineTable).set_rows(self._groups(labels))
        found = attention(self.model)
        self.query_one("#attention", LineTable).set_rows(
            [
                Row(
                    f"{number} {each.source} {each.text}",
                    (
                        (each.severity, tone_of_state(each.severity)),
                        (each.source, "plain"),
                        (age(each.since, self.now), "dim"),
                        (each.text, "plain"),
                    ),
                )
                for number, each in enumerate(found)
            ]
        )

    def _daemon(self, daemon: Daemon, labels: dict[str, str]) -> Row:
        name = str(daemon.key)
        dash: Cell = ("-", "dim")
        status = daemon.status
        if not daemon.connected or status is None:
            state: Cell = ("DOWN", "bad") if daemon.problem else ("...", "dim")
            since = f"{age(daemon.since, self.now)} ago" if daemon.problem else "-"
            return Row(
                name,
                ((name, "plain"), state, (since, "dim"), dash, dash, dash, dash, dash, dash),
            )
        operational = sum(peer.state == "OPERATIONAL" for peer in daemon.peers.values())
        peers: Cell = (f"{operational}/{len(daemon.peers)}", "good" if operational == len(daemon.peers) else "wait")
        groups: Cell = dash
        leader: Cell = dash
        if daemon.key.role == "agent":
            healthy = sum(group.operational for group in daemon.groups.values())
            groups = (f"{healthy}/{len(daemon.groups)}", "good" if healthy == len(daemon.groups) else "wait")
            leaders = {group.election.leader for group in daemon.groups.values()}
            words = sorted(labels.get(each, each) if each else "(none)" for each in leaders)
            leader = (", ".join(words) or "-", "wait" if None in leaders else "mark")
        owed = sum(sum(owed_by(edits).values()) for edits in daemon.edits.values())
        pending: Cell = (str(owed), "wait" if owed else "dim") if daemon.key.role == "agent" else dash
        warnings = len(status.warnings)
        return Row(
            name,
            (
                (name, "plain"),
                ("ready", "good") if status.ready else ("starting", "wait"),
                (duration(self.now - status.started_at), "plain"),
                (str(status.zones), "plain"),
                peers,
                groups,
                leader,
                pending,
                (str(warnings), "wait" if warnings else "dim"),
            ),
        )

    def _groups(self, labels: dict[str, str]) -> list[Row]:
        rows: dict[str, Row] = {}
        agents = [self.agent, *(each for each in self.model.daemons.values() if each.key.role == "agent")]
        for agent in agents:
            for group in agent.groups.values():
                if group.hash in rows:
                    continue
                election = group.election
                left = None if election.leader_expires is None else election.leader_expires - self.now
                leader = labels.get(election.leader, election.leader) if election.leader else f"none: {election.phase}"
                rows[group.hash] = Row(
                    group.hash,
                    (
                        (group.hash[:8], "plain"),
                        ("operational", "good") if group.operational else ("not operational", "wait"),
                        (", ".join(labels.get(member, member) for member in group.members), "plain"),
                        (leader, "mark" if election.leader else "wait"),
                        (str(election.term), "plain"),
                        ("-" if left is None else duration(left), "plain"),
                        (", ".join(group.zones), "plain"),
                    ),
                )
        return list(rows.values())

    def cursor_moved(self, table: LineTable, key: str) -> None:
        """The provider whose daemon is under the cursor is the one whose view this is."""
        if table.id == "daemons":
            self.cockpit.context_name = key.rpartition(".")[0]
            self.show_model()

    @on(LineTable.Selected, "#daemons")
    def _open_daemon(self, message: LineTable.Selected) -> None:
        context, _, role = message.key.rpartition(".")
        self.cockpit.choose_context(context)
        self.cockpit.action_go({"agent": "peers", "combiner": "edits", "signer": "keys"}[role])

    @on(LineTable.Selected, "#groups")
    def _open_group(self, message: LineTable.Selected) -> None:
        self.cockpit.group_hash = message.key
        self.cockpit.action_go("group")

    @on(LineTable.Selected, "#attention")
    def _open_source(self, message: LineTable.Selected) -> None:
        source = message.key.split(" ")[1]
        self.cockpit.choose_context(source.rpartition(".")[0])
        self.cockpit.action_go("group" if "group" in message.key else "peers")

    def context_changed(self) -> None:
        """The cursor follows the provider."""
        self.query_one("#daemons", LineTable).move_cursor_to(f"{self.cockpit.context_name}.agent")


_DAEMONS_HELP = """\
## Daemons

One row for each daemon: an agent, a combiner and a signer for each provider.

- **STATE**: `ready`, `starting`, or `DOWN` with the time since when.
- **PEERS**: how many of its peers are OPERATIONAL. **GROUPS**: how many of its groups.
- **LEADER**: whom this agent holds for the leader. All agents of a group should agree.
- **PENDING**: confirmations that others still owe this agent.

`enter` opens the agent's peers, the combiner's contributions, the signer's keys.
"""
_GROUPS_HELP = """\
## Groups

Providers that serve the same zones form a group. `enter` shows its matrix and its election.
**TIME LEFT** is how long the leadership still holds without being renewed.
"""
_ATTENTION_HELP = """\
## What needs a look

First what is broken (`error`), then what somebody must look at (`warning`), then what is merely on its way
(`pending`), with who acts next. Pending things end by themselves; nothing has to be typed for them.
"""
