"""Wall-clock time as one object that can be injected, skewed and simulated."""

from __future__ import annotations

import time
from typing import Protocol

import anyio

__all__ = ("Clock", "SystemClock")


class Clock(Protocol):
    """Where the time of day comes from."""

    def now(self) -> float:
        """Unix time in seconds, with fractions; never goes back."""
        ...


class SystemClock:
    """Unix time that follows the event loop's clock, and so a virtual clock too.

    The offset between the loop's clock and Unix time is read once, at the first call to :meth:`now`.  When the
    system's clock later runs more than a second ahead (it was set, or the machine slept), the offset follows; when it
    is set back, time here goes on, because timers and TSIG need time that never goes back.

    :param epoch: Unix time, in seconds, of the first reading.  ``None`` reads the system's clock; a simulation gives a
        fixed one, and the system's clock is then never looked at.
    """

    __slots__ = ("_epoch", "_last", "_offset")

    def __init__(self, epoch: float | None = None) -> None:
        self._epoch = epoch
        self._offset: float | None = None
        self._last = 0.0

    def now(self) -> float:
        """Unix time in seconds.  To be called with an event loop running."""
        current = anyio.current_time()
        if self._offset is None:
            self._offset = (time.time() if self._epoch is None else self._epoch) - current
        elif self._epoch is None and (wall := time.time()) > current + self._offset + 1:
            self._offset = wall - current
        self._last = max(self._last, current + self._offset)
        return self._last
