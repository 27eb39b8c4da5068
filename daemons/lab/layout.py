"""Where everything in a lab is: addresses, names, keys, files.

Every server has an address of its own in a /24 below 127/8 and all of them use one unprivileged port, so that referrals
work as on the Internet: the resolver iterates on that port.  The last octet says who it is:

=========  ==========================================================================================
.1         root
.2         the ``example.`` zone: the parent of everything
.3         secondary of the agents' identity zones
.4         recursive resolver, for people and tools
.5         primary of the zone's owner
.x1 .x2 .x3  agent, combiner and signer of provider x (alpha is 1)
=========  ==========================================================================================
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from mpcore.errors import ConfigError, LocalError
from mpcore.names import Identity, InvalidNameError, Label, ZoneName
from mpcore.records import HSYNC3, HSYNC3_TYPE, HSYNCPARAM, HSYNCPARAM_TYPE
from mpcore.signer.keys import Algorithm, SigningKey, dump_pem, generate_private_key
from mpcore.wire.seal import PrivateKey, write_private_key, write_public_key
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_file, write_master_text
from mpcore.zone.rrset import RRset, parse_rdata, record_text
from mpcore.zone.version import ZoneVersion

__all__ = (
    "HTTPS_PORT",
    "OWNER_KEY",
    "PARENT",
    "PORT",
    "PROVIDERS",
    "ROLES",
    "TRANSPORTS",
    "BlockLock",
    "Daemon",
    "Layout",
    "Provider",
    "owner_zone",
    "plan_layout",
    "read_layout",
    "take_block",
    "write_files",
    "zone_key",
)

PORT = 5300  #: of every server in the lab
HTTPS_PORT = 5443  #: of the agents that have HTTPS
TRANSPORTS = ("dns", "https", "https-only", "mixed")
PROVIDERS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
ROLES = ("agent", "combiner", "signer")
PARENT = "example."
OWNER_KEY = "owner.transfer.lab."  #: TSIG key with which the owner may change the zone
_BLOCKS = 200
_NS, _DNSKEY = 2, 48
_LONGEST_SOCKET = 100  #: octets; a Unix socket address holds 107


@dataclass(frozen=True)
class Daemon:
    """One process of the lab.

    :param name: ``alpha.agent`` and so on, or ``world``.
    :param control_socket: of its control service; empty for the world.
    """

    name: str
    role: str
    identity: str
    address: str
    config: str
    log: str
    control_socket: str


@dataclass(frozen=True)
class Provider:
    """One provider.

    :param signs: whether it is a signer of the zone.
    :param upstream: label of the provider whose signed zone it serves, ``""`` for a signer.
    """

    label: str
    signs: bool
    upstream: str
    agent: Daemon
    combiner: Daemon
    signer: Daemon

    @property
    def daemons(self) -> tuple[Daemon, Daemon, Daemon]:
        """Its three daemons, in the order in which data flows."""
        return self.combiner, self.signer, self.agent

    @property
    def name_server(self) -> str:
        """Name under which its signer serves the zone."""
        return f"ns.{self.label}.{PARENT}"


@dataclass(frozen=True)
class Layout:
    """A whole lab.

    :param block: first three octets of all addresses.
    :param zone: the customer's zone.
    :param transport: how agents talk: ``dns``; ``https`` first; ``https-only``; ``mixed``: the last provider has DNS
        only.
    """

    directory: str
    block: str
    port: int
    zone: str
    providers: tuple[Provider, ...]
    world: Daemon
    supervisor_socket: str
    transport: str = "dns"

    def address(self, last: int) -> str:
        """The address that ends in *last*."""
        return f"{self.block}.{last}"

    @property
    def root(self) -> str:
        """Address of the root server."""
        return self.address(1)

    @property
    def parent(self) -> str:
        """Address of the server of ``example.``."""
        return self.address(2)

    @property
    def secondary(self) -> str:
        """Address of the secondary of the identity zones."""
        return self.address(3)

    @property
    def resolver(self) -> str:
        """Address of the recursive resolver."""
        return self.address(4)

    @property
    def owner(self) -> str:
        """Address of the owner's primary."""
        return self.address(5)

    @property
    def trust_anchor_file(self) -> Path:
        """DNSKEY of the lab's root, in master-file form."""
        return Path(self.directory) / "world" / "trust-anchor.zone"

    @property
    def zone_file(self) -> Path:
        """The customer's zone as the owner's primary serves it."""
        return Path(self.directory) / "world" / "customer.zone"

    @property
    def owner_key_file(self) -> Path:
        """TSIG key with which the owner may change the zone, as ``nsupdate -k`` takes it."""
        return Path(self.directory) / "world" / "owner.key"

    @property
    def daemons(self) -> dict[str, Daemon]:
        """All processes by name, the world first."""
        return {self.world.name: self.world} | {
            daemon.name: daemon for provider in self.providers for daemon in provider.daemons
        }

    def files(self, provider: Provider, role: str) -> Path:
        """Directory of one daemon."""
        return Path(self.directory) / provider.label / role

    def save(self) -> None:
        """Write ``lab.json`` and ``contexts.yaml``."""
        directory = Path(self.directory)
        _write(directory / "lab.json", json.dumps(asdict(self), indent=2) + "\n")
        contexts = [
            {"name": provider.label} | {role: getattr(provider, role).control_socket for role in ROLES}
            for provider in self.providers
        ]
        lab = {
            "zone": self.zone,
            "resolver": {"address": self.resolver, "port": self.port},
            "root": {"address": self.root, "port": self.port},
            "trust_anchor_file": str(self.trust_anchor_file),
            "contexts": contexts,
        }
        _write(directory / "contexts.yaml", yaml.safe_dump(lab, sort_keys=False))


