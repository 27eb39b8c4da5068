"""Messages recorded between nodes of the deployed implementation, and a party that plays one of them again.

The private keys of the recording are known, so that its messages can be sent as they are, octet for octet, to a node
whose clock stands at the time of the recording.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcore.records import CHUNK
from mpcore.wire import frame
from mpcore.wire.messages import Acknowledgement, Beat, decode_acknowledgement, rfc3339
from mpcore.wire.seal import PrivateKey, unseal
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.version import ZoneVersion
from tests.node_world import Received, Sent, Stranger, World

__all__ = ("EPOCH", "KEYS", "MESSAGES", "FixedVotes", "GoAgent", "Recorded", "chunks", "find", "zone")

FIXTURES = Path(__file__).parent.parent / "fixtures"
KEYS = {
    identity: PrivateKey.from_jwk(members)
    for identity, members in json.loads((FIXTURES / "keys.json").read_text("utf-8")).items()
}
EPOCH = 1795488787.0  #: the first message of the recording, Unix seconds


@dataclass(frozen=True)
class Recorded:
    """One recorded message.

    :ivar octets: the DNS message.
    :ivar body: the JSON inside.
    """

    kind: str
    type: str
    subtype: str
    sender: str
    receiver: str
    distribution_id: str
    time: float
    octets: bytes
    body: dict[str, Any]

    @property
    def zone(self) -> str:
        return str(self.body.get("Zone") or self.body.get("zone") or "")


def _recorded(item: dict[str, Any]) -> Recorded:
    return Recorded(
        kind=item["kind"],
        type=item["type"],
        subtype=item["subtype"],
        sender=item["sender"],
        receiver=item["receiver"],
        distribution_id=item["qname"].partition(".")[0],
        time=item["time"],
        octets=bytes.fromhex(item["dns_message"]),
        body=json.loads(item["payload"]),
    )


MESSAGES = tuple(_recorded(item) for item in json.loads((FIXTURES / "messages.json").read_text("utf-8")))


def find(kind: str, **members: str) -> list[Recorded]:
    """The recorded messages of one kind (``request``, ``response``) whose attributes have these values."""

    def matches() -> Iterator[Recorded]:
        for message in MESSAGES:
            if message.kind == kind and all(getattr(message, name) == value for name, value in members.items()):
                yield message

    return list(matches())


def zone(what: str) -> ZoneVersion:
    """One of the recorded zones, by its description."""
    for item in json.loads((FIXTURES / "transfers.json").read_text("utf-8")):
        if item["what"] == what:
            # the last record is the SOA once more
            return read_master_text("\n".join(item["records"][:-1]) + "\n", item["zone"])
    raise LookupError(what)


def chunks() -> dict[str, CHUNK]:
    """The CHUNK records that an agent in query mode answered with, by their names."""
    found: dict[str, CHUNK] = {}
    for item in json.loads((FIXTURES / "query-mode.json").read_text("utf-8")):
        octets = bytes.fromhex(item["dns_message"])
        if item["opcode"] == "QUERY" and item["answers"]:
            chunk = frame.decode_chunk_answer(octets, octets[0] << 8 | octets[1]).chunk
            assert chunk is not None
            found[item["qname"]] = chunk
    return found


class FixedVotes(random.Random):
    """A generator that gives the vote of the recording; everything else is as usual."""

    def __init__(self, vote: int) -> None:
        super().__init__(1)
        self._vote = vote

    def getrandbits(self, k: int, /) -> int:
        return self._vote - 1 if k == 32 else super().getrandbits(k)  # a vote is one more than what is drawn


class GoAgent(Stranger):
    """An agent of the deployed implementation, as far as the recordings show it.

    It answers everything that it is sent, gossips in the answers to beats, and says what the test makes it say.

    :param zones: what it serves together with the node.
    """

    def __init__(self, world: World, identity: str, address: str, zones: tuple[str, ...] = ("example.com.",)) -> None:
        super().__init__(world, identity, address)
        self.zones_shared = zones
        self.gossip: list[dict[str, Any]] = []
        self.deaf = False  #: it has no key of the node yet, and leaves messages without an answer

    async def acknowledge(self, received: Received) -> Acknowledgement | None:
        answer = await super().acknowledge(received)
        assert answer is not None
        if isinstance(received.message, Beat):
            return Acknowledgement.model_validate({**answer.model_dump(), "gossip": self.gossip})
        return answer

    def row(self, states: dict[str, str], interval: int = 15) -> dict[str, Any]:
        """Its row of the matrix."""
        return {
            "identity": self.identity,
            "peer_states": states,
            "zones": list(self.zones_shared),
            "timestamp": self.now(),
            "beat_interval": interval,
        }

    def now(self) -> str:
        """The time as Go writes it."""
        return rfc3339(self.clock.now())

    def element(self, group: str, rows: dict[str, Any], election: dict[str, Any] | None = None) -> dict[str, Any]:
        """Gossip about one group."""
        zero = "0001-01-01T00:00:00Z"
        return {
            "group_hash": group,
            "group_name": {"group_hash": "", "name": "", "proposer": "", "proposed_at": zero},
            "members": rows,
            "election": election or {"leader_expiry": zero},
        }

    async def beat(self, node: Any, gossip: list[dict[str, Any]]) -> Sent:
        """A heartbeat as Go sends it: interval 0."""
        body = {
            "MessageType": "beat",
            "MyIdentity": self.identity,
            "YourIdentity": node.identity,
            "MyBeatInterval": 0,
            "Zones": list(self.zones_shared),
            "Time": self.now(),
            "Gossip": gossip,
        }
        return await self.send(json.dumps(body).encode(), node)

    async def replay(self, message: Recorded, node: Any) -> Sent:
        """Send a recorded message, octet for octet."""
        assert (message.sender, message.receiver) == (self.identity, node.identity)
        return await self.converse(message.octets, node)

    async def converse(self, request: bytes, node: Any) -> Sent:
        """Send a DNS message that was made elsewhere, and open the answer."""
        octets = await self.transmit(request, node)
        notify = frame.decode_notify(request)
        response = frame.decode_response(octets, notify.id, notify.question)
        if response.data is None:
            return Sent(octets, response.rcode, None)
        opened = unseal(response.data, self.world.key(node.identity).public(), self.key)
        return Sent(octets, response.rcode, decode_acknowledgement(opened))

    def bodies(self, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The JSON of what it was sent, where *keep* says so."""
        return [body for item in self.received if keep(body := json.loads(item.payload))]
