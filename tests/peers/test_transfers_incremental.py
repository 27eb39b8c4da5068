"""Incremental transfers, transfers by TLS, and processes killed in the middle, with Knot, BIND and NSD.

Knot 3.2 has no TLS for transfers (it came with 3.4), so XoT is tried with BIND and NSD, and with kdig.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import dns.exception
import dns.message
import dns.query
import pytest

from mpcore.net.acl import Acl
from mpcore.net.clock import SystemClock
from mpcore.net.messages import AXFR, IXFR, NOTIFY, QUERY, SOA
from mpcore.net.network import InternetNetwork
from mpcore.net.notify import Notifier, NotifyReceiver
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone
from mpcore.net.server import Answer, DnsServer, Request
from mpcore.net.tls import TlsEndpoint, server_context
from mpcore.net.transfer import TransferServer
from mpcore.node.settings import PrimaryTls, SecondaryTls
from mpcore.zone.answer import Responder
from mpcore.zone.journal import Journal
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset, parse_record
from mpcore.zone.serial import is_newer
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneBuilder, ZoneVersion
from tests.peers import relay
from tests.peers.servers import (
    KEY,
    Bind,
    IncrementalNsd,
    Knot,
    NameServer,
    Nsd,
    Remote,
    Zone,
    free_port,
    loopback_address,
)
from tests.unit.certificates import Certificate, make_certificate

pytestmark = [pytest.mark.anyio, pytest.mark.peer]

NETWORK = InternetNetwork()
ORIGIN = from_text("customer.example.")
OURS = TsigKey.from_text(KEY.name, KEY.algorithm, KEY.secret)
KEYRING = {OURS.name: OURS}
NAMES = 2000


@pytest.fixture
def anyio_backend() -> object:
    """What real servers do does not depend on the event loop here: that is tried elsewhere."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "ns.test", "127.0.0.1")


def text_of(serial: int, names: int = NAMES) -> str:
    lines = [
        f"customer.example. 300 IN SOA ns.customer.example. hm.customer.example. {serial} 3600 1 86400 300",
        "customer.example. 300 IN NS ns.provider.example.",
        *(f"host{number}.customer.example. 300 IN A 192.0.2.{number % 250}" for number in range(names)),
    ]
    return "\n".join(lines) + "\n"


def version_of(serial: int, names: int = NAMES) -> ZoneVersion:
    builder = ZoneBuilder(ORIGIN)
    for line in text_of(serial, names).splitlines():
        builder.add(*parse_record(line, ORIGIN))
    return builder.finish()


def changed(version: ZoneVersion, number: int) -> ZoneVersion:
    """A name more, an address changed, a name less, and a TTL."""
    serial = version.serial + 1

    def owner(label: str) -> bytes:
        return from_text(f"{label}.customer.example.")

    return version.update(
        [
            (owner(f"new{number}"), 16, RRset.make(16, 60, [b"\5fresh"])),
            (owner(f"host{number}"), 1, RRset.make(1, 300, [bytes((198, 51, 100, number % 250))])),
            (owner(f"host{number + 900}"), 1, None),
            (ORIGIN, 2, RRset.make(2, 300 + number, [owner("ns")])),
        ]
    ).with_serial(serial)


@asynccontextmanager
async def running(server: NameServer) -> AsyncIterator[NameServer]:
    await anyio.to_thread.run_sync(server.start)
    try:
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(server.stop)


def contents(address: str, port: int) -> set[tuple[str, ...]]:
    """The records of a zone as kdig transfers it."""
    command = ["kdig", f"@{address}", "-p", str(port), "-y", f"{KEY.algorithm}:{KEY.name}:{KEY.secret}"]
    command += ["customer.example.", "AXFR", "+nocomments", "+nostats"]
    done = subprocess.run(command, capture_output=True, timeout=20, text=True)
    lines = [line.split() for line in done.stdout.splitlines() if line and not line.startswith(";")]
    records = {tuple(fields) for fields in lines if "TSIG" not in fields}
    assert len(records) > 100, done.stdout + done.stderr
    return records


