"""The lab from the outside: start its supervisor, show how it comes up, and leave no process behind.

The supervisor (``python -m daemons.lab run``) prints one JSON object for each event; it and its daemons are killed by
the kernel when this process ends, however it ends.  The kernel ties a child to the *thread* that started it, therefore
the supervisor is started by the main thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from cockpit.output import narrate, printable
from mpcore.errors import LocalError

__all__ = ("LabError", "LabEvent", "LabProcess", "Progress", "ask_lab", "wait_until_up")

LabEvent = dict[str, Any]

_STOP_PATIENCE = 12.0  # the supervisor gives its daemons twice three seconds


class LabError(LocalError):
    """The lab did not come up, or ended.

    :param status: exit status of the supervisor, 2 for a usage or configuration error.
    """

    def __init__(self, message: str, *, status: int = 1) -> None:
        self.status = status
        super().__init__(message)


class LabProcess:
    """A running supervisor.

    :param state_dir: directory of the lab.
    :param options: further arguments of ``daemons.lab run``.
    :raises LabError: it cannot be started.
    """

    def __init__(self, state_dir: Path, options: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._events: queue.SimpleQueue[LabEvent | None] = queue.SimpleQueue()
        command = [sys.executable, "-m", "daemons.lab", "run", "--state-dir", str(state_dir), *options]
        try:
            self._process = subprocess.Popen(
                [*command, "--die-with-parent"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we end the lab in order
                text=True,
            )
        except OSError as error:
            raise LabError(f"the lab cannot be started: {error}") from None
        self._reader = threading.Thread(target=self._read, name="lab events", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self._events.put(event)
        self._events.put(None)

    def next_event(self, timeout: float) -> LabEvent | None:
        """The next event; ``{}`` if there is none within *timeout* seconds, ``None`` after the last one."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return {}

    def pending_events(self) -> Iterator[LabEvent | None]:
        """Events that have arrived; ends with ``None`` when the supervisor has ended."""
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return
            yield event
            if event is None:
                return

    def complaint(self) -> str:
        """The last lines that the supervisor wrote on standard error."""
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode("utf-8", "replace").splitlines()
        return "\n".join(printable(line) for line in lines[-12:])

    def stop(self) -> int:
        """End the lab and wait until nothing of it runs; returns the supervisor's exit status."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            # Its daemons die with it.
            self._process.kill()
            status = self._process.wait()
        self._reader.join(1.0)
        return status

    def __enter__(self) -> LabProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._errors.close()


class Progress:
    """Tells how a lab comes up: a list that is redrawn at a terminal, a line for each event elsewhere.

    :param stream: where to; standard error unless given.
    :param live: redraw; by default when *stream* is a terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = live if live is not None else self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._states: dict[str, str] = {}
        self._drawn = 0

    def event(self, event: LabEvent) -> None:
        """Show one event."""
        name = printable(str(event.get("name", "")))
        match event.get("event"):
            case "planned":
                providers = ", ".join(event["providers"])
                self._say(f"lab in {event['directory']}: zone {event['zone']}, providers {providers}")
            case "started":
                self._change(name, "starting", f"{name} started (pid {event['pid']})")
            case "ready":
                self._change(name, f"ready {event['seconds']:.2f}s", f"{name} ready after {event['seconds']:.2f} s")
            case "exited":
                self._change(name, f"ended ({event['status']})", f"{name} ended with status {event['status']}")
            case "up":
                self._say(f"the lab is up after {event['seconds']:.2f} s")
            case "failed":
                self._say(f"failed: {printable(str(event['message']))}")

    def _say(self, text: str) -> None:
        self._drawn = 0
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _change(self, name: str, state: str, text: str) -> None:
        self._states[name] = state
        if not self._live:
            self._say(text)
            return
        lines = list(self._lines())
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F")
        self._stream.write("".join(f"\x1b[2K{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def _lines(self) -> Iterator[str]:
        """A line for each provider, its daemons beside each other."""
        rows: dict[str, list[str]] = {}
        for name, state in self._states.items():
            provider, _, role = name.partition(".")
            rows.setdefault(provider, []).append(f"{f'{role} {state}':<22}" if role else state)
        for provider, cells in rows.items():
            yield f"  {provider:<9}{''.join(cells)}".rstrip()


def wait_until_up(lab: LabProcess, show: Progress, tell: Any = None) -> None:
    """Show how the lab comes up until it is.

    :param tell: also called with each event.
    :raises LabError: it failed; says what and where the log is.
    """
    failure: LabEvent | None = None
    tail: list[str] = []
    while True:
        event = lab.next_event(1.0)
        if event is None:
            break
        if not event:
            continue
        if tell is not None:
            tell(event)
        if event.get("event") == "exited":
            tail = event.get("tail") or tail
        if event.get("event") == "failed":
            failure = failure or event
            continue
        if failure is None:
            show.event(event)
        if event.get("event") == "up":
            return
    status = lab.stop()
    if failure is None:
        raise LabError(f"the lab's supervisor ended with status {status}\n{lab.complaint()}".strip(), status=status)
    lines = [str(failure["message"])]
    if failure.get("log"):
        lines += [*(f"  | {line}" for line in tail), f"log: {failure['log']}"]
    raise LabError("\n".join(lines), status=status)


def ask_lab(state_dir: Path, words: Sequence[str]) -> int:
    """Pass a command on to a running lab: its output is ours, and its exit code."""
    from cockpit.output import Writer

    command = [sys.executable, "-m", "daemons.lab", *words, "--state-dir", str(state_dir)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    Writer().write(done.stdout)
    for line in done.stderr.splitlines():
        narrate(line)
    return done.returncode
