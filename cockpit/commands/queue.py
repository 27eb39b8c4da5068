"""``queue`` and ``distribution``: messages that wait for delivery, and those of the last minutes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import role_parameter, role_value
from cockpit.output import ExitCode, Lines, Result, Table, age, duration, narrate
from cockpit.session import Session
from mpcore.errors import PolicyError

if TYPE_CHECKING:
    from mpcore.control.models import QueueResult

__all__ = ("COMMANDS",)

_Verb = Literal["retry", "drop", "pause", "resume"]


async def _list(session: Session, values: Values) -> Result:
    queue = await session.client(role_value(values)).queue()
    now = session.clock()
    messages = [
        item
        for item in queue.messages
        if values["peer"] in (None, item.recipient) and values["zone"] in (None, item.zone)
    ]
    rows = [
        [
            item.id,
            item.recipient,
            item.type,
            item.zone or "-",
            item.distribution_id,
            age(item.enqueued_at, now),
            item.state,
            str(item.attempts),
            "now" if item.next_attempt <= now else f"in {duration(item.next_attempt - now)}",
            item.last_error or "-",
        ]
        for item in messages
    ]
    headings = ("ID", "RECIPIENT", "TYPE", "ZONE", "DISTRIBUTION", "AGE", "STATE", "ATTEMPTS", "NEXT", "LAST ERROR")
    blocks: list[Table | Lines] = [Table(headings, rows, empty="(nothing waits)")]
    if queue.paused:
        blocks.append(Lines([f"paused: {identity}" for identity in queue.paused]))
    return Result(queue.model_copy(update={"messages": tuple(messages)}), blocks)


def _told(result: QueueResult) -> Result:
    lines = [result.message if result.done else f"Plan:    {result.message}"]
    lines += [f"Effect:  {text}" for text in result.effects]
    return Result(result, [Lines(lines)])


async def _act(session: Session, values: Values, verb: _Verb, *, careful: bool = False) -> Result:
    from mpcore.control.models import QueueAction, QueueRequest

    client = session.client(role_value(values))
    request = QueueRequest(action=QueueAction(verb), peer=values.get("peer"), id=values.get("id"))
    plan = request.model_copy(update={"dry_run": True})
    if values["dry_run"]:
        return _told(await client.queue_action(plan))
    session.check_writable()
    if careful and not values["yes"] and sys.stdin.isatty() and sys.stderr.isatty():
        _ask(await client.queue_action(plan))
    return _told(await client.queue_action(request))


def _ask(plan: QueueResult) -> None:
    for text in (plan.message, *plan.effects):
        narrate(text)
    sys.stderr.write("Do it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PolicyError("not confirmed; nothing was changed")


async def _retry(session: Session, values: Values) -> Result:
    return await _act(session, values, "retry")


async def _drop(session: Session, values: Values) -> Result:
    return await _act(session, values, "drop", careful=True)


async def _pause(session: Session, values: Values) -> Result:
    return await _act(session, values, "pause")


async def _resume(session: Session, values: Values) -> Result:
    return await _act(session, values, "resume")


async def _drain(session: Session, values: Values) -> Result:
    session.check_writable()
    client = session.client(role_value(values))
    queue = await client.drain(values["timeout"])
    return Result(queue, [Lines(["The queue is empty: every message was acknowledged."])])


async def _distributions(session: Session, values: Values) -> Result:
    listed = [
        item
        for item in await session.client(role_value(values)).distributions()
        if values["peer"] in (None, item.peer) and values["state"] in (None, item.state)
    ]
    now = session.clock()
    rows = [
        [
            item.id,
            item.direction,
            item.peer,
            item.type or "?",
            item.zone or "-",
            "-" if item.octets is None else str(item.octets),
            item.mode,
            item.state,
            age(item.began_at, now),
            item.error or "",
        ]
        for item in listed
    ]
    headings = ("ID", "WAY", "PEER", "TYPE", "ZONE", "OCTETS", "MODE", "STATE", "AGE", "ERROR")
    return Result(listed, [Table(headings, rows, empty="(no messages of late)")])


async def _purge(session: Session, values: Values) -> Result:
    session.check_writable()
    purged = await session.client(role_value(values)).purge_distributions(values["all"])
    return Result(purged, [Lines([f"{purged.purged} forgotten, {purged.left} left"])], ExitCode.DONE)


_ROLE = role_parameter("agent")
_DRY = Parameter("dry_run", "Show what would be done and change nothing.", "flag", default=False)
_PEER = Parameter("peer", "Identity of the peer.", positional=True, required=True)
_LISTED = Parameter("peer", "Only messages of this peer.", metavar="IDENTITY")

COMMANDS = (
    Command(
        ("queue", "list"),
        "List the messages that wait for delivery",
        (_LISTED, Parameter("zone", "Only messages about this zone."), _ROLE),
        details="STATE: under way; waiting for the next attempt; queued behind another message to the same peer about "
        "the same zone; resting until the peer is found and greeted; paused.",
        examples=("queue list", "queue list --peer agent.bravo.example. --json"),
        run=_list,
    ),
    Command(
        ("queue", "retry"),
        "Try the waiting messages now",
        (Parameter("peer", "Only those to this peer.", positional=True), _ROLE, _DRY),
        changes="nothing but when messages are tried",
        examples=("queue retry", "queue retry agent.bravo.example."),
        run=_retry,
    ),
    Command(
        ("queue", "drop"),
        "Give one waiting message up",
        (
            Parameter("id", "Id of the message in the queue, or its distribution id.", positional=True, required=True),
            _ROLE,
            _DRY,
            Parameter("yes", "Do not ask at the terminal.", "flag", default=False),
        ),
        details="What the message said counts as refused by its recipient. Our own records are offered again with the "
        "next change of their set, or after an hour; to hold them back, pause the peer instead.",
        changes="the message is lost; the recipient does not learn what it said",
        examples=("queue drop 17 --dry-run", "queue drop 17 --yes"),
        run=_drop,
    ),
    Command(
        ("queue", "pause"),
        "Send nothing queued to a peer until it is resumed",
        (_PEER, _ROLE, _DRY),
        details="Outlives a restart. Beats and elections go on; messages are given up when they are a day old.",
        changes="changes do not reach the peer meanwhile",
        examples=("queue pause agent.bravo.example.",),
        run=_pause,
    ),
    Command(
        ("queue", "resume"),
        "Send to a peer that was paused, at once",
        (_PEER, _ROLE, _DRY),
        changes="waiting messages are sent",
        examples=("queue resume agent.bravo.example.",),
        run=_resume,
    ),
    Command(
        ("queue", "drain"),
        "Try everything now and wait until nothing waits, before a stop for example",
        (
            Parameter("timeout", "Seconds to wait at most; the exit code is then 3.", "seconds", default=60.0, least=0),
            _ROLE,
        ),
        changes="nothing but when messages are tried",
        examples=("queue drain --timeout 30",),
        run=_drain,
    ),
    Command(
        ("distribution", "list"),
        "List the messages sent and received in the last minutes, each attempt with what became of it",
        (_LISTED, Parameter("state", "Only these.", choices=("pending", "confirmed", "failed")), _ROLE),
        details="Beats and pings are listed for 30 seconds, other messages for 300, unless distribution_retention in "
        "the configuration says otherwise. MODE query: the payload was fetched by its receiver.",
        examples=("distribution list --state failed",),
        run=_distributions,
    ),
    Command(
        ("distribution", "purge"),
        "Forget the completed messages in the list",
        (Parameter("all", "Also those of the last five minutes.", "flag", default=False), _ROLE),
        changes="the list only",
        examples=("distribution purge --all",),
        run=_purge,
    ),
)
