"""Whole providers in one process: agents, combiners, signers and the DNS around them, for tests.

:class:`World` lays out a root zone, ``example.`` and the owner of ``customer.example.``, each on an address of its own,
and any number of providers.  With a :class:`~mpcore.sim.network.SimNetwork` everything stays in memory, so that it runs
on trio's virtual clock; without, on loopback addresses of its own with real sockets.

:class:`Stranger` is a party whose messages the test makes itself: it has a key, an address and a DNS server that notes
what it is sent.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.abc
import dns.dnssec
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import sniffio
from blockbuster import blockbuster as _blockbuster

from mpcore.control.models import Group
from mpcore.names import ZoneName
from mpcore.net.acl import Acl
from mpcore.net.client import exchange
from mpcore.net.clock import Clock, SystemClock
from mpcore.net.http_links import HttpLinks, HttpTarget
from mpcore.net.messages import NOTIFY, QUERY
from mpcore.net.mutual_tls import MutualTls
from mpcore.net.network import InternetNetwork, Network
from mpcore.net.remote import RemoteServer
from mpcore.net.server import DnsServer, Request
from mpcore.net.transfer import TransferServer
from mpcore.node.agent import AgentNode
from mpcore.node.base import Node
from mpcore.node.combiner import CombinerNode
from mpcore.node.https import certificate_key, public_octets
from mpcore.node.runtime import Runtime
from mpcore.node.settings import (
    AgentSettings,
    CombinerSettings,
    ConfiguredPeer,
    Endpoint,
    HttpsSettings,
    IdentityZoneSettings,
    Primary,
    ResolverSettings,
    Secondary,
    SignerSettings,
    UpstreamSigner,
    ZoneSettings,
)
from mpcore.node.signer import SignerNode
from mpcore.peer.identity_zone import HTTPS_PATH, identity_zone_records
from mpcore.records import CHUNK, CHUNK_TYPE, HSYNC3, HSYNC3_TYPE, HSYNCPARAM, HSYNCPARAM_TYPE
from mpcore.signer.keys import SigningKey, dump_pem, generate_private_key
from mpcore.signer.signing import SigningPolicy, ZoneSigner
from mpcore.sim.network import SimNetwork
from mpcore.store.database import inline_executor
from mpcore.wire import frame
from mpcore.wire.messages import Acknowledgement, Message, decode_acknowledgement, decode_message
from mpcore.wire.seal import PrivateKey, PublicKey, seal, unseal, write_private_key, write_public_key
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.rrset import RRset, parse_rdata, record_text, type_from_text
from mpcore.zone.version import ZoneVersion

__all__ = ("CUSTOMER", "Provider", "Received", "Running", "Sent", "Stranger", "World", "inline", "may_block")

CUSTOMER = "customer.example."
ROLES = {"agent": AgentNode, "combiner": CombinerNode, "signer": SignerNode}
_DNSKEY = 48
_blocks = itertools.count()
_T = TypeVar("_T")


async def inline(function: Callable[..., _T], *arguments: Any) -> _T:
    """Runs what would run in a worker thread."""
    await anyio.lowlevel.checkpoint()
    return function(*arguments)


@contextmanager
def may_block() -> Any:
    """Files may be read here: a node is made while its event loop has nothing else to do."""
    _blockbuster._skip.value, before = True, _blockbuster._skip.value
    try:
        yield
    finally:
        _blockbuster._skip.value = before


@cache
def jwk(identity: str) -> PrivateKey:
    """The message key of *identity*, the same in all tests of a process."""
    return PrivateKey.generate()


@cache
def _pem(zone: str, kind: str) -> str:
    return dump_pem(generate_private_key(13))


def dnssec_key(zone: str, kind: str) -> SigningKey:
    """The ``ksk`` or ``zsk`` of a zone, the same in all tests of a process."""
    return SigningKey.from_pem(zone, _pem(str(zone), kind), ksk=kind == "ksk", now=0.0)


def _octets(record: Any) -> bytes:
    octets: bytes = record.to_wire()
    return octets


def build(origin: str, records: Iterable[tuple[str, str, Sequence[str]]], serial: int = 1) -> ZoneVersion:
    """An unsigned zone of (owner, type, RDATA texts); the SOA is made here."""
    soa = f"ns.example. hostmaster.example. {serial} 3600 600 604800 5"
    rrsets: dict[tuple[bytes, int], list[bytes]] = {}
    for owner, rrtype, texts in [(origin, "SOA", [soa]), *records]:
        rdtype = type_from_text(rrtype)
        rrsets.setdefault((owners.from_text(owner), rdtype), []).extend(parse_rdata(rdtype, text) for text in texts)
    return ZoneVersion.build(
        ZoneName(origin).owner,
        ((owner, RRset.make(rdtype, 300, rdatas)) for (owner, rdtype), rdatas in rrsets.items()),
    )


def _signed(version: ZoneVersion, now: float) -> ZoneVersion:
    zone = owners.to_text(version.origin)
    signer = ZoneSigner(version.origin, SigningPolicy(publish_cds=False))
    signer.set_keys([dnssec_key(zone, kind) for kind in ("ksk", "zsk")], ())
    return signer.sign(version, now, version.serial)


def _ds(zone: str) -> str:
    octets = dnssec_key(zone, "ksk").dnskey
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, octets, 0, len(octets))
    return dns.dnssec.make_ds(owners.to_text(ZoneName(zone).owner), rdata, "SHA256").to_text()


@dataclass(frozen=True)
class Provider:
    """One provider's names and addresses."""

    label: str
    number: int
    block: str
    signs: bool = True
    upstream: str = ""

    def identity(self, role: str) -> str:
        return f"{role}.{self.label}.example."

    def address(self, role: str) -> str:
        return f"{self.block}.{self.number}{1 + list(ROLES).index(role)}"