def read_layout(directory: Path) -> Layout:
    """The lab that was set up in *directory*; :raises ConfigError: there is none."""
    path = directory / "lab.json"
    try:
        value = json.loads(path.read_text("utf-8"))
        providers = tuple(
            Provider(**(item | {role: Daemon(**item[role]) for role in ROLES})) for item in value["providers"]
        )
        return Layout(**(value | {"providers": providers, "world": Daemon(**value["world"])}))
    except OSError as error:
        raise ConfigError(f"no lab here: {error.strerror}", file=str(path)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"is damaged: {error}", file=str(path)) from None


def plan_layout(
    directory: Path,
    block: str,
    zone: str,
    count: int,
    signers: Sequence[str] | None,
    supervisor_socket: Path,
    transport: str = "dns",
) -> Layout:
    """Lay a lab out.

    :param count: providers, 2 to 8.
    :param signers: labels of those that sign, ``None``: all.
    :param transport: one of :data:`TRANSPORTS`.
    :raises ConfigError: a signer that is no provider, or too many providers.
    """
    if not 2 <= count <= len(PROVIDERS):
        raise ConfigError(f"a lab has 2 to {len(PROVIDERS)} providers, not {count}", key="--providers")
    labels = PROVIDERS[:count]
    try:
        chosen = labels if signers is None else tuple(dict.fromkeys(str(Label(label)) for label in signers))
    except InvalidNameError as error:
        raise ConfigError(str(error), key="--signers") from None
    strangers = [label for label in chosen if label not in labels]
    if strangers or not chosen:
        raise ConfigError(
            f"{', '.join(strangers) or 'nobody'} cannot sign; the providers are {', '.join(labels)}", key="--signers"
        )
    sockets = supervisor_socket.parent
    providers = []
    for number, label in enumerate(labels, 1):
        daemons = {}
        for offset, role in enumerate(ROLES, 1):
            home = directory / label / role
            daemons[role] = Daemon(
                name=f"{label}.{role}",
                role=role,
                identity=str(Identity.lowered(f"{role}.{label}.{PARENT}")),
                address=f"{block}.{10 * number + offset}",
                config=str(home / "config.yaml"),
                log=str(home / "log"),
                control_socket=str(sockets / f"{label}.{role}"),
            )
        signs = label in chosen
        providers.append(Provider(label, signs, "" if signs else chosen[0], **daemons))
    world = Daemon(
        name="world",
        role="world",
        identity="",
        address=f"{block}.1",
        config="",
        log=str(directory / "world" / "log"),
        control_socket="",
    )
    return Layout(
        directory=str(directory),
        block=block,
        port=PORT,
        zone=str(ZoneName(zone)),
        providers=tuple(providers),
        world=world,
        supervisor_socket=str(supervisor_socket),
        transport=transport,
    )


# ---------------------------------------------------------------------------------------------------------- addresses


