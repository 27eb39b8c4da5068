"""Where a node listens: what the settings say, with certificates loaded."""

from __future__ import annotations

from collections.abc import Iterable

from mpcore.net.network import Address
from mpcore.net.tls import TlsEndpoint, server_context
from mpcore.node.settings import ListenEndpoint

__all__ = ("plain_endpoints", "tls_endpoints")


def plain_endpoints(endpoints: Iterable[ListenEndpoint]) -> list[Address]:
    """The addresses for UDP and TCP."""
    return [(endpoint.address, endpoint.port) for endpoint in endpoints if endpoint.tls is None]


def tls_endpoints(endpoints: Iterable[ListenEndpoint]) -> list[TlsEndpoint]:
    """The addresses for TLS; :raises ConfigError: a certificate or key cannot be used."""
    return [
        TlsEndpoint(
            endpoint.address,
            endpoint.port,
            server_context(
                endpoint.tls.certificate_file,
                endpoint.tls.private_key_file,
                client_ca_file=endpoint.tls.client_ca_file,
            ),
        )
        for endpoint in endpoints
        if endpoint.tls is not None
    ]
