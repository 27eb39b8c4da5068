"""DNSSEC keys at a signer: its own and the other providers'."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from cockpit.commands.keys import algorithm_name, key_role
from cockpit.output import short_record
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell, tone_of_state

__all__ = ("KeysScreen",)


class KeysScreen(FleetScreen):
    """The keys of one signer."""

    PLACE: ClassVar[str] = "keys"
    HELP: ClassVar[str] = "The DNSKEY set of each zone as this provider's signer publishes it."
    CSS = (
        FleetScreen.CSS
        + """
    #detail-box { height: auto; max-height: 6; padding: 0 1; background: $surface; }
    #detail-box TextPanel { background: $surface; }
    """
    )

    def body(self) -> ComposeResult:
        """Table and the whole record."""
        yield LineTable(
            (
                Column("ZONE", grows=True, least=8),
                Column("TAG"),
                Column("ROLE"),
                Column("STATE"),
                Column("WHOSE"),
                Column("ALGORITHM", spare=1),
                Column("RECORD", grows=True, least=12, spare=2),
            ),
            id="keys",
            empty="no keys",
            help_text=_HELP,
        )
        with VerticalScroll(id="detail-box", can_focus=False):
            yield TextPanel(id="detail")

    def on_mount(self) -> None:
        """The table has the focus."""
        super().on_mount()
        self.query_one("#keys").focus()

    def subject(self) -> list[list[Cell]]:
        """Whose keys."""
        return [[(f"keys at the signer of {self.cockpit.context_name}", "mark")]]

    def update_body(self) -> None:
        """Ours first."""
        signer = self.model.daemon(self.cockpit.context_name, "signer")
        owners = self._owners()
        rows = [
            Row(
                f"{key.zone} {key.record}",
                (
                    (key.zone, "plain"),
                    (str(key.key_tag), "plain"),
                    (key_role(key.flags), "mark" if key.flags & 1 else "plain"),
                    (key.state, tone_of_state(key.state)),
                    (owners.get(" ".join(key.record.split()), "another's"), "plain")
                    if key.foreign
                    else ("ours", "good"),
                    (algorithm_name(key.algorithm), "dim"),
                    (short_record(key.record), "dim"),
                ),
            )
            for keys in signer.keys.values()
            for key in sorted(keys, key=lambda key: (key.foreign, -key.flags, key.key_tag))
        ]
        self.query_one("#keys", LineTable).set_rows(rows)
        self._show_detail()

    def _owners(self) -> dict[str, str]:
        """DNSKEY record to the provider it belongs to, as the agent knows it."""
        labels = self.model.labels()
        return {
            " ".join(record.record.split()): labels.get(record.originator, record.originator)
            for edits in self.agent.edits.values()
            for record in edits.records
            if record.type == "DNSKEY"
        }

    def cursor_moved(self, table: LineTable, key: str) -> None:
        """The detail follows the cursor."""
        self._show_detail()

    def _show_detail(self) -> None:
        key = self.query_one("#keys", LineTable).cursor_key
        self.query_one("#detail", TextPanel).show([] if key is None else [[(" ".join(key.split()[1:]), "plain")]])


_HELP = """\
## Keys

All signing providers publish the same DNSKEY set: their own keys and, as **foreign**, those of the others
(RFC 8901, model 2). A key is told to everybody (**mpdist**) and only used once all have confirmed it.

- **KSK** signs the DNSKEY set and is what the parent's DS points to; **ZSK** signs everything else.
"""
