"""The parent of a lab's processes: forks them, watches them, tells what happens, ends them all.

It is one thread without an event loop, because it forks: the daemons' code is imported once, here, and shared by all.
Every child asks the kernel to be killed when this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import selectors
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from daemons.lab.layout import Daemon, Layout
from daemons.lab.world import World
from daemons.runtime import RunOptions, configure_logging, preload, run_daemon

__all__ = ("Supervisor", "command", "remove_state", "tie_to_parent")

_STOP_PATIENCE = 3.0  #: seconds for the daemons to end by themselves
_START_PATIENCE = 30.0  #: seconds until a daemon that has not become ready counts as failed
_LONGEST_COMMAND = 4096
_TAIL = 12  #: lines of a log that are shown when a daemon fails
_PR_SET_PDEATHSIG = 1


@dataclass
class _Child:
    daemon: Daemon
    pid: int
    ready_fd: int
    started: float
    ready: bool = False
    expected_to_end: bool = False


class Supervisor:
    """See the module's text.

    :param report: takes one event (JSON-able) at a time.
    """

    def __init__(self, layout: Layout, report: Callable[[dict[str, Any]], None]) -> None:
        self._layout, self._report = layout, report
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._up = False
        self._began = time.monotonic()
        self._listener: socket.socket | None = None

    def run(self) -> int:
        """Run the lab until SIGTERM, SIGINT, or a daemon fails to start; returns the exit status."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(woken, selectors.EVENT_READ, self._signalled)
        status = 0
        try:
            preload()
            self._listen()
            for name in self._layout.daemons:
                self.start(name)
            while not self._stopping:
                for key, _ in self._selector.select(timeout=1.0):
                    key.data(key.fileobj)
                if not self._up and not self._check_start():
                    status = 1
                    break
        except Exception as error:
            # Told, not raised: whoever started the lab reads events, and the children must be ended.
            message = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            self._report({"event": "failed", "message": message, "log": None})
            status = 1
        finally:
            self._end_all()
            if self._listener is not None:
                self._listener.close()
                with contextlib.suppress(OSError):
                    os.unlink(self._layout.supervisor_socket)
            self._report({"event": "stopped"})
        return status

    # --------------------------------------------------------------- children

    def start(self, name: str) -> int:
        """Fork a daemon; returns its process id."""
        daemon = self._layout.daemons[name]
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        parent = os.getpid()
        Path(daemon.log).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid = os.fork()
        if pid == 0:
            # Nothing of the parent's state may be used from here on but code.
            try:
                os.close(reading)
                self._become(daemon, writing, parent)
            finally:
                os._exit(1)
        os.close(writing)
        child = _Child(daemon, pid, reading, time.monotonic())
        self._children[name] = child
        self._selector.register(reading, selectors.EVENT_READ, lambda _: self._readable(child))
        self._report({"event": "started", "name": name, "pid": pid})
        return pid

    def _become(self, daemon: Daemon, ready_fd: int, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        log = os.open(daemon.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Our own process group: Ctrl-C in the terminal is for the supervisor, which then ends the daemons in order.
        os.setpgid(0, 0)
        if daemon.role == "world":
            os._exit(_run_world(self._layout, ready_fd, parent))
        options = RunOptions(ready_fd=ready_fd, die_with_parent=True, parent_pid=parent)
        os._exit(run_daemon(daemon.role, daemon.config, options))

    def _readable(self, child: _Child) -> None:
        line = os.read(child.ready_fd, 256)
        self._selector.unregister(child.ready_fd)
        os.close(child.ready_fd)
        if line:
            child.ready = True
            seconds = round(time.monotonic() - child.started, 3)
            self._report({"event": "ready", "name": child.daemon.name, "seconds": seconds})

    def _signalled(self, woken: object) -> None:
        assert isinstance(woken, socket.socket)
        with contextlib.suppress(BlockingIOError):
            for number in woken.recv(64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stopping = True
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name, child in list(self._children.items()):
                if child.pid == pid:
                    del self._children[name]
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, status: int) -> None:
        log = child.daemon.log
        tail = [] if child.expected_to_end else _tail(log)
        self._report({"event": "exited", "name": child.daemon.name, "status": status, "log": log, "tail": tail})
        if not self._up and not child.expected_to_end and not self._stopping:
            self._report({"event": "failed", "message": f"{child.daemon.name} ended with status {status}", "log": log})

    def _check_start(self) -> bool:
        """Whether the start goes well so far."""
        if self._stopping:
            return True
        missing = [name for name in self._layout.daemons if name not in self._children]
        if missing:
            return False
        late = [child for child in self._children.values() if not child.ready]
        if not late:
            self._up = True
            self._report({"event": "up", "seconds": round(time.monotonic() - self._began, 3)})
        elif any(time.monotonic() - child.started > _START_PATIENCE for child in late):
            daemon = late[0].daemon
            message = f"{daemon.name} did not become ready within {_START_PATIENCE:g} s"
            self._report({"event": "failed", "message": message, "log": daemon.log})
            return False
        return True

    def _end_all(self) -> None:
        for number, patience in ((signal.SIGTERM, _STOP_PATIENCE), (signal.SIGKILL, _STOP_PATIENCE)):
            for child in self._children.values():
                child.expected_to_end = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)
            deadline = time.monotonic() + patience
            while self._children and time.monotonic() < deadline:
                time.sleep(0.01)
                self._reap()
            if not self._children:
                return

    # --------------------------------------------------------------- commands

    def _listen(self) -> None:
        path = self._layout.supervisor_socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        os.chmod(path, 0o600)
        self._listener.listen(8)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, listener: object) -> None:
        assert isinstance(listener, socket.socket)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(2.0)
            try:
                request = json.loads(connection.makefile("rb").readline(_LONGEST_COMMAND))
                answer = self._obey(str(request["command"]), str(request.get("name", "")))
            except (OSError, ValueError, KeyError, TypeError) as error:
                answer = {"ok": False, "message": f"bad command: {error}"}
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def _obey(self, command: str, name: str) -> dict[str, Any]:
        if command == "status":
            return {
                "ok": True,
                "daemons": [
                    {
                        "name": daemon.name,
                        "pid": self._children[daemon.name].pid if daemon.name in self._children else None,
                        "ready": daemon.name in self._children and self._children[daemon.name].ready,
                        "address": daemon.address,
                        "log": daemon.log,
                    }
                    for daemon in self._layout.daemons.values()
                ],
            }
        names = [known for known in self._layout.daemons if known == name or known.startswith(f"{name}.")]
        if not names:
            known = ", ".join(self._layout.daemons)
            return {"ok": False, "message": f"there is no {name!r}; a name is a provider or one of {known}"}
        if command == "kill":
            return self._kill(names)
        if command == "start":
            return self._start(names)
        return {"ok": False, "message": f"unknown command {command!r}"}

    def _kill(self, names: list[str]) -> dict[str, Any]:
        running = [name for name in names if name in self._children]
        if not running:
            return {"ok": False, "message": f"{', '.join(names)} does not run"}
        for name in running:
            child = self._children[name]
            child.expected_to_end = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        deadline = time.monotonic() + 2.0
        while any(name in self._children for name in running) and time.monotonic() < deadline:
            time.sleep(0.002)
            self._reap()
        return {"ok": True, "message": f"killed {', '.join(running)}"}

    def _start(self, names: list[str]) -> dict[str, Any]:
        ended = [name for name in names if name not in self._children]
        if not ended:
            return {"ok": False, "message": f"{', '.join(names)} runs already"}
        for name in ended:
            self.start(name)
        return {"ok": True, "message": f"started {', '.join(ended)}"}


