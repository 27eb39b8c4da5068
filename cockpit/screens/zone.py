"""A zone: its roles, its serials at every daemon, and its served records with where each comes from."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from cockpit.contexts import RoleName
from cockpit.origins import with_contributors
from cockpit.output import short_record
from cockpit.screens.base import FleetScreen
from cockpit.widgets.line_table import Column, LineTable, Row
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell, Tone
from mpcore.control.models import Zone, ZoneRecords
from mpcore.errors import MpError

__all__ = ("ZoneScreen",)

_LIMIT = 5000


class ZoneScreen(FleetScreen):
    """One zone at one daemon."""

    PLACE: ClassVar[str] = "zone"
    HELP: ClassVar[str] = """\
## A zone

Above: the **roles** that HSYNC3 and HSYNCPARAM give the providers, and the **serial** at each daemon. Data flows
from the
owner's primary to the combiner, to the signer, to the agent and the public; serials differ because each keeps its own.

`v` switches between what the **signer** serves and what the **combiner** hands to it. `n` shows the next zone.
"""
    CSS = FleetScreen.CSS + "\n#roles { padding: 0 1; max-height: 12; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "view", "Swap"),
        Binding("n", "next", "Next"),
        Binding("r", "reload", "Reload", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._role: RoleName = "signer"
        self._served: ZoneRecords | None = None
        self._problem: str | None = None
        self._asked: tuple[object, ...] | None = None

    def body(self) -> ComposeResult:
        """Roles and records."""
        yield TextPanel(id="roles")
        yield LineTable(
            (Column("ORIGIN"), Column("TYPE", spare=1), Column("RECORD", grows=True, least=20)),
            id="records",
            empty="no records",
            help_text=_RECORDS_HELP,
        )

    def on_mount(self) -> None:
        """The records have the focus."""
        super().on_mount()
        self.query_one("#records").focus()

    def action_view(self) -> None:
        """Look at the other daemon."""
        self._role = "combiner" if self._role == "signer" else "signer"
        self._ask(force=True)

    def action_next(self) -> None:
        """Show the next zone."""
        zones = self.model.zones()
        if zones:
            present = zones.index(self.cockpit.zone_name) if self.cockpit.zone_name in zones else -1
            self.cockpit.zone_name = zones[(present + 1) % len(zones)]
            self.show_model()

    def action_reload(self) -> None:
        """Read the records again."""
        self._ask(force=True)

    def context_changed(self) -> None:
        """The other provider's records."""
        self._ask(force=True)

    def _zone(self, role: RoleName, context: str | None = None) -> Zone | None:
        daemon = self.model.daemon(context or self.cockpit.context_name, role)
        return daemon.zones.get(self.cockpit.zone_name or "")

    def subject(self) -> list[list[Cell]]:
        """Which zone, at which daemon."""
        name = self.cockpit.zone_name
        if name is None:
            return [[("there is no zone yet", "dim")]]
        line: list[Cell] = [
            (name, "mark"),
            (f"  as the {self._role} of {self.cockpit.context_name} serves it", "plain"),
        ]
        if self._served is not None:
            count = f"{len(self._served.records)}{'+' if self._served.truncated else ''}"
            line.append((f"  serial {self._served.serial}, {count} records", "plain"))
        return [line]

    def update_body(self) -> None:
        """Roles, serials; records when they have changed."""
        self.query_one("#roles", TextPanel).show(self._roles())
        self._ask()

    def _roles(self) -> list[list[Cell]]:
        zone = self._zone("agent") or self._zone("combiner") or self._zone("signer")
        if zone is None:
            return []
        lines: list[list[Cell]] = [
            [
                (f"NS by {zone.nsmgmt}, parent by {zone.parentsync}", "plain"),
                (f"  options: {' '.join(zone.options) or 'none'}", "plain"),
            ]
        ]
        for label, identity in zone.providers.items():
            roles = [
                word
                for word, labels in (("signs", zone.signers), ("serves", zone.servers), ("audits", zone.auditors))
                if label in labels
            ]
            line: list[Cell] = [(f"{label:<9}", "mark" if label == zone.label else "plain")]
            line.append((f"{identity:<26} {', '.join(roles) or 'no role':<14}", "plain"))
            if label in self.model.contexts:
                for role, short in (("combiner", "comb"), ("signer", "sign"), ("agent", "agent")):
                    seen = self._zone(role, label)  # type: ignore[arg-type]
                    tone: Tone = "dim" if seen is None else "plain" if seen.state == "ready" else "bad"
                    words = "-" if seen is None else str(seen.serial) if seen.state == "ready" else seen.state
                    line.append((f" {short} {words}", tone))
            lines.append(line)
        error = zone.error
        if error:
            lines.append([(error, "bad")])
        return lines

    # -- records are not in the feed: they are read when a serial changes

    def _ask(self, *, force: bool = False) -> None:
        name, zone = self.cockpit.zone_name, self._zone(self._role)
        if name is None:
            return
        wanted = (self.cockpit.context_name, self._role, name, zone.serial if zone else None)
        if force or wanted != self._asked:
            self._asked = wanted
            self._read(self.cockpit.context_name, self._role, name)

    @work(exclusive=True, group="records")
    async def _read(self, context: str, role: RoleName, name: str) -> None:
        try:
            self._served = await self.cockpit.backend.zone_records(context, role, name, _LIMIT)
            self._problem = None
        except (MpError, TimeoutError) as error:
            self._served, self._problem = None, str(error)
        self._show_records()

    def _show_records(self) -> None:
        labels = self.model.labels()
        served = self._served
        combiner = self.model.daemon(self.cockpit.context_name, "combiner")
        held = combiner.contributions.get(self.cockpit.zone_name or "")
        if served is not None and held is not None:
            served = with_contributors(served, held.records)
        table = self.query_one("#records", LineTable)
        table.empty = self._problem or "no records"
        rows = []
        for number, record in enumerate(served.records if served else ()):
            origin = labels.get(record.origin, record.origin)
            tone: Tone = {"owner": "plain", "signer": "dim"}.get(record.origin, "mark")  # type: ignore[assignment]
            text = short_record(record.record)
            rows.append(Row(f"{number} {record.record}", ((origin, tone), (record.type, "plain"), (text, tone))))
        table.set_rows(rows)
        table.refresh()
        self.query_one("#subject", TextPanel).show(self.subject())

    def record_under_cursor(self) -> str | None:
        """The record, if an agent contributed it."""
        key = self.query_one("#records", LineTable).cursor_key
        return key.partition(" ")[2] if key else None


_RECORDS_HELP = """\
## Records with their origin

- `owner`: from the zone owner's primary.
- a provider's name: **contributed** by that provider's agent, merged in by the combiner.
- `signer`: made by the signer: keys, signatures, proofs.

Long keys and signatures are shortened. `/` filters: `type:NS`, `origin:alpha`, `!RRSIG`.
`a` contributes a record, `d` withdraws the one under the cursor.
"""
