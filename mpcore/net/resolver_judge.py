"""What a response says about one name and type: data, an alias or an absence, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rrset
from dns.rdatatype import RdataType

from mpcore.net.clock import Clock
from mpcore.net.resolver_denial import Proof, collect_denial
from mpcore.net.resolver_events import AbsenceJudged, DataJudged, Event, Observer
from mpcore.net.resolver_trust import Trust, TrustChain, statements_for
from mpcore.net.resolver_types import Budget, ResolverLimits, Security, ValidationError
from mpcore.net.resolver_validation import find_rrset, signatures_of, verify_rrset

__all__ = ("Judge", "Step")

_EDE = dns.edns.EDECode
_CNAME, _DNAME = RdataType.CNAME, RdataType.DNAME
_DENIAL_TYPES = (RdataType.NSEC, RdataType.NSEC3)


@dataclass(frozen=True, slots=True)
class Step:
    """What was found out about one name and type, without following aliases."""

    rcode: int
    security: Security
    stored: float
    expires: float
    rrset: dns.rrset.RRset | None = None
    target: dns.name.Name | None = None  #: of an alias
    answer: tuple[dns.rrset.RRset, ...] = ()
    authority: tuple[dns.rrset.RRset, ...] = ()
    reason: str = ""
    error: _EDE | None = None


class Judge:
    """Classifies and validates responses; aliases are left to the caller.

    :param chain: says which keys a zone has.
    :param observe: told of each verdict.
    """

    def __init__(
        self, chain: TrustChain, clock: Clock, limits: ResolverLimits, observe: Observer | None = None
    ) -> None:
        self._chain, self._clock, self._limits, self._observe = chain, clock, limits, observe

    def _tell(self, event: Event) -> None:
        if self._observe is not None:
            self._observe(event)

    async def judge(self, name: dns.name.Name, rdtype: RdataType, message: dns.message.Message, budget: Budget) -> Step:
        """Classify a response and validate what it says about *name*.

        :raises ResolutionError: a key that is needed cannot be had.
        """
        found = next(
            (
                rrset
                for rrset in message.answer  # nothing exists below a DNAME, so it goes first (RFC 6672, section 2.4)
                if rrset.rdtype == _DNAME
                and rrset.rdclass == dns.rdataclass.IN
                and len(rrset) == 1
                and name != rrset.name
                and name.is_subdomain(rrset.name)
            ),
            None,
        )
        found = found or find_rrset(message.answer, name, rdtype) or find_rrset(message.answer, name, _CNAME)
        if found is not None and not (found.rdtype == _CNAME and len(found) > 1):
            return await self._judge_data(name, rdtype, found, message, budget)
        return await self._judge_absence(name, rdtype, message, budget)

    async def _judge_data(
        self,
        name: dns.name.Name,
        rdtype: RdataType,
        rrset: dns.rrset.RRset,
        message: dns.message.Message,
        budget: Budget,
    ) -> Step:
        now = self._clock.now()
        signatures = signatures_of(message.answer, rrset)
        answer: tuple[dns.rrset.RRset, ...] = (rrset,) if signatures is None else (rrset, signatures)
        authority: tuple[dns.rrset.RRset, ...] = ()
        ttl = float(rrset.ttl)
        trust = await self._chain.trust_in_signer(rrset.name, rrset.rdtype, [signatures], budget)
        verdict = trust
        if trust.keys is not None:
            try:
                ttl, authority, verdict = self._verify_data(name, rrset, signatures, message, trust, budget)
            except ValidationError as error:
                self._tell(DataJudged(trust.keys.zone, rrset, None, (), error))
                verdict = Trust(Security.BOGUS, reason=str(error), error=error.code)
        rcode, target = dns.rcode.NOERROR, None
        if rrset.name != name:
            target = _substituted(name, rrset)
            if target is None:
                rcode = dns.rcode.YXDOMAIN
            else:
                made = dns.rrset.from_rdata(name, rrset.ttl, _cname(target))
                answer += (made,)
                if rdtype == _CNAME:
                    rrset, target = made, None
        elif rrset.rdtype == _CNAME and rdtype != _CNAME:
            target = rrset[0].target
        return Step(
            rcode=rcode,
            security=verdict.security,
            stored=now,
            expires=now + min(ttl, self._limits.max_ttl),
            rrset=rrset,
            target=target,
            answer=answer,
            authority=authority,
            reason=verdict.reason,
            error=verdict.error,
        )

    def _verify_data(
        self,
        name: dns.name.Name,
        rrset: dns.rrset.RRset,
        signatures: dns.rrset.RRset | None,
        message: dns.message.Message,
        trust: Trust,
        budget: Budget,
    ) -> tuple[float, tuple[dns.rrset.RRset, ...], Trust]:
        assert trust.keys is not None
        now = self._clock.now()
        verified = verify_rrset(rrset, signatures, trust.keys, now, budget)
        if verified.expanded_from is None:
            self._tell(DataJudged(trust.keys.zone, rrset, verified, (), None))
            return float(verified.ttl), (), trust
        if rrset.rdtype == _DNAME:
            raise ValidationError(f"the DNAME of {name} was made from a wildcard")
        denial = collect_denial(message.authority, trust.keys, now, budget)
        proof = denial.no_closer_match(rrset.name, verified.expanded_from)
        if proof is Proof.NONE:
            why = f": {denial.problem}" if denial.problem else ""
            raise ValidationError(
                f"{rrset.name} was made from a wildcard, and nothing proves that it does not exist itself{why}",
                _EDE.NSEC_MISSING,
            )
        if proof is Proof.INSECURE:
            trust = Trust(Security.INSECURE, reason=f"{rrset.name} is in a span of NSEC3 that proves nothing")
        self._tell(DataJudged(denial.zone, rrset, verified, statements_for(self._observe, denial, rrset.name), None))
        ttl = min(verified.ttl, verified.ttl if denial.ttl is None else denial.ttl)
        return float(ttl), _denial_section(message.authority, soa=None), trust

    async def _judge_absence(
        self, name: dns.name.Name, rdtype: RdataType, message: dns.message.Message, budget: Budget
    ) -> Step:
        now = self._clock.now()
        rcode = dns.rcode.Rcode(message.rcode())
        soa = next(
            (
                rrset
                for rrset in message.authority
                if rrset.rdtype == RdataType.SOA
                and rrset.rdclass == dns.rdataclass.IN
                and name.is_subdomain(rrset.name)
            ),
            None,
        )
        proofs = [rrset for rrset in message.authority if rrset.rdtype in _DENIAL_TYPES]
        signed = [signatures_of(message.authority, rrset) for rrset in (*proofs, *((soa,) if soa else ()))]
        trust = await self._chain.trust_in_signer(name, rdtype, signed, budget)
        verdict = trust
        # Without SOA nothing says how long the absence lasts: it is not remembered (RFC 2308, section 5).
        ttl = 0.0 if soa is None else float(min(soa.ttl, soa[0].minimum))
        if trust.keys is not None:
            try:
                rcode, ttl, verdict = self._verify_absence(name, rdtype, rcode, soa, ttl, message, trust, budget)
            except ValidationError as error:
                self._tell(AbsenceJudged(trust.keys.zone, name, rdtype, int(rcode), None, (), error))
                verdict = Trust(Security.BOGUS, reason=str(error), error=error.code)
        return Step(
            rcode=rcode,
            security=verdict.security,
            stored=now,
            expires=now + min(ttl, self._limits.max_negative_ttl),
            authority=_denial_section(message.authority, soa),
            reason=verdict.reason,
            error=verdict.error,
        )

    def _verify_absence(
        self,
        name: dns.name.Name,
        rdtype: RdataType,
        rcode: dns.rcode.Rcode,
        soa: dns.rrset.RRset | None,
        ttl: float,
        message: dns.message.Message,
        trust: Trust,
        budget: Budget,
    ) -> tuple[dns.rcode.Rcode, float, Trust]:
        """Which absence is proven; the response code itself is not signed and is not relied upon."""
        assert trust.keys is not None
        now = self._clock.now()
        if soa is not None:
            ttl = min(ttl, verify_rrset(soa, signatures_of(message.authority, soa), trust.keys, now, budget).ttl)
        denial = collect_denial(message.authority, trust.keys, now, budget)
        if denial.ttl is not None:
            ttl = min(ttl, denial.ttl)
        proofs = {
            dns.rcode.NXDOMAIN: denial.name_error(name),
            dns.rcode.NOERROR: denial.no_data(name, rdtype),
        }
        other = dns.rcode.NOERROR if rcode == dns.rcode.NXDOMAIN else dns.rcode.NXDOMAIN
        for code in (rcode, other):
            proof = proofs.get(code, Proof.NONE)
            if proof is not Proof.NONE:
                said = statements_for(self._observe, denial, name)
                self._tell(AbsenceJudged(trust.keys.zone, name, rdtype, int(code), proof, said, None))
            if proof is Proof.SECURE:
                return code, ttl, trust
            if proof is Proof.INSECURE:
                return code, ttl, Trust(Security.INSECURE, reason=f"{name} is in a span of NSEC3 that proves nothing")
        why = f": {denial.problem}" if denial.problem else ""
        what = "the name" if rcode == dns.rcode.NXDOMAIN else dns.rdatatype.to_text(rdtype)
        raise ValidationError(f"nothing proves that {name} lacks {what}{why}", _EDE.NSEC_MISSING)


def _cname(target: dns.name.Name) -> dns.rdtypes.ANY.CNAME.CNAME:
    return dns.rdtypes.ANY.CNAME.CNAME(dns.rdataclass.IN, _CNAME, target)  # type: ignore[no-untyped-call]


def _substituted(name: dns.name.Name, dname: dns.rrset.RRset) -> dns.name.Name | None:
    """*name* after the substitution by *dname*, or ``None`` when it would be too long (RFC 6672, section 2.2)."""
    try:
        return dns.name.Name((*name.relativize(dname.name).labels, *dname[0].target.labels))
    except dns.exception.DNSException:
        return None


def _denial_section(authority: Sequence[dns.rrset.RRset], soa: dns.rrset.RRset | None) -> tuple[dns.rrset.RRset, ...]:
    """What of an authority section shows the absence of something: SOA, NSEC, NSEC3 and their signatures."""
    kept: list[dns.rrset.RRset] = []
    for rrset in authority:
        if rrset is soa or rrset.rdtype in _DENIAL_TYPES:
            kept.append(rrset)
            signatures = signatures_of(authority, rrset)
            if signatures is not None:
                kept.append(signatures)
    return tuple(kept)
