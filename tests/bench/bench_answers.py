"""Authoritative answers over UDP as ratios: this server beside one worker of knotd and beside dnspython.

    python -m tests.bench.bench_answers [--seconds 2] [--rounds 3]

The three servers answer the same queries for the same zone from the same client (dnsperf), one after another in each
round, each on one processor with the client on another; the ratio of a round is taken within the round, and the median
of all is shown.  Beside the rate stands the rate for the processor time that the server took: that is the figure to
look at where other processes run.  ``dnspython`` is the same datagram protocol with a dnspython message parsed and made
for each query.
Needs the Debian packages dnsperf, knot and bind9-utils.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import anyio
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.zone
import uvloop

from mpcore.net import udp_asyncio
from mpcore.net.cookies import ServerCookies
from mpcore.net.network import InternetNetwork
from mpcore.net.server import DnsServer
from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_file
from tests.peers.servers import Knot, Zone, free_port, loopback_address

__all__ = ("main",)

NAMES = 1000
MIXES = {
    "positive, 10 % NXDOMAIN": ("nsec", False),
    "the same with DO, NSEC": ("nsec", True),
    "the same with DO, NSEC3": ("nsec3", True),
}


def zone_text(directory: Path, kind: str) -> str:
    """A signed zone of NAMES names."""
    text = "$TTL 3600\n@ SOA ns1 host 1 3600 600 86400 300\n@ NS ns1\nns1 A 192.0.2.1\n"
    text += "".join(f"name{number} A 192.0.2.{number % 250}\n" for number in range(NAMES))
    for flags in ((), ("-f", "KSK")):
        made = subprocess.run(
            ["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", *flags, "example"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=True,
        )
        text += (directory / f"{made.stdout.strip()}.key").read_text()
    (directory / "zone").write_text(text)
    hashed = ["-3", "-", "-H", "0"] if kind == "nsec3" else []
    command = ["dnssec-signzone", "-S", "-O", "full", *hashed, "-o", "example.", "-f", "signed", "zone"]
    subprocess.run(command, cwd=directory, capture_output=True, check=True)
    return (directory / "signed").read_text()


def serve_ours(address: str, port: int, path: Path) -> None:
    """This server, as a node runs it: cookies and response rates included."""
    version = read_master_file(path, "example.")
    responder = Responder({version.origin: version})

    async def run() -> None:
        server = DnsServer(InternetNetwork(), [(address, port)], cookies=ServerCookies([bytes(16)]))
        server.register_query(lambda octets, source, over_tcp: responder.respond(octets, over_tcp=over_tcp))
        await server.serve()

    anyio.run(run, backend_options={"use_uvloop": True})


def serve_dnspython(address: str, port: int, path: Path) -> None:
    """A dnspython message for each query; no proofs, which only makes it faster."""
    zone = dns.zone.from_file(str(path), "example.", relativize=False)
    soa = zone.get_rrset("example.", "SOA")

    def answer(octets: bytes, source: object, later: Callable[[bytes], None]) -> bytes:
        query = dns.message.from_wire(octets)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        question = query.question[0]
        node = zone.get_node(question.name)
        rdataset = None if node is None else node.get_rdataset(question.rdclass, question.rdtype)
        if rdataset is not None:
            rrset = response.find_rrset(response.answer, question.name, question.rdclass, question.rdtype, create=True)
            rrset.update(rdataset)
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(soa)
        return response.to_wire()

    async def run() -> None:
        await udp_asyncio.listen(address, port, answer)
        await asyncio.Event().wait()

    uvloop.run(run())


@contextlib.contextmanager
def ourselves(kind: str, text: str) -> Iterator[tuple[str, int, int]]:
    """One of the Python servers in a process of its own: address, port, process id."""
    address = loopback_address()
    port = free_port(address)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "zone")
        path.write_text(text)
        command = [sys.executable, "-m", "tests.bench.bench_answers", "--serve", kind, address, str(port), str(path)]
        with subprocess.Popen(command) as process:
            try:
                deadline = time.monotonic() + 20
                while True:
                    with contextlib.suppress(dns.exception.DNSException, OSError):
                        dns.query.udp(dns.message.make_query("example.", "SOA"), address, port=port, timeout=0.2)
                        break
                    assert process.poll() is None, f"{kind} ended"
                    assert time.monotonic() < deadline, f"{kind} did not start"
                yield address, port, process.pid
            finally:
                process.terminate()


def processor_seconds(pid: int) -> float:
    """Processor time that a process has taken, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    address: str, port: int, pid: int, queries: Path, seconds: float, *, dnssec: bool, processor: int
) -> tuple[float, float]:
    """Queries a second, and queries for each second of the server's processor time."""
    before = processor_seconds(pid)
    command = ["dnsperf", "-s", address, "-p", str(port), "-d", str(queries), "-l", str(seconds)]
    command += ["-c", "8", "-q", "100", "-T", "1", *(["-e", "-D"] if dnssec else [])]
    done = subprocess.run(
        ["taskset", "-c", str(processor), *command], capture_output=True, text=True, check=True, timeout=seconds + 30
    )
    found = re.search(r"Queries per second:\s+([0-9.]+)", done.stdout)
    lost = re.search(r"Queries lost:\s+\d+ \(([0-9.]+)%\)", done.stdout)
    assert found is not None, done.stdout
    assert lost is not None, done.stdout
    assert float(lost[1]) < 1, f"{lost[1]} % of the queries were lost"
    completed = re.search(r"Queries completed:\s+(\d+)", done.stdout)
    assert completed is not None, done.stdout
    return float(found[1]), int(completed[1]) / max(processor_seconds(pid) - before, 0.01)


