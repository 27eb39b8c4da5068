"""A lab of real processes for tests: started by its command line, looked at by control service and DNS queries.

Nothing here waits for a time to pass: :func:`eventually` looks until something holds, and fails at a deadline.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from daemons.lab.layout import Daemon, Layout, Provider, read_layout
from daemons.lab.supervisor import command
from mpcore.control.client import ControlClient, ControlUnreachable
from mpcore.control.models import (
    ChangeRequest,
    Contributions,
    Group,
    Key,
    RecordState,
    SdeZone,
    Status,
    Transaction,
    TransactionState,
    Wait,
    Zone,
)
from mpcore.errors import NotReadyError
from mpcore.wire.seal import read_private_key, read_public_key
from tests.peers.standin import Recipient, StandIn

__all__ = (
    "PATIENCE",
    "PROJECT",
    "Control",
    "Lab",
    "alive",
    "ask",
    "cockpit",
    "delv",
    "eventually",
    "lab_command",
    "memory",
    "records",
)

PROJECT = Path(__file__).parents[2]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT)}

PATIENCE = 30.0  #: seconds: a deadline for what usually takes a fraction of one
_T = TypeVar("_T")
_FIRST_STEP, _LONGEST_STEP = 0.02, 0.5


def eventually(look: Callable[[], _T], what: str, *, within: float = PATIENCE) -> _T:
    """The first true value of *look*; fails, naming *what*, at the deadline.

    A daemon that cannot be reached, or is not ready, is looked at again.
    """
    deadline = time.monotonic() + within
    step = _FIRST_STEP
    last: object = None
    while True:
        try:
            value = look()
            if value:
                return value
            last = value
        except (ControlUnreachable, NotReadyError, OSError, dns.exception.DNSException) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {last!r}")
        time.sleep(step)
        step = min(1.2 * step, _LONGEST_STEP)


# ------------------------------------------------------------------------------------------------------------- daemons


class Control:
    """The control service of one daemon, for synchronous tests."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def _call(self, name: str, *arguments: Any) -> Any:
        client = ControlClient(self.daemon.control_socket)
        return anyio.run(lambda: getattr(client, name)(*arguments))

    def status(self) -> Status:
        return self._call("status")  # type: ignore[no-any-return]

    def groups(self) -> list[Group]:
        return self._call("groups")  # type: ignore[no-any-return]

    def zones(self) -> list[Zone]:
        return self._call("zones")  # type: ignore[no-any-return]

    def edits(self, zone: str) -> SdeZone:
        return self._call("edits", zone)  # type: ignore[no-any-return]

    def contributions(self, zone: str) -> Contributions:
        return self._call("contributions", zone)  # type: ignore[no-any-return]

    def keys(self, zone: str) -> list[Key]:
        return self._call("keys", zone)  # type: ignore[no-any-return]

    def transactions(self) -> list[Transaction]:
        return self._call("transactions")  # type: ignore[no-any-return]

    def transaction(self, name: str) -> Transaction:
        return self._call("transaction", name)  # type: ignore[no-any-return]

    def change(self, zone: str, operation: str, record: str) -> Transaction:
        request = ChangeRequest.model_validate({"operation": operation, "record": record})
        return self._call("change", zone, request)  # type: ignore[no-any-return]

    def wait(self, transaction: Transaction, level: Wait, within: float = PATIENCE) -> Transaction:
        """The transaction at *level*; across restarts of the daemon."""
        deadline = time.monotonic() + within
        while True:
            try:
                return self._call("wait", transaction.id, level, within)  # type: ignore[no-any-return]
            except (ControlUnreachable, NotReadyError):
                assert time.monotonic() < deadline, f"{self.daemon.name} is out of reach"
                time.sleep(_FIRST_STEP)


