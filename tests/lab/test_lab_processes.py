"""Processes of a lab: none is left behind, however the lab ends; the commands that go with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.laboratory import PROJECT, Lab, alive, eventually, lab_command

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def _gone(pids: set[int]) -> bool:
    return not alive(pids)


def test_nothing_is_left_after_the_end() -> None:
    """SIGTERM ends every process in order; without --keep the files go too."""
    with Lab("--providers", "2", keep=False) as lab:
        sockets = Path(lab.layout.supervisor_socket).parent
        assert len(lab.pids) == 7
        assert sorted(alive(lab.pids)) == sorted(lab.pids)
        assert lab.stop() == 0
        assert _gone(lab.pids)
        lab.wait_event(event="stopped")
        ended = [event for event in lab.events if event["event"] == "exited"]
        assert {event["status"] for event in ended} == {0}, ended
        assert not lab.directory.exists()
        assert not sockets.exists()


def test_nothing_is_left_after_the_supervisor_is_killed() -> None:
    """SIGKILL gives the supervisor no chance to end its children; the kernel does; the lab starts again after that."""
    with Lab("--providers", "2") as lab:
        lab.wait_until_settled()
        agreed = lab.agreed_leader()
        assert agreed is not None
        first = set(lab.pids)
        lab.process.kill()
        lab.process.wait()
        eventually(lambda: _gone(first), f"all of {first} gone")
        lab.events.clear()
        lab.run()
        lab.wait_until_up()
        lab.wait_until_settled()
        again = lab.agreed_leader()
        assert again is not None
        assert again[1] >= agreed[1]
        lab.assert_clean_logs()


_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "daemons.lab", "run", "--die-with-parent", *sys.argv[1:]])
print(child.pid, file=sys.stderr, flush=True)
child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_dies(tmp_path: Path, number: signal.Signals) -> None:
    """--die-with-parent: whoever started the lab dies, and the lab with it."""
    command = [sys.executable, "-c", _PARENT, "--providers", "2", "--state-dir", str(tmp_path / "lab")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        pids = {int(parent.stderr.readline())}
        for line in parent.stdout:
            event = json.loads(line)
            pids |= {event["pid"]} if "pid" in event else set()
            if event["event"] == "up":
                break
        assert len(alive(pids)) == 8
        parent.send_signal(number)
        parent.wait()
        eventually(lambda: _gone(pids), f"all of {pids} gone")


def test_kill_start_and_status(lab: Lab) -> None:
    """The commands beside a running lab, and what they say where there is nothing to do."""
    where = ("--state-dir", str(lab.directory))
    before = lab.status()["charlie.combiner"]["pid"]
    killed = lab_command("kill", "charlie.combiner", *where)
    assert (killed.returncode, killed.stdout) == (0, "killed charlie.combiner\n")
    assert alive({before}) == []
    gone = {state["name"]: state for state in json.loads(lab_command("status", *where).stdout)}["charlie.combiner"]
    assert (gone["pid"], gone["ready"]) == (None, False)
    again = lab_command("kill", "charlie.combiner", *where)
    assert (again.returncode, again.stderr) == (1, "charlie.combiner does not run\n")
    started = lab_command("start", "charlie.combiner", *where)
    assert (started.returncode, started.stdout) == (0, "started charlie.combiner\n")
    eventually(lambda: lab.ready("charlie.combiner"), "charlie.combiner ready")
    twice = lab_command("start", "charlie", *where)
    assert (twice.returncode, twice.stderr) == (1, "charlie.combiner, charlie.signer, charlie.agent runs already\n")
    unknown = lab_command("kill", "zulu.agent", *where)
    assert unknown.returncode == 1
    assert "there is no 'zulu.agent'" in unknown.stderr
    second = lab_command("run", *where)
    assert second.returncode == 2
    assert "a lab runs there already" in second.stdout


def test_commands_without_a_lab(tmp_path: Path) -> None:
    """No lab was set up, or none runs: said in words, with the exit status for it."""
    nowhere = lab_command("status", "--state-dir", str(tmp_path))
    assert nowhere.returncode == 2
    assert str(tmp_path / "lab.json") in nowhere.stderr
    (tmp_path / "something").touch()
    occupied = lab_command("run", "--state-dir", str(tmp_path))
    assert occupied.returncode == 2
    assert "is neither empty nor a lab's" in occupied.stdout
    for arguments in (["--providers", "1"], ["--providers", "9"], ["--signers", "zulu"], ["--signers", ""]):
        wrong = lab_command("run", *arguments, "--state-dir", str(tmp_path / "new"))
        assert wrong.returncode == 2, arguments
        assert arguments[0] in wrong.stdout
