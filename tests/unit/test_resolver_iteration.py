"""The resolver against scripted servers on loopback: referrals, aliases, memory, failures and hostile zones."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mpcore.errors import ResolutionError
from mpcore.net.network import InternetNetwork
from mpcore.net.resolver import Answer, Resolver, ResolverLimits, Security
from mpcore.net.resolver_service import RecursiveService
from mpcore.net.server import DnsServer, Request

pytestmark = pytest.mark.anyio

_BLOCK = f"127.{random.randrange(16, 250)}.{os.getpid() % 250}"
ROOT, FIRST, SECOND, SILENT = (f"{_BLOCK}.{number}" for number in (1, 2, 3, 99))


class ManualClock:
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time


@dataclass
class Script:
    """A server: records, where it delegates, and what it does out of the ordinary."""

    records: list[str] = field(default_factory=list)
    delegations: dict[str, list[str]] = field(default_factory=dict)  #: zone -> NS records and glue
    soa: str = "example. 300 IN SOA ns.example. h.example. 1 3600 600 86400 60"
    behave: Callable[[dns.message.Message, dns.message.Message], dns.message.Message | None] | None = None
    asked: Counter[str] = field(default_factory=Counter)

    async def __call__(self, request: Request) -> bytes | None:
        query = dns.message.from_wire(request.octets)
        question = query.question[0]
        self.asked[f"{question.name} {dns.rdatatype.to_text(question.rdtype)}"] += 1
        response = dns.message.make_response(query)
        self._fill(response, question.name, question.rdtype)
        if self.behave is not None:
            changed = self.behave(query, response)
            if changed is None:
                return None
            response = changed
        if not request.over_tcp and len(response.to_wire(max_size=65535)) > 1232:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.TC | dns.flags.AA
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> None:
        for zone, records in self.delegations.items():
            if name.is_subdomain(dns.name.from_text(zone)) and not (name.to_text() == zone and rdtype == 43):
                for rrset in rrsets(records):
                    section = response.authority if rrset.rdtype == dns.rdatatype.NS else response.additional
                    section.append(rrset)
                return
        response.flags |= dns.flags.AA
        known = rrsets(self.records)
        response.answer = [
            rrset for rrset in known if rrset.name == name and rrset.rdtype in (rdtype, dns.rdatatype.CNAME)
        ] or [rrset for rrset in known if rrset.rdtype == 39 and name != rrset.name and name.is_subdomain(rrset.name)]
        if not response.answer:
            response.authority = rrsets([self.soa])
            if not any(rrset.name.is_subdomain(name) for rrset in known):
                response.set_rcode(dns.rcode.NXDOMAIN)


def rrsets(records: Sequence[str]) -> list[dns.rrset.RRset]:
    """RRsets of records in text."""
    found: dict[tuple[str, str], list[list[str]]] = {}
    for record in records:
        owner, ttl, _, rdtype, rdata = record.split(None, 4)
        found.setdefault((owner, rdtype), []).append([ttl, rdata])
    return [
        dns.rrset.from_text(owner, int(rows[0][0]), "IN", rdtype, *(row[1] for row in rows))
        for (owner, rdtype), rows in found.items()
    ]


@dataclass
class World:
    """Scripted servers, a clock and a resolver that knows the root."""

    servers: dict[str, Script]
    port: int
    clock: ManualClock = field(default_factory=ManualClock)

    def resolver(self, **changes: object) -> Resolver:
        arguments: dict[str, object] = {
            "trust_anchors": (),
            "root_hints": [ROOT],
            "port": self.port,
            "clock": self.clock,
            "random": random.Random(1),
            "timeout": 0.2,
        }
        return Resolver(InternetNetwork(), **{**arguments, **changes})  # type: ignore[arg-type]

    @property
    def queries(self) -> int:
        return sum(sum(server.asked.values()) for server in self.servers.values())


@asynccontextmanager
async def world(**servers: Script) -> AsyncIterator[World]:
    """Servers by the names ``root``, ``first`` and ``second``."""
    addresses = {"root": ROOT, "first": FIRST, "second": SECOND}
    async with anyio.create_task_group() as tasks:
        port = 0
        for role, script in servers.items():
            server = DnsServer(InternetNetwork(), [(addresses[role], port)])
            server.register(script, 0)
            port = (await tasks.start(server.serve))[0][1]
        yield World(servers, port)
        tasks.cancel_scope.cancel()


def delegation(zone: str, *addresses: str, ttl: int = 300) -> dict[str, list[str]]:
    records = []
    for index, address in enumerate(addresses):
        records += [f"{zone} {ttl} IN NS ns{index}.{zone}", f"ns{index}.{zone} {ttl} IN A {address}"]
    return {zone: records}


def root_of(*addresses: str) -> Script:
    soa = ". 300 IN SOA ns. h. 1 3600 600 86400 60"
    return Script(delegations=delegation("example.", *addresses), soa=soa)


def example(*records: str, **changes: object) -> Script:
    return Script(records=["www.example. 300 IN A 192.0.2.1", *records], **changes)  # type: ignore[arg-type]


def addresses_of(answer: Answer) -> list[str]:
    return sorted(rdata.address for rdata in answer.rrset or ())


# --- following referrals and aliases ---


async def test_from_the_root_to_an_answer_and_then_from_memory() -> None:
    async with world(root=root_of(FIRST), first=example()) as w:
        resolver = w.resolver()
        answer = await resolver.resolve("www.example.", "A")
        assert addresses_of(answer) == ["192.0.2.1"]
        assert answer.security is Security.INDETERMINATE, "there is no trust anchor"
        assert w.queries == 2
        w.clock.time += 100
        answer = await resolver.resolve("WWW.example", 1)
        assert w.queries == 2
        assert answer.rrset is not None
        assert answer.rrset.ttl == 200
        assert answer.expires == w.clock.time + 200
        await resolver.resolve("www.example.", "TXT")
        assert w.servers["root"].asked.total() == 1, "the delegation is remembered"
        w.clock.time += 201
        await resolver.resolve("www.example.", "A")
        assert w.servers["first"].asked["www.example. A"] == 2
        stats = resolver.stats()
        assert (stats.questions, stats.cache_hits, stats.failures) == (4, 1, 0)


async def test_absence_is_an_answer_and_kept_as_long_as_the_soa_says() -> None:
    """RFC 2308, sections 3 and 5: the lesser of the SOA's TTL and its MINIMUM field."""
    async with world(root=root_of(FIRST), first=example()) as w:
        resolver = w.resolver()
        missing = await resolver.resolve("nothing.example.", "A")
        assert (missing.rcode, missing.rrset) == (dns.rcode.NXDOMAIN, None)
        assert missing.expires == w.clock.time + 60
        asked = w.queries
        assert (await resolver.resolve("nothing.example.", "TXT")).rcode == dns.rcode.NXDOMAIN, "no type exists there"
        no_data = await resolver.resolve("www.example.", "TXT")
        assert (no_data.rcode, no_data.rrset) == (dns.rcode.NOERROR, None)
        assert w.queries == asked + 1
        w.clock.time += 61
        await resolver.resolve("nothing.example.", "A")
        assert w.servers["first"].asked["nothing.example. A"] == 2


