"""Channels by TLS with a certificate from either side, the HTTP server on them and its client.

Judges: OpenSSL's command line with its own check of TLSA records, and curl.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mpcore.errors import ExchangeError
from mpcore.net.channel import spki_of
from mpcore.net.http_links import HttpLinks, HttpTarget
from mpcore.net.http_server import HttpLimits, HttpRequest, HttpResponse, HttpServer
from mpcore.net.mutual_tls import MutualTls, make_certificate
from mpcore.net.network import ByteStream, InternetNetwork
from mpcore.peer.dane import Tlsa, matches, tlsa_text
from tests.node_world import may_block

pytestmark = pytest.mark.anyio

NAME = "https.agent.alpha.example."
LONG_AGO = datetime.datetime(2001, 1, 1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


SERVER, CLIENT = new_key(), new_key()
SERVER_SPKI, CLIENT_SPKI = spki_of(SERVER.public_key()), spki_of(CLIENT.public_key())


@dataclass
class Seen:
    """What the handler was asked."""

    requests: list[HttpRequest] = field(default_factory=list)
    answer: HttpResponse | None = field(default_factory=lambda: HttpResponse(200, b"answer"))

    async def handle(self, request: HttpRequest) -> HttpResponse | None:
        self.requests.append(request)
        if request.path == "/raise":
            raise ValueError("a fault of the handler")
        if request.path == "/never":
            await anyio.sleep_forever()
        return self.answer


@dataclass
class Serving:
    seen: Seen
    server: HttpServer
    port: int

    @property
    def target(self) -> HttpTarget:
        return HttpTarget("127.0.0.1", self.port, NAME)

    def links(self, key: ec.EllipticCurvePrivateKey = CLIENT, **changes: Any) -> HttpLinks:
        return HttpLinks(InternetNetwork(), MutualTls(key, ("agent.bravo.example.",)), **changes)


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Serving]:
    seen = Seen()
    security = MutualTls(SERVER, ("agent.alpha.example.", NAME))
    server = HttpServer(InternetNetwork(), [("127.0.0.1", 0)], security, seen.handle, limits=HttpLimits(**limits))
    async with anyio.create_task_group() as tasks:
        addresses = await tasks.start(server.serve)
        yield Serving(seen, server, addresses[0][1])
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 -- what is waited for tells nobody
            await anyio.sleep(0.01)


async def to_the_end(stream: ByteStream) -> bytes:
    """What comes until the other end closes."""
    received = b""
    try:
        while True:
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received
    finally:
        await stream.aclose()


def is_server(spki: bytes) -> bool:
    return spki == SERVER_SPKI


async def judge(*command: str, octets: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with may_block():
        return await anyio.run_process(command, input=octets, check=False, stderr=subprocess.STDOUT)


def pem_files(directory: Path, key: ec.EllipticCurvePrivateKey, **dates: Any) -> tuple[str, str]:
    """Certificate and key as files."""
    certificate, private = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(make_certificate(key, ("agent.bravo.example.",), **dates).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(certificate), str(private)


# --------------------------------------------------------------------------------------------------------- round trips


async def test_either_side_knows_the_key_of_the_other() -> None:
    async with serving() as here:
        links = here.links()
        shown: list[bytes] = []

        def expected(spki: bytes) -> bool:
            shown.append(spki)
            return True

        answer = await links.post(here.target, "/mp/1/x", b"body", expected=expected, timeout=5)
        assert answer == (200, b"answer")
        assert shown == [SERVER_SPKI]
        (request,) = here.seen.requests
        assert (request.path, request.body, request.spki) == ("/mp/1/x", b"body", CLIENT_SPKI)
        assert request.source[0] == "127.0.0.1"
        await links.aclose()


async def test_connections_are_kept_and_large_bodies_pass() -> None:
    async with serving() as here:
        links = here.links()
        for size in (0, 1, 100_000, 1 << 20):
            here.seen.answer = HttpResponse(200, b"a" * size)
            answer = await links.post(here.target, "/", b"q" * size, expected=is_server, timeout=20)
            assert answer == (200, b"a" * size)
        assert [len(request.body) for request in here.seen.requests] == [0, 1, 100_000, 1 << 20]
        assert (links.connections, links.reused) == (1, 3)
        await links.aclose()


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    async with serving(idle_timeout=0.05) as here:
        links = here.links()
        await links.post(here.target, "/", b"", expected=is_server, timeout=5)
        await until(lambda: not here.server._connections)
        assert await links.post(here.target, "/", b"", expected=is_server, timeout=5) == (200, b"answer")
        assert (links.connections, links.reused) == (2, 1)
        await links.aclose()


async def test_a_kept_connection_is_not_used_when_keys_have_changed() -> None:
    """A key that is not expected any more, and a key of ours that is not shown any more."""
    async with serving() as here:
        links = here.links()
        await links.post(here.target, "/", b"", expected=is_server, timeout=5)
        with pytest.raises(ExchangeError, match="not published"):
            await links.post(here.target, "/", b"", expected=lambda spki: False, timeout=5)
        fresh = new_key()
        links.security = MutualTls(fresh, ("agent.bravo.example.",))
        await links.post(here.target, "/", b"", expected=is_server, timeout=5)
        assert [request.spki for request in here.seen.requests] == [CLIENT_SPKI, spki_of(fresh.public_key())]
        assert links.reused == 0
        await links.aclose()


async def test_nothing_is_sent_to_another_server() -> None:
    async with serving() as here:
        links = here.links()
        with pytest.raises(ExchangeError, match="the key of its certificate is not published"):
            await links.post(here.target, "/", b"secret", expected=lambda spki: spki == CLIENT_SPKI, timeout=5)
        assert not here.seen.requests
        await links.aclose()


async def test_dates_and_names_mean_nothing() -> None:
    """RFC 7671, section 5.1: with DANE-EE only the key counts; a certificate that has ended is as good as any."""
    async with serving() as here:
        old = make_certificate(CLIENT, ("somebody.else.",), not_before=LONG_AGO, not_after=LONG_AGO)
        links = HttpLinks(InternetNetwork(), MutualTls(CLIENT, (), old))
        here.server.security = MutualTls(
            SERVER, (), make_certificate(SERVER, ("nobody.",), not_before=LONG_AGO, not_after=LONG_AGO)
        )
        assert await links.post(here.target, "/", b"", expected=is_server, timeout=5) == (200, b"answer")
        assert here.seen.requests[0].spki == CLIENT_SPKI
        await links.aclose()


# -------------------------------------------------------------------------------------------------------------- limits


async def raw(here: Serving, octets: bytes, *, slowly: bool = False) -> bytes:
    """Send octets by TLS and return what comes until the end."""
    stream = await InternetNetwork().connect_tcp("127.0.0.1", here.port)
    channel = await MutualTls(CLIENT, ("agent.bravo.example.",)).connect(stream, NAME)
    try:
        if slowly:
            for index in range(len(octets)):
                await channel.stream.send(octets[index : index + 1])
                await anyio.sleep(0.01)
        else:
            await channel.stream.send(octets)
    except anyio.BrokenResourceError:
        await channel.stream.aclose()
        return b""
    return await to_the_end(channel.stream)


def head(answer: bytes) -> bytes:
    return answer[:12]


async def test_what_is_no_request_of_ours() -> None:
    async with serving() as here:
        assert head(await raw(here, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")) == b"HTTP/1.1 405"
        assert head(await raw(here, b"nonsense\r\n\r\n")) == b"HTTP/1.1 400"
        assert head(await raw(here, b"POST / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 9000)) == b"HTTP/1.1 431"
        assert (
            head(await raw(here, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n")) == b"HTTP/1.1 413"
        )
        chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert not here.seen.requests
        assert here.server.counters["bad requests"] == 4
        answer = await raw(here, chunked + b"3\r\nabc\r\n0\r\n\r\n" + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert head(answer) == b"HTTP/1.1 200"
        assert b"HTTP/1.1 405" in answer
        assert [request.body for request in here.seen.requests] == [b"abc"]


async def test_a_body_that_grows_above_the_limit() -> None:
    async with serving(max_body=1000) as here:
        chunk = b"200\r\n" + b"a" * 0x200 + b"\r\n"
        octets = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunk * 2
        assert head(await raw(here, octets)) == b"HTTP/1.1 413"
        assert not here.seen.requests


async def test_a_slow_writer_holds_no_connection() -> None:
    """However often an octet comes, the whole request has one limit."""
    async with serving(request_timeout=0.3) as here:
        with anyio.fail_after(20):
            answer = await raw(here, b"POST / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 5000, slowly=True)
        assert head(answer) in (b"HTTP/1.1 408", b"")  # or the answer is lost, because we still write
        await until(lambda: not here.server._connections)
        assert here.server.counters["bad requests"] == 1
        assert not here.seen.requests


async def test_silence_before_the_handshake() -> None:
    async with serving(handshake_timeout=0.2) as here:
        stream = await InternetNetwork().connect_tcp("127.0.0.1", here.port)
        with anyio.fail_after(20):
            assert await to_the_end(stream) == b""
        assert here.server.counters["failed handshakes"] == 1


async def test_a_handler_that_fails_or_takes_too_long() -> None:
    async with serving(answer_timeout=0.2) as here:
        links = here.links()
        for path in ("/raise", "/never"):
            assert await links.post(here.target, path, b"", expected=is_server, timeout=5) == (503, b"")
        here.seen.answer = None
        with pytest.raises(ExchangeError, match="closed without an answer"):
            await links.post(here.target, "/", b"", expected=is_server, timeout=5)
        await links.aclose()


async def test_one_source_gets_a_part_of_the_connections_only() -> None:
    async with serving(max_connections_per_source=2) as here:
        held = [await InternetNetwork().connect_tcp("127.0.0.1", here.port) for _ in range(2)]
        await until(lambda: len(here.server._connections) == 2)
        links = here.links()
        with pytest.raises(ExchangeError):
            await links.post(here.target, "/", b"", expected=is_server, timeout=5)
        assert here.server.counters["refused connections"] == 1
        for stream in held:
            await stream.aclose()
        await until(lambda: not here.server._connections)
        assert await links.post(here.target, "/", b"", expected=is_server, timeout=5) == (200, b"answer")
        await links.aclose()


async def test_an_idle_connection_makes_room_and_a_busy_one_does_not() -> None:
    async with serving(max_connections=1) as here:
        first, second = here.links(), here.links(new_key())
        await first.post(here.target, "/", b"", expected=is_server, timeout=5)
        await second.post(here.target, "/", b"", expected=is_server, timeout=5)
        async with anyio.create_task_group() as tasks:

            async def never() -> None:
                with pytest.raises(ExchangeError, match="no answer"):
                    await second.post(here.target, "/never", b"", expected=is_server, timeout=2)

            tasks.start_soon(never)
            await until(lambda: len(here.seen.requests) == 3)
            with pytest.raises(ExchangeError):
                await first.post(here.target, "/", b"", expected=is_server, timeout=5)
        for links in (first, second):
            await links.aclose()


# -------------------------------------------------------------------------------------------------------------- judges


async def test_plain_http_on_the_port() -> None:
    async with serving() as here:
        stream = await InternetNetwork().connect_tcp("127.0.0.1", here.port)
        await stream.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert b"HTTP" not in await to_the_end(stream)
        assert not here.seen.requests


@pytest.mark.peer
async def test_old_tls_is_refused(tmp_path: Path) -> None:
    with may_block():
        certificate, key = pem_files(tmp_path, CLIENT)
    async with serving() as here:
        files = ("-cert", certificate, "-key", key)
        result = await judge("openssl", "s_client", "-connect", f"127.0.0.1:{here.port}", "-tls1_2", *files)
        assert b"protocol version" in result.stdout
        assert b"Cipher is (NONE)" in result.stdout
        result = await judge("openssl", "s_client", "-connect", f"127.0.0.1:{here.port}", "-tls1_3", *files)
        assert b"TLSv1.3" in result.stdout
        assert not here.seen.requests


@pytest.mark.peer
async def test_a_client_needs_a_certificate() -> None:
    async with serving() as here:
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        result = await judge("openssl", "s_client", "-connect", f"127.0.0.1:{here.port}", "-ign_eof", octets=request)
        assert b"certificate required" in result.stdout
        assert here.server.counters["failed handshakes"] == 1
        assert not here.seen.requests


@pytest.mark.peer
async def test_openssl_finds_our_certificate_by_its_tlsa_record(tmp_path: Path) -> None:
    """OpenSSL's own DANE check accepts what we would publish, and nothing else."""
    with may_block():
        certificate, key = pem_files(tmp_path, CLIENT)
    async with serving() as here:
        for spki, accepted in ((SERVER_SPKI, True), (CLIENT_SPKI, False)):
            result = await judge(
                "openssl",
                "s_client",
                *("-connect", f"127.0.0.1:{here.port}", "-cert", certificate, "-key", key),
                *("-dane_tlsa_domain", NAME.removesuffix("."), "-dane_tlsa_rrdata", tlsa_text(spki)),
            )
            found = re.search(rb"Verification: OK|Verification error: .*", result.stdout)
            assert found is not None, result.stdout
            assert (found[0] == b"Verification: OK") is accepted


