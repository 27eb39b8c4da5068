"""Handlers of zones and messages: when they run, in which order, and what their failures do."""

from __future__ import annotations

import logging
import threading
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from mpcore.errors import ZoneRefusedError
from mpcore.net.acl import Acl
from mpcore.net.client import exchange
from mpcore.net.clock import SystemClock
from mpcore.net.hooks import Hooks, Refresh
from mpcore.net.messages import AXFR, QUERY, make_query
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.net.server import Answer, DnsServer, Request, reply
from mpcore.net.transfer import TransferServer
from mpcore.zone.answer import Responder
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset
from mpcore.zone.version import Difference, ZoneBuilder, ZoneVersion, diff
from tests.unit.memory_network import MemoryNetwork

pytestmark = pytest.mark.anyio

ORIGIN = from_text("example.")


def zone(serial: int, names: int = 3) -> ZoneVersion:
    numbers = b"".join(number.to_bytes(4, "big") for number in (serial, 3600, 600, 86400, 300))
    builder = ZoneBuilder(ORIGIN)
    builder.add(ORIGIN, 6, 300, from_text("ns.example.") + from_text("hm.example.") + numbers)
    builder.add(ORIGIN, 2, 300, from_text("ns.example."))
    for number in range(names):
        builder.add(from_text(f"host{number}.example."), 1, 300, number.to_bytes(4, "big"))
    return builder.finish()


def with_text(version: ZoneVersion, text: bytes) -> ZoneVersion:
    return version.update([(ORIGIN, 16, RRset.make(16, 60, [bytes((len(text),)) + text]))])


