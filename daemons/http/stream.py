"""Events as server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mpcore.control.models import Event

__all__ = ("EventStream",)

_log = logging.getLogger(__name__)

_KEEP_ALIVE = 15.0  # seconds between signs of life on an event stream


class EventStream(Response):
    """An answer that goes on until the client or the daemon goes away.

    :param events: what is sent, as it comes.
    :param closing: the stream ends when this is set.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[Event], closing: anyio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._events, self._closing = events, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        wake = anyio.Event()
        writing = anyio.Lock()

        async def write(text: str) -> None:
            nonlocal wake
            async with writing:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            wake.set()
            wake = anyio.Event()

        await write(": events follow\n\n")
        try:
            async with anyio.create_task_group() as group:

                async def until_gone() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                async def until_closing() -> None:
                    await self._closing.wait()
                    group.cancel_scope.cancel()

                async def signs_of_life() -> None:
                    while True:
                        with anyio.move_on_after(_KEEP_ALIVE) as quiet:
                            await wake.wait()
                        if quiet.cancelled_caught:
                            await write(": alive\n\n")

                group.start_soon(until_gone)
                group.start_soon(until_closing)
                group.start_soon(signs_of_life)
                async with aclosing(_closable(self._events)) as events:
                    async for event in events:
                        await write(f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n")
                group.cancel_scope.cancel()
        except Exception as error:
            _log.error("event stream failed", exc_info=error)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _closable(events: AsyncIterator[Event]) -> Any:
    try:
        async for event in events:
            yield event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
