"""Nodes of this project against the deployed implementation, played from recordings of it.

What it said then is sent again, octet for octet, with the keys and at the time of then; what our nodes answer is held
against what its own nodes answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from mpcore.control.models import ChangeRequest, Wait
from mpcore.sim.network import SimNetwork
from mpcore.wire import frame
from mpcore.wire.messages import Confirm, Edits, KeyState, Message, StatusUpdate, Sync, Update, rfc3339
from mpcore.wire.seal import unseal
from tests.interop.recorded import EPOCH, KEYS, FixedVotes, GoAgent, Recorded, chunks, find, zone
from tests.node_world import Sent, World, build

pytestmark = pytest.mark.anyio

ZONE = "example.com."
ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."
GROUP = "927d37e33fad5dee"  #: of agent.alpha and agent.bravo, as recorded
VOTES = {ALPHA: 3077578263, BRAVO: 2446257253}

#: What is told in other words, made anew for each message, or a matter of the moment.
LOOSE = {"message", "timestamp", "Time", "Message"}


def firm(body: dict[str, Any], *loose: str) -> dict[str, Any]:
    """A message without what may differ; empty lists count as absent, as they do on the wire."""
    return {
        name: value
        for name, value in body.items()
        if name not in LOOSE and name not in loose and name != "tlsa" and value not in ([], {}, None, "", 0)
    }


def spoken(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(message.to_json())
    return body


@dataclass
class Scene:
    """One of our nodes where a Go node was, and the others played."""

    world: World
    node: Any
    peer: GoAgent


@asynccontextmanager
async def infrastructure(directory: Path, role: str, label: str, when: float, *zones: Any) -> AsyncIterator[Scene]:
    """Our combiner or signer, with its Go agent played."""
    world = World(
        directory, SimNetwork(), keys=KEYS, epoch=when, customers=zones or (zone("customer zone at the owner"),)
    )
    async with world.open():
        provider = world.providers[label]
        agent = GoAgent(world, provider.identity("agent"), provider.address("agent"))
        await agent.serve()
        if role == "signer":
            await world.start("combiner", label)
        node = await world.start(role, label)
        await world.until(lambda: node.status().ready, what="the zone is loaded")
        yield Scene(world, node, agent)


@asynccontextmanager
async def agents(directory: Path, label: str, when: float, **world_changes: Any) -> AsyncIterator[Scene]:
    """Our provider *label*, whole, with the other provider's Go agent played."""
    world = World(
        directory,
        SimNetwork(),
        keys=KEYS,
        epoch=when,
        customers=world_changes.pop("customers", (zone("customer zone at the owner"),)),
        **world_changes,
    )
    async with world.open():
        other = world.providers["bravo" if label == "alpha" else "alpha"]
        peer = GoAgent(world, other.identity("agent"), other.address("agent"))
        await peer.serve()
        await world.start("combiner", label)
        await world.start("signer", label)
        identity = world.providers[label].identity("agent")
        clock = world.runtime(world.providers[label].address("agent")).clock
        node = await world.start("agent", label, runtime={"random": FixedVotes(VOTES[identity]), "clock": clock})
        await world.until(lambda: node.status().ready and peer.identity in node._ready_peers, what="it is greeted")
        yield Scene(world, node, peer)


# ------------------------------------------------------------------------------------------------ inline answers


@pytest.mark.parametrize(
    "response",
    find("response"),
    ids=lambda message: f"{message.sender.split('.')[0]}-{message.distribution_id}",
)
async def test_inline_answers_are_those_recorded(tmp_path: Path, response: Recorded) -> None:
    """Each recorded request whose answer was recorded: our node gives the same answer."""
    role, label, _ = response.sender.split(".", 2)
    (request,) = find(
        "request", sender=response.receiver, receiver=response.sender, distribution_id=response.distribution_id
    )
    async with infrastructure(tmp_path, role, label, request.time) as scene:
        sent = await scene.peer.replay(request, scene.node)
        assert sent.rcode == 0
        assert sent.answer is not None
        ours: dict[str, Any] = json.loads(sent.answer.to_json())
        assert firm(ours) == firm(response.body)
        assert response.body.keys() - ours.keys() <= {"message"}
        assert ours.keys() - response.body.keys() <= {"message", "timestamp"}
        if "timestamp" in response.body:
            assert abs(ours["timestamp"] - response.body["timestamp"]) <= 2