async def test_ttl_zero_and_absence_without_soa_are_not_remembered() -> None:
    def without_soa(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response.authority = []
        return response

    fleeting = example("fleeting.example. 0 IN A 192.0.2.7", behave=without_soa)
    async with world(root=root_of(FIRST), first=fleeting) as w:
        resolver = w.resolver()
        for _ in range(3):
            assert addresses_of(await resolver.resolve("fleeting.example.", "A")) == ["192.0.2.7"]
            assert (await resolver.resolve("nothing.example.", "A")).rcode == dns.rcode.NXDOMAIN
        assert w.servers["first"].asked["fleeting.example. A"] == 3
        assert w.servers["first"].asked["nothing.example. A"] == 3


async def test_lifetimes_are_capped() -> None:
    async with world(root=root_of(FIRST), first=example("old.example. 2147483647 IN A 192.0.2.7")) as w:
        answer = await w.resolver().resolve("old.example.", "A")
        assert answer.expires == w.clock.time + 86400


async def test_aliases_are_followed_and_bounded() -> None:
    chain = [f"c{index}.example. 300 IN CNAME c{index + 1}.example." for index in range(40)]
    script = example(
        *chain,
        "alias.example. 20 IN CNAME www.example.",
        "one.example. 300 IN CNAME two.example.",
        "two.example. 300 IN CNAME one.example.",
        "tree.example. 300 IN DNAME example.",
        f"long.example. 300 IN DNAME {'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 40}.example.",
    )
    async with world(root=root_of(FIRST), first=script) as w:
        resolver = w.resolver()
        answer = await resolver.resolve("alias.example.", "A")
        assert addresses_of(answer) == ["192.0.2.1"]
        assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.CNAME, dns.rdatatype.A]
        assert answer.expires == w.clock.time + 20
        answer = await resolver.resolve("www.tree.example.", "A")
        assert addresses_of(answer) == ["192.0.2.1"]
        assert [rrset.rdtype for rrset in answer.answer] == [39, dns.rdatatype.CNAME, dns.rdatatype.A]
        made = await resolver.resolve("www.tree.example.", "CNAME")
        assert made.rrset is not None
        assert made.rrset[0].target.to_text() == "www.example."
        with pytest.raises(ResolutionError, match="circle"):
            await resolver.resolve("one.example.", "A")
        with pytest.raises(ResolutionError, match="aliases"):
            await resolver.resolve("c0.example.", "A")
        too_long = await resolver.resolve(f"{'x' * 63}.long.example.", "A")
        assert too_long.rcode == dns.rcode.YXDOMAIN


