"""Token buckets, one for each source address."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

__all__ = ("RateLimiter", "source_key")


@lru_cache(maxsize=4096)
def source_key(host: str) -> str:
    """What limits are counted by: an IPv4 address, or the first 64 bits of an IPv6 address."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()


class RateLimiter:
    """Allows each source *rate* events a second, and bursts of *burst*.

    :param rate: events a second, above 0.
    :param burst: events at once, at least 1.
    :param max_sources: number of sources remembered; the one heard of least recently is forgotten first, and so starts
        with a full bucket again.
    """

    __slots__ = ("_buckets", "_burst", "_max", "_rate")

    def __init__(self, rate: float, burst: float, *, max_sources: int = 4096) -> None:
        self._rate, self._burst, self._max = rate, burst, max_sources
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def _level(self, key: str, now: float) -> float:
        level, at = self._buckets.pop(key, (self._burst, now))
        return min(self._burst, level + (now - at) * self._rate)

    def _keep(self, key: str, level: float, now: float) -> None:
        self._buckets[key] = (level, now)
        if len(self._buckets) > self._max:
            self._buckets.popitem(last=False)

    def allow(self, host: str, now: float) -> bool:
        """Take one token if there is one.

        :param now: seconds on any clock that does not go back.
        """
        key = source_key(host)
        level = self._level(key, now)
        allowed = level >= 1
        self._keep(key, level - 1 if allowed else level, now)
        return allowed

    def available(self, host: str, now: float) -> bool:
        """Whether there is a token; takes none."""
        level, at = self._buckets.get(source_key(host), (self._burst, now))
        return level + (now - at) * self._rate >= 1

    def delay(self, host: str, now: float) -> float:
        """Take one token, on credit if need be, and say how many seconds to wait until it is there."""
        key = source_key(host)
        level = self._level(key, now) - 1
        self._keep(key, level, now)
        return max(0.0, -level / self._rate)
