"""The event loop of a simulation: trio on a virtual clock, with its scheduler seeded.

Three things make a run repeat from its seed.  The clock jumps to the next deadline as soon as every task waits, so that
nothing depends on how fast the machine is.  The scheduler, which runs tasks that are ready in random order, takes that
order from the seed.  And nothing leaves the loop: a worker thread is refused, for while it worked the clock would jump.

The seed of the scheduler and the switch that makes it deterministic are trio's own, private names (see
``trio._core._run``); this is the only module that knows trio.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
import trio._core._run as scheduler
import trio._threads
from trio.testing import MockClock

__all__ = ("run",)

T = TypeVar("T")


def _no_threads(*_: object, **__: object) -> None:
    raise RuntimeError("a simulation uses no threads: the virtual clock would jump while they work")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    private: Any = scheduler
    threads: Any = trio._threads
    state, deterministic, start = private._r.getstate(), private._ALLOW_DETERMINISTIC_SCHEDULING, None
    start = threads.start_thread_soon
    private._r.seed(seed)
    private._ALLOW_DETERMINISTIC_SCHEDULING = True
    threads.start_thread_soon = _no_threads
    try:
        yield
    finally:
        private._r.setstate(state)
        private._ALLOW_DETERMINISTIC_SCHEDULING = deterministic
        threads.start_thread_soon = start


def run(main: Callable[[random.Random], Awaitable[T]], seed: int) -> T:
    """Run ``main(generator)`` on the virtual clock, which begins at 0, and return its result.

    :param seed: of the scheduler and of the generator that *main* is given; everything random comes from it.
    """
    with _seeded(seed):
        return trio.run(main, random.Random(seed), clock=MockClock(autojump_threshold=0))
