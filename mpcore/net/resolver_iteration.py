"""Getting an answer, unvalidated: from authoritative servers, starting at the root, or from recursive ones.

Nothing here is believed because of where it came from; :mod:`mpcore.net.resolver` validates it.  What is remembered
here is where to ask: delegations, addresses of name servers, and how servers behaved.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType

from mpcore.errors import ExchangeError, ResolutionError
from mpcore.net.client import exchange
from mpcore.net.clock import Clock
from mpcore.net.network import Address, Network
from mpcore.net.resolver_cache import BoundedMap
from mpcore.net.resolver_events import Asked, Observer, Referred, ServerLame
from mpcore.net.resolver_servers import Servers
from mpcore.net.resolver_types import Budget, BudgetError, ResolverLimits
from mpcore.net.resolver_validation import find_rrset

if TYPE_CHECKING:
    from mpcore.actions import RandomSource

__all__ = ("ForwardingUpstream", "IterativeUpstream", "Reply", "Traffic", "Upstream", "until_not_bogus")

T = TypeVar("T")

_DS = dns.rdatatype.DS
_OPT_DO = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, 1232, 0x8000, 0)  # root, OPT, payload 1232, DO
_ANSWERING = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
_CUT_TTL_MIN = 5.0  # a delegation with TTL 0 would otherwise be fetched for every question


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that looks like an answer, and the server that gave it."""

    message: dns.message.Message
    server: Address


class Upstream(Protocol):
    """Where answers come from."""

    async def ask(
        self, name: dns.name.Name, rdtype: RdataType, budget: Budget, avoid: frozenset[Address] = frozenset()
    ) -> Reply:
        """Ask for *name* and *rdtype*, DNSSEC records included.

        :param budget: pays for the messages.
        :param avoid: servers to ask last, because what they said was bogus.
        :raises ResolutionError: no server gave an answer.
        """
        ...

    def flush(self, name: dns.name.Name, subtree: bool) -> int:
        """Forget what is known about *name*, and about everything below it if *subtree*; the number of things."""
        ...


class Traffic:
    """Questions and answers on the wire: over UDP, then over TCP if truncated; without EDNS if the server insists.

    :param timeout: longest wait for one answer, seconds.
    :param observe: told of what is sent and what comes of it.
    """

    def __init__(
        self,
        network: Network,
        clock: Clock,
        random: RandomSource,
        limits: ResolverLimits,
        timeout: float,
        observe: Observer | None = None,
    ) -> None:
        self.observe = observe
        self._network, self._clock, self._random, self._timeout = network, clock, random, timeout
        self.servers = Servers(4096, limits.failure_ttl, timeout)
        self.sent = 0
        self.timeouts = 0
        self.over_tcp = 0

    def in_order(
        self, servers: Sequence[Address], zone: dns.name.Name, avoid: frozenset[Address] = frozenset()
    ) -> list[Address]:
        """*servers* as they should be tried for *zone*."""
        return self.servers.in_order(servers, zone, avoid, self._random, self._clock.now())

    def shuffled(self, items: Sequence[dns.name.Name]) -> list[dns.name.Name]:
        """*items* in a random order."""
        return [item for _, item in sorted((self._random.uniform(0.0, 1.0), item) for item in items)]

    def lame(self, server: Address, zone: dns.name.Name) -> None:
        """*server* does not serve *zone*."""
        self.servers.lame(server, zone, self._clock.now())

    async def ask(
        self, server: Address, name: dns.name.Name, rdtype: RdataType, flags: int, budget: Budget
    ) -> dns.message.Message:
        """Ask one server once.

        :param flags: header flags of the query.
        :raises ExchangeError: no answer, or one that does not parse.
        """
        edns = not self.servers.is_plain(server, self._clock.now())
        message = await self._over_udp(server, name, rdtype, flags, edns, budget)
        if edns and message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP) and message.edns < 0:
            message = await self._over_udp(server, name, rdtype, flags, False, budget)
            if message.rcode() in _ANSWERING:
                self.servers.set_plain(server, self._clock.now())
        return message

    async def _over_udp(
        self, server: Address, name: dns.name.Name, rdtype: RdataType, flags: int, edns: bool, budget: Budget
    ) -> dns.message.Message:
        query = self._query(name, rdtype, flags, edns)
        patience = self.servers.patience(server, self._clock.now())
        message = await self._heard(server, name, rdtype, query, patience, budget, over_tcp=False)
        if message.flags & dns.flags.TC:
            self.over_tcp += 1
            query = self._query(name, rdtype, flags, edns)
            message = await self._heard(server, name, rdtype, query, self._timeout, budget, over_tcp=True)
        return message

    async def _heard(
        self,
        server: Address,
        name: dns.name.Name,
        rdtype: RdataType,
        query: bytes,
        timeout: float,
        budget: Budget,
        *,
        over_tcp: bool,
    ) -> dns.message.Message:
        """One exchange, and the observer told of it."""
        started = self._clock.now()
        message, problem = None, ""
        try:
            octets = await self._exchange(server, query, timeout, budget, over_tcp=over_tcp)
            message = _parse(octets, server)
            return message
        except ExchangeError as error:
            problem = str(error)
            raise
        finally:
            if self.observe is not None and (message is not None or problem):
                seconds = self._clock.now() - started
                self.observe(Asked(name, rdtype, server, over_tcp, seconds, message, problem))

    def _query(self, name: dns.name.Name, rdtype: RdataType, flags: int, edns: bool) -> bytes:
        header = struct.pack("!HHHHHH", self._random.getrandbits(16), flags, 1, 0, 0, 1 if edns else 0)
        question = (name.to_wire() or b"") + struct.pack("!HH", rdtype, dns.rdataclass.IN)
        return header + question + (_OPT_DO if edns else b"")

    async def _exchange(
        self, server: Address, query: bytes, timeout: float, budget: Budget, *, over_tcp: bool
    ) -> bytes:
        budget.take_query()
        self.sent += 1
        started = self._clock.now()
        try:
            octets = await exchange(self._network, query, server[0], server[1], over_tcp=over_tcp, timeout=timeout)
        except ExchangeError:
            self.timeouts += 1
            self.servers.silent(server, self._clock.now())
            raise
        now = self._clock.now()
        self.servers.answered(server, now - started, now)
        return octets


