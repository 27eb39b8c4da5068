"""Timers of the machines of one node: names and moments in, callbacks out."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from mpcore.net.clock import Clock

__all__ = ("Callback", "Timers")

Callback = Callable[[str, float], Coroutine[Any, Any, None]]


class Timers:
    """One task that sleeps until the earliest timer and calls its machine.

    Each timer belongs to a key (the machine) and a name; setting it again moves it.  Callbacks run one after the other
    in tasks of their own, so that a slow one delays nobody.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[tuple[str, str], tuple[float, Callback]] = {}
        self._heap: list[tuple[float, int, tuple[str, str]]] = []
        self._count = 0
        self._changed = anyio.Event()

    def set(self, key: str, name: str, at: float, callback: Callback) -> None:
        """Call *callback(name, now)* at *at* (Unix seconds)."""
        self._due[key, name] = (at, callback)
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, (key, name)))
        self._changed.set()

    def cancel(self, key: str, name: str) -> None:
        """Forget one timer, if it is set."""
        self._due.pop((key, name), None)

    def cancel_all(self, key: str) -> None:
        """Forget every timer of a machine."""
        for item in [item for item in self._due if item[0] == key]:
            del self._due[item]

    async def run(self) -> None:
        """Serve the timers until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                now = self._clock.now()
                while self._heap and self._heap[0][0] <= now:
                    at, _, item = heapq.heappop(self._heap)
                    current = self._due.get(item)
                    if current is not None and current[0] == at:
                        del self._due[item]
                        tasks.start_soon(current[1], item[1], now)
                self._changed = anyio.Event()
                with anyio.move_on_after(self._heap[0][0] - now if self._heap else None):
                    await self._changed.wait()
