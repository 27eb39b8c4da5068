"""``zone resync``: make providers agree again where something was lost."""

from __future__ import annotations

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import OPTIONAL_ZONE, zone_value
from cockpit.output import Lines, Result
from cockpit.session import Session
from mpcore.control.client import ControlUsageError

__all__ = ("COMMANDS",)


async def _resync(session: Session, values: Values) -> Result:
    from mpcore.control.models import ZoneAction, ZoneActionRequest

    chosen = [name for name in ("push", "pull", "both") if values[name]]
    if len(chosen) > 1:
        raise ControlUsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other; --both does both")
    session.check_writable()
    zone = await zone_value(session, values)
    request = ZoneActionRequest.model_validate({"action": ZoneAction.RESYNC, "direction": (chosen or ["both"])[0]})
    result = await session.client().zone_action(zone, request)
    return Result(result, [Lines([f"{result.zone}: {result.message}"])])


COMMANDS = (
    Command(
        ("zone", "resync"),
        "Send everybody what we contribute, ask everybody for what they contribute, or both",
        (
            OPTIONAL_ZONE,
            Parameter("push", "Only send: ours to everybody, the others' to our combiner.", "flag", default=False),
            Parameter("pull", "Only ask: the other providers, our combiner and our signer.", "flag", default=False),
            Parameter("both", "Send and ask, as without any of the three.", "flag", default=False),
        ),
        details="Complete sets are sent, empty ones too: what was lost comes back, what should be gone goes.",
        changes="nothing that is in order; what differs from what its author says is repaired",
        examples=("zone resync customer.example. --pull",),
        run=_resync,
    ),
)
