"""Zones over restarts: what is kept, what a change writes, what is not to be trusted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
import trio.testing

from mpcore.errors import StoreFullError, ZoneError
from mpcore.names import ZoneName
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.node import keeping
from mpcore.node.keeping import Kept, KeptZone, load_kept
from mpcore.sim.network import SimNetwork
from mpcore.store.database import Database, inline_executor
from mpcore.store.signer import APPLICATION_ID, MIGRATIONS
from mpcore.store.zones import load_copies, load_deltas
from mpcore.zone.journal import Delta, condense
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset
from mpcore.zone.serial import is_newer
from mpcore.zone.version import ZoneBuilder, ZoneVersion, diff
from tests.node_world import CUSTOMER, World, inline, may_block

pytestmark = pytest.mark.anyio

ORIGIN = from_text("example.")
SOA = b"\2ns\xc0\0"
CUSTOMER_ORIGIN = ZoneName(CUSTOMER).owner


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def soa(serial: int) -> bytes:
    numbers = b"".join(number.to_bytes(4, "big") for number in (serial, 3600, 600, 86400, 300))
    return from_text("ns.example.") + from_text("hm.example.") + numbers


def zone(serial: int, names: int) -> ZoneVersion:
    builder = ZoneBuilder(ORIGIN)
    builder.add(ORIGIN, 6, 300, soa(serial))
    builder.add(ORIGIN, 2, 300, from_text("ns.example."))
    for number in range(names):
        builder.add(from_text(f"host{number}.example."), 1, 300, number.to_bytes(4, "big"))
    return builder.finish()


def published(incoming: ZoneVersion, serial: int) -> ZoneVersion:
    """Something at every name, as signatures are, and a name that the incoming zone does not have."""
    changes = [(owner, 16, RRset.make(16, 60, [b"\1s"])) for owner in incoming.owners()]
    changes.append((from_text("chain.example."), 16, RRset.make(16, 60, [b"\1n"])))
    return incoming.update(changes).with_serial(serial)


def without(version: ZoneVersion, label: str) -> ZoneVersion:
    owner = from_text(f"{label}.example.")
    return version.update([(owner, rdtype, None) for rdtype in version.types(owner)])


class Bench:
    """One kept zone with a database of its own."""

    def __init__(self, database: Database, tasks: anyio.abc.TaskGroup) -> None:
        self.database, self.tasks = database, tasks
        self.rows: list[int] = []  #: rows that each transaction has changed
        self.fail = 0
        self.zone = self.make()

    def make(self, **bounds: int) -> KeptZone:
        return KeptZone(
            ORIGIN,
            write=self.write,
            run=inline,
            spawn=self.spawn,
            **({"max_octets": 1 << 20, "max_changes": 100} | bounds),
        )

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.tasks.start_soon(function)

    async def write(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        if self.fail:
            self.fail -= 1
            raise StoreFullError("full")

        def counted(connection: sqlite3.Connection) -> Any:
            before = connection.total_changes
            result = function(connection)
            self.rows.append(connection.total_changes - before)
            return result

        return await self.database.write(counted)

    async def publish(self, incoming: ZoneVersion, outgoing: ZoneVersion | None, made: str = "") -> None:
        staged = self.zone.stage(incoming, outgoing, made)
        await self.write(staged.write)
        staged.commit()

    async def load(self) -> Kept:
        states = await self.database.read(load_copies)
        return await self.database.read(lambda connection: load_kept(connection, ORIGIN, states["example."]))


@pytest.fixture
async def bench(tmp_path: Path) -> Any:
    database = await Database.open(tmp_path / "state", MIGRATIONS, inline_executor, application_id=APPLICATION_ID)
    async with anyio.create_task_group() as tasks:
        with may_block():
            yield Bench(database, tasks)
            await database.close()
        tasks.cancel_scope.cancel()


def same(left: ZoneVersion | None, right: ZoneVersion | None) -> bool:
    if left is None or right is None:
        return left is right
    return left.record_count == right.record_count and not diff(left, right)


async def test_a_zone_and_its_changes_come_back(bench: Bench) -> None:
    incoming = zone(1, 300)
    outgoing = published(incoming, 10)
    await bench.publish(incoming, outgoing, "signed")
    random = Random(3)
    for number in range(20):
        owner = from_text(f"host{random.randrange(400)}.example.")
        rrset = None if random.random() < 0.3 else RRset.make(1, 300, [bytes((10, 0, 0, number))])
        incoming = incoming.update([(owner, 1, rrset)]).with_serial(2 + number)
        outgoing = published(incoming, 11 + number) if number % 3 else outgoing.with_serial(11 + number)
        outgoing = outgoing.sharing_with(bench.zone.outgoing or outgoing)
        await bench.publish(incoming, outgoing, "signed")
        kept = await bench.load()
        assert kept.made == "signed"
        assert same(kept.incoming, incoming)
        assert same(kept.outgoing, outgoing)
        again = bench.make()
        again.restore(kept)
        assert again.journal.serials == bench.zone.journal.serials == tuple(range(10, 11 + number))
        deltas = again.journal.since(10, outgoing.serial)
        assert deltas is not None
        assert condense(deltas) == condense(bench.zone.journal.since(10) or [])


async def test_a_change_writes_what_it_changes(bench: Bench) -> None:
    incoming = zone(1, 20_000)
    await bench.publish(incoming, published(incoming, 10))
    await anyio.sleep(1)  # what is large is written in the background
    assert sum(bench.rows) > 40_000
    assert max(bench.rows) <= keeping._SLICE + 2
    bench.rows.clear()
    owner = from_text("host77.example.")
    changes = [(owner, 1, RRset.make(1, 60, [b"abcd"]))]
    following = incoming.update(changes).with_serial(2)
    assert bench.zone.outgoing is not None
    await bench.publish(following, bench.zone.outgoing.update(changes).with_serial(11))
    assert len(bench.rows) == 1
    # apex and name, in both parts, and the change with its serial
    assert bench.rows[0] <= 8
    kept = await bench.load()
    assert same(kept.incoming, following)
    assert same(kept.outgoing, bench.zone.outgoing)
    assert [delta.new_serial for _, delta in kept.deltas] == [11]


async def test_a_merged_zone_is_kept_once(bench: Bench) -> None:
    incoming = zone(1, 500)
    outgoing = incoming.update([(ORIGIN, 2, RRset.make(2, 300, [from_text("other.")]))]).with_serial(5)
    await bench.publish(incoming, outgoing)
    rows = await bench.database.read(
        lambda connection: connection.execute("SELECT count(*) FROM zone_rows WHERE part = 1").fetchone()[0]
    )
    assert rows == 1
    kept = await bench.load()
    assert same(kept.outgoing, outgoing)
    assert kept.outgoing is not None
    assert kept.outgoing.is_near(kept.incoming, 2)  # in memory, too


async def test_nothing_published_and_names_published_without(bench: Bench) -> None:
    incoming = zone(1, 5)
    await bench.publish(incoming, None)
    assert (await bench.load()).outgoing is None
    outgoing = without(incoming, "host3").with_serial(9)
    await bench.publish(incoming, outgoing)
    kept = await bench.load()
    assert same(kept.incoming, incoming)
    assert same(kept.outgoing, outgoing)
    incoming = without(incoming, "host3").with_serial(2)
    await bench.publish(incoming, outgoing)
    kept = await bench.load()
    assert same(kept.incoming, incoming)
    assert same(kept.outgoing, outgoing)


async def test_a_copy_torn_in_the_middle_is_not_used(bench: Bench) -> None:
    incoming = zone(1, 20_000)
    staged = bench.zone.stage(incoming, published(incoming, 10))
    await bench.write(staged.write)
    staged.commit()
    with anyio.move_on_after(100):
        while len(bench.rows) < 4:
            await anyio.lowlevel.checkpoint()
        bench.fail = 1 << 30  # the process is killed here, as far as the disk can tell
    with pytest.raises(ZoneError, match="torn"):
        await bench.load()
    # the next start throws it away and writes it anew
    bench.fail = 0
    bench.zone = bench.make()
    bench.zone.discard()
    small = zone(7, 3)
    await bench.publish(small, small.with_serial(20))
    await anyio.sleep(1)
    kept = await bench.load()
    assert same(kept.incoming, small)
    assert same(kept.outgoing, small.with_serial(20))


async def test_a_disk_without_room_is_tried_again(bench: Bench) -> None:
    incoming = zone(1, 5000)
    bench.fail = 0
    staged = bench.zone.stage(incoming, published(incoming, 10))
    await bench.write(staged.write)
    bench.fail = 3
    staged.commit()
    await anyio.sleep(60)
    assert same((await bench.load()).outgoing, published(incoming, 10))


async def test_changes_during_the_first_writing_are_not_lost(bench: Bench) -> None:
    incoming = zone(1, 20_000)
    outgoing = published(incoming, 10)
    await bench.publish(incoming, outgoing)
    for serial in range(11, 15):
        owner = from_text(f"host{serial}.example.")
        outgoing = outgoing.update([(owner, 1, RRset.make(1, 60, [b"wxyz"]))]).with_serial(serial)
        await bench.publish(incoming, outgoing)
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(1)
    kept = await bench.load()
    assert same(kept.outgoing, outgoing)
    assert [delta.old_serial for _, delta in kept.deltas] == [10, 11, 12, 13]


async def test_the_journal_is_bounded_on_the_disk(bench: Bench) -> None:
    bench.zone = bench.make(max_changes=5)
    version = zone(1, 3)
    for serial in range(1, 40):
        version = version.with_serial(serial)
        await bench.publish(version, version)
    rows = await bench.database.read(lambda connection: load_deltas(connection, "example."))
    assert 5 <= len(rows) <= 6
    again = bench.make(max_changes=5)
    again.restore(await bench.load())
    assert again.journal.serials == tuple(range(34, 39))


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE zone_rows SET records = x'0001' WHERE part = 0", "damaged"),
        ("DELETE FROM zone_rows WHERE part = 0 AND length(owner) > 5", "not those"),
        ("DELETE FROM zone_rows WHERE part = 0 AND length(owner) = 0", "SOA"),
        ("DELETE FROM zone_rows WHERE part = 1", "not those"),
    ],
)
async def test_a_damaged_copy_is_not_used(bench: Bench, statement: str, reason: str) -> None:
    incoming = zone(1, 20)
    await bench.publish(incoming, published(incoming, 10))
    await bench.database.write(lambda connection: connection.execute(statement).rowcount)
    with pytest.raises(ZoneError, match=reason):
        await bench.load()


async def test_a_damaged_change_ends_the_series(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    version = zone(1, 3)
    for serial in range(1, 6):
        version = version.with_serial(serial)
        await bench.publish(version, version)
    await bench.database.write(
        lambda connection: connection.execute("UPDATE zone_deltas SET records = x'00' WHERE position = 1").rowcount
    )
    kept = await bench.load()
    assert [delta.old_serial for _, delta in kept.deltas] == [3, 4]
    assert "whole zone" in caplog.text


def test_changes_as_octets() -> None:
    old, new = zone(1, 30), without(published(zone(5, 20), 5), "host3")
    delta = Delta.between(old, new)
    octets = delta.to_octets()
    assert Delta.from_octets(octets) == delta
    for length in range(len(octets)):
        try:
            Delta.from_octets(octets[:length])
        except ZoneError:
            continue
    random = Random(1)
    for _ in range(2000):
        damaged = bytearray(octets)
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        try:
            Delta.from_octets(bytes(damaged))
        except ZoneError:
            continue


# --- nodes -----------------------------------------------------------------------------------------------------------


def changed(world: World, serial: int) -> ZoneVersion:
    return world.customer(serial).update([(b"\x05extra" + CUSTOMER_ORIGIN, 1, RRset.make(1, 60, [b"abcd"]))])


@pytest.mark.parametrize("role", ["combiner", "signer"])
async def test_a_restarted_node_serves_what_it_served(tmp_path: Path, role: str) -> None:
    world = World(tmp_path, SimNetwork(lambda passage: 0.005), providers=("alpha", "bravo"), epoch=1.8e9)
    async with world.open():
        for each in ("combiner", "signer"):
            await world.start(each, "alpha")
        node = world.node(role, "alpha")
        await world.until(lambda: CUSTOMER_ORIGIN in node.served, 60, "served")
        first = node.served[CUSTOMER_ORIGIN].serial
        world.publish_customer(changed(world, 50))
        for each in ("combiner", "signer"):
            world.node(each, "alpha").secondaries[CUSTOMER_ORIGIN].refresh_now()
            await anyio.sleep(5)
        before = node.served[CUSTOMER_ORIGIN]
        assert before.get(b"\x05extra" + CUSTOMER_ORIGIN, 1) is not None
        for each in ("combiner", "signer"):
            await world.stop(world.node(each, "alpha"))
        # nobody is there to transfer from, and it is served all the same
        again = await world.start(role, "alpha")
        assert same(again.served[CUSTOMER_ORIGIN], before)
        assert again.secondaries[CUSTOMER_ORIGIN].state is ZoneState.READY
        assert again.status().ready
        deltas = again.journals[CUSTOMER_ORIGIN].since(first, before.serial)
        assert deltas is not None
        assert condense(deltas).old_serial == first
        # and it goes on from there
        other = {"combiner": "signer", "signer": "combiner"}[role]
        await world.start(other, "alpha")
        world.publish_customer(world.customer(60))
        await world.until(
            lambda: again.served[CUSTOMER_ORIGIN].get(b"\x05extra" + CUSTOMER_ORIGIN, 1) is None, 4000, "it follows"
        )
        assert is_newer(again.served[CUSTOMER_ORIGIN].serial, before.serial)
        assert again.journals[CUSTOMER_ORIGIN].since(first) is not None


async def test_a_zone_that_expired_meanwhile_is_not_served(tmp_path: Path) -> None:
    world = World(tmp_path, SimNetwork(lambda passage: 0.005), providers=("alpha", "bravo"), epoch=1.8e9)
    async with world.open():
        node = await world.start("combiner", "alpha")
        await world.until(lambda: CUSTOMER_ORIGIN in node.served, 60, "served")
        last = node.served[CUSTOMER_ORIGIN].serial
        await world.stop(node)
        world.epoch = 1.8e9 + 604800 + 60  # the node makes a clock of its own, which begins there
        again = world.make("combiner", "alpha")
        states: list[ZoneState] = []
        restore = again.restore_secondary

        def restored(secondary: SecondaryZone, *arguments: Any) -> bool:
            alive: bool = restore(secondary, *arguments)
            states.append(secondary.state)
            return alive

        again.restore_secondary = restored
        await world.run(again)
        assert states == [ZoneState.EXPIRED]
        await world.until(lambda: CUSTOMER_ORIGIN in again.served, 60, "transferred again")
        assert is_newer(again.served[CUSTOMER_ORIGIN].serial, last)
