"""``status``: all daemons at a glance."""

from __future__ import annotations

from typing import Any

import anyio

from cockpit.commands.base import Command, Values
from cockpit.contexts import Context, RoleName
from cockpit.output import ExitCode, Lines, Result, Table, duration
from cockpit.session import Session
from mpcore.control.client import ControlError
from mpcore.errors import MpError

__all__ = ("COMMANDS",)


async def _look(
    session: Session, context: Context, role: RoleName, found: dict[tuple[str, str], dict[str, Any]]
) -> None:
    entry: dict[str, Any] = {
        "context": context.name,
        "role": role,
        "socket": str(context.socket(role)),
        "reachable": False,
        "error": None,
        "status": None,
        "peers": None,
        "peers_operational": None,
        "groups": [],
    }
    found[context.name, role] = entry
    client = session.client(role, context)
    try:
        entry["status"] = await client.status()
        entry["reachable"] = True
        peers = await client.peers()
        entry["peers"] = len(peers)
        entry["peers_operational"] = sum(peer.state == "OPERATIONAL" for peer in peers)
        if role == "agent":
            entry["groups"] = [
                {
                    "hash": group.hash,
                    "name": group.name,
                    "operational": group.operational,
                    "leader": group.election.leader,
                    "term": group.election.term,
                }
                for group in await client.groups()
            ]
    except (ControlError, MpError, TimeoutError) as error:
        entry["error"] = str(error)


async def _status(session: Session, values: Values) -> Result:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    async with anyio.create_task_group() as tasks:
        for context in session.contexts:
            for role in context.roles:
                tasks.start_soon(_look, session, context, role, found)
    entries = [found[context.name, role] for context in session.contexts for role in context.roles]
    rows, remarks = [], []
    for entry in entries:
        status = entry["status"]
        who = f"{entry['context']}.{entry['role']}"
        if status is None:
            rows.append([who, "DOWN", "-", "-", "-", "-"])
        else:
            leaders = sorted({group["leader"] or "(none)" for group in entry["groups"]})
            rows.append(
                [
                    who,
                    "ready" if status.ready else "starting",
                    duration(status.now - status.started_at),
                    str(status.zones),
                    "-" if entry["peers"] is None else f"{entry['peers_operational']}/{entry['peers']}",
                    ", ".join(leaders) or "-",
                ]
            )
            remarks += [f"{who}: {warning}" for warning in status.warnings]
        if entry["error"]:
            remarks.append(f"{who}: {entry['error']}")
    healthy = all(entry["error"] is None and entry["status"].ready for entry in entries)
    blocks: list[Table | Lines] = [Table(("DAEMON", "STATE", "UP", "ZONES", "PEERS", "LEADER"), rows)]
    if remarks:
        blocks.append(Lines(remarks))
    return Result(entries, blocks, ExitCode.DONE if healthy else ExitCode.RETRY)


COMMANDS = (
    Command(
        ("status",),
        "Show every daemon: state, uptime, zones, operational peers, leader",
        details="All contexts are asked, or the one chosen with --context. The exit code is 0 when every daemon "
        "answers and is ready, else 3: fit for a monitoring check.",
        examples=("status", "status --context alpha --json"),
        run=_status,
    ),
)
