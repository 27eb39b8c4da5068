"""Gates of the zone store: ratios within one run, in processor time, half as much again of room beside the targets.

============================================================  ==========  ========
what                                                          target      gate
============================================================  ==========  ========
AXFR in, against dns.xfr into dns.zone                        15 times    10 times
AXFR rendered, against the processor time of knotd            10 times    15 times
text read, against dns.zone.from_file                         8 times     5.3 times
octets of memory for each record, in a process of its own     250         375
a change at 200,000 names, against one at 20,000              1           2
============================================================  ==========  ========
"""

from __future__ import annotations

import gc
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dns.zone
import pytest

from mpcore.zone.journal import Delta, Journal
from mpcore.zone.masterfile import read_master_file, write_master_file
from mpcore.zone.transfer import axfr_messages, axfr_query, ixfr_messages, ixfr_query
from mpcore.zone.version import ZoneVersion
from tests.bench.bench_transfers import ORIGIN, changes_of, read_here, read_with_dnspython, timed, zone_of
from tests.peers.servers import Knot, Zone

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("gates")]

NAMES = 5000  # of the zone that is compared with dnspython's

MEASURE = """
import gc, pathlib, sys
from mpcore.zone.masterfile import read_master_file

def resident():
    text = pathlib.Path("/proc/self/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) * 1024

gc.collect()
before = resident()
version = read_master_file(sys.argv[1], "customer.example.")
gc.collect()
print((resident() - before) / version.record_count)
"""


@pytest.fixture(scope="module")
def version() -> ZoneVersion:
    return zone_of(NAMES)


def ratio(one: Callable[[], float], other: Callable[[], float], rounds: int) -> float:
    """The median over some rounds, in each of which the two take turns, of how often *one* goes into *other*."""
    return statistics.median(other() / one() for _ in range(rounds))


def test_a_transfer_is_read_many_times_as_fast_as_by_dnspython(version: ZoneVersion) -> None:
    messages = list(axfr_messages(version, axfr_query(ORIGIN, 1)))
    found = ratio(lambda: timed(lambda: read_here(messages)), lambda: timed(lambda: read_with_dnspython(messages)), 3)
    assert found >= 10, f"{found:.1f} times as fast as dns.xfr"


def test_text_is_read_many_times_as_fast_as_by_dnspython(version: ZoneVersion, tmp_path: Path) -> None:
    path = tmp_path / "zone"
    write_master_file(path, version)

    def theirs() -> dns.zone.Zone:
        return dns.zone.from_file(str(path), "customer.example.", relativize=False)

    found = ratio(lambda: timed(lambda: read_master_file(path)), lambda: timed(theirs), 3)
    assert found >= 5.3, f"{found:.1f} times as fast as dns.zone.from_file"


@pytest.mark.peer
def test_a_transfer_is_rendered_in_not_much_more_time_than_by_knot(tmp_path: Path) -> None:
    version = zone_of(60_000)
    write_master_file(tmp_path / "zone", version)
    knot = OpenKnot([Zone("customer.example.", (tmp_path / "zone").read_text())])
    with knot:

        def theirs() -> float:
            before = processor_seconds(knot.pid)
            for _ in range(4):
                receive_all((knot.address, knot.port))
            return (processor_seconds(knot.pid) - before) / 4

        def ours() -> float:
            return timed(lambda: sum(map(len, axfr_messages(version, axfr_query(ORIGIN, 1)))))

        receive_all((knot.address, knot.port))
        found = 1 / ratio(ours, theirs, 3)
    assert found <= 15, f"{found:.1f} times the time of knotd"


def test_memory_of_a_record(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    write_master_file(path, zone_of(60_000))
    command = [sys.executable, "-c", MEASURE, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    octets = float(result.stdout)
    assert 20 < octets <= 375, f"{octets:.0f} octets of memory for each of 100000 records"


def test_a_change_costs_the_same_in_a_large_zone_as_in_a_small_one() -> None:
    """From a change to the messages of the incremental transfer that tells of it."""
    versions = {names: zone_of(names) for names in (20_000, 200_000)}
    gc.collect()
    gc.freeze()
    try:

        def change(names: int) -> float:
            def run() -> None:
                old = versions[names]
                journal = Journal()
                for edit in changes_of(old, names, 100):
                    new = old.update(edit).with_serial(old.serial + 1)
                    journal.record(old, new)
                    deltas: list[Delta] | None = journal.since(old.serial)
                    assert deltas is not None
                    assert sum(map(len, ixfr_messages(deltas, ixfr_query(old, 1)))) > 100
                    old = new

            return timed(run)

        found = 1 / ratio(lambda: change(200_000), lambda: change(20_000), 5)
    finally:
        gc.unfreeze()
    assert found <= 2, f"a change takes {found:.1f} times as long at ten times the size"


class OpenKnot(Knot):
    """Lets everybody on this machine transfer, without a key."""

    def configure(self) -> list[str]:
        command = super().configure()
        file = self.directory / "conf"
        keyed = "  key: transfer.key\n  action: [transfer, update]"
        file.write_text(file.read_text().replace(keyed, "  address: 127.0.0.0/8\n  action: transfer"))
        return command


def receive_all(address: tuple[str, int]) -> None:
    """Take an AXFR and throw it away."""
    query = axfr_query(ORIGIN, 1)
    closing, rest = 0, b""
    with socket.create_connection(address, timeout=20) as stream:
        stream.sendall(len(query).to_bytes(2, "big") + query)
        while closing < 2:
            octets = stream.recv(1 << 18)
            assert octets, "the transfer ends before its closing SOA"
            rest = rest[-10:] + octets
            closing += rest.count(b"\x0ahostmaster")


def processor_seconds(pid: int) -> float:
    """Processor time that all threads of a process have taken, in nanosecond steps."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
