"""The HTTP server of the control API: a Unix socket that is ours alone, and uvicorn on it.

The socket is bound here, in a directory of mode 0700, and open to processes of the same user and of root
(``SO_PEERCRED``, unix(7), checked when a connection is accepted).  There is no other authentication on this socket
and no other listener.  asyncio appears because uvicorn is an asyncio server; this file is one of the two edges where
it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import cast

import anyio
import anyio.abc
import anyio.to_thread
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemons.config import private_directory
from daemons.http.application import control_app
from mpcore.control.client import check_socket_path
from mpcore.control.models import Problem
from mpcore.control.service import ControlService
from mpcore.errors import ConflictError

__all__ = ("bind_control_socket", "serve_control")

_log = logging.getLogger(__name__)

_MAX_HEAD = 16 * 1024
_MAX_CONNECTIONS = 128
_STOP_WITHIN = 3  # seconds for open answers when the daemon stops


def bind_control_socket(path: Path) -> socket.socket:
    """Bind and listen on a Unix socket that only our user (and root) can reach.

    The directory is created with mode 0700 when it is missing, and must have no more than that.  A socket left over
    from a daemon that ended is replaced; one that answers is not.

    :raises ConfigError: the path is too long, or the directory is open to others.
    :raises ConflictError: another process serves on this path.
    :raises OSError: the socket cannot be created.
    """
    check_socket_path(path)
    private_directory(path.parent)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ConflictError(f"{path} exists and is not a socket") from None
            path.unlink()
        else:
            raise ConflictError(f"another process serves on {path}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(path: Path) -> tuple[socket.socket, int]:
    listener = bind_control_socket(path)
    return listener, path.lstat().st_ino


def _remove(path: Path, inode: int) -> None:
    """Remove our socket, unless something else has taken its place."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _peer_uid(transport: asyncio.Transport) -> int:
    connection = transport.get_extra_info("socket")
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return cast(int, uid)


class _CheckedProtocol(H11Protocol):
    """HTTP/1.1 for processes of our user and of root; others are cut off before a request is read."""

    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        uid = _peer_uid(transport)
        if uid not in {os.geteuid(), 0}:
            _log.warning("control connection of user %d refused", uid)
            self._refused = True
            transport.abort()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._refused:
            super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        body = Problem(error="usage", message=msg).model_dump_json().encode()
        head = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn inside our task group: our socket, our signals, no ticking while idle."""

    def __init__(self, config: uvicorn.Config, stopping: anyio.Event, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping, self._on_started = stopping, started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_unix_server(
                lambda: _CheckedProtocol(self.config, self.server_state, self.lifespan.state),
                sock=listener,
                backlog=self.config.backlog,
            )
            for listener in sockets or ()
        ]
        self.started = True
        await self.on_tick(0)
        self._on_started()

    async def main_loop(self) -> None:
        await self._stopping.wait()


async def serve_control(
    service: ControlService,
    path: Path,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control API on a Unix socket until cancelled; asyncio only.

    When cancelled, event streams end, other answers have three seconds to finish, and the socket is removed.

    :raises ConfigError, ConflictError, OSError: as :func:`bind_control_socket`.
    """
    listener, inode = await anyio.to_thread.run_sync(_bind, path)
    closing = anyio.Event()
    config = uvicorn.Config(
        control_app(service, closing=closing),
        http=_CheckedProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEAD,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_WITHIN,
        timeout_keep_alive=5,
    )
    server = _Server(config, closing, task_status.started)

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[listener])

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            try:
                await anyio.sleep_forever()
            finally:
                closing.set()
    finally:
        listener.close()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove, path, inode)
