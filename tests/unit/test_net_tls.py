"""DNS and zone transfers by TLS: who is accepted, who is not, and what crosses; dnspython asks our server."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import anyio
import anyio.abc
import anyio.lowlevel
import dns.message
import dns.query
import dns.rcode
import pytest

from mpcore.errors import ConfigError, ExchangeError, TransferError
from mpcore.net.acl import Acl, AclEntry, normal_fingerprint
from mpcore.net.client import exchange
from mpcore.net.clock import SystemClock
from mpcore.net.messages import AXFR, IXFR, QUERY
from mpcore.net.network import Address, ByteStream, InternetNetwork
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.net.server import DnsServer, ServerLimits
from mpcore.net.tls import TlsClient, TlsEndpoint, TlsStream, listen_tls, pin_of, server_context
from mpcore.net.transfer import TransferServer, transfer_in
from mpcore.node.settings import PrimaryTls, SecondaryTls
from mpcore.zone.answer import Responder
from mpcore.zone.owners import from_text
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneVersion, diff
from tests.unit.certificates import Certificate, make_certificate
from tests.unit.memory_network import MemoryNetwork
from tests.unit.test_net_transfer import KEY, KEYRING, version_of

pytestmark = pytest.mark.anyio

NETWORK = InternetNetwork()
ORIGIN = from_text("customer.example.")
VERSION = version_of(5, 3000)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "ns.test", "127.0.0.1", "::1")


@pytest.fixture(scope="module")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "client.test")


@asynccontextmanager
async def serving(
    certificate: Certificate, acl: Acl, *, host: str = "127.0.0.1", clients: Certificate | None = None
) -> AsyncIterator[tuple[Address, Address]]:
    """A server of VERSION; yields where it listens for TCP and for TLS."""
    context = server_context(
        certificate.certificate_file,
        certificate.private_key_file,
        client_ca_file=None if clients is None else clients.certificate_file,
    )
    zones = {ORIGIN: VERSION}
    server = DnsServer(
        NETWORK,
        [(host, 0)],
        keyring=KEYRING,
        limits=ServerLimits(idle_timeout=0.5),
        tls=[TlsEndpoint(host, 0, context)],
    )
    transfers = TransferServer(zones, acl)
    server.register(transfers.handle, QUERY, AXFR)
    server.register(transfers.handle, QUERY, IXFR)
    server.register_query(lambda octets, source, tcp: Responder(zones).respond(octets, over_tcp=tcp))
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.serve)
        yield server.addresses[0], server.tls_addresses[0]
        tasks.cancel_scope.cancel()


async def fetch(primary: Address, tls: TlsClient | None, key: TsigKey | None = None) -> ZoneVersion:
    return await transfer_in(NETWORK, ORIGIN, primary, key=key, clock=SystemClock(), random=Random(1), tls=tls)


ANY = Acl.of([("127.0.0.0/8", None), ("::1", None)])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_zone_crosses_by_tls(certificate: Certificate, host: str) -> None:
    async with serving(certificate, ANY, host=host) as (plain, encrypted):
        for tls in (
            TlsClient(pins=[certificate.pin]),
            TlsClient(ca_file=certificate.certificate_file),
            TlsClient(ca_file=certificate.certificate_file, server_name="ns.test"),
            TlsClient(ca_file=certificate.certificate_file, pins=[certificate.pin]),
        ):
            assert tls.authenticates
            assert diff(VERSION, await fetch(encrypted, tls)) == []
        assert diff(VERSION, await fetch(plain, None)) == []
        unknown = TlsClient()
        assert not unknown.authenticates
        assert diff(VERSION, await fetch(encrypted, unknown, KEY)) == []
        with pytest.raises(ConfigError, match="needs pins, a certificate authority or a TSIG key"):
            await fetch(encrypted, unknown)


async def test_another_server_is_not_accepted(certificate: Certificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other.test", "127.0.0.1")
    async with serving(certificate, ANY) as (plain, encrypted):
        for tls, reason in (
            (TlsClient(pins=[other.pin]), "none of those configured"),
            (TlsClient(ca_file=other.certificate_file), "TLS failed"),
            (TlsClient(ca_file=certificate.certificate_file, server_name="other.test"), "TLS failed"),
            (TlsClient(server_name="ns.test"), "TLS failed"),  # the system's authorities do not know it
            (TlsClient(ca_file=certificate.certificate_file, pins=[other.pin]), "none of those configured"),
        ):
            with pytest.raises(ExchangeError, match=reason):
                await fetch(encrypted, tls)
        with pytest.raises(ExchangeError):
            await fetch(plain, TlsClient(pins=[certificate.pin]))
        with pytest.raises(ExchangeError):
            await fetch(encrypted, None)
        assert diff(VERSION, await fetch(encrypted, TlsClient(pins=[certificate.pin]))) == []
    expired = make_certificate(tmp_path, "expired.test", "127.0.0.1", days=-1)
    async with serving(expired, ANY) as (_, encrypted):
        with pytest.raises(ExchangeError, match="expired"):
            await fetch(encrypted, TlsClient(ca_file=expired.certificate_file))


async def test_access_lists_ask_for_tls_and_for_a_certificate(
    certificate: Certificate, client_certificate: Certificate, tmp_path: Path
) -> None:
    stranger = make_certificate(tmp_path, "stranger.test")

    def known(shown: Certificate | None) -> TlsClient:
        return TlsClient(
            pins=[certificate.pin],
            certificate_file=None if shown is None else shown.certificate_file,
            private_key_file=None if shown is None else shown.private_key_file,
        )

    only_tls = Acl.for_servers([RemoteServer("127.0.0.1", tls=SecondaryTls())])
    async with serving(certificate, only_tls) as (plain, encrypted):
        with pytest.raises(TransferError, match="REFUSED"):
            await fetch(plain, None)
        assert diff(VERSION, await fetch(encrypted, known(None))) == []
    spelled = ":".join(client_certificate.fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    by_certificate = Acl.for_servers([RemoteServer("127.0.0.1", tls=SecondaryTls(client_fingerprint=spelled))])
    async with serving(certificate, by_certificate, clients=client_certificate) as (plain, encrypted):
        for primary, tls in ((plain, None), (encrypted, known(None))):
            with pytest.raises(TransferError, match="REFUSED"):
                await fetch(primary, tls)
        with pytest.raises(ExchangeError):  # not issued by anybody we know
            await fetch(encrypted, known(stranger))
        assert diff(VERSION, await fetch(encrypted, known(client_certificate))) == []


async def test_dnspython_and_we_ask_by_tls(certificate: Certificate) -> None:
    async with serving(certificate, Acl()) as (_, encrypted):
        query = dns.message.make_query("host7.customer.example.", "A")

        def ask() -> dns.message.Message:
            return dns.query.tls(
                query,
                encrypted[0],
                port=encrypted[1],
                timeout=5,
                verify=str(certificate.certificate_file),
                server_hostname="ns.test",
            )

        theirs = await anyio.to_thread.run_sync(ask)
        assert theirs.rcode() == dns.rcode.NOERROR
        tls = TlsClient(pins=[certificate.pin])
        ours = await exchange(NETWORK, query.to_wire(), *encrypted, tls=tls)
        assert dns.message.from_wire(ours).answer == theirs.answer
        with pytest.raises(ExchangeError, match="over TLS"):
            await exchange(MemoryNetworkThatHangs(), query.to_wire(), "10.0.0.1", 853, tls=tls, timeout=0.05)


class MemoryNetworkThatHangs(MemoryNetwork):
    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> object:  # type: ignore[override]
        await anyio.sleep_forever()


async def test_only_tls_1_3_with_alpn_dot(certificate: Certificate) -> None:
    def connect(version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(certificate.certificate_file))
        context.maximum_version = version
        context.set_alpn_protocols(["dot", "h2"])
        with (
            socket.create_connection(encrypted, timeout=5) as raw,
            context.wrap_socket(raw, server_hostname="ns.test") as stream,
        ):
            return stream.selected_alpn_protocol()

    async with serving(certificate, ANY) as (_, encrypted):
        assert await anyio.to_thread.run_sync(connect, ssl.TLSVersion.TLSv1_3) == "dot"
        with pytest.raises(ssl.SSLError):
            await anyio.to_thread.run_sync(connect, ssl.TLSVersion.TLSv1_2)


async def to_the_end(stream: ByteStream) -> None:
    while True:
        await stream.receive()


async def test_a_client_that_does_not_shake_hands_is_closed_and_holds_nobody_up(certificate: Certificate) -> None:
    async with serving(certificate, ANY) as (_, encrypted):
        silent = [await NETWORK.connect_tcp(*encrypted) for _ in range(5)]
        garbage = await NETWORK.connect_tcp(*encrypted)
        await garbage.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await fetch(encrypted, TlsClient(pins=[certificate.pin]))).serial == 5
        with anyio.fail_after(5):
            for stream in (*silent, garbage):
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError, OSError)):
                    await to_the_end(stream)
                await stream.aclose()


async def test_streams_carry_large_data_both_ways_at_once(certificate: Certificate) -> None:
    network = MemoryNetwork()
    context = server_context(certificate.certificate_file, certificate.private_key_file)
    listener = await listen_tls(network, TlsEndpoint("10.0.0.5", 853, context))
    octets = Random(3).randbytes(700_000)
    digests: list[bytes] = []

    async def pump(stream: TlsStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, octets)
            received = bytearray()
            while len(received) < len(octets):
                received += await stream.receive(5000)
            digests.append(hashlib.sha256(received).digest())

    async def server() -> None:
        stream = await listener.accept()
        assert isinstance(stream, TlsStream)
        await pump(stream)
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server)
        client = await TlsClient(pins=[certificate.pin]).connect(network, "10.0.0.5", 853)
        assert client.peer == ("10.0.0.5", 853)
        await pump(client)
        await client.aclose()
    assert digests == [hashlib.sha256(octets).digest()] * 2
    await listener.aclose()


async def test_a_secondary_zone_follows_its_primary_by_tls(certificate: Certificate) -> None:
    async with serving(certificate, ANY) as (plain, encrypted):
        arrived: list[int] = []

        async def on_version(version: ZoneVersion) -> None:
            await anyio.lowlevel.checkpoint()
            arrived.append(version.serial)

        for where, tls, state in (
            (encrypted, PrimaryTls(pins=(certificate.pin,)), ZoneState.READY),
            (plain, PrimaryTls(pins=(certificate.pin,)), ZoneState.LOADING),
        ):
            told = anyio.Event()
            zone = SecondaryZone(
                NETWORK,
                ORIGIN,
                [RemoteServer(*where, tls=tls)],
                {},
                clock=SystemClock(),
                on_version=on_version,
                on_state=lambda zone, told=told: told.set(),
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(zone.run)
                with anyio.fail_after(5):
                    await told.wait()
                assert zone.state is state
                tasks.cancel_scope.cancel()
        assert arrived == [5]


def test_settings_that_cannot_be_used(certificate: Certificate, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    other = make_certificate(tmp_path)
    for bad in (
        lambda: TlsClient(pins=["AAAA"]),
        lambda: TlsClient(pins=["?" * 44]),
        lambda: TlsClient(ca_file=nothing),
        lambda: TlsClient(certificate_file=certificate.certificate_file),
        lambda: server_context(nothing, certificate.private_key_file),
        lambda: server_context(certificate.certificate_file, other.private_key_file),
        lambda: server_context(
            certificate.certificate_file, certificate.private_key_file, client_ca_file=other.private_key_file
        ),
        lambda: normal_fingerprint("00:11"),
    ):
        with pytest.raises(ConfigError):
            bad()
    with pytest.raises(ExchangeError):
        pin_of(b"no certificate")


def test_a_fingerprint_proves_nothing_without_tls() -> None:
    (prefix,) = (entry.prefix for entry in Acl.of([("192.0.2.1", None)])._entries)
    acl = Acl([AclEntry(prefix, certificate="a" * 64)])
    assert acl.permits("192.0.2.1", tls=True, certificate="a" * 64)
    assert not acl.permits("192.0.2.1", tls=True, certificate="b" * 64)
    assert not acl.permits("192.0.2.1", tls=True)
    assert not acl.permits("192.0.2.1", certificate="a" * 64)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),  # a version that does not exist
        (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x2a\x86\x48\xce\x3d\x03\x01\x7f"),  # a curve that nobody knows
    ],
)
def test_a_certificate_that_the_library_does_not_take(certificate: Certificate, old: bytes, new: bytes) -> None:
    assert old in certificate.der
    with pytest.raises(ExchangeError, match="the certificate does not parse"):
        pin_of(certificate.der.replace(old, new, 1))
