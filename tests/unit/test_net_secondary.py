"""Secondary zones on the virtual clock: a whole primary and a whole secondary over a network in memory."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from random import Random

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trio
import trio.testing

from mpcore.errors import ConfigError, PolicyError
from mpcore.net.acl import Acl
from mpcore.net.clock import SystemClock
from mpcore.net.messages import AXFR, NOTAUTH, NOTIFY, QUERY, REFUSED, SOA, empty_reply, make_query, rcode_of
from mpcore.net.notify import NotifyReceiver, send_notify
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.net.server import Answer, DnsServer, Request
from mpcore.net.signed import signed_exchange
from mpcore.net.transfer import TransferLimits, TransferServer
from mpcore.zone.answer import Responder
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneVersion
from tests.unit.memory_network import MemoryNetwork

ORIGIN = from_text("customer.example.")
KEY = TsigKey(from_text("transfer.key."), "hmac-sha256", b"0123456789abcdef0123456789abcdef")
REFRESH, RETRY, EXPIRE = 1000, 100, 5000


def version_of(serial: int, *, names: int = 1) -> ZoneVersion:
    timers = b"".join(number.to_bytes(4, "big") for number in (serial, REFRESH, RETRY, EXPIRE, 60))
    rrsets = [
        (ORIGIN, RRset.make(6, 60, [from_text("ns.example.") + from_text("hm.example.") + timers])),
        (ORIGIN, RRset.make(2, 60, [from_text("ns.example.")])),
    ]
    for number in range(names):
        label = f"host{number}".encode()
        rrsets.append((bytes((len(label),)) + label + ORIGIN, RRset.make(1, 60, [bytes((192, 0, 2, number % 250))])))
    return ZoneVersion.build(ORIGIN, rrsets)


class Primary:
    """A primary at *host*, port 53, with what is asked of it written down."""

    def __init__(self, network: MemoryNetwork, host: str, serial: int | None, **options: object) -> None:
        self.host, self.network = host, network
        self.zones: dict[bytes, ZoneVersion] = {} if serial is None else {ORIGIN: version_of(serial)}
        self.asked: list[str] = []
        self.server = DnsServer(network, [(host, 53)], keyring={KEY.name: KEY}, clock=SystemClock(1e9))
        self._transfers = TransferServer(self.zones, Acl.of([("0.0.0.0/0", "transfer.key.")]))
        self.server.register(self._soa, QUERY, SOA)
        self.server.register(self._axfr, QUERY, AXFR)

    async def _soa(self, request: Request) -> Answer:
        self.asked.append("SOA")
        return Responder(self.zones).respond(request.octets, over_tcp=request.over_tcp)

    async def _axfr(self, request: Request) -> Answer:
        self.asked.append("AXFR")
        return await self._transfers.handle(request)

    def set(self, serial: int, *, names: int = 1) -> None:
        self.zones[ORIGIN] = version_of(serial, names=names)


class World:
    """One secondary zone, with its server, and its primaries."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.tasks = tasks
        self.network = MemoryNetwork()
        self.clock = SystemClock(1e9)
        self.received: list[tuple[float, int]] = []
        self.states: list[ZoneState] = []
        self.start = anyio.current_time()

    @property
    def now(self) -> float:
        return anyio.current_time() - self.start

    async def primary(self, host: str, serial: int | None) -> Primary:
        primary = Primary(self.network, host, serial)
        await self.tasks.start(primary.server.serve)
        return primary

    async def secondary(self, *hosts: str, **options: object) -> SecondaryZone:
        async def on_version(version: ZoneVersion) -> None:
            self.received.append((self.now, version.serial))

        settings: dict[str, object] = {"on_version": on_version, "min_refresh": 10.0, "random": Random(7)} | options
        zone = SecondaryZone(
            self.network,
            ORIGIN,
            [RemoteServer(host, 53, "transfer.key.") for host in hosts],
            {KEY.name: KEY},
            clock=self.clock,
            on_state=lambda zone: self.states.append(zone.state),
            local_host="10.0.0.9",
            **settings,  # type: ignore[arg-type]
        )
        server = DnsServer(self.network, [("10.0.0.9", 53)], keyring={KEY.name: KEY}, clock=self.clock)
        server.register(NotifyReceiver({ORIGIN: zone}).handle, NOTIFY, SOA)
        await self.tasks.start(server.serve)
        await self.tasks.start(zone.run)
        return zone

    async def notify(
        self, source: str, version: ZoneVersion, *, key: TsigKey | None = None, over_tcp: bool = False
    ) -> int:
        target = RemoteServer("10.0.0.9")
        return await send_notify(
            self.network,
            version,
            target,
            clock=self.clock,
            query_id=1,
            key=key,
            over_tcp=over_tcp,
            local_host=source,
        )


