"""Combiner and signer killed (SIGKILL): they serve what they served before, and real secondaries get changes only."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpcore.zone.serial import is_newer
from tests.lab.laboratory import eventually, records
from tests.peers.processes import DaemonProcess, multi_provider_records, server
from tests.peers.servers import KEY, Bind, IncrementalNsd, Knot, NameServer, Remote, Zone

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

ZONE = "customer.example."
TEXT = "\n".join(
    [
        f"{ZONE} 3600 SOA ns.owner.example. hostmaster.{ZONE} 1 86400 3600 604800 60",
        f"{ZONE} 3600 NS ns.alpha.example.",
        *(f"host{number}.{ZONE} 300 A 192.0.2.{number}" for number in range(250)),
        *multi_provider_records(ZONE, signers=("alpha",)),
        "",
    ]
)


def _signal(where: NameServer, number: int) -> None:
    """Send a signal to a server and the processes that it has started."""
    assert where._process is not None
    found = [where._process.pid]
    for pid in found:
        found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    for pid in found:
        os.kill(pid, number)


def _serial(where: NameServer | DaemonProcess) -> int | None:
    found = records(where.address, where.port, ZONE, "SOA")
    return int(found[0].split()[2]) if found else None


def _same(ours: DaemonProcess, theirs: NameServer) -> Callable[[], bool]:
    return lambda: _serial(ours) is not None and _serial(ours) == _serial(theirs)


def _moved_from(ours: DaemonProcess, serial: int | None) -> Callable[[], bool]:
    return lambda: _serial(ours) not in (None, serial)


def _contents(where: NameServer | DaemonProcess) -> set[tuple[str, ...]]:
    """The records as kdig transfers them."""
    command = ["kdig", f"@{where.address}", "-b", where.address, "-p", str(where.port), ZONE, "AXFR"]
    command += ["-y", f"{KEY.algorithm}:{KEY.bare}:{KEY.secret}", "+noall", "+answer"]
    done = subprocess.run(command, capture_output=True, timeout=20, text=True, check=True)
    found = {tuple(line.split()) for line in done.stdout.splitlines() if line and not line.startswith(";")}
    assert len(found) > 200, done.stdout
    return found


def _sent(daemon: DaemonProcess, address: str) -> list[str]:
    """How each transfer to *address* went: ``whole``, or ``as changes since`` a serial."""
    return re.findall(rf"transferred to {re.escape(address)} (whole|as changes since \d+),", daemon.log)


def _set_up(role: str, kind: type[NameServer], primary: NameServer) -> tuple[DaemonProcess, NameServer]:
    daemon = DaemonProcess(role, [])
    primary.zones = (Zone(ZONE, text=TEXT, notify=(Remote(daemon.address, daemon.port, KEY),)),)
    options = ("acl: keyed",) if kind is Knot else ()
    secondary = kind([Zone(ZONE, primary=Remote(daemon.address, daemon.port, KEY), options=options)])
    daemon.zones.append(
        {
            "name": ZONE,
            "primaries": [server(primary.address, primary.port)],
            "secondaries": [server(secondary.address, secondary.port), server(daemon.address, daemon.port)],
        }
    )
    return daemon, secondary


@pytest.mark.parametrize(
    ("role", "kind"),
    [("combiner", Knot), ("signer", Knot), ("signer", Bind), ("signer", IncrementalNsd)],
    ids=["combiner-knot", "signer-knot", "signer-bind", "signer-nsd"],
)
def test_a_secondary_gets_changes_after_a_kill(role: str, kind: type[NameServer]) -> None:
    """The secondary is away for three changes, and the daemon is killed.  It comes back and gets one difference."""
    primary = Knot([])
    daemon, secondary = _set_up(role, kind, primary)
    with primary, daemon, secondary:
        eventually(_same(daemon, secondary), "the secondary has the zone")
        behind = _serial(secondary)
        assert behind is not None
        _signal(secondary, signal.SIGSTOP)
        for number in range(3):
            before = _serial(daemon)
            primary.update(ZONE, f"add new{number}.{ZONE} 300 A 192.0.2.81", f"delete host{number}.{ZONE} A")
            eventually(_moved_from(daemon, before), "the daemon follows")
        last = _serial(daemon)
        daemon.kill()
        primary.kill()  # what is served afterwards is what was kept
        daemon.start()
        assert _serial(daemon) == last
        _signal(secondary, signal.SIGCONT)
        eventually(_same(daemon, secondary), f"the secondary follows: {secondary.log[-2000:]}")
        assert _sent(daemon, secondary.address) == ["whole", f"as changes since {behind}"]
        primary.start()
        primary.update(ZONE, f"add later.{ZONE} 300 A 192.0.2.82")
        eventually(lambda: records(secondary.address, secondary.port, f"later.{ZONE}", "A"), "changes go on")
        eventually(_same(daemon, secondary), "to the end")
        assert _sent(daemon, secondary.address)[2:] in ([f"as changes since {last}"], [])
        theirs = _contents(secondary)
        assert theirs == _contents(daemon)
        assert sum("new" in record[0] for record in theirs if record[3] == "A") == 3


@pytest.mark.parametrize("kind", [Knot, Bind, IncrementalNsd], ids=["knot", "bind", "nsd"])
def test_killed_at_any_moment_no_serial_goes_back(kind: type[NameServer]) -> None:
    """The signer is killed while changes pass through it, a little later after each."""
    primary = Knot([])
    daemon, secondary = _set_up("signer", kind, primary)
    seen: list[int] = []

    def look(where: NameServer | DaemonProcess) -> None:
        serial = _serial(where)
        if serial is not None and (not seen or seen[-1] != serial):
            seen.append(serial)

    with primary, daemon, secondary:
        eventually(_same(daemon, secondary), "the secondary has the zone")
        for number in range(4):
            primary.update(ZONE, f"add new{number}.{ZONE} 300 A 192.0.2.81")
            time.sleep(0.02 * number)  # spreads the kills over what happens; nothing waits for it
            daemon.kill()
            daemon.start()
            look(daemon)
        eventually(
            lambda: all(records(secondary.address, secondary.port, f"new{n}.{ZONE}", "A") for n in range(4)),
            f"everything arrives: {daemon.log[-2000:]}",
        )
        eventually(_same(daemon, secondary), "and the same everywhere")
        look(daemon)
        assert all(is_newer(after, before) for before, after in itertools.pairwise(seen)), seen
        assert _sent(daemon, secondary.address).count("whole") == 1
        assert _contents(secondary) == _contents(daemon)
