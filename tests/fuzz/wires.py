"""What comes over a connection: TCP framing, TLS, certificates, and the servers that a resolver asks.

The texts that people write by hand for the cockpit and the simulator are here too.
"""

from __future__ import annotations

import asyncio
import atexit
import random
import ssl
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import dns.dnssec
import dns.message
import dns.name
import dns.rrset
from cryptography.hazmat.primitives.asymmetric import ed25519

from cockpit.contexts import load_fleet
from cockpit.script import read_script
from mpcore.errors import ConfigError, ExchangeError, RemoteError
from mpcore.net.framing import MessageStream
from mpcore.net.messages import question_end
from mpcore.net.network import Address
from mpcore.net.resolver import Resolver, Security
from mpcore.net.tls import TlsStream, pin_of, server_context
from mpcore.query.keyfiles import parse_tsig_keys
from mpcore.query.update import parse_update
from mpcore.query.words import QueryError, parse_line, parse_server
from mpcore.sim.scenario import scenario_from_text
from tests.fuzz.engine import Target
from tests.unit.certificates import Certificate, make_certificate

__all__ = ("wire_targets",)

NOW = 1.8e9


@cache
def _directory() -> Path:
    memory = Path("/dev/shm")
    directory = tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(directory.cleanup)
    return Path(directory.name)


@cache
def _runner() -> asyncio.Runner:
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


class _Stream:
    """A connection whose other end says some octets, in pieces of the size that their first octet says, and closes."""

    local: Address = ("192.0.2.1", 53)
    peer: Address = ("192.0.2.2", 5353)

    def __init__(self, octets: bytes) -> None:
        size = 1 + octets[0] * 8 if octets else 1
        self._pieces = [octets[at : at + size] for at in range(1, len(octets), size)][::-1]
        self.sent = 0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self._pieces:
            raise anyio.EndOfStream
        return self._pieces.pop()

    async def send(self, item: bytes) -> None:
        self.sent += len(item)
        assert self.sent < 200_000

    async def aclose(self) -> None:
        pass


def _framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


# ------------------------------------------------------------------------------------------------- framing and TLS


def _framing(octets: bytes) -> None:
    """Messages come out as they went in, however they were cut; the limit holds."""

    async def read() -> None:
        stream = MessageStream(_Stream(octets))
        taken = b""
        while True:
            try:
                message = await stream.receive(4096)
            except anyio.EndOfStream:
                break
            assert len(message) <= 4096
            taken += _framed(message)
        assert taken == octets[1:]

    _runner().run(read())


@cache
def _certificate() -> Certificate:
    return make_certificate(_directory())


@cache
def _server_context() -> ssl.SSLContext:
    certificate = _certificate()
    return server_context(certificate.certificate_file, certificate.private_key_file)


def _tls_server(octets: bytes) -> None:
    """A client that says these octets instead of TLS, or after a hello."""

    async def read() -> None:
        stream = TlsStream(_Stream(octets), _server_context(), server_side=True)
        try:
            await MessageStream(stream).receive()
        except anyio.EndOfStream:
            raise ExchangeError("nothing came") from None
        finally:
            await stream.aclose()

    _runner().run(read())


def _hellos() -> list[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    taken = []
    for protocol in (["dot"], ["h2"]):
        context.set_alpn_protocols(protocol)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="ns.test")
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            taken.append(b"\xff" + outgoing.read())
    return taken


def _tls_accepting(octets: bytes) -> None:
    """A hello is sound, though the client goes away after it."""
    try:
        _tls_server(octets)
    except ExchangeError as error:
        if "nothing came" not in str(error):
            raise


def _certificate_pin(octets: bytes) -> None:
    assert len(pin_of(octets)) == 44


# ---------------------------------------------------------------------------------------------------- the resolver


class _Clock:
    def now(self) -> float:
        return NOW


class _Socket:
    """A UDP socket at whose other end a server answers with what comes next, to whatever it is asked."""

    address: Address = ("192.0.2.1", 40000)

    def __init__(self, messages: list[bytes]) -> None:
        self._messages, self._asked = messages, (b"", ("", 0))

    async def send(self, octets: bytes, address: Address) -> None:
        self._asked = octets, address

    async def receive(self) -> tuple[bytes, Address]:
        octets, address = self._asked
        return _fitted(self._messages, octets), address

    async def aclose(self) -> None:
        pass


