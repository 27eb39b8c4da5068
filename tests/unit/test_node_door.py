"""The door of a node: what it takes, from whom, and what a stranger can learn or spoil.  Real sockets, both loops."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import dns.message
import dns.rcode
import pytest

from mpcore.net.client import exchange
from mpcore.node.agent import AgentNode
from mpcore.node.inbound import Incoming
from mpcore.node.replay import ReplayMemory, SeenKey
from mpcore.wire import frame
from mpcore.wire.messages import Acknowledgement, Beat, Confirm, Hello, Message, Ping, Rfi, Sync, rfc3339
from mpcore.wire.seal import PrivateKey, seal
from tests.node_messages import every_message, name_server
from tests.node_world import CUSTOMER, Sent, Stranger, World

pytestmark = pytest.mark.anyio

REFUSED, SERVFAIL, FORMERR = int(dns.rcode.REFUSED), int(dns.rcode.SERVFAIL), int(dns.rcode.FORMERR)
ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."
COMBINER, SIGNER = "combiner.bravo.example.", "signer.bravo.example."


@dataclass
class Door:
    """Provider bravo at work, and agent alpha played by the test."""

    world: World
    alpha: Stranger
    agent: Any
    combiner: Any
    signer: Any
    handled: Counter[tuple[str, str, str]]

    def count(self, role: str, kind: str, distribution_id: str) -> int:
        """How often a message got as far as the role."""
        return self.handled[role, kind, distribution_id]

    @property
    def own(self) -> list[tuple[str, str, str]]:
        """The test's own messages among those that got as far as a role."""
        return [key for key in self.handled if key[2] in self.alpha.used]

    def play(self, identity: str) -> Stranger:
        """Any party, speaking from alpha's address."""
        party = Stranger(self.world, identity, self.alpha.address)
        party.used = self.alpha.used
        return party

    def data(self, role: str) -> set[tuple[str, str]]:
        """Author and text of what a node keeps of the zone's data."""
        if role == "agent":
            return {(item.originator, item.record) for item in self.agent.edits(CUSTOMER).records}
        if role == "combiner":
            return {(item.originator, item.record) for item in self.combiner.contributions(CUSTOMER).records}
        return {(item.state, item.record) for item in self.signer.keys(CUSTOMER)}

    def messages(self, sender: str, node: Any, age: float = 0.0) -> dict[str, Message]:
        return every_message(sender, node.identity, CUSTOMER, self.alpha.clock.now() - age)


@asynccontextmanager
async def open_door(directory: Path) -> AsyncIterator[Door]:
    world = World(directory)
    async with world.open():
        alpha = Stranger(world, ALPHA, world.providers["alpha"].address("agent"))
        await alpha.serve()
        agent, combiner, signer = await world.start_provider("bravo")
        await world.until(lambda: agent.directory.get(ALPHA), what="alpha is found in DNS")
        handled: Counter[tuple[str, str, str]] = Counter()
        for node in (agent, combiner, signer):
            spy(node, handled)
        yield Door(world, alpha, agent, combiner, signer, handled)


def spy(node: Any, handled: Counter[tuple[str, str, str]]) -> None:
    """Count the messages that get as far as the role: (role, type, distribution id).

    The test's messages have ids of their own, so that what the real nodes say to each other is not counted for them.
    """
    handle = node.handle

    async def counting(incoming: Incoming) -> Acknowledgement:
        handled[str(node.ROLE), incoming.message.TYPE, incoming.distribution_id] += 1
        answer: Acknowledgement = await handle(incoming)
        return answer

    node.handle = counting


def bare(octets: bytes) -> bytes:
    """An answer without its id and question: what is left to learn from."""
    return octets[2:12]


# ------------------------------------------------------------------------------------------------------------ refused


