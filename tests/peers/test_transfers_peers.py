"""Transfers and NOTIFY with Knot, BIND and NSD, in both directions, authenticated by TSIG."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import anyio
import dns.message
import dns.rdatatype
import pytest

from mpcore.errors import TransferError, TsigError
from mpcore.net.acl import Acl
from mpcore.net.client import exchange, query
from mpcore.net.clock import SystemClock
from mpcore.net.messages import AXFR, IXFR, NOTIFY, QUERY, SOA
from mpcore.net.network import InternetNetwork
from mpcore.net.notify import Notifier, NotifyReceiver
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.net.server import DnsServer
from mpcore.net.transfer import TransferServer, transfer_in
from mpcore.zone.answer import Responder
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import parse_record
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneBuilder, ZoneVersion
from tests.peers.servers import KEY, Bind, Key, Knot, NameServer, Nsd, Remote, Zone, free_port, loopback_address

pytestmark = [pytest.mark.anyio, pytest.mark.peer]

NETWORK = InternetNetwork()
ORIGIN = from_text("customer.example.")
HSYNC3 = bytes.fromhex("01027031056167656e74027031076578616d706c6500012e")
HSYNCPARAM = bytes.fromhex("0002000570312c7032000300027031")
OURS = TsigKey.from_text(KEY.name, KEY.algorithm, KEY.secret)
KEYRING = {OURS.name: OURS}
TEXT = rf"""$ORIGIN customer.example.
@ 300 IN SOA ns hostmaster {{serial}} 3600 600 86400 300
@ 300 IN NS ns.provider.example.
@ 300 IN TYPE65285 \# {len(HSYNC3)} {HSYNC3.hex()}
@ 300 IN TYPE65286 \# {len(HSYNCPARAM)} {HSYNCPARAM.hex()}
www 300 IN A 192.0.2.1
*.wild 300 IN TXT "any" "thing"
"""


def version_of(serial: int, *, names: int = 0) -> ZoneVersion:
    builder = ZoneBuilder(ORIGIN)
    lines = TEXT.format(serial=serial).splitlines()[1:]
    lines += [f"host{number} 300 IN A 192.0.2.{number % 250}" for number in range(names)]
    for line in lines:
        owner, rdtype, ttl, rdata = parse_record(line.replace("@", "customer.example.", 1), ORIGIN)
        builder.add(owner, rdtype, ttl, rdata)
    return builder.finish()


# --- we are the secondary ------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(server: NameServer) -> AsyncIterator[NameServer]:
    await anyio.to_thread.run_sync(server.start)
    try:
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(server.stop)


def change(server: NameServer) -> None:
    if isinstance(server, Knot):
        server.control("zone-begin", "customer.example.")
        server.control("zone-set", "customer.example.", "new", "60", "TYPE65285", rf"\# {len(HSYNC3)} {HSYNC3.hex()}")
        server.control("zone-commit", "customer.example.")
    else:
        server.update("customer.example.", rf"add new.customer.example. 60 TYPE65285 \# {len(HSYNC3)} {HSYNC3.hex()}")


@pytest.mark.parametrize("kind", [Knot, Bind])
@pytest.mark.parametrize("signed_notify", [True, False])
async def test_a_change_at_the_primary_is_here_after_its_notify(kind: type[NameServer], signed_notify: bool) -> None:
    address = loopback_address()
    here = Remote(address, free_port(address), KEY if signed_notify else None)
    primary = kind([Zone("customer.example.", TEXT.format(serial=7), notify=(here,))])
    arrived, versions = anyio.create_memory_object_stream[ZoneVersion](10)
    zone = SecondaryZone(
        NETWORK,
        ORIGIN,
        [RemoteServer(primary.address, primary.port, KEY.name)],
        KEYRING,
        clock=SystemClock(),
        on_version=arrived.send,
        local_host=address,
    )
    server = DnsServer(NETWORK, [(here.address, here.port)], keyring=KEYRING)
    server.register(NotifyReceiver({ORIGIN: zone}).handle, NOTIFY, SOA)
    async with running(primary), anyio.create_task_group() as tasks, arrived, versions:
        await tasks.start(server.serve)
        await tasks.start(zone.run)
        with anyio.fail_after(10):
            first = await versions.receive()
            assert first.serial == 7
            apex = first.node(ORIGIN)
            assert apex is not None
            assert apex[65285].rdatas == (HSYNC3,)
            assert apex[65286].rdatas == (HSYNCPARAM,)
            assert first.record_count == 6
            await anyio.to_thread.run_sync(change, primary)
            second = await versions.receive()
        assert second.serial == 8
        added = second.get(b"\3new" + ORIGIN, 65285)
        assert added is not None
        assert (added.ttl, added.rdatas) == (60, (HSYNC3,))
        assert (zone.state, zone.error, zone.primary) == (
            ZoneState.READY,
            None,
            f"{primary.address}:{primary.port}",
        )
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("kind", [Knot, Bind, Nsd])
async def test_a_transfer_needs_the_right_key(kind: type[NameServer]) -> None:
    other = TsigKey(OURS.name, OURS.algorithm, b"x" * 32)
    unknown = TsigKey(from_text("unknown.key."), OURS.algorithm, b"x" * 32)
    async with running(kind([Zone("customer.example.", TEXT.format(serial=7))])) as primary:

        async def transfer(key: TsigKey | None) -> ZoneVersion:
            where = (primary.address, primary.port)
            return await transfer_in(NETWORK, ORIGIN, where, key=key, clock=SystemClock(), random=Random(1))

        assert (await transfer(OURS)).serial == 7
        with pytest.raises(TransferError, match=r"REFUSED|NOTAUTH"):
            await transfer(None)
        for key in (other, unknown):
            with pytest.raises((TransferError, TsigError)):
                await transfer(key)


# --- we are the primary --------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    zones: dict[bytes, ZoneVersion], here: Remote, secondary: NameServer | None
) -> AsyncIterator[Notifier]:
    targets = {ORIGIN: [RemoteServer(secondary.address, secondary.port, KEY.name)] if secondary else []}
    server = DnsServer(NETWORK, [(here.address, here.port)], keyring=KEYRING)
    server.register_query(lambda octets, source, tcp: Responder(zones).respond(octets, over_tcp=tcp))
    transfers = TransferServer(zones, {ORIGIN: Acl.of([("127.0.0.0/8", KEY.name)])})
    server.register(transfers.handle, QUERY, AXFR)
    server.register(transfers.handle, QUERY, IXFR)
    clock = SystemClock()
    notifier = Notifier(NETWORK, targets, KEYRING, clock=clock, random=Random(1), local_host=here.address)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.serve)
        await tasks.start(notifier.run)
        yield notifier
        tasks.cancel_scope.cancel()


async def served_serial(server: NameServer) -> int | None:
    octets = await exchange(
        NETWORK, dns.message.make_query("customer.example.", "SOA").to_wire(), server.address, server.port
    )
    answer = dns.message.from_wire(octets).answer
    return answer[0][0].serial if answer else None  # type: ignore[attr-defined]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(10):
        while True:
            if await condition():
                return
            await anyio.sleep(0.02)


async def serves(server: NameServer, serial: int) -> None:
    async def is_there() -> bool:
        return await served_serial(server) == serial

    await until(is_there)


@pytest.mark.parametrize("kind", [Knot, Nsd, Bind])
async def test_a_secondary_follows_our_versions(kind: type[NameServer]) -> None:
    address = loopback_address()
    here = Remote(address, free_port(address), KEY)
    secondary = kind([Zone("customer.example.", primary=here)], key=KEY)
    zones = {ORIGIN: version_of(1)}

    async def acknowledged() -> bool:
        return not notifier.pending

    async with serving(zones, here, secondary) as notifier, running(secondary):
        notifier.notify(zones[ORIGIN])
        await serves(secondary, 1)
        zones[ORIGIN] = version_of(2, names=5000)  # several messages
        notifier.notify(zones[ORIGIN])
        await serves(secondary, 2)
        await until(acknowledged)
        for name, rdtype, rdata in (
            ("customer.example.", 65285, HSYNC3),
            ("customer.example.", 65286, HSYNCPARAM),
            ("host4999.customer.example.", dns.rdatatype.A, bytes((192, 0, 2, 4999 % 250))),
        ):
            asked = dns.message.make_query(name, dns.rdatatype.RdataType.make(rdtype))
            answer = dns.message.from_wire(await query(NETWORK, asked.to_wire(), secondary.address, secondary.port))
            assert [record.to_wire() for rrset in answer.answer for record in rrset] == [rdata]


def kdig(here: Remote, *arguments: str, key: Key | None = None) -> str:
    command = ["kdig", f"@{here.address}", "-p", str(here.port), "+retry=0", "+timeout=5", *arguments]
    if key is not None:
        command += ["-y", f"{key.algorithm}:{key.name}:{key.secret}"]
    done = subprocess.run(command, capture_output=True, timeout=10, text=True)
    return done.stdout + done.stderr


async def test_kdig_gets_our_zone_only_with_the_key() -> None:
    address = loopback_address()
    here = Remote(address, free_port(address))

    async def asks(*arguments: str, key: Key | None = None) -> str:
        return await anyio.to_thread.run_sync(lambda: kdig(here, *arguments, key=key))

    async with serving({ORIGIN: version_of(4, names=3000)}, here, None):
        output = await asks("customer.example.", "AXFR", key=KEY)
        assert "host2999.customer.example." in output
        assert "(3007 records)" in output or "3007" in output
        assert "WARNING" not in output.upper()
        assert "REFUSED" in await asks("customer.example.", "AXFR")
        assert "NOTAUTH" in await asks("other.example.", "AXFR", key=KEY)
        wrong = Key(KEY.name, KEY.algorithm, Key("x", "x", "AAAA" * 11).secret[:43] + "=")
        assert "NOTAUTH" in (answer := await asks("customer.example.", "AXFR", key=wrong)) or "BADSIG" in answer
        assert "BADKEY" in (answer := await asks("customer.example.", "AXFR", key=Key("who.key."))) or (
            "NOTAUTH" in answer
        )
        current = await asks("customer.example.", "IXFR=4", key=KEY)
        assert "host2999" not in current
        assert "SOA" in current
        assert "host2999" in await asks("customer.example.", "IXFR=3", key=KEY)
        assert "192.0.2.1" in await asks("www.customer.example.", "A", key=KEY)
