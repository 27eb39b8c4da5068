"""``zone``: zones, their roles, their records, and changes to what we contribute."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import OPTIONAL_ZONE, ZONE, role_parameter, role_value, zone_value
from cockpit.commands.transactions import TIMEOUT, WAIT, transaction_result, waited
from cockpit.contexts import RoleName
from cockpit.output import ExitCode, Lines, Result, Table, age, narrate, printable, short_record
from cockpit.session import Session
from mpcore.errors import MpError, PolicyError

if TYPE_CHECKING:
    from mpcore.control.models import ChangePlan, Zone

__all__ = ("COMMANDS", "plan_lines")


async def _list(session: Session, values: Values) -> Result:
    zones = await session.client(role_value(values)).zones()
    now = session.clock()
    rows = [
        [
            zone.name,
            zone.state,
            "-" if zone.serial is None else str(zone.serial),
            "-" if zone.records is None else str(zone.records),
            age(zone.refreshed_at, now),
            zone.primary or "-",
            (zone.group or "-")[:8],
        ]
        for zone in zones
    ]
    remarks = [f"{zone.name}: {zone.error}" for zone in zones if zone.error]
    blocks: list[Table | Lines] = [
        Table(("ZONE", "STATE", "SERIAL", "RECORDS", "REFRESHED", "PRIMARY", "GROUP"), rows, empty="(no zones)")
    ]
    if remarks:
        blocks.append(Lines(remarks))
    return Result(zones, blocks)


def _names(labels: tuple[str, ...]) -> str:
    return ",".join(labels) or "(none)"


async def _mplist(session: Session, values: Values, role: RoleName) -> Result:
    zones = [zone for zone in await session.client(role).zones() if zone.providers]
    rows = [
        [
            zone.name,
            zone.label or "-",
            _names(zone.servers),
            _names(zone.signers),
            _names(zone.auditors),
            zone.nsmgmt,
            zone.parentsync,
            f"[{' '.join(zone.options)}]",
        ]
        for zone in zones
    ]
    headings = ("ZONE", "LABEL", "SERVERS", "SIGNERS", "AUDITORS", "NSMGMT", "PARENTSYNC", "OPTIONS")
    return Result(zones, [Table(headings, rows, empty="(no multi-provider zones)"), *_providers(zones)])


def _providers(zones: list[Zone]) -> list[Table | Lines]:
    lines = [f"{zone.name} {label} is {identity}" for zone in zones for label, identity in zone.providers.items()]
    return [Lines(lines)] if lines else []


async def _agent_mplist(session: Session, values: Values) -> Result:
    return await _mplist(session, values, "agent")


async def _combiner_mplist(session: Session, values: Values) -> Result:
    return await _mplist(session, values, "combiner")


async def _signer_mplist(session: Session, values: Values) -> Result:
    return await _mplist(session, values, "signer")


async def _records(session: Session, values: Values) -> Result:
    role = role_value(values)
    zone = await zone_value(session, values, role)
    served = await session.client(role).zone_records(zone, int(values["limit"]))
    if role == "signer" and session.context.combiner is not None:
        from cockpit.origins import with_contributors

        try:
            held = await session.client("combiner").contributions(zone)
        except MpError as error:
            narrate(f"origins are as the signer knows them: {error}")
        else:
            served = with_contributors(served, held.records)
    rows = [[record.origin, short_record(record.record)] for record in served.records]
    note = f"only the first {len(rows)} records are shown (--limit)" if served.truncated else ""
    return Result(
        served, [Lines([f"{served.zone} serial {served.serial}"]), Table(("ORIGIN", "RECORD"), rows)], note=note
    )


# ---------------------------------------------------------------------------------------------------------------------
# Changes


def plan_lines(plan: ChangePlan) -> list[str]:
    """What a change would do, for people."""
    lines = [f"Plan:       {plan.operation} {short_record(plan.record)}"]
    if not plan.effective:
        lines.append("Effect:     none: it is so already, nothing would be sent")
    lines.append(f"Danger:     {plan.danger}")
    lines += _labelled("Told:", plan.recipients or ("nobody",))
    lines += _labelled("Published:", plan.appliers or ("by nobody",))
    lines += _labelled("Our set:", [short_record(text) for text in plan.resulting] or ("empty",))
    lines += _labelled("Warning:", plan.warnings)
    lines.append(f"Command:    {plan.command}")
    return lines


def _labelled(label: str, texts: tuple[str, ...] | list[str]) -> list[str]:
    return [f"{label if number == 0 else '':<11} {text}" for number, text in enumerate(texts)]


async def _change(session: Session, values: Values, operation: Literal["add", "delete"]) -> Result:
    from mpcore.control.models import ChangeRequest

    client, zone = session.client(), values["zone"]
    record = " ".join(values["record"])
    request = ChangeRequest(operation=operation, record=record)
    plan = await client.plan(zone, request)
    if values["dry_run"] or values["expect_no_changes"]:
        would = values["expect_no_changes"] and plan.effective
        return Result(plan, [Lines(plan_lines(plan))], ExitCode.WOULD_CHANGE if would else ExitCode.DONE)
    session.check_writable()
    for warning in plan.warnings:
        narrate(f"warning: {warning}")
    if plan.danger == "severe":
        _confirm(plan, values["confirm"])
    transaction = await client.change(zone, request)
    if values["wait"] is None:
        return transaction_result(transaction, None)
    return await waited(session, transaction, values["wait"], values["timeout"])


def _confirm(plan: ChangePlan, given: str | None) -> None:
    """Have the zone's name typed at a terminal; a script has written it into the command already."""
    if given is None and sys.stdin.isatty() and sys.stderr.isatty():
        narrate("\n".join(plan_lines(plan)[:-1]).replace("\n", "; "))
        sys.stderr.write(f"This is dangerous. Type the name of the zone ({printable(plan.zone)}) to go on: ")
        sys.stderr.flush()
        given = sys.stdin.readline().strip()
    if given is not None and given.rstrip(".").lower() != plan.zone.rstrip("."):
        raise PolicyError(f"not confirmed: {given or 'nothing'} is not {plan.zone}; nothing was changed")