async def test_a_large_answer_comes_over_tcp() -> None:
    script = example(*(f'big.example. 300 IN TXT "{index:03}{"x" * 200}"' for index in range(20)))
    async with world(root=root_of(FIRST), first=script) as w:
        resolver = w.resolver()
        answer = await resolver.resolve("big.example.", "TXT")
        assert answer.rrset is not None
        assert len(answer.rrset) == 20
        assert resolver.stats().over_tcp == 1


async def test_name_servers_without_glue_are_looked_up() -> None:
    root = root_of(FIRST)
    root.delegations["other."] = ["other. 300 IN NS ns.example."]
    second = Script(records=["www.other. 300 IN A 192.0.2.5"], soa="other. 300 IN SOA a. b. 1 1 1 1 60")
    async with world(root=root, first=example(f"ns.example. 300 IN A {SECOND}"), second=second) as w:
        assert addresses_of(await w.resolver().resolve("www.other.", "A")) == ["192.0.2.5"]


# --- servers that misbehave ---


async def test_a_dead_server_costs_little_and_is_avoided_for_a_while() -> None:
    async with world(root=root_of(SILENT, FIRST), first=example("b.example. 300 IN A 192.0.2.2")) as w:
        resolver = w.resolver()
        for name in ("www.example.", "b.example.", "c.example.", "d.example.", "e.example."):
            await resolver.resolve(name, "A")
        assert resolver.stats().timeouts <= 1


