"""The dialog for a change: type the record, see the plan, confirm as the danger asks for."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Footer, Input, Label

from cockpit.output import short_record
from cockpit.widgets.text_panel import TextPanel
from cockpit.widgets.tones import Cell, Tone
from mpcore.control.models import ChangePlan, ChangeRequest, Transaction
from mpcore.errors import MpError

__all__ = ("ChangeDialog",)

_DANGER: dict[str, Tone] = {"mild": "good", "moderate": "wait", "severe": "bad"}


class ChangeDialog(ModalScreen[Transaction | None]):
    """Add or delete a record; the answer is the transaction, ``None`` when nothing was done.

    :param operation: ``add`` or ``delete``.
    :param context: whose agent makes the change.
    :param zone: the zone.
    :param record: to begin with.
    :param identity: of that agent.
    """

    help_text = """\
## A change

Type a record, `enter` shows the **plan**: who is told, who publishes it, what we would then contribute in all, and the
command that does the same at a shell. Nothing is sent before it is confirmed: with a button, and for something
dangerous
by typing the name of the zone. `esc` leaves without a change.
"""

    CSS = """
    ChangeDialog { align: center middle; }
    #change { width: 78; max-width: 100%; height: auto; max-height: 100%; background: $surface; border: round $primary;
              padding: 0 1; }
    #change.-severe { border: round $error; }
    #change TextPanel { background: $surface; }
    #change Input { margin: 0; border: tall $border-blurred; height: 3; }
    #buttons { height: auto; align-horizontal: right; }
    #buttons Button { margin-left: 2; min-width: 12; }
    #name { display: none; }
    #name.-asked { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel", key_display="esc")]

    def __init__(self, operation: str, context: str, zone: str, record: str | None, identity: str | None) -> None:
        super().__init__()
        self._operation = cast("Literal['add', 'delete']", operation)
        self._provider, self._zone, self._identity = context, zone, identity
        self._record = " ".join(record.split()) if record else f"{zone} 3600 IN NS "
        self._plan: ChangePlan | None = None

    def compose(self) -> ComposeResult:
        """Record, plan, name of the zone, buttons."""
        verb = "Add a record to" if self._operation == "add" else "Delete a record from"
        with VerticalScroll(id="change", can_focus=False):
            yield Label(f"{verb} {self._zone} as {self._provider}", markup=False)
            record = Input(self._record, id="record", select_on_focus=False)
            record.cursor_blink = False
            yield record
            yield TextPanel(id="plan")
            name = Input("", placeholder=f"type {self._zone} to confirm", id="name")
            name.cursor_blink = False
            yield name
            with Horizontal(id="buttons"):
                yield Button("Plan", id="show", variant="primary", compact=True)
                yield Button("Apply", id="apply", variant="success", disabled=True, compact=True)
                yield Button("Cancel", id="cancel", compact=True)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """The record has the focus."""
        field = self.query_one("#record", Input)
        field.focus()
        field.cursor_position = len(field.value)
        self._say([[("enter shows what this would do; nothing is sent yet", "dim")]])

    def _say(self, lines: list[list[Cell]]) -> None:
        self.query_one("#plan", TextPanel).show(lines)

    @on(Input.Changed, "#record")
    def _edited(self, message: Input.Changed) -> None:
        """A plan is for what was typed, no longer for this."""
        if self._plan is not None and message.value != self._record:
            self._forget_plan()
            self._say([[("changed; enter shows the plan anew", "dim")]])

    def _forget_plan(self) -> None:
        self._plan = None
        self.query_one("#apply", Button).disabled = True
        self.query_one("#name", Input).remove_class("-asked")
        self.query_one("#change").remove_class("-severe")

    @on(Input.Submitted, "#record")
    @on(Button.Pressed, "#show")
    def _ask_plan(self) -> None:
        self._record = self.query_one("#record", Input).value
        self._make_plan(self._record)

    @work(exclusive=True, group="plan")
    async def _make_plan(self, record: str) -> None:
        from cockpit.app import CockpitApp

        app = cast(CockpitApp, self.app)
        self._forget_plan()
        try:
            request = ChangeRequest(operation=self._operation, record=record, dry_run=True)
            plan = await app.backend.plan(self._provider, self._zone, request)
        except (MpError, TimeoutError) as error:
            self._say([[("refused: ", "bad"), (str(error), "plain")]])
            return
        self._say(self._plan_lines(plan, app.model.labels()))
        if not plan.effective:
            return
        self._plan = plan
        apply = self.query_one("#apply", Button)
        if plan.danger == "severe":
            self.query_one("#change").add_class("-severe")
            name = self.query_one("#name", Input)
            name.value = ""
            name.add_class("-asked")
            name.focus()
        else:
            apply.disabled = False
            (apply if plan.danger == "mild" else self.query_one("#cancel", Button)).focus()

    def _plan_lines(self, plan: ChangePlan, labels: dict[str, str]) -> list[list[Cell]]:
        lines: list[list[Cell]] = [[("danger     ", "dim"), (plan.danger, _DANGER[plan.danger])]]
        if not plan.effective:
            lines.append([("effect     ", "dim"), ("none: it is so already, nothing would be sent", "wait")])
        told = ", ".join(labels.get(each, each.rstrip(".")) for each in plan.recipients)
        by = ", ".join(labels.get(each, each.rstrip(".")) for each in plan.appliers)
        lines += [
            [("told       ", "dim"), (told or "nobody", "plain")],
            [("published  ", "dim"), (f"by {by}" if by else "by nobody", "plain")],
        ]
        texts = [short_record(text) for text in plan.resulting] or ["nothing of this type"]
        lines += [
            [("our set    " if not number else "           ", "dim"), (text, "plain")]
            for number, text in enumerate(texts)
        ]
        lines += [[("warning    ", "dim"), (text, "wait")] for text in plan.warnings]
        lines.append([("command    ", "dim"), (plan.command, "dim")])
        return lines

    @on(Input.Changed, "#name")
    def _named(self, message: Input.Changed) -> None:
        right = message.value.strip().rstrip(".").lower() == self._zone.rstrip(".")
        self.query_one("#apply", Button).disabled = not (right and self._plan is not None)

    @on(Input.Submitted, "#name")
    def _named_and_done(self) -> None:
        if not self.query_one("#apply", Button).disabled:
            self._apply_plan()

    @on(Button.Pressed, "#apply")
    def _apply_plan(self) -> None:
        if self._plan is not None:
            self.query_one("#apply", Button).disabled = True
            self._send(ChangeRequest(operation=self._operation, record=self._plan.record))

    @work(exclusive=True, group="change")
    async def _send(self, request: ChangeRequest) -> None:
        from cockpit.app import CockpitApp

        app = cast(CockpitApp, self.app)
        try:
            transaction = await app.backend.change(self._provider, self._zone, request)
        except (MpError, TimeoutError) as error:
            self._say([[("refused: ", "bad"), (str(error), "plain")]])
            return
        self.dismiss(transaction)

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Leave without a change."""
        self.dismiss(None)