# --------------------------------------------------------------------------------------------------------- combiner


def targets(notice: dict[str, Any]) -> list[str]:
    return sorted(record.split("\t")[4] for record in notice["NSRecords"])


def confirmation_of(update: Recorded) -> Recorded | None:
    found = find(
        "request",
        type="confirm",
        sender=update.receiver,
        receiver=update.sender,
        distribution_id=update.distribution_id,
    )
    return found[0] if found else None


async def test_our_combiner_confirms_the_recorded_updates_as_recorded(tmp_path: Path) -> None:
    """Bravo's combiner, all recorded updates of example.com. in their order; the notices of changes, too."""
    updates = find("request", type="update", receiver="combiner.bravo.example.")
    assert len(updates) == 3
    async with infrastructure(tmp_path, "combiner", "bravo", updates[0].time) as scene:
        for update in updates:
            assert (await scene.peer.replay(update, scene.node)).positive
            await scene.world.until(
                lambda update=update: any(
                    item.distribution_id == update.distribution_id for item in scene.peer.of_type(Confirm)
                )
            )
            (ours,) = [item for item in scene.peer.of_type(Confirm) if item.distribution_id == update.distribution_id]
            recorded = confirmation_of(update)
            if recorded is not None:
                assert firm(spoken(ours)) == firm(recorded.body)
                assert spoken(ours).keys() == recorded.body.keys()
            else:  # the DNSKEY set: all three were applied (as the recording's log has it)
                assert ours.status == "SUCCESS"
                assert ours.applied_records == update.body["operations"][0]["records"]
            assert ours.nonce == update.body["nonce"]
        notices = find("request", type="status-update", sender="combiner.bravo.example.")
        await scene.world.until(lambda: len(scene.peer.of_type(StatusUpdate)) >= 3)
        ours_told = [spoken(item) for item in scene.peer.of_type(StatusUpdate)]
        for recorded_notice, told in zip(notices, ours_told, strict=False):
            assert told["SubType"] == recorded_notice.body["SubType"] == "ns-changed"
            # The recording names them in no fixed order, and with different TTLs in one RRset; ours has one (RFC 2181).
            assert targets(told) == targets(recorded_notice.body)
        assert ours_told[2]["SubType"] == "ksk-changed"


async def test_our_combiner_and_alphas_updates(tmp_path: Path) -> None:
    """Additions, other authors' sets, four sets in one message, and the combiner's own data sent back to it."""
    owner = zone("customer zone at the owner"), zone("customer zone with auditor")
    updates = find("request", type="update", receiver="combiner.alpha.example.")
    async with infrastructure(tmp_path, "combiner", "alpha", updates[0].time, *owner) as scene:
        for update in updates:
            sent = await scene.peer.replay(update, scene.node)
            assert sent.answer is not None
            assert sent.answer.status == "pending"
            found = await scene.world.until(
                lambda update=update: [
                    item for item in scene.peer.of_type(Confirm) if item.distribution_id == update.distribution_id
                ]
            )
            assert [item.nonce for item in found] == [update.body["nonce"]]
            recorded = confirmation_of(update)
            if recorded is not None:
                assert firm(spoken(found[0])) == firm(recorded.body)
        kept = {(item.originator, item.record) for item in scene.node.contributions(ZONE).records}
        assert (ALPHA, f"{ZONE}\t3600\tIN\tNS\tns2.alpha.example.") in kept
        assert sum(author == BRAVO for author, _ in kept) == 3
        # the same set again is confirmed with the whole set
        resync = next(update for update in updates if len(update.body["operations"]) == 4)
        (confirm,) = [item for item in scene.peer.of_type(Confirm) if item.distribution_id == resync.distribution_id]
        assert confirm.status == "SUCCESS"
        assert confirm.applied_records == [f"{ZONE}\t3600\tIN\tNS\tns2.alpha.example."]


