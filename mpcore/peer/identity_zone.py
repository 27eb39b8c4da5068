"""The records by which peers find an agent: its identity zone, a small zone named as the identity.

How a node drives this
----------------------
Call :func:`identity_zone_records` at the start and when the key or the endpoints change, with a serial that grows;
build a version of the records, sign it, serve and transfer it.  All records are there from the first version on, so
that no secondary can hold half of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from mpcore.errors import ConfigError
from mpcore.names import Identity
from mpcore.peer.dane import tlsa_text
from mpcore.peer.discovery import HTTPS_HOST, HTTPS_SERVICE
from mpcore.records import JWK, JWK_TYPE
from mpcore.zone.rrset import RRset

__all__ = ("HTTPS_PATH", "HTTPS_RECORDS", "RECORDS", "PublishedEndpoint", "identity_zone_records")

HTTPS_PATH: Final = "/mp/1"
"""Path below which messages are posted: the 1 is the version."""

RECORDS: Final[tuple[tuple[str, str, int, str], ...]] = (
    ("I", "SOA", 86400, "first name server, hostmaster.I, serial, 3600 1800 1209600 60"),
    ("I", "NS", 86400, "each name server"),
    ("_dns._tcp.I", "URI", 7200, '1 1 "dns://dns.I:port/"'),
    ("dns.I", "A, AAAA", 120, "each published address"),
    ("dns.I", "SVCB", 120, "1 dns.I port, ipv4hint, ipv6hint"),
    ("dns.I", "KEY", 3600, "SIG(0) public key, if there is one"),
    ("dns.I", "JWK", 3600, "public key for messages; during a roll-over also the next one"),
)
"""What is published for the identity ``I``: owner, type, TTL, content (guide, wire format, "Discovery")."""

HTTPS_RECORDS: Final[tuple[tuple[str, str, int, str], ...]] = (
    ("_mp-https._tcp.I", "URI", 7200, '1 1 "https://https.I:port/mp/1"'),
    ("https.I", "A, AAAA", 120, "each address published for HTTPS"),
    ("https.I", "SVCB", 120, "1 https.I alpn=http/1.1, port, ipv4hint, ipv6hint"),
    ("_<port>._tcp.https.I", "TLSA", 3600, "3 1 1, SHA-256 of the certificate's key; during a roll-over two"),
)
"""What is published besides where HTTPS is switched on (guide, wire format, "HTTPS")."""

_TTL: Final = {
    "SOA": 86400,
    "NS": 86400,
    "URI": 7200,
    "A": 120,
    "AAAA": 120,
    "SVCB": 120,
    "KEY": 3600,
    "JWK": 3600,
    "TLSA": 3600,
}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Record = tuple[dns.name.Name, str, list[bytes]]
# Negative answers are kept for a minute only: a peer that looked a moment too early must soon look again.
_NEGATIVE_TTL: Final = 60


class PublishedEndpoint(Protocol):
    """An address and a port, as :class:`mpcore.node.settings.Endpoint`."""

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...


def identity_zone_records(
    identity: str,
    publish: Sequence[PublishedEndpoint],
    jwk: Mapping[str, Any],
    sig0_key: bytes | None,
    nameservers: Iterable[str],
    serial: int,
    next_jwk: Mapping[str, Any] | None = None,
    https: Sequence[PublishedEndpoint] = (),
    https_keys: Sequence[bytes] = (),
) -> list[tuple[bytes, RRset]]:
    """The records of the identity zone, unsigned.

    :param identity: absolute name, lower case.
    :param publish: where peers reach the agent; one port for all addresses.
    :param jwk: public key, EC P-256; private members are left out.
    :param sig0_key: RDATA of the KEY record (RFC 2931), or ``None``.
    :param nameservers: absolute names outside the zone, at least one.
    :param serial: of the SOA record, 0 to 4294967295.
    :param next_jwk: the public key that will sign next, published beside *jwk* during a roll-over.
    :param https: where peers reach the agent by HTTPS; one port for all addresses; none: it does not offer HTTPS.
    :param https_keys: public keys of its certificate (SubjectPublicKeyInfo, DER), at least one if *https* is given.
    :return: (owner, RRset), the apex first.
    :raises ConfigError: no endpoint, two ports, an address that is none, a name server inside the zone, another key.
    """
    apex = Identity(identity).name
    host, service = dns.name.from_text("dns", apex), dns.name.from_text("_dns._tcp", apex)
    addresses, port = _endpoints(publish)
    servers = [dns.name.from_text(name) for name in dict.fromkeys(nameservers)]
    if not servers:
        raise ConfigError("the identity zone has no name server", key="identity_zone.nameservers")
    for server in servers:
        if server.is_subdomain(apex):
            raise ConfigError(f"name server {server} is inside the identity zone", key="identity_zone.nameservers")
    records: list[_Record] = [
        (
            apex,
            "SOA",
            [_rdata("SOA", f"{servers[0]} hostmaster.{apex} {serial} 3600 1800 1209600 {_NEGATIVE_TTL}")],
        ),
        (apex, "NS", [_rdata("NS", server.to_text()) for server in servers]),
        (service, "URI", [_rdata("URI", f'1 1 "dns://{host}:{port}/"')]),
    ]
    records += _host_records(host, addresses, [f"port={port}"])
    if sig0_key is not None:
        records.append((host, "KEY", [sig0_key]))
    records.append((host, "JWK", [_jwk_rdata(key) for key in (jwk, next_jwk) if key is not None]))
    if https:
        records += _https_records(apex, https, https_keys)
    return [
        (owner.canonicalize().to_wire() or b"", RRset.make(_type(rrtype), _TTL[rrtype], rdatas))
        for owner, rrtype, rdatas in records
    ]


def _host_records(host: dns.name.Name, addresses: Sequence[_Address], parameters: Sequence[str]) -> list[_Record]:
    """Addresses of a host, and the SVCB record that has them as hints."""
    records: list[_Record] = []
    hints = list(parameters)
    for version, rrtype, hint in ((4, "A", "ipv4hint"), (6, "AAAA", "ipv6hint")):
        texts = [str(address) for address in addresses if address.version == version]
        if texts:
            records.append((host, rrtype, [_rdata(rrtype, text) for text in texts]))
            hints.append(f"{hint}={','.join(texts)}")
    records.append((host, "SVCB", [_rdata("SVCB", f"1 {host} {' '.join(hints)}")]))
    return records


def _https_records(apex: dns.name.Name, publish: Sequence[PublishedEndpoint], keys: Sequence[bytes]) -> list[_Record]:
    host = dns.name.from_text(HTTPS_HOST, apex)
    addresses, port = _endpoints(publish, "https.publish")
    if not keys:
        raise ConfigError("there is no key of a certificate to publish", key="https.key_file")
    return [
        (dns.name.from_text(HTTPS_SERVICE, apex), "URI", [_rdata("URI", f'1 1 "https://{host}:{port}{HTTPS_PATH}"')]),
        *_host_records(host, addresses, ["alpn=http/1.1", f"port={port}"]),
        (dns.name.from_text(f"_{port}._tcp", host), "TLSA", [_rdata("TLSA", tlsa_text(key)) for key in keys]),
    ]


def _endpoints(publish: Sequence[PublishedEndpoint], setting: str = "publish") -> tuple[list[_Address], int]:
    if not publish:
        raise ConfigError("no endpoint is published", key=setting)
    ports = {endpoint.port for endpoint in publish}
    if len(ports) != 1:
        raise ConfigError("all published endpoints must have the same port", key=setting)
    try:
        addresses = [ipaddress.ip_address(endpoint.address) for endpoint in publish]
    except ValueError as error:
        raise ConfigError(str(error), key=setting) from None
    return list(dict.fromkeys(addresses)), ports.pop()


def _type(rrtype: str) -> int:
    return JWK_TYPE if rrtype == "JWK" else int(dns.rdatatype.from_text(rrtype))


def _rdata(rrtype: str, text: str) -> bytes:
    rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(rrtype), text)
    return rdata.to_wire() or b""


def _jwk_rdata(jwk: Mapping[str, Any]) -> bytes:
    try:
        return JWK.from_public_key_jwk(jwk).to_octets()
    except ValueError as error:
        raise ConfigError(str(error), key="key_file") from None
