"""Running a node as a daemon: state directory and lock, logging, signals, readiness, the end.

Two entries.  :func:`run_daemon` is what the console scripts call, and what a preloaded parent calls in a child after
``os.fork``: it creates the first event loop and the first threads of the process, so nothing of the kind may exist
before.  :func:`run` does the same for a node that is constructed by the caller.

Exit statuses: 0 stopped as asked, 1 failed, 2 the configuration cannot be used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import anyio.abc

from daemons.config import ROLES, check_keys, load, private_directory
from mpcore.control.service import ControlService
from mpcore.errors import ConfigError, MpError
from mpcore.node.settings import NodeSettings

__all__ = (
    "LOG_LEVELS",
    "LogFormat",
    "LoopWatch",
    "Node",
    "RunOptions",
    "StateLock",
    "configure_logging",
    "notify_supervisor",
    "preload",
    "run",
    "run_daemon",
)

LogFormat = Literal["text", "json"]

#: What ``log_level`` may be.
LOG_LEVELS = ("debug", "info", "warning", "error")

_log = logging.getLogger(__name__)

_STOP_WITHIN = 10.0  # seconds a node has to stop
_TICK = 0.1  # seconds between looks at the event loop
_SLOW = 0.1  # seconds: a slice longer than this is reported
_REPORT_EVERY = 10.0  # seconds between reports of slow slices
_PR_SET_PDEATHSIG = 1

_NODES = {
    "agent": ("mpcore.node.agent", "AgentNode"),
    "combiner": ("mpcore.node.combiner", "CombinerNode"),
    "signer": ("mpcore.node.signer", "SignerNode"),
}


class Node(Protocol):
    """What is run: a role of :mod:`mpcore.node`."""

    service: ControlService

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run until cancelled; ``task_status.started()`` when peers are answered."""
        ...


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a daemon is run, apart from its configuration.

    :param log_format: one line of text or one JSON object for each message, on standard error.
    :param log_level: ``debug``, ``info``, ``warning`` or ``error``.
    :param ready_fd: a file descriptor; one line is written to it when the daemon is ready, then it is closed.
        Its end without a line means that the start failed.
    :param die_with_parent: end at once when the parent process ends (Linux).
    :param parent_pid: the parent, where the caller knows it: closes the gap before ``die_with_parent`` is in force.
    """

    log_format: LogFormat = "text"
    log_level: str = "info"
    ready_fd: int | None = None
    die_with_parent: bool = False
    parent_pid: int | None = None


class _StartError(MpError):
    """The daemon cannot start here."""


_DEFAULTS = RunOptions()


def run_daemon(role: str, config_path: str | os.PathLike[str], options: RunOptions = _DEFAULTS) -> int:
    """Run a role from its configuration file until SIGTERM or SIGINT.

    :param role: ``agent``, ``combiner`` or ``signer``.
    :returns: the exit status; what went wrong is on standard error.
    """
    ready = _ReadyLine(options.ready_fd)
    try:
        _tie_to_parent(options)
        configure_logging(options.log_format, options.log_level)
        loaded = load(config_path, ROLES[role])
        check_keys(loaded)
        module, name = _NODES[role]
        node_class = getattr(importlib.import_module(module), name)
        runtime_class = importlib.import_module("mpcore.node.runtime").Runtime
    except Exception as error:
        ready.close()
        return _failed(f"mp{role}", error)
    return _run(lambda given: node_class(given, runtime_class.production()), loaded.settings, ready)


def run(factory: Callable[[Any], Node], settings: NodeSettings, options: RunOptions = _DEFAULTS) -> int:
    """Run the node that *factory* makes of *settings* until SIGTERM or SIGINT.

    *factory* is called in the event loop, when the state directory is ours.

    :returns: the exit status; what went wrong is on standard error.
    """
    return _run(factory, settings, _ReadyLine(options.ready_fd))


def _run(factory: Callable[[Any], Node], settings: NodeSettings, ready: _ReadyLine) -> int:
    name = f"mp{getattr(settings, 'role', 'node')}"
    try:
        with StateLock(settings.state_dir, name):
            anyio.run(_main, factory, settings, ready, backend="asyncio", backend_options=_loop_options())
    except BaseException as error:
        return _failed(name, error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ready.close()
    return 0


def preload(roles: Sequence[str] = tuple(_NODES)) -> None:
    """Import what the daemons need and freeze it, in a parent that will fork them: they start sooner and share it."""
    for role in roles:
        importlib.import_module(_NODES[role][0])
    for module in ("daemons.http", "mpcore.node.runtime", "anyio._backends._asyncio", "uvloop"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()


async def _main(factory: Callable[[Any], Node], settings: NodeSettings, ready: _ReadyLine) -> None:
    from daemons.http import serve_control  # starlette and uvicorn, only where they are needed

    watch = LoopWatch()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(_until_signal, signals, group.cancel_scope)
            group.start_soon(watch.run)
            node = factory(settings)
            await group.start(_serve, serve_control, node, settings)
            await group.start(_run_node, node)
            _log.info("%s %s is ready", getattr(settings, "role", "node"), settings.identity)
            ready.write(settings.identity)
            notify_supervisor("READY=1")
    _log.info("stopped; longest slice of the event loop %.0f ms", watch.longest * 1000)


async def _run_node(node: Node, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await node.run(task_status=task_status)
    raise _StartError("the node ended by itself")


async def _serve(
    serve: Callable[..., Any], node: Node, settings: NodeSettings, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    await serve(node.service, settings.control_socket, task_status=task_status)


async def _until_signal(signals: Any, scope: anyio.CancelScope) -> None:
    async for number in signals:
        if number == signal.SIGHUP:
            _log.warning("SIGHUP does nothing: the configuration is read at the start; restart to apply changes")
            continue
        _log.info("%s: stopping", signal.Signals(number).name)
        notify_supervisor("STOPPING=1")
        # Whatever hangs now is ended by the alarm, or by a second signal.
        for last in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(last, _end_now)
        signal.setitimer(signal.ITIMER_REAL, _STOP_WITHIN)
        scope.cancel()
        return


def _end_now(number: int, frame: object) -> None:
    reason = f"not stopped after {_STOP_WITHIN:g} s" if number == signal.SIGALRM else "told twice to stop"
    _complain(f"{reason}: ended at once")
    os._exit(1)


def _loop_options() -> dict[str, Any]:
    try:
        import uvloop
    except ImportError:
        return {}
    return {"loop_factory": uvloop.new_event_loop}


# ---------------------------------------------------------------------------------------------------------------------
# State


class StateLock:
    """The state directory, created with mode 0700 and held by one process at a time.

    A context manager; the lock is a ``flock(2)`` on the file ``lock`` in the directory and ends with the process.

    :param directory: the state directory.
    :param holder: name of the program, for the message of the second instance.
    """

    def __init__(self, directory: Path, holder: str) -> None:
        self._directory, self._holder = directory, holder
        self._descriptor = -1

    def __enter__(self) -> StateLock:
        """Take the lock; :raises ConfigError: the directory is unusable; :raises MpError: another process has it."""
        private_directory(self._directory)
        path = self._directory / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            self._close()
            message = f"another {self._holder} (process {pid}) is using {self._directory}"
            raise _StartError(message) from None
        except OSError as error:
            self._close()
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


# ---------------------------------------------------------------------------------------------------------------------
# Failure


def _failed(name: str, error: BaseException) -> int:
    """Say on one line why the daemon ends; return its exit status."""
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    if isinstance(leaf, KeyboardInterrupt):
        return 1
    if not isinstance(leaf, MpError | OSError):
        _log.critical("internal error", exc_info=error)
    in_file = isinstance(leaf, ConfigError) and leaf.file  # then every line begins with file and line
    _complain(_reason(leaf) if in_file else f"{name}: {_reason(leaf)}")
    return 2 if isinstance(leaf, ConfigError) else 1


def _reason(error: BaseException) -> str:
    if isinstance(error, MpError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"cannot listen: {error}"
    if isinstance(error, OSError):
        return str(error)
    return f"internal error: {type(error).__name__}: {error}"


def _complain(message: str) -> None:
    if any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers):
        _log.critical("%s", message)
        return
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


# ---------------------------------------------------------------------------------------------------------------------
# Parent and supervisor


def _tie_to_parent(options: RunOptions) -> None:
    if not options.die_with_parent:
        return
    import ctypes  # costs 10 ms, and only the lab asks for this

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise ConfigError(f"--die-with-parent: {os.strerror(ctypes.get_errno())}")
    if options.parent_pid is not None and os.getppid() != options.parent_pid:
        raise ConfigError("the parent process has ended")


class _ReadyLine:
    """The file descriptor on which readiness is reported, once."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def write(self, identity: str) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"ready {identity}\n".encode())
            self.close()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def notify_supervisor(state: str) -> bool:
    """Tell systemd, where it asked to be told (sd_notify(3)): ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            _log.warning("the supervisor at %s was not told %s: %s", address, state, error)
            return False
    return True


class LoopWatch:
    """Watches how late the event loop is: its longest slice, in seconds, is :attr:`longest`.

    A timer is due every tenth of a second; its delay is a lower bound of the slice that held it up.  Slices of more
    than a tenth of a second are logged, at most every ten seconds.  Where systemd's watchdog is on
    (``WATCHDOG_USEC``), it is fed from here: a loop that hangs is restarted.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.slow = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        feed_every = self._watchdog_interval()
        fed_at = reported_at = -_REPORT_EVERY
        worst = 0.0
        due = anyio.current_time() + _TICK
        while True:
            await anyio.sleep_until(due)
            now = anyio.current_time()
            late = now - due
            due = now + _TICK
            self.longest = max(self.longest, late)
            if late > _SLOW:
                self.slow += 1
                worst = max(worst, late)
            if worst and now - reported_at >= _REPORT_EVERY:
                _log.warning("the event loop was held up for %.0f ms", worst * 1000)
                reported_at, worst = now, 0.0
            if feed_every is not None and now - fed_at >= feed_every:
                notify_supervisor("WATCHDOG=1")
                fed_at = now

    @staticmethod
    def _watchdog_interval() -> float | None:
        wanted, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        if not wanted.isdigit() or (pid and pid != str(os.getpid())):
            return None
        return int(wanted) / 2e6


# ---------------------------------------------------------------------------------------------------------------------
# Logging


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_utc(record.created)} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _utc(at: float) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{seconds}.{int(at % 1 * 1000):03d}Z"


def configure_logging(log_format: LogFormat = "text", level: str = "info") -> None:
    """Send log messages to standard error, replacing what was set up before.

    :param level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