def serial_at(address: str, port: int) -> int | None:
    query = dns.message.make_query("customer.example.", "SOA")
    try:
        answer = dns.query.udp(query, address, port=port, timeout=0.5).answer
    except (dns.exception.DNSException, OSError):
        return None
    return answer[0][0].serial if answer else None  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    with anyio.move_on_after(seconds) as scope:
        while not await anyio.to_thread.run_sync(condition):  # noqa: ASYNC110 (another process cannot set an event)
            await anyio.sleep(0.02)
    assert not scope.cancelled_caught, what


# --- we are the primary ----------------------------------------------------------------------------------------------


class Primary:
    """Our server with a journal; counts what goes out."""

    def __init__(self, secondary: NameServer | None, certificate: Certificate | None = None, acl: Acl | None = None):
        address = loopback_address() if certificate is None else "127.0.0.1"
        self.here = Remote(address, free_port(address), KEY)
        self.there = Remote(address, free_port(address), KEY, tls=certificate)
        self.secondary = secondary
        self.zones = {ORIGIN: version_of(1)}
        self.journal = Journal()
        self.asked: list[tuple[str, bool]] = []  #: kind of transfer, and whether by TLS
        self.sent: list[int] = []  #: octets of each transfer
        endpoints = []
        if certificate is not None:
            context = server_context(
                certificate.certificate_file,
                certificate.private_key_file,
                client_ca_file=certificate.certificate_file,
            )
            endpoints.append(TlsEndpoint(self.there.address, self.there.port, context))
        self.server = DnsServer(NETWORK, [(self.here.address, self.here.port)], keyring=KEYRING, tls=endpoints)
        self.transfers = TransferServer(
            self.zones,
            {ORIGIN: acl or Acl.of([("127.0.0.0/8", KEY.name)])},
            journals={ORIGIN: self.journal},
            run=anyio.to_thread.run_sync,
        )
        responder = Responder(self.zones)
        self.server.register_query(lambda octets, source, tcp: responder.respond(octets, over_tcp=tcp))
        self.server.register(self._transfer, QUERY, AXFR)
        self.server.register(self._transfer, QUERY, IXFR)

    async def _transfer(self, request: Request) -> Answer:
        self.asked.append(("IXFR" if request.qtype == IXFR else "AXFR", request.tls))
        answer = await self.transfers.handle(request)
        return answer if answer is None or isinstance(answer, bytes) else self._counted(answer)

    async def _counted(self, answer: Answer) -> AsyncIterator[bytes]:
        total = 0
        async for message in answer:  # type: ignore[union-attr]
            total += len(message)
            yield message
        self.sent.append(total)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        targets = [RemoteServer(self.secondary.address, self.secondary.port, KEY.name)] if self.secondary else []
        self.notifier = Notifier(
            NETWORK,
            {ORIGIN: targets},
            KEYRING,
            clock=SystemClock(),
            random=Random(1),
            local_host=self.here.address,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.server.serve)
            await tasks.start(self.notifier.run)
            yield
            tasks.cancel_scope.cancel()

    def publish(self, version: ZoneVersion) -> None:
        self.journal.record(self.zones[ORIGIN], version)
        self.zones[ORIGIN] = version
        self.notifier.notify(version)


async def follow(primary: Primary, secondary: NameServer, versions: int) -> None:
    """The secondary has the first version, and then each of the following."""

    def has(serial: int) -> Callable[[], bool]:
        return lambda: serial_at(secondary.address, secondary.port) == serial

    primary.notifier.notify(primary.zones[ORIGIN])
    await until(has(1), f"{secondary.program} has no zone: {secondary.log[-3000:]}")
    for number in range(versions):
        primary.publish(changed(primary.zones[ORIGIN], number))
        await until(has(2 + number), f"{secondary.program} does not follow: {secondary.log[-3000:]}")
    theirs = await anyio.to_thread.run_sync(contents, secondary.address, secondary.port)
    ours = await anyio.to_thread.run_sync(contents, primary.here.address, primary.here.port)
    assert theirs == ours


