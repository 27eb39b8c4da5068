"""Incremental transfers on the virtual clock: what is asked, what crosses, and what happens when it does not fit."""

from __future__ import annotations

from random import Random

import anyio
import anyio.lowlevel
import pytest

from mpcore.net.acl import Acl
from mpcore.net.clock import SystemClock
from mpcore.net.framing import MessageStream
from mpcore.net.messages import AXFR, FORMERR, IXFR, NOTIMP, QUERY, REFUSED, SERVFAIL, SOA, make_query
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.net.server import Answer, DnsServer, Request, reply
from mpcore.net.signed import signed_exchange
from mpcore.net.transfer import PrimaryConnection, TransferServer
from mpcore.zone.answer import Responder
from mpcore.zone.journal import Delta, Journal
from mpcore.zone.rrset import RRset
from mpcore.zone.transfer import ixfr_messages, ixfr_query
from mpcore.zone.tsig import TSIG_RESERVE
from mpcore.zone.version import ZoneVersion, diff
from tests.unit.test_net_secondary import KEY, ORIGIN, World, on_the_virtual_clock, version_of

HOST = "10.0.0.1"


class Primary:
    """A primary with a journal; how it answers IXFR can be changed."""

    def __init__(self, world: World, *, journal: Journal | None = None, condense: bool = True) -> None:
        self.zones = {ORIGIN: version_of(1, names=300)}
        self.journal = journal or Journal()
        self.asked: list[str] = []
        self.answered: list[int] = []  #: octets of each transfer
        self.fault: int | bytes | str | None = None  #: RCODE or trouble in the place of an answer to IXFR
        self.transfers = TransferServer(
            self.zones,
            Acl.of([("0.0.0.0/0", "transfer.key.")]),
            journals={ORIGIN: self.journal},
            condense=condense,
        )
        self.server = DnsServer(world.network, [(HOST, 53)], keyring={KEY.name: KEY}, clock=SystemClock(1e9))
        self.server.register(self._soa, QUERY, SOA)
        self.server.register(self._transfer, QUERY, AXFR)
        self.server.register(self._transfer, QUERY, IXFR)

    async def _soa(self, request: Request) -> Answer:
        self.asked.append("SOA")
        return Responder(self.zones).respond(request.octets, over_tcp=request.over_tcp)

    async def _transfer(self, request: Request) -> Answer:
        self.asked.append("IXFR" if request.qtype == IXFR else "AXFR")
        if request.qtype == IXFR and isinstance(self.fault, int):
            return reply(request, self.fault)
        if request.qtype == IXFR and self.fault == "silence":
            await anyio.sleep_forever()
        answer = await self.transfers.handle(request)
        if request.qtype == IXFR and self.fault == "another history":
            theirs = self.zones[ORIGIN]
            mine = theirs.update([(b"\5other" + ORIGIN, 1, RRset.make(1, 60, [b"\1\2\3\4"]))])
            delta = Delta.between(mine, theirs.with_serial(theirs.serial + 1))
            object.__setattr__(delta, "old_soa", version_of(1).soa)
            self.journal._steps.clear()
            return list(ixfr_messages([delta], request.octets, reserve=TSIG_RESERVE))
        assert answer is not None
        if isinstance(answer, bytes):
            self.answered.append(len(answer))
            return answer
        assert not isinstance(answer, list)
        messages = [message async for message in answer]  # type: ignore[union-attr]
        self.answered.append(sum(map(len, messages)))
        return messages

    def change(self, number: int) -> ZoneVersion:
        """One more name, and the next serial."""
        old = self.zones[ORIGIN]
        label = b"new%d" % number
        owner = bytes((len(label),)) + label + ORIGIN
        new = old.update([(owner, 1, RRset.make(1, 60, [bytes((198, 51, 100, number))]))]).with_serial(old.serial + 1)
        self.journal.record(old, new)
        self.zones[ORIGIN] = new
        return new


