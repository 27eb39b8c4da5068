"""``transaction``: changes that were accepted, and how far they have come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import owing
from cockpit.output import ExitCode, Lines, Result, Table, age, clock_time, short_record
from cockpit.session import Session

if TYPE_CHECKING:
    from mpcore.control.models import Transaction

__all__ = ("COMMANDS", "LEVELS", "TIMEOUT", "WAIT", "transaction_lines", "transaction_result", "waited")

LEVELS = ("here", "combiner", "everywhere", "dns")

WAIT = Parameter(
    "wait",
    "How far to wait: here (durable at our agent), combiner (our combiner confirmed), everywhere (every provider "
    "gave its final answer), dns (every name server of the zone answers with it).",
    choices=LEVELS,
)
TIMEOUT = Parameter("timeout", "Seconds to wait at most; the exit code is then 3.", "seconds", default=30.0, least=0)


def transaction_lines(transaction: Transaction) -> list[str]:
    """A change, its fate and the answers to it, for people."""
    lines = [
        f"Transaction: {transaction.id}",
        f"Change:      {transaction.operation} {short_record(transaction.record)}",
        f"State:       {transaction.state.value}",
        f"Reached:     {transaction.reached.value}",
    ]
    if transaction.reason:
        lines.append(f"Reason:      {transaction.reason}")
    if transaction.waiting_for:
        lines.append(f"Waiting for: {transaction.waiting_for}")
    for level in LEVELS:
        if level in transaction.reached_at:
            took = transaction.reached_at[level] - transaction.created_at
            lines.append(f"  {level:<11}{clock_time(transaction.reached_at[level])}  after {max(0.0, took):.3f} s")
    lines += [
        f"  {each.recipient:<34} {each.status:<9}{clock_time(each.at)}{f'  {each.reason}' if each.reason else ''}"
        for each in transaction.confirmations
    ]
    return lines


def transaction_result(transaction: Transaction, level: str | None) -> Result:
    """The result of a change or of waiting for one: rejected is a failure, too early asks for another try."""
    blocks = [Lines(transaction_lines(transaction))]
    if transaction.state == "rejected":
        return Result(transaction, blocks, ExitCode.FAILED, note=f"rejected: {transaction.reason or 'no reason given'}")
    reached = LEVELS.index(transaction.reached.value)
    if level is not None and reached < LEVELS.index(level):
        if transaction.state == "superseded":
            return Result(
                transaction, blocks, ExitCode.FAILED, note="superseded by a later change before it came that far"
            )
        return Result(
            transaction,
            blocks,
            ExitCode.RETRY,
            note=f"not {level} yet, only {transaction.reached.value}: "
            f"{transaction.waiting_for or 'still on its way'}; "
            f"look again with 'mpcockpit transaction show {transaction.id} --wait {level}'",
        )
    return Result(transaction, blocks)


async def waited(session: Session, transaction: Transaction, level: str | None, timeout: float) -> Result:
    """Wait until a change is at *level*, and report how far it has come in any case."""
    if level is None:
        return transaction_result(transaction, None)
    from mpcore.control.models import Wait

    client = session.client()
    try:
        transaction = await client.wait(transaction.id, Wait(level), timeout)
    except TimeoutError:
        transaction = await client.transaction(transaction.id)
    return transaction_result(transaction, level)


async def _list(session: Session, values: Values) -> Result:
    transactions = await session.client().transactions()
    now = session.clock()
    rows = [
        [
            each.id,
            age(each.created_at, now),
            each.operation,
            short_record(each.record),
            each.state.value,
            each.reached.value,
            ", ".join(owing(each.confirmations)) or "-",
        ]
        for each in transactions
    ]
    headings = ("ID", "AGE", "CHANGE", "RECORD", "STATE", "REACHED", "OWED BY")
    return Result(transactions, [Table(headings, rows, empty="(no changes were made here)")])


async def _show(session: Session, values: Values) -> Result:
    transaction = await session.client().transaction(values["id"])
    return await waited(session, transaction, values["wait"], values["timeout"])


COMMANDS = (
    Command(
        ("transaction", "list"),
        "List the changes made at this agent",
        examples=("transaction list",),
        run=_list,
    ),
    Command(
        ("transaction", "show"),
        "Show one change, who has answered and who still owes an answer",
        (Parameter("id", "Id of the transaction.", positional=True, required=True), WAIT, TIMEOUT),
        examples=("transaction show t1 --wait everywhere --timeout 60",),
        run=_show,
    ),
)
