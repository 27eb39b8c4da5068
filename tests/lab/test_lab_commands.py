"""The same by the commands an operator types: mpcockpit on a lab of processes, its exit statuses and its JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.laboratory import PROJECT, Lab, alive, cockpit, eventually, lab_command

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab"), pytest.mark.timeout(120)]


def _json(lab: Lab, *arguments: str, context: str | None = None) -> Any:
    done = cockpit(lab, "--json", *arguments, context=context)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_change_by_commands(lab: Lab) -> None:
    """Agreement, addrr, edits, transactions, queries and delrr, as in the operator's guide."""
    entries = _json(lab, "status")
    assert len(entries) == 9
    assert all(entry["reachable"] and entry["status"]["ready"] for entry in entries)
    groups = [group for entry in entries for group in entry["groups"]]
    assert len(groups) == 3
    assert all(group["operational"] and group["leader"] for group in groups)
    assert len({(group["leader"], group["term"]) for group in groups}) == 1
    matrix = cockpit(lab, "gossip", "group", "state", context="bravo")
    assert matrix.stdout.count("OPERATIONAL") == 6

    record = f"{lab.zone} 3600 IN NS ns.commands.example."
    would = cockpit(lab, "zone", "addrr", lab.zone, record, "--expect-no-changes", context="bravo")
    assert would.returncode == 4
    added = cockpit(lab, "zone", "addrr", lab.zone, record, "--wait", "everywhere", context="bravo")
    assert added.returncode == 0, added.stderr
    for label in ("alpha", "bravo", "charlie"):
        edits = _json(lab, "zone", "edits", "list", lab.zone, context=label)
        (state,) = {item["state"] for item in edits["records"] if item["record"].split() == record.split()}
        assert state == "accepted", label
    again = cockpit(lab, "zone", "addrr", lab.zone, record, "--expect-no-changes", context="bravo")
    assert again.returncode == 0, again.stdout
    lab.assert_served_everywhere(record)
    for address in lab.signers:
        answer = cockpit(lab, "query", f"@{address}", "-p", str(lab.port), lab.zone, "NS")
        assert "ns.commands.example." in answer.stdout, answer.stderr

    removed = cockpit(lab, "zone", "delrr", lab.zone, record, "--wait", "dns", context="bravo")
    assert removed.returncode == 0, removed.stderr
    lab.assert_served_everywhere(record, present=False)


def test_refusals_by_commands(lab: Lab) -> None:
    """1 for what is refused, 2 for what cannot be read, 3 for a daemon out of reach or a time-out."""
    other = cockpit(lab, "zone", "addrr", lab.zone, f"www.{lab.zone} 60 IN A 192.0.2.1", context="alpha")
    assert other.returncode == 1
    assert "Traceback" not in other.stderr
    missing = cockpit(lab, "zone", "delrr", lab.zone, f"{lab.zone} 60 IN NS never.example.", context="alpha")
    assert missing.returncode == 1
    nonsense = cockpit(lab, "zone", "addrr", lab.zone, f"{lab.zone} 60 IN NS a..b", context="alpha")
    assert nonsense.returncode in (1, 2)
    assert nonsense.stderr
    assert cockpit(lab, "zone", "addrr", lab.zone, context="alpha").returncode == 2
    assert cockpit(lab, "zone", "list", context="zulu").returncode == 2
    lab.kill("alpha.combiner")
    try:
        record = f"{lab.zone} 3600 IN NS ns.late.example."
        late = cockpit(
            lab, "zone", "addrr", lab.zone, record, "--wait", "combiner", "--timeout", "0.5", context="alpha"
        )
        assert late.returncode == 3, late.stdout
        assert cockpit(lab, "combiner", "zone", "edits", "list", lab.zone, context="alpha").returncode == 3
    finally:
        lab.start("alpha.combiner")
    removed = cockpit(lab, "zone", "delrr", lab.zone, record, "--wait", "everywhere", context="alpha")
    assert removed.returncode == 0, removed.stderr


@pytest.fixture
def headless() -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """``mpcockpit lab --headless`` with two providers."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        where = Path(directory) / "lab"
        process = subprocess.Popen(
            [sys.executable, "-m", "cockpit.cli", "lab", "--headless", "--providers", "2", "--state-dir", str(where)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        yield process, where
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_headless_lab(
    headless: tuple[subprocess.Popen[bytes], Path], number: signal.Signals
) -> None:
    """Ctrl-C, or the sudden end of the cockpit: all processes of its lab go with it."""
    process, where = headless

    def running() -> list[int]:
        if not (where / "lab.json").exists():
            return []
        done = lab_command("status", "--state-dir", str(where))
        states = json.loads(done.stdout) if done.returncode == 0 else []
        return [state["pid"] for state in states] if states and all(state["ready"] for state in states) else []

    pids = set(eventually(running, "the lab is up"))
    assert len(pids) == 7
    process.send_signal(number)
    process.wait(30)
    eventually(lambda: not alive(pids), "all processes are gone")
    if number == signal.SIGINT:
        assert not where.exists()
