"""Provider groups: the providers that serve the same zones.

Zones whose HSYNC3 records list the same set of identities form one group.  The group, not the zone, exchanges
gossip and elects a leader.  A group is named by a hash that every member computes for itself, so identities must be
spelled the same way by all: they are compared and hashed octet by octet, case kept (guide, wire format, "Groups").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ("RULES", "ProviderGroup", "Roles", "group_hash", "provider_groups")

RULES: Final[tuple[tuple[str, str], ...]] = (
    ("members", "identities of the zone's HSYNC3 records with state ON; a zone with fewer than two is in no group"),
    ("voters of a zone", "members whose label is in the servers or signers list of HSYNCPARAM; if there is none, all"),
    ("group", "all zones with the same members; its voters are the union over its zones"),
    ("hash", "SHA-256 over the sorted identities, each with its length as 16 bits; first 16 hexadecimal digits"),
    ("name", "first 8 digits of the hash"),
    ("zone of messages", "the first zone of the group in sorted order"),
)
"""How groups are computed: (what, rule)."""


class Roles(Protocol):
    """The part of :class:`mpcore.zone.roles.ZoneRoles` that groups are computed from."""

    @property
    def zone(self) -> str: ...

    def identities(self, on_only: bool = False) -> tuple[str, ...]: ...

    def voters(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class ProviderGroup:
    """One group.

    :param hash: 16 lower-case hexadecimal digits, see :func:`group_hash`.
    :param members: identities, sorted by octets, at least two.
    :param voters: the members that vote, sorted; never empty.
    :param zones: the zones of the group, sorted; never empty.
    """

    hash: str
    members: tuple[str, ...]
    voters: tuple[str, ...]
    zones: tuple[str, ...]

    @property
    def name(self) -> str:
        """Short name for display: the first 8 digits of the hash."""
        return self.hash[:8]

    @property
    def zone(self) -> str:
        """The zone that messages about the group as a whole carry."""
        return self.zones[0]


def _octets(identity: str) -> bytes:
    return identity.encode("utf-8", "surrogateescape")


def group_hash(identities: Iterable[str]) -> str:
    """Hash of a set of identities, as spelled, in any order, duplicates ignored (guide, wire format, "Groups").

    :param identities: texts of at most 65535 octets each.
    """
    digest = hashlib.sha256()
    for octets in sorted({_octets(identity) for identity in identities}):
        digest.update(len(octets).to_bytes(2, "big"))
        digest.update(octets)
    return digest.hexdigest()[:16]


def provider_groups(zones: Iterable[Roles]) -> dict[str, ProviderGroup]:
    """The groups that *zones* form, by hash.

    We need not be a member of all: the caller keeps those that it belongs to.
    """
    members: dict[str, tuple[str, ...]] = {}
    voters: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for roles in zones:
        identities = tuple(sorted(set(roles.identities(on_only=True)), key=_octets))
        if len(identities) < 2:
            continue
        key = group_hash(identities)
        members[key] = identities
        voting = set(roles.voters()).intersection(identities) or set(identities)
        voters.setdefault(key, set()).update(voting)
        names.setdefault(key, set()).add(roles.zone)
    return {
        key: ProviderGroup(
            hash=key,
            members=identities,
            voters=tuple(sorted(voters[key], key=_octets)),
            zones=tuple(sorted(names[key])),
        )
        for key, identities in sorted(members.items())
    }
