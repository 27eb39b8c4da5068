"""``zone edits`` and ``combiner zone edits``: what was contributed, and who has confirmed it."""

from __future__ import annotations

from cockpit.commands.base import Command, Values
from cockpit.commands.common import OPTIONAL_ZONE, owing, zone_value
from cockpit.output import Lines, Result, Table, age, duration, short_record
from cockpit.session import Session

__all__ = ("COMMANDS",)


async def _agent(session: Session, values: Values) -> Result:
    zone = await session.client().edits(await zone_value(session, values))
    now = session.clock()
    rows = []
    for record in zone.records:
        key = "" if record.key_tag is None else f"{record.key_tag}{f' {record.key_state}' if record.key_state else ''}"
        rows.append(
            [
                record.originator,
                record.type,
                record.state.value,
                age(record.updated_at, now),
                ", ".join(owing(record.confirmations)) or "-",
                key or "-",
                short_record(record.record),
            ]
        )
    reasons = [
        f"{short_record(record.record)}: {each.recipient} {each.status}: {each.reason}"
        for record in zone.records
        for each in record.confirmations
        if each.reason
    ]
    queue = [
        [
            message.recipient,
            message.type,
            message.distribution_id,
            age(message.enqueued_at, now),
            str(message.attempts),
            "now" if message.next_attempt <= now else f"in {duration(message.next_attempt - now)}",
            message.last_error or "-",
        ]
        for message in zone.outbound
    ]
    blocks: list[Table | Lines] = [
        Lines([f"Synchronised data of {zone.zone}"]),
        Table(
            ("ORIGIN", "TYPE", "STATE", "UPDATED", "OWED BY", "KEY", "RECORD"),
            rows,
            empty="(nobody contributes anything)",
        ),
    ]
    if reasons:
        blocks.append(Lines(reasons))
    headings = ("RECIPIENT", "TYPE", "ID", "AGE", "ATTEMPTS", "NEXT", "LAST ERROR")
    blocks.append(Table(headings, queue, empty="Outbound queue: empty"))
    return Result(zone, blocks)


async def _combiner(session: Session, values: Values) -> Result:
    held = await session.client("combiner").contributions(await zone_value(session, values, "combiner"))
    now = session.clock()
    rows = [
        [
            record.type,
            record.originator,
            "applied" if record.applied else "stored",
            age(record.received_at, now),
            short_record(record.record),
            record.reason or "",
        ]
        for record in held.records
    ]
    headings = ("TYPE", "ORIGIN", "STATE", "RECEIVED", "RECORD", "REASON")
    return Result(
        held, [Lines([f"Contributions to {held.zone}"]), Table(headings, rows, empty="(nobody contributes anything)")]
    )


COMMANDS = (
    Command(
        ("zone", "edits", "list"),
        "List every synchronised record with its state and who still owes a confirmation",
        (OPTIONAL_ZONE,),
        examples=("zone edits list customer.example.",),
        run=_agent,
    ),
    Command(
        ("combiner", "zone", "edits", "list"),
        "List the contributions that the combiner holds, applied or only stored",
        (OPTIONAL_ZONE,),
        examples=("combiner zone edits list customer.example.",),
        run=_combiner,
    ),
)
