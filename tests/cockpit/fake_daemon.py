"""Daemons of one provider for tests of the command line: the real HTTP server in front of an invented service."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import yaml

from daemons.http import serve_control
from mpcore.control.events import EventLog
from mpcore.control.models import (
    ChangePlan,
    ChangeRequest,
    Contribution,
    Contributions,
    Election,
    Event,
    Group,
    Key,
    MatrixRow,
    Peer,
    PingResult,
    RecipientConfirmation,
    RecordState,
    Role,
    SdeRecord,
    SdeZone,
    ServedRecord,
    Snapshot,
    Status,
    Transaction,
    TransactionState,
    Wait,
    Zone,
    ZoneRecords,
)
from mpcore.errors import NotFoundError, NotReadyError, PolicyError

ZONE = "customer.example."
NOW = 1_795_496_000.0
NS = "customer.example.\t300\tIN\tNS\tns2.alpha.example."
KSK = "customer.example.\t3600\tIN\tDNSKEY\t257 3 15 " + "A" * 42 + "I="
MEMBERS = ("agent.alpha.example.", "agent.bravo.example.")


class FakeService:
    """One daemon; changes are remembered, and what bravo owes is never given."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.log = EventLog(start=100)
        self.added: list[str] = []
        self.made: dict[str, Transaction] = {}

    def status(self) -> Status:
        return Status(
            identity=f"{self.role.value}.alpha.example.",
            role=self.role,
            provider="alpha",
            version="0.1.0",
            pid=4711,
            started_at=NOW - 125,
            now=NOW,
            ready=True,
            zones=1,
            warnings=("the clock of agent.bravo.example is 90 s behind ours: both need NTP",)
            if self.role is Role.AGENT
            else (),
        )

    def snapshot(self) -> Snapshot:
        agent = self.role is Role.AGENT
        return Snapshot(
            event_id=self.log.last_id,
            status=self.status(),
            peers=tuple(self.peers()),
            groups=tuple(self.groups()) if agent else (),
            zones=tuple(self.zones()),
            edits=(self.edits(ZONE),) if agent else (),
        )

    def peers(self) -> list[Peer]:
        if self.role is not Role.AGENT:
            return []
        return [
            Peer(
                identity="agent.bravo.example.",
                kind="agent",
                state="OPERATIONAL",
                since=NOW - 60,
                address="192.0.2.21:53",
                last_heard=NOW - 3,
                round_trip=0.0123,
            ),
            Peer(
                identity="agent.charlie.example.",
                kind="agent",
                state="NEEDED",
                since=NOW - 90,
                last_error="dns.agent.charlie.example. JWK: no such name",
                waiting_for="its records to appear in the DNS; next look in 5 s",
            ),
        ]

    async def ping(self, identity: str, timeout: float) -> PingResult:
        if identity == "agent.bravo.example.":
            return PingResult(identity=identity, ok=True, round_trip=0.0123)
        return PingResult(identity=identity, ok=False, error="no answer within 5 s")

    def groups(self) -> list[Group]:
        if self.role is not Role.AGENT:
            raise NotFoundError(f"a {self.role.value} is in no group")
        rows = tuple(
            MatrixRow(
                reporter=member,
                states={other: "OPERATIONAL" for other in MEMBERS if other != member},
                reported_at=NOW - 4,
                received_at=NOW - 3,
                beat_interval=15,
            )
            for member in MEMBERS
        )
        election = Election(phase="idle", term=3, leader=MEMBERS[1], leader_expires=NOW + 3358)
        return [
            Group(
                hash="927d37e33fad5dee",
                name="927d37e3",
                members=MEMBERS,
                voters=MEMBERS,
                zones=(ZONE,),
                operational=True,
                rows=rows,
                election=election,
            )
        ]

    def group(self, key: str) -> Group:
        for group in self.groups():
            if group.hash.startswith(key):
                return group
        raise NotFoundError(f"no group is called {key!r}")

    def zones(self) -> list[Zone]:
        return [
            Zone(
                name=ZONE,
                state="ready",
                serial=7,
                records=42,
                refreshed_at=NOW - 30,
                primary="192.0.2.13:53",
                label="alpha",
                providers={"alpha": MEMBERS[0], "bravo": MEMBERS[1]},
                servers=("alpha", "bravo"),
                signers=("alpha", "bravo"),
                nsmgmt="agent",
                options=("multi-provider", "multi-signer"),
                group="927d37e33fad5dee",
            )
        ]

    def _check(self, zone: str) -> None:
        if zone != ZONE:
            raise NotFoundError(f"{zone} is not a zone of {self.role.value}.alpha.example.")

    def zone_records(self, zone: str, limit: int) -> ZoneRecords:
        self._check(zone)
        texts = ("customer.example.\t300\tIN\tMX\t10 mail.customer.example.", NS, KSK)
        kinds = (("MX", "owner"), ("NS", "owner"), ("DNSKEY", "signer"))
        records = tuple(
            ServedRecord(record=text, type=kind, origin=origin)
            for text, (kind, origin) in zip(texts, kinds, strict=True)
        )
        return ZoneRecords(zone=zone, serial=7, records=records[:limit], truncated=limit < len(records))

    def edits(self, zone: str) -> SdeZone:
        self._check(zone)
        record = SdeRecord(
            record=NS,
            type="NS",
            originator=MEMBERS[0],
            state=RecordState.PENDING,
            distribution_id="6b051719",
            updated_at=NOW - 20,
            confirmations=(
                RecipientConfirmation(recipient="combiner.alpha.example.", status="accepted", at=NOW - 19),
                RecipientConfirmation(recipient=MEMBERS[1], status="received", at=NOW - 18),
            ),
        )
        return SdeZone(zone=zone, records=(record,))

    def contributions(self, zone: str) -> Contributions:
        self._check(zone)
        if self.role is not Role.COMBINER:
            raise NotFoundError(f"a {self.role.value} has no contributions")
        held = Contribution(record=NS, type="NS", originator=MEMBERS[0], applied=True, received_at=NOW - 19)
        return Contributions(zone=zone, records=(held,))

    def keys(self, zone: str) -> list[Key]:
        self._check(zone)
        return [Key(zone=zone, key_tag=4711, algorithm=15, flags=257, state="active", foreign=False, record=KSK)]

    def plan(self, zone: str, request: ChangeRequest) -> ChangePlan:
        self._check(zone)
        if "NS" not in request.record.split():
            raise PolicyError("A records are not synchronised; only DNSKEY, CDS, CSYNC, NS, KEY are")
        if "notready" in request.record:
            raise NotReadyError("the zone is not loaded yet")
        record = "\t".join(request.record.split())
        effective = (record in self.added) != (request.operation == "add")
        last = request.operation == "delete"
        return ChangePlan(
            zone=zone,
            operation=request.operation,
            record=record,
            effective=effective,
            recipients=("combiner.alpha.example.", MEMBERS[1]) if effective else (),
            appliers=MEMBERS,
            resulting=() if last else (record,),
            warnings=("this is the last name server that we contribute",) if last else (),
            danger="severe" if last else "mild",
            command=f"mpcockpit --context alpha zone {'delrr' if last else 'addrr'} {zone} '{request.record}'",
        )

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        plan = self.plan(zone, request)
        if request.operation == "add":
            self.added.append(plan.record)
        else:
            self.added.remove(plan.record)
        transaction = Transaction(
            id=f"tx-{len(self.made) + 1}",
            zone=zone,
            operation=request.operation,
            record=plan.record,
            state=TransactionState.PENDING,
            reached=Wait.COMBINER,
            created_at=NOW,
            distribution_id="6b051719",
            reached_at={"here": NOW, "combiner": NOW + 0.25},
            confirmations=(
                RecipientConfirmation(recipient="combiner.alpha.example.", status="accepted", at=NOW + 0.25),
                RecipientConfirmation(recipient=MEMBERS[1], status="owed"),
            ),
            waiting_for="agent.bravo.example. has not acknowledged the message yet",
        )
        if "reject" in plan.record:
            transaction = transaction.model_copy(
                update={"state": TransactionState.REJECTED, "reason": "bravo: target is in a protected namespace"}
            )
        self.made[transaction.id] = transaction
        self.log.publish("transaction", transaction.id, transaction, NOW)
        return transaction

    def transactions(self) -> list[Transaction]:
        return list(self.made.values())

    def transaction(self, transaction_id: str) -> Transaction:
        if transaction_id not in self.made:
            raise NotFoundError(f"no transaction {transaction_id}")
        return self.made[transaction_id]

    async def wait(self, transaction_id: str, level: Wait, timeout: float) -> Transaction:
        transaction = self.transaction(transaction_id)
        if level in (Wait.EVERYWHERE, Wait.DNS) and transaction.state is TransactionState.PENDING:
            raise TimeoutError
        return transaction

    def events(self, after: int | None) -> AsyncIterator[Event]:
        return self.log.subscribe(after)


