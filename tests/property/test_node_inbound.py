"""The door under arbitrary octets and damaged messages: an answer or silence, never an exception or a handled lie."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import dns.message
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.net.network import InternetNetwork
from mpcore.net.server import Request
from mpcore.node.directory import Contact, Directory
from mpcore.node.inbound import Inbound, Incoming
from mpcore.node.ownkeys import OwnKeys
from mpcore.node.replay import ReplayMemory, SeenKey
from mpcore.node.runtime import Runtime
from mpcore.wire import frame
from mpcore.wire.messages import Acknowledgement, Ping, rfc3339
from mpcore.wire.seal import PrivateKey, seal, unseal

NOW = 1.8e9
US, PEER = "agent.bravo.example.", "agent.alpha.example."
OUR_KEY, THEIR_KEY = PrivateKey.generate(), PrivateKey.generate()


class SetClock:
    def now(self) -> float:
        return NOW


class Anybody:
    """Lets the peer speak about one zone."""

    def allows(self, sender: str, zone: str) -> bool:
        return sender == PEER and zone in ("", "customer.example.")

    def unknown_key(self, sender: str, now: float) -> None:
        """Nothing is looked up here."""


def make_door(handled: list[Incoming]) -> Inbound:
    async def handle(incoming: Incoming) -> Acknowledgement:
        handled.append(incoming)
        return Acknowledgement(type="confirm", distribution_id=incoming.distribution_id, status="ok")

    async def recall(key: SeenKey) -> bytes | None:
        return None

    directory = Directory()
    directory.put(Contact(PEER, (("127.0.0.1", 53),), THEIR_KEY.public()))
    runtime = Runtime(network=InternetNetwork(), clock=SetClock(), random=random.Random(1))
    return Inbound(US, OwnKeys(OUR_KEY), directory, Anybody(), handle, recall, runtime)


def ask(door: Inbound, octets: bytes) -> bytes | None:
    request = Request(octets, ("192.0.2.1", 1), True, 0, 4, b"", 65288, 1)

    async def main() -> Any:
        return await door.handle(request)

    answer: bytes | None = anyio.run(main)
    return answer


def sealed(payload: bytes) -> bytes:
    return frame.encode_notify(7, "6a12f0d0", PEER, data=seal(payload, THEIR_KEY, OUR_KEY.public(), US, NOW))


GOOD = sealed(Ping(my_identity=PEER, your_identity=US, nonce="n", time=rfc3339(NOW)).to_json())


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_arbitrary_octets(octets: bytes) -> None:
    handled: list[Incoming] = []
    if len(octets) < 12:
        octets = octets.ljust(12, b"\0")  # shorter messages do not get past the server
    answer = ask(make_door(handled), octets)
    assert not handled
    assert answer is None or (answer[:2] == octets[:2] and answer[2] & 0x80 and answer[3] & 0x0F)


@settings(max_examples=150)
@given(st.data())
def test_damaged_messages(data: st.DataObject) -> None:
    """One octet changed, or the message cut: nothing that is handled differs from what the peer said."""
    handled: list[Incoming] = []
    octets = bytearray(GOOD)
    at = data.draw(st.integers(0, len(octets) - 1))
    if data.draw(st.booleans()):
        octets[at] ^= data.draw(st.integers(1, 255))
    else:
        del octets[max(at, 12) :]
    answer = ask(make_door(handled), bytes(octets))
    for incoming in handled:  # the header, the id in the QNAME and the OPT header are not signed
        assert incoming.sender == PEER
        assert isinstance(incoming.message, Ping)
        assert incoming.message.nonce == "n"
    if answer is not None and len(answer) > 12:
        dns.message.from_wire(answer)


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(
            ["MessageType", "type", "MyIdentity", "OriginatorID", "sender_id", "Zone", "zone", "Time", "Nonce"]
        ),
        st.one_of(
            st.sampled_from(["ping", "beat", "sync", "confirm", PEER, US, "customer.example.", "", "teleport"]),
            st.none(),
            st.integers(),
            st.lists(st.text(max_size=5), max_size=3),
            st.text(max_size=30),
        ),
        max_size=7,
    )
)
def test_sealed_messages_with_arbitrary_members(body: dict[str, Any]) -> None:
    """Whatever a peer seals: it is handled only when it names the peer, and about a zone that the peer has part in."""
    handled: list[Incoming] = []
    answer = ask(make_door(handled), sealed(json.dumps(body).encode()))
    assert answer is not None
    for incoming in handled:
        assert incoming.message.TYPE == "update" or incoming.message.sender == PEER
        assert incoming.message.zone_name in ("", "customer.example.")
    response = frame.decode_response(answer, 7)
    assert (response.rcode == 0) == bool(handled)
    if response.data is not None:
        unseal(response.data, OUR_KEY.public(), THEIR_KEY)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=200))
def test_the_memory_holds_the_newest_within_its_bounds(events: list[tuple[int, int]]) -> None:
    memory = ReplayMemory(capacity=10, octets=100)
    expected: dict[int, bytes] = {}
    for step, (number, size) in enumerate(events):
        key = SeenKey("a.", "b.", f"{number}", "ping", b"")
        memory.remember(key, b"x" * size, float(step))
        expected.pop(number, None)
        expected[number] = b"x" * size
        while len(expected) > 10 or sum(map(len, expected.values())) > 100:
            expected.pop(next(iter(expected)))
    for number in range(31):
        found = memory.answer(SeenKey("a.", "b.", f"{number}", "ping", b""), 200.0)
        assert found == expected.get(number)
