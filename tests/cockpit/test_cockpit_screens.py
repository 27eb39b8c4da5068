"""The screens, driven by keys and mouse on a recorded fleet; time stands still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fleet_fixture import ZONE, FakeBackend, make_app
from textual.pilot import Pilot
from textual.widgets import Input

from cockpit.app import CockpitApp
from cockpit.recording import Entry
from cockpit.screens.change import ChangeDialog
from cockpit.screens.command_line import ResultScreen
from cockpit.screens.group import GroupScreen
from cockpit.screens.help import GuideScreen, HelpScreen
from cockpit.screens.peers import PeersScreen
from cockpit.widgets.line_table import LineTable
from cockpit.widgets.matrix import Matrix

pytestmark = pytest.mark.anyio

SMALL, WIDE = (80, 24), (160, 45)


@pytest.fixture
def anyio_backend() -> str:
    """Textual is an asyncio program."""
    return "asyncio"


async def settle(pilot: Pilot[Any]) -> None:
    """Until what was typed and what was read is on the screen."""
    app = pilot.app
    assert isinstance(app, CockpitApp)
    await pilot.pause()
    others = [worker for worker in app.workers if worker.name != "feed"]
    if others:
        await app.workers.wait_for_complete(others)
    app.show_now()
    await pilot.pause()


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys, each when the one before has had its effect."""
    await settle(pilot)
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


def text_of(app: CockpitApp) -> str:
    """What is on the screen, line by line."""
    height = app.size.height
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line) for line in lines[:height])


# ---------------------------------------------------------------------------------------------------------------------
# Pictures

PICTURES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "fleet": ((), {}),
    "group": (("g",), {}),
    "election": (("g",), {"until": 6.54}),
    "zone": (("z",), {}),
    "edits": (("e", "end"), {}),
    "combiner": (("e", "v"), {}),
    "transactions": (("t",), {}),
    "peers": (("p",), {}),
    "keys": (("s",), {}),
    "log": (("l",), {}),
    "help": (("g", "question_mark"), {}),
    "guide": (("question_mark", "g", "n"), {}),
    "add": (("a", *"ns2.alpha.example.", "enter"), {}),
    "delete": (("t", "d", "enter"), {}),
    "outage-fleet": ((), {"name": "outage"}),
    "outage-group": (("g",), {"name": "outage"}),
    "outage-edits": (("right_square_bracket", "right_square_bracket", "e", "end"), {"name": "outage"}),
    "read-only": (("a",), {"read_only": True}),
    "filter": (("l", "slash", *"kind:group leader", "enter"), {}),
}


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "160x45"])
@pytest.mark.parametrize("picture", PICTURES)
def test_picture(snap_compare: Callable[..., bool], picture: str, size: tuple[int, int]) -> None:
    keys, arguments = PICTURES[picture]

    async def run_before(pilot: Pilot[Any]) -> None:
        await press(pilot, *keys)

    assert snap_compare(make_app(**arguments), terminal_size=size, run_before=run_before)


# ---------------------------------------------------------------------------------------------------------------------
# What it does

Test = Callable[[CockpitApp, Pilot[Any]], Awaitable[None]]


async def drive(app: CockpitApp, test: Test, size: tuple[int, int] = SMALL) -> None:
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await test(app, pilot)


async def test_every_place_is_reached_by_its_key_and_left_by_escape() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        for key in "gzetpslg":
            await press(pilot, key)
            assert app.screen is not app.screen_stack[1], key
            assert len(app.screen_stack) == 3
        await press(pilot, "escape", "escape")
        assert len(app.screen_stack) == 2

    await drive(make_app(), test)


async def test_matrix_shows_every_pair_and_the_leader() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "g")
        shown = text_of(app)
        assert shown.count("OPERATIONAL") == 6
        assert "leader  alpha" in shown
        assert "every agent hears every other" in shown
        await press(pilot, "right", "down")
        assert app.screen.query_one(Matrix).cursor == ("agent.bravo.example.", "agent.bravo.example.")

    await drive(make_app(), test)


async def test_votes_are_shown_while_they_are_counted() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "g")
        shown = text_of(app)
        assert "confirming" in shown
        for vote in ("3596246275", "967361356", "602018395", "says alpha won"):
            assert vote in shown

    await drive(make_app(until=6.54), test)


async def test_a_daemon_that_is_down_is_named_with_what_waits_for_it() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        shown = text_of(app)
        assert "DOWN" in shown
        assert "8/9 daemons answer" in shown
        await press(pilot, "right_square_bracket", "right_square_bracket", "e", "end")
        shown = text_of(app)
        assert "pending" in shown
        assert "owed" in shown
        assert "Connection refused" in shown

    await drive(make_app("outage"), test)


async def test_contributed_records_have_their_provider_as_origin() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "z", "slash", *"ns2.alpha")
        rows = app.screen.query_one("#records", LineTable).rows
        assert [[cell[0] for cell in row.cells[:2]] for row in rows] == [["alpha", "NS"]]

    await drive(make_app(), test)


async def test_a_record_is_added_after_its_plan_was_seen() -> None:
    app = make_app()
    backend = app.backend
    assert isinstance(backend, FakeBackend)

    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "a", *"ns3.alpha.example.", "enter")
        assert isinstance(app.screen, ChangeDialog)
        assert "zone addrr" in text_of(app)
        assert backend.changes == []
        await press(pilot, "enter")
        assert [(context, zone, order.operation) for context, zone, order in backend.changes] == [
            ("alpha", ZONE, "add")
        ]
        assert backend.changes[0][2].record.endswith("IN NS ns3.alpha.example.")

    await drive(app, test)