class Notes:
    """Handlers that note that they have run."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def refresh(self, name: str, refresh: Refresh) -> None:
        self.seen.append(f"{name} {None if refresh.old is None else refresh.old.serial} {refresh.new.serial}")

    async def first(self, name: str, version: ZoneVersion) -> None:
        self.seen.append(f"{name} {version.serial}")

    async def changed(self, name: str, origin: bytes, changes: list[Difference]) -> None:
        self.seen.append(f"{name} {len(changes)}")


async def test_handlers_run_in_order_and_first_load_once() -> None:
    notes, hooks = Notes(), Hooks()
    hooks.changed_rrsets("d", partial(notes.changed, "changed"))
    hooks.first_load("c", partial(notes.first, "first"))
    hooks.after_refresh("b", partial(notes.refresh, "after b"))
    hooks.after_refresh("a", partial(notes.refresh, "after a"))
    hooks.before_refresh("e", partial(notes.refresh, "before e"))
    hooks.before_refresh("a", partial(notes.refresh, "before a"))
    one, two = zone(1), zone(2, 4)
    assert await hooks.refreshing(Refresh(ORIGIN, None, one)) is one
    await hooks.refreshed(Refresh(ORIGIN, None, one))
    assert notes.seen == ["before e None 1", "before a None 1", "after b None 1", "after a None 1", "first 1"]
    notes.seen.clear()
    await hooks.refreshing(Refresh(ORIGIN, one, two))
    await hooks.refreshed(Refresh(ORIGIN, one, two))
    assert notes.seen == ["before e 1 2", "before a 1 2", "after b 1 2", "after a 1 2", "changed 2"]
    hooks.forget(ORIGIN)
    notes.seen.clear()
    await hooks.refreshed(Refresh(ORIGIN, None, one))
    assert notes.seen[-1] == "first 1"
    hooks.restored(other := from_text("other."))
    await hooks.refreshed(Refresh(other, None, one))
    assert notes.seen.count("first 1") == 1


async def test_a_handler_of_one_zone_sees_that_one() -> None:
    notes, hooks = Notes(), Hooks()
    hooks.after_refresh("mine", partial(notes.refresh, "mine"), zone=from_text("other."))
    hooks.after_refresh("all", partial(notes.refresh, "all"))
    await hooks.refreshed(Refresh(ORIGIN, None, zone(1)))
    assert notes.seen == ["all None 1"]


async def test_a_version_is_changed_and_refused() -> None:
    hooks = Hooks()

    async def first(refresh: Refresh) -> ZoneVersion:
        return with_text(refresh.new, b"one")

    def second(refresh: Refresh) -> ZoneVersion:  # a plain function: in a thread
        assert threading.current_thread() is not threading.main_thread()
        found = refresh.new.get(ORIGIN, 16)
        assert found is not None
        return with_text(refresh.new, found.rdatas[0][1:] + b" two")

    hooks.before_refresh("first", first)
    hooks.before_refresh("second", second)
    taken = await hooks.refreshing(Refresh(ORIGIN, None, zone(1)))
    found = taken.get(ORIGIN, 16)
    assert found is not None
    assert found.rdatas == (b"\x07one two",)

    async def refuse(refresh: Refresh) -> None:
        raise ZoneRefusedError("we do not like it")

    hooks.before_refresh("third", refuse)
    with pytest.raises(ZoneRefusedError, match="we do not like it"):
        await hooks.refreshing(Refresh(ORIGIN, None, zone(1)))
    assert hooks.failures == {}


async def test_a_version_of_another_zone_is_not_taken() -> None:
    hooks = Hooks()
    other = from_text("other.")
    wrong = ZoneVersion.build(other, [(other, RRset.make(6, 1, list(zone(1).soa.rdatas)))])

    async def mistake(refresh: Refresh) -> ZoneVersion:
        return wrong

    hooks.before_refresh("mistake", mistake)
    with pytest.raises(ZoneRefusedError, match="another zone"):
        await hooks.refreshing(Refresh(ORIGIN, None, zone(1)))


async def test_failures_are_logged_with_zone_and_name_and_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    notes, hooks = Notes(), Hooks()

    async def broken(*arguments: Any) -> None:
        raise RuntimeError("it broke")

    def broken_thread(*arguments: Any) -> None:
        raise KeyError("there")

    hooks.after_refresh("crumbly", broken)
    hooks.after_refresh("brittle", broken_thread)
    hooks.after_refresh("fine", partial(notes.refresh, "after"))
    hooks.first_load("crumbly", broken)
    hooks.first_load("fine", partial(notes.first, "first"))
    hooks.changed_rrsets("crumbly", broken)
    hooks.changed_rrsets("fine", partial(notes.changed, "changed"))
    with caplog.at_level(logging.ERROR):
        await hooks.refreshed(Refresh(ORIGIN, zone(1), zone(2)))
    assert notes.seen == ["after 1 2", "first 2", "changed 1"]
    assert hooks.failures == {"crumbly": 3, "brittle": 1}
    assert caplog.messages.count("example.: handler crumbly failed: it broke") == 3
    assert "example.: handler brittle failed: 'there'" in caplog.messages
    hooks.before_refresh("crumbly", broken)
    with pytest.raises(ZoneRefusedError, match="crumbly failed: it broke"):
        await hooks.refreshing(Refresh(ORIGIN, zone(1), zone(2)))


async def test_slow_handlers_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    notes, hooks = Notes(), Hooks()
    over = threading.Event()

    async def forever(*arguments: Any) -> None:
        await anyio.sleep_forever()

    def forever_in_a_thread(*arguments: Any) -> None:
        over.wait(60)

    try:
        hooks.after_refresh("slow", forever, timeout=0.01)
        hooks.after_refresh("stuck", forever_in_a_thread, timeout=0.01)
        hooks.after_refresh("fine", partial(notes.refresh, "after"))
        with anyio.fail_after(30):
            await hooks.refreshed(Refresh(ORIGIN, None, zone(1)))
        assert notes.seen == ["after None 1"]
        assert "example.: handler slow failed: it took too long" in caplog.messages
        assert "example.: handler stuck failed: it took too long" in caplog.messages
    finally:
        over.set()


async def test_a_plain_handler_cannot_hold_up_the_loop() -> None:
    hooks = Hooks()
    entered, leave = anyio.Event(), threading.Event()
    steps = 0

    def block(refresh: Refresh) -> None:
        anyio.from_thread.run_sync(entered.set)
        leave.wait(60)

    hooks.after_refresh("blocking", block)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hooks.refreshed, Refresh(ORIGIN, None, zone(1)))
        await entered.wait()
        for _ in range(100):  # the loop turns while the handler blocks
            await anyio.lowlevel.checkpoint()
            steps += 1
        leave.set()
    assert steps == 100


async def test_who_keeps_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    hooks = Hooks()

    async def greedy(refresh: Refresh) -> None:
        until = anyio.current_time() + 0.06
        while anyio.current_time() < until:
            pass
        await anyio.lowlevel.checkpoint()

    hooks.after_refresh("greedy", greedy)
    await hooks.refreshed(Refresh(ORIGIN, None, zone(1)))
    assert any("example.: handler greedy kept the event loop" in line for line in caplog.messages)


@pytest.mark.parametrize("names", [3, 9000])
async def test_changed_rrsets_are_the_difference(names: int) -> None:
    hooks = Hooks()
    random = Random(names)
    old = zone(1, names)
    new = zone(2, names).update(
        [(from_text(f"host{random.randrange(names)}.example."), 16, RRset.make(16, 1, [b"\1x"])) for _ in range(20)]
        + [(from_text("host1.example."), 1, None), (ORIGIN, 2, RRset.make(2, 1, [from_text("other.")]))]
    )
    got: dict[str, list[Difference]] = {}

    async def note(name: str, origin: bytes, changes: list[Difference]) -> None:
        assert origin == ORIGIN
        got[name] = list(changes)

    hooks.changed_rrsets("all", partial(note, "all"))
    hooks.changed_rrsets("text", partial(note, "text"), types={16})
    hooks.changed_rrsets("apex", partial(note, "apex"), apex=True)
    hooks.changed_rrsets("none", partial(note, "none"), types={48})
    await hooks.refreshed(Refresh(ORIGIN, old, new))
    truth = diff(old, new)
    assert got == {
        "all": truth,
        "text": [change for change in truth if change[1] == 16],
        "apex": [change for change in truth if change[0] == ORIGIN],
    }


# --- with a secondary and a server ------------------------------------------------------------------------------------


async def test_a_secondary_with_hooks() -> None:
    network, notes = MemoryNetwork(), Notes()
    zones = {ORIGIN: zone(1)}
    primary = DnsServer(network, [("10.0.0.1", 53)])
    responder = Responder(zones)
    primary.register_query(lambda octets, source, over_tcp: responder.respond(octets, over_tcp=over_tcp))
    primary.register(TransferServer(zones, Acl.of([("0.0.0.0/0", None)])).handle, QUERY, AXFR)
    hooks = Hooks()
    taken: list[ZoneVersion] = []
    arrived, refused = anyio.Event(), anyio.Event()

    async def before(refresh: Refresh) -> ZoneVersion:
        notes.seen.append(f"before {refresh.new.serial}")
        if refresh.new.serial == 2:
            raise ZoneRefusedError("not this one")
        return with_text(refresh.new, b"ours")

    async def take(version: ZoneVersion) -> None:
        notes.seen.append(f"take {version.serial}")
        taken.append(version)

    async def after(refresh: Refresh) -> None:
        arrived.set()
        notes.seen.append(f"after {refresh.new.serial}")

    hooks.before_refresh("before", before)
    hooks.after_refresh("after", after)
    hooks.first_load("first", partial(notes.first, "first"))
    hooks.changed_rrsets("changed", partial(notes.changed, "changed"))
    secondary = SecondaryZone(
        network,
        ORIGIN,
        [RemoteServer("10.0.0.1", 53)],
        {},
        clock=SystemClock(),
        on_version=take,
        on_state=lambda zone: refused.set() if zone.refused else None,
        hooks=hooks,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(primary.serve)
        tasks.start_soon(secondary.run)
        with anyio.fail_after(10):
            await arrived.wait()
            zones[ORIGIN] = zone(2)
            secondary.refresh_now()
            await refused.wait()
            assert secondary.refused == "not this one"
            assert (secondary.state, secondary.serial) == (ZoneState.READY, 2)
            arrived = anyio.Event()
            zones[ORIGIN] = zone(3)
            secondary.refresh_now()
            await arrived.wait()
        tasks.cancel_scope.cancel()
    assert secondary.refused is None
    assert [version.serial for version in taken] == [1, 3]
    assert all(version.get(ORIGIN, 16) is not None for version in taken)
    assert secondary.version is not None
    assert secondary.version.get(ORIGIN, 16) is None  # as received, for the next change
    assert notes.seen[:4] == ["before 1", "take 1", "after 1", "first 1"]
    assert notes.seen[4:] == ["before 2", "before 3", "take 3", "after 3", "changed 1"]


async def test_handlers_by_type_are_named_bounded_and_never_stop_the_server(caplog: pytest.LogCaptureFixture) -> None:
    network = MemoryNetwork()
    server = DnsServer(network, [("10.0.0.1", 53)])
    hooks = Hooks(server)

    async def broken(request: Request) -> Answer:
        raise RuntimeError("it broke")

    async def forever(request: Request) -> Answer:
        await anyio.sleep_forever()
        return None

    async def fine(request: Request) -> Answer:
        return reply(request, 0)

    hooks.on_query(65, "broken", broken)
    hooks.on_query(66, "slow", forever, timeout=0.05)
    hooks.on_notify(65, "fine", fine)
    with pytest.raises(ValueError, match="has a handler"):
        hooks.on_query(65, "again", fine)
    with pytest.raises(ValueError, match="no server"):
        Hooks().on_query(1, "none", fine)

    async def ask(rdtype: int, opcode: int = QUERY) -> int:
        answer = await exchange(network, make_query(7, ORIGIN, rdtype, opcode=opcode), "10.0.0.1", 53, over_tcp=True)
        return answer[3] & 15

    async with anyio.create_task_group() as tasks:
        await tasks.start(server.serve)
        with anyio.fail_after(10):
            assert await ask(65) == 2
            assert await ask(66) == 2
            assert await ask(65, 4) == 0
        tasks.cancel_scope.cancel()
    assert "example.: handler broken failed and will be logged once: it broke" in caplog.messages
    assert "example.: handler slow failed and will be logged once: it took too long" in caplog.messages
