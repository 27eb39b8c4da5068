"""Roles of the providers of a zone, derived from its HSYNC3 and HSYNCPARAM records (guide, wire format, "HSYNC3").

HSYNC3 lists the providers, one record each; HSYNCPARAM says which of them serve, sign and observe, and who manages the
NS records and the delegation.  Everything that a node does with a zone follows from this and the node's identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from mpcore.errors import RecordError, ZoneError
from mpcore.names import Identity, InvalidNameError, Label
from mpcore.records import HSYNC3, HSYNC3_TYPE, HSYNCPARAM, HSYNCPARAM_TYPE
from mpcore.zone import owners
from mpcore.zone.version import ZoneVersion

__all__ = ("SYNCHRONISED_TYPES", "Provider", "ZoneRoles")

SYNCHRONISED_TYPES: Final = ("DNSKEY", "CDS", "CSYNC", "NS", "KEY")
"""The types that providers synchronise, all at the apex (guide, wire format, "Operations")."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One HSYNC3 record.

    :param label: the provider's tag, without a trailing dot.
    :param identity: identity of its agent, as spelled in the zone.
    :param on: the State field; ``False`` means that the provider is leaving.
    :param upstream: label of the provider that it takes the zone from, ``""`` if none.
    """

    label: str
    identity: str
    on: bool
    upstream: str


@dataclass(frozen=True, slots=True)
class ZoneRoles:
    """Who does what in a zone.

    :param zone: name of the zone, lower case, absolute.
    :param providers: in the order of the HSYNC3 RRset.
    :param nsmgmt: who maintains the NS records.
    :param parentsync: who keeps the delegation in the parent up to date.
    :param servers: labels of the providers that serve the zone and contribute data.
    :param signers: labels of the providers that sign; empty: the zone is not signed.
    :param auditors: labels of those that only observe.
    """

    zone: str
    providers: tuple[Provider, ...]
    nsmgmt: Literal["owner", "agent"]
    parentsync: Literal["owner", "agent"]
    servers: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    auditors: tuple[str, ...] = ()

    @classmethod
    def from_version(cls, version: ZoneVersion) -> ZoneRoles | None:
        """The roles in a version of a zone; ``None`` if it lacks HSYNC3 or HSYNCPARAM and so is no shared zone.

        :raises ZoneError: the records contradict each other or do not parse: two HSYNCPARAM records, a truncated
            HSYNC3, labels or identities that occur twice or differ only in case, an upstream that is no label.
        """
        rows = version.get(version.origin, HSYNC3_TYPE)
        parameters = version.get(version.origin, HSYNCPARAM_TYPE)
        if rows is None or parameters is None:
            return None
        zone = owners.to_text(version.origin)
        if len(parameters.rdatas) != 1:
            raise ZoneError(f"{zone} has {len(parameters.rdatas)} HSYNCPARAM records instead of one")
        providers = tuple(_provider(zone, rdata) for rdata in rows.rdatas)
        _check_providers(zone, providers)
        param = _parse(zone, HSYNCPARAM_TYPE, parameters.rdatas[0])
        assert isinstance(param, HSYNCPARAM)
        known = {provider.label.lower(): provider.label for provider in providers}
        return cls(
            zone=zone,
            providers=providers,
            nsmgmt="agent" if param.nsmgmt == "agent" else "owner",
            parentsync="agent" if param.parentsync == "agent" else "owner",
            servers=_list(zone, "servers", param.servers, known),
            signers=_list(zone, "signers", param.signers, known),
            auditors=_list(zone, "auditors", param.auditors, known),
        )

    # -- who is who ----------------------------------------------------------------------------------------------

    def provider_of(self, identity: str) -> Provider | None:
        """The provider with this identity, compared octet by octet; ``None`` if the zone does not list it."""
        return next((provider for provider in self.providers if provider.identity == identity), None)

    def label_of(self, identity: str) -> str | None:
        """The label of the provider with this identity, ``None`` if the zone does not list it."""
        provider = self.provider_of(identity)
        return None if provider is None else provider.label

    def identity_of(self, label: str) -> str | None:
        """The identity behind a label (one trailing dot ignored), ``None`` if no provider has it."""
        bare = label.removesuffix(".")
        return next((provider.identity for provider in self.providers if provider.label == bare), None)

    def is_signer(self, identity: str) -> bool:
        """Whether the provider signs the zone."""
        return self.label_of(identity) in self.signers

    def is_server(self, identity: str) -> bool:
        """Whether the provider serves the zone."""
        return self.label_of(identity) in self.servers

    def is_auditor(self, identity: str) -> bool:
        """Whether the provider is listed as an auditor."""
        return self.label_of(identity) in self.auditors

    @property
    def signed(self) -> bool:
        """Whether anybody signs the zone."""
        return bool(self.signers)

    def other_signers(self, identity: str) -> tuple[str, ...]:
        """Identities of the signers except *identity*; signers whose label no HSYNC3 record has are left out."""
        return tuple(p.identity for p in self.providers if p.label in self.signers and p.identity != identity)

    def identities(self, on_only: bool = False) -> tuple[str, ...]:
        """Identities of all providers, auditors included, or of those that are not leaving."""
        return tuple(provider.identity for provider in self.providers if provider.on or not on_only)

    def voters(self) -> tuple[str, ...]:
        """Identities that vote in the provider group: the servers and signers that are not leaving; if there are none,
        everyone who is not leaving (guide, wire format, "Provider groups")."""
        active = [provider for provider in self.providers if provider.on]
        voting = [provider for provider in active if provider.label in self.servers or provider.label in self.signers]
        return tuple(provider.identity for provider in voting or active)

    # -- who may do what -----------------------------------------------------------------------------------------

    def may_edit(self, identity: str) -> bool:
        """Whether the provider's combiner edits the zone that it serves.

        An auditor never does; in a signed zone the signers do; in an unsigned zone the servers do.
        """
        if self.provider_of(identity) is None or self.is_auditor(identity):
            return False
        return self.is_signer(identity) if self.signed else self.is_server(identity)

    def can_apply(self, rrtype: str, identity: str) -> bool:
        """Whether the provider's combiner publishes contributions of a type; if not, it keeps them and reports them as
        ignored.

        :param rrtype: mnemonic, any case.
        """
        if not self.may_edit(identity):
            return False
        rrtype = rrtype.upper()
        if rrtype == "NS":
            return self.nsmgmt == "agent"
        if rrtype == "KEY":
            return self.parentsync == "agent"
        if rrtype == "DNSKEY":
            return self.signed
        if rrtype in ("CDS", "CSYNC"):
            return self.signed and self.parentsync == "agent"
        return True

    def can_submit(self, rrtype: str, identity: str) -> str | None:
        """Whether the provider may offer data of a type of its own to the others.

        :param rrtype: mnemonic, any case.
        :return: ``None`` if it may, otherwise the reason in words.
        """
        rrtype = rrtype.upper()
        if rrtype not in SYNCHRONISED_TYPES:
            return f"{rrtype} records are not synchronised; only {', '.join(SYNCHRONISED_TYPES)} are"
        label = self.label_of(identity)
        if label is None:
            return f"{identity} is not listed in the HSYNC3 records of {self.zone}"
        signs = label in self.signers
        if not signs and label not in self.servers:
            return f"provider {label} neither serves nor signs {self.zone}"
        if rrtype == "NS" and self.nsmgmt != "agent":
            return f"the owner of {self.zone} manages its NS records (nsmgmt={self.nsmgmt})"
        if rrtype in ("DNSKEY", "CDS", "CSYNC") and not signs:
            return f"provider {label} does not sign {self.zone}"
        if rrtype in ("KEY", "CDS", "CSYNC") and self.parentsync != "agent":
            return f"the owner of {self.zone} keeps the parent in step (parentsync={self.parentsync})"
        return None

    def appliers(self, rrtype: str) -> tuple[str, ...]:
        """Identities of the providers whose combiners publish contributions of a type."""
        return tuple(p.identity for p in self.providers if self.can_apply(rrtype, p.identity))

    def options(self, identity: str) -> tuple[str, ...]:
        """Derived zone options, sorted: ``multi-provider``; ``multi-signer`` if the provider signs and others do too;
        ``mp-disallow-edits`` if its combiner leaves the zone alone; ``mp-not-listed-error`` if it is no provider."""
        if self.provider_of(identity) is None:
            return ("mp-not-listed-error", "multi-provider")
        result = ["multi-provider"]
        if not self.may_edit(identity):
            result.append("mp-disallow-edits")
        if self.is_signer(identity) and any(label != self.label_of(identity) for label in self.signers):
            result.append("multi-signer")
        return tuple(sorted(result))


def _parse(zone: str, rdtype: int, octets: bytes) -> dns.rdata.Rdata:
    try:
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), octets, 0, len(octets))
    except (dns.exception.DNSException, RecordError, ValueError, IndexError) as error:
        name = "HSYNC3" if rdtype == HSYNC3_TYPE else "HSYNCPARAM"
        raise ZoneError(f"{zone}: an {name} record does not parse: {error}") from None


def _provider(zone: str, octets: bytes) -> Provider:
    record = _parse(zone, HSYNC3_TYPE, octets)
    assert isinstance(record, HSYNC3)
    if not record.complete:
        raise ZoneError(f"{zone}: an HSYNC3 record is truncated")
    if record.state not in (0, 1):
        raise ZoneError(f"{zone}: an HSYNC3 record has the state {record.state}, neither OFF nor ON")
    try:
        label = Label(record.label_text)
        identity = Identity(record.identity_text)
        upstream = Label(record.upstream_text) if record.upstream_text else ""
    except InvalidNameError as error:
        raise ZoneError(f"{zone}: an HSYNC3 record holds a faulty name: {error}") from None
    return Provider(str(label), str(identity), record.is_on, str(upstream))


def _check_providers(zone: str, providers: tuple[Provider, ...]) -> None:
    seen: dict[str, str] = {}
    for provider in providers:
        for kind, text in (("label", provider.label), ("identity", provider.identity)):
            former = seen.get(f"{kind} {text.lower()}")
            seen[f"{kind} {text.lower()}"] = text
            if former is not None:
                how = "twice" if former == text else f"also as {former}, which differs only in case"
                raise ZoneError(f"{zone}: HSYNC3 has the {kind} {text} {how}")
    labels = {provider.label for provider in providers}
    for provider in providers:
        if provider.upstream and provider.upstream not in labels:
            raise ZoneError(f"{zone}: provider {provider.label} names the unknown upstream {provider.upstream}")


def _list(zone: str, key: str, items: Iterable[str], known: dict[str, str]) -> tuple[str, ...]:
    """Labels of one list of HSYNCPARAM, without duplicates."""
    result: list[str] = []
    for item in items:
        label = item.removesuffix(".")
        spelled = known.get(label.lower(), label)
        if spelled != label:
            raise ZoneError(f"{zone}: HSYNCPARAM {key} has {label}, HSYNC3 has {spelled}: they differ only in case")
        if label and label not in result:
            result.append(label)
    return tuple(result)
