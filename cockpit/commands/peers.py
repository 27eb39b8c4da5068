"""``peer``: whom a daemon talks to."""

from __future__ import annotations

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import role_parameter, role_value
from cockpit.output import ExitCode, Lines, Result, Table, age
from cockpit.session import Session

__all__ = ("COMMANDS", "round_trip")


def round_trip(seconds: float | None) -> str:
    """A round trip in milliseconds, ``-`` if none was measured."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


async def _list(session: Session, values: Values) -> Result:
    peers = await session.client(role_value(values)).peers()
    now = session.clock()
    rows = [
        [
            peer.identity,
            peer.kind,
            peer.state,
            age(peer.since, now),
            age(peer.last_heard, now),
            round_trip(peer.round_trip),
            peer.address or "-",
        ]
        for peer in peers
    ]
    remarks = [
        f"{peer.identity}: {text}"
        for peer in peers
        for text in (peer.waiting_for, peer.last_error if peer.state != "OPERATIONAL" else None)
        if text
    ]
    blocks: list[Table | Lines] = [
        Table(("IDENTITY", "KIND", "STATE", "SINCE", "HEARD", "RTT", "ADDRESS"), rows, empty="(no peers)")
    ]
    if remarks:
        blocks.append(Lines(remarks))
    return Result(peers, blocks)


async def _ping(session: Session, values: Values) -> Result:
    answer = await session.client(role_value(values)).ping(values["identity"], values["timeout"])
    if answer.ok:
        return Result(answer, [Lines([f"{answer.identity}: answered in {round_trip(answer.round_trip)}"])])
    return Result(answer, [Lines([f"{answer.identity}: no answer: {answer.error}"])], ExitCode.RETRY)


COMMANDS = (
    Command(
        ("peer", "list"),
        "List the peers of a daemon with state, last word and round trip",
        (role_parameter("agent"),),
        details="What a peer waits for, and its last error, follow the table.",
        examples=("peer list", "peer list --context bravo --json"),
        run=_list,
    ),
    Command(
        ("peer", "ping"),
        "Send a ping to a peer and measure the round trip",
        (
            Parameter("identity", "Identity of the peer, a domain name.", positional=True, required=True),
            Parameter("timeout", "Seconds to wait for the answer.", "seconds", default=5.0, least=0.1, most=60),
            role_parameter("agent"),
        ),
        details="The exit code is 3 when there is no answer.",
        examples=("peer ping agent.bravo.example.",),
        run=_ping,
    ),
)
