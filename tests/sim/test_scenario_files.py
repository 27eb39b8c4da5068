"""Scenario files: what is written in them is what happens, and what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from daemons import simulate
from mpcore.errors import ConfigError
from mpcore.sim.runner import play
from mpcore.sim.scenario import Chaos, Step, chaos_steps, read_scenario, scenario_from_text
from mpcore.sim.world import Plan

pytestmark = pytest.mark.timeout(180)

SHIPPED = sorted(simulate.SCENARIOS.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_hold(path: Path) -> None:
    scenario = read_scenario(path)
    assert scenario.title
    result = play(scenario, 1)
    assert result.ok, [str(breach) for breach in result.breaches]


def test_what_stands_in_a_file() -> None:
    scenario = scenario_from_text(
        """
title: example
providers: [alpha, bravo]
zones: [one.example, two.example.]
signers: [bravo]
beat: 5s
leader-ttl: 10m
delay: 20ms .. 1s
sealing: jose
clocks: {alpha: -2s, bravo.signer: 1500ms}
steps:
  - {at: 1m30s, expect: leader}
  - {at: 10s, for: 2m, partition: [[alpha], [bravo, owner]]}
  - {at: 20s, flap: {between: [alpha, bravo], every: 3s}}
  - {at: 20s, for: 5s, loss: 25%}
  - {at: 30s, for: 1s, power-cut: {who: alpha.agent, commit: 3, written: 40%}}
chaos: {from: 10s, until: 5m, events: 3, kinds: [loss, kill]}
end: 1h
"""
    )
    plan = scenario.plan
    assert plan.zones == ("one.example.", "two.example.")
    assert (plan.beat, plan.leader_ttl, plan.delay, plan.jose) == (5.0, 600.0, (0.02, 1.0), True)
    assert plan.skew == {"alpha": -2.0, "bravo.signer": 1.5}
    assert [step.at for step in scenario.steps] == [10.0, 20.0, 20.0, 30.0, 90.0]
    assert scenario.steps[0] == Step(
        10.0, "partition", 120.0, {"islands": (frozenset({"alpha"}), frozenset({"bravo", "owner"}))}
    )
    assert scenario.steps[2].details == {"rate": 0.25}
    assert scenario.steps[3].details == {"who": "alpha.agent", "commit": 3, "written": 0.4}
    assert scenario.chaos == Chaos(10.0, 300.0, 3, ("loss", "kill"))
    assert scenario.end == 3600.0


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("steps: [{at: soon, expect: leader}]", "steps[0].at"),
        ("steps: [{expect: leader}]", "steps[0].at"),
        ("steps: [{at: 1s}]", "steps[0]"),
        ("steps: [{at: 1s, loss: 10%, jitter: 1s}]", "steps[0]"),
        ("steps: [{at: 1s, kill: zulu.agent}]", "steps[0].kill"),
        ("steps: [{at: 1s, for: 1s, expect: leader}]", "steps[0].for"),
        ("steps: [{at: 1s, loss: 130%}]", "steps[0].loss"),
        ("steps: [{at: 1s, partition: [[alpha]]}]", "steps[0].partition"),
        ("steps: [{at: 1s, slow: {who: alpha, by: 1s, much: 2}}]", "steps[0].slow.much"),
        ("steps: {at: 1s}", "steps"),
        ("providers: [alpha]", "providers"),
        ("providers: [alpha, yankee]", "providers"),
        ("signers: [echo]", "signers"),
        ("clocks: {nobody: 1s}", "clocks.nobody"),
        ("delay: 2s .. 1s", "delay"),
        ("chaos: {from: 5m, until: 1m, events: 1}", "chaos.until"),
        ("surprise: 1", "surprise"),
        ("[]", None),
    ],
)
def test_what_is_wrong_is_said(text: str, key: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        scenario_from_text(text, "x.yaml")
    assert error.value.key == key
    assert error.value.file == "x.yaml"


@pytest.mark.parametrize("text", ["a: [", "title: a\ntitle: b\n", "\x00"])
def test_what_is_no_yaml_is_said(text: str) -> None:
    with pytest.raises(ConfigError):
        scenario_from_text(text)


def test_chaos_ends_in_time_and_comes_from_its_generator() -> None:
    chaos, plan = Chaos(10, 100, 200), Plan()
    steps = chaos_steps(chaos, plan, Random(1))
    assert steps == chaos_steps(chaos, plan, Random(1))
    assert steps != chaos_steps(chaos, plan, Random(2))
    assert {step.verb for step in steps} == set(chaos.verbs)
    assert all(10 <= step.at <= 100 and step.at + (step.lasts or 0) <= 100 for step in steps)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, trace = tmp_path / "record", tmp_path / "trace"
    arguments = ["first-change", "--seed", "3", "--json", "--record", str(record), "--trace", str(trace)]
    assert simulate.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert told["seed"] == 3
    assert simulate.main(["first-change", "--seed", "3"]) == 0
    assert told["fingerprint"][:16] in capsys.readouterr().out, "watching a run does not change it"
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert {"t", "from", "to", "message"} <= lines[-1].keys() or "event" in lines[-1]
    assert sum("message" in line for line in lines) == told["messages"]
    entries = [json.loads(line) for line in record.read_text().splitlines()]
    assert {entry["role"] for entry in entries} == {"agent", "combiner", "signer"}
    assert all(len(entry.keys() & {"snapshot", "event", "down"}) == 1 for entry in entries)


def test_the_command_fails_as_it_should(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("steps: [{at: 10s, expect: no leader}]\nend: 1m\n")
    assert simulate.main([str(bad)]) == 1
    assert "expected" in capsys.readouterr().out
    bad.write_text("surprise: 1\n")
    assert simulate.main([str(bad)]) == 2
    assert "surprise" in capsys.readouterr().err
    assert simulate.main([str(tmp_path / "none.yaml")]) == 2
    assert simulate.main([]) == 2
    assert simulate.main(["--list"]) == 0
    assert "first-change" in capsys.readouterr().out.splitlines()
