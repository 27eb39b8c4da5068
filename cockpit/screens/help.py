"""Help for what has the focus, and the guide."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Footer, Label, Markdown

from cockpit.guide import page, page_names
from cockpit.widgets.helpable import Helpable
from mpcore.errors import NotFoundError

__all__ = ("GuideScreen", "HelpScreen")


class HelpScreen(ModalScreen[None]):
    """What the focused widget says about itself, and the keys that work there.

    :param focused: the widget with the focus.
    :param screen: the screen it is on.
    """

    CSS = """
    HelpScreen { align: center middle; }
    #help { width: 78; max-width: 100%; height: auto; max-height: 100%; background: $surface;
            border: round $primary; padding: 0 1; }
    #help Markdown { margin: 0; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", key_display="esc"),
        Binding("g", "guide", "Guide"),
    ]

    def __init__(self, focused: Widget | None, screen: Screen[None]) -> None:
        super().__init__()
        self._focused, self._on = focused, screen

    def compose(self) -> ComposeResult:
        """One Markdown text."""
        with VerticalScroll(id="help"):
            yield Markdown(self._text(), open_links=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Arrow keys scroll it."""
        self.query_one("#help").focus()

    def _text(self) -> str:
        parts = []
        seen: list[object] = []
        widget: object = self._focused
        while widget is not None:
            if isinstance(widget, Helpable) and widget.help_text and widget not in seen:
                parts.append(widget.help_text)
                seen.append(widget)
            widget = getattr(widget, "parent", None)
        if self._on not in seen and isinstance(self._on, Helpable) and self._on.help_text:
            parts.append(self._on.help_text)
        return "\n\n".join([*parts, self._keys()])

    def _keys(self) -> str:
        lines = ["## Keys", "", "| key | does |", "|---|---|"]
        known: set[str] = set()
        for active in self._on.active_bindings.values():
            binding = active.binding
            if not binding.description or binding.description in known or binding.system:
                continue
            known.add(binding.description)
            key = self.app.get_key_display(binding).replace("|", "\\|")
            lines.append(f"| `{key}` | {binding.description} |")
        lines += ["| `tab` | Next table |", "| `g` here | The guide |"]
        return "\n".join(lines)

    def action_guide(self) -> None:
        """Open the guide in place of this."""
        self.app.switch_screen(GuideScreen("index"))


class GuideScreen(Screen[None]):
    """The operator's guide.

    :param name: of the page to open.
    """

    CSS = """
    GuideScreen #page-name { height: 1; background: $panel; padding: 0 1; width: 100%; }
    GuideScreen VerticalScroll { padding: 0 1; }
    GuideScreen Markdown { max-width: 110; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back", key_display="esc"),
        Binding("n,right", "turn(1)", "Next page"),
        Binding("b,left", "turn(-1)", "Page before"),
        Binding("home", "first", "First page"),
    ]

    def __init__(self, name: str = "index") -> None:
        super().__init__()
        self._page = name

    def compose(self) -> ComposeResult:
        """A page."""
        yield Label("", id="page-name", markup=False)
        with VerticalScroll(id="guide"):
            yield Markdown("", open_links=False)
        yield Footer(show_command_palette=False, compact=True)

    async def on_mount(self) -> None:
        """Show the page."""
        self.query_one("#guide").focus()
        await self._show(self._page)

    async def _show(self, name: str) -> None:
        self._page = name
        names = page_names()
        title = f"guide: {name}  (page {names.index(name) + 1} of {len(names)})"
        self.query_one("#page-name", Label).update(title)
        await self.query_one(Markdown).update(page(name))
        self.query_one("#guide", VerticalScroll).scroll_home(animate=False)

    def action_leave(self) -> None:
        """Back to where one was."""
        self.app.pop_screen()

    async def action_turn(self, step: int) -> None:
        """Turn pages."""
        names = page_names()
        await self._show(names[(names.index(self._page) + step) % len(names)])

    async def action_first(self) -> None:
        """The first page."""
        await self._show(page_names()[0])

    @on(Markdown.LinkClicked)
    async def _follow(self, message: Markdown.LinkClicked) -> None:
        try:
            await self._show(message.href.removesuffix(".md"))
        except (NotFoundError, ValueError):
            self.app.open_url(message.href)
