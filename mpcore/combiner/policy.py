"""What a combiner is told about itself, and whom it therefore believes."""

from __future__ import annotations

from dataclasses import dataclass, field

from mpcore.names import ZoneName
from mpcore.sde.records import ContributedRecord
from mpcore.zone import owners
from mpcore.zone.roles import ZoneRoles

__all__ = ("CombinerPolicy",)


@dataclass(frozen=True)
class CombinerPolicy:
    """Identity and configuration of a combiner.

    :param identity: its own identity.
    :param agents: identities of its own agents: they deliver updates, and one of them is the provider's in HSYNC3.
    :param protected_namespaces: names; other providers may not contribute NS records whose target is one of them or
        below one of them.
    """

    identity: str
    agents: tuple[str, ...]
    protected_namespaces: tuple[str, ...] = ()
    _protected: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_protected", tuple(ZoneName(name).owner for name in self.protected_namespaces))

    def agent_in(self, roles: ZoneRoles | None) -> str | None:
        """Identity of our provider in a zone: the first of our agents that the zone lists; ``None``: none is."""
        if roles is None:
            return None
        return next((agent for agent in self.agents if roles.provider_of(agent) is not None), None)

    def publishes(self, rrtype: str, roles: ZoneRoles | None) -> bool:
        """Whether this combiner puts contributions of a type (mnemonic) into the zone; if not, it only keeps them."""
        agent = self.agent_in(roles)
        return roles is not None and agent is not None and roles.can_apply(rrtype, agent)

    def author_refusal(self, originator: str, rrtype: str, roles: ZoneRoles) -> str | None:
        """Why *originator* may not contribute records of a type, in words; ``None``: it may.

        Whether a DNSKEY is from a signer matters only where DNSKEYs are published.
        """
        if roles.provider_of(originator) is None:
            return f"{originator} is not listed in the HSYNC3 records of {roles.zone}"
        signs = roles.is_signer(originator)
        if not signs and not roles.is_server(originator) and roles.is_auditor(originator):
            return f"{originator} is an auditor of {roles.zone} and contributes nothing"
        if rrtype == "DNSKEY" and not signs and self.publishes("DNSKEY", roles):
            return f"{originator} does not sign {roles.zone}"
        return None

    def record_refusal(self, originator: str, record: ContributedRecord) -> str | None:
        """Why this record of *originator* is not taken, in words; ``None``: it is."""
        if record.rrtype != "NS" or originator in self.agents:
            return None
        target = record.key
        for protected, name in zip(self._protected, self.protected_namespaces, strict=True):
            if owners.is_subdomain(target, protected):
                return f"the name server {owners.to_text(target)} is in {name}, which is protected here"
        return None