class Lab:
    """A lab, started as ``python -m daemons.lab run``; a context manager.

    :param options: further arguments of ``run``.
    :param keep: ``--keep``: the state outlives the lab, which can be run again.
    """

    def __init__(self, *options: str, keep: bool = True) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lab-"))
        self._options = (*options, "--keep") if keep else options
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._ended = False
        self.pids: set[int] = set()

    def __enter__(self) -> Self:
        self.run()
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self) -> None:
        """Start the supervisor."""
        arguments = [sys.executable, "-m", "daemons.lab", "run", "--die-with-parent"]
        arguments += ["--state-dir", str(self.directory), *self._options]
        self._ended = False
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=_ENVIRONMENT)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                event = json.loads(line)
                with self._changed:
                    self.events.append(event)
                    self.pids.update([event["pid"]] if "pid" in event else [])
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_event(self, **members: Any) -> dict[str, Any]:
        """The first event with these members."""

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events if members.items() <= event.items()), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout=PATIENCE)
            event = found()
        assert event is not None, f"no event {members}; there were {self.events[-5:]}\n{self.log_tails()}"
        return event

    def wait_until_up(self) -> None:
        """Until every daemon is ready."""
        self.wait_event(event="up")
        self.read_layout()

    def read_layout(self) -> None:
        """Learn where everything is, once it is planned."""
        self.layout: Layout = read_layout(self.directory)
        self.zone = self.layout.zone
        self.port = self.layout.port

    def stop(self) -> int:
        """Stop the lab as an operator does, with SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    # ---- parts

    @property
    def providers(self) -> tuple[Provider, ...]:
        """All of them."""
        return self.layout.providers

    def provider(self, label: str) -> Provider:
        """One of them."""
        return next(provider for provider in self.providers if provider.label == label)

    def agent(self, label: str) -> Control:
        """Its agent."""
        return Control(self.provider(label).agent)

    def combiner(self, label: str) -> Control:
        """Its combiner."""
        return Control(self.provider(label).combiner)

    def signer(self, label: str) -> Control:
        """Its signer."""
        return Control(self.provider(label).signer)

    @property
    def signers(self) -> list[str]:
        """Addresses of the signers of all providers: each serves the signed zone."""
        return [provider.signer.address for provider in self.providers]

    def stand_in(self, label: str, role: str) -> StandIn:
        """Somebody with the key of a provider's agent, to talk to its combiner or signer."""
        provider = self.provider(label)
        peer: Daemon = getattr(provider, role)
        home = self.layout.files(provider, role)
        return StandIn(
            provider.agent.identity,
            read_private_key((self.layout.files(provider, "agent") / "key.jwk").read_text()),
            provider.agent.address,
            self.port,
            Recipient(peer.identity, read_public_key((home / "key.pub.jwk").read_text()), peer.address, self.port),
        )

    # ---- processes

    def kill(self, *names: str) -> None:
        """SIGKILL; returns when the processes are gone."""
        for name in names:
            answer = command(self.layout, "kill", name)
            assert answer["ok"], answer

    def start(self, *names: str) -> None:
        """Start killed daemons again; returns when they are ready."""
        for name in names:
            answer = command(self.layout, "start", name)
            assert answer["ok"], answer
        eventually(lambda: self.ready(*names), f"{', '.join(names)} ready")

    def ready(self, *names: str) -> bool:
        """Whether all these daemons have reported that they are ready."""
        return all(state["ready"] for state in self.status().values() if state["name"].startswith(names))

    def status(self) -> dict[str, Any]:
        """What the supervisor knows of the processes, by name."""
        return {state["name"]: state for state in command(self.layout, "status")["daemons"]}

    def start_missing(self) -> None:
        """Start whatever a failed test has left dead."""
        missing = [name for name, state in self.status().items() if state["pid"] is None]
        if missing:
            self.start(*missing)

    def logs(self) -> dict[str, str]:
        """What each daemon has written."""
        return {
            str(path.relative_to(self.directory)): path.read_text(errors="replace")
            for path in sorted(self.directory.rglob("log"))
        }

    def log_tails(self) -> str:
        """The last lines of all logs, for a failure's text."""
        return "\n".join(f"--- {name}\n{text[-1500:]}" for name, text in self.logs().items())

    def assert_clean_logs(self) -> None:
        """No daemon has met an error that it did not expect."""
        for name, text in self.logs().items():
            bad = [line for line in text.splitlines() if re.search(r"Traceback|internal error| critical ", line)]
            assert not bad, f"{name}:\n{text}"

    # ---- agreement

    def agreed_leader(self) -> tuple[str, int] | None:
        """Leader and term, if every agent names the same, and sees every other as it should be."""
        named = set()
        for provider in self.providers:
            groups = Control(provider.agent).groups()
            if not groups:
                return None
            (group,) = groups
            identities = {other.agent.identity for other in self.providers}
            states = {
                (row.reporter, peer): state
                for row in group.rows
                for peer, state in row.states.items()
                if peer != row.reporter
            }
            wanted = {(reporter, peer) for reporter in identities for peer in identities if reporter != peer}
            if not group.operational or set(states) != wanted or set(states.values()) != {"OPERATIONAL"}:
                return None
            if group.election.leader is None:
                return None
            named.add((group.election.leader, group.election.term))
        return named.pop() if len(named) == 1 else None

    def settled(self) -> bool:
        """Whether all agents agree and every provider's DNSKEY records are known to, and served by, all signers."""
        if self.agreed_leader() is None:
            return False
        keys = [records(address, self.port, self.zone, "DNSKEY") for address in self.signers]
        signing = sum(provider.signs for provider in self.providers)
        return all(found == keys[0] for found in keys) and len(keys[0]) >= 2 * signing

    def wait_until_settled(self, within: float = PATIENCE) -> None:
        """Until :meth:`settled`, and nothing waits in a queue, and there is a chain of trust to the zone."""
        eventually(self.settled, "all agree on leader and keys", within=within)
        eventually(lambda: not any(self.outbound()), "empty queues")
        eventually(
            lambda: records(self.layout.resolver, self.port, self.zone, "DS"), "DS records of the zone in its parent"
        )

    def outbound(self) -> Iterable[Any]:
        """What waits in the agents' queues."""
        for provider in self.providers:
            yield from Control(provider.agent).edits(self.zone).outbound

    def states(self, record: str, originator: str) -> dict[str, RecordState | None]:
        """State of a record at every agent, by label; ``None``: it is not known there."""
        found: dict[str, RecordState | None] = {}
        for provider in self.providers:
            entries = Control(provider.agent).edits(self.zone).records
            wanted = record.lower().split()
            found[provider.label] = next(
                (
                    entry.state
                    for entry in entries
                    if entry.originator == originator and entry.record.lower().split() == wanted
                ),
                None,
            )
        return found

    def assert_accepted_everywhere(self, origin: str, transaction: Transaction) -> None:
        """The change is ACCEPTED at its originator, and every agent has the record as its own combiner has it.

        That is ACCEPTED where the zone is signed; the combiner of a provider that does not sign ignores what it stores.
        """
        done = self.agent(origin).wait(transaction, Wait.EVERYWHERE)
        assert done.state is TransactionState.ACCEPTED, done
        identity = self.provider(origin).agent.identity
        if transaction.operation == "add":
            wanted = {
                provider.label: RecordState.ACCEPTED
                if provider.signs or provider.label == origin
                else RecordState.IGNORED
                for provider in self.providers
            }
            eventually(lambda: self.states(transaction.record, identity) == wanted, f"{transaction.record}: {wanted}")
        else:
            eventually(
                lambda: set(self.states(transaction.record, identity).values()) <= {None, RecordState.REMOVED},
                f"{transaction.record} removed everywhere",
            )

    def assert_served_everywhere(self, record: str, *, present: bool = True) -> None:
        """Every signer answers with the record (or without it), and delv validates each answer for itself."""
        owner, _, _, rdtype, rdata = record.split(None, 4)
        for address in self.signers:
            eventually(
                lambda address=address: (rdata in records(address, self.port, owner, rdtype)) is present,  # type: ignore[misc]
                f"{record} {'answered' if present else 'gone'} at {address}",
            )
        anchors = self.zone_anchors()
        for address in self.signers:
            text = delv(address, self.port, self.directory, anchors, self.zone, owner, rdtype)
            assert "; fully validated" in text, f"{address}: {text}\n{self.log_tails()}"
            assert any(line.split()[4:] == rdata.split() for line in text.splitlines() if line[:1] != ";") is present

    def zone_anchors(self) -> str:
        """The zone's DS RRset as trust anchors, fetched through the lab's resolver and validated from the root."""
        text = delv(self.layout.resolver, self.port, self.directory, self.root_anchors(), ".", self.zone, "DS")
        assert "; fully validated" in text, text
        rdatas = [line.split()[4:] for line in text.splitlines() if re.search(r"\sIN\s+DS\s", line)]
        assert rdatas, text
        return "".join(
            f'{self.zone} static-ds {tag} {algorithm} {digest} "{"".join(octets)}";\n'
            for tag, algorithm, digest, *octets in rdatas
        )

    def root_anchors(self) -> str:
        """The lab's root key as trust anchor."""
        fields = self.layout.trust_anchor_file.read_text().split()
        flags, protocol, algorithm, *key = fields[fields.index("DNSKEY") + 1 :]
        return f'. static-key {flags} {protocol} {algorithm} "{"".join(key)}";\n'


