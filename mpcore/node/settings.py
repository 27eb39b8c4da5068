"""Settings of the roles: what a node must be told, validated, with no trace of the file they came from.

The daemons read them from YAML (one file per daemon, snake_case, relative paths relative to the file) and report
errors with file, key and line; tests and the simulator construct them directly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mpcore.names import Identity, Label, ZoneName
from mpcore.zone.serial import SerialPolicy

__all__ = (
    "AgentSettings",
    "CombinerSettings",
    "ConfiguredPeer",
    "Endpoint",
    "HttpsSettings",
    "IdentityZoneSettings",
    "ListenEndpoint",
    "ListenTls",
    "NodeSettings",
    "Primary",
    "PrimaryTls",
    "ResolverSettings",
    "Secondary",
    "SecondaryTls",
    "SignerSettings",
    "UpstreamSigner",
    "ZoneSettings",
)

_Identity = Annotated[str, AfterValidator(lambda text: Identity.lowered(text))]
_Zone = Annotated[str, AfterValidator(lambda text: ZoneName(text))]
_Label = Annotated[str, AfterValidator(lambda text: Label(text))]
_Port = Annotated[int, Field(ge=1, le=65535)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Endpoint(_Settings):
    """An address and port, for DNS over UDP and TCP."""

    address: str
    port: _Port = 53


class ListenTls(_Settings):
    """The certificate of a listener for DNS over TLS, and the clients that it knows.  Files are PEM."""

    certificate_file: Path  #: certificate chain
    private_key_file: Path  #: without a password, mode 0600
    client_ca_file: Path | None = None  #: certificates of clients, or of authorities that issue them


class ListenEndpoint(Endpoint):
    """An address and port to listen at: for DNS over UDP and TCP or, with ``tls``, for DNS over TLS (RFC 7858) only."""

    tls: ListenTls | None = None


class PrimaryTls(_Settings):
    """Transfers from a primary by TLS (RFC 9103): how the primary is known, and our certificate for it.

    With ``pins``, its public key must be one of them.  With ``ca_file`` or ``server_name``, its certificate must be
    valid; ``server_name`` is the name in it, by default the address.  Without any of them, a TSIG key is needed.
    """

    server_name: str | None = None
    pins: tuple[str, ...] = ()  #: SHA-256 of public keys in base64, as ``kdig +tls-pin`` takes them
    ca_file: Path | None = None  #: authorities, PEM; with ``server_name`` alone those of the system
    certificate_file: Path | None = None  #: our certificate chain, PEM
    private_key_file: Path | None = None  #: PEM without a password, mode 0600


class Primary(Endpoint):
    """Where a zone is transferred from, and the TSIG key that authenticates it (name in ``tsig_keys_file``).

    With ``tls``, transfers and the queries before them go by TLS, to this port: 853 by custom, and it must be given.
    """

    tsig_key: str | None = None
    tls: PrimaryTls | None = None

    @model_validator(mode="after")
    def _authenticated(self) -> Self:
        tls = self.tls
        if tls is not None and not (tls.pins or tls.ca_file or tls.server_name or self.tsig_key):
            raise ValueError("a primary reached by TLS needs pins, ca_file or server_name, or a tsig_key")
        return self


class SecondaryTls(_Settings):
    """Transfers to a secondary by TLS only, and the certificate that it must show."""

    client_fingerprint: str | None = None  #: SHA-256 of the certificate in hexadecimal digits; absent: none needed


class Secondary(Endpoint):
    """Who is notified of changes and may transfer: the TSIG key is required for transfers unless it is absent.

    With ``tls``, only transfers by TLS are permitted; notifications go by UDP or TCP to this port all the same.
    """

    tsig_key: str | None = None
    tls: SecondaryTls | None = None


class ConfiguredPeer(_Settings):
    """A peer known from configuration: own combiner or signer of an agent, agents of a combiner or signer."""

    identity: _Identity
    address: str
    port: _Port = 53
    public_key_file: Path  #: one JWK, EC P-256


class ZoneSettings(_Settings):
    """A customer zone."""

    name: _Zone
    primaries: tuple[Primary, ...] = Field(min_length=1)
    secondaries: tuple[Secondary, ...] = ()
    serial_policy: SerialPolicy | None = None  #: of a combiner or signer; ``None``: that of the daemon
    #: octets of changes kept for incremental transfers to secondaries, over restarts too; 0 keeps none
    journal_octets: int = Field(default=16 << 20, ge=0, le=1 << 30)
    journal_changes: int = Field(default=1000, ge=1, le=100_000)  #: most changes kept for them


class UpstreamSigner(Primary):
    """Where a provider that does not sign transfers the signed zone from, by the upstream's HSYNC3 label."""

    label: _Label


def _plain(value: Any) -> Any:
    return value.model_dump() if type(value) is Endpoint else value


def _not_only_tls(endpoints: tuple[ListenEndpoint, ...]) -> tuple[ListenEndpoint, ...]:
    if endpoints and endpoints[0].tls is not None:
        raise ValueError("the first address must be one without tls: peers and primaries know us by it")
    return endpoints


_Listen = Annotated[ListenEndpoint, BeforeValidator(_plain)]


