"""The screens' application: one model, fed by all daemons, shown by whatever screen is on top.

Entries of the feed are reduced as they come and shown at most ten times a second; ages tick once a second.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen

from cockpit.backend import Backend, LiveBackend, ReplayBackend
from cockpit.commands import Command, all_commands, find_command
from cockpit.commands.base import Stream, Values
from cockpit.feed import follow_all
from cockpit.model import DaemonKey, Model, reduce
from cockpit.output import Result, render
from cockpit.recording import Entry
from cockpit.screens.base import FleetScreen
from cockpit.screens.change import ChangeDialog
from cockpit.screens.changes import ChangesScreen
from cockpit.screens.command_line import CommandLineDialog, ResultScreen
from cockpit.screens.edits import EditsScreen
from cockpit.screens.events import EventsScreen
from cockpit.screens.fleet import OverviewScreen
from cockpit.screens.group import GroupScreen
from cockpit.screens.help import GuideScreen, HelpScreen
from cockpit.screens.keys import KeysScreen
from cockpit.screens.peers import PeersScreen
from cockpit.screens.zone import ZoneScreen
from cockpit.session import Session
from mpcore.control.models import Transaction
from mpcore.errors import MpError

if TYPE_CHECKING:
    from cockpit.lab import LabProcess

__all__ = ("CockpitApp", "daemons_of", "run_app")

_SHOW_EVERY = 0.1
_TICK = 1.0
_RESULT_SIZE = 200_000  # characters


class CommandProvider(Provider):
    """The palette's view of the command registry."""

    def _commands(self) -> Iterable[tuple[Command, str]]:
        for command in all_commands():
            if command.run is not None or command.ends:
                yield command, command.usage

    def _act(self, command: Command) -> Callable[[], None]:
        app = self.app
        assert isinstance(app, CockpitApp)
        return lambda: app.run_command(command)

    async def discover(self) -> Hits:
        """Everything, when nothing is typed."""
        for command, usage in self._commands():
            yield DiscoveryHit(usage, self._act(command), help=command.summary)

    async def search(self, query: str) -> Hits:
        """What matches; a complete command line can be run as it is."""
        app = self.app
        assert isinstance(app, CockpitApp)
        matcher = self.matcher(query)
        for command, usage in self._commands():
            score = max(matcher.match(usage), matcher.match(command.summary) * 0.8)
            if score > 0:
                yield Hit(score, matcher.highlight(usage), self._act(command), help=command.summary)
            words = query.split()
            if len(words) > len(command.words) and tuple(words[: len(command.words)]) == command.words:
                yield Hit(1.0, f"Run: {query}", lambda line=query: app.run_line(line), help=command.summary)


