"""Peers that ask to be reached elsewhere for a while (RELOCATE; guide, wire format).

What DNS says wins: a relocation is used beside the addresses found in DNS, never instead of them; it ends at the time
that it names, after a day at the latest, and as soon as DNS says something else than when it came.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from mpcore.wire.messages import Relocate

__all__ = ("LONGEST", "Relocations")

LONGEST = 86400.0
"""Seconds for which a relocation holds at most."""

_TRANSPORTS = ("", "dns", "tcp", "udp")  #: words that deployed implementations use for messages over DNS

_Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Relocation:
    address: _Address
    until: float
    found: tuple[_Address, ...]  #: what DNS said when it came


class Relocations:
    """The relocations that hold, by identity."""

    def __init__(self) -> None:
        self._held: dict[str, _Relocation] = {}

    def take(self, identity: str, message: Relocate, found: Sequence[_Address], now: float) -> str | float:
        """Take a relocation of *identity*, which has signed it.

        :param found: its addresses by DNS.
        :return: until when it holds, or why it is refused.
        """
        wanted = message.new_address
        if wanted.transport.lower() not in _TRANSPORTS:
            return f"transport {wanted.transport[:16]!r} is not used here"
        try:
            address = ipaddress.ip_address(wanted.host)
        except ValueError:
            return "the new address is no IP address"
        if not 0 < wanted.port <= 65535:
            return f"port {wanted.port} is none"
        known = [ipaddress.ip_address(host) for host, _ in found]
        if address.is_multicast or address.is_unspecified or getattr(address, "ipv4_mapped", None) is not None:
            return f"{address} is no address of a host"
        for kind in ("is_loopback", "is_link_local", "is_private"):
            if getattr(address, kind) and not any(getattr(other, kind) for other in known):
                return f"{address} is not on the same kind of network as the addresses in DNS"
        if message.valid_until <= now:
            return "it has expired"
        until = min(float(message.valid_until), now + LONGEST)
        self._held[identity] = _Relocation((str(address), wanted.port), until, tuple(found))
        return until

    def forget(self, identity: str) -> None:
        """Use the addresses in DNS only."""
        self._held.pop(identity, None)

    def addresses(self, identity: str, found: Sequence[_Address], now: float) -> tuple[_Address, ...]:
        """Where *identity* is reached, best first, given what DNS says of it now."""
        held = self._held.get(identity)
        if held is None:
            return tuple(found)
        if held.until <= now or set(held.found) != set(found):
            del self._held[identity]
            return tuple(found)
        return tuple(dict.fromkeys((held.address, *found)))
