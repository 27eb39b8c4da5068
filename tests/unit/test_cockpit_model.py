"""The screens' model: what entries make of it, from recordings of a real fleet and from invented outages."""

from __future__ import annotations

from pathlib import Path

import pytest

from cockpit.model import MAX_LOG, DaemonKey, Model, attention, reduce
from cockpit.recording import Entry, read_recording
from mpcore.control.models import Event, RecordState
from mpcore.errors import ConfigError

RECORDED = Path(__file__).parent.parent / "fixtures" / "recorded"


def entries(name: str) -> list[Entry]:
    return list(read_recording((RECORDED / name).read_text("utf-8").splitlines(), name))


def replayed(name: str) -> Model:
    model = Model()
    for entry in entries(name):
        model = reduce(model, entry)
    return model


def test_a_group_forms_elects_and_changes_a_zone() -> None:
    model = replayed("forming.jsonl")
    assert set(model.contexts) == {"alpha", "bravo", "charlie"}
    assert all(daemon.connected for daemon in model.daemons.values())
    agents = [model.daemon(context, "agent") for context in model.contexts]
    assert {group.election.leader for agent in agents for group in agent.groups.values()} == {"agent.alpha.example."}
    assert all(peer.state == "OPERATIONAL" for agent in agents for peer in agent.peers.values())
    records = model.daemon("bravo", "agent").edits["customer.example."].records
    assert any(record.type == "NS" and record.state is RecordState.ACCEPTED for record in records)
    assert attention(model) == []
    told = [line.text for line in model.log if line.kind == "group" and line.source == "alpha.agent"]
    assert [text.partition(" ")[2] for text in told] == [
        "not operational",
        "election idle, term 0",
        "operational",
        "election voting, term 1",
        "election confirming, term 1",
        "election idle, term 1",
        "leader agent.alpha.example., term 1",
    ]


def test_an_outage_names_what_is_down_and_who_owes() -> None:
    found = attention(replayed("outage.jsonl"))
    assert (found[0].severity, found[0].source) == ("error", "bravo.agent")
    assert any("agent.bravo.example. owes 1 confirmation" in each.text for each in found)
    assert [each.severity for each in found] == sorted(
        (each.severity for each in found), key="error warning pending".find
    )


def down(at: float, reason: str = "no such socket") -> Entry:
    return Entry(at=at, context="alpha", role="agent", down=reason)


def test_down_since_is_when_it_was_lost_however_often_it_is_tried() -> None:
    snapshot = next(entry for entry in entries("outage.jsonl") if entry.snapshot and entry.role == "agent")
    model = reduce(Model(), snapshot)
    key = DaemonKey(snapshot.context, "agent")
    for at in (10.0, 20.0, 30.0):
        model = reduce(model, snapshot.model_copy(update={"snapshot": None, "down": f"try at {at}", "at": at}))
    daemon = model.daemons[key]
    assert (daemon.connected, daemon.since, daemon.problem) == (False, 10.0, "try at 30.0")
    assert daemon.peers, "what was known stays"
    assert [line.kind for line in model.log] == ["up", "down"]


def test_reducing_leaves_the_former_state_alone() -> None:
    before = Model()
    after = reduce(before, down(1.0))
    assert before.daemons == {}
    assert after.daemons[DaemonKey("alpha", "agent")].problem == "no such socket"


def test_history_is_bounded_and_numbered_through() -> None:
    model = Model()
    for number in range(MAX_LOG + 10):
        event = Event(id=number, time=1.0, kind="log", data={"severity": "info", "text": f"line {number}\x1b"})
        model = reduce(model, Entry(at=1.0, context="alpha", role="agent", event=event))
    assert len(model.log) == MAX_LOG
    assert model.log[-1].number == MAX_LOG + 9
    assert model.log[-1].text == f"line {MAX_LOG + 9}\\x1b"


@pytest.mark.parametrize("line", ["{", "{}", '{"at": 1, "context": "a", "role": "cook", "down": "x"}', "[]"])
def test_what_is_no_recording_is_named_by_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"file\.jsonl:2: is no line of a recording"):
        list(read_recording([down(1.0).to_line(), line], "file.jsonl"))


def test_a_line_survives_writing_and_reading() -> None:
    for entry in entries("outage.jsonl"):
        assert list(read_recording([entry.to_line()], "x")) == [entry]