def _parse(octets: bytes, server: Address) -> dns.message.Message:
    try:
        return dns.message.from_wire(octets)
    except Exception as error:  # whatever the library makes of octets from outside
        raise ExchangeError(f"{server[0]} port {server[1]}: the answer does not parse: {error}") from error


class ForwardingUpstream:
    """Recursive servers do the work; they are asked not to validate (CD), since that is done here.

    :param forwarders: addresses and ports.
    """

    def __init__(self, traffic: Traffic, forwarders: Sequence[Address]) -> None:
        self._traffic = traffic
        self._forwarders = [(str(ipaddress.ip_address(host)), port) for host, port in forwarders]

    async def ask(
        self, name: dns.name.Name, rdtype: RdataType, budget: Budget, avoid: frozenset[Address] = frozenset()
    ) -> Reply:
        """Ask the forwarders in turn, the quick ones first, each at most twice."""
        problem = "there is no forwarder"
        for _ in range(2):
            for server in self._traffic.in_order(self._forwarders, dns.name.root, avoid):
                try:
                    message = await self._traffic.ask(server, name, rdtype, dns.flags.RD | dns.flags.CD, budget)
                except ExchangeError as error:
                    problem = str(error)
                    continue
                if message.rcode() in _ANSWERING:
                    return Reply(message, server)
                problem = f"forwarder {server[0]} says {dns.rcode.to_text(message.rcode())}"
        raise ResolutionError(f"{name} {dns.rdatatype.to_text(rdtype)}: {problem}")

    def flush(self, name: dns.name.Name, subtree: bool) -> int:
        """Nothing to forget: everything is at the forwarders."""
        return 0


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a zone is served."""

    zone: dns.name.Name
    nameservers: tuple[dns.name.Name, ...]
    addresses: tuple[str, ...]  #: from hints or glue


class IterativeUpstream:
    """Authoritative servers are asked, from the root down (RFC 1034, section 5.3.3).

    :param root_hints: numeric addresses of root servers.
    :param port: the port of every authoritative server.
    """

    def __init__(
        self,
        traffic: Traffic,
        root_hints: Sequence[str],
        port: int,
        clock: Clock,
        limits: ResolverLimits,
    ) -> None:
        self._traffic, self._port, self._clock, self._limits = traffic, port, clock, limits
        hints = tuple(str(ipaddress.ip_address(host)) for host in root_hints)
        self._root = _Cut(dns.name.root, (), hints)
        self._cuts: BoundedMap[dns.name.Name, _Cut] = BoundedMap(4096)
        self._addresses: BoundedMap[dns.name.Name, tuple[str, ...]] = BoundedMap(4096)

    def flush(self, name: dns.name.Name, subtree: bool) -> int:
        """Forget delegations and name-server addresses."""

        def doomed(key: dns.name.Name) -> bool:
            return key.is_subdomain(name) if subtree else key == name

        return self._cuts.drop_where(doomed) + self._addresses.drop_where(doomed)

    async def ask(
        self, name: dns.name.Name, rdtype: RdataType, budget: Budget, avoid: frozenset[Address] = frozenset()
    ) -> Reply:
        """Follow referrals from the closest known zone cut to an authoritative answer."""
        return await self._ask(name, rdtype, budget, avoid, ())

    async def _ask(
        self,
        name: dns.name.Name,
        rdtype: RdataType,
        budget: Budget,
        avoid: frozenset[Address],
        pending: tuple[dns.name.Name, ...],
    ) -> Reply:
        cut, remembered = self._closest(name, rdtype), True
        moved: tuple[_Cut, ResolutionError] | None = None
        for _ in range(self._limits.referrals):
            try:
                reply, referral = await self._ask_zone(cut, name, rdtype, budget, avoid, pending)
            except BudgetError:
                raise
            except ResolutionError as error:
                if not remembered or cut is self._root:
                    raise
                # The zone may have moved: forget where it was, and ask its parent.
                self._cuts.drop(cut.zone)
                for nameserver in cut.nameservers:
                    self._addresses.drop(nameserver)
                moved, cut = (cut, error), self._closest(cut.zone, _DS)
                continue
            if referral is None:
                return reply
            cut, remembered = self._remember(referral, reply.message), False
            if moved is not None and moved[0] == cut and cut.addresses:
                raise moved[1]  # it has not moved
        raise ResolutionError(f"{name}: more than {self._limits.referrals} referrals")

    def _closest(self, name: dns.name.Name, rdtype: RdataType) -> _Cut:
        """The closest known zone cut at or above *name*; for DS, whose home is the parent, above it."""
        now = self._clock.now()
        if rdtype == _DS and name != dns.name.root:
            name = name.parent()
        while name != dns.name.root:
            cut = self._cuts.get(name, now)
            if cut is not None:
                return cut
            name = name.parent()
        return self._root

    def _remember(self, cut: _Cut, message: dns.message.Message) -> _Cut:
        now = self._clock.now()
        rrset = find_rrset(message.authority, cut.zone, dns.rdatatype.NS)
        ttl = 0 if rrset is None else rrset.ttl
        self._cuts.put(cut.zone, cut, now + min(max(ttl, _CUT_TTL_MIN), self._limits.max_ttl), now)
        return cut

    async def _ask_zone(
        self,
        cut: _Cut,
        name: dns.name.Name,
        rdtype: RdataType,
        budget: Budget,
        avoid: frozenset[Address],
        pending: tuple[dns.name.Name, ...],
    ) -> tuple[Reply, _Cut | None]:
        """Ask the servers of one zone until one answers or refers further down."""
        problem = f"no server of {cut.zone} has an address"
        attempts = 0
        known = self._known_addresses(cut)
        unknown = [ns for ns in self._traffic.shuffled(cut.nameservers) if ns not in pending]
        looked_up = 0
        while True:
            servers: list[Address] = [(host, self._port) for host in known]
            for _ in range(2):
                silent: list[Address] = []
                for server in self._traffic.in_order(servers, cut.zone, avoid):
                    attempts += 1
                    if attempts > self._limits.attempts:
                        raise ResolutionError(f"{name} {dns.rdatatype.to_text(rdtype)}: {problem}")
                    try:
                        message = await self._traffic.ask(server, name, rdtype, 0, budget)
                    except ExchangeError as error:
                        problem = str(error)
                        silent.append(server)
                        continue
                    referral = self._referral(cut, message, name, rdtype)
                    observe = self._traffic.observe
                    if referral is not None:
                        if observe is not None:
                            to = referral
                            observe(Referred(cut.zone, server, to.zone, to.nameservers, to.addresses))
                        return Reply(message, server), referral
                    if _is_answer(message, name, rdtype, cut.zone):
                        return Reply(message, server), None
                    self._traffic.lame(server, cut.zone)
                    problem = f"{server[0]} does not serve {cut.zone} ({dns.rcode.to_text(message.rcode())})"
                    if observe is not None:
                        observe(ServerLame(cut.zone, server, problem))
                servers = silent  # a datagram may have been lost
            # All known addresses failed: look up the next name server that has none yet.
            known = []
            while not known:
                if (
                    not unknown
                    or looked_up >= self._limits.glueless_names
                    or len(pending) >= self._limits.glueless_depth
                ):
                    raise ResolutionError(f"{name} {dns.rdatatype.to_text(rdtype)}: {problem}")
                nameserver = unknown.pop()
                if self._addresses.get(nameserver, self._clock.now()) is None:
                    looked_up += 1
                    known = list(await self._look_up(nameserver, budget, pending))

    def _known_addresses(self, cut: _Cut) -> list[str]:
        now = self._clock.now()
        known = list(cut.addresses)
        for nameserver in cut.nameservers:
            known.extend(self._addresses.get(nameserver, now) or ())
        return list(dict.fromkeys(known))

    async def _look_up(
        self, nameserver: dns.name.Name, budget: Budget, pending: tuple[dns.name.Name, ...]
    ) -> tuple[str, ...]:
        """Addresses of a name server without glue; none when they cannot be found."""
        for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                reply = await self._ask(nameserver, rdtype, budget, frozenset(), (*pending, nameserver))
            except BudgetError:
                raise
            except ResolutionError:
                continue
            rrset = find_rrset(reply.message.answer, nameserver, rdtype)
            if rrset is not None:
                now = self._clock.now()
                addresses = tuple(rdata.address for rdata in rrset)[:16]
                expires = now + min(max(rrset.ttl, _CUT_TTL_MIN), self._limits.max_ttl)
                self._addresses.put(nameserver, addresses, expires, now)
                return addresses
        return ()

    def _referral(self, cut: _Cut, message: dns.message.Message, name: dns.name.Name, rdtype: RdataType) -> _Cut | None:
        """The delegation that *message* refers to, if it is one towards *name* (RFC 1034, section 4.3.2, step 3b)."""
        if message.rcode() != dns.rcode.NOERROR or message.answer:
            return None
        for rrset in message.authority:
            if rrset.rdtype != dns.rdatatype.NS or rrset.rdclass != dns.rdataclass.IN:
                continue
            zone = rrset.name
            if zone == cut.zone or not zone.is_subdomain(cut.zone) or not name.is_subdomain(zone):
                continue
            if rdtype == _DS and zone == name:
                continue  # a server that knows nothing of DS: no answer
            nameservers = tuple(dict.fromkeys(rdata.target for rdata in rrset))[:32]
            addresses: list[str] = []
            for glue in message.additional:
                # Only what the zone that was asked is authoritative for, or delegates, is glue.
                if (
                    glue.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
                    and glue.rdclass == dns.rdataclass.IN
                    and glue.name in nameservers
                    and glue.name.is_subdomain(cut.zone)
                ):
                    addresses.extend(rdata.address for rdata in glue)
            return _Cut(zone, nameservers, tuple(dict.fromkeys(addresses))[:32])
        return None


def _is_answer(message: dns.message.Message, name: dns.name.Name, rdtype: RdataType, zone: dns.name.Name) -> bool:
    """Whether *message* is an authoritative answer about *name* from a server of *zone* or of one below it."""
    if message.rcode() not in _ANSWERING or not message.flags & dns.flags.AA:
        return False
    if message.answer:
        return any(
            rrset.name == name or (rrset.rdtype == dns.rdatatype.DNAME and name.is_subdomain(rrset.name))
            for rrset in message.answer
        )
    # Without SOA (RFC 2308, section 2.2) it is still an answer; with the SOA of another tree it is not, and neither is
    # the child's denial of DS, which only its parent can deny.
    return all(
        rrset.name.is_subdomain(zone)
        and name.is_subdomain(rrset.name)
        and (rdtype != _DS or rrset.name != name or name == dns.name.root)
        for rrset in message.authority
        if rrset.rdtype == dns.rdatatype.SOA
    )


async def until_not_bogus(
    upstream: Upstream,
    other_servers: int,
    name: dns.name.Name,
    rdtype: RdataType,
    budget: Budget,
    judge: Callable[[Reply], Awaitable[T]],
    is_bogus: Callable[[T], bool],
) -> T:
    """Ask, and if the answer is bogus ask other servers: one provider may serve what another does not.

    :param other_servers: servers that are asked after the first one.
    :param judge: says what an answer is.
    :param is_bogus: says whether that is a reason to ask elsewhere.
    :raises ResolutionError: no server gave an answer.
    """
    avoid: set[Address] = set()
    while True:
        reply = await upstream.ask(name, rdtype, budget, frozenset(avoid))
        verdict = await judge(reply)
        if not is_bogus(verdict) or reply.server in avoid or len(avoid) >= other_servers:
            return verdict
        avoid.add(reply.server)