@dataclass
class Running:
    """A node at work."""

    node: Any
    scope: anyio.CancelScope
    ended: anyio.Event = field(default_factory=anyio.Event)
    error: BaseException | None = None


class World:
    """Everything around the nodes, and the nodes that the test starts.

    :param directory: for keys and databases.
    :param wire: the network in memory; ``None``: loopback addresses and real sockets.
    :param providers: labels.
    :param signers: labels of those that sign; ``None``: all.
    :param identities: label -> identity of its agent in HSYNC3, where a test plays it under another name.
    :param keys: identity -> message key, where the test knows it.
    :param customers: the owner's zones, instead of ``customer.example.``.
    """

    def __init__(
        self,
        directory: Path,
        wire: SimNetwork | None = None,
        *,
        providers: Sequence[str] = ("alpha", "bravo"),
        signers: Sequence[str] | None = None,
        nsmgmt: str = "agent",
        auditors: Sequence[str] = (),
        keys: dict[str, PrivateKey] | None = None,
        epoch: float | None = None,
        seed: int = 1,
        beat_interval: float = 15,
        customers: Sequence[ZoneVersion] = (),
    ) -> None:
        self.directory, self.wire, self.seed, self.epoch = directory, wire, seed, epoch
        self.beat_interval = beat_interval
        self.customers = tuple(customers)
        self.zone_names = tuple(owners.to_text(version.origin) for version in customers) or (CUSTOMER,)
        self.block = "10.0.0" if wire is not None else f"127.{64 + os.getpid() % 128}.{next(_blocks) % 250 + 1}"
        self.port = 53 if wire is not None else 15353
        self.https_port = 443 if wire is not None else 15443
        self.keys = dict(keys or {})
        signing = providers if signers is None else signers
        self.providers = {
            label: Provider(
                label,
                number,
                self.block,
                label in signing,
                "" if label in signing or not signing else signing[0],
            )
            for number, label in enumerate(providers, 1)
        }
        self.auditors = tuple(auditors)
        self.nsmgmt = nsmgmt
        self.running: dict[str, Running] = {}
        self.zones: dict[bytes, ZoneVersion] = {}
        self._networks: dict[str, Network] = {}
        self._owner: dict[bytes, ZoneVersion] = {}
        self._starts = itertools.count()
        self.ids = itertools.count()  #: for distribution ids of strangers

    # ---------------------------------------------------------------- parts

    def key(self, identity: str) -> PrivateKey:
        """The message key of *identity*."""
        return self.keys.get(identity) or jwk(str(identity))

    def network(self, address: str) -> Network:
        """The network as the host at *address* sees it."""
        if self.wire is None:
            return InternetNetwork()
        if address not in self._networks:
            self._networks[address] = self.wire.host(address)
        return self._networks[address]

    def write(self, name: str, text: str) -> Path:
        """A file with mode 0600; written once."""
        path = self.directory / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        return path

    def peer(self, identity: str, address: str) -> ConfiguredPeer:
        """*identity* as another node's configuration has it."""
        file = self.write(f"{identity}pub.jwk", write_public_key(self.key(identity).public()))
        return ConfiguredPeer(identity=identity, address=address, port=self.port, public_key_file=file)

    def settings(self, role: str, label: str, **changes: Any) -> Any:
        """Settings of a provider's node; *changes* replace members."""
        provider = self.providers[label]
        identity, address = provider.identity(role), provider.address(role)
        common: dict[str, Any] = {
            "identity": identity,
            "provider": label,
            "state_dir": self.directory / identity,
            "control_socket": self.directory / identity / "control",
            "listen": (Endpoint(address=address, port=self.port),),
            "key_file": self.write(f"{identity}jwk", write_private_key(self.key(identity))),
            "min_refresh": 5,
        }

        def peer(other: str) -> ConfiguredPeer:
            return self.peer(provider.identity(other), provider.address(other))

        def primary(host: str) -> Primary:
            return Primary(address=host, port=self.port)

        def zone(host: str, *secondaries: str) -> tuple[ZoneSettings, ...]:
            return tuple(
                ZoneSettings(
                    name=name,
                    primaries=(primary(host),),
                    secondaries=tuple(Secondary(address=item, port=self.port) for item in secondaries),
                )
                for name in self.zone_names
            )

        if role == "combiner":
            common |= {"agents": (peer("agent"),), "zones": zone(self.address("owner"), provider.address("signer"))}
            return CombinerSettings(**common | changes)
        if role == "signer":
            downstream = [other.address("signer") for other in self.providers.values() if other.upstream == label]
            upstream = self.providers.get(provider.upstream)
            common |= {
                "agents": (peer("agent"),),
                "zones": zone(provider.address("combiner"), provider.address("agent"), *downstream),
                "upstream_signers": ()
                if upstream is None
                else (UpstreamSigner(label=upstream.label, address=upstream.address("signer"), port=self.port),),
            }
            return SignerSettings(**common | changes)
        common |= {
            "publish": (Endpoint(address=address, port=self.port),),
            "combiner": peer("combiner"),
            "signer": peer("signer"),
            "identity_zone": IdentityZoneSettings(
                nameservers=(f"ns.agent-{label}.example.",),
                ksk_file=self.write(f"{identity}ksk.pem", _pem(str(identity), "ksk")),
                zsk_file=self.write(f"{identity}zsk.pem", _pem(str(identity), "zsk")),
            ),
            "resolver": ResolverSettings(
                trust_anchor_file=self.write(
                    "anchor.zone", record_text(owners.ROOT, _DNSKEY, 0, dnssec_key(".", "ksk").dnskey) + "\n"
                ),
                root_hints=(self.address("root"),),
                port=self.port,
            ),
            "zones": zone(provider.address("signer")),
            "beat_interval": self.beat_interval,
            "discovery_retry": 2,
            "hello_retry": 15,
        }
        return AgentSettings(**common | changes)

    def https(self, label: str, **changes: Any) -> HttpsSettings:
        """What switches the HTTPS of an agent on."""
        identity, address = self.providers[label].identity("agent"), self.providers[label].address("agent")
        endpoint = Endpoint(address=address, port=self.https_port)
        common: dict[str, Any] = {
            "listen": (endpoint,),
            "publish": (endpoint,),
            "key_file": self.write(f"{identity}https.jwk", write_private_key(self.key(f"https.{identity}"))),
        }
        return HttpsSettings(**common | changes)

    def address(self, server: str) -> str:
        """Address of ``root``, ``parent`` or ``owner``."""
        return f"{self.block}.{('root', 'parent', 'owner').index(server) + 1}"

    def runtime(self, address: str, **changes: Any) -> Runtime:
        """The world around one node."""
        runtime = Runtime(
            network=self.network(address),
            clock=SystemClock(self.epoch),
            random=random.Random(self.seed * 1000 + next(self._starts)),
        )
        if self.wire is not None and sniffio.current_async_library() == "trio":
            runtime = replace(runtime, run_blocking=inline, executor=inline_executor)
        return replace(runtime, **changes)

    def customer(self, serial: int = 1, *, left: Sequence[str] = ()) -> ZoneVersion:
        """The owner's zone.

        :param left: labels of providers that are not in it any more.
        """
        providers = [provider for provider in self.providers.values() if provider.label not in left]
        version = build(
            CUSTOMER,
            [
                (CUSTOMER, "NS", [f"ns.{provider.label}.example." for provider in providers]),
                (f"www.{CUSTOMER}", "A", ["192.0.2.80"]),
            ],
            serial,
        )
        records = [HSYNC3.make(provider.label, provider.identity("agent"), provider.upstream) for provider in providers]
        records += [HSYNC3.make(f"audit{number}", name) for number, name in enumerate(self.auditors)]
        parameters = HSYNCPARAM.make(
            nsmgmt=self.nsmgmt,
            parentsync="agent",
            servers=[provider.label for provider in providers],
            signers=[provider.label for provider in providers if provider.signs],
            auditors=[f"audit{number}" for number in range(len(self.auditors))],
        )
        apex = version.origin
        return version.update(
            [
                (apex, HSYNC3_TYPE, RRset.make(HSYNC3_TYPE, 300, [_octets(record) for record in records])),
                (apex, HSYNCPARAM_TYPE, RRset.make(HSYNCPARAM_TYPE, 300, [_octets(parameters)])),
            ]
        )

    def publish_customer(self, version: ZoneVersion) -> None:
        """Let the owner serve another version of its zone; who asks gets it."""
        self._owner[version.origin] = version

    # ----------------------------------------------------------------- life

    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        """Serve root, ``example.`` and the owner's zone; nodes that the test started are stopped at the end."""
        clock = SystemClock(self.epoch)
        async with anyio.create_task_group() as self.tasks:
            await self._serve_dns(clock.now())
            try:
                yield self
            finally:
                self.tasks.cancel_scope.cancel()

    async def _serve_dns(self, now: float) -> None:
        parent: list[tuple[str, str, Sequence[str]]] = [
            ("example.", "NS", ["ns.example."]),
            ("ns.example.", "A", [self.address("parent")]),
            ("ns.root.example.", "A", [self.address("root")]),
        ]
        for provider in self.providers.values():
            identity, server = provider.identity("agent"), f"ns.agent-{provider.label}.example."
            parent += [
                (identity, "NS", [server]),
                (identity, "DS", [_ds(identity)]),
                (server, "A", [provider.address("agent")]),
                (f"ns.{provider.label}.example.", "A", [provider.address("signer")]),
            ]
        root = [
            (".", "NS", ["ns.root.example."]),
            ("example.", "NS", ["ns.example."]),
            ("example.", "DS", [_ds("example.")]),
            ("ns.example.", "A", [self.address("parent")]),
            ("ns.root.example.", "A", [self.address("root")]),
        ]
        for name, origin, records in (("root", ".", root), ("parent", "example.", parent)):
            version = _signed(build(origin, records), now)
            await self._serve(name, {version.origin: version})
        for version in self.customers or (self.customer(),):
            self.publish_customer(version)
        await self._serve("owner", self._owner)

    async def _serve(self, name: str, zones: dict[bytes, ZoneVersion]) -> None:
        server = DnsServer(self.network(self.address(name)), [(self.address(name), self.port)])
        server.register_query(partial(_respond, Responder(zones)))
        secondaries = [
            RemoteServer(provider.address(role), self.port) for provider in self.providers.values() for role in ROLES
        ]
        server.register(TransferServer(zones, dict.fromkeys(zones, Acl.for_servers(secondaries))).handle, QUERY, 252)
        await self.tasks.start(server.serve)

    def make(self, role: str, label: str, *, runtime: dict[str, Any] | None = None, **changes: Any) -> Any:
        """A node that does not run yet.

        :param runtime: members of its :class:`~mpcore.node.runtime.Runtime` to replace.
        :param changes: members of its settings to replace.
        """
        with may_block():
            settings = self.settings(role, label, **changes)
            settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            address = settings.listen[0].address
            return ROLES[role](settings, self.runtime(address, **(runtime or {})))

    async def start(self, role: str, label: str, *, runtime: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Make and run a node; returns it when it listens."""
        return await self.run(self.make(role, label, runtime=runtime, **changes))

    async def run(self, node: Node) -> Any:
        """Run a node that was made; returns it when it listens."""
        running = Running(node, anyio.CancelScope())
        self.running[node.identity] = running
        await self.tasks.start(self._run, running)
        return node

    async def _run(self, running: Running, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        started = False

        class Status:
            def started(self, value: None = None) -> None:
                nonlocal started
                started = True
                task_status.started()

        try:
            with running.scope:
                await running.node.run(task_status=Status())
        except Exception as error:
            running.error = error
            if not started:
                raise
        finally:
            running.ended.set()

    async def stop(self, node: Node) -> None:
        """End a node."""
        running = self.running.pop(node.identity)
        running.scope.cancel()
        await running.ended.wait()

    async def start_provider(self, label: str, **changes: Any) -> tuple[Any, Any, Any]:
        """Its combiner, signer and agent, in this order; returned as (agent, combiner, signer)."""
        combiner = await self.start("combiner", label)
        signer = await self.start("signer", label)
        return await self.start("agent", label, **changes), combiner, signer

    def node(self, role: str, label: str) -> Any:
        """A node that runs."""
        return self.running[self.providers[label].identity(role)].node

    async def until(self, condition: Callable[[], Any], within: float = 30.0, what: str = "") -> Any:
        """Wait until *condition* holds and return what it returned; the clock is that of the event loop.

        :raises AssertionError: it did not within *within* seconds.
        """
        deadline, pause = anyio.current_time() + within, 0.01
        while True:
            found = condition()
            if found:
                return found
            assert anyio.current_time() < deadline, f"not within {within:g} s: {what or condition}"
            await anyio.sleep(pause)
            pause = min(pause * 1.05, 0.5)

    async def until_sent(self, send: Callable[[], Awaitable[Sent]], within: float = 30.0) -> Sent:
        """Send again until the answer is positive, as the queue of a peer does."""
        deadline = anyio.current_time() + within
        while not (sent := await send()).positive:
            assert anyio.current_time() < deadline, f"not acknowledged within {within:g} s: {sent}"
            await anyio.sleep(0.25)
        return sent

    def agents(self) -> list[Any]:
        """All agents that run."""
        return [item.node for item in self.running.values() if isinstance(item.node, AgentNode)]

    def leaders(self) -> set[str | None]:
        """Whom the agents that run take for the leader of the group."""
        found: set[str | None] = set()
        for agent in self.agents():
            groups: list[Group] = agent.groups()
            found.update(group.election.leader for group in groups)
            if not groups:
                found.add(None)
        return found

    def agreed(self) -> bool:
        """Whether all agents have the same leader."""
        return len(leaders := self.leaders()) == 1 and None not in leaders


def _respond(responder: Responder, octets: bytes, source: tuple[str, int], over_tcp: bool) -> bytes | None:
    return responder.respond(octets, over_tcp=over_tcp)


@dataclass(frozen=True)
class Received:
    """A message that a :class:`Stranger` was sent."""

    sender: str
    distribution_id: str
    message: Message
    payload: bytes
    at: float


@dataclass(frozen=True)
class Sent:
    """The answer that a :class:`Stranger` got."""

    octets: bytes
    rcode: int
    answer: Acknowledgement | None

    @property
    def positive(self) -> bool:
        """Whether a deployed peer takes it for received (guide, wire format, "Answers")."""
        return self.rcode == 0 and self.answer is not None and self.answer.received


Answerer = Callable[[Received], Awaitable[Acknowledgement | None]]


class Stranger:
    """A party played by the test.

    :param address: where it is.
    :param identity: suffix of its QNAMEs, and what its key is bound to.
    """

    def __init__(self, world: World, identity: str, address: str) -> None:
        self.world, self.identity, self.address = world, identity, address
        self.key = world.key(identity)
        self.received: list[Received] = []
        self.zones: dict[bytes, ZoneVersion] = {}
        self.chunks: dict[str, CHUNK] = {}  #: what is kept for receivers that fetch, by name
        self.fetched: list[str] = []
        self.answer: Answerer = self.acknowledge
        self.network = world.network(address)
        self.clock: Clock = SystemClock(world.epoch)
        self.used: set[str] = set()  #: distribution ids
        self.https_keys: list[PrivateKey] = []  #: of its certificate, as published; none: it announces no HTTPS

    async def serve(self) -> None:
        """Listen, note every message that can be opened, and serve the identity zone by which the party is found."""
        server = DnsServer(self.network, [(self.address, self.world.port)])
        server.register(self._handle, NOTIFY, CHUNK_TYPE)
        server.register_query(partial(_respond, Responder(self.zones)))
        server.register(self._chunk, QUERY, CHUNK_TYPE)
        self.publish()
        await self.world.tasks.start(server.serve)

    def publish(self) -> None:
        """Sign and serve the identity zone with the present key and address."""
        origin = ZoneName(self.identity).owner
        self.zones[origin] = _signed(ZoneVersion.build(origin, self._records()), self.clock.now())

    def _records(self) -> list[tuple[bytes, RRset]]:
        label = self.identity.split(".")[1]
        return identity_zone_records(
            self.identity,
            [Endpoint(address=self.address, port=self.world.port)],
            self.key.public().to_jwk(),
            None,
            [f"ns.agent-{label}.example."],
            1,
            https=[Endpoint(address=self.address, port=self.world.https_port)] if self.https_keys else [],
            https_keys=[public_octets(key) for key in self.https_keys],
        )

    def resigned(self, changes: Sequence[tuple[bytes, int, RRset | None]]) -> ZoneVersion:
        """The identity zone with some RRsets replaced, all of it signed."""
        origin = ZoneName(self.identity).owner
        return _signed(ZoneVersion.build(origin, self._records()).update(list(changes)), self.clock.now())

    async def _chunk(self, request: Request) -> bytes | None:
        query = frame.decode_chunk_query(request.octets)
        self.fetched.append(query.name)
        chunk = self.chunks.get(query.name)
        return frame.encode_chunk_answer(query, chunk, 0 if chunk is not None else 5)

    async def _handle(self, request: Request) -> bytes | None:
        notify = frame.decode_notify(request.octets)
        sender = self.world.key(notify.sender)
        assert notify.data is not None
        payload = unseal(notify.data, sender.public(), self.key)
        received = Received(
            notify.sender, notify.distribution_id, decode_message(payload), payload, anyio.current_time()
        )
        self.received.append(received)
        answer = await self.answer(received)
        if answer is None:
            return frame.encode_response(notify, 2, authoritative=True)
        data = seal(answer.to_json(), self.key, sender.public(), notify.sender, self.clock.now())
        return frame.encode_response(notify, 0, data)

    async def acknowledge(self, received: Received) -> Acknowledgement | None:
        """The answer that the deployed implementation would give."""
        kind = received.message.TYPE
        ping = kind == "ping"
        return Acknowledgement(
            type="ping_confirm" if ping else "confirm",
            distribution_id=received.distribution_id,
            status="pending" if kind == "update" else "ok",
            timestamp=int(self.clock.now()),
            message="received",
            sender_id=self.identity if ping else "",
            nonce=getattr(received.message, "nonce", "") if ping else "",
        )

    def of_type(self, kind: type[_T]) -> list[_T]:
        """The messages of one type received so far."""
        return [item.message for item in self.received if isinstance(item.message, kind)]

    def new_id(self) -> str:
        """A distribution id not used before."""
        return f"{0x60000000 + next(self.world.ids):08x}"

    def notify(
        self,
        payload: bytes,
        receiver: str,
        distribution_id: str,
        *,
        qname_sender: str | None = None,
        signer: PrivateKey | None = None,
        recipient: PublicKey | None = None,
    ) -> bytes:
        """The DNS message that carries *payload*; what is not given is as it should be."""
        self.used.add(distribution_id)
        data = seal(
            payload,
            signer or self.key,
            recipient or self.world.key(receiver).public(),
            receiver,
            self.clock.now(),
        )
        return frame.encode_notify(0x4D50, distribution_id, qname_sender or self.identity, data=data)

    async def transmit(self, octets: bytes, node: Node) -> bytes:
        """Send octets to a node over TCP and return the answer."""
        endpoint = node.settings.listen[0]
        return await exchange(
            self.network, octets, endpoint.address, endpoint.port, over_tcp=True, local_host=self.address
        )

    async def send(
        self, message: Message | bytes, node: Node, distribution_id: str | None = None, **changes: Any
    ) -> Sent:
        """Send a message, sealed, and open the answer."""
        payload = message if isinstance(message, bytes) else message.to_json()
        octets = self.notify(payload, node.identity, distribution_id or self.new_id(), **changes)
        return self.read(await self.transmit(octets, node), node)

    async def post(
        self, data: bytes, node: Node, name: str, key: PrivateKey, expected: Callable[[bytes], bool] = lambda spki: True
    ) -> tuple[int, bytes]:
        """Send a sealed message to an agent by HTTPS: HTTP status and body of the answer.

        :param name: what would be the QNAME.
        :param key: of the certificate to show.
        """
        endpoint = node.settings.https.listen[0]  # type: ignore[attr-defined]
        links = HttpLinks(
            self.network, MutualTls(certificate_key(key), (self.identity,)), local_host=self.address, idle=0
        )
        try:
            target = HttpTarget(endpoint.address, endpoint.port, f"https.{node.identity}")
            return await links.post(target, f"{HTTPS_PATH}/{name}", data, expected=expected, timeout=5)
        finally:
            await links.aclose()

    def read(self, octets: bytes, node: Node) -> Sent:
        """The answer in *octets*."""
        response = frame.decode_response(octets, 0x4D50)
        if response.data is None:
            return Sent(octets, response.rcode, None)
        opened = unseal(response.data, self.world.key(node.identity).public(), self.key)
        return Sent(octets, response.rcode, decode_acknowledgement(opened))