def _fitted(messages: list[bytes], asked: bytes) -> bytes:
    """The next message with the id and question of the query; :raises OSError: nothing is left to say."""
    if not messages:
        raise OSError("nobody is there")
    message = messages.pop()
    end, own = question_end(message), question_end(asked)
    if end is None or own is None or len(message) < 12:
        return message
    flags = bytes((message[2] & 0x07 | 0x80, message[3]))
    return asked[:2] + flags + asked[4:6] + message[6:12] + asked[12:own] + message[end:]


class _Network:
    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    async def bind_udp(self, host: str, port: int) -> _Socket:
        return _Socket(self._messages)

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> Any:
        connection = _Answering(self._messages)
        return connection


class _Answering(_Stream):
    def __init__(self, messages: list[bytes]) -> None:
        super().__init__(b"")
        self._messages, self._said = messages, b""

    async def send(self, item: bytes) -> None:
        self._said = _framed(_fitted(self._messages, item[2:]))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self._said:
            raise anyio.EndOfStream
        said, self._said = self._said, b""
        return said


@cache
def _zone_key() -> tuple[ed25519.Ed25519PrivateKey, Any]:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return private, dns.dnssec.make_dnskey(private.public_key(), "ED25519", 257)


def _resolving(octets: bytes) -> None:
    """The servers of the world answer with the framed messages in turn; the anchor is at ``example.``."""
    messages, at = [], 0
    while at < len(octets):
        end = at + 2 + int.from_bytes(octets[at : at + 2], "big")
        messages.append(octets[at + 2 : end])
        at = end
    anchor = dns.rrset.from_rdata("example.", 0, _zone_key()[1])
    resolver = Resolver(
        _Network(messages[::-1]),  # type: ignore[arg-type]
        trust_anchors=[anchor],
        root_hints=["192.0.2.53"],
        clock=_Clock(),
        random=random.Random(1),
    )

    async def resolve() -> None:
        before = resolver.stats().queries
        answer = await resolver.resolve("c.b.example.", "A")
        assert resolver.stats().queries - before <= len(messages) + 1
        assert answer.security in (Security.SECURE, Security.INSECURE)
        for rrset in (*answer.answer, *answer.authority):
            assert 0 <= rrset.ttl < 2**31
            rrset.to_text()

    _runner().run(resolve())


def _conversations() -> list[bytes]:
    private, key = _zone_key()
    zone = dns.name.from_text("example.")

    def signed(*texts: tuple[str, str, str], sign: bool = True) -> list[dns.rrset.RRset]:
        section = []
        for owner, rdtype, text in texts:
            rrset = dns.rrset.from_text(owner, 300, "IN", rdtype, text)
            section.append(rrset)
            if sign:
                rrsig = dns.dnssec.sign(
                    rrset, private, zone, key, inception=int(NOW - 3600), expiration=int(NOW + 3600)
                )
                section.append(dns.rrset.from_rdata(rrset.name, 300, rrsig))
        return section

    def response(
        name: str,
        answer: Sequence[dns.rrset.RRset] = (),
        authority: Sequence[dns.rrset.RRset] = (),
        additional: Sequence[dns.rrset.RRset] = (),
        aa: bool = True,
    ) -> bytes:
        message = dns.message.make_response(dns.message.make_query(name, "A", id=9, want_dnssec=True))
        message.flags |= 0x0400 if aa else 0
        message.answer, message.authority, message.additional = list(answer), list(authority), list(additional)
        return message.to_wire()

    referral = response(
        "c.b.example.",
        authority=signed(("example.", "NS", "ns.example."), sign=False),
        additional=signed(("ns.example.", "A", "192.0.2.54"), sign=False),
        aa=False,
    )
    keys = response("example.", signed(("example.", "DNSKEY", key.to_text())))
    soa = ("example.", "SOA", "ns.example. h.example. 1 2 3 4 60")
    no_cut = signed(soa, ("a.example.", "NSEC", "d.c.b.example. A RRSIG NSEC"))
    return [
        _framed(referral, response("c.b.example.", signed(("c.b.example.", "A", "192.0.2.7"))), keys),
        _framed(
            referral,
            response("c.b.example.", signed(("c.b.example.", "CNAME", "d.example."))),
            keys,
            response("d.example.", signed(("d.example.", "A", "192.0.2.8"))),
        ),
        _framed(
            referral,
            response("c.b.example.", signed(("b.example.", "DNAME", "e.example."))),
            keys,
            response("c.e.example.", signed(("c.e.example.", "A", "192.0.2.9"))),
        ),
        _framed(referral, response("c.b.example.", authority=no_cut), keys),
    ]


# ---------------------------------------------------------------------------------------------- texts by hand