@pytest.mark.parametrize(
    "recorded",
    find("request", type="confirm", subtype="IGNORED", sender="combiner.bravo.example."),
    ids=lambda message: message.distribution_id,
)
async def test_our_combiner_ignores_what_it_may_not_publish(tmp_path: Path, recorded: Recorded) -> None:
    """The zone is signed, and not by us: stored and reported as ignored, in the recorded words."""
    owner = build(
        "example.org.",
        [
            ("example.org.", "NS", ["ns1.alpha.example.", "ns1.bravo.example."]),
            ("example.org.", "TYPE65285", [r"\# 31 0106616c7068612e056167656e7405616c706861076578616d706c6500012e"]),
            ("example.org.", "TYPE65285", [r"\# 31 0106627261766f2e056167656e7405627261766f076578616d706c6500012e"]),
            (
                "example.org.",
                "TYPE65286",
                [r"\# 34 000000010200010001010002000b616c7068612c627261766f00030005616c706861"],
            ),
        ],
    )
    records = recorded.body["ignored_records"]
    author = ALPHA if len(records) == 3 or "alpha" in records[0] else BRAVO
    async with infrastructure(tmp_path, "combiner", "bravo", recorded.time, owner) as scene:
        body = {
            "MessageType": "update",
            "OriginatorID": author,
            "YourIdentity": scene.node.identity,
            "Zone": "example.org.",
            "operations": [{"operation": "replace", "rrtype": records[0].split("\t")[3], "records": records}],
            "Time": rfc3339(recorded.time),
            "RfiType": "",
            "nonce": recorded.body["nonce"],
        }
        before = scene.node.zone_records("example.org.", 1000)
        assert (await scene.peer.send(json.dumps(body).encode(), scene.node, recorded.distribution_id)).positive
        (ours,) = await scene.world.until(lambda: scene.peer.of_type(Confirm))
        assert firm(spoken(ours)) == firm(recorded.body)
        assert scene.node.zone_records("example.org.", 1000) == before
        assert sorted(item.record for item in scene.node.contributions("example.org.").records) == sorted(records)


async def test_our_combiner_tells_what_it_keeps(tmp_path: Path) -> None:
    """rfi EDITS: the answer is a message of its own; empty as recorded, and with all authors later."""
    owner = zone("customer zone at the owner"), zone("customer zone with auditor")
    requests = find("request", subtype="EDITS", receiver="combiner.alpha.example.")
    answers = find("request", type="edits", sender="combiner.alpha.example.")
    update = find("request", type="update", receiver="combiner.alpha.example.")[0]
    async with infrastructure(tmp_path, "combiner", "alpha", EPOCH, *owner) as scene:
        for request, recorded in zip(requests, answers, strict=True):
            assert (await scene.peer.replay(request, scene.node)).positive
            ours = await scene.world.until(
                lambda request=request: [item for item in scene.peer.of_type(Edits) if item.zone == request.zone]
            )
            assert firm(spoken(ours[0])) == firm(recorded.body)
            assert spoken(ours[0]).keys() == recorded.body.keys()
        assert (await scene.peer.replay(update, scene.node)).positive
        again = json.dumps({**requests[0].body, "Time": rfc3339(scene.peer.clock.now())}).encode()
        assert (await scene.peer.send(again, scene.node)).positive
        edits = await scene.world.until(lambda: [item for item in scene.peer.of_type(Edits) if item.agent_records])
        assert edits[0].agent_records == {ALPHA: {ZONE: update.body["operations"][0]["records"]}}