def on_the_virtual_clock(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                await test(World(tasks))
                tasks.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest must not see the parameter
    return run


@on_the_virtual_clock
async def test_the_first_load_does_not_wait(world: World) -> None:
    await world.primary("10.0.0.1", 5)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(0.1)
    assert world.received == [(0.0, 5)]
    assert (zone.state, zone.serial, zone.error, zone.primary) == (ZoneState.READY, 5, None, "10.0.0.1:53")
    assert zone.refreshed_at == 1e9
    assert zone.version is not None
    assert zone.version.record_count == 3


@on_the_virtual_clock
async def test_the_first_load_is_retried_quickly_and_then_less_often(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    world.network.down.add("10.0.0.1")
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    assert zone.state is ZoneState.LOADING
    assert zone.error is not None
    assert "refused" in zone.error
    world.network.down.clear()
    await anyio.sleep(1)
    assert [serial for _, serial in world.received] == [5]
    assert world.received[0][0] < 2
    assert primary.asked == ["AXFR"]


@on_the_virtual_clock
async def test_a_zone_that_the_primary_does_not_have_is_an_error_until_it_has(world: World) -> None:
    primary = await world.primary("10.0.0.1", None)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(200)
    assert zone.state is ZoneState.ERROR
    assert zone.error is not None
    assert "NOTAUTH" in zone.error
    assert 5 < len(primary.asked) < 20
    primary.set(1)
    await anyio.sleep(31)
    assert (zone.state, zone.error, zone.serial) == (ZoneState.READY, None, 1)


@on_the_virtual_clock
async def test_a_notify_brings_the_new_version_at_once(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(50)
    for serial, key, over_tcp in ((6, None, False), (7, KEY, False), (8, None, True), (9, KEY, True)):
        primary.set(serial)
        assert await world.notify("10.0.0.1", primary.zones[ORIGIN], key=key, over_tcp=over_tcp) == 0
        await anyio.sleep(0.01)
        assert zone.serial == serial
    assert [serial for _, serial in world.received] == [5, 6, 7, 8, 9]
    assert world.now < 51


@on_the_virtual_clock
async def test_a_notify_from_elsewhere_is_refused(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    primary.set(6)
    assert await world.notify("10.0.0.66", primary.zones[ORIGIN]) == REFUSED
    other = make_query(1, from_text("other.example."), SOA, opcode=NOTIFY)
    answer = await signed_exchange(world.network, other, "10.0.0.9", key=None, clock=world.clock, local_host="10.0.0.1")
    assert rcode_of(answer) == NOTAUTH
    await anyio.sleep(1)
    assert [serial for _, serial in world.received] == [5]


@on_the_virtual_clock
async def test_a_burst_of_notifies_costs_one_refresh_more(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    primary.asked.clear()
    primary.set(6)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(world.notify, "10.0.0.1", primary.zones[ORIGIN])
    await anyio.sleep(1)
    assert [serial for _, serial in world.received] == [5, 6]
    assert primary.asked.count("AXFR") == 1
    assert primary.asked.count("SOA") <= 3


@on_the_virtual_clock
async def test_a_notify_during_a_transfer_is_not_lost(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    taken: list[int] = []

    async def slowly(version: ZoneVersion) -> None:
        if version.serial == 6:
            primary.set(7)
            assert await world.notify("10.0.0.1", primary.zones[ORIGIN]) == 0
            await anyio.sleep(30)
        taken.append(version.serial)

    await world.secondary("10.0.0.1", on_version=slowly)
    await anyio.sleep(1)
    primary.set(6)
    await world.notify("10.0.0.1", primary.zones[ORIGIN])
    await anyio.sleep(31)
    assert taken == [5, 6, 7]


@on_the_virtual_clock
async def test_without_notify_the_refresh_timer_finds_the_change(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    primary.set(6)
    await anyio.sleep(0.9 * REFRESH - 2)
    assert [serial for _, serial in world.received] == [5]
    await anyio.sleep(0.1 * REFRESH + 2)
    assert [serial for _, serial in world.received] == [5, 6]


@on_the_virtual_clock
async def test_timers_stay_within_our_bounds(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    await world.secondary("10.0.0.1", max_refresh=60.0)
    await anyio.sleep(1)
    primary.set(6)
    await anyio.sleep(60)
    assert [serial for _, serial in world.received] == [5, 6]


@on_the_virtual_clock
async def test_an_unconfirmed_zone_expires_and_comes_back(world: World) -> None:
    primary = await world.primary("10.0.0.1", 5)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    world.network.down.add("10.0.0.1")
    await anyio.sleep(REFRESH)
    assert zone.state is ZoneState.READY
    assert zone.error is not None
    await anyio.sleep(EXPIRE - REFRESH)
    assert zone.state is ZoneState.EXPIRED
    primary.set(4)  # restored from a backup: an expired zone takes what there is
    world.network.down.clear()
    await anyio.sleep(RETRY + 1)
    assert (zone.state, zone.error, zone.serial) == (ZoneState.READY, None, 4)
    assert world.states == [ZoneState.READY, ZoneState.READY, ZoneState.EXPIRED, ZoneState.READY]


@on_the_virtual_clock
async def test_a_confirmed_zone_does_not_expire(world: World) -> None:
    await world.primary("10.0.0.1", 5)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(10 * EXPIRE)
    assert (zone.state, zone.error) == (ZoneState.READY, None)
    assert world.received == [(0.0, 5)]
    assert zone.refreshed_at is not None
    assert zone.refreshed_at > 1e9 + 9 * EXPIRE


@on_the_virtual_clock
async def test_serials_compare_by_rfc_1982(world: World) -> None:
    primary = await world.primary("10.0.0.1", 0xFFFFFFFE)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    for serial in (0xFFFFFFFF, 0, 17):
        primary.set(serial)
        await world.notify("10.0.0.1", primary.zones[ORIGIN])
        await anyio.sleep(1)
        assert zone.serial == serial
    primary.set(16)
    await world.notify("10.0.0.1", primary.zones[ORIGIN])
    await anyio.sleep(1)
    assert zone.serial == 17
    assert zone.error is not None
    assert "behind" in zone.error
    zone.refresh_now(force=True)
    await anyio.sleep(1)
    assert (zone.serial, zone.error) == (16, None)


@on_the_virtual_clock
async def test_another_primary_takes_over(world: World) -> None:
    first, second = await world.primary("10.0.0.1", 5), await world.primary("10.0.0.2", 5)
    zone = await world.secondary("10.0.0.1", "10.0.0.2")
    await anyio.sleep(1)
    assert zone.primary == "10.0.0.1:53"
    world.network.down.add("10.0.0.1")
    second.set(6)
    await world.notify("10.0.0.2", second.zones[ORIGIN])
    await anyio.sleep(1)
    assert (zone.serial, zone.primary, zone.error) == (6, "10.0.0.2:53", None)
    world.network.down.clear()  # the first is back, and behind: that hides nothing of the second
    second.set(7)
    await anyio.sleep(REFRESH)
    assert (zone.serial, zone.error) == (7, None)
    first.set(8)  # and now the second lags
    zone.refresh_now()
    await anyio.sleep(1)
    assert zone.serial == 8


@on_the_virtual_clock
async def test_a_version_that_is_not_taken_is_fetched_again(world: World) -> None:
    await world.primary("10.0.0.1", 5)
    attempts = 0

    async def full(version: ZoneVersion) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise PolicyError("the disk is full")

    zone = await world.secondary("10.0.0.1", on_version=full)
    await anyio.sleep(0.1)
    assert (zone.serial, zone.error, zone.state) == (None, "the disk is full", ZoneState.ERROR)
    await anyio.sleep(5)
    assert (zone.serial, zone.error, attempts) == (5, None, 3)


@on_the_virtual_clock
async def test_a_transfer_has_bounds(world: World) -> None:
    primary = await world.primary("10.0.0.1", None)
    primary.set(5, names=5000)
    zone = await world.secondary("10.0.0.1", limits=TransferLimits(max_octets=50_000))
    await anyio.sleep(1)
    assert zone.error is not None
    assert "larger than allowed" in zone.error
    zone = SecondaryZone(
        world.network,
        ORIGIN,
        [RemoteServer("10.0.0.1", 53, "no.such.key.")],
        {},
        clock=world.clock,
        on_version=lambda version: anyio.lowlevel.checkpoint(),
    )
    await world.tasks.start(zone.run)
    await anyio.sleep(1)
    assert zone.error is not None
    assert "there is no TSIG key no.such.key." in zone.error


@on_the_virtual_clock
async def test_a_primary_that_falls_silent_is_given_up(world: World) -> None:
    async def silent(request: Request) -> Answer:
        await anyio.sleep_forever()

    server = DnsServer(world.network, [("10.0.0.3", 53)], keyring={KEY.name: KEY}, clock=world.clock)
    server.register(silent, QUERY)
    await world.tasks.start(server.serve)
    await world.primary("10.0.0.1", 5)
    zone = await world.secondary("10.0.0.3", "10.0.0.1")
    await anyio.sleep(40)
    assert (zone.serial, zone.primary) == (5, "10.0.0.1:53")


@on_the_virtual_clock
async def test_an_unsigned_answer_is_not_taken(world: World) -> None:
    async def unsigned(request: Request) -> Answer:
        return empty_reply(request.octets, 0)

    server = DnsServer(world.network, [("10.0.0.1", 53)])  # knows no key: NOTAUTH, BADKEY
    server.register(unsigned, QUERY)
    await world.tasks.start(server.serve)
    zone = await world.secondary("10.0.0.1")
    await anyio.sleep(1)
    assert zone.state is ZoneState.ERROR
    assert zone.error is not None
    assert "BADKEY" in zone.error


def test_a_zone_needs_a_primary() -> None:
    with pytest.raises(ConfigError):
        SecondaryZone(
            MemoryNetwork(), ORIGIN, [], {}, clock=SystemClock(), on_version=lambda version: anyio.lowlevel.checkpoint()
        )
