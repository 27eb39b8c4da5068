"""Parameters and small steps that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cockpit.commands.base import Parameter, Values
from cockpit.contexts import ROLES, RoleName
from cockpit.output import age, duration
from cockpit.session import Session
from mpcore.control.client import ControlUsageError

if TYPE_CHECKING:
    from mpcore.control.models import Certificate, MessageKeys, RecipientConfirmation

__all__ = (
    "OPTIONAL_ZONE",
    "ZONE",
    "common_suffix",
    "owing",
    "role_parameter",
    "role_value",
    "roll_over_lines",
    "short_name",
    "zone_value",
)

ZONE = Parameter("zone", "The zone.", positional=True, required=True)
OPTIONAL_ZONE = Parameter("zone", "The zone; the only one, or the lab's, unless given.", positional=True)


def role_parameter(default: RoleName, *, roles: tuple[RoleName, ...] = ROLES) -> Parameter:
    """Which daemon of the context is asked."""
    return Parameter("role", f"Which daemon is asked; {default} unless given.", choices=roles, default=default)


def role_value(values: Values) -> RoleName:
    """The daemon that is asked."""
    role: RoleName = values["role"]
    return role


async def zone_value(session: Session, values: Values, role: RoleName = "agent") -> str:
    """The zone that is meant; :raises ControlUsageError: none was named and there is not exactly one."""
    given: str | None = values.get("zone")
    if given is not None:
        return given
    if session.fleet.zone is not None:
        return session.fleet.zone
    zones = [zone.name for zone in await session.client(role).zones()]
    if len(zones) != 1:
        raise ControlUsageError(f"name a zone: {', '.join(zones) or 'this daemon has none'}")
    return zones[0]


def roll_over_lines(state: MessageKeys | Certificate, now: float, width: int) -> list[str]:
    """How far the roll-over of a key is, what comes next and what to do; *width* columns for the words in front."""
    lines = [f"{'Step:':{width}}{state.step}{'' if state.since is None else f', {age(state.since, now)}'}"]
    if state.ready_at is not None:
        left = state.ready_at - now
        lines.append(f"{'Next:':{width}}{'safe now' if left <= 0 else f'safe in {duration(left)}'}")
    return [*lines, f"{'Advice:':{width}}{state.advice}"]


def owing(confirmations: tuple[RecipientConfirmation, ...]) -> list[str]:
    """Recipients that have not given a final answer."""
    return [each.recipient for each in confirmations if each.status in ("owed", "received")]


def common_suffix(identities: Any) -> str:
    """The longest common ending of whole labels, with a leading dot; empty when they share none."""
    split = [identity.rstrip(".").split(".")[::-1] for identity in identities]
    shared: list[str] = []
    for labels in zip(*split, strict=False):
        if len(set(labels)) > 1:
            break
        shared.append(labels[0])
    if not shared or any(len(labels) <= len(shared) for labels in split):
        shared = shared[: max(0, min((len(labels) for labels in split), default=0) - 1)]
    return "." + ".".join(reversed(shared)) + "." if shared else ""


def short_name(identity: str, suffix: str) -> str:
    """*identity* without the common ending."""
    return identity.removesuffix(suffix) if suffix and identity.endswith(suffix) else identity
