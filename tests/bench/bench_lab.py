"""How long a lab takes, and how much memory: ``python -m tests.bench.bench_lab --runs 10``.

Each run starts a lab, waits for a leader that all agents name, and adds and removes records at alpha:

=====================  ==============================================================================================
start to leader        from the start of the command to the moment when every agent names the same leader and term
change sent to HERE    from sending the change to the answer of the control service: the change is durable
... to ACCEPTED        until the originator has a final confirmation of every provider, by its own clock
... to signed answers  until every provider's signer has given an answer with the new RRset and a signature
=====================  ==============================================================================================

Memory is resident and proportional set size (``smaps_rollup``) when the lab is idle, and of daemons started alone.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import dns.message
import dns.rdatatype

from daemons.lab.layout import ROLES, Daemon
from mpcore.control.client import ControlClient, ControlUnreachable
from mpcore.control.models import ChangeRequest, Transaction, Wait
from tests.lab.laboratory import PROJECT, Lab, memory

_DEADLINE = 60.0


@dataclass
class Figures:
    """What was measured, by name, in the unit of the name."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """One more value."""
        self.values.setdefault(name, []).append(value)

    def summary(self) -> list[dict[str, Any]]:
        """Number, median and worst of each."""
        return [
            {
                "name": name,
                "n": len(values),
                "median": round(statistics.median(values), 4),
                "worst": round(max(values), 4),
            }
            for name, values in self.values.items()
        ]


async def _leader(lab: Lab) -> None:
    """Until all agents name one leader of one term; each is asked again only until it names one."""
    clients = [ControlClient(provider.agent.control_socket) for provider in lab.providers]

    async def named(client: ControlClient) -> tuple[str, int] | None:
        try:
            groups = await client.groups()
        except ControlUnreachable:
            return None
        if not groups or not groups[0].operational or not groups[0].election.leader:
            return None
        return groups[0].election.leader, groups[0].election.term

    with anyio.fail_after(_DEADLINE):
        while True:
            found = set()
            for client in clients:
                found.add(await named(client))
                if None in found:
                    break
            if len(found) == 1 and None not in found:
                return
            await anyio.sleep(0.01)


def _ask_until_signed(addresses: list[tuple[str, int]], zone: str, record: str, present: bool) -> float:
    """Ask all servers at once, each again until its answer is right and signed; returns the moment of the last."""
    query = dns.message.make_query(zone, "NS", want_dnssec=True, payload=1232, flags=0)
    target = record.split()[-1]
    pending = dict.fromkeys(addresses)
    deadline = time.monotonic() + _DEADLINE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.2)
        last = time.time()
        while pending:
            assert time.monotonic() < deadline, f"not answered by {list(pending)}"
            for server in pending:
                udp.sendto(query.to_wire(), server)
            for _ in range(len(pending)):
                try:
                    octets, source = udp.recvfrom(4096)
                except TimeoutError:
                    break
                answer = dns.message.from_wire(octets)
                types = {rrset.rdtype for rrset in answer.answer}
                targets = {rdata.to_text() for rrset in answer.answer if rrset.rdtype == 2 for rdata in rrset}
                if dns.rdatatype.RRSIG in types and (target in targets) is present and source in pending:
                    del pending[source]
                    last = time.time()
            time.sleep(0.002)
    return last


async def _change(lab: Lab, operation: str, record: str, figures: Figures) -> None:
    """One change at alpha, and when it was where."""
    client = ControlClient(lab.provider("alpha").agent.control_socket)
    request = ChangeRequest.model_validate({"operation": operation, "record": record})
    servers = [(address, lab.port) for address in lab.signers]
    answered: list[float] = []

    async def watch() -> None:
        answered.append(
            await anyio.to_thread.run_sync(_ask_until_signed, servers, lab.zone, record, operation == "add")
        )

    sent = time.time()
    transaction: Transaction = await client.change(lab.zone, request)
    here = time.time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        transaction = await client.wait(transaction.id, Wait.EVERYWHERE, _DEADLINE)
    everywhere = transaction.reached_at[Wait.EVERYWHERE]
    figures.add("change sent to HERE, s", here - sent)
    figures.add("HERE to ACCEPTED everywhere, s", everywhere - here)
    figures.add("HERE to signed answers of all, s", answered[0] - here)
    figures.add("change sent to ACCEPTED everywhere, s", everywhere - sent)
    figures.add("change sent to signed answers of all, s", answered[0] - sent)


def _run(options: argparse.Namespace, figures: Figures) -> None:
    lab = Lab("--providers", str(options.providers))
    began = time.monotonic()
    lab.run()
    lab.wait_event(event="planned")
    lab.read_layout()
    anyio.run(_leader, lab)
    figures.add("start to leader, s", time.monotonic() - began)
    try:
        lab.wait_until_up()
        lab.wait_until_settled()
        for number in range(options.changes):
            record = f"{lab.zone} 3600 IN NS ns{number}.bench.example."
            for operation in ("add", "delete"):
                anyio.run(_change, lab, operation, record, figures)
        for name, state in lab.status().items():
            resident, proportional = memory(state["pid"])
            role = name.rpartition(".")[2]
            figures.add(f"{role} in the lab, RSS MB", resident / 1e6)
            figures.add(f"{role} in the lab, PSS MB", proportional / 1e6)
        lab.assert_clean_logs()
        for role in ROLES:
            with _alone(lab, getattr(lab.provider("alpha"), role)) as pid:
                resident, proportional = memory(pid)
                figures.add(f"{role} alone, RSS MB", resident / 1e6)
                figures.add(f"{role} alone, PSS MB", proportional / 1e6)
    finally:
        lab.__exit__()


@contextmanager
def _alone(lab: Lab, daemon: Daemon) -> Iterator[int]:
    """The daemon taken out of the lab and started by its console script; its process id, once it serves again."""
    lab.kill(daemon.name)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", f"daemons.{daemon.role}", "run", "--ready-fd", str(writing), daemon.config],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[writing],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    try:
        os.close(writing)
        with os.fdopen(reading) as ready:
            assert ready.readline(), f"{daemon.name} did not start"
        lab.wait_until_settled()
        yield process.pid
    finally:
        process.terminate()
        process.wait()
    lab.start(daemon.name)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_lab", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="labs started, one after the other (default 10)")
    parser.add_argument("--changes", type=int, default=5, help="additions, and removals, in each lab (default 5)")
    parser.add_argument("--providers", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    figures = Figures()
    for number in range(options.runs):
        _run(options, figures)
        print(f"run {number + 1} of {options.runs}", file=sys.stderr)
    if options.json:
        print(json.dumps(figures.summary(), indent=2))
        return
    print(f"{'':44} {'n':>4} {'median':>9} {'worst':>9}")
    for row in figures.summary():
        print(f"{row['name']:44} {row['n']:4} {row['median']:9.3f} {row['worst']:9.3f}")


if __name__ == "__main__":
    main()