@pytest.mark.parametrize("kind", [Knot, Bind, IncrementalNsd])
async def test_a_secondary_takes_changes_only(kind: type[NameServer]) -> None:
    primary = Primary(None)
    extra = ("acl: keyed",) if kind is Knot else ()
    primary.secondary = secondary = kind([Zone("customer.example.", primary=primary.here, options=extra)])
    async with primary.running(), running(secondary):
        await follow(primary, secondary, 4)
        kinds = [kind for kind, _ in primary.asked]
        assert kinds.count("IXFR") >= 4
        # one whole zone at the start, one for the comparison; the rest are changes
        assert sorted(size > 2000 for size in primary.sent)[-3:] == [False, True, True], (kinds, primary.sent)
        # a primary that starts again has lost its journal: the whole zone comes, and then changes
        primary.journal._clear()
        version = changed(primary.zones[ORIGIN], 50)
        primary.zones[ORIGIN] = version
        primary.notifier.notify(version)
        await until(lambda: serial_at(secondary.address, secondary.port) == 6, "no fallback to AXFR")
        primary.sent.clear()
        primary.publish(changed(version, 51))
        await until(lambda: serial_at(secondary.address, secondary.port) == 7, "no IXFR after the fallback")
        assert max(primary.sent) < 2000


# --- we are the secondary --------------------------------------------------------------------------------------------


@asynccontextmanager
async def secondary_of(
    primary: NameServer, here: Remote, tls: PrimaryTls | None = None
) -> AsyncIterator[tuple[SecondaryZone, anyio.abc.ObjectReceiveStream[ZoneVersion]]]:
    arrived, versions = anyio.create_memory_object_stream[ZoneVersion](20)
    port = primary.port if tls is None else primary.tls_port
    zone = SecondaryZone(
        NETWORK,
        ORIGIN,
        [RemoteServer(primary.address, port, KEY.name, tls)],
        KEYRING,
        clock=SystemClock(),
        on_version=arrived.send,
        min_refresh=1.0,
        local_host=here.address if tls is None else None,
        run=anyio.to_thread.run_sync,
    )
    server = DnsServer(NETWORK, [(here.address, here.port)], keyring=KEYRING)
    server.register(NotifyReceiver({ORIGIN: zone}).handle, NOTIFY, SOA)
    async with anyio.create_task_group() as tasks, arrived, versions:
        await tasks.start(server.serve)
        await tasks.start(zone.run)
        yield zone, versions
        tasks.cancel_scope.cancel()


def change_there(server: NameServer, number: int) -> None:
    if isinstance(server, Knot):
        server.control("zone-begin", "customer.example.")
        server.control("zone-set", "customer.example.", f"new{number}", "60", "A", "198.51.100.1")
        server.control("zone-unset", "customer.example.", f"host{number}", "A")
        server.control("zone-commit", "customer.example.")
    elif isinstance(server, Nsd):
        file = server.zone_file(server.zones[0])
        lines = text_of(8 + number).splitlines()
        lines += [f"new{n}.customer.example. 60 IN A 198.51.100.1" for n in range(number + 1)]
        gone = {f"host{n}.customer.example." for n in range(number + 1)}
        file.write_text("\n".join(line for line in lines if line.split()[0] not in gone) + "\n")
        server.signal(signal.SIGHUP)
    else:
        server.update(
            "customer.example.",
            f"add new{number}.customer.example. 60 A 198.51.100.1",
            f"delete host{number}.customer.example. A",
        )