# ----------------------------------------------------------------------------------------------------------- signer


async def test_our_signer_tells_its_keys(tmp_path: Path) -> None:
    """rfi KEYSTATE as recorded: an inventory of the recorded shape, one active KSK and ZSK."""
    request = find("request", subtype="KEYSTATE", receiver="signer.alpha.example.")[0]
    recorded = find("request", subtype="inventory", sender="signer.alpha.example.")[0]
    async with infrastructure(tmp_path, "signer", "alpha", request.time) as scene:
        scene.peer.received.clear()
        assert (await scene.peer.replay(request, scene.node)).positive
        (ours,) = await scene.world.until(lambda: scene.peer.of_type(KeyState))
        assert firm(spoken(ours), "KeyInventory") == firm(recorded.body, "KeyInventory")
        assert spoken(ours).keys() == recorded.body.keys()
        mine, theirs = spoken(ours)["KeyInventory"], recorded.body["KeyInventory"]
        assert sorted((entry["flags"], entry["state"]) for entry in mine) == sorted(
            (entry["flags"], entry["state"]) for entry in theirs
        )
        assert {frozenset(entry) for entry in mine} == {frozenset(entry) for entry in theirs}
        for entry in mine:
            fields = entry["keyrr"].split("\t")
            assert fields[:4] == [ZONE, "3600", "IN", "DNSKEY"]
            assert fields[4].split(" ")[0] == str(entry["flags"])


async def test_our_signer_takes_the_signals_of_a_go_agent(tmp_path: Path) -> None:
    """Recorded ``propagated`` for keys that are not ours change nothing; for ours they publish it, with algorithm 0."""
    signals = find("request", subtype="propagated", receiver="signer.alpha.example.")
    async with infrastructure(tmp_path, "signer", "alpha", signals[0].time) as scene:
        before = scene.node.keys(ZONE)
        for signal in signals:
            assert (await scene.peer.replay(signal, scene.node)).positive
        assert scene.node.keys(ZONE) == before
        machine = scene.node._zones[zone("customer zone at the owner").origin].keys
        await scene.node.perform(ZONE, machine.add_key(False, scene.peer.clock.now()))
        (tag,) = [key.key_tag for key in scene.node.keys(ZONE) if key.state == "mpdist"]
        body = {**signals[0].body, "KeyTag": tag}
        assert (await scene.peer.send(json.dumps(body).encode(), scene.node)).positive
        assert [key.state for key in scene.node.keys(ZONE) if key.key_tag == tag] == ["published"]


# ------------------------------------------------------------------------------------------------------------ agents


async def test_a_go_agent_that_does_not_know_us_yet(tmp_path: Path) -> None:
    """Without our key it leaves greetings unanswered; we go on, and are greeted and beaten as with anybody."""
    world = World(tmp_path, SimNetwork(), keys=KEYS, epoch=EPOCH, customers=(zone("customer zone at the owner"),))
    async with world.open():
        alpha = GoAgent(world, ALPHA, world.providers["alpha"].address("agent"))
        silent, acknowledge = [True], alpha.answer

        async def answer(received: Any) -> Any:
            return None if silent[0] else await acknowledge(received)

        alpha.answer = answer
        await alpha.serve()
        node, _, _ = await world.start_provider("bravo")
        await world.until(lambda: len([item for item in alpha.received if item.message.TYPE == "hello"]) >= 2, 60)
        assert node.peer(ALPHA).state == "KNOWN"
        silent[0] = False
        await world.until(lambda: node.peer(ALPHA).state == "OPERATIONAL", 60)


