"""``peer``: whom a daemon talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import role_parameter, role_value
from cockpit.output import ExitCode, Lines, Result, Table, age, duration
from cockpit.session import Session
from mpcore.errors import NotFoundError

if TYPE_CHECKING:
    from mpcore.control.models import PeerTransport

__all__ = ("COMMANDS", "round_trip", "way_remark")


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


async def _show(session: Session, values: Values) -> Result:
    wanted = str(values["identity"]).lower()
    found = [peer for peer in await session.client(role_value(values)).peers() if peer.identity == wanted]
    if not found:
        raise NotFoundError(f"{values['identity']} is not a peer")
    (peer,), now = found, session.clock()
    lines = [
        f"{peer.identity}, {peer.kind}: {peer.state} {age(peer.since, now)}",
        f"Address:      {peer.address or '-'}",
        f"Zones:        {', '.join(peer.zones) or '-'}",
        f"Heard:        {age(peer.last_heard, now)}",
        f"Acknowledged: {age(peer.last_acknowledged, now)}, round trip {round_trip(peer.round_trip)}",
    ]
    lines += [f"Waits for:    {peer.waiting_for}"] if peer.waiting_for else []
    lines += [f"Last error:   {peer.last_error}"] if peer.last_error else []
    blocks: list[Table | Lines] = [Lines(lines)]
    if peer.transports:
        ways = [
            [
                way.name.upper(),
                way.address or "-",
                str(way.sent),
                age(way.last_acknowledged, now),
                round_trip(way.round_trip),
                str(way.received),
                age(way.last_heard, now),
                way_remark(way, now),
            ]
            for way in peer.transports
        ]
        heads = ("WAY", "ADDRESS", "SENT", "ACKNOWLEDGED", "RTT", "RECEIVED", "HEARD", "REMARK")
        blocks.append(Table(heads, ways))
    counters = [[name, str(counter.sent), str(counter.received)] for name, counter in sorted(peer.counters.items())]
    blocks.append(Table(("MESSAGE", "SENT", "RECEIVED"), counters, empty="(no messages)"))
    return Result(peer, blocks)


def way_remark(way: PeerTransport, now: float) -> str:
    """What is to be said about one way to a peer, ``-`` if nothing."""
    if way.unavailable:
        return way.unavailable
    if way.last_error is None:
        return "-"
    rest = "" if way.rests_until is None else f", tried last for {duration(max(0.0, way.rests_until - now))}"
    return f"failed {way.failures}x{rest}: {way.last_error}"


async def _ping(session: Session, values: Values) -> Result:
    answer = await session.client(role_value(values)).ping(values["identity"], values["timeout"])
    if answer.ok:
        return Result(answer, [Lines([f"{answer.identity}: answered in {round_trip(answer.round_trip)}"])])
    return Result(answer, [Lines([f"{answer.identity}: no answer: {answer.error}"])], ExitCode.RETRY)


async def _reset(session: Session, values: Values) -> Result:
    session.check_writable()
    peer = await session.client().reset_peer(values["identity"])
    return Result(peer, [Lines([f"{peer.identity}: {peer.state}: {peer.waiting_for or 'nothing to wait for'}"])])


async def _doctor(session: Session, values: Values) -> Result:
    found = await session.client().diagnose(values["identity"], values["timeout"])
    marks = {True: "ok", False: "WRONG", None: "-"}
    rows = [[marks[step.ok], step.step, step.side or "", step.detail] for step in found.steps]
    advice = [f"{step.step}: {step.advice}" for step in found.steps if step.advice and step.ok is False]
    blocks: list[Table | Lines] = [Lines([found.verdict]), Table(("", "STEP", "SIDE", "WHAT WAS FOUND"), rows)]
    if advice:
        blocks.append(Lines(["What to do:", *advice]))
    return Result(found, blocks, ExitCode.DONE if found.ok else ExitCode.FAILED)


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
        ("peer", "show"),
        "Show one peer: its health in both directions, by each way to it, and what was said",
        (
            Parameter("identity", "Identity of the peer, a domain name.", positional=True, required=True),
            role_parameter("agent"),
        ),
        details="The table of ways is there where the agent has HTTPS: the first of them is tried first. A way that "
        "failed is tried last for a while, and then again.",
        examples=("peer show agent.bravo.example.",),
        run=_show,
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
    Command(
        ("peer", "reset"),
        "Forget what the agent knows of a peer, and find and greet it anew",
        (Parameter("identity", "Identity of the peer, a domain name.", positional=True, required=True),),
        details="The resolver's cache for the peer is emptied. Messages that wait for the peer stay in the queue.",
        changes="the state of the peer; for some seconds nothing is sent to it",
        examples=("peer reset agent.bravo.example.",),
        run=_reset,
    ),
    Command(
        ("peer", "doctor"),
        "Find out what is wrong between us and a peer, and at whose side",
        (
            Parameter("identity", "Identity of the peer, a domain name.", positional=True, required=True),
            Parameter("timeout", "Seconds for all steps together.", "seconds", default=20.0, least=1, most=60),
        ),
        details="Looks at HSYNC3, the peer's records in DNS and their validation, our own records as others find them, "
        "the key in use, connections, five pings, decryption, the clocks, round trips, HTTPS where we have it, HELLO "
        "and BEAT, what the others report, and the queue. The exit code is 1 when a step found a fault.",
        examples=("peer doctor agent.bravo.example.",),
        run=_doctor,
    ),
)
