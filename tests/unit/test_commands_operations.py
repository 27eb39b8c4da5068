"""Commands about queue, peers, elections, data and message keys: what they ask of the daemon, and what they show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cockpit.commands import all_commands, find_command
from cockpit.output import ExitCode, Result
from mpcore.control.client import ControlUsageError
from mpcore.control.models import (
    Certificate,
    CertificateKey,
    Diagnosis,
    DiagnosisStep,
    DistributionInfo,
    Election,
    Group,
    MessageKey,
    MessageKeys,
    Peer,
    PeerTransport,
    Purged,
    Queue,
    QueueEntry,
    QueueResult,
    ZoneActionResult,
)
from mpcore.errors import NotFoundError

pytestmark = pytest.mark.anyio

NOW = 1000.0
ENTRY = QueueEntry(
    id="17",
    recipient="agent.bravo.example.",
    type="sync",
    zone="customer.example.",
    distribution_id="6a12f0d0",
    enqueued_at=NOW - 5,
    attempts=2,
    next_attempt=NOW + 3,
    state="waiting",
    last_error="answered REFUSED (rcode 5)",
)
GROUP = Group(
    hash="927d37e33fad5dee",
    name="g",
    members=(),
    voters=(),
    zones=(),
    operational=True,
    rows=(),
    election=Election(phase="voting", term=4),
)


class Client:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def queue(self) -> Queue:
        other = ENTRY.model_copy(update={"id": "18", "recipient": "combiner.alpha.example.", "zone": ""})
        return Queue(messages=(ENTRY, other), paused=("agent.charlie.example.",), capacity=10)

    async def queue_action(self, request: Any) -> QueueResult:
        self.asked.append(request)
        return QueueResult(action=request.action, done=not request.dry_run, message="it is so", effects=("more",))

    async def drain(self, timeout: float) -> Queue:
        self.asked.append(timeout)
        return Queue(messages=(), capacity=10)

    async def distributions(self) -> list[DistributionInfo]:
        def info(state: Any) -> DistributionInfo:
            return DistributionInfo(
                id="6a12f0d0", direction="out", peer="b.", type="beat", zone="", began_at=NOW - 1, state=state
            )

        return [info("confirmed"), info("failed")]

    async def purge_distributions(self, everything: bool) -> Purged:
        self.asked.append(everything)
        return Purged(purged=3, left=1)

    async def reset_peer(self, identity: str) -> Peer:
        self.asked.append(identity)
        return Peer(identity=identity, kind="agent", state="NEEDED", since=NOW)

    async def diagnose(self, identity: str, timeout: float) -> Diagnosis:
        self.asked.append((identity, timeout))
        bad = DiagnosisStep(step="ping", ok=False, detail="no answer", side="theirs", advice="call them")
        steps = (DiagnosisStep(step="HSYNC3", ok=True, detail="fine"), bad, DiagnosisStep(step="x", ok=None, detail=""))
        well = identity == "agent.well.example."
        return Diagnosis(identity=identity, ok=well, verdict="verdict", steps=steps[: 1 if well else 3])

    async def group_action(self, key: str, request: Any) -> Group:
        self.asked.append((key, request.action.value))
        return GROUP

    async def zone_action(self, zone: str, request: Any) -> ZoneActionResult:
        self.asked.append((zone, request.action.value, request.direction))
        return ZoneActionResult(zone=zone, action=request.action, serial=1, message="asked")

    async def message_keys(self) -> MessageKeys:
        key = MessageKey(thumbprint="thumb", jwk={"kty": "EC"}, use="current")
        return MessageKeys(
            identity="a.", keys=(key,), step="prepared", since=NOW - 60, ready_at=NOW + 60, advice="wait"
        )

    async def certificate(self) -> Certificate:
        return Certificate(
            identity="a.",
            owner="_443._tcp.https.a.",
            port=443,
            keys=(CertificateKey(use="current", tlsa="3 1 1 00"), CertificateKey(use="next", tlsa="3 1 1 ff")),
            step="prepared",
            since=NOW - 60,
            ready_at=NOW + 60,
            pem="-----BEGIN\n",
            advice="wait",
        )

    async def certificate_action(self, request: Any) -> Certificate:
        self.asked.append((request.action.value, request.force))
        return await self.certificate()

    async def peers(self) -> list[Peer]:
        ways = (
            PeerTransport(name="dns", address="192.0.2.1 port 53", sent=3, last_acknowledged=NOW - 1, round_trip=0.01),
            PeerTransport(name="https", failures=2, last_error="refused", rests_until=NOW + 4),
            PeerTransport(name="https", unavailable="it does not announce HTTPS"),
        )
        return [
            Peer(identity="b.", kind="agent", state="OPERATIONAL", since=NOW - 9, last_error="lost", transports=ways)
        ]

    async def message_key_action(self, request: Any) -> MessageKeys:
        self.asked.append((request.action.value, request.force))
        return await self.message_keys()


class Session:
    def __init__(self) -> None:
        self.asked_client = Client()
        self.writes = 0

    def client(self, role: str = "agent") -> Client:
        return self.asked_client

    def clock(self) -> float:
        return NOW

    def check_writable(self) -> None:
        self.writes += 1


def shown(result: Result) -> str:
    return json.dumps([str(block) for block in result.blocks])


async def run(session: Session, *words: str, **values: Any) -> Result:
    command = find_command(*words)
    given = {parameter.name: parameter.default for parameter in command.parameters} | values
    assert command.run is not None
    stand_in: Any = session
    return await command.run(stand_in, given)


async def test_queue() -> None:
    session = Session()
    listed = await run(session, "queue", "list", peer="agent.bravo.example.")
    assert [item.id for item in listed.data.messages] == ["17"]
    assert "answered REFUSED" in shown(listed)
    assert "paused: agent.charlie.example." in shown(listed)
    assert (await run(session, "queue", "list", zone="customer.example.")).data.messages == (ENTRY,)
    for verb, values in (
        ("retry", {}),
        ("retry", {"peer": "b."}),
        ("pause", {"peer": "b."}),
        ("resume", {"peer": "b."}),
        ("drop", {"id": "17", "yes": True}),
    ):
        planned = await run(session, "queue", verb, **{**values, "dry_run": True})
        assert session.asked_client.asked[-1].dry_run
        assert "Plan" in shown(planned)
        before = session.writes
        done = await run(session, "queue", verb, **values)
        request = session.asked_client.asked[-1]
        assert (request.action.value, request.dry_run) == (verb, False)
        assert (request.peer, request.id) == (values.get("peer"), values.get("id"))
        assert "more" in shown(done)
        assert session.writes == before + 1
    await run(session, "queue", "drain", timeout=7.0)
    assert session.asked_client.asked[-1] == 7.0


async def test_distributions() -> None:
    session = Session()
    assert len((await run(session, "distribution", "list")).data) == 2
    (failed,) = (await run(session, "distribution", "list", state="failed", peer="b.")).data
    assert failed.state == "failed"
    assert (await run(session, "distribution", "list", peer="c.")).data == []
    assert "3 forgotten" in shown(await run(session, "distribution", "purge", all=True))
    assert session.asked_client.asked == [True]


async def test_peers() -> None:
    session = Session()
    await run(session, "peer", "reset", identity="b.")
    assert session.asked_client.asked == ["b."]
    found = await run(session, "peer", "doctor", identity="b.", timeout=9.0)
    assert found.code is ExitCode.FAILED
    assert "ping: call them" in shown(found)
    assert (await run(session, "peer", "doctor", identity="agent.well.example.")).code is ExitCode.DONE


async def test_elections_data_and_keys() -> None:
    session = Session()
    for verb in ("force", "step-down"):
        assert "phase voting, term 4" in shown(await run(session, "group", "election", verb, group="927d"))
        assert session.asked_client.asked[-1] == ("927d", verb)
    for flags, direction in (
        ({}, "both"),
        ({"push": True}, "push"),
        ({"pull": True}, "pull"),
        ({"both": True}, "both"),
    ):
        await run(session, "zone", "resync", zone="customer.example.", **flags)
        assert session.asked_client.asked[-1] == ("customer.example.", "resync", direction)
    with pytest.raises(ControlUsageError, match="exclude"):
        await run(session, "zone", "resync", zone="customer.example.", push=True, pull=True)
    assert "safe in" in shown(await run(session, "agent", "key", "show"))
    keys = await run(session, "agent", "key", "show", jwks=True)
    assert keys.data == {"keys": [{"kty": "EC"}]}
    for verb in ("prepare", "switch", "finish", "cancel"):
        await run(session, "agent", "key", verb)
        assert session.asked_client.asked[-1] == (verb, False)
    await run(session, "agent", "key", "switch", force=True)
    assert session.asked_client.asked[-1] == ("switch", True)


async def test_certificate() -> None:
    session = Session()
    text = shown(await run(session, "agent", "certificate", "show"))
    for words in ("_443._tcp.https.a.", "3 1 1 ff", "prepared", "safe in"):
        assert words in text
    pem = await run(session, "agent", "certificate", "show", pem=True)
    assert (pem.data, session.writes) == ({"pem": "-----BEGIN\n"}, 0)
    for verb in ("prepare", "switch", "cancel"):
        await run(session, "agent", "certificate", verb)
        assert session.asked_client.asked[-1] == (verb, False)
    await run(session, "agent", "certificate", "switch", force=True)
    assert (session.asked_client.asked[-1], session.writes) == (("switch", True), 4)


async def test_one_peer() -> None:
    session = Session()
    text = shown(await run(session, "peer", "show", identity="B."))
    for words in ("192.0.2.1 port 53", "failed 2x, tried last for 4s: refused", "it does not announce HTTPS", "lost"):
        assert words in text
    with pytest.raises(NotFoundError, match="is not a peer"):
        await run(session, "peer", "show", identity="c.")


def test_commands_that_change_something_say_so() -> None:
    for command in all_commands():
        if command.words[0] in ("queue", "distribution") and command.words[-1] != "list":
            assert command.changes, command.name