async def test_recorded_greetings(tmp_path: Path) -> None:
    """A Go hello with its junk, and beats with interval 0 and empty gossip: answered as recorded."""
    hello = find("request", type="hello", receiver=ALPHA)[0]
    async with agents(tmp_path, "alpha", hello.time) as scene:
        sent = await scene.peer.replay(hello, scene.node)
        assert sent.answer is not None
        assert firm(json.loads(sent.answer.to_json())) == {
            "type": "confirm",
            "distribution_id": hello.distribution_id,
            "status": "ok",
        }
        sent = await scene.peer.beat(scene.node, [scene.peer.element(GROUP, {})])
        assert sent.answer is not None
        assert sent.answer.gossip is not None
        (element,) = json.loads(sent.answer.to_json())["Gossip"]
        assert element["group_hash"] == GROUP
        assert all(row is not None for row in element["members"].values())
        assert element["election"]["leader_expiry"] == "0001-01-01T00:00:00Z"
        assert element["group_name"]["proposed_at"] == "0001-01-01T00:00:00Z"
        assert scene.node.peer(BRAVO).state == "OPERATIONAL"


async def complete_matrix(scene: Scene) -> None:
    """Let the Go agent beat until both rows say OPERATIONAL about the other."""
    me, other = scene.node.identity, scene.peer.identity
    await scene.peer.beat(scene.node, [scene.peer.element(GROUP, {})])
    await scene.world.until(lambda: scene.node.peer(other).state == "OPERATIONAL")
    await scene.peer.beat(scene.node, [scene.peer.element(GROUP, {other: scene.peer.row({me: "OPERATIONAL"})})])
    await scene.world.until(lambda: scene.node.groups()[0].operational, what="the matrix is complete")


def elections(scene: Scene, kind: str) -> list[dict[str, Any]]:
    return scene.peer.bodies(lambda body: body.get("RfiType") == kind)


async def test_our_vote_and_confirmation_are_those_recorded(tmp_path: Path) -> None:
    """Called by the recorded ELECT-CALL, bravo says octet for octet what the Go agent said with this vote."""
    (call,) = [item for item in find("request", subtype="ELECT-CALL", receiver=BRAVO) if item.zone == ZONE]
    (confirm,) = find("request", subtype="ELECT-CONFIRM", sender=ALPHA, receiver=BRAVO)
    recorded = {
        kind: next(item for item in find("request", subtype=kind, sender=BRAVO, receiver=ALPHA) if item.zone == ZONE)
        for kind in ("ELECT-VOTE", "ELECT-CONFIRM")
    }
    async with agents(tmp_path, "bravo", call.time) as scene:
        await complete_matrix(scene)
        start = anyio.current_time()
        assert (await scene.peer.replay(call, scene.node)).positive
        for kind, message in recorded.items():
            ours = await scene.world.until(lambda kind=kind: elections(scene, kind), what=kind)
            assert firm(ours[0]) == firm(message.body)
        assert (await scene.peer.replay(confirm, scene.node)).positive
        await scene.world.until(lambda: scene.world.leaders() == {ALPHA}, 5, "alpha leads")
        assert anyio.current_time() - start < 5
        election = scene.node.groups()[0].election
        assert election.term == 1
        assert abs(election.leader_expires - scene.peer.clock.now() - 3600) < 5


@pytest.mark.parametrize("order", [("ELECT-VOTE", "ELECT-CONFIRM"), ("ELECT-CONFIRM", "ELECT-VOTE")])
async def test_we_call_and_a_go_agent_answers_in_either_order(tmp_path: Path, order: tuple[str, str]) -> None:
    """The recorded VOTE and CONFIRM come on two connections; a Go caller takes 5 s when the CONFIRM is first."""
    (vote,) = [item for item in find("request", subtype="ELECT-VOTE", receiver=ALPHA) if item.zone == ZONE]
    (confirm,) = find("request", subtype="ELECT-CONFIRM", receiver=ALPHA)
    messages = {"ELECT-VOTE": vote, "ELECT-CONFIRM": confirm}
    (recorded_call,) = [item for item in find("request", subtype="ELECT-CALL", receiver=BRAVO) if item.zone == ZONE]
    async with agents(tmp_path, "alpha", vote.time) as scene:
        await complete_matrix(scene)
        calls = await scene.world.until(lambda: elections(scene, "ELECT-CALL"), what="the call")
        assert firm(calls[0]) == firm(recorded_call.body)
        start = anyio.current_time()
        for kind in order:
            assert (await scene.peer.replay(messages[kind], scene.node)).positive
        await scene.world.until(lambda: scene.world.leaders() == {ALPHA}, 5, "alpha leads")
        assert anyio.current_time() - start < 4
        confirms = await scene.world.until(lambda: elections(scene, "ELECT-CONFIRM"))
        assert confirms[0]["records"] == confirm.body["records"]