class CockpitApp(App[int]):
    """The screens.

    :param session: contexts and clients.
    :param backend: what is asked besides the feed.
    :param clock: Unix seconds.
    :param feed: where entries come from: a recording; ``None``: the daemons.
    :param daemons: whose entries those are.
    :param lab: a lab that this program started.
    :param read_only: refuse changes.
    """

    TITLE = "mpcockpit"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[Any]] = App.COMMANDS | {CommandProvider}
    COMMAND_PALETTE_BINDING = "ctrl+p"

    CSS = """
    Screen { background: $background; layers: base; }
    .heading { color: $text-primary; text-style: bold; height: 1; width: 100%; background: $boost; padding: 0 1; }
    CommandPalette SearchIcon { display: none; }
    .subject { height: auto; max-height: 3; padding: 0 1; }
    Footer { background: $panel; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("colon", "command_palette", "Run", key_display=":"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("a", "add", "Add"),
        Binding("d", "delete", "Del"),
        Binding("left_square_bracket", "context(-1)", "View", key_display="[ ]"),
        Binding("right_square_bracket", "context(1)", "Next provider", show=False),
        Binding("f", "go('fleet')", "Fleet", show=False),
        Binding("g", "go('group')", "Group", show=False),
        Binding("z", "go('zone')", "Zone", show=False),
        Binding("e", "go('edits')", "Edits", show=False),
        Binding("t", "go('changes')", "Transactions", show=False),
        Binding("p", "go('peers')", "Peers", show=False),
        Binding("s", "go('keys')", "Keys", show=False),
        Binding("l", "go('events')", "Log", show=False),
        Binding("escape", "leave", "Back", key_display="esc"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+q,ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        session: Session,
        backend: Backend,
        *,
        clock: Callable[[], float] = time.time,
        feed: Callable[[], AsyncIterator[Entry]] | None = None,
        daemons: Iterable[DaemonKey] = (),
        lab: LabProcess | None = None,
        read_only: bool = False,
        theme: str | None = None,
    ) -> None:
        super().__init__()
        self.session, self.backend, self.clock, self.read_only = session, backend, clock, read_only
        self._feed, self._lab = feed, lab
        if feed is None:
            daemons = [DaemonKey(context.name, role) for context in session.fleet.contexts for role in context.roles]
        self.model = Model.of(daemons)
        self._changed = True
        self.context_name = "" if feed is not None else session.context.name
        self.zone_name: str | None = None
        self.group_hash: str | None = None
        if theme is not None and theme in self.available_themes:
            self.theme = theme

    # -- the feed

    def on_mount(self) -> None:
        """Show the overview and begin to listen."""
        self.push_screen(OverviewScreen())
        self.listen()
        self.set_interval(_SHOW_EVERY, self._show_changes)
        self.set_interval(_TICK, self._tick)

    @work(exit_on_error=True, name="feed")
    async def listen(self) -> None:
        """Take in what happens."""
        if self._feed is None:
            await follow_all(self.session.fleet.contexts, self.take, self.clock)
        else:
            async for entry in self._feed():
                self.take(entry)

    def take(self, entry: Entry) -> None:
        """Take one entry in; it is shown soon."""
        self.model = reduce(self.model, entry)
        self._changed = True

    def show_now(self) -> None:
        """Show what was taken in without waiting."""
        self._changed = True
        self._show_changes()

    def _show_changes(self) -> None:
        if self._lab is not None:
            self._tell_lab_events(self._lab)
        if not self._changed:
            return
        self._changed = False
        contexts = self.model.contexts
        if self.context_name not in contexts and contexts:
            self.context_name = contexts[0]
        zones = self.model.zones()
        if self.zone_name not in zones:
            preferred = self.session.fleet.zone if self._feed is None else None
            self.zone_name = preferred if preferred in zones else (zones[0] if zones else None)
        groups = tuple(self.model.daemon(self.context_name, "agent").groups)
        if self.group_hash not in groups:
            self.group_hash = groups[0] if groups else None
        self._show_screen()

    def _show_screen(self) -> None:
        if self.is_running and isinstance(self.screen, FleetScreen):
            self.screen.show_model()

    def _tick(self) -> None:
        self._show_screen()

    def _tell_lab_events(self, lab: LabProcess) -> None:
        for event in lab.pending_events():
            if event is None:
                self.notify("the lab has ended", severity="error", timeout=30)
                self._lab = None
                return
            if event.get("event") == "exited" and event.get("tail"):
                text = f"{event['name']} ended with status {event['status']}; log: {event['log']}"
                self.notify(text, severity="error", timeout=15, markup=False)

    # -- going places

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is about the fleet is offered where the fleet is shown."""
        if action in ("help", "filter", "add", "delete", "context", "go", "leave"):
            return isinstance(self.screen, FleetScreen)
        return super().check_action(action, parameters)

    _SCREENS: ClassVar[dict[str, type[FleetScreen]]] = {
        "fleet": OverviewScreen,
        "group": GroupScreen,
        "zone": ZoneScreen,
        "edits": EditsScreen,
        "changes": ChangesScreen,
        "peers": PeersScreen,
        "keys": KeysScreen,
        "events": EventsScreen,
    }

    def action_go(self, place: str) -> None:
        """Go to a screen; the overview stays underneath."""
        if not isinstance(self.screen, FleetScreen) or place == self.screen.PLACE:
            return
        if place == "fleet":
            self.action_leave()
        elif self.screen.PLACE == "fleet":
            self.push_screen(self._SCREENS[place]())
        else:
            self.switch_screen(self._SCREENS[place]())

    def action_leave(self) -> None:
        """Leave the filter, else the screen; the overview is not left."""
        if isinstance(self.screen, FleetScreen) and self.screen.close_filter():
            return
        if len(self.screen_stack) > 2:
            self.pop_screen()
            self.show_now()

    def action_context(self, step: int) -> None:
        """Look from another provider."""
        contexts = self.model.contexts
        if contexts and isinstance(self.screen, FleetScreen):
            self.choose_context(contexts[(contexts.index(self.context_name) + step) % len(contexts)])

    def choose_context(self, name: str) -> None:
        """Look from the provider called *name*."""
        self.context_name = name
        self.show_now()
        if isinstance(self.screen, FleetScreen):
            self.screen.context_changed()

    def action_help(self) -> None:
        """Help for what has the focus."""
        if isinstance(self.screen, FleetScreen):
            self.push_screen(HelpScreen(self.screen.focused, self.screen))

    def show_guide(self, page: str = "index") -> None:
        """Open the guide."""
        self.push_screen(GuideScreen(page))

    def action_filter(self) -> None:
        """Filter the table."""
        if isinstance(self.screen, FleetScreen):
            self.screen.open_filter()

    # -- changes

    def why_no_change(self) -> str | None:
        """Why nothing can be changed here, ``None``: it can."""
        if self.read_only or self.session.read_only:
            return "this session only reads (--read-only)"
        if self.zone_name is None:
            return "there is no zone yet"
        if not self.model.daemon(self.context_name, "agent").connected:
            return f"the agent of {self.context_name} cannot be reached"
        return None

    def action_add(self) -> None:
        """Contribute a record."""
        self.open_change("add", None)

    def action_delete(self) -> None:
        """Withdraw a record."""
        record = self.screen.record_under_cursor() if isinstance(self.screen, FleetScreen) else None
        self.open_change("delete", record)

    def open_change(self, operation: str, record: str | None) -> None:
        """Open the dialog for a change."""
        if not isinstance(self.screen, FleetScreen):
            return
        reason = self.why_no_change()
        if reason is not None:
            self.notify(reason, title="Not possible", severity="warning", markup=False)
            return
        assert self.zone_name is not None
        own = self.model.daemon(self.context_name, "agent").status
        dialog = ChangeDialog(
            operation, self.context_name, self.zone_name, record, None if own is None else own.identity
        )
        self.push_screen(dialog, self._changed_zone)

    def _changed_zone(self, transaction: Transaction | None) -> None:
        if transaction is None:
            return
        self.action_go("changes")

    # -- commands

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Textual's own, and the guide."""
        yield from super().get_system_commands(screen)
        yield SystemCommand("Guide", "Read the operator's guide", self.show_guide)

    def run_command(self, command: Command) -> None:
        """Run a command of the registry, after asking for its arguments if it needs any."""
        if command.words in (("zone", "addrr"), ("zone", "delrr")):
            self.open_change("add" if command.words[1] == "addrr" else "delete", None)
        elif command.words == ("guide",):
            self.show_guide()
        elif command.needs_arguments:
            self.push_screen(CommandLineDialog(command), self._run_if_given)
        else:
            self.run_line(command.name)

    def _run_if_given(self, line: str | None) -> None:
        if line:
            self.run_line(line)

    @work(name="command", group="command", exclusive=True)
    async def run_line(self, line: str) -> None:
        """Run a command line and show what it says."""
        title = f"mpcockpit --context {self.context_name} {line}"
        self.push_screen(ResultScreen(title, await self.answer_line(line)))

    async def answer_line(self, line: str) -> str:
        """What a command line says, its complaint included."""
        import shlex

        import click

        from cockpit.cli import parse

        try:
            invocation = parse(shlex.split(line))
            command = None if invocation is None else invocation.command
            if invocation is None or command is None or (command.run is None and not command.ends):
                return f"{line}: only at a shell"
            session = (
                self.session
                if self._feed is not None
                else self.session.with_context(invocation.common.get("context") or self.context_name)
            )
            if self.read_only:
                session.read_only = True
            if command.stream is not None:
                return await _gathered(command.stream, session, invocation.values)
            assert command.run is not None
            result: Result = await command.run(session, invocation.values)
        except click.ClickException as error:
            return error.format_message()
        except (MpError, TimeoutError, OSError, ValueError) as error:
            return str(error) or type(error).__name__
        note = f"\n{result.note}" if result.note else ""
        return render(result.blocks) + note

    def ping(self, identity: str) -> None:
        """Ping a peer of the present context."""
        self.run_line(f"{find_command('peer', 'ping').name} {identity}")