@pytest.mark.parametrize("kind", [Knot, Bind, Nsd])
async def test_changes_are_taken_from(kind: type[NameServer], monkeypatch: pytest.MonkeyPatch) -> None:
    address = loopback_address()
    here = Remote(address, free_port(address), KEY)
    options = ("store-ixfr: yes", "create-ixfr: yes") if kind is Nsd else ()
    primary = kind([Zone("customer.example.", text_of(7), notify=(here,), options=options)])
    async with running(primary), secondary_of(primary, here) as (zone, versions):
        with anyio.fail_after(20):
            old = await versions.receive()
            assert old.serial == 7
            for number in range(3):
                await anyio.to_thread.run_sync(change_there, primary, number)
                zone.refresh_now()
                new = await versions.receive()
                assert new.serial == 8 + number
                assert new.get(from_text(f"new{number}.customer.example."), 1) is not None
                assert new.get(from_text(f"host{number}.customer.example."), 1) is None
                assert new.is_near(old, 6)
                old = new
        assert zone._whole_until == {}, primary.log  # every change came as a change
        theirs = await anyio.to_thread.run_sync(contents, primary.address, primary.port)
        assert len(theirs) == old.record_count


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Bind, Nsd])
async def test_zones_come_by_tls_from(kind: type[NameServer], certificate: Certificate) -> None:
    address = loopback_address()
    here = Remote(address, free_port(address), KEY)
    primary = kind([Zone("customer.example.", text_of(7), notify=(here,))], tls=certificate)
    async with running(primary):
        async with secondary_of(primary, here, PrimaryTls(pins=(certificate.pin,))) as (zone, versions):
            with anyio.fail_after(10):
                assert (await versions.receive()).record_count == NAMES + 2
                if kind is Bind:
                    await anyio.to_thread.run_sync(change_there, primary, 0)
                    zone.refresh_now()
                    assert (await versions.receive()).serial == 8
                    assert zone._whole_until == {}
        by_name = PrimaryTls(server_name="ns.test", ca_file=certificate.certificate_file)
        async with secondary_of(primary, here, by_name) as (_, versions):
            with anyio.fail_after(10):
                assert (await versions.receive()).serial in (7, 8)


@pytest.mark.parametrize("kind", [Bind, Nsd])
async def test_zones_go_by_tls_to(kind: type[NameServer], certificate: Certificate) -> None:
    acl = Acl.for_servers(
        [RemoteServer(address, 53, KEY.name, SecondaryTls()) for address in ("127.0.0.1", "127.0.0.0")]
    )
    primary = Primary(None, certificate, acl)
    secondary = kind([Zone("customer.example.", primary=primary.there)])
    if kind is Nsd:
        secondary.address, secondary.port = "127.0.0.1", free_port("127.0.0.1")
    primary.secondary = secondary
    async with primary.running(), running(secondary):
        primary.notifier.notify(primary.zones[ORIGIN])
        await until(lambda: serial_at(secondary.address, secondary.port) == 1, f"no zone: {secondary.log[-3000:]}")
        primary.publish(changed(primary.zones[ORIGIN], 1))
        await until(lambda: serial_at(secondary.address, secondary.port) == 2, f"no change: {secondary.log[-3000:]}")
        assert {by_tls for _, by_tls in primary.asked} == {True}
        assert len(await anyio.to_thread.run_sync(contents, secondary.address, secondary.port)) == NAMES + 2


