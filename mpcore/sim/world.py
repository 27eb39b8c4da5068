"""A whole simulated world: providers with their three daemons each, and the owner of the zones.

Every daemon is the node that runs in production, with another network, clock, disk and source of randomness.  It can be
killed at any moment and started again with what was on its disk.

:func:`simulate` runs one: it lays the world out in a temporary directory, starts everything and hands a :class:`World`
to a function that makes things happen.
"""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import anyio
import anyio.abc
import dns.name
import dns.rdata
import dns.rrset
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel

from mpcore.control.events import EventLog
from mpcore.control.models import Event
from mpcore.errors import MpError
from mpcore.names import ZoneName
from mpcore.net.acl import Acl
from mpcore.net.messages import QUERY
from mpcore.net.network import ByteStream, Listener, UDPSocket
from mpcore.net.notify import Notifier
from mpcore.net.remote import RemoteServer
from mpcore.net.server import DnsServer
from mpcore.net.transfer import TransferServer
from mpcore.node.agent import AgentNode
from mpcore.node.base import Node
from mpcore.node.hosting import AXFR, IXFR
from mpcore.node.https import public_octets
from mpcore.node.runtime import JoseSealing, Runtime
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
from mpcore.peer.identity_zone import identity_zone_records
from mpcore.records import HSYNC3, HSYNC3_TYPE, HSYNCPARAM, HSYNCPARAM_TYPE
from mpcore.signer.keys import Algorithm, dump_pem, generate_private_key
from mpcore.sim import loop
from mpcore.sim.channels import PlainChannels
from mpcore.sim.clock import HostClock
from mpcore.sim.directory import TableResolver, table
from mpcore.sim.disk import Disk, PowerFailure
from mpcore.sim.dns import ADDRESSES, PARENT, ROOT_SERVER, SECONDARY, Hierarchy
from mpcore.sim.faults import Faults, Weather
from mpcore.sim.network import HostNetwork, SimNetwork
from mpcore.sim.sealing import PlainSealing, RecordedSealing
from mpcore.sim.trace import Trace
from mpcore.wire.seal import PrivateKey, write_private_key, write_public_key
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.rrset import RRset, parse_rdata
from mpcore.zone.version import ZoneVersion

__all__ = ("LABELS", "ROLES", "Daemon", "Observer", "Plan", "World", "simulate")

T = TypeVar("T")