class BlockLock:
    """A /24 below 127/8 that is ours as long as this object, or the process, lives."""

    def __init__(self, block: str, descriptor: int) -> None:
        self.block = block
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def take_block(preferred: str | None = None) -> BlockLock:
    """Take the first free block, or *preferred* if it is free.

    :raises LocalError: none is free, or this system has no loopback network 127/8.
    """
    locks = Path(tempfile.gettempdir()) / f"mpdnssec-lab-{os.getuid()}"
    locks.mkdir(mode=0o700, exist_ok=True)
    if locks.stat().st_uid != os.getuid():
        raise LocalError(f"{locks} belongs to somebody else")
    candidates = [f"127.{100 + number // 100}.{number % 100}" for number in range(_BLOCKS)]
    for block in dict.fromkeys([*([preferred] if preferred else []), *candidates]):
        descriptor = os.open(locks / block, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((f"{block}.1", PORT))
        except OSError:
            os.close(descriptor)
            continue
        return BlockLock(block, descriptor)
    raise LocalError(f"no block of loopback addresses is free on port {PORT}")


def socket_directory(directory: Path) -> Path:
    """Where the Unix sockets go: below *directory*, or in a short path of their own if that is too long."""
    inside = directory / "run"
    if len(os.fsencode(inside)) + 20 <= _LONGEST_SOCKET:
        return inside
    return Path(tempfile.mkdtemp(prefix="mplab-"))


# -------------------------------------------------------------------------------------------------------------- files


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file at once and completely; an existing one is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
    temporary.replace(path)


def _once(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file unless it exists: keys survive a restart of the lab."""
    if not path.exists():
        _write(path, text, mode)


def owner_zone(layout: Layout, file: Path) -> ZoneVersion:
    """The customer's zone with what multi-provider operation needs at its apex, added where it is missing.

    :param file: the master file.
    :raises ConfigError: the zone's own HSYNC3 records name others than the lab's providers.
    :raises MasterFileError, ZoneError: the file is no usable zone.
    """
    version = read_master_file(file)
    apex = version.origin
    changes: list[tuple[bytes, int, RRset | None]] = []
    given = version.get(apex, HSYNC3_TYPE)
    if given is None:
        records = [
            HSYNC3.make(provider.label, provider.agent.identity, provider.upstream) for provider in layout.providers
        ]
        changes.append((apex, HSYNC3_TYPE, RRset.make(HSYNC3_TYPE, 3600, [_octets(record) for record in records])))
    if version.get(apex, HSYNCPARAM_TYPE) is None:
        parameters = HSYNCPARAM.make(
            nsmgmt="agent",
            parentsync="owner",
            servers=[provider.label for provider in layout.providers],
            signers=[provider.label for provider in layout.providers if provider.signs],
        )
        changes.append((apex, HSYNCPARAM_TYPE, RRset.make(HSYNCPARAM_TYPE, 3600, [_octets(parameters)])))
    if version.get(apex, _NS) is None:
        names = [parse_rdata(_NS, provider.name_server) for provider in layout.providers]
        changes.append((apex, _NS, RRset.make(_NS, 3600, names)))
    return version.update(changes)


def _octets(record: Any) -> bytes:
    octets: bytes = record.to_wire()
    return octets


def write_files(layout: Layout, zone_file: Path) -> None:
    """Write every file of the lab: keys once, configurations anew.

    :raises ConfigError, MasterFileError, ZoneError: the zone cannot be used.
    """
    directory = Path(layout.directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    Path(layout.supervisor_socket).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(layout.zone_file, write_master_text(owner_zone(layout, zone_file)))
    for name in ("root", "parent"):
        for kind in ("ksk", "zsk"):
            _once(directory / "world" / f"{name}.{kind}.pem", dump_pem(generate_private_key(Algorithm.ECDSAP256SHA256)))
    # Written here and not by the world: the agents read it at their start, which may come first.
    anchor = zone_key(directory / "world", "root", "ksk", ".").dnskey
    _write(layout.trust_anchor_file, f"{record_text(owners.ROOT, _DNSKEY, 0, anchor)}\n")
    for provider in layout.providers:
        for role in ROLES:
            key = PrivateKey.generate()
            home = layout.files(provider, role)
            if not (home / "key.jwk").exists():
                _write(home / "key.jwk", write_private_key(key), 0o600)
                _write(home / "key.pub.jwk", write_public_key(key.public()))
        _once(layout.files(provider, "agent") / "https.jwk", write_private_key(PrivateKey.generate()))
        for kind in ("ksk", "zsk"):
            path = layout.files(provider, "agent") / f"identity.{kind}.pem"
            _once(path, dump_pem(generate_private_key(Algorithm.ECDSAP256SHA256)))
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        _once(
            directory / provider.label / "tsig.yaml",
            yaml.safe_dump([{"name": _key_name(provider.label), "algorithm": "hmac-sha256", "secret": secret}]),
        )
    keys = [
        yaml.safe_load((directory / provider.label / "tsig.yaml").read_text("utf-8"))[0]
        for provider in layout.providers
    ]
    owner = {"name": OWNER_KEY, "algorithm": "hmac-sha256"}
    owner["secret"] = base64.b64encode(secrets.token_bytes(32)).decode()
    _once(directory / "world" / "owner.yaml", yaml.safe_dump([owner], sort_keys=False))
    owner = yaml.safe_load((directory / "world" / "owner.yaml").read_text("utf-8"))[0]
    _write(directory / "world" / "tsig.yaml", yaml.safe_dump([*keys, owner], sort_keys=False), 0o600)
    _write(
        layout.owner_key_file,
        f'key "{owner["name"]}" {{ algorithm {owner["algorithm"]}; secret "{owner["secret"]}"; }};\n',
        0o600,
    )
    for provider in layout.providers:
        # A provider that does not sign transfers from its upstream's signer, with the upstream's key.
        own = [key for key in keys if key["name"] in (_key_name(provider.label), _key_name(provider.upstream))]
        for role in ROLES:
            _write(layout.files(provider, role) / "tsig.yaml", yaml.safe_dump(own, sort_keys=False), 0o600)
            _write(
                layout.files(provider, role) / "config.yaml",
                yaml.safe_dump(_config(layout, provider, role), sort_keys=False),
            )
    layout.save()


def zone_key(directory: Path, name: str, kind: str, zone: str) -> SigningKey:
    """The DNSSEC key in ``name.kind.pem``.

    :param name: ``root``, ``parent`` or ``identity``.
    :param kind: ``ksk`` or ``zsk``.
    :param zone: what it signs.
    """
    path = directory / f"{name}.{kind}.pem"
    return SigningKey.from_pem(zone, path.read_text("ascii"), ksk=kind == "ksk", now=0.0, file=str(path))


def _key_name(label: str) -> str:
    return f"{label}.transfer.lab."


def _config(layout: Layout, provider: Provider, role: str) -> dict[str, Any]:
    """Configuration of one daemon, as YAML will have it."""
    daemon: Daemon = getattr(provider, role)
    key = _key_name(provider.label)
    config: dict[str, Any] = {
        "identity": str(daemon.identity),
        "provider": provider.label,
        "state_dir": "state",
        "control_socket": daemon.control_socket,
        "listen": [{"address": daemon.address, "port": layout.port}],
        "key_file": "key.jwk",
        "tsig_keys_file": "tsig.yaml",
        "min_refresh": 5,
    }

    def peer(role: str) -> dict[str, Any]:
        other: Daemon = getattr(provider, role)
        return {
            "identity": str(other.identity),
            "address": other.address,
            "port": layout.port,
            "public_key_file": f"../{role}/key.pub.jwk",
        }

    def server(address: str, tsig: str = key) -> dict[str, Any]:
        return {"address": address, "port": layout.port, "tsig_key": tsig}

    zone: dict[str, Any] = {"name": str(layout.zone)}
    if role == "combiner":
        zone |= {"primaries": [server(layout.owner)], "secondaries": [server(provider.signer.address)]}
        return config | {"agents": [peer("agent")], "zones": [zone]}
    if role == "signer":
        downstream = [other for other in layout.providers if other.upstream == provider.label]
        zone |= {
            "primaries": [server(provider.combiner.address)],
            "secondaries": [server(provider.agent.address)] + [server(other.signer.address) for other in downstream],
        }
        upstreams = [
            server(other.signer.address, _key_name(other.label)) | {"label": other.label}
            for other in layout.providers
            if other.label == provider.upstream
        ]
        return config | {"agents": [peer("agent")], "zones": [zone], "upstream_signers": upstreams}
    zone |= {"primaries": [server(provider.signer.address)]}
    if layout.transport in ("https", "https-only") or (
        layout.transport == "mixed" and provider.label != layout.providers[-1].label
    ):
        config["https"] = {
            "listen": [{"address": daemon.address, "port": HTTPS_PORT}],
            "publish": [{"address": daemon.address, "port": HTTPS_PORT}],
            "key_file": "https.jwk",
        }
        if layout.transport == "https-only":
            config["https"]["fall_back"] = False
    return config | {
        "publish": [{"address": daemon.address, "port": layout.port}],
        "combiner": peer("combiner"),
        "signer": peer("signer"),
        "identity_zone": {
            "nameservers": [f"ns.identity.{PARENT}"],
            "secondaries": [server(layout.secondary)],
            "ksk_file": "identity.ksk.pem",
            "zsk_file": "identity.zsk.pem",
        },
        "resolver": {
            "trust_anchor_file": str(layout.trust_anchor_file),
            "root_hints": [layout.root],
            "port": layout.port,
        },
        "zones": [zone],
        "beat_interval": 5,
        "discovery_retry": 2,
        "hello_retry": 5,
    }