def run_mix(name: str, kind: str, *, dnssec: bool, rounds: int, seconds: float) -> None:
    """Measure one mix and print its line."""
    processors = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        directory = Path(temporary)
        text = zone_text(directory, kind)
        random = Random(1)
        queries = directory / "queries"
        lines = [
            f"name{random.randrange(NAMES)}.example. A" if random.random() < 0.9 else f"no{number}.example. A"
            for number in range(200_000)
        ]
        queries.write_text("\n".join(lines) + "\n")
        knot = stack.enter_context(Knot([Zone("example.", text=text)], key=None))
        assert knot._process is not None
        servers = {"knotd": (knot.address, knot.port, knot._process.pid)}
        for program in ("ours", "dnspython"):
            servers[program] = stack.enter_context(ourselves(program, text))
        for _, _, pid in servers.values():
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), {processors[0]})
        results: dict[str, list[tuple[float, float]]] = {program: [] for program in servers}
        for _ in range(rounds):
            for program, (address, port, pid) in servers.items():
                results[program].append(
                    measure(address, port, pid, queries, seconds, dnssec=dnssec, processor=processors[-1])
                )
    print(name)
    for index, what in enumerate(("queries a second", "queries per second of processor time")):
        figures = {program: [values[index] for values in measured] for program, measured in results.items()}
        of_knot, times = (
            statistics.median(ours / other for ours, other in zip(figures["ours"], figures[beside], strict=True))
            for beside in ("knotd", "dnspython")
        )
        medians = "  ".join(f"{program} {statistics.median(values):7.0f}" for program, values in figures.items())
        print(f"  {what:38} {medians}   ours/knotd {of_knot:5.2f}  ours/dnspython {times:5.1f}")


def main() -> None:
    """Run the benchmark, or one of its servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", nargs=4, metavar=("KIND", "ADDRESS", "PORT", "ZONE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        kind, address, port, path = options.serve
        serve = {"ours": serve_ours, "dnspython": serve_dnspython}[kind]
        serve(address, int(port), Path(path))
        return
    for program in ("dnsperf", "knotd", "dnssec-signzone", "taskset"):
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
            raise SystemExit(f"{program} is not installed")
    print("medians; wanted are 0.5 of knotd and 10 times dnspython")
    for name, (kind, dnssec) in MIXES.items():
        run_mix(name, kind, dnssec=dnssec, rounds=options.rounds, seconds=options.seconds)


if __name__ == "__main__":
    main()
