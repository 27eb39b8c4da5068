"""The world around the providers, in one process: root, ``example.``, the zone's owner, secondaries, a resolver.

The parent zone plays the registry: it watches the CDS RRset of the customer's zone at every name server and publishes
the DS records that all of them ask for (RFC 7344).  A first DS RRset is accepted as it is found (RFC 8078, section
3.3); later ones must be signed by a key that the present DS RRset names.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.rrset

from daemons.lab.layout import OWNER_KEY, PARENT, Layout, zone_key
from mpcore.errors import LocalError, RemoteError, StoreError
from mpcore.names import ZoneName
from mpcore.net.acl import Acl
from mpcore.net.client import query
from mpcore.net.clock import SystemClock
from mpcore.net.keyring import load_keyring
from mpcore.net.messages import NOTIFY, QUERY, SOA, UPDATE
from mpcore.net.network import InternetNetwork
from mpcore.net.notify import Notifier, NotifyReceiver
from mpcore.net.remote import RemoteServer
from mpcore.net.resolver import Resolver, load_trust_anchors
from mpcore.net.resolver_service import RecursiveService
from mpcore.net.secondary import SecondaryZone
from mpcore.net.server import DnsServer
from mpcore.net.transfer import TransferServer
from mpcore.net.update import UpdatableZone, UpdateServer
from mpcore.signer.keys import SigningKey
from mpcore.signer.signing import SigningPolicy, ZoneSigner
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.journal import Journal
from mpcore.zone.masterfile import read_master_file, write_master_file
from mpcore.zone.rrset import RRset, parse_rdata, type_from_text
from mpcore.zone.serial import next_serial
from mpcore.zone.update import Requestor, UpdatePolicy, UpdateResult, UpdateRule
from mpcore.zone.version import ZoneVersion

__all__ = ("World",)

logger = logging.getLogger(__name__)

AXFR, IXFR = 252, 251
_TTL = 60
_FIRST_LOOK = 0.25  #: seconds between looks for CDS records until there is a DS RRset
_LOOK = 2.0


def _ds_text(zone: str, dnskey: bytes) -> str:
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, dnskey, 0, len(dnskey))
    return dns.dnssec.make_ds(dns.name.from_text(zone), rdata, "SHA256").to_text()


class _SignedZone:
    """A zone of the world that is signed in memory."""

    def __init__(self, name: str, keys: Sequence[SigningKey], clock: SystemClock) -> None:
        self.origin = ZoneName(name).owner
        self._clock = clock
        self._signer = ZoneSigner(self.origin, SigningPolicy(publish_cds=False))
        self._signer.set_keys(keys, ())
        self._serial: int | None = None

    def sign(self, records: Iterable[tuple[str, str, Sequence[str]]]) -> ZoneVersion:
        """The zone with these records: (owner, type, RDATA texts); its SOA is made here."""
        now = self._clock.now()
        self._serial = next_serial(self._serial, "unixtime", now)
        soa = f"ns.{PARENT} hostmaster.{PARENT} {self._serial} 3600 600 604800 5"
        rrsets: dict[tuple[bytes, int], list[bytes]] = {}
        for owner, rrtype, texts in [(owners.to_text(self.origin), "SOA", [soa]), *records]:
            rdtype = type_from_text(rrtype)
            rrsets.setdefault((owners.from_text(owner), rdtype), []).extend(parse_rdata(rdtype, text) for text in texts)
        version = ZoneVersion.build(
            self.origin, ((owner, RRset.make(rdtype, _TTL, rdatas)) for (owner, rdtype), rdatas in rrsets.items())
        )
        return self._signer.sign(version, now, self._serial)


class World:
    """All servers that are nobody's in particular.

    :param layout: the lab; its files are written.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._clock = SystemClock()
        self._network = InternetNetwork()
        self._random = random.SystemRandom()
        directory = Path(layout.directory) / "world"
        keyring = load_keyring(directory / "tsig.yaml")
        self._keyring = keyring
        root_keys = [zone_key(directory, "root", kind, ".") for kind in ("ksk", "zsk")]
        parent_keys = [zone_key(directory, "parent", kind, PARENT) for kind in ("ksk", "zsk")]
        self._parent_ds = _ds_text(PARENT, parent_keys[0].dnskey)
        self._root_zone = _SignedZone(".", root_keys, self._clock)
        self._parent_zone = _SignedZone(PARENT, parent_keys, self._clock)
        self._root: dict[bytes, ZoneVersion] = {}
        self._parent: dict[bytes, ZoneVersion] = {}
        self._identities: dict[bytes, ZoneVersion] = {}
        self._owner: dict[bytes, ZoneVersion] = {}
        self._owner_journal = Journal()
        self._notifier = Notifier(
            self._network,
            {ZoneName(layout.zone).owner: self._combiners()},
            keyring,
            clock=self._clock,
            random=self._random,
            local_host=layout.owner,
        )
        self._identity_ds: dict[str, str] = {}
        for provider in layout.providers:
            identity = provider.agent.identity
            key = zone_key(layout.files(provider, "agent"), "identity", "ksk", identity)
            self._identity_ds[identity] = _ds_text(identity, key.dnskey)
        self._customer_ds: tuple[str, ...] = ()

    # ------------------------------------------------------------------ zones

    def _sign_root(self) -> None:
        layout = self._layout
        version = self._root_zone.sign(
            [
                (".", "NS", [f"ns.root-servers.{PARENT}"]),
                (PARENT, "NS", [f"ns.{PARENT}"]),
                (PARENT, "DS", [self._parent_ds]),
                (f"ns.{PARENT}", "A", [layout.parent]),
                (f"ns.root-servers.{PARENT}", "A", [layout.root]),
            ]
        )
        self._root[version.origin] = version

    def _sign_parent(self) -> None:
        layout = self._layout
        records: list[tuple[str, str, Sequence[str]]] = [
            (PARENT, "NS", [f"ns.{PARENT}"]),
            (f"ns.{PARENT}", "A", [layout.parent]),
            (f"ns.root-servers.{PARENT}", "A", [layout.root]),
            (f"ns.identity.{PARENT}", "A", [layout.secondary]),
            (f"ns.owner.{PARENT}", "A", [layout.owner]),
            (f"resolver.{PARENT}", "A", [layout.resolver]),
            (layout.zone, "NS", [provider.name_server for provider in layout.providers]),
        ]
        for provider in layout.providers:
            records.append((provider.name_server, "A", [provider.signer.address]))
            records.append((provider.agent.identity, "NS", [f"ns.identity.{PARENT}"]))
            records.append((provider.agent.identity, "DS", [self._identity_ds[provider.agent.identity]]))
        if self._customer_ds:
            records.append((layout.zone, "DS", self._customer_ds))
        version = self._parent_zone.sign(records)
        self._parent[version.origin] = version

    # ------------------------------------------------------------------- life

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        layout = self._layout
        self._sign_root()
        self._sign_parent()
        owner_version = read_master_file(layout.zone_file)
        self._owner[owner_version.origin] = owner_version
        async with anyio.create_task_group() as tasks:
            root = self._server([(layout.root, layout.port)])
            root.register_query(partial(_respond, Responder(self._root)))
            parent = self._server([(layout.parent, layout.port)])
            parent.register_query(partial(_respond, Responder(self._parent)))
            servers = [root, parent, self._secondary_server(tasks), self._owner_server(), self._resolver_server()]
            for server in servers:
                await tasks.start(server.serve)
            await tasks.start(self._notifier.run)
            self._notifier.notify(owner_version)
            tasks.start_soon(self._registry)
            task_status.started()

    def _server(self, endpoints: Sequence[tuple[str, int]]) -> DnsServer:
        return DnsServer(self._network, endpoints, keyring=self._keyring, clock=self._clock)

    def _secondary_server(self, tasks: anyio.abc.TaskGroup) -> DnsServer:
        """The secondary of the agents' identity zones."""
        layout = self._layout
        secondaries: dict[bytes, SecondaryZone] = {}

        async def arrived(version: ZoneVersion) -> None:
            self._identities[version.origin] = version

        for provider in layout.providers:
            origin = ZoneName(provider.agent.identity).owner
            key = f"{provider.label}.transfer.lab."
            secondaries[origin] = SecondaryZone(
                self._network,
                origin,
                [RemoteServer(provider.agent.address, layout.port, key)],
                self._keyring,
                clock=self._clock,
                random=self._random,
                min_refresh=5,
                on_version=arrived,
                local_host=layout.secondary,
            )
            tasks.start_soon(secondaries[origin].run)
        server = self._server([(layout.secondary, layout.port)])
        server.register_query(partial(_respond, Responder(self._identities)))
        server.register(NotifyReceiver(secondaries).handle, NOTIFY, SOA)
        return server

    def _owner_server(self) -> DnsServer:
        """The owner's primary, which the owner changes with ``nsupdate -k`` and the key in ``owner.key``."""
        server = self._server([(self._layout.owner, self._layout.port)])
        server.register_query(partial(_respond, Responder(self._owner)))
        origin = ZoneName(self._layout.zone).owner
        transfers = TransferServer(
            self._owner, Acl.for_servers(self._combiners()), journals={origin: self._owner_journal}
        )
        server.register(transfers.handle, QUERY, AXFR)
        server.register(transfers.handle, QUERY, IXFR)
        policy = UpdatePolicy([UpdateRule.of("tsig", OWNER_KEY, "zonesub", types=["ANY"])])
        zone = UpdatableZone(partial(self._owner.get, origin), self._owner_changed, policy)
        server.register(UpdateServer({origin: zone}, clock=self._clock).handle, UPDATE)
        return server

    async def _owner_changed(self, result: UpdateResult, requestor: Requestor) -> None:
        """Keep and serve what the owner has made of the zone."""
        version = result.version
        try:
            await anyio.to_thread.run_sync(write_master_file, self._layout.zone_file, version)
        except OSError as error:
            raise StoreError(f"{self._layout.zone_file}: {error.strerror}") from error
        self._owner_journal.record(self._owner.get(version.origin), version)
        self._owner[version.origin] = version
        self._notifier.notify(version)

    def _combiners(self) -> list[RemoteServer]:
        return [
            RemoteServer(provider.combiner.address, self._layout.port, f"{provider.label}.transfer.lab.")
            for provider in self._layout.providers
        ]

    def _resolver_server(self) -> DnsServer:
        layout = self._layout
        resolver = Resolver(
            self._network,
            trust_anchors=load_trust_anchors(layout.trust_anchor_file),
            root_hints=[layout.root],
            port=layout.port,
            clock=self._clock,
            random=self._random,
        )
        server = self._server([(layout.resolver, layout.port)])
        server.register(RecursiveService(resolver), QUERY)
        return server

    # --------------------------------------------------------------- registry

    async def _registry(self) -> None:
        """Keep the DS RRset of the customer's zone in step with its CDS RRset."""
        while True:
            with contextlib.suppress(RemoteError, LocalError, dns.exception.DNSException):
                await self._look()
            await anyio.sleep(_LOOK if self._customer_ds else _FIRST_LOOK)

    async def _look(self) -> None:
        wanted: set[tuple[str, ...]] = set()
        for provider in self._layout.providers:
            cds, keys = await self._fetch(provider.signer.address)
            if cds is None or keys is None:
                return
            if self._customer_ds and not self._signed_by_ds(cds, keys):
                return
            wanted.add(tuple(sorted(rdata.to_text() for rdata in cds[0])))
        if len(wanted) != 1:
            return
        ds = wanted.pop()
        if ds != self._customer_ds and not any(text.startswith("0 ") for text in ds):
            logger.info("%s: DS records now %s", self._layout.zone, ", ".join(text.split()[0] for text in ds))
            self._customer_ds = ds
            self._sign_parent()

    async def _fetch(self, server: str) -> tuple[_Signed | None, _Signed | None]:
        found: list[_Signed | None] = []
        name = dns.name.from_text(self._layout.zone)
        for rdtype in (dns.rdatatype.CDS, dns.rdatatype.DNSKEY):
            question = dns.message.make_query(name, rdtype, want_dnssec=True, payload=1232)
            octets = await query(self._network, question.to_wire(), server, self._layout.port, timeout=2.0)
            answer = dns.message.from_wire(octets)
            data = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, rdtype)
            signatures = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.RRSIG, covers=rdtype)
            found.append(None if data is None or signatures is None else (data, signatures))
        return found[0], found[1]

    def _signed_by_ds(self, cds: _Signed, keys: _Signed) -> bool:
        """Whether a key that the present DS RRset names signs *keys*, and a key of these signs *cds*."""
        name = dns.name.from_text(self._layout.zone)
        trusted = [key for key in keys[0] if dns.dnssec.make_ds(name, key, "SHA256").to_text() in self._customer_ds]
        try:
            dns.dnssec.validate(*keys, {name: dns.rdataset.from_rdata_list(keys[0].ttl, trusted)})
            dns.dnssec.validate(*cds, {name: keys[0].to_rdataset()})
        except (dns.exception.DNSException, ValueError):
            return False
        return True


_Signed = tuple[dns.rrset.RRset, dns.rrset.RRset]


def _respond(responder: Responder, octets: bytes, source: tuple[str, int], over_tcp: bool) -> bytes | None:
    return responder.respond(octets, over_tcp=over_tcp)
