"""``gossip group`` and ``group election``: who reports what about whom, and who leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import common_suffix, short_name
from cockpit.output import Lines, Result, Table, age, duration
from cockpit.session import Session
from mpcore.control.client import ControlUsageError

if TYPE_CHECKING:
    from mpcore.control.models import Group

__all__ = ("COMMANDS", "leader_line")


def leader_line(group: Group, now: float) -> str:
    """Who leads, or why nobody does, in one sentence."""
    election = group.election
    if election.leader is not None:
        left = "" if election.leader_expires is None else f", expires in {duration(election.leader_expires - now)}"
        return f"{election.leader} (term {election.term}{left})"
    return f"none: {election.reason or f'the election is in phase {election.phase}'} (term {election.term})"


async def _list(session: Session, values: Values) -> Result:
    groups = await session.client().groups()
    rows = [
        [
            group.hash[:8],
            group.name,
            "operational" if group.operational else "not operational",
            ", ".join(group.members),
            group.election.leader or "-",
            ", ".join(group.zones),
        ]
        for group in groups
    ]
    headings = ("GROUP", "NAME", "STATE", "MEMBERS", "LEADER", "ZONES")
    return Result(groups, [Table(headings, rows, empty="(no groups: no zone names providers)")])


async def _state(session: Session, values: Values) -> Result:
    client = session.client()
    if values["group"] is None:
        groups = await client.groups()
        if len(groups) != 1:
            known = ", ".join(group.hash[:8] for group in groups)
            raise ControlUsageError(f"name a group: {known or 'there is none'}")
        group = groups[0]
    else:
        group = await client.group(values["group"])
    now = session.clock()
    suffix = common_suffix(group.members)
    names = {member: short_name(member, suffix) for member in group.members}
    rows = []
    for row in group.rows:
        interval = f"({row.beat_interval:g}s beats)" if row.beat_interval else ""
        cells = ["-" if peer == row.reporter else row.states.get(peer, "?") for peer in group.members]
        heard = age(row.received_at, now)
        rows.append([names.get(row.reporter, row.reporter), *cells, heard, interval])
    election = group.election
    lines = [
        f"Group:    {group.hash} {group.name}",
        f"State:    {'operational' if group.operational else 'not operational'}",
        f"Zones:    {', '.join(group.zones)}",
        f"Leader:   {leader_line(group, now)}",
        f"Election: phase {election.phase}"
        + ("" if election.deadline is None else f", ends in {duration(election.deadline - now)}"),
    ]
    if election.votes:
        lines.append("Votes:    " + ", ".join(f"{names.get(who, who)} {vote}" for who, vote in election.votes.items()))
    blocks: list[Table | Lines] = [
        Lines(lines),
        Table(("REPORTER / PEER", *names.values(), "AGE", ""), rows, empty="(no reports yet)"),
    ]
    if group.problems:
        blocks.append(Lines(group.problems))
    return Result(group, blocks)


async def _election(session: Session, values: Values, action: Literal["force", "step-down"]) -> Result:
    from mpcore.control.models import GroupAction, GroupActionRequest

    session.check_writable()
    group = await session.client().group_action(values["group"], GroupActionRequest(action=GroupAction(action)))
    election = group.election
    lines = [f"Group:    {group.hash} {group.name}", f"Leader:   {leader_line(group, session.clock())}"]
    lines.append(f"Election: phase {election.phase}, term {election.term}")
    return Result(group, [Lines(lines)])


async def _force(session: Session, values: Values) -> Result:
    return await _election(session, values, "force")


async def _step_down(session: Session, values: Values) -> Result:
    return await _election(session, values, "step-down")


_GROUP = Parameter("group", "Beginning of the group's hash, or its name.", positional=True, required=True)

COMMANDS = (
    Command(
        ("gossip", "group", "list"),
        "List the provider groups",
        examples=("gossip group list",),
        run=_list,
    ),
    Command(
        ("gossip", "group", "state"),
        "Show the matrix of a group, its election and what is wrong with it",
        (
            Parameter(
                "group", "Beginning of the group's hash, or its name; the only group unless given.", positional=True
            ),
        ),
        details="Row and column: what the reporter says about the peer. AGE: when we received the row.",
        examples=("gossip group state", "gossip group state 927d37e3 --json"),
        run=_state,
    ),
    Command(
        ("group", "election", "force"),
        "Call an election now, also if the group is not operational",
        (_GROUP,),
        details="Every voter votes again under a new term; it ends like any other election.",
        changes="the leader of the group, perhaps",
        examples=("group election force 927d37e3",),
        run=_force,
    ),
    Command(
        ("group", "election", "step-down"),
        "Give the leadership up and have another voter elected",
        (_GROUP,),
        details="Only at the agent that leads. Its vote is then 0, which cannot win.",
        changes="the leader of the group",
        examples=("group election step-down 927d37e3",),
        run=_step_down,
    ),
)