async def test_a_lame_server_is_passed_over() -> None:
    def refuse(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.REFUSED)
        return response

    async with world(root=root_of(FIRST, SECOND), first=Script(behave=refuse), second=example()) as w:
        resolver = w.resolver()
        for index in range(8):
            await resolver.resolve(f"n{index}.example.", "A")
        assert w.servers["first"].asked.total() <= 1


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.SERVFAIL, dns.rcode.NOERROR])
async def test_a_server_that_is_not_ready_is_asked_again_within_a_second(rcode: dns.rcode.Rcode) -> None:
    """A world that is starting: the zone comes up a moment later, and nobody waits long for that to be noticed."""
    ready = False

    def not_ready(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        if ready:
            return response
        response = dns.message.make_response(query)
        response.set_rcode(rcode)
        return response

    async with world(root=root_of(FIRST), first=example(behave=not_ready)) as w:
        resolver = w.resolver()
        with pytest.raises(ResolutionError, match="does not serve"):
            await resolver.resolve("www.example.", "A")
        asked = w.queries
        with pytest.raises(ResolutionError):
            await resolver.resolve("www.example.", "A")
        assert w.queries == asked, "remembered"
        w.clock.time += 0.11
        ready = True
        assert addresses_of(await resolver.resolve("www.example.", "A")) == ["192.0.2.1"]


async def test_a_server_without_edns_is_asked_without() -> None:
    def old(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        if query.edns < 0:
            return response
        response = dns.message.make_response(query)
        response.use_edns(False)
        response.set_rcode(dns.rcode.FORMERR)
        return response

    async with world(root=root_of(FIRST), first=example(behave=old)) as w:
        resolver = w.resolver()
        assert addresses_of(await resolver.resolve("www.example.", "A")) == ["192.0.2.1"]
        await resolver.resolve("other.example.", "A")
        assert w.servers["first"].asked["other.example. A"] == 1, "that is remembered"


async def test_a_zone_that_moved_is_found_again() -> None:
    async with world(root=root_of(FIRST), first=example(), second=example()) as w:
        resolver = w.resolver()
        await resolver.resolve("www.example.", "A")

        def gone(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
            refusal = dns.message.make_response(query)
            refusal.set_rcode(dns.rcode.REFUSED)
            return refusal

        w.servers["first"].behave = gone
        w.servers["root"].delegations = delegation("example.", SECOND)
        assert (await resolver.resolve("www.example.", "TXT")).rcode == dns.rcode.NOERROR


async def test_flush_forgets_a_subtree_or_one_name() -> None:
    async with world(root=root_of(FIRST), first=example("a.www.example. 300 IN A 192.0.2.3")) as w:
        resolver = w.resolver()

        async def ask_both() -> tuple[int, int]:
            before = Counter(w.servers["first"].asked)
            for name in ("www.example.", "a.www.example."):
                await resolver.resolve(name, "A")
            after = w.servers["first"].asked - before
            return after["www.example. A"], after["a.www.example. A"]

        assert await ask_both() == (1, 1)
        assert await ask_both() == (0, 0)
        assert resolver.flush("www.example.", subtree=False) == 1
        assert await ask_both() == (1, 0)
        assert resolver.flush("www.example.") == 2
        assert await ask_both() == (1, 1)
        resolver.flush(".")
        assert await ask_both() == (1, 1)
        assert w.servers["root"].asked.total() == 2


# --- many at once ---


async def test_the_same_question_is_asked_once() -> None:
    async with world(root=root_of(FIRST), first=example()) as w:
        resolver = w.resolver()
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await resolver.resolve("www.example.", "A"))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
        assert len(answers) == 20
        assert w.servers["first"].asked["www.example. A"] == 1


async def test_whoever_waits_survives_the_cancellation_of_the_one_who_asks() -> None:
    asked, proceed = anyio.Event(), anyio.Event()

    class Slow(Script):
        async def __call__(self, request: Request) -> bytes | None:
            asked.set()
            await proceed.wait()
            return await super().__call__(request)

    async with world(root=root_of(FIRST), first=Slow(records=["www.example. 300 IN A 192.0.2.1"])) as w:
        resolver = w.resolver(timeout=5.0)
        answers: list[Answer] = []
        scope = anyio.CancelScope()

        async def leader() -> None:
            with scope:
                await resolver.resolve("www.example.", "A")

        async def follower() -> None:
            answers.append(await resolver.resolve("www.example.", "A"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leader)
            await asked.wait()
            tasks.start_soon(follower)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            proceed.set()
        assert [addresses_of(answer) for answer in answers] == [["192.0.2.1"]]


async def test_what_is_on_its_way_during_a_flush_is_not_remembered() -> None:
    asked, proceed = anyio.Event(), anyio.Event()

    class Slow(Script):
        async def __call__(self, request: Request) -> bytes | None:
            answer = await super().__call__(request)
            asked.set()
            await proceed.wait()
            return answer

    slow = Slow(records=["www.example. 300 IN A 192.0.2.1"])
    async with world(root=root_of(FIRST), first=slow) as w:
        resolver = w.resolver(timeout=5.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resolver.resolve, "www.example.", "A")
            await asked.wait()
            resolver.flush("www.example.")
            slow.records = ["www.example. 300 IN A 192.0.2.2"]
            proceed.set()
        assert addresses_of(await resolver.resolve("www.example.", "A")) == ["192.0.2.2"]


# --- hostile zones ---


async def test_delegations_to_many_names_without_glue_cost_little() -> None:
    """NXNSAttack: a delegation to hundreds of name servers, each of which would have to be looked up."""
    root = root_of(FIRST)
    root.delegations["evil."] = [f"evil. 300 IN NS ns{index}.victim." for index in range(200)]
    async with world(root=root, first=example()) as w:
        with pytest.raises(ResolutionError):
            await w.resolver().resolve("www.evil.", "A")
        assert w.queries < 20


async def test_delegations_that_lead_to_each_other_end() -> None:
    root = root_of(FIRST)
    root.delegations["a."] = ["a. 300 IN NS ns.b."]
    root.delegations["b."] = ["b. 300 IN NS ns.a."]
    async with world(root=root) as w:
        with pytest.raises(ResolutionError):
            await w.resolver().resolve("www.a.", "A")
        assert w.queries < 20


async def test_endless_referrals_end() -> None:
    def deeper(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        labels = query.question[0].name.labels
        deeper.depth += 1  # type: ignore[attr-defined]
        zone = dns.name.Name(labels[-2 - deeper.depth :])  # type: ignore[attr-defined]
        for rrset in rrsets(delegation(zone.to_text(), FIRST)[zone.to_text()]):
            section = response.authority if rrset.rdtype == dns.rdatatype.NS else response.additional
            section.append(rrset)
        return response

    deeper.depth = 0  # type: ignore[attr-defined]
    async with world(root=root_of(FIRST), first=Script(behave=deeper)) as w:
        with pytest.raises(ResolutionError, match="referrals"):
            await w.resolver().resolve(".".join(["x"] * 100) + ".example.", "A")
        assert w.queries <= 25


async def test_work_for_one_question_is_bounded() -> None:
    chain = [f"c{index}.example. 0 IN CNAME c{index + 1}.example." for index in range(10)]
    async with world(root=root_of(FIRST), first=example(*chain)) as w:
        with pytest.raises(ResolutionError, match="more than 5 messages"):
            await w.resolver(limits=ResolverLimits(queries=5)).resolve("c0.example.", "A")
        assert w.queries == 5


async def test_addresses_from_outside_the_delegating_zone_are_not_believed() -> None:
    """The servers of example. say where the servers of other. are; that is none of their business."""
    lie = rrsets(["www.sub.example. 300 IN A 192.0.2.99"])

    def lying(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        if w.servers["first"].asked["www.sub.example. A"] > 1:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.AA
            response.answer = lie
        return response

    poisoned = example(behave=lying)
    poisoned.delegations["sub.example."] = ["sub.example. 300 IN NS ns.other.", f"ns.other. 300 IN A {FIRST}"]
    root = root_of(FIRST)
    root.delegations["other."] = delegation("other.", SECOND)["other."]
    honest = Script(
        records=[f"ns.other. 300 IN A {SECOND}", "www.sub.example. 300 IN A 192.0.2.66"],
        soa="sub.example. 300 IN SOA a. b. 1 1 1 1 60",
    )
    async with world(root=root, first=poisoned, second=honest) as w:
        assert addresses_of(await w.resolver().resolve("www.sub.example.", "A")) == ["192.0.2.66"]
        assert w.servers["second"].asked["ns.other. A"] == 1


async def test_answers_that_refer_upwards_or_are_not_authoritative_are_not_taken() -> None:
    def upward(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.authority = rrsets([". 300 IN NS ns."])
        return response

    def hearsay(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response.flags &= ~dns.flags.AA
        return response

    for behave in (upward, hearsay):
        async with world(root=root_of(FIRST), first=example(behave=behave)) as w:
            with pytest.raises(ResolutionError, match="does not serve example"):
                await w.resolver().resolve("www.example.", "A")


async def test_an_answer_to_something_else_is_ignored() -> None:
    def other_question(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response.question = [dns.rrset.RRset(dns.name.from_text("evil."), 1, 1)]
        return response

    async with world(root=root_of(FIRST), first=example(behave=other_question)) as w:
        with pytest.raises(ResolutionError):
            await w.resolver(timeout=0.05).resolve("www.example.", "A")


# --- what cannot be asked ---


@pytest.mark.parametrize("rdtype", ["ANY", "AXFR", "RRSIG", "OPT", 0, "NO-SUCH-TYPE", 70000])
async def test_types_that_are_no_data_are_refused(rdtype: int | str) -> None:
    async with world(root=root_of(FIRST)) as w:
        with pytest.raises(ResolutionError):
            await w.resolver().resolve("www.example.", rdtype)
        assert w.queries == 0


async def test_names_that_are_none_are_refused() -> None:
    async with world(root=root_of(FIRST)) as w:
        with pytest.raises(ResolutionError, match="not a domain name"):
            await w.resolver().resolve("a..b", "A")


def test_a_resolver_needs_somewhere_to_ask() -> None:
    with pytest.raises(ValueError, match="root hints or forwarders"):
        Resolver(InternetNetwork(), trust_anchors=(), clock=ManualClock(), random=random.Random(1))


# --- the service ---


def request(query: dns.message.Message, source: str = "127.0.0.1", over_tcp: bool = False) -> Request:
    question = query.question[0]
    return Request(
        octets=query.to_wire(),
        source=(source, 4000),
        over_tcp=over_tcp,
        id=query.id,
        opcode=0,
        qname=question.name.to_wire() or b"",
        qtype=question.rdtype,
        qclass=question.rdclass,
    )


async def test_the_service_answers_and_refuses() -> None:
    script = example(*(f'big.example. 300 IN TXT "{index:03}{"x" * 200}"' for index in range(20)))
    async with world(root=root_of(FIRST), first=script) as w:
        service = RecursiveService(w.resolver())

        async def ask(
            query: dns.message.Message, source: str = "127.0.0.1", over_tcp: bool = False
        ) -> dns.message.Message:
            return dns.message.from_wire(await service(request(query, source, over_tcp)))

        query = dns.message.make_query("www.example.", "A")
        response = await ask(query)
        assert query.is_response(response)
        assert response.flags & dns.flags.RA
        assert not response.flags & (dns.flags.AA | dns.flags.AD)
        assert [rrset.to_text() for rrset in response.answer] == ["www.example. 300 IN A 192.0.2.1"]
        assert (await ask(query, "192.0.2.1")).rcode() == dns.rcode.REFUSED
        assert (await ask(query, "::ffff:127.0.0.1")).rcode() == dns.rcode.NOERROR
        assert (await ask(dns.message.make_query("nothing.example.", "A"))).rcode() == dns.rcode.NXDOMAIN
        query.flags &= ~dns.flags.RD
        assert (await ask(query)).rcode() == dns.rcode.REFUSED
        assert (await ask(dns.message.make_query("version.bind.", "TXT", "CH"))).rcode() == dns.rcode.REFUSED
        assert (await ask(dns.message.make_query("www.example.", "ANY"))).rcode() == dns.rcode.SERVFAIL
        big = dns.message.make_query("big.example.", "TXT")
        assert (await ask(big)).flags & dns.flags.TC
        assert len((await ask(big, over_tcp=True)).answer[0]) == 20
        garbage = request(query)
        octets = garbage.octets + b"\0"
        broken = Request(octets, garbage.source, False, garbage.id, 0, garbage.qname, garbage.qtype, garbage.qclass)
        assert (await service(broken))[3] & 0x0F == dns.rcode.FORMERR
