"""The control API as a client meets it: the real server and the real client over a real Unix socket."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.routing import Route

import daemons.http.server
import daemons.http.stream
from daemons.http import bind_control_socket, openapi_document, serve_control
from mpcore.control.client import ControlClient, ControlError, ControlUnreachable, ControlUsageError
from mpcore.control.events import EventLog
from mpcore.control.models import (
    ChangePlan,
    ChangeRequest,
    Contribution,
    Contributions,
    Diagnosis,
    DiagnosisStep,
    DistributionInfo,
    Election,
    Event,
    Group,
    GroupAction,
    GroupActionRequest,
    Key,
    MessageKey,
    MessageKeyAction,
    MessageKeyRequest,
    MessageKeys,
    Peer,
    PingResult,
    Purged,
    Queue,
    QueueAction,
    QueueEntry,
    QueueRequest,
    QueueResult,
    RecordState,
    Role,
    SdeRecord,
    SdeZone,
    ServedRecord,
    Snapshot,
    Status,
    Transaction,
    TransactionState,
    TsigKeyInfo,
    Wait,
    Zone,
    ZoneAction,
    ZoneActionRequest,
    ZoneActionResult,
    ZoneRecords,
)
from mpcore.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    PolicyError,
    RecordError,
    StoreError,
)

pytestmark = pytest.mark.anyio

RECORD = "www.example.\t300\tIN\tA\t192.0.2.1"
ENTRY = QueueEntry(
    id="17",
    recipient="b.",
    type="sync",
    zone="example.",
    distribution_id="6a12f0d0",
    enqueued_at=1.0,
    attempts=2,
    next_attempt=5.0,
    state="waiting",
)


@pytest.fixture
def anyio_backend() -> Any:
    """The server is uvicorn, which runs on asyncio only."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
def path() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="mp")
    yield Path(directory) / "control" / "s"
    shutil.rmtree(directory)


