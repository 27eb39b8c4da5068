"""How one way to one peer does, and which way is tried first.

Two ways lead to a peer of this implementation: DNS, which every peer has, and HTTPS, where both sides have it.  A way
that fails rests, longer each time, and is tried last while it rests; it is never given up.  A refusal costs no
time, so a way that answers rests for the shortest time only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ("FIRST_REST", "LONGEST_REST", "Transport", "TransportHealth", "in_order")

Transport = Literal["dns", "https"]

FIRST_REST = 2.0
"""Seconds for which a way rests after its first failure; each further one after a rest doubles them."""

LONGEST_REST = 300.0
"""Most seconds for which a way rests."""


@dataclass(slots=True)
class TransportHealth:
    """One way, both directions, since the start."""

    sent: int = 0  #: messages that were acknowledged
    received: int = 0
    last_acknowledged: float | None = None
    last_heard: float | None = None
    round_trip: float | None = None
    failures: int = 0  #: in a row
    last_error: str | None = None
    rests_until: float = 0.0
    rests: int = 0  #: in a row

    def heard(self, now: float) -> None:
        """A message came this way."""
        self.received += 1
        self.last_heard = now

    def acknowledged(self, now: float, round_trip: float) -> None:
        """A message of ours was acknowledged."""
        self.sent += 1
        self.last_acknowledged, self.round_trip = now, round_trip
        self.failures, self.last_error, self.rests_until, self.rests = 0, None, 0.0, 0

    def failed(self, reason: str, now: float, *, answered: bool = False) -> None:
        """A message of ours did not get through.

        :param answered: there was an answer, and it was a refusal or proved nothing.
        """
        self.failures += 1
        self.last_error = reason
        if self.resting(now):
            return  # one of several that were under way at the same time
        self.rests = 1 if answered else self.rests + 1
        self.rests_until = now + min(LONGEST_REST, FIRST_REST * 2.0 ** min(self.rests - 1, 10))

    def excused(self) -> None:
        """The other way was refused as well: the fault is not that of the way."""
        self.rests_until, self.rests = 0.0, 0

    def resting(self, now: float) -> bool:
        """Whether it is tried last now."""
        return now < self.rests_until


def in_order(
    ways: Sequence[Transport], health: Mapping[Transport, TransportHealth], now: float
) -> tuple[Transport, ...]:
    """*ways*, given in order of preference, with those that rest behind the others."""
    return tuple(sorted(ways, key=lambda way: way in health and health[way].resting(now)))