def _tail(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            return file.read().decode("utf-8", "replace").splitlines()[-_TAIL:]
    except OSError:
        return []


def tie_to_parent(parent: int) -> None:
    """Be killed when the process *parent*, which must be our parent, ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the parent process has ended")


def _run_world(layout: Layout, ready_fd: int, parent: int) -> int:
    configure_logging()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await tasks.start(World(layout).run)
                os.write(ready_fd, b"ready world\n")
                os.close(ready_fd)
                async for _ in signals:
                    tasks.cancel_scope.cancel()

    try:
        tie_to_parent(parent)
        anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})
    except BaseException:
        logging.getLogger(__name__).exception("the world ended")
        return 1
    return 0


def command(layout: Layout, name: str, target: str = "") -> dict[str, Any]:
    """Give a running supervisor a command and return its answer.

    :param name: ``kill``, ``start`` or ``status``.
    :raises OSError: no supervisor answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10.0)
        connection.connect(layout.supervisor_socket)
        connection.sendall(json.dumps({"command": name, "name": target}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
    return answer


def remove_state(layout: Layout) -> None:
    """Delete the state directory of a lab that has ended, and its sockets."""
    sockets = Path(layout.supervisor_socket).parent
    for directory in (sockets, Path(layout.directory)):
        shutil.rmtree(directory, ignore_errors=True)
