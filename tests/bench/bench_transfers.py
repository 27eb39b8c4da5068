"""Zone transfers, measured against dnspython and knotd in the same run: ``python -m tests.bench.bench_transfers``.

Every figure is the median of some runs and the worst of them; those that are compared take turns, so that what else the
machine does meets both.  Names and records are counted without the apex; a name has one or two addresses.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from random import Random

import anyio
import anyio.lowlevel
import anyio.to_thread
import dns.message
import dns.name
import dns.rdatatype
import dns.xfr
import dns.zone

from mpcore.net.acl import Acl
from mpcore.net.clock import SystemClock
from mpcore.net.framing import MessageStream
from mpcore.net.messages import AXFR, IXFR, NOTIFY, QUERY, SOA
from mpcore.net.network import Address, InternetNetwork
from mpcore.net.notify import Notifier, NotifyReceiver
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone
from mpcore.net.server import DnsServer
from mpcore.net.transfer import TransferServer, settle, transfer_in
from mpcore.zone.answer import Responder
from mpcore.zone.journal import Journal
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset
from mpcore.zone.transfer import InboundAxfr, axfr_messages, axfr_query
from mpcore.zone.version import ZoneBuilder, ZoneVersion

ORIGIN = from_text("customer.example.")
NETWORK = InternetNetwork()


def zone_of(names: int) -> ZoneVersion:
    """A zone of *names* names, two thirds of which have a second address."""
    builder = ZoneBuilder(ORIGIN)
    timers = b"".join(number.to_bytes(4, "big") for number in (1, 3600, 600, 86400, 300))
    builder.add(ORIGIN, 6, 300, from_text("ns.example.") + from_text("hostmaster.example.") + timers)
    builder.add(ORIGIN, 2, 300, from_text("ns.example."))
    for number in range(names):
        label = b"host%07d" % number
        owner = bytes((len(label),)) + label + ORIGIN
        builder.add(owner, 1, 300, number.to_bytes(4, "big"))
        if number % 3:
            builder.add(owner, 28, 300, bytes(12) + number.to_bytes(4, "big"))
    return builder.finish()


def report(what: str, seconds: list[float], note: str = "") -> float:
    """Print median and worst of some durations; returns the median."""
    middle = statistics.median(seconds)
    print(f"{what:<62} n={len(seconds):<4} median {middle * 1000:9.2f} ms  worst {max(seconds) * 1000:9.2f} ms  {note}")
    sys.stdout.flush()
    return middle


def timed(function: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


# --- reading ---------------------------------------------------------------------------------------------------------


def read_here(messages: list[bytes]) -> ZoneVersion:
    inbound = InboundAxfr(ORIGIN, 1)
    for message in messages:
        inbound.feed(message)
    return inbound.version


def read_with_dnspython(messages: list[bytes]) -> dns.zone.Zone:
    zone = dns.zone.Zone(dns.name.from_text("customer.example."))
    with dns.xfr.Inbound(zone, dns.rdatatype.AXFR) as inbound:
        for message in messages:
            inbound.process_message(dns.message.from_wire(message, xfr=True, origin=zone.origin, multi=True))
    return zone


def bench_reading(version: ZoneVersion, rounds: int) -> None:
    """Messages of an AXFR to a zone, in CPU time."""
    messages = list(axfr_messages(version, axfr_query(ORIGIN, 1)))
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        ours += [timed(lambda: read_here(messages)) for _ in range(2)]
        theirs.append(timed(lambda: read_with_dnspython(messages)))
    mine = report(f"AXFR in, {version.record_count} records, ours (CPU)", ours)
    other = report("AXFR in, dns.xfr into dns.zone (CPU)", theirs)
    print(f"  ratio: {other / mine:.1f} times faster")


# --- writing ---------------------------------------------------------------------------------------------------------


async def count_axfr(address: Address) -> float:
    """Seconds until all octets of an AXFR are here; they are only counted."""
    stream = MessageStream(await NETWORK.connect_tcp(*address))
    start = time.perf_counter()
    await stream.send(axfr_query(ORIGIN, 1))
    closing = 0
    while closing < 2:
        message = await stream.receive()
        closing += message.count(b"\x0ahostmaster")
    elapsed = time.perf_counter() - start
    await stream.aclose()
    return elapsed


def count_axfr_in_thread(address: Address) -> float:
    return anyio.run(count_axfr, address)


async def bench_writing(version: ZoneVersion, rounds: int, knot: Address | None) -> None:
    """A zone rendered and sent over TCP to a client in a process of its own, against knotd."""
    server = DnsServer(NETWORK, [("127.0.0.1", 0)])
    transfers = TransferServer({ORIGIN: version}, Acl.of([("127.0.0.1", None)]))
    server.register(transfers.handle, QUERY, AXFR)
    ours: list[float] = []
    theirs: list[float] = []
    spent: list[float] = []
    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(server.serve)
        for _ in range(rounds):
            start = time.process_time()
            ours.append(await anyio.to_process.run_sync(count_axfr_in_thread, address))
            spent.append(time.process_time() - start)
            if knot is not None:
                theirs.append(await anyio.to_process.run_sync(count_axfr_in_thread, knot))
        tasks.cancel_scope.cancel()
    report(f"AXFR out, {version.record_count} records, ours (CPU)", spent)
    mine = report(f"AXFR out, {version.record_count} records, ours (wall)", ours)
    if theirs:
        other = report("AXFR out, knotd (wall)", theirs)
        print(f"  ratio: {mine / other:.1f} times the time of knotd")


# --- a change --------------------------------------------------------------------------------------------------------


def changes_of(version: ZoneVersion, names: int, count: int) -> Iterator[list[tuple[bytes, int, RRset | None]]]:
    random = Random(1)
    for number in range(count):
        label = b"host%07d" % random.randrange(names)
        owner = bytes((len(label),)) + label + ORIGIN
        yield [(owner, 1, RRset.make(1, 300, [(number + 1).to_bytes(4, "big")]))]


async def bench_change(version: ZoneVersion, names: int, count: int) -> None:
    """From one change to the last octet of the IXFR at the secondary: version, journal, NOTIFY, SOA query, IXFR."""
    zones = {ORIGIN: version}
    journal = Journal()
    clock = SystemClock()
    arrived, versions = anyio.create_memory_object_stream[ZoneVersion](1)
    server = DnsServer(NETWORK, [("127.0.0.1", 0)])
    transfers = TransferServer(zones, Acl.of([("127.0.0.0/8", None)]), journals={ORIGIN: journal})
    responder = Responder(zones)
    server.register_query(lambda octets, source, tcp: responder.respond(octets, over_tcp=tcp))
    server.register(transfers.handle, QUERY, AXFR)
    server.register(transfers.handle, QUERY, IXFR)
    async with anyio.create_task_group() as tasks, arrived, versions:
        (address,) = await tasks.start(server.serve)
        zone = SecondaryZone(
            NETWORK,
            ORIGIN,
            [RemoteServer(*address)],
            {},
            clock=clock,
            on_version=arrived.send,
            initial=version,
            local_host="127.0.0.2",
        )
        there = DnsServer(NETWORK, [("127.0.0.2", 0)])
        there.register(NotifyReceiver({ORIGIN: zone}).handle, NOTIFY, SOA)
        (target,) = await tasks.start(there.serve)
        notifier = Notifier(
            NETWORK, {ORIGIN: [RemoteServer(*target)]}, {}, clock=clock, random=Random(1), local_host=address[0]
        )
        await tasks.start(notifier.run)
        await tasks.start(zone.run)
        published: list[float] = []
        sent: list[float] = []
        for change in changes_of(version, names, count):
            old = zones[ORIGIN]
            start = time.perf_counter()
            new = old.update(change).with_serial(old.serial + 1)
            journal.record(old, new)
            published.append(time.perf_counter() - start)
            zones[ORIGIN] = new
            notifier.notify(new)
            assert (await versions.receive()).serial == new.serial
            sent.append(time.perf_counter() - start)
        tasks.cancel_scope.cancel()
    report(f"one change of {version.record_count} records: version and journal", published)
    report("one change, until its IXFR is applied at the secondary", sent)


# --- the loop --------------------------------------------------------------------------------------------------------


class Lag:
    """How late a timer of a millisecond is: the longest slice of the event loop."""

    def __init__(self) -> None:
        self.late: list[float] = []

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await anyio.sleep(0.001)
            self.late.append(time.perf_counter() - due)


async def lag_during(what: str, work: Callable[[], object]) -> object:
    """Run *work* and print how late the loop was meanwhile."""
    lag = Lag()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.run)
        await anyio.sleep(0.05)
        lag.late.clear()
        start = time.perf_counter()
        result = await work()  # type: ignore[misc]
        elapsed = time.perf_counter() - start
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    ordered = sorted(lag.late)
    print(
        f"loop while {what:<51} n={len(ordered):<5} median {statistics.median(ordered) * 1000:8.2f} ms  "
        f"99 % {ordered[len(ordered) * 99 // 100] * 1000:7.2f} ms  longest {ordered[-1] * 1000:7.2f} ms  "
        f"({elapsed:.2f} s)"
    )
    return result


def serve_whole(names: int, ready: str) -> None:
    """A primary in a process of its own; runs until it is killed."""

    async def main() -> None:
        version = zone_of(names)
        server = DnsServer(NETWORK, [("127.0.0.1", int(ready))])
        server.register(TransferServer({ORIGIN: version}, Acl.of([("127.0.0.1", None)])).handle, QUERY, AXFR)
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.serve)
            print("ready", flush=True)

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})


async def bench_loop(names: int) -> None:
    """A zone comes whole, comes again with differences, goes out, and changes, while a timer is watched."""
    from tests.peers.servers import free_port

    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "tests.bench.bench_transfers", "--serve", str(names), str(port)]
    primary = await anyio.to_thread.run_sync(lambda: subprocess.Popen(command, stdout=subprocess.PIPE))
    try:
        assert primary.stdout is not None
        await anyio.to_thread.run_sync(primary.stdout.readline)

        async def fetch(base: ZoneVersion | None = None) -> ZoneVersion:
            return await transfer_in(
                NETWORK,
                ORIGIN,
                ("127.0.0.1", port),
                key=None,
                clock=SystemClock(),
                random=Random(1),
                run=anyio.to_thread.run_sync,
                base=base,
            )

        first = await lag_during(f"{names} names come whole", fetch)
        assert isinstance(first, ZoneVersion)
        older = first.update(next(changes_of(first, names, 1))).with_serial(0)
        del first
        again = await lag_during("they come whole again and are compared", lambda: fetch(older))
        assert isinstance(again, ZoneVersion)
        assert again.is_near(older)
        zones = {ORIGIN: again}
        server = DnsServer(NETWORK, [("127.0.0.1", 0)])
        server.register(TransferServer(zones, Acl.of([("127.0.0.1", None)])).handle, QUERY, AXFR)
        async with anyio.create_task_group() as tasks:
            (address,) = await tasks.start(server.serve)
            await lag_during("they go out", lambda: anyio.to_process.run_sync(count_axfr_in_thread, address))
            tasks.cancel_scope.cancel()

        async def change() -> None:
            version = again
            journal = Journal()
            for number, edit in enumerate(changes_of(again, names, 200)):
                new = version.update(edit).with_serial(2 + number)
                journal.record(version, new)
                version = new
                await anyio.lowlevel.checkpoint()

        await lag_during("200 changes are made", change)

        def overhauled() -> ZoneVersion:
            owners = itertools.islice(again.owners(), 1, names // 10)
            return again.update((owner, 1, RRset.make(1, 60, [b"\1\2\3\4"])) for owner in owners).with_serial(9)

        async def overhaul() -> None:
            journal = Journal(max_octets=1 << 30)
            new = await anyio.to_thread.run_sync(overhauled)
            journal.record(again, new)
            await settle(journal, anyio.to_thread.run_sync)

        await lag_during("a tenth of them changes at once", overhaul)
    finally:
        primary.kill()
        primary.wait()


# ---------------------------------------------------------------------------------------------------------------------


async def main(arguments: argparse.Namespace) -> None:
    """Run what was asked for."""
    names = arguments.names
    version = zone_of(names)
    gc.collect()
    gc.freeze()
    if "read" in arguments.parts:
        bench_reading(version, arguments.rounds)
    if "write" in arguments.parts:
        from tests.peers.servers import Knot, Zone

        text = "\n".join(master_lines(version))

        class OpenKnot(Knot):
            """Lets everybody on this machine transfer, without a key."""

            def configure(self) -> list[str]:
                command = super().configure()
                file = self.directory / "conf"
                keyed = "  key: transfer.key\n  action: [transfer, update]"
                file.write_text(file.read_text().replace(keyed, "  address: 127.0.0.0/8\n  action: transfer"))
                return command

        with OpenKnot([Zone("customer.example.", text)]) as knot:
            await bench_writing(version, max(arguments.rounds, 5), (knot.address, knot.port))
    if "change" in arguments.parts:
        await bench_change(version, names, 200)
    del version
    if "loop" in arguments.parts:
        await bench_loop(names)


def master_lines(version: ZoneVersion) -> Iterator[str]:
    """A zone as lines of a master file."""
    from mpcore.zone.rrset import record_text

    for owner, rrset in version.rrsets():
        for rdata in rrset.rdatas:
            yield record_text(owner, rrset.rdtype, rrset.ttl, rdata)
    yield ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure zone transfers.")
    parser.add_argument("--names", type=int, default=100_000, help="names of the zone (default 100000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each measurement (default 3)")
    parser.add_argument("--serve", nargs=2, metavar=("NAMES", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument(
        "parts", nargs="*", default=["read", "write", "change", "loop"], help="read, write, change, loop"
    )
    given = parser.parse_args()
    if given.serve:
        serve_whole(int(given.serve[0]), given.serve[1])
    else:
        anyio.run(main, given, backend="asyncio", backend_options={"use_uvloop": True})
