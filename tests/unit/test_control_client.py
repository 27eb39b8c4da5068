"""The control client against daemons that misbehave, on both event loops."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

import mpcore.control.client
from mpcore.control.client import ControlClient, ControlError, ControlUnreachable
from mpcore.control.models import Event
from mpcore.errors import ConfigError, LocalError, NotReadyError

pytestmark = pytest.mark.anyio


@pytest.fixture
def path() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="mp")
    yield Path(directory) / "s"
    shutil.rmtree(directory)


@asynccontextmanager
async def answering(path: Path, *answers: bytes | None) -> AsyncIterator[ControlClient]:
    """A server that reads a request, sends the next answer (the last one again) and closes; ``None``: says nothing."""
    remaining = list(answers)

    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            if answer is None:
                await anyio.sleep_forever()
            else:
                await stream.send(answer)

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield ControlClient(path, timeout=0.2 if None in answers else 10)
        group.cancel_scope.cancel()


def answer(status: int, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(number: int, text: str = "") -> bytes:
    data = Event(id=number, time=1.0, kind="log", data={"text": text}).model_dump_json()
    return f"id: {number}\nevent: log\ndata: {data}\n\n".encode()


async def test_no_socket(path: Path) -> None:
    with pytest.raises(ControlUnreachable, match=f"{path}: no such socket; is the daemon running") as caught:
        await ControlClient(path).status()
    assert caught.value.path == str(path)
    assert isinstance(caught.value, LocalError)


async def test_a_socket_left_over(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(os.fspath(path))
    left.close()
    with pytest.raises(ControlUnreachable, match="left over"):
        await ControlClient(path).status()


@pytest.mark.parametrize("path_text", ["/tmp/" + "x" * 95, "", "a\0b"])
async def test_paths_that_cannot_be(path_text: str) -> None:
    with pytest.raises(ConfigError):
        ControlClient(path_text)


async def test_the_longest_path() -> None:
    assert ControlClient("/tmp/" + "x" * 94).path == "/tmp/" + "x" * 94


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_a_daemon_that_ends_in_the_middle(path: Path, octets: bytes) -> None:
    async with answering(path, octets) as client:
        with pytest.raises(ControlUnreachable):
            await client.status()


@pytest.mark.parametrize(
    "octets",
    [
        answer(200, b"<html>", "text/html"),
        answer(200, b"[]"),
        answer(200, b'{"identity": "a."}'),
        answer(302, b""),
        answer(404, b"<html>"),
        answer(500, b'{"error": "strange", "message": "x"}'),
    ],
)
async def test_something_else_that_listens(path: Path, octets: bytes) -> None:
    async with answering(path, octets) as client:
        with pytest.raises(ControlError, match="does not speak this control API"):
            await client.status()
        if not octets.startswith(b"HTTP/1.1 200"):
            with pytest.raises(ControlError):
                await anext(client.events())


async def test_a_daemon_that_does_not_answer(path: Path) -> None:
    async with answering(path, None) as client:
        with pytest.raises(ControlUnreachable, match=r"no answer within 0\.2 s"):
            await client.peers()
        with pytest.raises(ControlUnreachable, match="no answer"):
            await anext(client.events())


async def test_too_many_connections_is_worth_a_retry(path: Path) -> None:
    async with answering(path, answer(503, b"Service Unavailable", "text/plain")) as client:
        with pytest.raises(NotReadyError):
            await client.zones()


async def test_an_answer_without_end_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcore.control.client, "_MAX_RESPONSE", 1000)
    async with answering(path, answer(200, b" " * 2000)) as client:
        with pytest.raises(ControlError, match="more than 1000 octets"):
            await client.peers()


async def test_an_event_without_end_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcore.control.client, "_MAX_EVENT", 1000)
    async with answering(path, STREAM + event(1, "x" * 2000)[:-1]) as client:
        with pytest.raises(ControlError, match="more than 1000 octets"):
            await anext(client.events())


async def test_members_that_are_new_to_us_are_ignored(path: Path) -> None:
    body = b'[{"identity": "a.", "kind": "agent", "state": "NEW", "since": 1, "mood": "good"}]'
    async with answering(path, answer(200, body)) as client:
        assert (await client.peers())[0].state == "NEW"


async def test_events_cut_anywhere(path: Path) -> None:
    """Comments, unknown fields and carriage returns are skipped; a half event at the end is dropped."""
    octets = STREAM + b": hello\n\n" + event(1) + b"retry: 5\r\n\r\n" + event(2).replace(b"\n", b"\r\n") + event(3)[:-1]
    async with answering(path, octets) as client:
        events = client.events()
        assert [(await anext(events)).id for _ in range(2)] == [1, 2]
        with pytest.raises(ControlUnreachable):
            await anext(events)


async def test_patience_resumes_after_the_last_event(path: Path) -> None:
    requests: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            requests.append(await stream.receive())
            await stream.send(STREAM + event(10 + len(requests)))

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        with anyio.fail_after(10):
            async with aclosing(ControlClient(path).events(7, patience=60)) as events:
                assert [(await anext(events)).id for _ in range(3)] == [11, 12, 13]
        group.cancel_scope.cancel()
    targets = [request.split()[1] for request in requests]
    assert targets == [b"/v1/events?after=7", b"/v1/events?after=11", b"/v1/events?after=12"]


@pytest.mark.parametrize(
    ("call", "target"),
    [
        (lambda client: client.keys("0/25.2.0.192.in-addr.arpa."), b"/v1/zones/0%2F25.2.0.192.in-addr.arpa./keys"),
        (lambda client: client.group("a b?#"), b"/v1/groups/a%20b%3F%23"),
        (lambda client: client.transaction("é\r\n"), b"/v1/transactions/%C3%A9%0D%0A"),
    ],
)
async def test_names_cannot_break_out_of_the_request(
    path: Path, call: Callable[[ControlClient], Awaitable[object]], target: bytes
) -> None:
    requests: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            requests.append(await stream.receive())
            await stream.send(answer(404, b'{"error": "not-found", "message": "x"}'))

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        with pytest.raises(LocalError):
            await call(ControlClient(path))
        group.cancel_scope.cancel()
    assert requests[0].splitlines()[0] == b"GET " + target + b" HTTP/1.1"


def test_the_client_loads_neither_server_nor_cryptography() -> None:
    """Every one-shot command pays for this import."""
    program = "import sys, mpcore.control.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"starlette", "uvicorn", "dns.message", "jwcrypto", "cryptography", "textual", "httpx", "sqlite3", "ssl"}
    assert not unwanted & set(loaded)
