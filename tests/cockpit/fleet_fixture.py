"""A recorded fleet for the cockpit's tests: three providers formed a group, elected a leader and changed a zone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from cockpit.app import CockpitApp, daemons_of
from cockpit.contexts import RoleName
from cockpit.recording import Entry, read_recording
from cockpit.session import Session
from mpcore.control.models import (
    ChangePlan,
    ChangeRequest,
    PingResult,
    Transaction,
    TransactionState,
    Wait,
    ZoneRecords,
)
from mpcore.errors import PolicyError

RECORDED = Path(__file__).parent.parent / "fixtures" / "recorded"
ZONE = "customer.example."


def recorded(name: str = "forming") -> list[Entry]:
    """The entries of a recording."""
    path = RECORDED / f"{name}.jsonl"
    return list(read_recording(path.read_text("utf-8").splitlines(), path.name))


def zone_records() -> ZoneRecords:
    """The zone's content at the time of the recording."""
    return ZoneRecords.model_validate(json.loads((RECORDED / "zone-records.json").read_text("utf-8")))


class FakeBackend:
    """Answers from the recording; remembers the changes it was asked for."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, ChangeRequest]] = []

    async def zone_records(self, context: str, role: RoleName, zone: str, limit: int) -> ZoneRecords:
        return zone_records()

    async def plan(self, context: str, zone: str, request: ChangeRequest) -> ChangePlan:
        if " A " in request.record:
            raise PolicyError("A records are not synchronised; only DNSKEY, CDS, CSYNC, NS, KEY are")
        deletes = request.operation == "delete"
        return ChangePlan(
            zone=zone,
            operation=request.operation,
            record=request.record,
            effective=True,
            recipients=("combiner.alpha.example.", "agent.bravo.example.", "agent.charlie.example."),
            appliers=("agent.alpha.example.", "agent.bravo.example.", "agent.charlie.example."),
            resulting=() if deletes else (request.record,),
            warnings=("this is the last name server that we contribute: afterwards the zone does not point to us",)
            if deletes
            else (),
            danger="severe" if deletes else "mild",
            command=f"mpcockpit --context {context} zone {'delrr' if deletes else 'addrr'} {zone} '{request.record}'",
        )

    async def change(self, context: str, zone: str, request: ChangeRequest) -> Transaction:
        self.changes.append((context, zone, request))
        return Transaction(
            id="tx-new",
            zone=zone,
            operation=request.operation,
            record=request.record,
            state=TransactionState.PENDING,
            reached=Wait.HERE,
            created_at=0.0,
        )

    async def ping(self, context: str, identity: str) -> PingResult:
        return PingResult(identity=identity, ok=True, round_trip=0.005)


def make_app(name: str = "forming", *, until: float | None = None, read_only: bool = False) -> CockpitApp:
    """The screens on a recording, with time standing still.

    :param until: seconds after the first entry at which to stop; the whole recording unless given.
    """
    entries = recorded(name)
    start = entries[0].at
    shown = [entry for entry in entries if until is None or entry.at <= start + until]
    now = (shown[-1].at if until is None else start + until) + 1.0

    async def feed() -> AsyncIterator[Entry]:
        for entry in shown:
            yield entry
        await anyio.sleep_forever()

    return CockpitApp(
        Session(Path("/nowhere")),
        FakeBackend(),
        clock=lambda: now,
        feed=feed,
        daemons=daemons_of(entries),
        read_only=read_only,
    )
