"""``watch``: what happens, as it happens."""

from __future__ import annotations

import anyio

from cockpit.commands.base import Command, Emit, Parameter, Values
from cockpit.contexts import ROLES
from cockpit.output import ExitCode, Lines, Result, clock_time
from cockpit.session import Session

__all__ = ("COMMANDS", "KINDS")

#: Kinds of events.
KINDS = (
    "status",
    "peer",
    "peer-removed",
    "group",
    "group-removed",
    "zone",
    "edits",
    "contributions",
    "keys",
    "transaction",
    "log",
    "gap",
)


async def _watch(session: Session, values: Values, emit: Emit) -> ExitCode:
    from cockpit.feed import follow_all
    from cockpit.model import Model, reduce
    from cockpit.recording import Entry

    model, shown = Model(), 0
    enough = anyio.Event()

    def tell(entry: Entry) -> None:
        nonlocal model, shown
        counted, model = model.counted, reduce(model, entry)
        if values["kind"] is not None and (entry.event is None or entry.event.kind != values["kind"]):
            return
        lines = [
            f"{clock_time(line.time)} {line.source:<16} {line.kind:<13} {line.text}"
            for line in model.log
            if line.number >= counted
        ]
        if not enough.is_set():
            hidden = entry.snapshot is not None and not values["snapshots"]
            data = None if hidden else entry.model_dump(mode="json", exclude_none=True)
            emit(Result(data, [Lines(lines)] if lines else []))
            shown += not hidden
            if values["count"] is not None and shown >= values["count"]:
                enough.set()

    roles = ROLES if values["role"] is None else (values["role"],)
    with anyio.move_on_after(values["duration"]):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow_all, session.contexts, tell, session.clock, roles)
            await enough.wait()
            tasks.cancel_scope.cancel()
    return ExitCode.DONE


COMMANDS = (
    Command(
        ("watch",),
        "Follow the events of all daemons until interrupted",
        (
            Parameter("role", "Only daemons of this role.", choices=ROLES),
            Parameter("kind", "Only events of this kind.", choices=KINDS),
            Parameter("snapshots", "Begin with all that is known; makes --json a recording.", "flag", default=False),
            Parameter("count", "Stop after so many entries.", "number", least=1),
            Parameter("duration", "Stop after so many seconds.", "seconds", least=0),
        ),
        details="As text, a line for each change of state. With --json, an object for each entry, one a line; with "
        "--snapshots too, that is a recording, which 'mpcockpit --replay FILE' shows.",
        examples=("watch", "watch --kind group --json", "watch --snapshots --json > session.jsonl"),
        stream=_watch,
    ),
)
