"""Which server to ask: what is known of each, by address.

A server that does not answer is tried last for a quarter of a second, doubling up to two seconds; one that is lame for
a zone (refuses, fails, or refers back up) is tried last for that zone for as long as a failure is remembered.  Nothing
is ever excluded: when every server looks bad, all are asked, so that a network that comes back is noticed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dns.name

from mpcore.net.network import Address
from mpcore.net.resolver_cache import BoundedMap

if TYPE_CHECKING:
    from mpcore.actions import RandomSource

__all__ = ("Servers",)


@dataclass(slots=True)
class _Behaviour:
    """How one server behaved."""

    round_trip: float = 0.0  #: smoothed, seconds; 0 = never heard of
    timeouts: int = 0  #: in succession
    last_until: float = 0.0  #: Unix seconds until which it is tried last
    plain: bool = False  #: does not understand EDNS
    lame: dict[dns.name.Name, float] = field(default_factory=dict)  #: zone -> Unix seconds


class Servers:
    """What is known about servers, by address.

    :param size: number of servers remembered.
    :param lame_for: seconds for which a server that was lame for a zone is tried last for it.
    :param longest: longest wait for one answer, seconds.
    """

    __slots__ = ("_known", "_lame_for", "_longest")

    def __init__(self, size: int, lame_for: float, longest: float) -> None:
        self._known: BoundedMap[Address, _Behaviour] = BoundedMap(size)
        self._lame_for = lame_for
        self._longest = longest

    def _behaviour(self, server: Address, now: float) -> _Behaviour:
        known = self._known.get(server, now)
        if known is None:
            known = _Behaviour()
        self._known.put(server, known, now + 900.0, now)  # host information is forgotten after a quarter of an hour
        return known

    def in_order(
        self,
        servers: Sequence[Address],
        zone: dns.name.Name,
        avoid: frozenset[Address],
        random: RandomSource,
        now: float,
    ) -> list[Address]:
        """*servers*, the ones to ask first first: those that behave, and of these the quick ones.

        Servers within 30 ms of each other share the work; one that was never asked counts as quick.
        """

        def rank(server: Address) -> tuple[bool, bool, bool, float]:
            known = self._behaviour(server, now)
            known.round_trip *= 0.98  # one that is not asked gets another chance after a while
            return (
                server in avoid,
                known.lame.get(zone, 0.0) > now,
                known.last_until > now,
                known.round_trip + random.uniform(0.0, 0.03),
            )

        return sorted(dict.fromkeys(servers), key=rank)

    def patience(self, server: Address, now: float) -> float:
        """How long to wait for an answer, in seconds."""
        known = self._behaviour(server, now)
        usual = 0.4 if known.round_trip == 0.0 else max(0.2, 4 * known.round_trip)
        return min(self._longest, usual * (1 << min(known.timeouts, 2)))

    def answered(self, server: Address, seconds: float, now: float) -> None:
        """*server* answered after *seconds*."""
        known = self._behaviour(server, now)
        known.round_trip = seconds if known.round_trip == 0.0 else 0.75 * known.round_trip + 0.25 * seconds
        known.timeouts, known.last_until = 0, 0.0

    def silent(self, server: Address, now: float) -> None:
        """*server* did not answer."""
        known = self._behaviour(server, now)
        known.timeouts += 1
        known.last_until = now + min(2.0, 0.25 * (1 << min(known.timeouts - 1, 3)))

    def lame(self, server: Address, zone: dns.name.Name, now: float) -> None:
        """*server* does not serve *zone*."""
        known = self._behaviour(server, now)
        known.lame = {name: until for name, until in known.lame.items() if until > now}
        if len(known.lame) < 256:
            known.lame[zone] = now + self._lame_for

    def is_plain(self, server: Address, now: float) -> bool:
        """Whether *server* is known not to understand EDNS."""
        return self._behaviour(server, now).plain

    def set_plain(self, server: Address, now: float) -> None:
        """*server* does not understand EDNS (RFC 6891, section 7)."""
        self._behaviour(server, now).plain = True
