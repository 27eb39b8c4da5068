"""What goes wrong in a simulated network, and when.

A fault holds from one moment to another.  All of them are known beforehand, so that a TCP segment that is sent again
after four seconds meets the network of that moment; a fault may also be added while the simulation runs, and counts
from then on.

Providers are sites: between the daemons of one provider the network is short and whole, and only what names one of its
daemons (``alpha.agent``) touches it.  The owner of the zone is a site too, called ``owner``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from mpcore.sim.network import Passage

__all__ = ("Delay", "Fault", "Faults", "Flap", "Loss", "OneWay", "Partition", "Pause", "Repeat", "Slow", "Weather")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong for a time.

    :param start: seconds since the beginning.
    :param end: not any more from here on.
    """

    start: float = 0.0
    end: float = math.inf


@dataclass(frozen=True, slots=True)
class Partition(Fault):
    """Sites in different islands do not reach each other; sites in no island reach all."""

    islands: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class OneWay(Fault):
    """Nothing goes from one site to another; the other direction is whole."""

    source: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Flap(Fault):
    """Nothing goes between two sites, then everything, then nothing, ...

    :param period: seconds of each state; the fault begins with nothing.
    """

    one: str = ""
    two: str = ""
    period: float = 5.0


@dataclass(frozen=True, slots=True)
class Loss(Fault):
    """A part of everything between sites is lost.

    :param rate: 0 to 1.
    """

    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Repeat(Fault):
    """A part of all messages arrives again later, as a hostile network can arrange.

    :param rate: 0 to 1.
    :param later: at most so many seconds later.
    """

    rate: float = 0.0
    later: float = 30.0


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """Everything between sites takes longer, by a random time, and so overtakes.

    :param most: seconds.
    """

    most: float = 0.0


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Everything from and to a site or daemon takes longer.

    :param by: seconds.
    """

    who: str = ""
    by: float = 1.0


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """A daemon stands still: what is for it, and what comes from it, waits for the end."""

    who: str = ""


@dataclass
class Faults:
    """All faults of a run."""

    items: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._bounds: list[float] = []
        self._active: dict[int, tuple[Fault, ...]] = {}
        self.add(*[])

    def add(self, *faults: Fault) -> None:
        """Add faults."""
        self.items.extend(faults)
        self._bounds = sorted({moment for fault in self.items for moment in (fault.start, fault.end)})
        self._active = {}

    def heal(self, now: float, kinds: Iterable[type[Fault]] = (Fault,)) -> None:
        """End those that hold now."""
        kinds = tuple(kinds)
        kept = []
        for fault in self.items:
            if fault.start <= now < fault.end and isinstance(fault, kinds):
                fields = {name: getattr(fault, name) for name in _fields(fault)}
                kept.append(type(fault)(**fields | {"end": now}))
            else:
                kept.append(fault)
        self.items = []
        self.add(*kept)

    def at(self, moment: float) -> tuple[Fault, ...]:
        """Those that hold at a moment."""
        index = bisect_right(self._bounds, moment)
        found = self._active.get(index)
        if found is None:
            found = tuple(fault for fault in self.items if fault.start <= moment < fault.end)
            self._active[index] = found
        return found

    @property
    def last_end(self) -> float:
        """When the last fault that ends is over."""
        return max((fault.end for fault in self.items if fault.end < math.inf), default=0.0)


def _fields(fault: Fault) -> tuple[str, ...]:
    return tuple(type(fault).__dataclass_fields__)


class Weather:
    """Decides what becomes of each segment: a :data:`mpcore.sim.network.Weather`.

    :param faults: live.
    :param names: address -> daemon (``alpha.agent``).
    :param delay: seconds between sites, at least and at most; within a site it takes a hundredth.
    """

    def __init__(
        self, faults: Faults, names: Mapping[str, str], random: Random, delay: tuple[float, float] = (0.01, 0.1)
    ) -> None:
        self._faults, self._names, self._random, self._delay = faults, names, random, delay
        self.octets = 0  #: sent between sites
        self.segments = 0

    def __call__(self, passage: Passage) -> float | None:
        """Seconds until it arrives, ``None``: lost."""
        source, target = self._names.get(passage.source[0], ""), self._names.get(passage.target[0], "")
        here, there = source.partition(".")[0], target.partition(".")[0]
        far = here != there
        low, high = self._delay
        taken = self._random.uniform(low, high) if far else low / 100
        if far:
            self.octets += passage.octets
            self.segments += 1
        for fault in self._faults.at(passage.now):
            match fault:
                case Pause():
                    if fault.who in (source, target):
                        taken = max(taken, fault.end - passage.now)
                case Slow():
                    if fault.who in (source, target) or (far and fault.who in (here, there)):
                        taken += fault.by
                case _ if not far:
                    continue
                case Partition():
                    if _parted(fault.islands, here, there):
                        return None
                case OneWay():
                    if (here, there) == (fault.source, fault.target):
                        return None
                case Flap():
                    if {here, there} == {fault.one, fault.two} and not (
                        int((passage.now - fault.start) / fault.period) % 2
                    ):
                        return None
                case Loss():
                    if self._random.random() < fault.rate:
                        return None
                case Delay():
                    taken += self._random.uniform(0.0, fault.most)
        return taken

    def repeats(self, now: float) -> float | None:
        """Seconds after which a message sent now arrives a second time, ``None``: it does not."""
        for fault in self._faults.at(now):
            if isinstance(fault, Repeat) and self._random.random() < fault.rate:
                return self._random.uniform(0.0, fault.later)
        return None


def _parted(islands: tuple[frozenset[str], ...], here: str, there: str) -> bool:
    one = next((index for index, island in enumerate(islands) if here in island), None)
    two = next((index for index, island in enumerate(islands) if there in island), None)
    return one is not None and two is not None and one != two
