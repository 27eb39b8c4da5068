"""DNS in a simulated world: root, ``example.`` and the secondary of the agents' identity zones, signed, on the wire.

With :attr:`mpcore.sim.world.Plan.dns` agents find each other as in production: by the validating resolver, which
iterates from the root, with the records that the agents themselves publish and transfer out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import anyio.abc
import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from mpcore.names import ZoneName
from mpcore.net.clock import Clock
from mpcore.net.messages import NOTIFY, SOA
from mpcore.net.network import Network
from mpcore.net.notify import NotifyReceiver
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone
from mpcore.net.server import DnsServer
from mpcore.signer.keys import SigningKey
from mpcore.signer.signing import SigningPolicy, ZoneSigner
from mpcore.zone.answer import Responder
from mpcore.zone.rrset import RRset, parse_rdata, record_text, type_from_text
from mpcore.zone.version import ZoneVersion

if TYPE_CHECKING:
    from mpcore.sim.network import SimNetwork

__all__ = ("ADDRESSES", "PARENT", "ROOT_SERVER", "SECONDARY", "Hierarchy")

PARENT = "example."
ROOT_SERVER, _PARENT_SERVER, SECONDARY = "10.0.0.1", "10.0.0.2", "10.0.0.3"
ADDRESSES = (ROOT_SERVER, _PARENT_SERVER, SECONDARY)
"""Addresses of the servers; they belong to the site ``owner``."""

_PORT = 53
_TTL = 300
_DNSKEY = 48


def _ds(zone: str, dnskey: bytes) -> str:
    key = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, dnskey, 0, len(dnskey))
    return dns.dnssec.make_ds(dns.name.from_text(zone), key, "SHA256").to_text()


class Hierarchy:
    """The servers.

    :param keys: zone (``.`` and ``example.``) -> PEM of its KSK and of its ZSK.
    :param agents: identity of each agent -> its address and the PEM of its identity zone's KSK.
    :param addresses: further names below ``example.`` -> address.
    """

    def __init__(
        self,
        network: SimNetwork,
        clock: Clock,
        random: Random,
        keys: Mapping[str, tuple[str, str]],
        agents: Mapping[str, tuple[str, str]],
        addresses: Mapping[str, str],
    ) -> None:
        self._clock, self._random, self._agents, self._addresses = clock, random, agents, addresses
        self._hosts = {address: network.host(address) for address in ADDRESSES}
        self._keys = {
            zone: [
                SigningKey.from_pem(zone, pem, ksk=ksk, now=0.0) for pem, ksk in zip(pems, (True, False), strict=True)
            ]
            for zone, pems in keys.items()
        }
        self._identities: dict[bytes, ZoneVersion] = {}

    def write_trust_anchor(self, path: Path) -> None:
        """Write the root's KSK in master-file form."""
        path.write_text(f"{record_text(ZoneName('.').owner, _DNSKEY, 0, self._keys['.'][0].dnskey)}\n")

    async def serve(self, tasks: anyio.abc.TaskGroup) -> None:
        """Start all servers."""
        root = self._signed(
            ".",
            [
                (".", "NS", [f"ns.root.{PARENT}"]),
                (f"ns.root.{PARENT}", "A", [ROOT_SERVER]),
                (PARENT, "NS", [f"ns.{PARENT}"]),
                (PARENT, "DS", [_ds(PARENT, self._keys[PARENT][0].dnskey)]),
                (f"ns.{PARENT}", "A", [_PARENT_SERVER]),
            ],
        )
        records: list[tuple[str, str, Sequence[str]]] = [
            (PARENT, "NS", [f"ns.{PARENT}"]),
            (f"ns.{PARENT}", "A", [_PARENT_SERVER]),
            (f"ns.root.{PARENT}", "A", [ROOT_SERVER]),
            (f"ns.identity.{PARENT}", "A", [SECONDARY]),
        ]
        records += [(name, "A", [address]) for name, address in self._addresses.items()]
        for identity, (_, pem) in self._agents.items():
            key = SigningKey.from_pem(identity, pem, ksk=True, now=0.0)
            records += [(identity, "NS", [f"ns.identity.{PARENT}"]), (identity, "DS", [_ds(identity, key.dnskey)])]
        for address, version in ((ROOT_SERVER, root), (_PARENT_SERVER, self._signed(PARENT, records))):
            await tasks.start(self._server(address, {version.origin: version}).serve)
        await self._serve_identities(tasks)

    def _signed(self, zone: str, records: Iterable[tuple[str, str, Sequence[str]]]) -> ZoneVersion:
        origin, now = ZoneName(zone).owner, self._clock.now()
        soa = f"ns.{PARENT} hostmaster.{PARENT} 1 3600 600 604800 5"
        rrsets: dict[tuple[bytes, int], list[bytes]] = {}
        for owner, rrtype, texts in [(zone, "SOA", [soa]), *records]:
            rdtype = type_from_text(rrtype)
            key = (ZoneName(owner).owner, rdtype)
            rrsets.setdefault(key, []).extend(parse_rdata(rdtype, text) for text in texts)
        unsigned = ZoneVersion.build(
            origin, ((owner, RRset.make(rdtype, _TTL, rdatas)) for (owner, rdtype), rdatas in rrsets.items())
        )
        signer = ZoneSigner(origin, SigningPolicy(publish_cds=False))
        signer.set_keys(self._keys[zone], ())
        return signer.sign(unsigned, now, 1)

    def _server(self, address: str, zones: Mapping[bytes, ZoneVersion]) -> DnsServer:
        host: Network = self._hosts[address]
        server = DnsServer(host, [(address, _PORT)], clock=self._clock)
        responder = Responder(zones)
        server.register_query(lambda octets, source, over_tcp: responder.respond(octets, over_tcp=over_tcp))
        return server

    async def _serve_identities(self, tasks: anyio.abc.TaskGroup) -> None:
        secondaries: dict[bytes, SecondaryZone] = {}

        async def arrived(version: ZoneVersion) -> None:
            self._identities[version.origin] = version

        for identity, (address, _) in self._agents.items():
            origin = ZoneName(identity).owner
            secondaries[origin] = SecondaryZone(
                self._hosts[SECONDARY],
                origin,
                [RemoteServer(address, _PORT)],
                {},
                clock=self._clock,
                random=self._random,
                min_refresh=5,
                on_version=arrived,
                local_host=SECONDARY,
            )
            tasks.start_soon(secondaries[origin].run)
        server = self._server(SECONDARY, self._identities)
        server.register(NotifyReceiver(secondaries).handle, NOTIFY, SOA)
        await tasks.start(server.serve)