async def test_a_plan_is_worth_nothing_once_the_record_was_edited() -> None:
    app = make_app()
    backend = app.backend
    assert isinstance(backend, FakeBackend)

    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "a", *"ns3.", "enter")
        app.screen.query_one("#record").focus()
        await press(pilot, "x")
        assert app.screen.query_one("#apply").disabled
        await press(pilot, "escape")
        assert backend.changes == []

    await drive(app, test)


async def test_a_dangerous_deletion_wants_the_name_of_the_zone() -> None:
    app = make_app()
    backend = app.backend
    assert isinstance(backend, FakeBackend)

    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "t", "d", "enter", "enter", *"customer.exampl", "enter")
        assert backend.changes == []
        await press(pilot, "e", "enter")
        assert [order.operation for _, _, order in backend.changes] == ["delete"]

    await drive(app, test)


async def test_a_refusal_is_shown_and_nothing_is_sent() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "a")
        app.screen.query_one("#record", Input).value = "customer.example. 300 IN A 192.0.2.1"
        await press(pilot, "enter")
        assert "A records are not synchronised" in text_of(app)
        assert app.screen.query_one("#apply").disabled

    await drive(make_app(), test)


async def test_read_only_gives_the_reason() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "a")
        assert not isinstance(app.screen, ChangeDialog)
        assert any("only reads" in notification.message for notification in app._notifications)

    await drive(make_app(read_only=True), test)


async def test_mouse_selects_opens_and_goes() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await pilot.click("#daemons", offset=(3, 4))
        await settle(pilot)
        assert app.screen.query_one("#daemons", LineTable).cursor_key == "bravo.agent"
        assert app.context_name == "bravo"
        await pilot.click("#daemons", offset=(3, 4), times=2)
        await settle(pilot)
        assert isinstance(app.screen, PeersScreen)
        await pilot.click("NavBar", offset=(12, 0))
        await settle(pilot)
        assert isinstance(app.screen, GroupScreen)
        await pilot.click("#matrix", offset=(30, 1))
        await settle(pilot)
        assert app.screen.query_one(Matrix).cursor == ("agent.alpha.example.", "agent.bravo.example.")

    await drive(make_app(), test)


async def test_help_is_about_what_has_the_focus_and_leads_to_the_guide() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "One row for each daemon" in text_of(app)
        await press(pilot, "g", "n", "escape")
        assert not isinstance(app.screen, GuideScreen)

    await drive(make_app(), test)


async def test_filter_narrows_and_escape_widens() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        await press(pilot, "l")
        table = app.screen.query_one("#log", LineTable)
        everything = len(table.rows)
        await press(pilot, "slash", *"kind:transaction", "enter")
        assert {row.cells[2][0] for row in table.rows} == {"transaction"}
        await press(pilot, "escape")
        assert len(table.rows) == everything

    await drive(make_app(), test)


async def test_commands_of_the_palette_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        app.run_line("guide --list")
        await settle(pilot)
        assert isinstance(app.screen, ResultScreen)
        assert "wire-format" in text_of(app)
        await press(pilot, "escape")
        app.run_line("peer nonsense")
        await settle(pilot)
        assert "No such command" in text_of(app)

    await drive(make_app(), test)


async def test_texts_of_others_cannot_drive_the_terminal() -> None:
    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        status = app.model.daemon("alpha", "agent").status
        assert status is not None
        evil = {
            "at": 0.0,
            "context": "alpha",
            "role": "agent",
            "event": {
                "id": 1,
                "time": 0.0,
                "kind": "peer",
                "subject": "x",
                "data": {
                    "identity": "agent.\x1b[2J[bold]x.",
                    "kind": "agent",
                    "state": "NEEDED",
                    "since": 0.0,
                    "waiting_for": "\x1b]0;owned\x07[red]",
                },
            },
        }
        app.take(Entry.model_validate(evil))
        await press(pilot, "p", "end")
        shown = text_of(app)
        assert "\x1b" not in shown
        assert "[bold]" in shown
        assert "[red]" in shown

    await drive(make_app(), test)


async def test_eight_providers_fit_into_eighty_columns() -> None:
    labels = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
    members = [f"agent.{label}.example." for label in labels]
    group = {
        "hash": "0" * 16,
        "name": "0" * 8,
        "members": members,
        "voters": members,
        "zones": [ZONE],
        "operational": True,
        "rows": [
            {
                "reporter": member,
                "states": {other: "OPERATIONAL" for other in members if other != member},
                "reported_at": 0.0,
                "received_at": 0.0,
            }
            for member in members
        ],
        "election": {"phase": "idle", "term": 1},
    }

    async def test(app: CockpitApp, pilot: Pilot[Any]) -> None:
        event = {"id": 1, "time": 0.0, "kind": "group", "subject": "0" * 16, "data": group}
        app.take(Entry.model_validate({"at": 0.0, "context": "alpha", "role": "agent", "event": event}))
        app.group_hash = "0" * 16
        await press(pilot, "g")
        shown = text_of(app)
        assert shown.count("OPER") == 8 * 7
        assert "hotel" in shown

    await drive(make_app(), test)


def test_recordings_are_in_the_fixture() -> None:
    assert {path.name for path in (Path(__file__).parent.parent / "fixtures" / "recorded").glob("*.jsonl")} >= {
        "forming.jsonl",
        "outage.jsonl",
    }