LABELS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
ROLES = ("agent", "combiner", "signer")
_PORT = 53
_HTTPS_PORT = 443
_OWNER = "10.0.0.5"
_NS, _A = 2, 1
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a world consists of.

    :param providers: labels, 2 to 8 of them; they serve all zones.
    :param zones: names of the zones.
    :param signers: labels of those that sign; none: the zones are not signed.
    :param beat: seconds between heartbeats.
    :param leader_ttl: seconds that a leadership lasts.
    :param delay: seconds that a message between providers takes, at least and at most.
    :param jose: seal with JOSE as in production; without, payloads pass in clear (and the run repeats all the same,
        for the trace has the plaintext).
    :param dns: let agents find each other by the validating resolver, from simulated servers (:mod:`mpcore.sim.dns`);
        without, look-ups are answered from a table.
    :param https: labels of the providers whose agents have HTTPS; channels are a pass-through.
    :param skew: daemon or provider -> seconds that its clock is ahead.
    """

    providers: tuple[str, ...] = LABELS[:3]
    zones: tuple[str, ...] = ("customer.example.",)
    signers: tuple[str, ...] = ()
    beat: float = 15.0
    leader_ttl: float = 3600.0
    delay: tuple[float, float] = (0.01, 0.1)
    jose: bool = False
    dns: bool = False
    https: tuple[str, ...] = ()
    skew: Mapping[str, float] = field(default_factory=dict)


class Observer(Protocol):
    """Who watches what daemons do; every method is called inside the event that it reports."""

    def attach(self, world: World) -> None: ...

    def started(self, daemon: Daemon) -> None: ...

    def ended(self, daemon: Daemon) -> None: ...

    def sent(self, daemon: Daemon, recipient: str, plaintext: bytes) -> None: ...

    def node_class(self, role: str) -> type[Node]: ...


# ------------------------------------------------------------------------------------------------------------- parts


@lru_cache(maxsize=256)
def _peer_key(name: str) -> PrivateKey:
    private = generate_private_key(Algorithm.ECDSAP256SHA256, Random(f"peer key of {name}"))
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    numbers = private.private_numbers()
    members = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y, "d": numbers.private_value}
    texts = {
        name: base64.urlsafe_b64encode(value.to_bytes(32)).rstrip(b"=").decode() for name, value in members.items()
    }
    return PrivateKey.from_jwk({"kty": "EC", "crv": "P-256", **texts})


@lru_cache(maxsize=256)
def _pem(name: str) -> str:
    return dump_pem(generate_private_key(Algorithm.ECDSAP256SHA256, Random(f"zone key of {name}")))


def identity(label: str, role: str = "agent") -> str:
    """Identity of a daemon."""
    return f"{role}.{label}.example."


def address(label: str, role: str) -> str:
    """Address of a daemon."""
    return f"10.{LABELS.index(label) + 1}.0.{ROLES.index(role) + 1}"


class _RepeatingNetwork:
    """A host's network in which messages may arrive twice: the second time on a connection of its own, later."""

    def __init__(self, host: HostNetwork, world: World) -> None:
        self._host, self._world = host, world

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> ByteStream:
        stream = await self._host.connect_tcp(host, port, local_host=local_host)
        after = self._world.weather.repeats(anyio.current_time())
        if after is None:
            return stream
        return _Tapped(stream, partial(self._repeat, host, port, after))

    async def listen_tcp(self, host: str, port: int) -> Listener:
        return await self._host.listen_tcp(host, port)

    async def bind_udp(self, host: str, port: int) -> UDPSocket:
        return await self._host.bind_udp(host, port)

    def _repeat(self, host: str, port: int, after: float, octets: bytes) -> None:
        self._world.tasks.start_soon(self._send_again, host, port, after, octets)

    async def _send_again(self, host: str, port: int, after: float, octets: bytes) -> None:
        await anyio.sleep(after)
        try:
            with anyio.move_on_after(5):
                stream = await self._host.connect_tcp(host, port)
                try:
                    await stream.send(octets)
                    await stream.receive()
                finally:
                    with anyio.CancelScope(shield=True):
                        await stream.aclose()
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            return


class _Tapped:
    """A stream whose first message is reported when it is sent."""

    def __init__(self, stream: ByteStream, on_message: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._on_message: Callable[[bytes], None] | None = on_message

    @property
    def local(self) -> tuple[str, int]:
        return self._stream.local

    @property
    def peer(self) -> tuple[str, int]:
        return self._stream.peer

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)
        if self._on_message is not None:
            self._on_message(bytes(item))
            self._on_message = None

    async def aclose(self) -> None:
        await self._stream.aclose()


class _RecordedEvents(EventLog):
    """An event log that reports every event.  There is no task for it: a run is the same with and without."""

    def __init__(self, report: Callable[[Event], None], clock: HostClock) -> None:
        super().__init__(start=int(clock.now() * 1000))
        self._report = report

    def publish(self, kind: str, subject: str, data: BaseModel | Mapping[str, Any], now: float) -> int:
        number = super().publish(kind, subject, data, now)
        plain = data.model_dump(mode="json") if isinstance(data, BaseModel) else dict(data)
        self._report(Event.model_validate({"id": number, "time": now, "kind": kind, "subject": subject, "data": plain}))
        return number


