"""The zone that a combiner serves: the owner's version with the providers' contributions at its apex.

==============================  =======================================================================================
type                            with contributions that are published
==============================  =======================================================================================
NS                              the owner's records and all contributions, under one TTL, the lowest
DNSKEY, CDS, KEY                the contributions instead of the owner's records
CSYNC                           the contribution with the highest SOA serial field instead of the owner's record
                                (RFC 7477, section 2.1: there is only one)
==============================  =======================================================================================

Without contributions the owner's RRset stands.  A contribution is published if the roles let this combiner publish the
type and its author is still a provider.  The result depends on the owner's version, the set of contributions and the
roles alone, in no order: every combiner that has them serves the same records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dns.dnssec
import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from mpcore.combiner.contributions import Contribution, Contributions
from mpcore.combiner.policy import CombinerPolicy
from mpcore.sde.records import RDATA_TYPES
from mpcore.wire.messages import StatusUpdate, rfc3339
from mpcore.zone import owners
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.rrset import RRset, canonical_rdata, record_text
from mpcore.zone.version import ZoneVersion

__all__ = ("DS_TTL", "Rebuilt", "rebuild", "status_updates")

DS_TTL = 3600
"""TTL of the DS records in a ``ksk-changed`` message, seconds (guide, wire format, "status-update")."""

_NS, _DS, _DNSKEY = 2, 43, 48


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The merged zone.

    :param version: with the owner's serial; set the one to serve with
        :meth:`~mpcore.zone.version.ZoneVersion.with_serial`.
    :param origins: (owner, type, RDATA) -> identity of the author, for every record that is not the owner's.
    :param verdicts: every contribution with why it is not published; ``None``: it is.
    """

    version: ZoneVersion
    origins: Mapping[tuple[bytes, int, bytes], str]
    verdicts: tuple[tuple[Contribution, str | None], ...]


def rebuild(
    owner_version: ZoneVersion, contributions: Contributions, roles: ZoneRoles | None, policy: CombinerPolicy
) -> Rebuilt:
    """Merge the contributions into the owner's version.

    :param roles: of *owner_version*; ``None``: no multi-provider zone, nothing is merged.
    :raises ZoneError: the apex holds a CNAME, beside which nothing can stand.
    """
    apex = owner_version.origin
    verdicts = {id(item): _verdict(item, roles, policy) for item in contributions}
    changes: list[tuple[bytes, int, RRset | None]] = []
    origins: dict[tuple[bytes, int, bytes], str] = {}
    for rrtype, rdtype in RDATA_TYPES.items():
        published = [item for item in contributions.of_type(rrtype) if verdicts[id(item)] is None]
        if rrtype == "CSYNC" and len({item.record.key for item in published}) > 1:
            newest = max(published, key=lambda item: (item.record.key, item.originator))  # the serial comes first
            for item in published:
                if item.record.key != newest.record.key:
                    verdicts[id(item)] = (
                        f"a zone has one CSYNC record, and that of {newest.originator} has a higher serial"
                    )
            published = [item for item in published if item.record.key == newest.record.key]
        if not published:
            continue
        standing = owner_version.get(apex, rdtype) if rdtype == _NS else None
        own = standing.rdatas if standing else ()
        ttls = [item.record.ttl for item in published] + ([standing.ttl] if standing else [])
        merged = RRset.make(rdtype, min(ttls), (*own, *(item.record.rdata for item in published)))
        changes.append((apex, rdtype, merged))
        authors: dict[bytes, str] = {}
        for item in published:
            authors.setdefault(item.record.key, item.originator)
        _note_origins(origins, apex, merged, own, authors)
    version = owner_version.update(changes) if changes else owner_version
    return Rebuilt(version, origins, tuple((item, verdicts[id(item)]) for item in contributions))


def _verdict(item: Contribution, roles: ZoneRoles | None, policy: CombinerPolicy) -> str | None:
    if roles is None:
        return "the zone is not a multi-provider zone"
    if roles.provider_of(item.originator) is None:
        return f"{item.originator} is no longer listed in the HSYNC3 records"
    if not policy.publishes(item.record.rrtype, roles):
        return f"this provider does not publish contributed {item.record.rrtype} records"
    return None


def _note_origins(
    origins: dict[tuple[bytes, int, bytes], str],
    apex: bytes,
    merged: RRset,
    own: Iterable[bytes],
    authors: Mapping[bytes, str],
) -> None:
    owned = {canonical_rdata(merged.rdtype, rdata) for rdata in own}
    for rdata in merged.rdatas:
        key = canonical_rdata(merged.rdtype, rdata)
        if key not in owned:
            origins[apex, merged.rdtype, rdata] = authors[key]


def status_updates(
    old: ZoneVersion | None, new: ZoneVersion, policy: CombinerPolicy, agent: str, now: float
) -> list[StatusUpdate]:
    """What the agent is told when the delegation may need work: ``ns-changed`` with the whole NS RRset, ``ksk-changed``
    with SHA-256 DS records of all keys that have the SEP flag (RFC 4034, section 5; RFC 4509).

    :param old: the version served before; ``None``: there was none, and nothing is reported.
    :param agent: identity of the agent to tell, the one that delivered the update.
    :param now: Unix seconds.
    """
    if old is None:
        return []
    zone = owners.to_text(new.origin)
    result = []
    ns = new.get(new.origin, _NS)
    if _rdatas(old, _NS) != _rdatas(new, _NS):
        result.append(
            StatusUpdate(
                my_identity=policy.identity,
                your_identity=agent,
                zone=zone,
                sub_type="ns-changed",
                ns_records=ns.texts(new.origin) if ns else [],
                time=rfc3339(now),
            )
        )
    keys = [rdata for rdata in _rdatas(new, _DNSKEY) if rdata[1] & 1]
    if [rdata for rdata in _rdatas(old, _DNSKEY) if rdata[1] & 1] != keys:
        result.append(
            StatusUpdate(
                my_identity=policy.identity,
                your_identity=agent,
                zone=zone,
                sub_type="ksk-changed",
                ds_records=[text for rdata in keys if (text := _ds_text(new.origin, rdata))],
                time=rfc3339(now),
            )
        )
    return result


def _rdatas(version: ZoneVersion, rdtype: int) -> tuple[bytes, ...]:
    rrset = version.get(version.origin, rdtype)
    return () if rrset is None else rrset.rdatas


def _ds_text(apex: bytes, dnskey: bytes) -> str:
    try:
        key = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, dnskey, 0, len(dnskey))
        ds = dns.dnssec.make_ds(owners.to_text(apex), key, "SHA256")
        return record_text(apex, _DS, DS_TTL, ds.to_wire() or b"")
    except dns.exception.DNSException:
        return ""