async def world_of(world: World, **options: object) -> tuple[Primary, SecondaryZone]:
    primary = Primary(world)
    await world.tasks.start(primary.server.serve)
    zone = await world.secondary(HOST, **options)
    await anyio.sleep(1)
    assert zone.serial == 1
    primary.asked.clear()
    primary.answered.clear()
    return primary, zone


@on_the_virtual_clock
async def test_only_the_change_crosses(world: World) -> None:
    primary, zone = await world_of(world)
    for number in range(1, 6):
        version = primary.change(number)
        assert await world.notify(HOST, version, key=KEY) == 0
        await anyio.sleep(0.1)
        assert zone.version is not None
        assert diff(zone.version, version) == []
    assert primary.asked == ["SOA", "IXFR"] * 5
    assert max(primary.answered) < 500
    assert [serial for _, serial in world.received] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("condense", [True, False])
def test_several_versions_at_once(condense: bool) -> None:
    @on_the_virtual_clock
    async def run(world: World) -> None:
        primary = Primary(world, condense=condense)
        await world.tasks.start(primary.server.serve)
        zone = await world.secondary(HOST)
        await anyio.sleep(1)
        for number in (1, 1, 2, 1, 3):
            primary.change(number)
        zone.refresh_now()
        await anyio.sleep(1)
        assert zone.version is not None
        assert diff(zone.version, primary.zones[ORIGIN]) == []
        assert primary.asked[-1] == "IXFR"

    run()


@pytest.mark.parametrize("rcode", [FORMERR, NOTIMP, REFUSED, SERVFAIL])
def test_a_primary_without_ixfr_is_asked_for_the_whole_zone(rcode: int) -> None:
    @on_the_virtual_clock
    async def run(world: World) -> None:
        primary, zone = await world_of(world)
        primary.fault = rcode
        for number in (1, 2):
            primary.change(number)
            zone.refresh_now()
            await anyio.sleep(0.1)
            assert (zone.serial, zone.error) == (number + 1, None)
        assert primary.asked == ["SOA", "IXFR", "AXFR", "SOA", "AXFR"]
        primary.fault = None
        await anyio.sleep(3600)
        primary.change(3)
        zone.refresh_now()
        await anyio.sleep(0.1)
        assert primary.asked[-1] == "IXFR"

    run()


@on_the_virtual_clock
async def test_changes_that_do_not_fit_bring_the_whole_zone(world: World) -> None:
    primary, zone = await world_of(world)
    primary.fault = "another history"
    version = primary.change(1)
    zone.refresh_now()
    await anyio.sleep(0.1)
    assert primary.asked == ["SOA", "IXFR", "AXFR"]
    assert zone.version is not None
    assert diff(zone.version, version) == []
    assert zone.error is None


@on_the_virtual_clock
async def test_silence_after_ixfr_is_not_waited_for_twice(world: World) -> None:
    primary, zone = await world_of(world)
    primary.fault = "silence"
    primary.change(1)
    zone.refresh_now()
    await anyio.sleep(60)
    assert (zone.serial, zone.error) == (2, None)
    assert primary.asked == ["SOA", "IXFR", "SOA", "AXFR"]


@on_the_virtual_clock
async def test_what_came_whole_shares_with_what_was_here(world: World) -> None:
    primary, zone = await world_of(world, incremental=False)
    before = zone.version
    primary.change(1)
    zone.refresh_now()
    await anyio.sleep(0.1)
    assert primary.asked == ["SOA", "AXFR"]
    assert before is not None
    assert zone.version is not None
    assert zone.version.is_near(before, 2)


