"""``agent key``: the key that the agent signs its messages with, and its roll-over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from cockpit.commands.base import Command, Parameter, Values
from cockpit.commands.common import roll_over_lines
from cockpit.output import Lines, Result, Table
from cockpit.session import Session

if TYPE_CHECKING:
    from mpcore.control.models import MessageKeys

__all__ = ("COMMANDS",)


def _shown(keys: MessageKeys, now: float) -> Result:
    rows = [[key.use, key.thumbprint] for key in keys.keys]
    lines = [f"Keys of {keys.identity}", *roll_over_lines(keys, now, len("Advice: "))]
    return Result(keys, [Lines(lines), Table(("USE", "THUMBPRINT"), rows)])


async def _show(session: Session, values: Values) -> Result:
    keys = await session.client().message_keys()
    if not values["jwks"]:
        return _shown(keys, session.clock())
    document = {"keys": [key.jwk for key in keys.keys]}
    return Result(document, [Lines([json.dumps(document)])])


async def _act(session: Session, values: Values, action: Literal["prepare", "switch", "finish", "cancel"]) -> Result:
    from mpcore.control.models import MessageKeyAction, MessageKeyRequest

    session.check_writable()
    request = MessageKeyRequest(action=MessageKeyAction(action), force=bool(values.get("force")))
    return _shown(await session.client().message_key_action(request), session.clock())


async def _prepare(session: Session, values: Values) -> Result:
    return await _act(session, values, "prepare")


async def _switch(session: Session, values: Values) -> Result:
    return await _act(session, values, "switch")


async def _finish(session: Session, values: Values) -> Result:
    return await _act(session, values, "finish")


async def _cancel(session: Session, values: Values) -> Result:
    return await _act(session, values, "cancel")


_FORCE = Parameter(
    "force",
    "Although peers may not have looked yet, or our combiner or signer does not know the key.",
    "flag",
    default=False,
)

COMMANDS = (
    Command(
        ("agent", "key", "show"),
        "Show the agent's keys for messages and how far a roll-over is",
        (
            Parameter(
                "jwks", "Write the public keys as a JWK Set, for public_key_file of others.", "flag", default=False
            ),
        ),
        examples=("agent key show", "agent key show --jwks"),
        run=_show,
    ),
    Command(
        ("agent", "key", "prepare"),
        "Make the next key and publish it beside the current one",
        details="Give both keys to our combiner and signer ('agent key show --jwks' into their public_key_file, which "
        "they read again by themselves), wait until other agents have looked them up, then switch.",
        changes="the identity zone, and a key file beside the current one",
        examples=("agent key prepare",),
        run=_prepare,
    ),
    Command(
        ("agent", "key", "switch"),
        "Sign with the next key; the former one still opens messages",
        (_FORCE,),
        details="Refused until every peer has had time to look the key up, and until our combiner and signer take it. "
        "Deployed Go peers look keys up once only: reset this agent at their side after the switch.",
        changes="the key that messages are signed with",
        examples=("agent key switch",),
        run=_switch,
    ),
    Command(
        ("agent", "key", "finish"),
        "Forget the former key",
        (_FORCE,),
        changes="the file of the former key is deleted",
        examples=("agent key finish",),
        run=_finish,
    ),
    Command(
        ("agent", "key", "cancel"),
        "Forget the next key instead of switching to it",
        changes="the identity zone; the file of the next key is deleted",
        examples=("agent key cancel",),
        run=_cancel,
    ),
)