async def _addrr(session: Session, values: Values) -> Result:
    return await _change(session, values, "add")


async def _delrr(session: Session, values: Values) -> Result:
    return await _change(session, values, "delete")


_CHANGE = (
    ZONE,
    Parameter(
        "record",
        "The record in master-file form: owner, TTL, class, type and data. One argument or several.",
        "words",
        positional=True,
        required=True,
    ),
    WAIT,
    TIMEOUT,
    Parameter("dry_run", "Show what would be done and change nothing.", "flag", default=False),
    Parameter(
        "expect_no_changes",
        "Like --dry-run, but end with exit code 4 if something would change.",
        "flag",
        default=False,
    ),
    Parameter(
        "confirm", "Name of the zone: confirms a dangerous change without being asked at the terminal.", metavar="ZONE"
    ),
)

COMMANDS = (
    Command(
        ("zone", "list"),
        "List the zones of a daemon with state and serial",
        (role_parameter("agent"),),
        examples=("zone list", "zone list --role signer"),
        run=_list,
    ),
    Command(
        ("zone", "mplist"),
        "List the multi-provider zones with the roles that HSYNC3 and HSYNCPARAM give",
        examples=("zone mplist",),
        run=_agent_mplist,
    ),
    Command(
        ("zone", "records"),
        "List the records of a zone as served, with where each comes from",
        (
            OPTIONAL_ZONE,
            role_parameter("signer", roles=("combiner", "signer")),
            Parameter("limit", "Records shown at most, 1 to 10000.", "number", default=1000, least=1, most=10000),
        ),
        examples=("zone records customer.example. --role combiner",),
        run=_records,
    ),
    Command(
        ("zone", "addrr"),
        "Contribute a record to a zone at all its providers",
        _CHANGE,
        details="The agent accepts the change, tells its own combiner and the agents of the other providers, and they "
        "confirm. The types NS, KEY, CDS and CSYNC may be contributed, as far as HSYNCPARAM lets this provider.",
        changes="the records that this provider contributes to the zone",
        examples=(
            "zone addrr customer.example. 'customer.example. 300 IN NS ns2.alpha.example.' --wait everywhere",
            "zone addrr customer.example. 'customer.example. 300 IN NS ns2.alpha.example.' --dry-run",
        ),
        run=_addrr,
    ),
    Command(
        ("zone", "delrr"),
        "Withdraw a record that this provider contributes",
        _CHANGE,
        details="Only records contributed by this provider can be withdrawn.",
        changes="the records that this provider contributes to the zone",
        examples=("zone delrr customer.example. 'customer.example. 300 IN NS ns2.alpha.example.' --wait dns",),
        run=_delrr,
    ),
    Command(
        ("combiner", "zone", "mplist"),
        "List the multi-provider zones as the combiner sees them",
        run=_combiner_mplist,
    ),
    Command(
        ("signer", "zone", "mplist"),
        "List the multi-provider zones as the signer sees them",
        run=_signer_mplist,
    ),
)
