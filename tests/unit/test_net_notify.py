"""Telling secondaries, on the virtual clock."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random

import anyio
import anyio.abc
import dns.message
import dns.opcode
import dns.tsig
import pytest
import trio
import trio.testing

from mpcore.net.clock import SystemClock
from mpcore.net.messages import NOERROR, NOTIFY, NOTIMP, REFUSED, SOA
from mpcore.net.notify import Notifier, parse_notify
from mpcore.net.remote import RemoteServer
from mpcore.net.server import Answer, DnsServer, Request, reply
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneVersion
from tests.unit.memory_network import MemoryNetwork

ORIGIN = from_text("customer.example.")
KEY = TsigKey(from_text("transfer.key."), "hmac-sha256", b"0123456789abcdef0123456789abcdef")


def version_of(serial: int) -> ZoneVersion:
    timers = b"".join(number.to_bytes(4, "big") for number in (serial, 1000, 100, 5000, 60))
    soa = from_text("ns.example.") + from_text("hm.example.") + timers
    return ZoneVersion.build(ORIGIN, [(ORIGIN, RRset.make(6, 60, [soa]))])


class World:
    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.tasks = tasks
        self.network = MemoryNetwork()
        self.clock = SystemClock(time.time())
        self.told: list[tuple[str, int | None, bool, bool]] = []  # host, serial, signed, over TCP
        self.rcode = NOERROR
        self.pause = 0.0

    async def secondary(self, host: str) -> None:
        async def handle(request: Request) -> Answer:
            self.told.append((host, parse_notify(request).serial, request.key is not None, request.over_tcp))
            await anyio.sleep(self.pause)
            return reply(request, self.rcode, authoritative=True)

        server = DnsServer(self.network, [(host, 53)], keyring={KEY.name: KEY}, clock=self.clock)
        server.register(handle, NOTIFY, SOA)
        await self.tasks.start(server.serve)

    async def notifier(self, *hosts: str, key: str | None = None, **options: object) -> Notifier:
        targets = {ORIGIN: [RemoteServer(host, 53, key) for host in hosts]}
        notifier = Notifier(
            self.network,
            targets,
            {KEY.name: KEY},
            clock=self.clock,
            random=Random(3),
            local_host="10.0.0.9",
            **options,  # type: ignore[arg-type]
        )
        await self.tasks.start(notifier.run)
        return notifier


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
async def test_each_secondary_is_told_at_once(world: World) -> None:
    await world.secondary("10.0.0.1")
    await world.secondary("10.0.0.2")
    notifier = await world.notifier("10.0.0.1", "10.0.0.2", key="transfer.key.")
    notifier.notify(version_of(7))
    await anyio.sleep(0.01)
    assert sorted(world.told) == [("10.0.0.1", 7, True, False), ("10.0.0.2", 7, True, False)]
    assert notifier.pending == ()
    sent = dns.message.from_wire(world.network.datagrams[0][0], keyring=dns.tsig.Key("transfer.key.", KEY.secret))
    assert sent.opcode() == dns.opcode.NOTIFY
    assert sent.question[0].to_text() == "customer.example. IN SOA"
    assert sent.answer[0][0].serial == 7  # type: ignore[attr-defined]
    assert {source[0] for _, source, target in world.network.datagrams if target[1] == 53} == {"10.0.0.9"}


@on_the_virtual_clock
async def test_what_was_notified_before_the_start_is_sent(world: World) -> None:
    await world.secondary("10.0.0.1")
    notifier = Notifier(world.network, {ORIGIN: [RemoteServer("10.0.0.1")]}, {}, clock=world.clock, random=Random(3))
    notifier.notify(version_of(1))
    notifier.notify(version_of(2))
    await world.tasks.start(notifier.run)
    await anyio.sleep(0.01)
    assert world.told == [("10.0.0.1", 2, False, False)]


@on_the_virtual_clock
async def test_lost_datagrams_are_repeated_and_then_tcp_is_used(world: World) -> None:
    await world.secondary("10.0.0.1")
    notifier = await world.notifier("10.0.0.1")
    world.network.drops = lambda octets, source, target: len(world.network.datagrams) == 1
    notifier.notify(version_of(7))
    await anyio.sleep(1.01)
    assert world.told == [("10.0.0.1", 7, False, False)]
    world.network.drops = lambda octets, source, target: True
    notifier.notify(version_of(8))
    await anyio.sleep(3.01)
    assert world.told[1:] == [("10.0.0.1", 8, False, True)]
    assert notifier.pending == ()


@on_the_virtual_clock
async def test_a_secondary_that_is_down_is_told_when_it_is_back(world: World) -> None:
    await world.secondary("10.0.0.1")
    notifier = await world.notifier("10.0.0.1")
    world.network.down.add("10.0.0.1")
    notifier.notify(version_of(7))
    await anyio.sleep(60)
    (pending,) = notifier.pending
    assert (pending.serial, pending.target.address) == (7, "10.0.0.1")
    assert pending.attempts >= 3
    assert pending.error is not None
    world.network.down.clear()
    await anyio.sleep(80)
    assert world.told == [("10.0.0.1", 7, False, False)]
    assert notifier.pending == ()


def test_attempts_end_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    @on_the_virtual_clock
    async def test(world: World) -> None:
        notifier = await world.notifier("10.0.0.1", attempts=4)
        notifier.notify(version_of(7))
        await anyio.sleep(3600)
        assert notifier.pending == ()
        assert len(world.network.datagrams) == 8  # twice over UDP in each attempt

    test()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "serial 7" in caplog.text


@on_the_virtual_clock
async def test_versions_meanwhile_coalesce_into_the_newest(world: World) -> None:
    await world.secondary("10.0.0.1")
    world.pause = 0.5
    notifier = await world.notifier("10.0.0.1")
    for serial in range(1, 20):
        notifier.notify(version_of(serial))
        await anyio.sleep(0.01)
    await anyio.sleep(10)
    assert world.told == [("10.0.0.1", 1, False, False), ("10.0.0.1", 19, False, False)]


@on_the_virtual_clock
async def test_a_new_version_does_not_wait_for_the_retry_of_the_old(world: World) -> None:
    await world.secondary("10.0.0.1")
    notifier = await world.notifier("10.0.0.1", first_retry=600.0, last_retry=600.0)
    world.rcode = REFUSED
    notifier.notify(version_of(7))
    await anyio.sleep(10)
    assert notifier.pending[0].error == "answered with RCODE 5"
    world.rcode = NOERROR
    notifier.notify(version_of(8))
    await anyio.sleep(0.01)
    assert notifier.pending == ()
    assert [serial for _, serial, _, _ in world.told] == [7, 8]


@on_the_virtual_clock
async def test_a_refusal_is_tried_again_and_not_implemented_is_final(world: World) -> None:
    await world.secondary("10.0.0.1")
    notifier = await world.notifier("10.0.0.1")
    world.rcode = REFUSED
    notifier.notify(version_of(7))
    await anyio.sleep(2)
    assert len(world.told) == 2
    world.rcode = NOTIMP
    await anyio.sleep(300)
    assert len(world.told) == 3
    assert notifier.pending == ()


@on_the_virtual_clock
async def test_a_missing_key_is_told_and_not_a_crash(world: World) -> None:
    await world.secondary("10.0.0.1")
    notifier = await world.notifier("10.0.0.1", key="no.such.key.")
    notifier.notify(version_of(7))
    await anyio.sleep(1)
    assert notifier.pending[0].error is not None
    assert "no.such.key." in notifier.pending[0].error
    assert world.told == []
