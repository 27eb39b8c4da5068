"""Peers of an agent: state, last word, what each waits for."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from cockpit.commands.peers import round_trip
from cockpit.output import age
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell, tone_of_state
from mpcore.control.models import Peer

__all__ = ("PeersScreen",)


class PeersScreen(FleetScreen):
    """The peers of one agent."""

    PLACE: ClassVar[str] = "peers"
    HELP: ClassVar[str] = "Whom this provider's agent talks to: the other agents, and its own combiner and signer."
    CSS = (
        FleetScreen.CSS
        + """
    #detail-box { height: auto; max-height: 9; padding: 0 1; background: $surface; }
    #detail-box TextPanel { background: $surface; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("i", "ping", "Ping")]

    def body(self) -> ComposeResult:
        """Table and detail."""
        yield LineTable(
            (
                Column("IDENTITY", grows=True, least=18),
                Column("KIND", spare=3),
                Column("STATE"),
                Column("SINCE"),
                Column("HEARD"),
                Column("RTT", spare=1),
                Column("ADDRESS", spare=2),
            ),
            id="peers",
            empty="no peers",
            help_text=_HELP,
        )
        with VerticalScroll(id="detail-box", can_focus=False):
            yield TextPanel(id="detail")

    def on_mount(self) -> None:
        """The table has the focus."""
        super().on_mount()
        self.query_one("#peers").focus()

    def subject(self) -> list[list[Cell]]:
        """Whose peers."""
        peers = self.agent.peers.values()
        operational = sum(peer.state == "OPERATIONAL" for peer in peers)
        line: list[Cell] = [(f"peers of the agent of {self.cockpit.context_name}  ", "mark")]
        line.append((f"{operational}/{len(peers)} operational", "good" if operational == len(peers) else "wait"))
        if not self.agent.connected:
            line.append((f"  DOWN {age(self.agent.since, self.now)}: {self.agent.problem or ''}", "bad"))
        return [line]

    def update_body(self) -> None:
        """Table and detail."""
        self.query_one("#peers", LineTable).set_rows([self._row(peer) for peer in self.agent.peers.values()])
        self._show_detail()

    def _row(self, peer: Peer) -> Row:
        return Row(
            peer.identity,
            (
                (peer.identity, "plain"),
                (peer.kind, "dim"),
                (peer.state, tone_of_state(peer.state)),
                (age(peer.since, self.now), "plain"),
                (age(peer.last_heard, self.now), "plain"),
                (round_trip(peer.round_trip), "plain"),
                (peer.address or "-", "dim"),
            ),
        )

    def cursor_moved(self, table: LineTable, key: str) -> None:
        """The detail follows the cursor."""
        self._show_detail()

    @on(LineTable.Selected)
    def _selected(self) -> None:
        self.action_ping()

    def action_ping(self) -> None:
        """Ping the peer under the cursor."""
        key = self.query_one("#peers", LineTable).cursor_key
        if key is not None:
            self.cockpit.ping(key)

    def _show_detail(self) -> None:
        peer = self.agent.peers.get(self.query_one("#peers", LineTable).cursor_key or "")
        lines: list[list[Cell]] = []
        if peer is not None:
            counts = ", ".join(f"{name} {each.sent}/{each.received}" for name, each in sorted(peer.counters.items()))
            lines = [
                [(peer.identity, "mark"), (f"  {peer.address or 'address unknown'}  {peer.kind}", "plain")],
                [("sent/received: ", "dim"), (counts or "nothing", "plain")],
                [("zones: ", "dim"), (", ".join(peer.zones) or "-", "plain")],
            ]
            if peer.beat_interval is not None:
                lines[0].append((f"  beats every {peer.beat_interval:g}s", "dim"))
            if peer.waiting_for:
                lines.append([("waiting for: ", "dim"), (peer.waiting_for, "wait")])
            if peer.last_error:
                lines.append([("last error: ", "dim"), (peer.last_error, "bad")])
        self.query_one("#detail", TextPanel).show(lines)


_HELP = """\
## Peers

- **STATE**: NEEDED (not found yet), KNOWN (found, hello not accepted), INTRODUCED (hello accepted), OPERATIONAL
(beats both
  ways), DEGRADED (beats late), INTERRUPTED (beats missing).
- **SINCE**: how long in this state. **HEARD**: since its last message. **RTT**: round trip of the last answered
message.

Below: messages sent and received by type, and **who acts next** when it is not operational. `i` or `enter` pings.
"""
