"""A validating resolver: iterates from the root or forwards, and says of every answer how far it can be trusted.

**Layers.**  :mod:`~mpcore.net.resolver_iteration` gets responses and believes nothing;
:mod:`~mpcore.net.resolver_validation` judges them without any I/O; this module joins the two: it walks the chain of
trust, follows aliases, and remembers.  Only data is validated, not the way to it: delegations and addresses of name
servers are used as received, because a lie in them can only lead to data that does not validate.

**Chain of trust.**  From the closest trust anchor each label on the way down is asked for DS.  The answer, verified
with the keys of the zone above, says that there is a signed zone (its DNSKEY RRset must be signed by a key that the DS
names), that there may be an unsigned one, or that there is no zone cut (RFC 4035 section 5, RFC 6840).  A step only
ever waits for steps nearer to the root, so questions that wait for each other's steps cannot wait in a circle.

**Multi-signer zones** (RFC 8901): an RRset is secure if *any* of its signatures verifies with a key of the validated
DNSKEY RRset, and that RRset if *any* key that the DS names signed it.  Before an answer is called bogus, the steps of
its chain that have been remembered for a second or more are taken anew: keys may have been added, a zone delegated, or
its DS removed, and providers do not change all at the same moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import dns.dnssectypes
import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rrset
import dns.zonefile
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.RRSIG import RRSIG

from mpcore.errors import ConfigError, ResolutionError
from mpcore.net.clock import Clock
from mpcore.net.network import Address, Network
from mpcore.net.resolver_cache import BoundedMap, FailureMemory
from mpcore.net.resolver_events import AbsenceJudged, DataJudged, DelegationJudged, Event, KeysJudged, Observer
from mpcore.net.resolver_iteration import ForwardingUpstream, IterativeUpstream, Reply, Traffic, Upstream
from mpcore.net.resolver_types import Answer, Budget, BudgetError, ResolverLimits, Security, ValidationError, weakest
from mpcore.net.resolver_validation import (
    DelegationProof,
    Denial,
    KeySet,
    Proof,
    Statement,
    Verified,
    collect_denial,
    entry_keys,
    find_rrset,
    signatures_of,
    usable_ds,
    verify_rrset,
)

if TYPE_CHECKING:
    from mpcore.actions import RandomSource

__all__ = (
    "Answer",
    "Resolver",
    "ResolverLimits",
    "ResolverStats",
    "Security",
    "ValidationError",
    "load_trust_anchors",
)

T = TypeVar("T")
_EDE = dns.edns.EDECode
_A, _CNAME, _DNAME, _DS, _DNSKEY = RdataType.A, RdataType.CNAME, RdataType.DNAME, RdataType.DS, RdataType.DNSKEY
_DENIAL_TYPES = (RdataType.NSEC, RdataType.NSEC3)
#: Types that are not data, or that cannot be validated as an RRset of their own.
_UNASKABLE = frozenset({0, 41, 46, *range(128, 256), 249, 250})
_KEPT_REGARDLESS = 1.0  # seconds that a step of a chain of trust is kept even if something does not validate with it


def load_trust_anchors(path: str | Path) -> list[dns.rrset.RRset]:
    """Read trust anchors: DS or DNSKEY records in master-file form (RFC 1035, section 5).  Blocks: it reads a file.

    :raises ConfigError: the file cannot be read, does not parse, holds other records, or none.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from error
    try:
        rrsets = dns.zonefile.read_rrsets(
            text, rdclass=None, default_rdclass=dns.rdataclass.IN, default_ttl=0, origin=dns.name.root, relativize=False
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigError(f"does not parse as trust anchors: {error}", file=file) from error
    for rrset in rrsets:
        if rrset.rdtype not in (_DS, _DNSKEY) or rrset.rdclass != dns.rdataclass.IN:
            raise ConfigError(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} is not a trust anchor", file=file)
    if not rrsets:
        raise ConfigError("there is no trust anchor in it", file=file)
    return list(rrsets)


class _Kind(Enum):
    """What is known about a name as a possible apex."""

    SIGNED = auto()
    UNSIGNED = auto()
    NO_CUT = auto()
    ABSENT = auto()
    BOGUS = auto()


@dataclass(frozen=True, slots=True)
class _Link:
    """One step of the chain of trust."""

    kind: _Kind
    since: float
    expires: float
    keys: KeySet | None = None
    reason: str = ""
    error: _EDE | None = None


@dataclass(frozen=True, slots=True)
class _Trust:
    """What the chain of trust says about the zone that a name is in."""

    security: Security
    keys: KeySet | None = None
    reason: str = ""
    error: _EDE | None = None


@dataclass(frozen=True, slots=True)
class _Step:
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


@dataclass(frozen=True, slots=True)
class ResolverStats:
    """Counters since the start, and sizes now."""

    questions: int  #: calls of :meth:`Resolver.resolve`
    cache_hits: int  #: names and types answered from memory
    secure: int  #: names and types that were fetched and found secure
    insecure: int  #: or insecure, or indeterminate
    bogus: int
    failures: int  #: questions without an answer
    queries: int  #: messages sent to servers
    timeouts: int  #: of these, unanswered
    over_tcp: int  #: of these, over TCP because the answer did not fit into UDP
    cached: int  #: names and types in memory
    links: int  #: steps of chains of trust in memory


class _Flight:
    """One piece of work that several questions wait for."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.result: Any = None
        self.error: ResolutionError | None = None


class Resolver:
    """Looks names up and validates what it finds.

    :param network: where the packets go.
    :param trust_anchors: DS or DNSKEY RRsets, see :func:`load_trust_anchors`.  Names below none of them are
        *indeterminate*.
    :param root_hints: numeric addresses of root servers, to iterate from.
    :param forwarders: recursive servers, numeric address and port; if given, they are asked instead.
    :param port: port of the authoritative servers when iterating.
    :param clock: tells the time, for caching and for signatures.
    :param random: chooses query ids and servers.
    :param timeout: longest wait for one answer of one server, seconds.
    :param patience: longest time for one question, seconds.
    :param limits: bounds on the work for one question and on memory.
    :param observe: told of each step, see :mod:`mpcore.net.resolver_events`; it must not raise.
    :raises ValueError: neither root hints nor forwarders, or an address that is not numeric.
    """

    def __init__(
        self,
        network: Network,
        *,
        trust_anchors: Iterable[dns.rrset.RRset],
        root_hints: Sequence[str] = (),
        forwarders: Sequence[Address] = (),
        port: int = 53,
        clock: Clock,
        random: RandomSource,
        timeout: float = 2.0,
        patience: float = 8.0,
        limits: ResolverLimits | None = None,
        observe: Observer | None = None,
    ) -> None:
        if not root_hints and not forwarders:
            raise ValueError("a resolver needs root hints or forwarders")
        self._limits = limits or ResolverLimits()
        self._clock, self._patience = clock, patience
        self._anchors: dict[dns.name.Name, list[DS | DNSKEY]] = {}
        for rrset in trust_anchors:
            self._anchors.setdefault(rrset.name, []).extend(rd for rd in rrset if isinstance(rd, DS | DNSKEY))
        self._observe = observe
        self._traffic = Traffic(network, clock, random, self._limits, timeout, observe)
        self._upstream: Upstream
        if forwarders:
            self._upstream = ForwardingUpstream(self._traffic, forwarders)
        else:
            self._upstream = IterativeUpstream(self._traffic, root_hints, port, clock, self._limits)
        self._steps: BoundedMap[tuple[dns.name.Name, RdataType | None], _Step] = BoundedMap(self._limits.cache_entries)
        self._links: BoundedMap[dns.name.Name, _Link] = BoundedMap(self._limits.cache_entries)
        self._failures: FailureMemory[tuple[dns.name.Name, RdataType], str] = FailureMemory(
            1024, self._limits.failure_ttl
        )
        self._bogus: FailureMemory[tuple[dns.name.Name, RdataType], _Step] = FailureMemory(
            1024, self._limits.failure_ttl
        )
        self._flights: dict[object, _Flight] = {}
        self._flushes = 0
        self._questions = self._hits = self._failed = 0
        self._verdicts = dict.fromkeys(Security, 0)

    # --- what others call ---

    async def resolve(self, name: dns.name.Name | str, rdtype: int | str, *, check: bool = True) -> Answer:
        """Look up *name* and *rdtype*, following aliases.

        That the name or the type does not exist is an answer: its ``rrset`` is ``None``.

        :param name: absolute name; a text without the final dot is taken as absolute.
        :param rdtype: a type of data, as a number or mnemonic; not ANY or another meta-type, and not RRSIG.
        :param check: raise on bogus data; ``False`` returns it, marked as such (CD in RFC 4035, section 3.2.2).
        :raises ValidationError: validation failed (a :class:`~mpcore.errors.BogusError`); its ``code`` says why.
        :raises ResolutionError: no server could be reached or gave an answer, the question would cost too much, or the
            type cannot be looked up.
        """
        self._questions += 1
        asked = _absolute(name)
        kind = _askable(rdtype)
        started = self._clock.now()
        problem = self._failures.get((asked, kind), started)
        if problem is not None:
            raise ResolutionError(problem)
        try:
            with anyio.fail_after(self._patience):
                answer = await self._resolve(asked, kind)
        except TimeoutError:
            raise self._failure(asked, kind, f"{asked}: no answer within {self._patience:g} s") from None
        except ResolutionError as error:
            raise self._failure(asked, kind, str(error)) from error
        if check and answer.security is Security.BOGUS:
            raise ValidationError(answer.reason, answer.error or _EDE.DNSSEC_BOGUS)
        return answer

    def flush(self, name: dns.name.Name | str, subtree: bool = True) -> int:
        """Forget what is known about *name*, and with *subtree* about everything below it.

        Delegations, name-server addresses, keys and failures are forgotten too, and nothing that is on its way now
        will be remembered.

        :returns: the number of things forgotten.
        """
        owner = _absolute(name)
        self._flushes += 1

        def doomed(key: dns.name.Name) -> bool:
            return key.is_subdomain(owner) if subtree else key == owner

        return (
            self._steps.drop_where(lambda key: doomed(key[0]))
            + self._links.drop_where(doomed)
            + self._failures.drop_where(lambda key: doomed(key[0]))
            + self._bogus.drop_where(lambda key: doomed(key[0]))
            + self._upstream.flush(owner, subtree)
        )

    def stats(self) -> ResolverStats:
        """Counters and sizes."""
        verdicts = self._verdicts
        return ResolverStats(
            questions=self._questions,
            cache_hits=self._hits,
            secure=verdicts[Security.SECURE],
            insecure=verdicts[Security.INSECURE] + verdicts[Security.INDETERMINATE],
            bogus=verdicts[Security.BOGUS],
            failures=self._failed,
            queries=self._traffic.sent,
            timeouts=self._traffic.timeouts,
            over_tcp=self._traffic.over_tcp,
            cached=len(self._steps),
            links=len(self._links),
        )

    def _tell(self, event: Event) -> None:
        if self._observe is not None:
            self._observe(event)

    def _failure(self, name: dns.name.Name, rdtype: RdataType, problem: str) -> ResolutionError:
        self._failed += 1
        self._failures.put((name, rdtype), problem, self._clock.now())
        return ResolutionError(problem)

    # --- aliases ---

    async def _resolve(self, asked: dns.name.Name, rdtype: RdataType) -> Answer:
        budget = Budget(self._limits)
        now = self._clock.now()
        name, steps, seen = asked, [], {asked}
        while True:
            step = await self._step(name, rdtype, budget)
            steps.append(step)
            if step.target is None or step.security is Security.BOGUS:
                break
            name = step.target
            if name in seen:
                raise ResolutionError(f"{asked}: the aliases go in a circle at {name}")
            if len(steps) > self._limits.aliases:
                raise ResolutionError(f"{asked}: more than {self._limits.aliases} aliases")
            seen.add(name)
        now = self._clock.now()
        verdict = weakest(*(step.security for step in steps))
        worst = next(step for step in steps if step.security is verdict)
        ended = step.target is None and step.rcode == dns.rcode.NOERROR
        rrset = _aged(step.rrset, step, now) if ended and step.rrset is not None else None
        return Answer(
            name=asked,
            rdtype=rdtype,
            rcode=step.rcode,
            rrset=rrset,
            security=verdict,
            expires=min(step.expires for step in steps),
            answer=tuple(_unique(_aged(rrset, step, now) for step in steps for rrset in step.answer)),
            authority=tuple(_unique(_aged(rrset, step, now) for step in steps for rrset in step.authority)),
            reason=worst.reason,
            error=worst.error,
        )

    # --- one name and type ---

    async def _step(self, name: dns.name.Name, rdtype: RdataType, budget: Budget) -> _Step:
        now = self._clock.now()
        step = self._steps.get((name, rdtype), now) or self._steps.get((name, None), now)
        step = step or self._bogus.get((name, rdtype), now)
        if step is not None:
            self._hits += 1
            return step
        return await self._shared((name, rdtype), lambda: self._fetch(name, rdtype, budget))

    async def _fetch(self, name: dns.name.Name, rdtype: RdataType, budget: Budget) -> _Step:
        flushes = self._flushes

        async def judge(reply: Reply) -> _Step:
            step = await self._judge(name, rdtype, reply.message, budget)
            if step.security is Security.BOGUS and self._renew(name):
                step = await self._judge(name, rdtype, reply.message, budget)
            return step

        step = await self._until_not_bogus(name, rdtype, budget, judge, lambda step: step.security is Security.BOGUS)
        self._verdicts[step.security] += 1
        if flushes == self._flushes:
            if step.security is Security.BOGUS:
                self._bogus.put((name, rdtype), step, self._clock.now())
            else:
                key = (name, None if step.rcode == dns.rcode.NXDOMAIN else rdtype)
                self._steps.put(key, step, step.expires, self._clock.now())
                self._bogus.drop((name, rdtype))
        return step

    async def _until_not_bogus(
        self,
        name: dns.name.Name,
        rdtype: RdataType,
        budget: Budget,
        judge: Callable[[Reply], Awaitable[T]],
        is_bogus: Callable[[T], bool],
    ) -> T:
        """Ask, and if the answer is bogus ask other servers: one provider may serve what another does not."""
        avoid: set[Address] = set()
        while True:
            reply = await self._upstream.ask(name, rdtype, budget, frozenset(avoid))
            verdict = await judge(reply)
            if not is_bogus(verdict) or reply.server in avoid or len(avoid) >= self._limits.other_servers:
                return verdict
            avoid.add(reply.server)

    async def _judge(
        self, name: dns.name.Name, rdtype: RdataType, message: dns.message.Message, budget: Budget
    ) -> _Step:
        """Classify a response and validate what it says about *name*; aliases are left to the caller."""
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
    ) -> _Step:
        now = self._clock.now()
        signatures = signatures_of(message.answer, rrset)
        answer: tuple[dns.rrset.RRset, ...] = (rrset,) if signatures is None else (rrset, signatures)
        authority: tuple[dns.rrset.RRset, ...] = ()
        ttl = float(rrset.ttl)
        trust = await self._trust_in_signer(rrset.name, rrset.rdtype, [signatures], budget)
        verdict = trust
        if trust.keys is not None:
            try:
                ttl, authority, verdict = self._verify_data(name, rrset, signatures, message, trust, budget)
            except ValidationError as error:
                self._tell(DataJudged(trust.keys.zone, rrset, None, (), error))
                verdict = _Trust(Security.BOGUS, reason=str(error), error=error.code)
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
        return _Step(
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
        trust: _Trust,
        budget: Budget,
    ) -> tuple[float, tuple[dns.rrset.RRset, ...], _Trust]:
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
            trust = _Trust(Security.INSECURE, reason=f"{rrset.name} is in a span of NSEC3 that proves nothing")
        self._tell(DataJudged(denial.zone, rrset, verified, self._statements(denial, rrset.name), None))
        ttl = min(verified.ttl, verified.ttl if denial.ttl is None else denial.ttl)
        return float(ttl), _denial_section(message.authority, soa=None), trust

    async def _judge_absence(
        self, name: dns.name.Name, rdtype: RdataType, message: dns.message.Message, budget: Budget
    ) -> _Step:
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
        trust = await self._trust_in_signer(name, rdtype, signed, budget)
        verdict = trust
        # Without SOA nothing says how long the absence lasts: it is not remembered (RFC 2308, section 5).
        ttl = 0.0 if soa is None else float(min(soa.ttl, soa[0].minimum))
        if trust.keys is not None:
            try:
                rcode, ttl, verdict = self._verify_absence(name, rdtype, rcode, soa, ttl, message, trust, budget)
            except ValidationError as error:
                self._tell(AbsenceJudged(trust.keys.zone, name, rdtype, int(rcode), None, (), error))
                verdict = _Trust(Security.BOGUS, reason=str(error), error=error.code)
        return _Step(
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
        trust: _Trust,
        budget: Budget,
    ) -> tuple[dns.rcode.Rcode, float, _Trust]:
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
                said = self._statements(denial, name)
                self._tell(AbsenceJudged(trust.keys.zone, name, rdtype, int(code), proof, said, None))
            if proof is Proof.SECURE:
                return code, ttl, trust
            if proof is Proof.INSECURE:
                return code, ttl, _Trust(Security.INSECURE, reason=f"{name} is in a span of NSEC3 that proves nothing")
        why = f": {denial.problem}" if denial.problem else ""
        what = "the name" if rcode == dns.rcode.NXDOMAIN else dns.rdatatype.to_text(rdtype)
        raise ValidationError(f"nothing proves that {name} lacks {what}{why}", _EDE.NSEC_MISSING)

    # --- chain of trust ---

    async def _trust_in_signer(
        self,
        name: dns.name.Name,
        rdtype: RdataType,
        signatures: Iterable[dns.rrset.RRset | None],
        budget: Budget,
    ) -> _Trust:
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

    async def _trust(self, name: dns.name.Name, budget: Budget) -> _Trust:
        """The trust in the zone that *name* is in."""
        anchor = self._closest_anchor(name)
        if anchor is None:
            return _Trust(Security.INDETERMINATE, reason=f"there is no trust anchor above {name}")
        keys: KeySet | None = None
        for depth in range(len(anchor), len(name) + 1):
            apex = name.split(depth)[1]
            link = await self._link(apex, keys, budget)
            if link.kind is _Kind.UNSIGNED:
                return _Trust(Security.INSECURE, reason=link.reason)
            if link.kind is _Kind.BOGUS:
                return _Trust(Security.BOGUS, reason=link.reason, error=link.error)
            if link.kind is _Kind.ABSENT:
                break
            keys = link.keys or keys
        return _Trust(Security.SECURE, keys)

    async def _link(self, apex: dns.name.Name, above: KeySet | None, budget: Budget) -> _Link:
        link = self._links.get(apex, self._clock.now())
        if link is not None:
            return link
        return await self._shared(apex, lambda: self._fetch_link(apex, above, budget))

    async def _fetch_link(self, apex: dns.name.Name, above: KeySet | None, budget: Budget) -> _Link:
        """One step of the chain of trust.

        :param above: keys of the zone above; ``None`` at a trust anchor.
        """
        flushes = self._flushes
        if above is None:
            link = await self._fetch_keys(apex, self._anchors[apex], self._limits.max_ttl, budget)
        else:
            keys_above = above

            async def judge(reply: Reply) -> _Link | tuple[list[DS], float]:
                return self._judge_ds(apex, keys_above, reply.message, budget)

            found = await self._until_not_bogus(
                apex, _DS, budget, judge, lambda found: isinstance(found, _Link) and found.kind is _Kind.BOGUS
            )
            link = found if isinstance(found, _Link) else await self._fetch_keys(apex, found[0], found[1], budget)
        now = self._clock.now()
        if link.kind is _Kind.BOGUS:
            link = replace(link, expires=min(link.expires, now + self._limits.failure_ttl / 4))
        if flushes == self._flushes:
            self._links.put(apex, link, link.expires, now)
        return link

    def _judge_ds(
        self, apex: dns.name.Name, above: KeySet, message: dns.message.Message, budget: Budget
    ) -> _Link | tuple[list[DS], float]:
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
            said = () if denial is None else self._statements(denial, apex)
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
                return _Link(_Kind.UNSIGNED, now, now + verified.ttl, reason=reason)
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
                    return _Link(_Kind.NO_CUT, now, now + verified.ttl)
            denial = collect_denial(message.authority, above, now, budget)
            proof = denial.delegation(apex)
            if proof is not DelegationProof.NONE:
                told(None, proof, denial)
            expires = now + min(float(denial.ttl or 0), self._limits.max_negative_ttl)
            if proof is DelegationProof.UNSIGNED:
                return _Link(_Kind.UNSIGNED, now, expires, reason=f"{apex} has no DS: it is not signed")
            if proof is DelegationProof.NO_CUT:
                return _Link(_Kind.NO_CUT, now, expires)
            if proof is DelegationProof.ABSENT:
                return _Link(_Kind.ABSENT, now, expires)
            why = f": {denial.problem}" if denial.problem else ""
            raise ValidationError(f"nothing proves that {apex} has no DS{why}", _EDE.NSEC_MISSING)
        except ValidationError as error:
            told(problem=error)
            return _Link(_Kind.BOGUS, now, now + self._limits.failure_ttl, reason=str(error), error=error.code)

    async def _fetch_keys(
        self, apex: dns.name.Name, anchors: Sequence[DS | DNSKEY], ttl: float, budget: Budget
    ) -> _Link:
        """Fetch the DNSKEY RRset of *apex* and check that a key that *anchors* name signed it."""

        async def judge(reply: Reply) -> _Link:
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
                return _Link(_Kind.BOGUS, now, now + self._limits.failure_ttl, reason=str(error), error=error.code)
            self._tell(KeysJudged(apex, tuple(anchors), tuple(keys), verified, None))
            expires = now + min(ttl, float(verified.ttl), self._limits.max_ttl)
            return _Link(_Kind.SIGNED, now, expires, KeySet(apex, keys))

        if not any(isinstance(anchor, DNSKEY) for anchor in anchors):
            rrset = dns.rrset.from_rdata_list(apex, 0, anchors)
            anchors = usable_ds(rrset)
            if not anchors:
                now = self._clock.now()
                reason = f"no trust anchor of {apex} has an algorithm and digest that are supported"
                return _Link(_Kind.UNSIGNED, now, now + ttl, reason=reason)
        return await self._until_not_bogus(apex, _DNSKEY, budget, judge, lambda link: link.kind is _Kind.BOGUS)

    def _statements(self, denial: Denial, name: dns.name.Name) -> tuple[Statement, ...]:
        """What is only worked out for an observer; the budget is the resolver's own business."""
        if self._observe is None:
            return ()
        try:
            return denial.statements(name)
        except BudgetError:
            return ()

    def _renew(self, name: dns.name.Name) -> bool:
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

    # --- work that several questions wait for ---

    async def _shared(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work*, unless someone does it already: then wait for the result."""
        while True:
            flight = self._flights.get(key)
            if flight is None:
                break
            await flight.done.wait()
            if flight.error is not None:
                raise ResolutionError(str(flight.error)) from flight.error
            if flight.result is not None:
                result: T = flight.result
                return result
            # It was given up, because whoever waited for it did or had spent its budget: ours to do.
        flight = self._flights[key] = _Flight()
        try:
            result = await work()
            flight.result = result
            return result
        except BudgetError:
            raise
        except ResolutionError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.done.set()


def _absolute(name: dns.name.Name | str) -> dns.name.Name:
    if isinstance(name, dns.name.Name):
        return name.derelativize(dns.name.root)
    try:
        return dns.name.from_text(name, dns.name.root)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise ResolutionError(f"{name!r} is not a domain name: {error}") from error


def _askable(rdtype: int | str) -> RdataType:
    try:
        kind = dns.rdatatype.from_text(rdtype) if isinstance(rdtype, str) else RdataType.make(rdtype)
    except (dns.exception.DNSException, ValueError) as error:
        raise ResolutionError(f"{rdtype!r} is not a type: {error}") from error
    if int(kind) in _UNASKABLE:
        raise ResolutionError(f"{dns.rdatatype.to_text(kind)} is not a type that can be looked up")
    return kind


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


def _aged(rrset: dns.rrset.RRset, step: _Step, now: float) -> dns.rrset.RRset:
    """*rrset* with the TTL that is left of it."""
    left = max(0, min(rrset.ttl - int(now - step.stored), int(step.expires - now)))
    if step.security is Security.BOGUS or left == rrset.ttl:
        return rrset
    aged: dns.rrset.RRset = rrset.copy()  # type: ignore[no-untyped-call]
    aged.ttl = left
    return aged


def _unique(rrsets: Iterable[dns.rrset.RRset]) -> list[dns.rrset.RRset]:
    return list({(rrset.name, rrset.rdtype, rrset.covers): rrset for rrset in rrsets}.values())
