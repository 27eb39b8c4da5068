"""Look-ups in DNS without DNS: the records of all identity zones in a table, proven, after a modelled delay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import anyio
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mpcore.errors import ResolutionError
from mpcore.net.clock import Clock
from mpcore.net.resolver_types import Answer, Security
from mpcore.zone.rrset import RRset

__all__ = ("Records", "TableResolver", "table")

Records = Mapping[tuple[dns.name.Name, int], dns.rrset.RRset]
"""What there is: name (lower case) and type -> RRset."""


def table(records: Iterable[tuple[bytes, RRset]]) -> dict[tuple[dns.name.Name, int], dns.rrset.RRset]:
    """The records of a zone in the form of :data:`Records`."""
    found = {}
    for owner, rrset in records:
        name = dns.name.from_wire(owner, 0)[0]
        kind = dns.rdatatype.RdataType.make(rrset.rdtype)
        rdatas = [dns.rdata.from_wire(dns.rdataclass.IN, kind, octets, 0, len(octets)) for octets in rrset.rdatas]
        found[name, rrset.rdtype] = dns.rrset.from_rdata_list(name, rrset.ttl, rdatas)
    return found


class TableResolver:
    """What :class:`mpcore.net.resolver.Resolver` would find (see :class:`mpcore.node.runtime.Lookups`).

    :param records: live table.
    :param delay: seconds until the answer, ``None``: there is none.
    """

    def __init__(self, records: Records, clock: Clock, delay: Callable[[], float | None]) -> None:
        self._records, self._clock, self._delay = records, clock, delay

    async def resolve(self, name: dns.name.Name | str, rdtype: int) -> Answer:
        """Look *name* up; :raises ResolutionError: DNS is out of reach."""
        delay = self._delay()
        if delay is None:
            await anyio.sleep(2.0)
            raise ResolutionError(f"no server answers for {name}")
        await anyio.sleep(delay)
        wanted = (dns.name.from_text(name) if isinstance(name, str) else name).canonicalize()
        kind = dns.rdatatype.RdataType.make(rdtype)
        rrset = self._records.get((wanted, int(kind)))
        ttl = 60 if rrset is None else rrset.ttl
        return Answer(
            name=wanted,
            rdtype=kind,
            rcode=0,
            rrset=rrset,
            security=Security.SECURE,
            expires=self._clock.now() + ttl,
            answer=() if rrset is None else (rrset,),
            authority=(),
        )

    def flush(self, name: dns.name.Name | str, subtree: bool = True) -> None:
        """Nothing is kept."""