def lab_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m daemons.lab`` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "daemons.lab", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env=_ENVIRONMENT,
    )


def cockpit(lab: Lab, *arguments: str, context: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``mpcockpit`` on the lab."""
    chosen = [] if context is None else ["--context", context]
    return subprocess.run(
        [sys.executable, "-m", "cockpit.cli", "--state-dir", str(lab.directory), *chosen, *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        stdin=subprocess.DEVNULL,
        env=_ENVIRONMENT,
    )


# ----------------------------------------------------------------------------------------------------------------- DNS


def ask(address: str, port: int, name: str, rdtype: str, *, dnssec: bool = False) -> dns.message.Message:
    """One query over UDP."""
    question = dns.message.make_query(name, rdtype, want_dnssec=dnssec, payload=1232)
    answer, _ = dns.query.udp_with_fallback(question, address, port=port, timeout=2.0)
    return answer


def records(address: str, port: int, name: str, rdtype: str) -> list[str]:
    """RDATA texts of an RRset, sorted; empty: there is none."""
    answer = ask(address, port, name, rdtype)
    return sorted(
        rdata.to_text() for rrset in answer.answer if rrset.rdtype == dns.rdatatype.from_text(rdtype) for rdata in rrset
    )


def delv(address: str, port: int, directory: Path, anchors: str, root: str, name: str, rdtype: str) -> str:
    """What BIND's validator says of a server's answer.

    :param anchors: statements of ``trust-anchors``.
    :param root: where the chain of trust begins.
    """
    with tempfile.NamedTemporaryFile("w", dir=directory, suffix=".anchors") as file:
        file.write(f"trust-anchors {{\n{anchors}}};\n")
        file.flush()
        command = ["delv", "-a", file.name, f"+root={root}", f"@{address}", "-p", str(port), name, rdtype]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout + done.stderr


# ----------------------------------------------------------------------------------------------------------- processes


def alive(pids: Sequence[int] | set[int]) -> list[int]:
    """Those of *pids* that are processes of this project still (numbers are used again)."""
    found = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"daemons" in command:
            found.append(pid)
    return found


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional memory of a process, in octets."""
    values = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    return int(values["Rss"]) * 1024, int(values["Pss"]) * 1024
