"""The lab as an operator starts it: processes, output, and nothing left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cockpit.lab import Progress

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.xdist_group("lab")]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path for the lab's state."""
    parent = Path(tempfile.mkdtemp(prefix="mpl"))
    yield parent / "lab"
    shutil.rmtree(parent, ignore_errors=True)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cockpit.cli", *words]


def processes_with(text: str) -> list[str]:
    """Command lines of running processes that contain *text*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


def test_headless_lab_elects_serves_and_leaves_nothing(directory: Path) -> None:
    with subprocess.Popen(
        command("lab", "--headless", "--providers", "2", "--state-dir", str(directory)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as lab:
        try:
            assert lab.stdout is not None
            leader = lab.stdout.readline()
            assert leader.startswith("leader: agent.")
            record = "customer.example. 300 IN NS ns2.bravo.example."
            steps = directory.parent / "steps.mp"
            steps.write_text(
                "status\n"
                f"zone addrr customer.example. '{record}' --context bravo --wait dns --timeout 40\n"
                "query customer.example. NS --short\n"
                f"zone addrr customer.example. '{record}' --context bravo --expect-no-changes\n"
                "lab kill bravo.agent\n"
                "- status\n"
                "lab start bravo.agent\n"
            )
            done = subprocess.run(
                command("run", str(steps), "--state-dir", str(directory)), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Reached:     dns" in done.stdout
            assert "ns2.bravo.example." in done.stdout
            assert "bravo.agent     DOWN" in done.stdout
        finally:
            lab.send_signal(signal.SIGTERM)
            _, told = lab.communicate(timeout=60)
    assert lab.returncode == 0, told
    assert not directory.exists()
    assert processes_with(str(directory)) == []


def test_a_lab_that_is_killed_takes_everything_with_it(directory: Path) -> None:
    with subprocess.Popen(
        command("lab", "--headless", "--providers", "2", "--state-dir", str(directory)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as lab:
        assert lab.stdout is not None
        assert lab.stdout.readline().startswith("leader: ")
        lab.kill()
    # The kernel ends the supervisor, and then its children; it does not say when.
    deadline = 200
    while processes_with(str(directory)) and deadline:
        deadline -= 1
        subprocess.run(["sleep", "0.05"], check=True)
    assert processes_with(str(directory)) == []


def test_what_is_wrong_with_the_order_is_said(directory: Path) -> None:
    done = subprocess.run(
        command("lab", "--headless", "--signers", "alpha,zulu", "--state-dir", str(directory)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "zulu cannot sign" in done.stderr
    assert done.stdout == ""
    gone = subprocess.run(
        command("lab", "kill", "alpha", "--state-dir", str(directory)), capture_output=True, text=True, check=False
    )
    assert gone.returncode == 2


def test_progress_is_redrawn_at_a_terminal_and_listed_elsewhere() -> None:
    events = [
        {"event": "planned", "directory": "/lab", "zone": "z.", "providers": ["alpha", "bravo"]},
        {"event": "started", "name": "world", "pid": 1},
        {"event": "started", "name": "alpha.agent", "pid": 2},
        {"event": "ready", "name": "alpha.agent", "seconds": 0.25},
        {"event": "up", "seconds": 0.5},
    ]
    plain, live = io.StringIO(), io.StringIO()
    for stream, redraw in ((plain, False), (live, True)):
        progress = Progress(stream, live=redraw)
        for event in events:
            progress.event(event)
    assert plain.getvalue().splitlines() == [
        "lab in /lab: zone z., providers alpha, bravo",
        "world started (pid 1)",
        "alpha.agent started (pid 2)",
        "alpha.agent ready after 0.25 s",
        "the lab is up after 0.50 s",
    ]
    assert "\x1b[2F" in live.getvalue()
    assert "alpha    agent ready 0.25s" in live.getvalue()