def _contexts(octets: bytes) -> None:
    (_directory() / "contexts.yaml").write_bytes(octets)
    load_fleet(_directory())


def _scenario(octets: bytes) -> None:
    scenario_from_text(octets.decode("utf-8", "surrogateescape"))


def _script(octets: bytes) -> None:
    for step in read_script(octets.decode("utf-8", "surrogateescape"), "script"):
        assert step.arguments
        assert step.line > 0


def _words(octets: bytes) -> None:
    """The first octet says which."""
    text = octets[1:].decode("utf-8", "surrogateescape")
    match octets[0] % 4 if octets else 0:
        case 0:
            server = parse_server(text)
            assert server.port is None or 0 < server.port < 65536
            assert server.host
        case 1:
            assert parse_tsig_keys(text, "key")
        case 2:
            assert all(str(question) for question in parse_line(text.split(" ")).questions)
        case _:
            for update in parse_update(text.splitlines(), zone="example."):
                update.message.to_wire(max_size=65535)


_CONTEXTS = b"""contexts:
  - name: alpha
    agent: alpha/agent/s
    combiner: alpha/combiner/s
  - {name: bravo, agent: /run/bravo/s}
zone: customer.example.
resolver: {address: 127.0.0.4, port: 5300}
"""
_SCENARIO = b"""title: example
providers: [alpha, bravo]
zones: [one.example, two.example.]
signers: [bravo]
beat: 5s
delay: 20ms .. 1s
clocks: {alpha: -2s, bravo.signer: 1500ms}
steps:
  - {at: 1m30s, expect: leader}
  - {at: 10s, for: 2m, partition: [[alpha], [bravo, owner]]}
  - {at: 20s, flap: {between: [alpha, bravo], every: 3s}}
  - {at: 20s, for: 5s, loss: 25%}
  - {at: 30s, for: 1s, power-cut: {who: alpha.agent, commit: 3, written: 40%}}
chaos: {from: 10s, until: 5m, events: 3, kinds: [loss, kill]}
end: 1h
"""


def _texts_of(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [name.encode() for name in names]


def wire_targets(yaml: tuple[bytes, ...], dns_tokens: tuple[bytes, ...]) -> tuple[Target, ...]:
    """The targets of this module.

    :param yaml: words of YAML to put in.
    :param dns_tokens: octets of DNS messages to put in.
    """
    return (
        Target(
            "framing",
            _framing,
            lambda: [b"\x01" + _framed(b"a" * 30, b"", b"b"), b"\xff" + _framed(bytes(3000), b"x")],
            cost=2,
        ),
        Target(
            "tls-server",
            _tls_accepting,
            _hellos,
            tokens=(b"\x16\x03\x01", b"\x17\x03\x03", b"\x15\x03\x03\x00\x02\x02\x28"),
            cost=4,
        ),
        Target(
            "certificate",
            _certificate_pin,
            lambda: [_certificate().der],
            tokens=(b"\x30\x82", b"\x06\x03", b"\x02\x01"),
        ),
        Target(
            "resolver",
            _resolving,
            _conversations,
            allowed=(RemoteError,),
            tokens=dns_tokens,
            cost=60,
        ),
        Target("contexts", _contexts, lambda: [_CONTEXTS], allowed=(ConfigError,), tokens=yaml, cost=16),
        Target("scenario", _scenario, lambda: [_SCENARIO], allowed=(ConfigError,), tokens=yaml, cost=40),
        Target(
            "script",
            _script,
            lambda: [b'zone list\n# comment\n- queue retry \'a b\' "c\\"d"\n'],
            allowed=(ConfigError,),
            tokens=(b"'", b'"', b"\\", b"\n", b"#", b"\n-"),
        ),
        Target(
            "words",
            _words,
            _texts_of(
                "\0@127.0.0.1:53",
                "\0@[2001:db8::1]:853",
                "\x00192.0.2.1",
                "\1hmac-sha256:key.:c2VjcmV0",
                '\1key "a." { algorithm hmac-sha256; secret "c2VjcmV0"; };',
                "\1key:\n- id: a.\n  algorithm: hmac-sha256\n  secret: c2VjcmV0\n",
                "\x02192.0.2.1 www.example. AAAA MX IXFR=7 CH TYPE65285 @127.0.0.1:53 +dnssec +bufsize=1232 +notcp",
                '\3prereq nxdomain a.example.\nadd a.example. 300 IN A 192.0.2.1\ndel b.example. TXT "x"\nsend\n',
            ),
            allowed=(QueryError, ConfigError),
            tokens=(b":", b"[", b"]", b"@", b"%eth0"),
        ),
    )
