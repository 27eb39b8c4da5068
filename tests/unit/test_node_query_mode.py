"""Payloads that the receiver fetches: what is kept and answered, when that way is taken, and that large sets arrive."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from mpcore.control.models import ChangeRequest, RecordState, Wait
from mpcore.errors import DeliveryError
from mpcore.net.client import exchange
from mpcore.net.server import Request
from mpcore.node.chunks import LIFETIME, ChunkStore
from mpcore.node.outbound import Outbound
from mpcore.records import CHUNK, FORMAT_JWT
from mpcore.sde.plan import read_own_record
from mpcore.wire import frame
from mpcore.wire.chunks import decode_manifest, join
from tests.node_world import CUSTOMER, World

pytestmark = pytest.mark.anyio

VECTORS = json.loads((Path(__file__).parent.parent / "fixtures" / "query-mode.json").read_text("utf-8"))
ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."
ID = "6a12f0d0"


class SetClock:
    """A clock that the test sets."""

    def __init__(self, now: float = 1.8e9) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


def refusing(octets: bytes, source: tuple[str, int], over_tcp: bool) -> bytes:
    return frame.encode_error(octets, 5)


def store(clock: SetClock | None = None, **bounds: int) -> ChunkStore:
    return ChunkStore(clock or SetClock(), refusing, **bounds)


def request(name: str, *, over_tcp: bool = True) -> Request:
    octets = frame.encode_chunk_query(7, name)
    return Request(octets, ("127.0.0.1", 1), over_tcp, 7, 0, octets[12:-4].lower(), 65288, 1)


async def fetched(kept: ChunkStore, name: str) -> frame.ChunkAnswer:
    octets = await kept.handle(request(name))
    assert octets is not None
    return frame.decode_chunk_answer(octets, 7, name)


def answers() -> list[tuple[frame.ChunkQuery, bytes]]:
    """The CHUNK queries with answers that were recorded."""
    queries = {}
    for item in VECTORS:
        if item["opcode"] == "QUERY" and not item["response"]:
            query = frame.decode_chunk_query(bytes.fromhex(item["dns_message"]))
            queries[query.id, query.name] = query
    found = []
    for item in VECTORS:
        octets = bytes.fromhex(item["dns_message"])
        if item["opcode"] == "QUERY" and item["response"] and item["answers"]:
            query = queries.get((octets[0] << 8 | octets[1], item["qname"]))
            if query is not None:
                found.append((query, octets))
    return found


async def test_answers_are_those_of_the_deployed_implementation() -> None:
    """Kept again, the recorded payloads are answered octet for octet as recorded."""
    recorded = answers()
    assert recorded
    for query, octets in recorded:
        chunk = frame.decode_chunk_answer(octets, query.id).chunk
        assert chunk is not None
        members = json.loads(chunk.data)
        metadata = members["metadata"]
        kept = store(SetClock(metadata["timestamp"]))
        sender = query.base.split(f".{metadata['distribution_id']}.", 1)[1]
        payload = join(decode_manifest(chunk), ())
        kept.put(metadata["receiver_id"], metadata["distribution_id"], sender, metadata["content"], payload)
        asked = frame.encode_chunk_query(query.id, query.name)
        answer = await kept.handle(Request(asked, ("127.0.0.1", 1), True, query.id, 0, b"", 65288, 1))
        assert answer is not None
        mine = frame.decode_chunk_answer(answer, query.id).chunk
        assert mine is not None
        # Go writes the members of a map in an order of its own at each level; everything around them is octets.
        assert json.loads(mine.data) == members
        assert len(answer) == len(octets)
        assert answer.replace(mine.data, b"") == octets.replace(chunk.data, b"")


async def test_pieces_and_whole() -> None:
    kept = store()
    small, large = b"s" * 1000, bytes(range(256)) * 700
    kept.put(BRAVO, ID, ALPHA, "sync", small)
    kept.put(BRAVO, "6a12f0d1", ALPHA, "sync", large)
    base = f"{BRAVO}{ID}.{ALPHA}"
    manifest = (await fetched(kept, f"0.{base}")).chunk
    assert manifest is not None
    assert join(decode_manifest(manifest), ()) == small
    whole = (await fetched(kept, base)).chunk
    assert whole is not None
    assert (whole.data, whole.format, whole.sequence, whole.total) == (small, FORMAT_JWT, 0, 1)
    base = f"{BRAVO}6a12f0d1.{ALPHA}"
    manifest = (await fetched(kept, f"0.{base}")).chunk
    assert manifest is not None
    count = decode_manifest(manifest).chunk_count
    assert count == math.ceil(len(large) / 60000)
    chunks: list[CHUNK] = []
    for number in range(1, count + 1):
        chunk = (await fetched(kept, f"{number}.{base}")).chunk
        assert chunk is not None
        chunks.append(chunk)
    assert join(decode_manifest(manifest), chunks) == large
    for name in (f"{count + 1}.{base}", f"65536.{base}", base, f"0.{BRAVO}6a12f0d9.{ALPHA}"):
        octets = await kept.handle(request(name))
        assert octets is not None
        assert octets[3] & 15 == 5, name
    over_udp = await kept.handle(request(f"1.{base}", over_tcp=False))
    assert over_udp is not None
    assert dns.message.from_wire(over_udp).flags & dns.flags.TC


async def test_what_is_kept_is_bounded() -> None:
    clock = SetClock()
    kept = store(clock, capacity=3, octets=100)
    for number in range(5):
        kept.put(BRAVO, f"{number:08x}", ALPHA, "sync", b"x" * 10)
    assert [(await fetched_or_none(kept, number)) for number in range(5)] == [False, False, True, True, True]
    kept.put(BRAVO, "00000005", ALPHA, "sync", b"x" * 85)
    assert len(kept) == 2
    kept.put(BRAVO, "00000005", ALPHA, "sync", b"x" * 85)  # the same name: it takes its place
    assert len(kept) == 2
    clock.time += LIFETIME
    assert not await fetched_or_none(kept, 5)
    assert len(kept) == 0
    with pytest.raises(DeliveryError):
        kept.put(BRAVO, "00000006", ALPHA, "sync", b"x" * 101)
    with pytest.raises(DeliveryError, match="chunks"):
        store().put(BRAVO, "00000006", ALPHA, "sync", b"x" * (1025 * 60000))


async def fetched_or_none(kept: ChunkStore, number: int) -> bool:
    octets = await kept.handle(request(f"0.{BRAVO}{number:08x}.{ALPHA}"))
    return octets is not None and octets[3] & 15 == 0


@pytest.mark.parametrize(
    ("mode", "kind", "size", "by_query"),
    [
        ("auto", "sync", 60000, False),
        ("auto", "sync", 60001, True),
        ("auto", "confirm", 60001, True),
        ("query", "beat", 1000, True),
        ("query", "confirm", 1000, False),
        ("query", "status-update", 1000, False),
        ("query", "confirm", 60001, True),
        ("edns0", "sync", 60000, False),
        ("edns0", "sync", 60001, None),
        ("auto", "sync", (1 << 20) + 1, None),
    ],
)
async def test_which_way_a_payload_takes(mode: Any, kind: str, size: int, by_query: bool | None) -> None:
    class Runtime:
        network = None
        clock = SetClock()

    class Kind:
        TYPE = kind

    runtime: Any = Runtime()
    message: Any = Kind()
    key: Any = None
    directory: Any = None
    outbound = Outbound(ALPHA, key, directory, runtime, chunks=store(), mode=mode)
    if by_query is None:
        with pytest.raises(DeliveryError, match="octets"):
            outbound._by_query(message, size)
    else:
        assert outbound._by_query(message, size) is by_query


@pytest.mark.parametrize("endpoint", ["include", "none"])
async def test_providers_agree_by_query_alone(tmp_path: Path, endpoint: str) -> None:
    """Everybody lets everybody fetch: agents, combiners and signers."""
    world = World(tmp_path)
    changes = {"chunk_mode": "query", "chunk_query_endpoint": endpoint}
    async with world.open():
        for label in world.providers:
            for role in ("combiner", "signer", "agent"):
                await world.start(role, label, **changes)
        await world.until(world.agreed, what="one leader")
        agent = world.node("agent", "alpha")
        record = f"{CUSTOMER} 300 IN NS ns9.alpha.example."
        transaction = await agent.change(CUSTOMER, ChangeRequest(operation="add", record=record))
        done = await agent.wait(transaction.id, Wait.EVERYWHERE, 30)
        assert done.state == "accepted"
        assert len(agent.chunks) > 0
        assert len(world.node("combiner", "bravo").chunks) > 0


async def contribute(agent: Any, count: int) -> None:
    """Have *agent* contribute as many name servers in one message; a change for each would take long."""
    sde, now, label = agent.sde, agent.clock.now(), agent.identity.split(".")[1]
    key = (CUSTOMER, agent.identity, "NS")
    for number in range(count):
        record = read_own_record(CUSTOMER, f"{CUSTOMER} 300 IN NS server-{number:03}.{label}.example.")
        sde._add(key, record, sde._ledger.sequence + 1, now)
    sde._distribute(key, sde._audience(key), now)
    await agent.perform("sde", sde._finish(now))


def of_author(agent: Any, author: str) -> list[Any]:
    return [item for item in agent.edits(CUSTOMER).records if item.originator == author and item.type == "NS"]


async def test_400_records_of_each_arrive_everywhere(tmp_path: Path) -> None:
    """One SYNC with 400 records is fetched in pieces, and so are the EDITS, which no message could carry."""
    world = World(tmp_path)
    async with world.open():
        await world.start_provider("alpha", chunk_mode="query")
        await world.start_provider("bravo")
        await world.until(world.agreed, what="one leader")
        alpha, bravo = world.node("agent", "alpha"), world.node("agent", "bravo")
        for agent in (alpha, bravo):
            await contribute(agent, 400)
        for agent in (alpha, bravo):
            await world.until(
                lambda agent=agent: {item.state for item in of_author(agent, agent.identity)} == {RecordState.ACCEPTED}
            )
        for agent, author in ((alpha, BRAVO), (bravo, ALPHA)):
            theirs = of_author(agent, author)
            assert len(theirs) == 400
            assert {item.state for item in theirs} == {RecordState.ACCEPTED}
            served = world.node("combiner", "bravo").zone_records(CUSTOMER, 10000).records
            assert sum(1 for item in served if item.origin == author and "server-" in item.record) == 400

        combiner = world.node("combiner", "bravo")
        told = []
        edits_received = bravo.sde.edits_received
        bravo.sde.edits_received = lambda zone, records, now: (
            told.append(records),
            edits_received(zone, records, now),
        )[1]
        await bravo.send(combiner.identity, bravo.rfi(combiner.identity, CUSTOMER, "EDITS"))
        await world.until(lambda: told, what="EDITS")
        assert sum(len(texts) for owners in told[0].values() for texts in owners.values()) >= 800
        # It was these EDITS that were fetched, whatever else the combiner had to say meanwhile.
        said = [item for item in combiner.history.listed() if (item.type, item.direction) == ("edits", "out")]
        assert said[-1].mode == "query"
        assert frame.chunk_name(BRAVO, said[-1].id, combiner.identity) in combiner.chunks._kept

        # Whoever asks at the agent's address gets the same pieces; another name is no name of ours.
        name = next(iter(alpha.chunks._kept))
        endpoint = alpha.settings.listen[0]
        for asked, rcode in ((f"0.{name}", dns.rcode.NOERROR), (f"0.x{name}", dns.rcode.NXDOMAIN)):
            octets = await exchange(
                alpha.runtime.network,
                frame.encode_chunk_query(9, asked),
                endpoint.address,
                endpoint.port,
                over_tcp=True,
            )
            assert octets[3] & 15 == rcode
