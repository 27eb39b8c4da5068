"""The messages of the last minutes, in and out, and what became of them: for operators, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from mpcore.control.models import DistributionInfo
from mpcore.net.clock import Clock

__all__ = ("DEFAULT_RETENTION", "RETENTION", "Distribution", "DistributionLog", "Mode")

RETENTION: Mapping[str, float] = {"beat": 30.0, "ping": 30.0}
"""Seconds for which messages of a type are listed, where it is not :data:`DEFAULT_RETENTION`."""

DEFAULT_RETENTION = 300.0
"""Seconds for which messages are listed."""

_COMPLETED = 300.0  #: age of completed messages that a purge removes

State = Literal["pending", "confirmed", "failed"]
Mode = Literal["edns0", "query", "https"]
"""How a payload goes: in the NOTIFY, fetched by its receiver, or as the body of a POST."""


@dataclass(slots=True, eq=False)
class Distribution:
    """One message, one attempt; see :class:`~mpcore.control.models.DistributionInfo`."""

    id: str
    direction: Literal["in", "out"]
    peer: str
    type: str
    zone: str
    began_at: float
    octets: int | None = None
    mode: Mode = "edns0"
    state: State = "pending"
    ended_at: float | None = None
    error: str | None = None


class DistributionLog:
    """The newest messages of one node.

    :param retention: seconds by type, over :data:`RETENTION`.
    :param capacity: most messages listed.
    """

    def __init__(self, clock: Clock, retention: Mapping[str, float] | None = None, *, capacity: int = 2000) -> None:
        self._clock = clock
        self._retention = {**RETENTION, **(retention or {})}
        self._kept: deque[Distribution] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, direction: Literal["in", "out"], peer: str, type_: str, zone: str, id_: str) -> Distribution:
        """A message is being sent or handled."""
        distribution = Distribution(id_, direction, peer, type_, zone, self._clock.now())
        self._kept.append(distribution)
        return distribution

    def end(self, distribution: Distribution, error: str | None = None) -> None:
        """It was confirmed inline, or failed, and why."""
        distribution.ended_at = self._clock.now()
        distribution.state = "confirmed" if error is None else "failed"
        distribution.error = error

    def listed(self) -> list[DistributionInfo]:
        """What is remembered, oldest first."""
        self._expire()
        return [
            DistributionInfo(
                id=item.id,
                direction=item.direction,
                peer=item.peer,
                type=item.type,
                zone=item.zone,
                began_at=item.began_at,
                octets=item.octets,
                mode=item.mode,
                state=item.state,
                ended_at=item.ended_at,
                error=item.error,
            )
            for item in self._kept
        ]

    def purge(self, *, everything: bool = False) -> int:
        """Forget what was completed more than five minutes ago, or all that is completed; how many went."""
        self._expire()
        limit = self._clock.now() - _COMPLETED
        return self._keep(lambda item: item.ended_at is None or not (everything or item.ended_at <= limit))

    def _expire(self) -> None:
        now = self._clock.now()
        self._keep(lambda item: item.began_at > now - self._retention.get(item.type, DEFAULT_RETENTION))

    def _keep(self, wanted: Callable[[Distribution], bool]) -> int:
        before = len(self._kept)
        kept = [item for item in self._kept if wanted(item)]
        if len(kept) < before:
            self._kept = deque(kept, maxlen=self._kept.maxlen)
        return before - len(kept)