async def test_a_go_agent_with_another_winner_does_not_elect(tmp_path: Path) -> None:
    """Confirms must be equal: a contradiction ends the round, and nobody leads by it."""
    (call,) = [item for item in find("request", subtype="ELECT-CALL", receiver=BRAVO) if item.zone == ZONE]
    async with agents(tmp_path, "bravo", call.time) as scene:
        await complete_matrix(scene)
        assert (await scene.peer.replay(call, scene.node)).positive
        body = {
            "MessageType": "rfi",
            "OriginatorID": ALPHA,
            "YourIdentity": BRAVO,
            "Zone": ZONE,
            "records": {"_group": [GROUP], "_term": ["1"], "_winner": [BRAVO]},
            "Time": scene.peer.now(),
            "RfiType": "ELECT-CONFIRM",
        }
        assert (await scene.peer.send(json.dumps(body).encode(), scene.node)).positive
        await anyio.sleep(1)
        assert scene.world.leaders() == {None}


async def finals(scene: Scene, distribution_id: str) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        return scene.peer.bodies(
            lambda body: (
                body.get("type") == "confirm"
                and body["distribution_id"] == distribution_id
                and body["status"] != "PENDING"
            )
        )

    return list(await scene.world.until(found, what=f"the final CONFIRM of {distribution_id}"))


async def test_a_recorded_sync_is_confirmed_twice(tmp_path: Path) -> None:
    """NS from alpha: inline ok, PENDING with its nonce, an UPDATE to our combiner, the final CONFIRM without nonce."""
    sync = next(item for item in find("request", type="sync", sender=ALPHA, receiver=BRAVO))
    async with agents(tmp_path, "bravo", sync.time) as scene:
        combiner = scene.world.node("combiner", "bravo")
        sent = await scene.peer.replay(sync, scene.node)
        assert sent.answer is not None
        assert (sent.answer.type, sent.answer.status, sent.answer.distribution_id) == (
            "confirm",
            "ok",
            sync.distribution_id,
        )
        (final,) = await finals(scene, sync.distribution_id)
        records = sync.body["operations"][0]["records"]
        assert firm(final) == {
            "type": "confirm",
            "sender_id": BRAVO,
            "zone": ZONE,
            "distribution_id": sync.distribution_id,
            "status": "SUCCESS",
            "applied_count": 1,
            "applied_records": records,
        }
        (pending,) = [item for item in scene.peer.of_type(Confirm) if item.status == "PENDING" and item.zone == ZONE]
        assert (pending.nonce, pending.distribution_id) == (sync.body["nonce"], sync.distribution_id)
        assert not pending.rejected_items  # Go takes any CONFIRM for DNSKEYs as propagation
        assert [(item.originator, item.record) for item in combiner.contributions(ZONE).records] == [
            (ALPHA, records[0])
        ]