def daemons_of(entries: Iterable[Entry]) -> list[DaemonKey]:
    """The daemons that a recording is about, in order of their names."""
    return sorted({DaemonKey(entry.context, entry.role) for entry in entries})


async def _recorded(entries: Sequence[Entry]) -> AsyncIterator[Entry]:
    for entry in entries:
        yield entry


class _Enough(Exception):
    """There is more than anyone reads on a screen."""


async def _gathered(stream: Stream, session: Session, values: Values) -> str:
    """What a stream that ends says, up to a bound."""
    parts: list[str] = []
    size = 0

    def emit(result: Result) -> None:
        nonlocal size
        parts.append(render(result.blocks))
        size += len(parts[-1])
        if size > _RESULT_SIZE:
            raise _Enough

    try:
        await stream(session, values, emit)
    except _Enough:
        parts.append("... there is more; ask at a shell\n")
    return "".join(parts)


def run_app(session: Session, entries: Sequence[Entry] | None, lab: LabProcess | None) -> int:
    """Run the screens until they are left; returns an exit code."""
    from cockpit.settings import load_settings

    settings = load_settings()
    if entries is None:
        app = CockpitApp(
            session,
            LiveBackend(session),
            lab=lab,
            read_only=settings.read_only or session.read_only,
            theme=settings.theme,
        )
    else:
        last = max(entry.at for entry in entries)
        app = CockpitApp(
            session,
            ReplayBackend(),
            clock=lambda: last,
            feed=lambda: _recorded(entries),
            daemons=daemons_of(entries),
            read_only=True,
            theme=settings.theme,
        )
    return app.run(mouse=settings.mouse) or app.return_code or 0
