"""Settings for TLS: what is accepted, what is refused, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mpcore.errors import ConfigError
from mpcore.net.acl import Acl
from mpcore.net.tls import TlsClient
from mpcore.node.listening import plain_endpoints, tls_endpoints
from mpcore.node.settings import Endpoint, ListenEndpoint, ListenTls, NodeSettings, Primary, Secondary, ZoneSettings
from tests.unit.certificates import make_certificate


def settings(tmp_path: Path, *listen: object) -> NodeSettings:
    return NodeSettings.model_validate(
        {
            "identity": "combiner.p1.example.",
            "provider": "p1",
            "state_dir": tmp_path,
            "control_socket": tmp_path / "control",
            "listen": listen,
            "key_file": tmp_path / "key",
        }
    )


def test_listeners_are_told_apart(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    tls = {"certificate_file": certificate.certificate_file, "private_key_file": certificate.private_key_file}
    made = settings(
        tmp_path,
        Endpoint(address="192.0.2.1"),
        {"address": "2001:db8::1", "port": 5353},
        {"address": "192.0.2.1", "port": 853, "tls": tls},
    )
    assert plain_endpoints(made.listen) == [("192.0.2.1", 53), ("2001:db8::1", 5353)]
    (endpoint,) = tls_endpoints(made.listen)
    assert (endpoint.host, endpoint.port) == ("192.0.2.1", 853)
    missing = ListenTls(certificate_file=tmp_path / "none", private_key_file=certificate.private_key_file)
    with pytest.raises(ConfigError, match="none"):
        tls_endpoints([ListenEndpoint(address="192.0.2.1", tls=missing)])


def test_peers_need_an_address_without_tls(tmp_path: Path) -> None:
    tls = {"certificate_file": "a", "private_key_file": "b"}
    with pytest.raises(ValidationError, match="the first address must be one without tls"):
        settings(tmp_path, {"address": "192.0.2.1", "port": 853, "tls": tls})
    with pytest.raises(ValidationError):
        settings(tmp_path)


def test_a_primary_by_tls_is_authenticated_somehow(tmp_path: Path) -> None:
    pin = make_certificate(tmp_path).pin
    with pytest.raises(ValidationError, match="needs pins, ca_file or server_name, or a tsig_key"):
        Primary.model_validate({"address": "192.0.2.1", "port": 853, "tls": {}})
    for tls, key, proves in (
        ({"pins": [pin]}, None, True),
        ({"server_name": "ns.test"}, None, True),
        ({}, "k.", False),
    ):
        primary = Primary.model_validate({"address": "192.0.2.1", "port": 853, "tls": tls, "tsig_key": key})
        assert primary.tls is not None
        assert TlsClient.of(primary.tls).authenticates is proves


def test_a_secondary_by_tls_is_known_by_its_certificate() -> None:
    zone = ZoneSettings.model_validate(
        {
            "name": "customer.example.",
            "primaries": [{"address": "192.0.2.1"}],
            "secondaries": [
                {"address": "192.0.2.7", "tls": {"client_fingerprint": "AB" * 32}},
                {"address": "192.0.2.8", "tsig_key": "k.", "tls": {}},
                Secondary(address="192.0.2.9"),
            ],
        }
    )
    acl = Acl.for_servers(zone.secondaries)
    assert acl.permits("192.0.2.7", tls=True, certificate="ab" * 32)
    assert not acl.permits("192.0.2.7", tls=True)
    assert not acl.permits("192.0.2.8", b"\1k\0")
    assert acl.permits("192.0.2.8", b"\1k\0", tls=True)
    assert acl.permits("192.0.2.9")