class NodeSettings(_Settings):
    """What every role has."""

    identity: _Identity
    provider: _Label  #: short name of the provider, shown to operators
    state_dir: Path  #: database and lock; created with mode 0700
    control_socket: Path  #: Unix socket of the control service, in a directory of mode 0700
    listen: Annotated[tuple[_Listen, ...], AfterValidator(_not_only_tls)] = Field(min_length=1)
    key_file: Path  #: private JWK, EC P-256, mode 0600
    tsig_keys_file: Path | None = None  #: YAML list of {name, algorithm, secret}, mode 0600
    min_refresh: float = Field(default=60, ge=1, le=86400)  #: lower bound of the SOA refresh timer, seconds
    max_refresh: float = Field(default=28800, ge=1, le=604800)
    #: payloads go with the message (edns0), are fetched by the receiver (query), or whichever their size needs (auto)
    chunk_mode: Literal["edns0", "query", "auto"] = "auto"
    #: whether other agents are told where they fetch; without it they use the address that they know
    chunk_query_endpoint: Literal["include", "none"] = "include"
    #: seconds for which messages of a type are listed; 30 for beat and ping, 300 for the others unless given
    distribution_retention: dict[str, Annotated[float, Field(ge=1, le=86400)]] = Field(default_factory=dict)


class ResolverSettings(_Settings):
    """How an agent looks its peers up; every answer is validated."""

    trust_anchor_file: Path  #: DS or DNSKEY records in master-file form
    root_hints: tuple[str, ...] = ()  #: addresses of root servers: iterate
    forwarders: tuple[Endpoint, ...] = ()  #: recursive servers: forward, and validate here
    port: _Port = 53  #: port of authoritative servers when iterating
    timeout: float = Field(default=2.0, gt=0, le=30)


class IdentityZoneSettings(_Settings):
    """The agent's own zone, named as its identity, with URI, SVCB, JWK and KEY for peers to find."""

    nameservers: tuple[str, ...] = Field(min_length=1)  #: names outside the zone that serve it
    secondaries: tuple[Secondary, ...] = ()
    ksk_file: Path  #: PKCS#8 PEM, created by ``mpagent keygen`` or the lab, mode 0600
    zsk_file: Path


class HttpsSettings(_Settings):
    """Messages to and from agents of this implementation by HTTPS, besides DNS."""

    listen: tuple[Endpoint, ...] = Field(min_length=1)  #: for HTTPS only
    publish: tuple[Endpoint, ...] = Field(min_length=1)  #: where peers reach us by it; one port for all addresses
    key_file: Path  #: private JWK, EC P-256, mode 0600, of the certificate; another key than that for messages
    prefer: Literal["https", "dns"] = "https"  #: what is tried first to a peer that has both
    fall_back: bool = True  #: use the other way while one fails; without, a peer that has HTTPS gets nothing by DNS
    max_connections: int = Field(default=256, ge=1, le=10000)


class AgentSettings(NodeSettings):
    """An agent."""

    next_key_file: Path | None = None  #: where a key roll-over keeps the next key; beside key_file unless given

    role: Literal["agent"] = "agent"
    publish: tuple[Endpoint, ...] = Field(min_length=1)  #: where peers reach us; one port for all addresses
    combiner: ConfiguredPeer
    signer: ConfiguredPeer
    identity_zone: IdentityZoneSettings
    resolver: ResolverSettings
    zones: tuple[ZoneSettings, ...] = ()
    beat_interval: float = Field(default=15, ge=1, le=1800)
    hello_retry: float = Field(default=15, ge=1, le=1800)
    hello_fast_attempts: int = Field(default=3, ge=1, le=20)
    hello_fast_interval: float = Field(default=1, ge=0.05, le=30)
    discovery_retry: float = Field(default=15, ge=0.2, le=1800)
    leader_ttl: float = Field(default=3600, ge=60, le=86400)
    https: HttpsSettings | None = None  #: absent: neither offered nor used


class CombinerSettings(NodeSettings):
    """A combiner."""

    role: Literal["combiner"] = "combiner"
    agents: tuple[ConfiguredPeer, ...] = Field(min_length=1)
    zones: tuple[ZoneSettings, ...] = ()
    serial_policy: SerialPolicy = "persist"  #: how serials advance, see :data:`mpcore.zone.serial.SerialPolicy`
    protected_namespaces: tuple[str, ...] = ()  #: remote agents may not contribute NS targets below these names


class SignerSettings(NodeSettings):
    """A signer."""

    role: Literal["signer"] = "signer"
    agents: tuple[ConfiguredPeer, ...] = Field(min_length=1)
    zones: tuple[ZoneSettings, ...] = ()
    serial_policy: SerialPolicy = "persist"  #: how serials advance, see :data:`mpcore.zone.serial.SerialPolicy`
    upstream_signers: tuple[UpstreamSigner, ...] = ()
    algorithm: Literal["ECDSAP256SHA256", "ED25519", "RSASHA256"] = "ECDSAP256SHA256"
    signature_lifetime: float = Field(default=14 * 86400, ge=3600, le=365 * 86400)
    signature_refresh: float = Field(default=7 * 86400, ge=60)  #: re-sign when this little is left
    dnskey_ttl: int = Field(default=3600, ge=0, le=86400)
    key_passphrase_file: Path | None = None  #: private keys in the database are encrypted with it