@contextmanager
def running_provider() -> Iterator[Path]:
    """A state directory whose contexts.yaml names three running daemons of alpha, and of bravo one that is down."""
    directory = Path(tempfile.mkdtemp(prefix="mpc"))
    sockets = {role.value: str(directory / "run" / role.value) for role in Role}
    value = {
        "zone": ZONE,
        "contexts": [{"name": "alpha", **sockets}, {"name": "bravo", "agent": str(directory / "run" / "gone")}],
    }
    (directory / "contexts.yaml").write_text(yaml.safe_dump(value))
    started, ended = threading.Event(), anyio.Event()
    portal: list[anyio.from_thread.BlockingPortal] = []

    async def serve() -> None:
        async with anyio.from_thread.BlockingPortal() as gate, anyio.create_task_group() as tasks:
            portal.append(gate)
            for role in Role:
                await tasks.start(serve_control, FakeService(role), Path(sockets[role.value]))
            started.set()
            await ended.wait()
            tasks.cancel_scope.cancel()

    thread = threading.Thread(target=lambda: anyio.run(serve, backend_options={"use_uvloop": True}))
    thread.start()
    started.wait(10)
    try:
        yield directory
    finally:
        portal[0].call(ended.set)
        thread.join(10)
        shutil.rmtree(directory)
