"""Daemons as processes: ready, one at a time, stopped by signals, failing with one line."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from daemons import runtime
from daemons.runtime import RunOptions, StateLock, configure_logging, notify_supervisor, run, run_daemon
from mpcore.control.client import ControlClient
from mpcore.control.models import Role, Status
from mpcore.errors import ConfigError, MpError, StoreError
from mpcore.node.settings import CombinerSettings, ConfiguredPeer, Endpoint

WITHIN = 20.0


@pytest.fixture
def directory() -> Iterator[Path]:
    made = tempfile.mkdtemp(prefix="mp")
    yield Path(made)
    shutil.rmtree(made)


def settings_in(directory: Path) -> CombinerSettings:
    return CombinerSettings(
        identity="combiner.alpha.example.",
        provider="alpha",
        state_dir=directory / "state",
        control_socket=directory / "run" / "s",
        listen=(Endpoint(address="127.0.0.1"),),
        key_file=directory / "key",
        agents=(
            ConfiguredPeer(identity="agent.alpha.example.", address="127.0.0.1", public_key_file=directory / "pub"),
        ),
    )


class FakeNode:
    """A node that starts and waits; *behaviour* may do something else."""

    def __init__(self, behaviour: str = "") -> None:
        self.behaviour = behaviour
        self.service: Any = self

    def status(self) -> Status:
        return Status(
            identity="combiner.alpha.example.",
            role=Role.COMBINER,
            provider="alpha",
            version="1",
            pid=os.getpid(),
            started_at=1.0,
            now=1.0,
            ready=True,
            zones=0,
        )

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        match self.behaviour:
            case "fail before":
                raise StoreError("the database is damaged")
            case "bug":
                raise KeyError("oops")
            case "bind":
                raise OSError(98, "Address already in use")
        task_status.started()
        match self.behaviour:
            case "fail after":
                raise StoreError("the disk is gone")
            case "return":
                return
            case "hang":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep_forever()
        await anyio.sleep_forever()


@dataclass
class Child:
    """A forked daemon."""

    pid: int
    ready: int
    stderr: Path

    def ready_line(self) -> str:
        """What was written to the ready descriptor until it was closed."""
        octets = b""
        while True:
            assert select.select([self.ready], [], [], WITHIN)[0], self.messages()
            part = os.read(self.ready, 1000)
            if not part:
                return octets.decode()
            octets += part

    def status(self) -> int:
        """Wait for the end; the exit status, negative for a signal."""
        descriptor = os.pidfd_open(self.pid)
        try:
            assert select.select([descriptor], [], [], WITHIN)[0], self.messages()
        finally:
            os.close(descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def messages(self) -> str:
        return self.stderr.read_text()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


Fork = Callable[[Callable[[RunOptions], int]], Child]


@pytest.fixture
def fork(directory: Path) -> Iterator[Fork]:
    """Run a function in a forked child, as the lab does, with a ready descriptor and standard error in a file."""
    children: list[Child] = []

    def start(main: Callable[[RunOptions], int]) -> Child:
        reading, writing = os.pipe()
        stderr = directory / f"stderr{len(children)}"
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.close(reading)
                sys.stderr = stderr.open("w", buffering=1)
                status = main(RunOptions(ready_fd=writing))
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        os.close(writing)
        children.append(Child(pid, reading, stderr))
        return children[-1]

    yield start
    for child in children:
        os.close(child.ready)
        try:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass


def node(directory: Path, behaviour: str = "") -> Callable[[RunOptions], int]:
    return lambda options: run(lambda settings: FakeNode(behaviour), settings_in(directory), options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_serving_and_stopped_by_a_signal(fork: Fork, directory: Path, number: int) -> None:
    child = fork(node(directory))
    assert child.ready_line() == "ready combiner.alpha.example.\n"
    assert stat.S_IMODE((directory / "state").stat().st_mode) == 0o700
    assert anyio.run(ControlClient(directory / "run" / "s").status).pid == child.pid
    child.signal(number)
    assert child.status() == 0
    assert not (directory / "run" / "s").exists()


def test_a_hangup_does_not_end_a_daemon(fork: Fork, directory: Path) -> None:
    child = fork(node(directory))
    child.ready_line()
    child.signal(signal.SIGHUP)
    assert anyio.run(ControlClient(directory / "run" / "s").status).ready
    child.signal(signal.SIGTERM)
    assert child.status() == 0


def test_a_second_instance_is_refused(fork: Fork, directory: Path) -> None:
    first = fork(node(directory))
    first.ready_line()
    second = fork(node(directory))
    assert second.ready_line() == ""
    assert second.status() == 1
    assert second.messages() == f"mpcombiner: another mpcombiner (process {first.pid}) is using {directory}/state\n"
    assert anyio.run(ControlClient(directory / "run" / "s").status).pid == first.pid


def test_a_killed_daemon_leaves_nothing_in_the_way(fork: Fork, directory: Path) -> None:
    first = fork(node(directory))
    first.ready_line()
    first.signal(signal.SIGKILL)
    assert first.status() == -signal.SIGKILL
    assert (directory / "run" / "s").exists()
    assert fork(node(directory)).ready_line() == "ready combiner.alpha.example.\n"


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("fail before", "mpcombiner: the database is damaged"),
        ("bind", "mpcombiner: cannot listen: [Errno 98] Address already in use"),
        ("bug", "mpcombiner: internal error: KeyError: 'oops'"),
    ],
)
def test_a_failed_start_is_one_line_and_no_readiness(fork: Fork, directory: Path, behaviour: str, line: str) -> None:
    child = fork(node(directory, behaviour))
    assert child.ready_line() == ""
    assert child.status() == 1
    assert child.messages().splitlines()[-1] == line


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [("fail after", "mpcombiner: the disk is gone"), ("return", "mpcombiner: the node ended by itself")],
)
def test_a_failure_later_ends_the_daemon(fork: Fork, directory: Path, behaviour: str, line: str) -> None:
    child = fork(node(directory, behaviour))
    assert child.status() == 1
    assert child.messages().splitlines()[-1] == line


def test_a_node_that_hangs_is_ended_by_a_second_signal(fork: Fork, directory: Path) -> None:
    child = fork(node(directory, "hang"))
    child.ready_line()
    child.signal(signal.SIGTERM)
    # The socket goes when the first signal was handled: then the second one counts.
    with pytest.raises(OSError, match=r"refused|No such file"):
        _until_refused(directory / "run" / "s")
    child.signal(signal.SIGTERM)
    assert child.status() == 1
    assert "told twice to stop: ended at once" in child.messages()


def _until_refused(path: Path) -> None:
    end = time.monotonic() + WITHIN
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(os.fspath(path))
    pytest.fail("the control socket still answers")


def test_a_node_that_hangs_is_ended_by_the_clock(fork: Fork, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_STOP_WITHIN", 0.3)
    child = fork(node(directory, "hang"))
    child.ready_line()
    child.signal(signal.SIGTERM)
    assert child.status() == 1
    assert "not stopped after 0.3 s: ended at once" in child.messages()


def test_an_open_state_directory_is_a_configuration_error(fork: Fork, directory: Path) -> None:
    (directory / "state").mkdir()
    (directory / "state").chmod(0o755)
    child = fork(node(directory))
    assert child.status() == 2
    assert "must have 0700" in child.messages()


def test_a_bad_configuration_has_status_2(fork: Fork, directory: Path) -> None:
    (directory / "c.yaml").write_text("identity: a.example.\nport: 5\n")
    child = fork(lambda options: run_daemon("combiner", directory / "c.yaml", options))
    assert child.ready_line() == ""
    assert child.status() == 2
    lines = child.messages().splitlines()
    assert lines[0] == f"{directory}/c.yaml:1: provider: is required"
    assert f"{directory}/c.yaml:2: port: unknown key" in lines


def test_failures_are_json_where_messages_are(fork: Fork, directory: Path) -> None:
    (directory / "c.yaml").write_text("- nothing\n")
    child = fork(lambda options: run_daemon("signer", directory / "c.yaml", replace(options, log_format="json")))
    assert child.status() == 2
    (line,) = child.messages().splitlines()
    assert json.loads(line)["message"] == f"{directory}/c.yaml:1: expected keys and values"


def test_a_child_ends_with_its_parent(fork: Fork, directory: Path) -> None:
    """The parent is killed; its child, which holds the write end of the pipe, ends too."""

    def parent(options: RunOptions) -> int:
        mine = os.getpid()
        pid = os.fork()
        if pid == 0:
            tied = RunOptions(ready_fd=None, die_with_parent=True, parent_pid=mine)
            runtime._tie_to_parent(tied)
            os.write(options.ready_fd or 0, b"tied\n")
            signal.pause()
        signal.pause()
        return 0

    child = fork(parent)
    assert os.read(child.ready, 10) == b"tied\n"
    child.signal(signal.SIGKILL)
    assert child.status() == -signal.SIGKILL
    assert child.ready_line() == ""  # end of file: the grandchild is gone as well


def test_a_child_whose_parent_is_gone_already_does_not_start(fork: Fork, directory: Path) -> None:
    def main(options: RunOptions) -> int:
        return run_daemon("combiner", "none", RunOptions(die_with_parent=True, parent_pid=os.getpid()))

    child = fork(main)
    assert child.status() == 2
    assert child.messages() == "mpcombiner: the parent process has ended\n"


def test_the_supervisor_is_told(fork: Fork, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(os.fspath(directory / "notify"))
        supervisor.settimeout(WITHIN)
        monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(directory / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        child = fork(node(directory))
        assert child.ready_line()
        got = {supervisor.recv(100)}
        while not {b"READY=1", b"WATCHDOG=1"} <= got:
            got.add(supervisor.recv(100))
        child.signal(signal.SIGTERM)
        while b"STOPPING=1" not in got:
            got.add(supervisor.recv(100))
        assert child.status() == 0


def test_without_a_supervisor_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify_supervisor("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/socket")
    assert not notify_supervisor("READY=1")


def test_an_abstract_supervisor_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"\0mp-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@mp-test-{os.getpid()}")
        assert notify_supervisor("READY=1")
        assert supervisor.recv(100) == b"READY=1"


def test_the_lock_is_given_back(directory: Path) -> None:
    for _ in range(2):
        with StateLock(directory / "s", "mpagent"), pytest.raises(MpError, match=f"process {os.getpid()}"):
            StateLock(directory / "s", "mpagent").__enter__()
    with (directory / "s" / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_cannot_be_written(directory: Path) -> None:
    (directory / "s").mkdir(mode=0o700)
    (directory / "s" / "lock").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        StateLock(directory / "s", "mpagent").__enter__()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored_logging")
def test_log_messages_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    log = logging.getLogger("mpcore.test")
    log.info("zone %s\nloaded \u2603", "example.")
    log.debug("not shown")
    try:
        raise ValueError("inner")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["message"] == "zone example.\nloaded \u2603"
    assert (first["level"], first["logger"]) == ("info", "mpcore.test")
    assert first["time"].endswith("Z")
    assert "ValueError: inner" in second["exception"]


@pytest.mark.usefixtures("restored_logging")
def test_log_messages_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", "warning")
    log = logging.getLogger("mpcore.test")
    log.info("not shown")
    log.warning("careful")
    assert capsys.readouterr().err.endswith("Z warning mpcore.test: careful\n")