async def test_recorded_keys_are_confirmed_once_and_served(tmp_path: Path) -> None:
    """A DNSKEY set from alpha: no PENDING, which Go would take for propagated, but one final CONFIRM with all keys."""
    sync = find("request", type="sync", sender=ALPHA, receiver=BRAVO)[1]
    records = sync.body["operations"][0]["records"]
    assert len(records) == 3
    async with agents(tmp_path, "bravo", sync.time) as scene:
        assert (await scene.peer.replay(sync, scene.node)).positive
        (final,) = await finals(scene, sync.distribution_id)
        assert (final["status"], final["applied_records"]) == ("SUCCESS", records)
        told = [item for item in scene.peer.of_type(Confirm) if item.distribution_id == sync.distribution_id]
        assert [item.status for item in told] == ["SUCCESS"]
        signer = scene.world.node("signer", "bravo")

        def served() -> bool:
            text = str(signer.zone_records(ZONE, 1000))
            return all(record.rsplit(" ", 1)[1] in text for record in records)

        await scene.world.until(served, what="alpha's keys in bravo's signed zone")


async def test_a_recorded_resync_with_two_sets(tmp_path: Path) -> None:
    """The answer to RFI SYNC carries two operations in one message; each set arrives, and is confirmed."""
    sync = find("request", type="sync", sender=ALPHA, receiver=BRAVO)[2]
    assert len(sync.body["operations"]) == 2
    async with agents(tmp_path, "bravo", sync.time) as scene:
        combiner = scene.world.node("combiner", "bravo")
        assert (await scene.peer.replay(sync, scene.node)).positive
        (final,) = await finals(scene, sync.distribution_id)
        records = [record for operation in sync.body["operations"] for record in operation["records"]]
        assert final["status"] == "SUCCESS"
        assert sorted(final["applied_records"]) == sorted(records)
        assert sorted(item.record for item in combiner.contributions(ZONE).records) == sorted(records)


async def test_our_change_and_the_confirmations_of_a_go_agent(tmp_path: Path) -> None:
    """What we send is what it sent; PENDING changes nothing, and the final CONFIRM makes the record accepted."""
    recorded = find("request", type="sync", sender=BRAVO, receiver=ALPHA)[0]
    record = recorded.body["operations"][0]["records"][0]
    async with agents(tmp_path, "bravo", recorded.time) as scene:
        transaction = await scene.node.change(ZONE, ChangeRequest(operation="add", record=record))

        def told() -> list[Any]:
            return [
                item
                for item in scene.peer.received
                if isinstance(item.message, Sync) and item.message.operations[0].rrtype == "NS"
            ]

        (item,) = await scene.world.until(told)
        assert firm(json.loads(item.payload), "nonce") == firm(recorded.body, "nonce")
        for status in ("PENDING", "SUCCESS"):
            assert scene.node.transaction(transaction.id).state != "accepted"
            body = {
                "type": "confirm",
                "sender_id": ALPHA,
                "zone": ZONE,
                "distribution_id": item.distribution_id,
                "status": status,
                "timestamp": int(scene.peer.clock.now()),
            }
            if status == "PENDING":
                body |= {"nonce": item.message.nonce, "message": "Sync received, forwarding to combiner"}
            else:
                body |= {"applied_count": 1, "applied_records": [record]}
            assert (await scene.peer.send(json.dumps(body).encode(), scene.node, item.distribution_id)).positive
        done = await scene.node.wait(transaction.id, Wait.EVERYWHERE, 10)
        assert done.state == "accepted"


async def test_a_go_agent_asks_for_our_data(tmp_path: Path) -> None:
    """The recorded RFI SYNC: our sets come as messages of their own, one type each."""
    (rfi,) = find("request", subtype="SYNC", receiver=ALPHA)
    async with agents(tmp_path, "alpha", rfi.time) as scene:
        await scene.node.change(ZONE, ChangeRequest(operation="add", record=f"{ZONE} 3600 IN NS ns2.alpha.example."))
        await scene.world.until(lambda: [item for item in scene.peer.of_type(Sync) if item.operations[0].records])
        scene.peer.received.clear()
        assert (await scene.peer.replay(rfi, scene.node)).positive

        def types() -> set[str]:
            return {item.operations[0].rrtype for item in scene.peer.of_type(Sync)}

        await scene.world.until(lambda: {"NS", "DNSKEY"} <= types(), what="both sets")
        for item in scene.peer.of_type(Sync):
            assert len(item.operations) == 1
            assert item.operations[0].operation == "replace"
        assert not scene.peer.of_type(Update)