@pytest.mark.peer
async def test_curl_posts(tmp_path: Path) -> None:
    with may_block():
        certificate, key = pem_files(tmp_path, CLIENT)
    async with serving() as here:
        pin = "sha256//" + base64.b64encode(hashlib.sha256(SERVER_SPKI).digest()).decode()
        command = (
            *("curl", "-sS", "--insecure", "--pinnedpubkey", pin, "--cert", certificate, "--key", key),
            *("--data-binary", "@-", "-w", " %{http_code}", f"https://127.0.0.1:{here.port}/mp/1/x"),
        )
        result = await judge(*command, octets=b"z" * 200_000)
        assert result.stdout == b"answer 200"
        assert (len(here.seen.requests[0].body), here.seen.requests[0].spki) == (200_000, CLIENT_SPKI)
        without = tuple(word for word in command if word not in ("--cert", certificate, "--key", key))
        assert (await judge(*without, octets=b"z")).returncode != 0
        assert len(here.seen.requests) == 1


def test_records_and_keys() -> None:
    sha256, sha512 = hashlib.sha256(SERVER_SPKI).digest(), hashlib.sha512(SERVER_SPKI).digest()
    assert tlsa_text(SERVER_SPKI) == f"3 1 1 {sha256.hex()}"
    assert matches([Tlsa(1, sha256)], SERVER_SPKI)
    assert matches([Tlsa(1, bytes(32)), Tlsa(2, sha512)], SERVER_SPKI)
    assert not matches([Tlsa(1, sha256), Tlsa(2, sha512)], CLIENT_SPKI)
    assert not matches([], SERVER_SPKI)
