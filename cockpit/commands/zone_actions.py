"""``combiner zone ACTION`` and ``signer zone ACTION``: what an operator does with a zone at one daemon; TSIG keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import OPTIONAL_ZONE, zone_value
from cockpit.contexts import RoleName
from cockpit.output import Lines, Result, Table
from cockpit.session import Session

__all__ = ("COMMANDS",)

_FORCE = Parameter("force", "Transfer whatever serial the primary has.", "flag", default=False)

_ROLES: tuple[RoleName, ...] = ("combiner", "signer")
_EVERY_ROLE: tuple[RoleName, ...] = ("agent", *_ROLES)

#: action -> (summary, what it changes)
_ACTIONS = {
    "refresh": ("Ask the primary for a newer version now", "nothing, unless the primary has a newer version"),
    "notify": ("Tell all secondaries of the version served", "nothing here"),
    "write": ("Write the version served as a master file into the state directory", "one file of the daemon"),
    "freeze": ("Serve the present version on and hold newer ones back", "newer versions wait until 'thaw'"),
    "thaw": ("Serve what was held back", "the newest version is served"),
    "bump": ("Serve the same content under a newer serial", "the serial"),
}


def _action(role: RoleName, action: str) -> Callable[[Session, Values], Awaitable[Result]]:
    async def run(session: Session, values: Values) -> Result:
        from mpcore.control.models import ZoneAction, ZoneActionRequest

        session.check_writable()
        zone = await zone_value(session, values, role)
        request = ZoneActionRequest(action=ZoneAction(action), force=bool(values.get("force")))
        result = await session.client(role).zone_action(zone, request)
        return Result(result, [Lines([f"{result.zone}: {result.message}"])])

    return run


def _tsig_keys(role: RoleName) -> Callable[[Session, Values], Awaitable[Result]]:
    async def run(session: Session, values: Values) -> Result:
        keys = await session.client(role).tsig_keys()
        rows = [[key.name, key.algorithm] for key in keys]
        return Result(keys, [Table(("NAME", "ALGORITHM"), rows, empty="(no TSIG keys)")])

    return run


COMMANDS = tuple(
    Command(
        (role, "zone", action),
        summary,
        (OPTIONAL_ZONE, _FORCE) if action == "refresh" else (OPTIONAL_ZONE,),
        changes=changes,
        examples=(f"{role} zone {action} customer.example.",),
        run=_action(role, action),
    )
    for role in _ROLES
    for action, (summary, changes) in _ACTIONS.items()
) + tuple(
    Command(
        (role, "tsig", "list"),
        "List the TSIG keys that the daemon knows; secrets are shown nowhere",
        examples=(f"{role} tsig list",),
        run=_tsig_keys(role),
    )
    for role in _EVERY_ROLE
)
