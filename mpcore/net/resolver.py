"""A validating resolver: iterates from the root or forwards, and says of every answer how far it can be trusted.

**Layers.**  :mod:`~mpcore.net.resolver_iteration` gets responses and believes nothing;
:mod:`~mpcore.net.resolver_validation` verifies RRsets and proofs without any I/O;
:mod:`~mpcore.net.resolver_trust` walks the chain of trust with both, and :mod:`~mpcore.net.resolver_judge` says by it
what a response is worth.  This module follows aliases and remembers.  Only data is validated, not the way to it:
delegations and addresses of name servers are used as received, because a lie in them can only lead to data that does
not validate.

**Multi-signer zones** (RFC 8901): an RRset is secure if *any* of its signatures verifies with a key of the validated
DNSKEY RRset, and that RRset if *any* key that the DS names signed it.  Before an answer is called bogus, the steps of
its chain that have been remembered for a second or more are taken anew: keys may have been added, a zone delegated, or
its DS removed, and providers do not change all at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import dns.edns
import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType

from mpcore.errors import ResolutionError
from mpcore.net.clock import Clock
from mpcore.net.network import Address, Network
from mpcore.net.resolver_anchors import load_trust_anchors
from mpcore.net.resolver_cache import BoundedMap, FailureMemory
from mpcore.net.resolver_events import Observer
from mpcore.net.resolver_flights import Flights
from mpcore.net.resolver_iteration import (
    ForwardingUpstream,
    IterativeUpstream,
    Reply,
    Traffic,
    Upstream,
    until_not_bogus,
)
from mpcore.net.resolver_judge import Judge, Step
from mpcore.net.resolver_trust import TrustChain
from mpcore.net.resolver_types import Answer, Budget, ResolverLimits, Security, ValidationError, weakest

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

_EDE = dns.edns.EDECode
#: Types that are not data, or that cannot be validated as an RRset of their own.
_UNASKABLE = frozenset({0, 41, 46, *range(128, 256), 249, 250})


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
        self._traffic = Traffic(network, clock, random, self._limits, timeout, observe)
        self._upstream: Upstream
        if forwarders:
            self._upstream = ForwardingUpstream(self._traffic, forwarders)
        else:
            self._upstream = IterativeUpstream(self._traffic, root_hints, port, clock, self._limits)
        self._steps: BoundedMap[tuple[dns.name.Name, RdataType | None], Step] = BoundedMap(self._limits.cache_entries)
        self._failures: FailureMemory[tuple[dns.name.Name, RdataType], str] = FailureMemory(
            1024, self._limits.failure_ttl
        )
        self._bogus: FailureMemory[tuple[dns.name.Name, RdataType], Step] = FailureMemory(
            1024, self._limits.failure_ttl
        )
        self._flights = Flights()
        self._chain = TrustChain(self._upstream, trust_anchors, clock, self._limits, self._flights, observe)
        self._judging = Judge(self._chain, clock, self._limits, observe)
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
        self._flights.epoch += 1

        def doomed(key: dns.name.Name) -> bool:
            return key.is_subdomain(owner) if subtree else key == owner

        return (
            self._steps.drop_where(lambda key: doomed(key[0]))
            + self._chain.drop_where(doomed)
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
            links=len(self._chain),
        )

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

    async def _step(self, name: dns.name.Name, rdtype: RdataType, budget: Budget) -> Step:
        now = self._clock.now()
        step = self._steps.get((name, rdtype), now) or self._steps.get((name, None), now)
        step = step or self._bogus.get((name, rdtype), now)
        if step is not None:
            self._hits += 1
            return step
        return await self._flights.shared((name, rdtype), lambda: self._fetch(name, rdtype, budget))

    async def _fetch(self, name: dns.name.Name, rdtype: RdataType, budget: Budget) -> Step:
        epoch = self._flights.epoch

        async def judge(reply: Reply) -> Step:
            step = await self._judging.judge(name, rdtype, reply.message, budget)
            if step.security is Security.BOGUS and self._chain.renew(name):
                step = await self._judging.judge(name, rdtype, reply.message, budget)
            return step

        step = await until_not_bogus(
            self._upstream,
            self._limits.other_servers,
            name,
            rdtype,
            budget,
            judge,
            lambda step: step.security is Security.BOGUS,
        )
        self._verdicts[step.security] += 1
        if epoch == self._flights.epoch:
            if step.security is Security.BOGUS:
                self._bogus.put((name, rdtype), step, self._clock.now())
            else:
                key = (name, None if step.rcode == dns.rcode.NXDOMAIN else rdtype)
                self._steps.put(key, step, step.expires, self._clock.now())
                self._bogus.drop((name, rdtype))
        return step


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


def _aged(rrset: dns.rrset.RRset, step: Step, now: float) -> dns.rrset.RRset:
    """*rrset* with the TTL that is left of it."""
    left = max(0, min(rrset.ttl - int(now - step.stored), int(step.expires - now)))
    if step.security is Security.BOGUS or left == rrset.ttl:
        return rrset
    aged: dns.rrset.RRset = rrset.copy()  # type: ignore[no-untyped-call]
    aged.ttl = left
    return aged


def _unique(rrsets: Iterable[dns.rrset.RRset]) -> list[dns.rrset.RRset]:
    return list({(rrset.name, rrset.rdtype, rrset.covers): rrset for rrset in rrsets}.values())
