"""Follow every daemon of a fleet: a snapshot, then its events; again from the snapshot after a gap or an outage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio

from cockpit.contexts import Context, RoleName
from cockpit.recording import Entry
from mpcore.control.client import ControlClient
from mpcore.errors import MpError

__all__ = ("follow", "follow_all")

_FIRST_PAUSE, _LAST_PAUSE = 0.1, 2.0


async def follow(context: Context, role: RoleName, tell: Callable[[Entry], None], clock: Callable[[], float]) -> None:
    """Tell what happens at one daemon, until cancelled.

    :param tell: called with each entry, in order.
    :param clock: Unix seconds.
    """
    client = ControlClient(context.socket(role))
    pause, told = _FIRST_PAUSE, ""
    while True:
        try:
            snapshot = await client.snapshot()
            tell(Entry(at=clock(), context=context.name, role=role, snapshot=snapshot))
            pause, told = _FIRST_PAUSE, ""
            async with aclosing(client.events(snapshot.event_id)) as events:
                async for event in events:
                    tell(Entry(at=clock(), context=context.name, role=role, event=event))
                    if event.kind == "gap":
                        break
        except (MpError, TimeoutError) as error:
            if str(error) != told:
                told = str(error)
                tell(Entry(at=clock(), context=context.name, role=role, down=told or type(error).__name__))
            await anyio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)


async def follow_all(
    contexts: Sequence[Context],
    tell: Callable[[Entry], None],
    clock: Callable[[], float],
    roles: Sequence[RoleName] = ("agent", "combiner", "signer"),
) -> None:
    """Tell what happens at all daemons with one of *roles*, until cancelled."""
    async with anyio.create_task_group() as tasks:
        for context in contexts:
            for role in context.roles:
                if role in roles:
                    tasks.start_soon(follow, context, role, tell, clock)