async def test_kdig_by_tls(certificate: Certificate, tmp_path: Path) -> None:
    acl = Acl.for_servers([RemoteServer("127.0.0.1", tls=SecondaryTls(client_fingerprint=certificate.fingerprint))])
    primary = Primary(None, certificate, acl)
    other = make_certificate(tmp_path, "other.test")

    def kdig(*arguments: str) -> str:
        command = ["kdig", f"@{primary.there.address}", "-p", str(primary.there.port), "+retry=0", "+timeout=5"]
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=10, text=True)
        return done.stdout + done.stderr

    strict = (f"+tls-ca={certificate.certificate_file}", "+tls-hostname=ns.test")
    with_ours = (
        f"+tls-certfile={certificate.certificate_file}",
        f"+tls-keyfile={certificate.private_key_file}",
    )
    async with primary.running():

        async def asks(*arguments: str) -> str:
            return await anyio.to_thread.run_sync(lambda: kdig(*arguments))

        answer = await asks("host3.customer.example.", "A", *strict)
        assert "192.0.2.3" in answer
        assert "TLS1.3" in answer
        assert "192.0.2.3" in await asks("host3.customer.example.", "A", f"+tls-pin={certificate.pin}")
        assert "192.0.2.3" not in await asks("host3.customer.example.", "A", f"+tls-pin={other.pin}")
        assert "REFUSED" in await asks("customer.example.", "AXFR", *strict)
        whole = await asks("customer.example.", "AXFR", *strict, *with_ours)
        assert f"host{NAMES - 1}.customer.example." in whole
        primary.publish(changed(primary.zones[ORIGIN], 5))
        part = await asks("customer.example.", "IXFR=1", *strict, *with_ours)
        assert "new5.customer.example." in part
        assert f"host{NAMES - 1}.customer.example." not in part


# --- killed in the middle --------------------------------------------------------------------------------------------


async def test_processes_killed_in_the_middle_lose_nothing() -> None:
    """Knot -> our relay -> BIND and NSD.  Each is killed while changes and large transfers are on their way."""
    names = 20_000
    address = loopback_address()
    ours = Remote(address, free_port(address), KEY)
    owner = Knot([Zone("customer.example.", text_of(1, names), notify=(ours,))])
    public: list[NameServer] = [kind([Zone("customer.example.", primary=ours)]) for kind in (Bind, IncrementalNsd)]
    process: subprocess.Popen[bytes] | None = None
    seen: dict[str, list[int]] = {server.program: [] for server in public}

    def begin() -> None:
        nonlocal process
        process = relay.start(
            (ours.address, ours.port),
            (owner.address, owner.port),
            [(server.address, server.port) for server in public],
            (KEY.name, KEY.algorithm, KEY.secret),
        )

    def kill_ours() -> None:
        assert process is not None
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def kill(server: NameServer) -> None:
        server.kill()
        server.start()

    async def watch() -> None:
        while True:
            for server in public:
                serial = await anyio.to_thread.run_sync(serial_at, server.address, server.port)
                if serial is not None:
                    seen[server.program].append(serial)
            await anyio.sleep(0.02)

    def caught_up(serial: int) -> Callable[[], bool]:
        return lambda: all(serial_at(server.address, server.port) == serial for server in public)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(owner))
        for server in public:
            await stack.enter_async_context(running(server))
        await anyio.to_thread.run_sync(begin)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                # whole zones on their way: a little later each time, so that every stage is hit
                for delay in (0.1, 0.4):
                    await anyio.sleep(delay)
                    await anyio.to_thread.run_sync(kill_ours)
                    await anyio.to_thread.run_sync(begin)
                await until(caught_up(1), "the first version did not arrive", 30)
                for number in range(6):
                    await anyio.to_thread.run_sync(change_there, owner, number)
                    if number == 1:
                        await anyio.to_thread.run_sync(kill_ours)
                        await anyio.to_thread.run_sync(begin)
                    elif number == 3:
                        await anyio.to_thread.run_sync(kill, owner)
                    elif number >= 4:
                        await anyio.to_thread.run_sync(kill, public[number - 4])
                await until(caught_up(7), f"not caught up: {[server.log[-1500:] for server in public]}", 30)
                tasks.cancel_scope.cancel()
            truth = await anyio.to_thread.run_sync(contents, owner.address, owner.port)
            assert len(truth) == names + 2
            for server in public:
                assert await anyio.to_thread.run_sync(contents, server.address, server.port) == truth
                serials = seen[server.program]
                assert serials
                assert not any(is_newer(before, after) for before, after in itertools.pairwise(serials))
        finally:
            await anyio.to_thread.run_sync(kill_ours)