async def test_strangers_learn_nothing(tmp_path: Path) -> None:
    """Whoever cannot prove to be a peer gets the same octets, whatever is wrong."""
    async with open_door(tmp_path) as door:
        alpha, agent = door.alpha, door.agent
        ping = door.messages(ALPHA, agent)["ping"].to_json()
        other, stranger = PrivateKey.generate(), door.play("agent.nobody.example.")
        listed = door.play("agent.charlie.example.")  # not in HSYNC3 either: only known to itself
        sealed = alpha.notify(ping, BRAVO, "00000001")
        tampered = bytearray(frame.decode_notify(sealed).data or b"")
        tampered[len(tampered) // 2] ^= 1
        now = alpha.clock.now()
        attempts = {
            "clear text": frame.encode_notify(1, "00000002", ALPHA, data=ping, format=1),
            "clear text, marked as sealed": frame.encode_notify(1, "00000003", ALPHA, data=ping, format=2),
            "no payload": frame.encode_notify(1, "00000004", ALPHA),
            "not sealed at all": frame.encode_notify(1, "00000005", ALPHA, data=b"!!!"),
            "signed by another": alpha.notify(ping, BRAVO, "00000006", signer=other),
            "sealed for another": alpha.notify(ping, BRAVO, "00000007", recipient=other.public()),
            "tampered with": frame.encode_notify(1, "00000008", ALPHA, data=bytes(tampered)),
            "unknown sender": stranger.notify(ping, BRAVO, "00000009"),
            "unknown sender in clear": frame.encode_notify(1, "0000000a", "agent.nobody.example.", data=ping, format=1),
            "unknown sender without payload": frame.encode_notify(1, "0000000b", "agent.nobody.example."),
            "not listed": listed.notify(ping, BRAVO, "0000000c"),
            "our own name": frame.encode_notify(
                1, "0000000d", BRAVO, data=seal(ping, alpha.key, agent.key.public(), BRAVO, now)
            ),
            "other spelling": alpha.notify(ping, BRAVO, "0000000e", qname_sender="Agent.alpha.example."),
        }
        answers = {name: await alpha.transmit(octets, agent) for name, octets in attempts.items()}
        assert {frame.decode_response(octets, octets[0] << 8 | octets[1]).rcode for octets in answers.values()} == {
            REFUSED
        }
        assert len({bare(octets) for octets in answers.values()}) == 1
        assert all(dns.message.from_wire(octets).opt is None for octets in answers.values())
        assert not door.own
        assert (await alpha.send(ping, agent)).positive


async def test_frames_that_are_none(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        alpha, agent = door.alpha, door.agent
        good = alpha.notify(door.messages(ALPHA, agent)["ping"].to_json(), BRAVO, "00000001")
        one_label = good[:12] + b"\x04ping\0" + good[12 + len(f"00000001.{ALPHA}") + 1 :]
        for octets, rcode in [(one_label, FORMERR), (good[:-1], FORMERR), (good + b"\0", FORMERR)]:
            answer = dns.message.from_wire(await alpha.transmit(octets, agent))
            assert answer.rcode() == rcode
            assert answer.opt is None
        over_udp = await exchange(alpha.network, good, agent.settings.listen[0].address, door.world.port)
        assert dns.message.from_wire(over_udp).rcode() == REFUSED
        assert not door.own


async def test_a_listed_sender_whose_key_is_not_known_is_looked_up(tmp_path: Path) -> None:
    """Its first message is refused and makes us look; the retry is taken (guide, wire format, "Discovery")."""
    world = World(tmp_path)
    async with world.open():
        alpha = Stranger(world, ALPHA, world.providers["alpha"].address("agent"))
        agent, _, _ = await world.start_provider("bravo")
        await world.until(lambda: agent.machines.get(ALPHA), what="alpha is listed")
        hello = every_message(ALPHA, BRAVO, CUSTOMER, alpha.clock.now())["hello"]
        first = await alpha.send(hello, agent)
        assert (first.rcode, first.answer) == (REFUSED, None)
        await alpha.serve()
        await world.until(lambda: agent.directory.get(ALPHA), what="alpha is found in DNS")
        assert (await alpha.send(hello, agent)).positive


async def test_a_new_key_is_looked_up_when_messages_do_not_verify(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        alpha, agent = door.alpha, door.agent
        ping = door.messages(ALPHA, agent)["ping"]
        alpha.key = door.world.keys[ALPHA] = PrivateKey.generate()
        alpha.publish()
        assert (await alpha.send(ping, agent)).rcode == REFUSED
        await door.world.until(lambda: agent.directory.get(ALPHA).key == alpha.key.public(), what="the new key")
        assert (await alpha.send(ping, agent)).positive


@pytest.mark.parametrize("role", ["agent", "combiner", "signer"])
async def test_nobody_speaks_for_another(tmp_path: Path, role: str) -> None:
    """A message that names another sender than its QNAME, or another receiver, is refused; all types, all roles."""
    async with open_door(tmp_path) as door:
        node = getattr(door, role)
        sender = door.alpha if role == "agent" else door.play(BRAVO)
        other = "agent.charlie.example."
        for kind, message in every_message(other, node.identity, CUSTOMER, sender.clock.now()).items():
            if kind == "update":
                continue  # an agent delivers the data of others: its own test
            sent = await sender.send(message, node)
            assert (kind, sent.rcode, sent.answer) == (kind, REFUSED, None)
        for kind, message in every_message(sender.identity, other, CUSTOMER, sender.clock.now()).items():
            if kind not in ("confirm", "relocate"):  # these name no receiver
                sent = await sender.send(message, node)
                assert (kind, sent.rcode, sent.answer) == (kind, REFUSED, None)
        assert not door.own


async def test_zones_without_the_sender(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for zone in ("other.example.", f"sub.{CUSTOMER}", "example.", "not..a.name."):
            for kind, message in every_message(ALPHA, BRAVO, zone, door.alpha.clock.now()).items():
                if kind in ("ping", "relocate"):
                    continue
                sent = await door.alpha.send(message, door.agent)
                assert (zone, kind, sent.rcode) == (zone, kind, REFUSED)
        assert not door.own


# ---------------------------------------------------------------------------------------------------- types and roles

#: node -> sender -> types that are taken, whatever they then do
TAKEN = {
    "agent": {
        ALPHA: {"hello", "beat", "ping", "sync", "rfi", "confirm", "status-update"},
        COMBINER: {"hello", "beat", "ping", "confirm", "edits", "status-update"},
        SIGNER: {"hello", "beat", "ping", "keystate", "status-update"},
    },
    "combiner": {BRAVO: {"beat", "ping", "update", "rfi", "status-update"}, ALPHA: set(), SIGNER: set()},
    "signer": {BRAVO: {"beat", "ping", "keystate", "rfi", "status-update"}, ALPHA: set(), COMBINER: set()},
}


@pytest.mark.parametrize("role", ["agent", "combiner", "signer"])
async def test_types_belong_to_roles(tmp_path: Path, role: str) -> None:
    """Each role takes from each party only what that party has to say; nothing else changes anything."""
    async with open_door(tmp_path) as door:
        node = getattr(door, role)
        for identity, taken in TAKEN[role].items():
            party = door.play(identity)
            for kind, message in door.messages(identity, node).items():
                before = door.data(role)
                sent = await party.send(message, node)
                positive = sent.positive and sent.answer is not None and sent.answer.status in ("ok", "pending")
                assert (identity, kind, positive) == (identity, kind, kind in taken)
                if not positive and sent.answer is not None and sent.answer.status == "unsupported":
                    assert (sent.rcode, sent.answer.type) == (REFUSED, "error")
                if not positive:
                    assert (kind, door.data(role)) == (kind, before)


async def test_only_the_combiner_tells_of_changed_name_servers(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for identity, taken in ((COMBINER, True), (ALPHA, False), (SIGNER, False)):
            for word in ("ns-changed", "ksk-changed"):
                status = door.messages(identity, door.agent)["status-update"].model_copy(update={"sub_type": word})
                sent = await door.play(identity).send(status, door.agent)
                assert (identity, sent.answer is not None and sent.answer.status == "ok") == (identity, taken)


async def test_what_nobody_knows(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for payload, rcode, answered in [
            (b'{"MessageType":"PING","MyIdentity":"agent.alpha.example."}', REFUSED, True),
            (b'{"MessageType":"teleport"}', REFUSED, True),
            (b'{"MyIdentity":"agent.alpha.example."}', FORMERR, False),
            (b'{"MessageType":"ping","type":"beat"}', FORMERR, False),
            (b"[]", FORMERR, False),
            (b"{", FORMERR, False),
        ]:
            sent = await door.alpha.send(payload, door.agent)
            assert (payload, sent.rcode, sent.answer is not None) == (payload, rcode, answered)
            if sent.answer is not None:
                assert (sent.answer.type, sent.answer.status) == ("error", "unsupported")
        assert not door.own


async def test_a_ping_needs_a_nonce(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for node, party in ((door.agent, door.alpha), (door.combiner, door.play(BRAVO))):
            ping = door.messages(party.identity, node)["ping"]
            sent = await party.send(ping.model_copy(update={"nonce": ""}), node)
            assert (sent.rcode, sent.answer) == (SERVFAIL, None)
            sent = await party.send(ping, node)
            assert sent.answer is not None
            assert (sent.answer.type, sent.answer.status) == ("ping_confirm", "ok")
            assert (sent.answer.nonce, sent.answer.sender_id) == (ping.nonce, node.identity)


async def test_former_peers_may_only_greet(tmp_path: Path) -> None:
    """Who has left all zones may say hello, beat and ping, which are about no zone, and nothing else."""
    async with open_door(tmp_path) as door:
        alpha, agent, now = door.alpha, door.agent, door.alpha.clock.now()
        assert (await alpha.send(door.messages(ALPHA, agent)["beat"], agent)).positive
        door.world.publish_customer(door.world.customer(2, left=["alpha"]))
        door.combiner.secondaries[door.world.customer().origin].refresh_now()
        await door.world.until(lambda: agent.machines[ALPHA].state == "LEGACY", what="alpha has left")
        for kind, message in every_message(ALPHA, BRAVO, "", now).items():
            sent = await alpha.send(message, agent)
            taken = sent.positive and sent.answer is not None and sent.answer.status == "ok"
            assert (kind, taken) == (kind, kind in ("hello", "beat", "ping"))
        for kind, message in every_message(ALPHA, BRAVO, CUSTOMER, now).items():
            if kind not in ("ping", "relocate"):
                assert (kind, (await alpha.send(message, agent)).rcode) == (kind, REFUSED)


# ---------------------------------------------------------------------------------------------- freshness and repeats


@pytest.mark.parametrize("role", ["agent", "combiner", "signer"])
async def test_stale_and_future_messages(tmp_path: Path, role: str) -> None:
    """A queue keeps messages for a day; what is never queued is fresh, as far as clocks agree within ten minutes."""
    async with open_door(tmp_path) as door:
        node = getattr(door, role)
        party = door.alpha if role == "agent" else door.play(BRAVO)
        immediate = {"hello", "beat", "ping", "rfi"}
        for age, fine in (
            (86500.0, set[str]()),
            (-700.0, set[str]()),
            (700.0, TAKEN[role][party.identity] - immediate),
        ):
            for kind, message in door.messages(party.identity, node, age).items():
                if kind not in TAKEN[role][party.identity]:
                    continue
                sent = await party.send(message, node)
                assert (age, kind, sent.positive) == (age, kind, kind in fine)
                if kind not in fine:
                    assert (sent.rcode, sent.answer) == (REFUSED, None)
        for age in (500.0, -500.0):
            assert (await party.send(door.messages(party.identity, node, age)["ping"], node)).positive


def plain(sent: Sent) -> dict[str, Any]:
    assert sent.answer is not None
    return sent.answer.model_dump()


@pytest.mark.parametrize("role", ["agent", "combiner", "signer"])
async def test_a_repeat_gets_the_same_answer_and_does_nothing(tmp_path: Path, role: str) -> None:
    """Every type that the role takes; in another sealing, as a retry has it, and octet for octet, as a replay is."""
    async with open_door(tmp_path) as door:
        node = getattr(door, role)
        for identity, taken in TAKEN[role].items():
            party = door.play(identity)
            for kind in sorted(taken):
                message = door.messages(identity, node)[kind]
                one, two = f"5eed{len(door.handled):04x}", f"5eee{len(door.handled):04x}"
                octets = party.notify(message.to_json(), node.identity, one)
                first = party.read(await party.transmit(octets, node), node)
                again = [party.read(await party.transmit(octets, node), node) for _ in range(2)]
                again.append(await party.send(message, node, one))
                assert [plain(sent) for sent in again] == [plain(first)] * 3
                assert (kind, door.count(role, kind, one)) == (kind, 1)
                # the same message under another id is another message
                assert (await party.send(message, node, two)).positive == first.positive
                assert (kind, door.count(role, kind, two)) == (kind, 1)


async def test_two_messages_may_share_an_id(tmp_path: Path) -> None:
    """Ids repeat legitimately: a CONFIRM has the id of what it confirms, and PENDING and the final one share it."""
    async with open_door(tmp_path) as door:
        now = door.alpha.clock.now()
        for status in ("PENDING", "SUCCESS"):
            confirm = Confirm(
                sender_id=ALPHA, zone=CUSTOMER, distribution_id="5eed0003", status=status, timestamp=int(now)
            )
            assert (await door.alpha.send(confirm, door.agent, "5eed0003")).positive
        assert door.count("agent", "confirm", "5eed0003") == 2


async def test_repeats_that_overlap_are_processed_once(tmp_path: Path) -> None:
    """A sender that loses patience while the disk is slow sends again: one change, and the same answer to all."""
    async with open_door(tmp_path) as door:
        alpha, agent = door.alpha, door.agent
        octets = alpha.notify(door.messages(ALPHA, agent)["sync"].to_json(), BRAVO, "5eed0004")
        held, released, answers = anyio.Event(), anyio.Event(), []
        handle = agent.handle

        async def slow(incoming: Incoming) -> Acknowledgement:
            held.set()
            await released.wait()
            answer: Acknowledgement = await handle(incoming)
            return answer

        agent.handle = slow

        async def send() -> None:
            answers.append(alpha.read(await alpha.transmit(octets, agent), agent))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(send)
            await held.wait()
            received = agent.server.counters["received"]
            await door.world.until(lambda: agent.server.counters["received"] >= received, what="all have arrived")
            released.set()
        assert [plain(sent) for sent in answers] == [plain(answers[0])] * 5
        assert door.count("agent", "sync", "5eed0004") == 1


async def test_repeats_are_known_after_a_restart(tmp_path: Path) -> None:
    """What changes durable state is answered as before and does nothing, by a node that was started anew."""
    async with open_door(tmp_path) as door:
        for role, identity, kind in [
            ("agent", ALPHA, "sync"),
            ("agent", ALPHA, "confirm"),
            ("agent", COMBINER, "edits"),
            ("agent", SIGNER, "keystate"),
            ("combiner", BRAVO, "update"),
            ("signer", BRAVO, "keystate"),
        ]:
            node = door.world.node(role, "bravo")
            party = door.play(identity)
            octets = party.notify(door.messages(identity, node)[kind].to_json(), node.identity, "5eed0005")
            first = party.read(await party.transmit(octets, node), node)
            await door.world.stop(node)
            node = await door.world.start(role, "bravo")
            await door.world.until(lambda node=node: node.status().ready, what="it has loaded its zone")
            if role == "agent":
                await door.world.until(lambda node=node: node.directory.get(ALPHA), what="alpha is found again")
            handled: Counter[tuple[str, str, str]] = Counter()
            spy(node, handled)
            again = party.read(await party.transmit(octets, node), node)
            assert plain(again) == plain(first)
            assert not handled[role, kind, "5eed0005"]


# -------------------------------------------------------------------------------------------------------- great numbers


async def test_a_flood_of_hostile_messages_is_bounded(tmp_path: Path) -> None:
    """Ten thousand messages in a peer's name, in other names, and well-formed rubbish: the node goes on answering."""
    async with open_door(tmp_path) as door:
        agent, world = door.agent, door.world
        ping = door.messages(ALPHA, agent)["ping"].to_json()
        other = PrivateKey.generate()
        forged = door.alpha.notify(ping, BRAVO, "00000001", signer=other)
        endpoint = agent.settings.listen[0]
        host = f"{world.block}.200"
        answers: Counter[int | None] = Counter()

        async def flood(first: int) -> None:
            stream = await door.alpha.network.connect_tcp(endpoint.address, endpoint.port, local_host=host)
            batch = []
            for number in range(first, first + 1000):
                if number % 3 == 0:
                    octets = forged
                elif number % 3 == 1:
                    octets = frame.encode_notify(1, f"{number:08x}", f"agent.x{number}.example.", data=b"AAAA")
                else:
                    octets = frame.encode_notify(1, f"{number:08x}", ALPHA, data=b"x" * 100)
                batch.append(len(octets).to_bytes(2, "big") + octets)
            try:
                async with anyio.create_task_group() as tasks:

                    async def read() -> None:
                        while await stream.receive():
                            answers[None] += 1

                    tasks.start_soon(read)
                    for octets in batch:
                        await stream.send(octets)
                    tasks.cancel_scope.cancel()
            except (anyio.BrokenResourceError, anyio.EndOfStream, ExceptionGroup):
                pass
            finally:
                await stream.aclose()

        async with anyio.create_task_group() as tasks:
            for first in range(0, 10000, 1000):
                tasks.start_soon(flood, first)
            for _ in range(10):  # alpha is served meanwhile
                assert (await door.alpha.send(ping, agent)).positive
        inbound = agent.inbound
        assert len(inbound._failures._buckets) <= 4096
        assert len(inbound._lines._buckets) <= 4096
        assert len(inbound._memory._answers) < 100
        assert not inbound._under_way
        assert len(agent.directory._traffic) <= 3
        assert door.count("agent", "ping", "00000001") == 0
        assert (await door.alpha.send(door.messages(ALPHA, agent)["beat"], agent)).positive


async def test_a_source_that_fails_too_often_is_not_answered_any_more(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        endpoint = door.agent.settings.listen[0]
        host = f"{door.world.block}.201"
        octets = frame.encode_notify(1, "00000001", "agent.nobody.example.", data=b"AAAA")
        stream = await door.alpha.network.connect_tcp(endpoint.address, endpoint.port, local_host=host)
        framed = len(octets).to_bytes(2, "big") + octets
        answered = 0
        with anyio.move_on_after(20) as scope:
            while True:
                await stream.send(framed * 20)
                received = b""
                with anyio.move_on_after(2) as quiet:
                    while len(received) < 20 * 45:
                        received += await stream.receive()
                answered += received.count(b"\x05nobod")
                answered += received.count(b"nobody")
                if quiet.cancelled_caught:
                    break
        assert not scope.cancelled_caught
        assert 150 <= answered <= 400
        await stream.aclose()
        assert (await door.alpha.send(door.messages(ALPHA, door.agent)["ping"], door.agent)).positive


async def test_a_proven_sender_over_its_rate_waits(tmp_path: Path) -> None:
    """No message of a peer is dropped because it has much to say; it is slowed down."""
    async with open_door(tmp_path) as door:
        sent: list[Sent] = []

        async def send(number: int) -> None:
            ping = Ping(
                my_identity=BRAVO,
                your_identity=COMBINER,
                nonce=f"{number}",
                time=rfc3339(door.alpha.clock.now()),
            )
            sent.append(await door.play(BRAVO).send(ping, door.combiner, f"{number:08x}"))

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(send, number)
        assert all(item.positive for item in sent)
        door.combiner.inbound._senders._buckets[BRAVO] = (-1000.0, door.combiner.clock.now())
        refused = await door.play(BRAVO).send(door.messages(BRAVO, door.combiner)["ping"], door.combiner)
        assert (refused.rcode, refused.answer) == (SERVFAIL, None)


async def test_an_oversized_payload(tmp_path: Path) -> None:
    """The largest message that DNS can carry is looked at; its lists are bounded, and it leaves nothing behind."""
    async with open_door(tmp_path) as door:
        records = [name_server(CUSTOMER, f"n{number}.a.") for number in range(520)]
        message = {
            "MessageType": "sync",
            "OriginatorID": ALPHA,
            "YourIdentity": BRAVO,
            "Zone": CUSTOMER,
            "operations": [{"operation": "replace", "rrtype": "NS", "records": records}],
            "Time": rfc3339(door.alpha.clock.now()),
        }
        octets = json.dumps(message).encode()
        sent = await door.alpha.send(octets, door.agent)
        assert not sent.positive
        deep = b'{"MessageType":"ping","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
        assert (await door.alpha.send(deep, door.agent)).rcode == FORMERR
        assert not door.own


def test_the_memory_of_messages_is_bounded_in_number_and_octets() -> None:
    memory = ReplayMemory(capacity=100, octets=1000)
    for number in range(1000):
        memory.remember(SeenKey("a.", "b.", f"{number}", "ping", b""), b"x" * (number % 50), float(number))
    assert len(memory._answers) <= 100
    assert sum(len(answer) for _, answer in memory._answers.values()) <= 1000
    assert not memory.complete
    assert memory.answer(SeenKey("a.", "b.", "999", "ping", b""), 1000.0) == b"x" * 49
    assert memory.answer(SeenKey("a.", "b.", "999", "ping", b""), 90000.0) is None


# ------------------------------------------------------------------------------------------------- a body and its parts


async def test_own_agents_deliver_the_data_of_others(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        update = every_message("agent.alpha.example.", COMBINER, CUSTOMER, door.alpha.clock.now())["update"]
        sent = await door.play(BRAVO).send(update, door.combiner)
        assert sent.answer is not None
        assert sent.answer.status == "pending"
        (record,) = door.combiner.contributions(CUSTOMER).records
        assert record.originator == "agent.alpha.example."
        stranger = every_message("agent.nobody.example.", COMBINER, CUSTOMER, door.alpha.clock.now())["update"]
        assert (await door.play(BRAVO).send(stranger, door.combiner)).positive  # the CONFIRM says that it is refused
        assert len(door.combiner.contributions(CUSTOMER).records) == 1


async def test_an_election_is_not_disturbed_by_who_has_no_vote(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        agent: AgentNode = door.agent
        (group,) = agent.groups()
        records = {"_group": [group.hash], "_term": ["4000000000"], "_vote": ["1"]}
        for identity in (COMBINER, SIGNER):
            rfi = Rfi(
                originator_id=identity,
                your_identity=BRAVO,
                zone=CUSTOMER,
                records=records,
                time=rfc3339(door.alpha.clock.now()),
                rfi_type="ELECT-CALL",
            )
            await door.play(identity).send(rfi, agent)
        assert agent.groups()[0].election.term == group.election.term


async def test_spelling_is_tolerated(tmp_path: Path) -> None:
    """Other letter case of member names, nulls, junk, twins that agree (guide, wire format, "Messages")."""
    async with open_door(tmp_path) as door:
        body = {
            "messagetype": "beat",
            "MYIDENTITY": ALPHA,
            "YourIdentity": BRAVO,
            "zones": [CUSTOMER],
            "Time": rfc3339(door.alpha.clock.now()),
            "Gossip": None,
            "tlsa": {"Hdr": {"Name": ""}},
            "unheard": [1, {"of": None}],
        }
        assert (await door.alpha.send(json.dumps(body).encode(), door.agent)).positive


async def test_zero_interval_and_greetings_without_zone(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        time = rfc3339(door.alpha.clock.now())
        for message in (
            Hello(my_identity=ALPHA, your_identity=BRAVO, zone="", time=time),
            Beat(my_identity=ALPHA, your_identity=BRAVO, my_beat_interval=0, zones=[], time=time, gossip=[]),
        ):
            sent = await door.alpha.send(message, door.agent)
            assert sent.positive
        assert door.agent.peer(ALPHA).state in ("INTRODUCED", "OPERATIONAL")


async def test_a_sync_of_another_authors_data_is_refused(tmp_path: Path) -> None:
    """Nothing is relayed between agents: who says it is who contributes it."""
    async with open_door(tmp_path) as door:
        for author in (BRAVO, "agent.charlie.example."):
            forged = every_message(author, BRAVO, CUSTOMER, door.alpha.clock.now())["sync"]
            assert isinstance(forged, Sync)
            sent = await door.alpha.send(forged, door.agent)
            assert (sent.rcode, sent.answer) == (REFUSED, None)
        assert not door.agent.edits(CUSTOMER).records or all(
            item.originator == BRAVO for item in door.agent.edits(CUSTOMER).records
        )