@on_the_virtual_clock
async def test_a_primary_with_a_short_memory_sends_the_whole_zone(world: World) -> None:
    primary, zone = await world_of(world)
    primary.journal._clear()
    primary.zones[ORIGIN] = version_of(7, names=400)
    zone.refresh_now()
    await anyio.sleep(0.1)
    assert primary.asked == ["SOA", "IXFR"]  # answered with the whole zone
    assert zone.version is not None
    assert zone.version.record_count == 402
    # more changes than records: the whole zone is shorter
    old = primary.zones[ORIGIN]
    new = version_of(8, names=1)
    primary.journal.record(old, new)
    primary.zones[ORIGIN] = new
    primary.answered.clear()
    zone.refresh_now()
    await anyio.sleep(0.1)
    assert zone.version.record_count == 3
    assert primary.answered == [primary.answered[0]]
    assert primary.answered[0] < 400


@on_the_virtual_clock
async def test_what_an_ixfr_request_may_look_like(world: World) -> None:
    primary, zone = await world_of(world)
    old = primary.zones[ORIGIN]
    primary.change(1)

    async def answer(octets: bytes, *, over_tcp: bool = True) -> bytes:
        return await signed_exchange(
            world.network, octets, HOST, key=KEY, clock=world.clock, over_tcp=over_tcp, local_host="10.0.0.7"
        )

    assert (await answer(make_query(1, ORIGIN, IXFR)))[3] & 15 == FORMERR
    over_udp = await answer(ixfr_query(old, 1), over_tcp=False)
    assert over_udp[6:8] == b"\0\1"
    assert primary.zones[ORIGIN].soa.rdatas[0] in over_udp  # newer: the client comes again over TCP
    ahead = await answer(ixfr_query(old.with_serial(99), 1))
    assert ahead[6:8] == b"\0\1"
    assert zone.state is ZoneState.READY


@on_the_virtual_clock
async def test_large_changes_are_compared_elsewhere(world: World) -> None:
    calls = 0

    async def elsewhere(function):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        await anyio.lowlevel.checkpoint()
        return function()

    old = version_of(1, names=9000)
    changes = [(owner, 1, RRset.make(1, 90, [b"\1\2\3\4"])) for owner in list(old.owners())[1:4000]]
    new = old.update(changes).with_serial(2)
    journal = Journal()
    journal.record(old, new)
    assert journal.unsettled()
    transfers = TransferServer({ORIGIN: new}, Acl.of([("0.0.0.0/0", None)]), run=elsewhere, journals={ORIGIN: journal})
    server = DnsServer(world.network, [(HOST, 53)], clock=world.clock)
    server.register(transfers.handle, QUERY, IXFR)
    await world.tasks.start(server.serve)
    async with PrimaryConnection(
        world.network, ORIGIN, (HOST, 53), key=None, clock=world.clock, random=Random(1)
    ) as connection:
        version = await connection.transfer(old)
        assert connection.fell_back is None
    assert diff(version, new) == []
    assert calls == 1
    assert not journal.unsettled()


@on_the_virtual_clock
async def test_one_source_cannot_take_all_transfers(world: World) -> None:
    transfers = TransferServer(
        {ORIGIN: version_of(1, names=9000)}, Acl.of([("0.0.0.0/0", None)]), max_concurrent=3, max_per_source=2
    )
    server = DnsServer(world.network, [(HOST, 53)], clock=world.clock)
    server.register(transfers.handle, QUERY, AXFR)
    await world.tasks.start(server.serve)
    connections = []

    async def begin(source: str) -> int:
        stream = MessageStream(await world.network.connect_tcp(HOST, 53, local_host=source))
        connections.append(stream)
        await stream.send(make_query(1, ORIGIN, AXFR))
        return (await stream.receive())[3] & 15

    assert [await begin("10.0.0.8") for _ in range(3)] == [0, 0, REFUSED]
    assert [await begin("10.0.0.7") for _ in range(2)] == [0, REFUSED]
    for stream in connections:
        await stream.aclose()
    await anyio.sleep(1)
    assert await begin("10.0.0.8") == 0
    await connections[-1].aclose()
