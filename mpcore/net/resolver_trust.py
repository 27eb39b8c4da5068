"""The chain of trust: which zones are signed, and with which keys (RFC 4035 section 5, RFC 6840).

From the closest trust anchor each label on the way down is asked for DS.  The answer, verified with the keys of the
zone above, says that there is a signed zone (its DNSKEY RRset must be signed by a key that the DS names), that there
may be an unsigned one, or that there is no zone cut.  A step only ever waits for steps nearer to the root, so questions
that wait for each other's steps cannot wait in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

import dns.dnssectypes
import dns.edns
import dns.message
import dns.name
import dns.rrset
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.RRSIG import RRSIG

from mpcore.net.clock import Clock
from mpcore.net.resolver_cache import BoundedMap
from mpcore.net.resolver_denial import DelegationProof, Denial, Statement, collect_denial
from mpcore.net.resolver_events import DelegationJudged, Event, KeysJudged, Observer
from mpcore.net.resolver_flights import Flights
from mpcore.net.resolver_iteration import Reply, Upstream, until_not_bogus
from mpcore.net.resolver_types import Budget, BudgetError, ResolverLimits, Security, ValidationError
from mpcore.net.resolver_validation import (
    KeySet,
    Verified,
    entry_keys,
    find_rrset,
    signatures_of,
    usable_ds,
    verify_rrset,
)

__all__ = ("Link", "LinkKind", "Trust", "TrustChain", "statements_for")

_EDE = dns.edns.EDECode
_CNAME, _DNAME, _DS, _DNSKEY = RdataType.CNAME, RdataType.DNAME, RdataType.DS, RdataType.DNSKEY
_KEPT_REGARDLESS = 1.0  # seconds that a step of a chain of trust is kept even if something does not validate with it


class LinkKind(Enum):
    """What is known about a name as a possible apex."""

    SIGNED = auto()
    UNSIGNED = auto()
    NO_CUT = auto()
    ABSENT = auto()
    BOGUS = auto()


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain of trust."""

    kind: LinkKind
    since: float
    expires: float
    keys: KeySet | None = None
    reason: str = ""
    error: _EDE | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What the chain of trust says about the zone that a name is in."""

    security: Security
    keys: KeySet | None = None
    reason: str = ""
    error: _EDE | None = None


class TrustChain:
    """The steps from trust anchors down to zones, each remembered for as long as its signatures and TTL allow.

    :param upstream: gets DS and DNSKEY.
    :param trust_anchors: DS or DNSKEY RRsets.
    :param flights: work that questions share; its epoch tells of flushes.
    :param observe: told of each step.
    """

    def __init__(
        self,
        upstream: Upstream,
        trust_anchors: Iterable[dns.rrset.RRset],
        clock: Clock,
        limits: ResolverLimits,
        flights: Flights,
        observe: Observer | None = None,
    ) -> None:
        self._upstream, self._clock, self._limits = upstream, clock, limits
        self._flights, self._observe = flights, observe
        self._anchors: dict[dns.name.Name, list[DS | DNSKEY]] = {}
        for rrset in trust_anchors:
            self._anchors.setdefault(rrset.name, []).extend(rd for rd in rrset if isinstance(rd, DS | DNSKEY))
        self._links: BoundedMap[dns.name.Name, Link] = BoundedMap(limits.cache_entries)

    def __len__(self) -> int:
        return len(self._links)

    @property
    def anchors(self) -> Mapping[dns.name.Name, Sequence[DS | DNSKEY]]:
        """The trust anchors, by zone."""
        return self._anchors

    def link(self, apex: dns.name.Name) -> Link | None:
        """The step to *apex*, if it is remembered."""
        return self._links.get(apex, self._clock.now())

    def drop_where(self, condition: Callable[[dns.name.Name], bool]) -> int:
        """Forget the steps to the names that fulfil *condition*; their number."""
        return self._links.drop_where(condition)

    def _tell(self, event: Event) -> None:
        if self._observe is not None:
            self._observe(event)

    async def trust_in_signer(
        self,
        name: dns.name.Name,
        rdtype: RdataType,
        signatures: Iterable[dns.rrset.RRset | None],
        budget: Budget,
    ) -> Trust:
        """The trust in the zone that should have signed data at *name*.

        The signer that the signatures name is tried first, which saves steps; when it is no zone, the zone that *name*
        is really in decides.
        """
        home = name.parent() if rdtype == _DS and name != dns.name.root else name
        anchor = self._closest_anchor(home)
        signers = dict.fromkeys(
            rdata.signer for rrset in signatures if rrset is not None for rdata in rrset if isinstance(rdata, RRSIG)
        )
        for signer in list(signers)[:3]:
            if not home.is_subdomain(signer) or self._closest_anchor(signer) != anchor:
                continue
            trust = await self._trust(signer, budget)
            if trust.keys is None or trust.keys.zone == signer:
                return trust
        return await self._trust(home, budget)

    def _closest_anchor(self, name: dns.name.Name) -> dns.name.Name | None:
        while True:
            if name in self._anchors:
                return name
            if name == dns.name.root:
                return None
            name = name.parent()

    async def _trust(self, name: dns.name.Name, budget: Budget) -> Trust:
        """The trust in the zone that *name* is in."""
        anchor = self._closest_anchor(name)
        if anchor is None:
            return Trust(Security.INDETERMINATE, reason=f"there is no trust anchor above {name}")
        keys: KeySet | None = None
        for depth in range(len(anchor), len(name) + 1):
            apex = name.split(depth)[1]
            link = await self._link(apex, keys, budget)
            if link.kind is LinkKind.UNSIGNED:
                return Trust(Security.INSECURE, reason=link.reason)
            if link.kind is LinkKind.BOGUS:
                return Trust(Security.BOGUS, reason=link.reason, error=link.error)
            if link.kind is LinkKind.ABSENT:
                break
            keys = link.keys or keys
        return Trust(Security.SECURE, keys)

    async def _link(self, apex: dns.name.Name, above: KeySet | None, budget: Budget) -> Link:
        link = self._links.get(apex, self._clock.now())
        if link is not None:
            return link
        return await self._flights.shared(apex, lambda: self._fetch_link(apex, above, budget))

    async def _fetch_link(self, apex: dns.name.Name, above: KeySet | None, budget: Budget) -> Link:
        """One step of the chain of trust.

        :param above: keys of the zone above; ``None`` at a trust anchor.
        """
        epoch = self._flights.epoch
        if above is None:
            link = await self._fetch_keys(apex, self._anchors[apex], self._limits.max_ttl, budget)
        else:
            keys_above = above

            async def judge(reply: Reply) -> Link | tuple[list[DS], float]:
                return self._judge_ds(apex, keys_above, reply.message, budget)

            found = await until_not_bogus(
                self._upstream,
                self._limits.other_servers,
                apex,
                _DS,
                budget,
                judge,
                lambda found: isinstance(found, Link) and found.kind is LinkKind.BOGUS,
            )
            link = found if isinstance(found, Link) else await self._fetch_keys(apex, found[0], found[1], budget)
        now = self._clock.now()
        if link.kind is LinkKind.BOGUS:
            link = replace(link, expires=min(link.expires, now + self._limits.failure_ttl / 4))
        if epoch == self._flights.epoch:
            self._links.put(apex, link, link.expires, now)
        return link

    def _judge_ds(
        self, apex: dns.name.Name, above: KeySet, message: dns.message.Message, budget: Budget
    ) -> Link | tuple[list[DS], float]:
        """What a response to a DS query says: usable DS records and their TTL, or what there is instead."""
        now = self._clock.now()

        def told(
            verified: Verified | None = None,
            proof: DelegationProof | None = None,
            denial: Denial | None = None,
            problem: ValidationError | None = None,
        ) -> None:
            ds = () if rrset is None else tuple(rdata for rdata in rrset if isinstance(rdata, DS))
            usable = () if rrset is None else tuple(usable_ds(rrset))
            said = () if denial is None else statements_for(self._observe, denial, apex)
            self._tell(DelegationJudged(apex, above.zone, ds, usable, verified, proof, said, problem))

        rrset = find_rrset(message.answer, apex, _DS)
        try:
            if rrset is not None:
                verified = verify_rrset(rrset, signatures_of(message.answer, rrset), above, now, budget)
                if verified.expanded_from is not None:
                    raise ValidationError(f"the DS of {apex} was made from a wildcard")
                told(verified)
                usable = usable_ds(rrset)
                if usable:
                    return usable, float(verified.ttl)
                reason = f"no DS of {apex} has an algorithm and digest that are supported"
                return Link(LinkKind.UNSIGNED, now, now + verified.ttl, reason=reason)
            for alias in message.answer:
                # An alias has no zone below it (RFC 1034, section 3.6.2; RFC 6672, section 2.3).
                if (alias.rdtype == _CNAME and alias.name == apex) or (
                    alias.rdtype == _DNAME and apex != alias.name and apex.is_subdomain(alias.name)
                ):
                    signatures = signatures_of(message.answer, alias)
                    if signatures is None:
                        continue
                    verified = verify_rrset(alias, signatures, above, now, budget)
                    told(verified, DelegationProof.NO_CUT)
                    return Link(LinkKind.NO_CUT, now, now + verified.ttl)
            denial = collect_denial(message.authority, above, now, budget)
            proof = denial.delegation(apex)
            if proof is not DelegationProof.NONE:
                told(None, proof, denial)
            expires = now + min(float(denial.ttl or 0), self._limits.max_negative_ttl)
            if proof is DelegationProof.UNSIGNED:
                return Link(LinkKind.UNSIGNED, now, expires, reason=f"{apex} has no DS: it is not signed")
            if proof is DelegationProof.NO_CUT:
                return Link(LinkKind.NO_CUT, now, expires)
            if proof is DelegationProof.ABSENT:
                return Link(LinkKind.ABSENT, now, expires)
            why = f": {denial.problem}" if denial.problem else ""
            raise ValidationError(f"nothing proves that {apex} has no DS{why}", _EDE.NSEC_MISSING)
        except ValidationError as error:
            told(problem=error)
            return Link(LinkKind.BOGUS, now, now + self._limits.failure_ttl, reason=str(error), error=error.code)

    async def _fetch_keys(
        self, apex: dns.name.Name, anchors: Sequence[DS | DNSKEY], ttl: float, budget: Budget
    ) -> Link:
        """Fetch the DNSKEY RRset of *apex* and check that a key that *anchors* name signed it."""

        async def judge(reply: Reply) -> Link:
            now = self._clock.now()
            keys: list[DNSKEY] = []
            try:
                rrset = find_rrset(reply.message.answer, apex, _DNSKEY)
                if rrset is None:
                    raise ValidationError(f"{apex} should be signed, and has no DNSKEY", _EDE.DNSKEY_MISSING)
                keys = [rdata for rdata in rrset if isinstance(rdata, DNSKEY)]
                signatures = signatures_of(reply.message.answer, rrset)
                made = [rdata for rdata in signatures or () if isinstance(rdata, RRSIG)]
                if not made:
                    raise ValidationError(f"the DNSKEY RRset of {apex} is not signed", _EDE.RRSIGS_MISSING)
                trusted = entry_keys(apex, keys, made, anchors, budget)
                if not len(trusted):
                    raise ValidationError(
                        f"no key that signs the DNSKEY RRset of {apex} is named by its DS or trust anchor",
                        _EDE.DNSKEY_MISSING,
                    )
                verified = verify_rrset(rrset, signatures, trusted, now, budget)
            except ValidationError as error:
                self._tell(KeysJudged(apex, tuple(anchors), tuple(keys), None, error))
                return Link(LinkKind.BOGUS, now, now + self._limits.failure_ttl, reason=str(error), error=error.code)
            self._tell(KeysJudged(apex, tuple(anchors), tuple(keys), verified, None))
            expires = now + min(ttl, float(verified.ttl), self._limits.max_ttl)
            return Link(LinkKind.SIGNED, now, expires, KeySet(apex, keys))

        if not any(isinstance(anchor, DNSKEY) for anchor in anchors):
            rrset = dns.rrset.from_rdata_list(apex, 0, anchors)
            anchors = usable_ds(rrset)
            if not anchors:
                now = self._clock.now()
                reason = f"no trust anchor of {apex} has an algorithm and digest that are supported"
                return Link(LinkKind.UNSIGNED, now, now + ttl, reason=reason)
        return await until_not_bogus(
            self._upstream,
            self._limits.other_servers,
            apex,
            _DNSKEY,
            budget,
            judge,
            lambda link: link.kind is LinkKind.BOGUS,
        )

    def renew(self, name: dns.name.Name) -> bool:
        """Forget the steps of the chain of trust to *name* that may be out of date; whether there were any."""
        now, renewed = self._clock.now(), False
        while True:
            link = self._links.get(name, now)
            if link is not None and now - link.since >= _KEPT_REGARDLESS:
                self._links.drop(name)
                renewed = True
            if name in self._anchors or name == dns.name.root:
                return renewed
            name = name.parent()


def statements_for(observe: Observer | None, denial: Denial, name: dns.name.Name) -> tuple[Statement, ...]:
    """What is only worked out for an observer; the budget is the resolver's own business."""
    if observe is None:
        return ()
    try:
        return denial.statements(name)
    except BudgetError:
        return ()