class Daemon:
    """One simulated daemon.

    :ivar node: the node of its present life, ``None`` while it is dead.
    """

    def __init__(self, world: World, label: str, role: str, settings: Any) -> None:
        self.world, self.label, self.role = world, label, role
        self.name = f"{label}.{role}"
        self.identity = identity(label, role)
        self.address = address(label, role)
        self.node: Any = None
        self.lives = 0
        self._settings = settings
        skew = world.plan.skew
        self.clock = HostClock(skew.get(self.name, skew.get(label, 0.0)))
        self.random = Random(world.random.getrandbits(64))
        self.host = world.network.host(self.address)
        self.disk = Disk(world.directory / label / role / "disk", Random(world.random.getrandbits(64)), self._power_off)
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._over.set()
        self._starting = anyio.Lock()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.node is not None

    async def start(self) -> None:
        """Begin a life with what is on the disk; returns when its sockets listen."""
        # Two may wait for the end of the same life: only the first of them begins the next one.
        async with self._starting:
            if self.alive:
                return
            await self._over.wait()
            await self.world.tasks.start(self._live)

    def kill(self) -> None:
        """End it at once, as with SIGKILL: connections break, nothing more is written."""
        if self.alive:
            self.disk.fail()
            self._power_off()

    def _power_off(self) -> None:
        node, self.node = self.node, None
        if node is None:
            return
        self.world.trace.event(self.name, "killed", commits=self.disk.commits)
        self.world.network.cut(self.address)
        self.world.observer.ended(self)
        if self.world.recorder is not None:
            self.world.recorder(self, None)
        self._scope.cancel()

    async def _live(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        world = self.world
        self._over = anyio.Event()
        self.lives += 1
        sealing = JoseSealing() if world.plan.jose else PlainSealing()
        runtime = Runtime(
            network=_RepeatingNetwork(self.host, world),
            clock=self.clock,
            random=self.random,
            run_blocking=_at_once,
            executor=self.disk_executor(),
            sealing=RecordedSealing(sealing, self._sent),
            process_id=self.lives,
            resolver=world.resolver(self) if self.role == "agent" and not world.plan.dns else None,
            key_random=self.random,
            channels=PlainChannels,
        )
        settings = self._settings.model_copy(update={"state_dir": self.disk.directory})
        node: Any = world.observer.node_class(self.role)(settings, runtime)
        node.daemon = self
        if world.recorder is not None:
            node.event_log = _RecordedEvents(partial(world.recorder, self), self.clock)
        self.node = node
        world.trace.event(self.name, "started", life=self.lives)
        self._scope = anyio.CancelScope()
        told = False
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(node.run)
                    world.observer.started(self)
                    if world.recorder is not None:
                        world.recorder(self, Event(id=0, time=self.clock.now(), kind="gap"))
                    task_status.started()
                    told = True
        except* MpError as errors:
            if self.node is node:
                raise
            _logger.debug("%s died: %r", self.name, errors)
        except* PowerFailure:
            _logger.debug("%s died of a power failure", self.name)
        finally:
            if self.node is node:
                self.node = None
            self._over.set()
        if not told:
            task_status.started()

    def disk_executor(self) -> Callable[..., Any]:
        """The executor of a new life."""
        self.disk.mount()
        return self.disk.executor()

    def _sent(self, recipient: str, plaintext: bytes) -> None:
        self.world.trace.message(self.name, recipient, plaintext)
        self.world.observer.sent(self, recipient, plaintext)


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


# ------------------------------------------------------------------------------------------------------------- world


class World:
    """Everything there is in a simulation.

    :ivar daemons: by name, ``alpha.agent``.
    :ivar faults: what goes wrong; add to it.
    """

    def __init__(
        self,
        plan: Plan,
        random: Random,
        directory: Path,
        tasks: anyio.abc.TaskGroup,
        *,
        trace: Trace,
        faults: Faults,
        observer: Observer,
        recorder: Callable[[Daemon, Event | None], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self.plan, self.random, self.directory, self.tasks = plan, random, directory, tasks
        self.trace, self.faults, self.observer = trace, faults, observer
        self.names = {address(label, role): f"{label}.{role}" for label in plan.providers for role in ROLES}
        self.names |= dict.fromkeys((_OWNER, *ADDRESSES), "owner")
        self.weather = Weather(faults, self.names, Random(random.getrandbits(64)), plan.delay)
        self.network = SimNetwork(self.weather)
        self.clock = HostClock()
        self._trust_anchor = directory / "trust-anchor"
        self.records: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
        self._write_keys()
        for label in plan.providers:
            self._publish(label)
        self.daemons = {
            f"{label}.{role}": Daemon(self, label, role, self._settings(label, role))
            for label in plan.providers
            for role in ("combiner", "signer", "agent")
        }
        self._dns = self._hierarchy() if plan.dns else None
        self.owner_zones: dict[bytes, ZoneVersion] = {}
        self._owner_host = self.network.host(_OWNER)
        self._dns_random = Random(random.getrandbits(64))

    # ---------------------------------------------------------------- layout

    def _write_keys(self) -> None:
        for label in self.plan.providers:
            for role in ROLES:
                home = self.directory / label / role
                home.mkdir(parents=True)
                key = _peer_key(f"{label}.{role}")
                _secret(home / "key.jwk", write_private_key(key))
                (home / "key.pub.jwk").write_text(write_public_key(key.public()))
            _secret(self.directory / label / "agent" / "https.jwk", write_private_key(_peer_key(f"{label}.https")))
            for kind in ("ksk", "zsk"):
                _secret(self.directory / label / "agent" / f"{kind}.pem", _pem(f"{label} {kind}"))

    def _publish(self, label: str) -> None:
        endpoint = Endpoint(address=address(label, "agent"), port=_PORT)
        public = _peer_key(f"{label}.agent").public().to_jwk()
        https = [Endpoint(address=address(label, "agent"), port=_HTTPS_PORT)] if label in self.plan.https else []
        records = identity_zone_records(
            identity(label),
            [endpoint],
            public,
            None,
            ["ns.identity.example."],
            1,
            https=https,
            https_keys=[public_octets(_peer_key(f"{label}.https"))],
        )
        self.records |= table(records)
        server = dns.name.from_text(f"ns.{label}.example.")
        self.records[server, _A] = dns.rrset.from_text(server, 3600, "IN", "A", address(label, "signer"))

    def _peer(self, label: str, role: str) -> ConfiguredPeer:
        return ConfiguredPeer(
            identity=identity(label, role),
            address=address(label, role),
            port=_PORT,
            public_key_file=self.directory / label / role / "key.pub.jwk",
        )

    def _settings(self, label: str, role: str) -> Any:
        plan = self.plan
        home = self.directory / label / role
        common: dict[str, Any] = {
            "identity": identity(label, role),
            "provider": label,
            "state_dir": home,
            "control_socket": home / "control",
            "listen": (Endpoint(address=address(label, role), port=_PORT),),
            "key_file": home / "key.jwk",
        }
        signs = label in plan.signers
        if role == "combiner":
            zones = self._zones((_OWNER,), (address(label, "signer"),))
            return CombinerSettings(**common, agents=(self._peer(label, "agent"),), zones=zones)
        if role == "signer":
            downstream = [other for other in plan.providers if other not in plan.signers and plan.signers]
            targets = [address(other, "signer") for other in downstream if plan.signers[0] == label]
            zones = self._zones((address(label, "combiner"),), (address(label, "agent"), *targets))
            upstreams = (
                ()
                if signs or not plan.signers
                else (UpstreamSigner(label=plan.signers[0], address=address(plan.signers[0], "signer"), port=_PORT),)
            )
            return SignerSettings(
                **common, agents=(self._peer(label, "agent"),), zones=zones, upstream_signers=upstreams
            )
        https = None
        if label in plan.https:
            here = (Endpoint(address=address(label, role), port=_HTTPS_PORT),)
            https = HttpsSettings(listen=here, publish=here, key_file=home / "https.jwk")
        return AgentSettings(
            **common,
            https=https,
            publish=common["listen"],
            combiner=self._peer(label, "combiner"),
            signer=self._peer(label, "signer"),
            identity_zone=IdentityZoneSettings(
                nameservers=("ns.identity.example.",),
                secondaries=(Secondary(address=SECONDARY, port=_PORT),) if plan.dns else (),
                ksk_file=home / "ksk.pem",
                zsk_file=home / "zsk.pem",
            ),
            resolver=ResolverSettings(trust_anchor_file=self._trust_anchor, root_hints=(ROOT_SERVER,)),
            zones=self._zones((address(label, "signer"),), ()),
            beat_interval=plan.beat,
            leader_ttl=plan.leader_ttl,
        )

    def _zones(self, primaries: Iterable[str], secondaries: Iterable[str]) -> tuple[ZoneSettings, ...]:
        sources = tuple(Primary(address=host, port=_PORT) for host in primaries)
        targets = tuple(Secondary(address=host, port=_PORT) for host in secondaries)
        return tuple(ZoneSettings(name=zone, primaries=sources, secondaries=targets) for zone in self.plan.zones)

    def _hierarchy(self) -> Hierarchy:
        labels = self.plan.providers
        hierarchy = Hierarchy(
            self.network,
            self.clock,
            Random(self.random.getrandbits(64)),
            {zone: (_pem(f"{zone} ksk"), _pem(f"{zone} zsk")) for zone in (".", PARENT)},
            {identity(label): (address(label, "agent"), _pem(f"{label} ksk")) for label in labels},
            {f"ns.{label}.{PARENT}": address(label, "signer") for label in labels},
        )
        hierarchy.write_trust_anchor(self._trust_anchor)
        return hierarchy

    def resolver(self, daemon: Daemon) -> TableResolver:
        """Look-ups of an agent; its own site and the world's DNS are never apart."""

        def delay() -> float | None:
            return self._dns_random.uniform(0.01, 0.1)

        return TableResolver(self.records, daemon.clock, delay)

    # ----------------------------------------------------------------- owner

    async def serve_owner(self) -> None:
        """Start the owner's primary, and the DNS of the world if there is one."""
        if self._dns is not None:
            await self._dns.serve(self.tasks)
        for zone in self.plan.zones:
            version = self.owner_zone(zone, 1)
            self.owner_zones[version.origin] = version
        combiners = [RemoteServer(address(label, "combiner"), _PORT) for label in self.plan.providers]
        server = DnsServer(self._owner_host, [(_OWNER, _PORT)], clock=self.clock)
        responder = Responder(self.owner_zones)
        server.register_query(lambda octets, source, over_tcp: responder.respond(octets, over_tcp=over_tcp))
        transfers = TransferServer(self.owner_zones, Acl.for_servers(combiners))
        server.register(transfers.handle, QUERY, AXFR)
        server.register(transfers.handle, QUERY, IXFR)
        self._notifier = Notifier(
            self._owner_host,
            dict.fromkeys(self.owner_zones, combiners),
            {},
            clock=self.clock,
            random=Random(self.random.getrandbits(64)),
            local_host=_OWNER,
        )
        await self.tasks.start(self._notifier.run)
        await self.tasks.start(server.serve)

    def owner_zone(self, zone: str, serial: int, providers: Sequence[str] | None = None) -> ZoneVersion:
        """A zone as its owner writes it.

        :param providers: labels listed in HSYNC3; ``None``: all.
        """
        plan = self.plan
        labels = plan.providers if providers is None else tuple(providers)
        origin = ZoneName(zone).owner
        hsync = [
            _octets(
                HSYNC3.make(
                    label, identity(label), "" if label in plan.signers or not plan.signers else plan.signers[0]
                )
            )
            for label in labels
        ]
        parameters = _octets(
            HSYNCPARAM.make(
                nsmgmt="agent",
                parentsync="owner",
                servers=labels,
                signers=[label for label in labels if label in plan.signers],
            )
        )
        soa = parse_rdata(6, f"ns.owner.example. hostmaster.{zone} {serial} 3600 600 604800 60")
        rrsets = [
            (origin, RRset.make(6, 3600, [soa])),
            (origin, RRset.make(_NS, 3600, [parse_rdata(_NS, "ns.owner.example.")])),
            (origin, RRset.make(HSYNC3_TYPE, 3600, hsync)),
            (origin, RRset.make(HSYNCPARAM_TYPE, 3600, [parameters])),
            (owners.from_text(f"www.{zone}"), RRset.make(_A, 3600, [parse_rdata(_A, "192.0.2.1")])),
        ]
        return ZoneVersion.build(origin, rrsets)

    def change_owner_zone(self, version: ZoneVersion) -> None:
        """The owner publishes another version."""
        self.owner_zones[version.origin] = version
        self._notifier.notify(version)

    # ---------------------------------------------------------------- access

    @property
    def recorded(self) -> bool:
        """Whether somebody records the daemons' event streams."""
        return self.recorder is not None

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return anyio.current_time()

    def agents(self) -> list[Daemon]:
        """All agents, dead ones too."""
        return [daemon for daemon in self.daemons.values() if daemon.role == "agent"]

    def living_agents(self) -> list[AgentNode]:
        """The nodes of all agents that run."""
        return [daemon.node for daemon in self.agents() if daemon.alive]

    def daemon(self, who: str) -> Daemon:
        """By name; a provider's label alone is its agent."""
        return self.daemons[who if "." in who else f"{who}.agent"]

    async def start_all(self) -> None:
        """Start what does not run."""
        async with anyio.create_task_group() as tasks:
            for daemon in self.daemons.values():
                tasks.start_soon(daemon.start)

    async def until(self, condition: Callable[[], bool], timeout: float, step: float = 0.05) -> float | None:
        """Wait until *condition* holds; the seconds that it took, or ``None``: it did not within *timeout*."""
        start = self.now
        while not condition():
            if self.now - start >= timeout:
                return None
            await anyio.sleep(step)
        return self.now - start

    # ------------------------------------------------------------ conditions

    def operational(self) -> bool:
        """Whether every agent runs and has complete matrices of all its groups."""
        nodes = self.living_agents()
        return len(nodes) == len(self.plan.providers) and all(
            node.elections and all(node.gossip.operational(key) for key in node.elections) for node in nodes
        )

    def leaders(self) -> dict[str, set[tuple[str, int] | None]]:
        """Group -> what its living members believe: leader and term."""
        found: dict[str, set[tuple[str, int] | None]] = {}
        for node in self.living_agents():
            for key, election in node.elections.items():
                held = election.leadership
                found.setdefault(key, set()).add(None if held is None else (held.leader, held.term))
        return found

    def led(self) -> bool:
        """Whether all living members of every group agree on a leader."""
        found = self.leaders()
        return bool(found) and all(len(held) == 1 and None not in held for held in found.values())


def _octets(record: dns.rdata.Rdata) -> bytes:
    return record.to_wire() or b""


def _secret(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def memory_directory() -> str | None:
    """Where files cost no disk access, if there is such a place."""
    path = Path("/dev/shm")
    return str(path) if path.is_dir() else None


def simulate(
    main: Callable[[World], Awaitable[T]],
    seed: int,
    plan: Plan | None = None,
    *,
    observer: Observer | None = None,
    faults: Faults | None = None,
    trace: Trace | None = None,
    recorder: Callable[[Daemon, Event | None], None] | None = None,
    start: bool = True,
) -> T:
    """Run a simulation and return what *main* returns.

    :param main: makes things happen; the simulation ends when it returns.
    :param seed: everything random comes from it.
    :param observer: checks invariants; ``None``: nobody does.
    :param recorder: called with every event of every daemon's event stream, ``gap`` at the beginning of a life, and
        ``None`` at its end.  Without it no events are made.
    :param start: start all daemons before *main* is called.
    """
    from mpcore.sim.invariants import Watcher

    chosen, given_faults = plan or Plan(), faults or Faults()
    given_trace, watcher = trace or Trace(), observer or Watcher()

    async def run(random: Random) -> T:
        with tempfile.TemporaryDirectory(prefix="simulation-", dir=memory_directory()) as directory:
            async with anyio.create_task_group() as tasks:
                world = World(
                    chosen,
                    random,
                    Path(directory),
                    tasks,
                    trace=given_trace,
                    faults=given_faults,
                    observer=watcher,
                    recorder=recorder,
                )
                watcher.attach(world)
                await world.serve_owner()
                if start:
                    await world.start_all()
                result = await main(world)
                for daemon in world.daemons.values():
                    daemon.kill()
                tasks.cancel_scope.cancel()
        return result

    return loop.run(run, seed)