class FakeService:
    """A service that remembers what it was asked and raises what it is told to."""

    def __init__(self) -> None:
        self.log = EventLog(capacity=8, start=100)
        self.raising: Exception | None = None
        self.asked: list[tuple[object, ...]] = []
        self.begun = anyio.Event()
        self.given_up = anyio.Event()
        self.proceed: anyio.Event | None = None

    def _ask(self, *what: object) -> None:
        self.asked.append(what)
        if self.raising is not None:
            raise self.raising

    def status(self) -> Status:
        self._ask("status")
        return Status(
            identity="agent.alpha.example.",
            role=Role.AGENT,
            provider="alpha",
            version="1",
            pid=1,
            started_at=1.0,
            now=2.5,
            ready=True,
            zones=1,
        )

    def snapshot(self) -> Snapshot:
        return Snapshot(event_id=self.log.last_id, status=self.status(), peers=tuple(self.peers()))

    def peers(self) -> list[Peer]:
        self._ask("peers")
        return [Peer(identity="agent.beta.example.", kind="agent", state="OPERATIONAL", since=1.0)]

    async def ping(self, identity: str, timeout: float) -> PingResult:
        self._ask("ping", identity, timeout)
        if self.proceed is not None:
            self.begun.set()
            try:
                await self.proceed.wait()
            finally:
                self.given_up.set()
        return PingResult(identity=identity, ok=True, round_trip=0.01)

    async def reset_peer(self, identity: str) -> Peer:
        self._ask("reset", identity)
        return self.peers()[0]

    async def diagnose(self, identity: str, timeout: float) -> Diagnosis:
        self._ask("doctor", identity, timeout)
        step = DiagnosisStep(step="URI", ok=False, detail="absent", side="theirs", advice="publish it")
        return Diagnosis(identity=identity, ok=False, verdict="URI: absent", steps=(step,))

    def queue_view(self) -> Queue:
        self._ask("queue")
        return Queue(messages=(ENTRY,), paused=("b.",), capacity=10)

    async def queue_action(self, request: QueueRequest) -> QueueResult:
        self._ask("queue action", request)
        return QueueResult(action=request.action, done=not request.dry_run, message="done", affected=(ENTRY,))

    async def drain(self, timeout: float) -> Queue:
        self._ask("drain", timeout)
        return Queue(messages=(), capacity=10)

    def distributions(self) -> list[DistributionInfo]:
        self._ask("distributions")
        return [
            DistributionInfo(
                id="6a12f0d0", direction="in", peer="b.", type="beat", zone="", began_at=1.0, state="confirmed"
            )
        ]

    def purge_distributions(self, everything: bool) -> Purged:
        self._ask("purge", everything)
        return Purged(purged=2, left=1)

    def message_keys(self) -> MessageKeys:
        self._ask("message keys")
        key = MessageKey(thumbprint="t", jwk={"kty": "EC"}, use="current")
        return MessageKeys(identity="a.", keys=(key,), step="steady", advice="nothing")

    async def message_key_action(self, request: MessageKeyRequest) -> MessageKeys:
        self._ask("message key action", request)
        return self.message_keys()

    async def group_action(self, key: str, request: GroupActionRequest) -> Group:
        self._ask("group action", key, request)
        return self.group(key)

    def groups(self) -> list[Group]:
        self._ask("groups")
        return [self.group("")]

    def group(self, key: str) -> Group:
        self._ask("group", key)
        return Group(
            hash="abc",
            name="g",
            members=("a.",),
            voters=("a.",),
            zones=("example.",),
            operational=True,
            rows=(),
            election=Election(phase="idle", term=3),
        )

    def zones(self) -> list[Zone]:
        self._ask("zones")
        return [Zone(name="example.", state="ready", serial=7)]

    def tsig_keys(self) -> list[TsigKeyInfo]:
        self._ask("tsig-keys")
        return [TsigKeyInfo(name="xfr.alpha.example.", algorithm="hmac-sha256")]

    async def zone_action(self, zone: str, request: ZoneActionRequest) -> ZoneActionResult:
        self._ask("action", zone, request)
        return ZoneActionResult(zone=zone, action=request.action, serial=8, message="done", path="/tmp/example.zone")

    def zone_records(self, zone: str, limit: int) -> ZoneRecords:
        self._ask("records", zone, limit)
        return ZoneRecords(zone=zone, serial=7, records=(ServedRecord(record=RECORD, type="A", origin="owner"),))

    def edits(self, zone: str) -> SdeZone:
        self._ask("edits", zone)
        record = SdeRecord(record=RECORD, type="A", originator="a.", state=RecordState.PENDING, updated_at=1.0)
        return SdeZone(zone=zone, records=(record,))

    def contributions(self, zone: str) -> Contributions:
        self._ask("contributions", zone)
        record = Contribution(record=RECORD, type="A", originator="a.", applied=False, reason="no", received_at=1.0)
        return Contributions(zone=zone, records=(record,))

    def keys(self, zone: str) -> list[Key]:
        self._ask("keys", zone)
        return [Key(zone=zone, key_tag=1, algorithm=13, flags=257, state="active", foreign=False, record="...")]

    def plan(self, zone: str, request: ChangeRequest) -> ChangePlan:
        self._ask("plan", zone, request)
        return ChangePlan(
            zone=zone,
            operation=request.operation,
            record=request.record,
            effective=True,
            recipients=("b.",),
            appliers=(),
            resulting=(),
            command="mpcockpit ...",
        )

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        self._ask("change", zone, request)
        return self._transaction("t/1", zone, request.record)

    def transactions(self) -> list[Transaction]:
        self._ask("transactions")
        return [self._transaction("t/1", "example.", RECORD)]

    def transaction(self, transaction_id: str) -> Transaction:
        self._ask("transaction", transaction_id)
        return self._transaction(transaction_id, "example.", RECORD)

    async def wait(self, transaction_id: str, level: Wait, timeout: float) -> Transaction:
        self._ask("wait", transaction_id, level, timeout)
        return self._transaction(transaction_id, "example.", RECORD)

    def events(self, after: int | None) -> AsyncIterator[Event]:
        self._ask("events", after)
        return self.log.subscribe(after)

    @staticmethod
    def _transaction(name: str, zone: str, record: str) -> Transaction:
        return Transaction(
            id=name,
            zone=zone,
            operation="add",
            record=record,
            state=TransactionState.PENDING,
            reached=Wait.HERE,
            created_at=1.0,
        )


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[FakeService, ControlClient]]:
    service = FakeService()
    async with anyio.create_task_group() as group:
        await group.start(serve_control, service, path)
        yield service, ControlClient(path)
        group.cancel_scope.cancel()


