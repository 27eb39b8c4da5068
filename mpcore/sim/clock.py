"""The time of day of one simulated host."""

from __future__ import annotations

from typing import Final

import anyio

__all__ = ("EPOCH", "HostClock")

EPOCH: Final = 1_780_000_000.0
"""Unix time at which every simulation begins: May 2026."""


class HostClock:
    """A clock that may be wrong.

    :param offset: seconds that it is ahead of the true time.
    :param drift: seconds that it gains in a second.
    """

    __slots__ = ("_last", "drift", "offset")

    def __init__(self, offset: float = 0.0, drift: float = 0.0) -> None:
        self.offset, self.drift = offset, drift
        self._last = 0.0

    def now(self) -> float:
        """Unix time in seconds; never goes back."""
        elapsed = anyio.current_time()
        self._last = max(self._last, EPOCH + elapsed * (1.0 + self.drift) + self.offset)
        return self._last