async def test_pending_for_what_we_never_asked(tmp_path: Path) -> None:
    """A Go agent confirms elections and requests with PENDING: taken, and nothing follows from it."""
    pendings = find("request", type="confirm", subtype="PENDING", sender=ALPHA, receiver=BRAVO)
    async with agents(tmp_path, "bravo", pendings[0].time) as scene:
        for message in pendings:
            assert (await scene.peer.replay(message, scene.node)).positive
        assert not [item for item in scene.node.edits(ZONE).records if item.originator == ALPHA]
        assert not scene.node.transactions()


async def test_a_recorded_message_is_stale_today(tmp_path: Path) -> None:
    """The same octets a day later prove nothing any more."""
    sync = find("request", type="sync", sender=ALPHA, receiver=BRAVO)[0]
    async with agents(tmp_path, "bravo", sync.time + 86500) as scene:
        sent = await scene.peer.replay(sync, scene.node)
        assert (sent.rcode, sent.answer) == (5, None)


async def test_every_recorded_message_to_our_roles_is_readable(tmp_path: Path) -> None:
    """All requests of the recording that concern example.com., played to the role that they were for."""
    for label in ("alpha", "bravo"):
        wanted = [
            item
            for item in find("request")
            if item.receiver.split(".")[1] == label and item.zone in (ZONE, "") and item.time < EPOCH + 400
        ]
        assert len(wanted) > 8
        directory = tmp_path / label
        directory.mkdir()
        async with agents(directory, label, EPOCH + 200) as scene:
            for item in wanted:
                node = scene.world.running[item.receiver].node
                party = GoAgent(scene.world, item.sender, scene.peer.address)
                fresh = abs(item.time - scene.peer.clock.now()) < 590
                sent: Sent = await party.replay(item, node)
                assert (item.type, item.subtype, sent.positive) == (item.type, item.subtype, fresh)


@pytest.mark.parametrize("endpoint", ["theirs", "none", "a stranger's"])
async def test_a_go_agent_in_query_mode(tmp_path: Path, endpoint: str) -> None:
    """Its messages come without payload; we fetch what it keeps, as the recorded queries do, and only from itself."""
    recorded = chunks()
    assert len(recorded) == 4
    async with agents(tmp_path, "bravo", 1795489710.0) as scene:
        where = {
            "theirs": f"{scene.peer.address}:{scene.world.port}",
            "none": None,
            "a stranger's": f"{scene.world.address('owner')}:{scene.world.port}",
        }[endpoint]
        scene.peer.chunks.update(recorded)
        for name in recorded:
            distribution_id = name.removeprefix(f"0.{BRAVO}").partition(".")[0]
            notify = frame.encode_notify(7, distribution_id, ALPHA, endpoint=where)
            sent = await scene.peer.converse(notify, scene.node)
            if endpoint in ("theirs", "none"):
                assert sent.positive
            else:
                assert (sent.rcode, sent.answer) == (5, None)
        assert scene.peer.fetched == (list(recorded) if endpoint in ("theirs", "none") else [])
        missing = frame.encode_notify(7, "0badcafe", ALPHA, endpoint=where)
        assert (await scene.peer.converse(missing, scene.node)).rcode == 5


def test_the_fixture_opens() -> None:
    """The keys are those of the recording."""
    item = find("request", type="ping")[0]
    data = frame.decode_notify(item.octets).data
    assert data is not None
    assert json.loads(unseal(data, KEYS[item.sender].public(), KEYS[item.receiver])) == item.body