async def raw(path: Path, octets: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send octets as they are; return status, headers and body of the answer."""
    with anyio.fail_after(10):
        async with await anyio.connect_unix(path) as stream:
            await stream.send(octets)
            received = b""
            try:
                while True:
                    received += await stream.receive()
            except anyio.EndOfStream:
                pass
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


async def ask(path: Path, method: str, target: str, body: bytes = b"", *headers: str) -> tuple[int, Any]:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers]
    status, got, text = await raw(path, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    assert got["content-type"] == "application/json"
    return status, json.loads(text)


def mode(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


# -- every operation


async def test_every_operation_arrives_and_returns(path: Path) -> None:
    async with serving(path) as (service, client):
        assert await client.status() == service.status()
        assert await client.snapshot() == service.snapshot()
        assert await client.peers() == service.peers()
        assert await client.groups() == service.groups()
        assert await client.group("ab") == service.group("ab")
        assert await client.zones() == service.zones()
        assert await client.zone_records("example.", 5) == service.zone_records("example.", 5)
        assert await client.edits("example.") == service.edits("example.")
        assert await client.contributions("example.") == service.contributions("example.")
        assert await client.keys("example.") == service.keys("example.")
        assert await client.transactions() == service.transactions()
        pong = await client.ping("agent.beta.example.", 2.5)
        assert (pong.ok, service.asked[-1]) == (True, ("ping", "agent.beta.example.", 2.5))


async def test_plan_and_change_are_told_apart_whatever_dry_run_says(path: Path) -> None:
    async with serving(path) as (service, client):
        plan = await client.plan("example.", ChangeRequest(operation="add", record=RECORD))
        assert (plan.record, service.asked[-1][0]) == (RECORD, "plan")
        done = await client.change("example.", ChangeRequest(operation="add", record=RECORD, dry_run=True))
        assert (done.record, service.asked[-1][0]) == (RECORD, "change")


async def test_wait_passes_level_and_timeout(path: Path) -> None:
    async with serving(path) as (service, client):
        await client.wait("17", Wait.EVERYWHERE, 12.5)
        assert service.asked[-1] == ("wait", "17", Wait.EVERYWHERE, 12.5)


async def test_a_change_answers_202_with_its_place(path: Path) -> None:
    body = ChangeRequest(operation="delete", record=RECORD).model_dump_json().encode()
    head = f"POST /v1/zones/example./changes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
    async with serving(path):
        status, headers, _ = await raw(path, head.encode() + b"\r\n\r\n" + body)
    assert (status, headers["location"]) == (202, "/v1/transactions/t%2F1")


@pytest.mark.parametrize(
    ("given", "asked"),
    [("Example.COM", "example.com."), ("0/25.2.0.192.in-addr.arpa.", "0/25.2.0.192.in-addr.arpa."), (".", ".")],
)
async def test_zone_names_are_normalised(path: Path, given: str, asked: str) -> None:
    async with serving(path) as (service, client):
        await client.keys(given)
        assert service.asked[-1] == ("keys", asked)


async def test_transaction_ids_travel_unharmed(path: Path) -> None:
    async with serving(path) as (_, client):
        assert (await client.transaction("a b%?#1")).id == "a b%?#1"


# -- errors


@pytest.mark.parametrize(
    ("raised", "status", "expected"),
    [
        (PolicyError("nsmgmt is owner"), 403, PolicyError),
        (NotFoundError("no zone"), 404, NotFoundError),
        (ConflictError("already"), 409, ConflictError),
        (NotReadyError("loading"), 503, NotReadyError),
        (TimeoutError("not within 3 s"), 504, TimeoutError),
        (RecordError("bad rdata"), 400, ControlUsageError),
        (StoreError("disk full"), 500, ControlError),
    ],
)
async def test_errors_of_the_service_arrive(
    path: Path, raised: Exception, status: int, expected: type[Exception]
) -> None:
    async with serving(path) as (service, client):
        service.raising = raised
        with pytest.raises(expected, match=str(raised)):
            await client.status()
        with pytest.raises(expected, match=str(raised)):
            await client.change("example.", ChangeRequest(operation="add", record=RECORD))
        with pytest.raises(expected, match=str(raised)):
            await client.ping("a.example.", 1.0)
        with pytest.raises(expected, match=str(raised)):
            await anext(client.events())
        assert (await ask(path, "GET", "/v1/peers"))[0] == status


async def test_an_unexpected_error_shows_no_internals(path: Path) -> None:
    async with serving(path) as (service, client):
        service.raising = KeyError("secret detail")
        with pytest.raises(ControlError, match=r"internal error \(KeyError\)") as caught:
            await client.status()
        assert "secret detail" not in str(caught.value)
        service.raising = None
        assert await client.status()


@pytest.mark.parametrize(
    ("method", "target", "status", "error"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/v1/status/", 404, "not-found"),
        ("GET", "/v1/zones/example./nothing", 404, "not-found"),
        ("POST", "/v1/status", 405, "usage"),
        ("DELETE", "/v1/zones", 405, "usage"),
        ("GET", "/v1/zones/a..b/keys", 400, "usage"),
        ("GET", "/v1/zones/example./records?limit=0", 400, "usage"),
        ("GET", "/v1/zones/example./records?limit=10001", 400, "usage"),
        ("GET", "/v1/zones/example./records?limit=x", 400, "usage"),
        ("POST", "/v1/peers/./ping", 400, "usage"),
        ("POST", "/v1/peers/a.example./ping?timeout=61", 400, "usage"),
        ("POST", "/v1/peers/a.example./ping?timeout=nan", 400, "usage"),
        ("GET", "/v1/transactions/1?wait=forever", 400, "usage"),
        ("GET", "/v1/transactions/1?wait=dns&timeout=-1", 400, "usage"),
        ("GET", "/v1/events?after=x", 400, "usage"),
        ("GET", "/v1/events?after=-1", 400, "usage"),
        ("GET", f"/v1/events?after={'9' * 30}", 400, "usage"),
    ],
)
async def test_requests_that_cannot_be_understood(
    path: Path, method: str, target: str, status: int, error: str
) -> None:
    async with serving(path):
        got, problem = await ask(path, method, target)
    assert (got, problem["error"]) == (status, error)
    assert problem["message"]


@pytest.mark.parametrize(
    ("body", "header", "status"),
    [
        (b"", "", 400),
        (b"{", "", 400),
        (b"[]", "", 400),
        (b'{"operation": "add"}', "", 400),
        (b'{"operation": "burn", "record": "x"}', "", 400),
        (b'{"operation": "add", "record": "x", "dryrun": true}', "", 400),
        (b"\xff\xfe", "", 400),
        (b"operation=add", "Content-Type: application/x-www-form-urlencoded", 415),
        (b'{"operation": "add", "record": "' + b"x" * 70000 + b'"}', "", 413),
    ],
)
async def test_bad_bodies_change_nothing(path: Path, body: bytes, header: str, status: int) -> None:
    async with serving(path) as (service, _):
        got, problem = await ask(path, "POST", "/v1/zones/example./changes", body, *([header] if header else []))
        assert (got, problem["error"]) == (status, "usage")
        assert not service.asked


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\x00\x01\x02\r\n\r\n", id="binary"),
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\n\r\n",  # no Host
        pytest.param(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20000, id="endless head"),
        b"POST /v1/zones/a./changes HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_problem_too(path: Path, octets: bytes) -> None:
    async with serving(path) as (_, client):
        status, headers, body = await raw(path, octets)
        assert (status, headers["content-type"]) == (400, "application/json")
        assert json.loads(body)["error"] == "usage"
        assert await client.status()


# -- clients that go away


async def test_a_waiting_call_ends_with_its_client(path: Path) -> None:
    async with serving(path) as (service, _):
        service.proceed = anyio.Event()
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b"POST /v1/peers/a.example./ping HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            with anyio.fail_after(5):
                await service.begun.wait()
        with anyio.fail_after(5):
            await service.given_up.wait()


async def test_readers_that_disconnect_are_forgotten(path: Path) -> None:
    async with serving(path) as (service, client):
        for _ in range(20):
            service.log.publish("log", "", {}, 1.0)
            async with aclosing(client.events(after=service.log.last_id - 1)) as events:
                await anext(events)
        with anyio.fail_after(5):
            while service.log._waiting:  # noqa: ASYNC110 - the server notices in its own time
                await anyio.sleep(0.01)


async def test_many_requests_leave_nothing_behind(path: Path) -> None:
    async with serving(path) as (service, client):
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(client.status)
        assert len(service.asked) == 40


# -- events


async def test_events_go_on_from_a_snapshot(path: Path) -> None:
    async with serving(path) as (service, client):
        service.log.publish("log", "", {"n": 0}, 1.0)
        snapshot = await client.snapshot()
        service.log.publish("peer", "agent.beta.example.", service.peers()[0], 2.0)
        async with aclosing(client.events(snapshot.event_id)) as events:
            with anyio.fail_after(5):
                first = await anext(events)
                assert (first.id, first.kind) == (102, "peer")
                assert Peer.model_validate(first.data) == service.peers()[0]
                service.log.publish("log", "", {"text": "line\nbreak \u2603"}, 3.0)
                assert (await anext(events)).data == {"text": "line\nbreak \u2603"}


async def test_a_lost_position_gives_a_gap(path: Path) -> None:
    async with serving(path) as (service, client):
        for _ in range(20):
            service.log.publish("log", "", {}, 1.0)
        async with aclosing(client.events(101)) as events:
            with anyio.fail_after(5):
                gap = await anext(events)
        assert (gap.kind, gap.id) == ("gap", 120)


async def test_the_last_event_id_of_a_reconnect_wins(path: Path) -> None:
    async with serving(path) as (service, _):
        for _ in range(3):
            service.log.publish("log", "", {}, 1.0)
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b"GET /v1/events?after=100 HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 102\r\n\r\n")
            received = b""
            with anyio.fail_after(5):
                while b"data:" not in received:
                    received += await stream.receive()
        assert b"text/event-stream" in received
        assert b"id: 103\nevent: log\ndata: {" in received
        assert b"id: 102" not in received


async def test_a_stream_without_events_shows_signs_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons.http.stream, "_KEEP_ALIVE", 0.01)
    async with serving(path), await anyio.connect_unix(path) as stream:
        await stream.send(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        with anyio.fail_after(5):
            while received.count(b": alive\n\n") < 3:
                received += await stream.receive()


async def test_the_reader_resumes_when_the_daemon_comes_back(path: Path) -> None:
    seen: list[tuple[str, int]] = []
    arrived = [anyio.Event(), anyio.Event()]

    async def read(client: ControlClient) -> None:
        async with aclosing(client.events(100, patience=30)) as events:
            async for event in events:
                seen.append((event.kind, event.id))
                arrived[len(seen) - 1].set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as readers:
            async with serving(path) as (service, client):
                service.log.publish("log", "", {}, 1.0)
                readers.start_soon(read, client)
                await arrived[0].wait()
            async with serving(path) as (service, _):
                service.log.publish("log", "", {}, 1.0)
                service.log.publish("log", "", {}, 1.0)
                await arrived[1].wait()
                assert ("events", 101) in service.asked
            readers.cancel_scope.cancel()
    assert seen == [("log", 101), ("log", 102)]


async def test_a_reader_without_patience_learns_that_the_daemon_stopped(path: Path) -> None:
    async with serving(path) as (service, client):
        service.log.publish("log", "", {}, 1.0)
        events = client.events(100)
        await anext(events)
    with pytest.raises(ControlUnreachable, match=str(path)):
        await anext(events)


async def test_a_reader_that_does_not_read_holds_nothing_back(path: Path) -> None:
    async with serving(path) as (service, client), await anyio.connect_unix(path) as stream:
        await stream.send(b"GET /v1/events?after=100 HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive()
        for number in range(400):
            service.log.publish("log", "", {"n": number, "text": "x" * 10_000}, 1.0)
            await checkpoint()
        assert (await client.status()).ready
        received = b""
        with anyio.fail_after(10):
            while b"event: gap" not in received:
                received += await stream.receive()
        assert received.count(b"data:") < 400


# -- socket


async def test_the_socket_is_ours_alone_and_removed_at_the_end(path: Path) -> None:
    async with serving(path):
        assert [mode(path.parent), mode(path)] == [0o700, 0o600]
    assert mode(path) is None


async def test_other_users_are_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(path) as (service, client):
        monkeypatch.setattr(daemons.http.server, "_peer_uid", lambda transport: os.geteuid() + 1)
        with pytest.raises(ControlUnreachable):
            await client.status()
        assert not service.asked
        monkeypatch.setattr(daemons.http.server, "_peer_uid", lambda transport: 0)
        assert await client.status()


async def test_the_peer_is_known_by_its_credentials(path: Path) -> None:
    seen: list[int] = []
    real = daemons.http.server._peer_uid

    def remember(transport: Any) -> int:
        seen.append(real(transport))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemons.http.server, "_peer_uid", remember)
        async with serving(path) as (_, client):
            await client.status()
    assert seen == [os.geteuid()]


def test_a_socket_left_over_is_replaced_and_a_live_one_is_not(path: Path) -> None:
    first = bind_control_socket(path)
    with pytest.raises(ConflictError, match="another process"):
        bind_control_socket(path)
    first.close()
    assert path.exists()
    second = bind_control_socket(path)
    probe = socket.socket(socket.AF_UNIX)
    probe.connect(os.fspath(path))
    probe.close()
    second.close()


def test_a_file_in_the_way_is_kept(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    with pytest.raises(ConflictError, match="not a socket"):
        bind_control_socket(path)
    assert path.read_text() == "precious"


def test_an_open_directory_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        bind_control_socket(path)


def test_a_long_path_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 99 octets"):
        bind_control_socket(path / ("x" * 100))


# -- zone commands


@pytest.mark.parametrize("action", list(ZoneAction))
async def test_a_zone_command_reaches_the_service(path: Path, action: ZoneAction) -> None:
    async with serving(path) as (service, client):
        result = await client.zone_action("0/25.example.", ZoneActionRequest(action=action, force=True))
    assert service.asked == [("action", "0/25.example.", ZoneActionRequest(action=action, force=True))]
    assert (result.action, result.serial, result.path) == (action, 8, "/tmp/example.zone")


async def test_a_zone_command_that_is_none_is_refused(path: Path) -> None:
    async with serving(path) as (service, _):
        for body in (b'{"action": "erase"}', b'{"action": "bump", "forced": true}', b"{}", b"[]"):
            status, problem = await ask(path, "POST", "/v1/zones/example./actions", body)
            assert (status, problem["error"]) == (400, "usage")
    assert service.asked == []


async def test_tsig_keys_are_listed_without_their_secrets(path: Path) -> None:
    async with serving(path) as (_, client):
        assert await client.tsig_keys() == [TsigKeyInfo(name="xfr.alpha.example.", algorithm="hmac-sha256")]


# -- document


async def test_every_route_is_in_the_document_and_back(path: Path) -> None:
    async with serving(path):
        status, document = await ask(path, "GET", "/v1/openapi.json")
    assert status == 200
    assert document == json.loads(json.dumps(openapi_document()))
    routes = {
        (route.path.replace(":path", ""), method.lower())
        for route in daemons.http.control_app(FakeService()).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == {(place, method) for place, item in document["paths"].items() for method in item}


def test_every_reference_in_the_document_resolves() -> None:
    document = openapi_document()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            for part in value.values():
                yield from references(part)
        elif isinstance(value, list):
            for part in value:
                yield from references(part)

    found = set(references(document))
    assert len(found) > 10
    assert {name.removeprefix("#/components/schemas/") for name in found} <= set(document["components"]["schemas"])


# -- operations on queue, peers, groups and keys


async def test_queue_control_reaches_the_service(path: Path) -> None:
    async with serving(path) as (service, client):
        assert (await client.queue()).messages == (ENTRY,)
        for action in QueueAction:
            result = await client.queue_action(QueueRequest(action=action, peer="b.", dry_run=True))
            assert (result.action, result.done, result.affected) == (action, False, (ENTRY,))
            assert service.asked[-1] == ("queue action", QueueRequest(action=action, peer="b.", dry_run=True))
        assert (await client.drain(2.5)).messages == ()
        assert service.asked[-1] == ("drain", 2.5)
        service.raising = TimeoutError("1 messages are left")
        with pytest.raises(TimeoutError, match="1 messages are left"):
            await client.drain(0.1)


async def test_distributions_reach_the_service(path: Path) -> None:
    async with serving(path) as (service, client):
        (listed,) = await client.distributions()
        assert (listed.id, listed.state, listed.mode) == ("6a12f0d0", "confirmed", "edns0")
        for everything in (False, True):
            assert await client.purge_distributions(everything) == Purged(purged=2, left=1)
            assert service.asked[-1] == ("purge", everything)
        status, problem = await ask(path, "POST", "/v1/distributions/purge?everything=all", b"{}")
        assert (status, problem["error"]) == (400, "usage")


async def test_peers_groups_and_keys_reach_the_service(path: Path) -> None:
    async with serving(path) as (service, client):
        assert (await client.reset_peer("agent.beta.example.")).identity == "agent.beta.example."
        assert service.asked[-2:] == [("reset", "agent.beta.example."), ("peers",)]
        found = await client.diagnose("agent.beta.example.", timeout=3)
        assert (found.ok, found.steps[0].side) == (False, "theirs")
        assert service.asked[-1] == ("doctor", "agent.beta.example.", 3.0)
        for action in GroupAction:
            assert (await client.group_action("abc", GroupActionRequest(action=action))).hash == "abc"
            assert service.asked[-2] == ("group action", "abc", GroupActionRequest(action=action))
        assert (await client.message_keys()).step == "steady"
        for step in MessageKeyAction:
            assert (await client.message_key_action(MessageKeyRequest(action=step))).identity == "a."
        status, problem = await ask(path, "POST", "/v1/groups/abc/actions", b'{"action": "crown"}')
        assert (status, problem["error"]) == (400, "usage")
