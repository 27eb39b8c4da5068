"""Asking one server one thing: the message, the transports, signatures, and what came back.

Over UDP a question is repeated when nothing comes, and asked again over TCP when the answer is truncated (RFC 7766,
section 5).  Over TLS (RFC 7858) a server is authenticated by its name, by an authority, or by its key; without any of
these the connection is private only against those who listen, and the result says so.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import anyio
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

import mpcore.records  # noqa: F401  (so that private types and options are read)
from mpcore.errors import ExchangeError, TsigError
from mpcore.net.client import describe, exchange, is_answer_to
from mpcore.net.clock import Clock, SystemClock
from mpcore.net.framing import MessageStream
from mpcore.net.network import ByteStream, InternetNetwork, Network
from mpcore.net.tls import TlsClient, TlsStream, pin_of
from mpcore.query.result import LookupResult
from mpcore.query.words import QueryError, Question, Server, Transport
from mpcore.zone.sig0 import Sig0Key, sign_sig0
from mpcore.zone.tsig import TsigKey, sign_message, verify_message

__all__ = (
    "Asker",
    "Connection",
    "Manner",
    "Sig0Signer",
    "TlsTrust",
    "class_of",
    "find_server",
    "lookup",
    "make_query",
    "name_of",
    "notify_message",
    "parse_answer",
    "system_servers",
    "type_of",
)

_BADCOOKIE: Final = 23
_PADDING_BLOCK: Final = 128  # RFC 8467, section 4.1
_PORTS: Final = {"udp": 53, "tcp": 53, "tls": 853}


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """How a server is known to be the right one.  Without any of these, none is known.

    :param hostname: name in its certificate.
    :param ca_file: certificates of authorities, PEM; those of the system for ``None``.
    :param pins: SHA-256 of its public key in base64 (RFC 7858, section 4.2).
    """

    hostname: str | None = None
    ca_file: Path | None = None
    pins: tuple[str, ...] = ()

    def client(self) -> TlsClient:
        """How to connect; :raises ConfigError: a file is missing or unusable, or a pin is none."""
        return TlsClient(server_name=self.hostname, pins=self.pins, ca_file=self.ca_file)

    @property
    def in_words(self) -> str:
        """What a connection that was made is known by; empty: nothing."""
        words = []
        if self.hostname is not None and (self.ca_file is not None or not self.pins):
            words.append(f"certificate for {self.hostname}")
        elif self.ca_file is not None:
            words.append("certificate for its address")
        if self.pins:
            words.append("pinned key")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Sig0Signer:
    """A SIG(0) key that signs (RFC 2931)."""

    key: Sig0Key
    sign: Callable[[bytes], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Manner:
    """How something is asked."""

    transport: Transport = "udp"
    dnssec: bool = False  #: DO
    recurse: bool = True  #: RD
    checking_disabled: bool = False  #: CD
    authenticated: bool = False  #: AD: tell whether it is (RFC 6840, section 5.7)
    edns: bool = True
    bufsize: int = 1232  #: octets of UDP answers that are offered, 512 to 65535
    nsid: bool = False
    cookie: bool | str = False  #: send one; a text: this one, in hexadecimal digits
    subnet: str | None = None  #: client subnet, ADDRESS/LENGTH
    padding: bool | int | None = None  #: pad to a multiple of so many octets; ``None``: to 128 over TLS, else not
    ignore_truncation: bool = False
    timeout: float = 5.0  #: seconds for each attempt
    retry: int = 2  #: further attempts over UDP
    tsig: TsigKey | None = None
    sig0: Sig0Signer | None = None
    tls: TlsTrust = field(default_factory=TlsTrust)

    def check(self) -> None:
        """:raises QueryError: options that do not go together, or a number out of range."""
        if not self.timeout > 0:
            raise QueryError("the timeout must be above 0")
        if not 512 <= self.bufsize <= 65535:
            raise QueryError(f"bufsize {self.bufsize} is not between 512 and 65535")
        wants = [
            word
            for word, value in (
                ("+dnssec", self.dnssec),
                ("+nsid", self.nsid),
                ("+cookie", self.cookie),
                ("+subnet", self.subnet),
                ("+padding", self.padding),
            )
            if value
        ]
        if not self.edns and wants:
            raise QueryError(f"+noedns: {', '.join(wants)} needs EDNS")
        if self.tsig is not None and self.sig0 is not None:
            raise QueryError("a message is signed with TSIG or with SIG(0), not with both")


# --- messages --------------------------------------------------------------------------------------------------------


def name_of(text: str) -> dns.name.Name:
    """An absolute name, with or without the final dot; :raises QueryError: none."""
    try:
        return dns.name.from_text(text, dns.name.root)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise QueryError(f"{text}: not a name: {error or type(error).__name__}") from None


def type_of(rdtype: str | int) -> dns.rdatatype.RdataType:
    """A type by mnemonic, ``TYPEnnn`` or number; :raises QueryError: none."""
    try:
        if isinstance(rdtype, str):
            return dns.rdatatype.from_text(rdtype.upper())
        return dns.rdatatype.RdataType.make(rdtype)
    except (dns.exception.DNSException, ValueError):
        raise QueryError(f"{rdtype}: not a type") from None


def class_of(rdclass: str) -> dns.rdataclass.RdataClass:
    """A class by mnemonic or ``CLASSnnn``; :raises QueryError: none."""
    try:
        return dns.rdataclass.from_text(rdclass.upper())
    except (dns.exception.DNSException, ValueError):
        raise QueryError(f"{rdclass}: not a class") from None


def make_query(question: Question, manner: Manner, cookie: bytes | None = None) -> dns.message.QueryMessage:
    """The message that asks *question*; its id is chosen at random.

    :param cookie: of the server, from an answer before.
    :raises QueryError: the name, type or class is none.
    """
    query = dns.message.make_query(name_of(question.name), type_of(question.rdtype), class_of(question.rdclass))
    assert isinstance(query, dns.message.QueryMessage)
    query.id = secrets.randbits(16)
    query.flags = dns.flags.Flag(
        (dns.flags.RD if manner.recurse and not question.is_transfer else 0)
        | (dns.flags.CD if manner.checking_disabled else 0)
        | (dns.flags.AD if manner.authenticated else 0)
    )
    if question.serial is not None:
        soa = f". . {question.serial} 0 0 0 0"
        query.authority = [dns.rrset.from_text(query.question[0].name, 0, query.question[0].rdclass, "SOA", soa)]
    _add_edns(query, manner, cookie)
    return query


def notify_message(zone: str, rdtype: str, serial: int | None, manner: Manner) -> dns.message.Message:
    """A NOTIFY (RFC 1996, RFC 9859), with the zone's SOA if *serial* is given; :raises QueryError: no name or type."""
    message = make_query(Question(zone, rdtype), replace(manner, recurse=False))
    message.set_opcode(dns.opcode.NOTIFY)
    message.flags |= dns.flags.AA
    if serial is not None:
        soa = f". . {serial} 0 0 0 0"
        message.answer = [dns.rrset.from_text(message.question[0].name, 0, "IN", "SOA", soa)]
    return message


def _add_edns(message: dns.message.Message, manner: Manner, cookie: bytes | None = None) -> None:
    if not manner.edns:
        message.use_edns(False)
        return
    options: list[dns.edns.Option] = []
    if manner.nsid:
        options.append(dns.edns.NSIDOption(b""))
    if manner.cookie or cookie is not None:
        octets = cookie
        if octets is None:
            octets = bytes.fromhex(manner.cookie) if isinstance(manner.cookie, str) else secrets.token_bytes(8)
        options.append(dns.edns.CookieOption(octets[:8], octets[8:]))
    if manner.subnet is not None:
        network = ipaddress.ip_network(manner.subnet)
        options.append(dns.edns.ECSOption(str(network.network_address), network.prefixlen, 0))
    pad = 0
    if manner.tsig is None and manner.sig0 is None and (manner.padding or manner.padding is None):
        default = _PADDING_BLOCK if manner.padding or manner.transport == "tls" else 0
        pad = default if manner.padding is None or manner.padding is True else int(manner.padding)
    flags = dns.flags.DO if manner.dnssec else 0
    message.use_edns(0, flags, manner.bufsize, options=options, pad=pad)


def parse_answer(octets: bytes) -> dns.message.Message:
    """The message in *octets*; :raises ExchangeError: it does not parse."""
    try:
        return dns.message.from_wire(octets, ignore_trailing=True)
    except Exception as error:  # whatever the library makes of octets from outside
        raise ExchangeError(f"the answer does not parse: {error or type(error).__name__}") from error


# --- servers ---------------------------------------------------------------------------------------------------------


def system_servers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The addresses of the system's recursive servers, in their order; none if the file cannot be read."""
    found: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text("utf-8").splitlines():
            words = line.split("#")[0].split(";")[0].split()
            if len(words) >= 2 and words[0] == "nameserver" and Server(words[1]).is_address:
                found.append(words[1])
    return found


async def find_server(
    server: Server, resolver: tuple[str, int] | None, *, network: Network | None = None, version: int | None = None
) -> str:
    """The numeric address of *server*.

    :param resolver: whom to ask for the address of a name: address and port.
    :param version: 4 or 6: only such an address.
    :raises QueryError: there is nobody to ask, or an address of the other family.
    :raises ExchangeError: the name has no address, or the resolver does not answer.
    """
    host = server.host
    if server.is_address:
        if version is not None and ipaddress.ip_address(host).version != version:
            raise QueryError(f"@{host}: not an IPv{version} address")
        return host
    if host.rstrip(".").lower() == "localhost":
        return "::1" if version == 6 else "127.0.0.1"
    if resolver is None:
        raise QueryError(f"@{host}: there is nobody to ask for its address; name the server by address")
    said = ""
    for rdtype, of_version in (("A", 4), ("AAAA", 6)):
        if version not in (None, of_version):
            continue
        found = await Asker(resolver[0], resolver[1], Manner(), network=network).ask(Question(host, rdtype))
        for rrset in found.message.answer:
            if rrset.rdtype == dns.rdatatype.from_text(rdtype):
                return str(rrset[0].address)
        said = found.rcode
    raise ExchangeError(f"@{host}: {resolver[0]} port {resolver[1]} knows no address of it ({said})")


# --- exchanges -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Heard:
    octets: bytes
    transport: Transport
    pin: str | None = None


class Asker:
    """One server, and how it is asked.

    :param host: numeric address.
    :param port: 1 to 65535; that of the transport unless given.
    :param network: the real one unless given.
    :raises QueryError: not an address, a port that is none, or a manner that makes no sense.
    :raises ConfigError: what is to authenticate the server cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int | None = None,
        manner: Manner = Manner(),
        *,
        network: Network | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not Server(host).is_address:
            raise QueryError(f"{host!r} is not a numeric address")
        manner.check()
        self.host, self.port = str(ipaddress.ip_address(host)), _PORTS[manner.transport] if port is None else port
        if not 1 <= self.port <= 65535:
            raise QueryError(f"port {self.port} is not between 1 and 65535")
        self.manner = manner
        self._network, self._clock = network or InternetNetwork(), clock or SystemClock()
        self._tls = manner.tls.client() if manner.transport == "tls" else None

    @property
    def clock(self) -> Clock:
        """Tells the time of signatures."""
        return self._clock

    async def ask(self, question: Question) -> LookupResult:
        """Ask *question*, which is not a transfer.

        :raises QueryError: it cannot be asked.
        :raises ExchangeError: no answer, or one that does not parse; names server and transport.
        :raises TsigError: the answer's signature is missing or wrong, or the server refused ours.
        """
        if question.is_transfer:
            raise QueryError(f"{question.rdtype}: a transfer, not a look-up")
        query = make_query(question, self.manner)
        result = await self.send(query)
        cookie = next((option for option in result.message.options if isinstance(option, dns.edns.CookieOption)), None)
        if self.manner.cookie and result.message.rcode() == _BADCOOKIE and cookie is not None and cookie.server:
            # RFC 7873, section 5.3: once more, with the server's cookie.
            result = await self.send(make_query(question, self.manner, cookie.client + cookie.server))
        return result

    async def send(self, message: dns.message.Message) -> LookupResult:
        """Send a message of any kind, signed if there is a key, and return the answer to it; errors are as above."""
        octets = message.to_wire(max_size=65535)
        mac = b""
        started, asked_at = anyio.current_time(), self._clock.now()
        if self.manner.tsig is not None:
            octets, mac = sign_message(octets, self.manner.tsig, asked_at)
        elif self.manner.sig0 is not None:
            octets = sign_sig0(octets, self.manner.sig0.key, self.manner.sig0.sign, asked_at)
        heard, truncated = await self._exchange(octets)
        elapsed = anyio.current_time() - started
        return LookupResult(
            server=self.host,
            port=self.port,
            transport=heard.transport,
            asked_at=asked_at,
            elapsed=elapsed,
            size=len(heard.octets),
            message=parse_answer(self._verified(heard.octets, mac)),
            query=message,
            key=None if self.manner.tsig is None else self.manner.tsig.name_text,
            truncated_over_udp=truncated,
            authenticated_by=self.manner.tls.in_words if heard.transport == "tls" else "",
            pin=heard.pin,
        )

    async def _exchange(self, octets: bytes) -> tuple[_Heard, bool]:
        """The answer, and whether it was truncated over UDP."""
        manner = self.manner
        if manner.transport == "tls":
            return await self._over_tls(octets), False
        if manner.transport == "tcp" or len(octets) > 1232:
            return _Heard(await self._over(octets, tcp=True), "tcp"), False
        for attempt in range(manner.retry + 1):
            try:
                answer = await self._over(octets, tcp=False)
                break
            except ExchangeError as error:
                if attempt == manner.retry:
                    times = f", asked {attempt + 1} times" if attempt else ""
                    raise ExchangeError(f"{error}{times}") from error
        if answer[2] & 0x02 and not manner.ignore_truncation:
            return _Heard(await self._over(octets, tcp=True), "tcp"), True
        return _Heard(answer, "udp"), False

    async def _over(self, octets: bytes, *, tcp: bool) -> bytes:
        try:
            return await exchange(
                self._network, octets, self.host, self.port, over_tcp=tcp, timeout=self.manner.timeout
            )
        except ExchangeError as error:
            raise _with_transport(error, "TCP" if tcp else "UDP") from error

    async def _over_tls(self, octets: bytes) -> _Heard:
        async with self.connection() as stream:
            try:
                with anyio.fail_after(self.manner.timeout):
                    await stream.send(octets)
                    while True:
                        answer = await stream.receive()
                        if is_answer_to(answer, octets):
                            return _Heard(answer, "tls", stream.pin)
            except TimeoutError:
                raise ExchangeError(
                    f"no answer from {self.host} port {self.port} over TLS within {self.manner.timeout:g} s"
                ) from None
            except anyio.EndOfStream:
                raise ExchangeError(
                    f"{self.host} port {self.port} over TLS closed the connection without an answer"
                ) from None
            except ExchangeError as error:
                raise _with_transport(error, "TLS") from error

    def connection(self) -> Connection:
        """A connection over TCP or TLS, as an asynchronous context manager."""
        return Connection(self._network, self.host, self.port, self._tls, self.manner.timeout)

    def _verified(self, octets: bytes, mac: bytes) -> bytes:
        key = self.manner.tsig
        if key is None:
            return octets
        verified = verify_message(octets, {key.name: key}, self._clock.now(), request_mac=mac)
        if verified is not None:
            return verified.octets
        rcode = dns.rcode.to_text(dns.rcode.Rcode.make(octets[3] & 15))
        raise TsigError(
            f"{self.host} port {self.port} answers {rcode}, and the answer is not signed with TSIG key {key.name_text}"
        )


class Connection:
    """A TCP or TLS connection that carries DNS messages: an asynchronous context manager.

    :param timeout: seconds for connecting.
    """

    def __init__(self, network: Network, host: str, port: int, tls: TlsClient | None, timeout: float) -> None:
        self._network, self._host, self._port, self._tls, self._timeout = network, host, port, tls, timeout
        self.pin: str | None = None  #: of the server's key, over TLS
        self._stream: MessageStream | None = None

    @property
    def transport(self) -> Transport:
        """``tcp`` or ``tls``."""
        return "tcp" if self._tls is None else "tls"

    async def __aenter__(self) -> Connection:
        """:raises ExchangeError: no connection, or not with the server that it should be."""
        where = f"{self._host} port {self._port}"
        name = self.transport.upper()
        stream: ByteStream
        try:
            with anyio.fail_after(self._timeout):
                if self._tls is None:
                    stream = await self._network.connect_tcp(self._host, self._port)
                else:
                    stream = await self._tls.connect(self._network, self._host, self._port)
        except TimeoutError:
            raise ExchangeError(f"no connection to {where} over {name} within {self._timeout:g} s") from None
        except OSError as error:
            raise ExchangeError(f"{where} over {name}: {describe(error)}") from error
        except ExchangeError as error:
            raise _with_transport(error, name) from error
        if isinstance(stream, TlsStream) and stream.certificate is not None:
            self.pin = pin_of(stream.certificate)
        self._stream = MessageStream(stream)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None:
            with anyio.move_on_after(1, shield=True):
                await self._stream.aclose()

    async def send(self, octets: bytes) -> None:
        """Send one message; :raises ExchangeError: the connection broke."""
        assert self._stream is not None
        await self._stream.send(octets)

    async def receive(self) -> bytes:
        """The next message.

        :raises anyio.EndOfStream: there is none.
        :raises ExchangeError: the connection broke.
        """
        assert self._stream is not None
        return await self._stream.receive()


def _with_transport(error: ExchangeError, transport: str) -> ExchangeError:
    text = str(error)
    return error if f"over {transport}" in text or "TLS" in text else ExchangeError(f"{text} (over {transport})")


async def lookup(
    name: str,
    rdtype: str | int = "A",
    *,
    server: str,
    port: int | None = None,
    rdclass: str = "IN",
    network: Network | None = None,
    clock: Clock | None = None,
    **manner: Any,
) -> LookupResult:
    """Ask *server* for *name* and *rdtype*.

    :param name: taken as absolute, with or without the final dot.
    :param rdtype: mnemonic, private ones included, ``TYPE65285`` or a number.
    :param server: numeric address.
    :param manner: what :class:`Manner` has.
    :raises QueryError: the name, type, class, address or port is none, or the type is a transfer.
    :raises ExchangeError: no answer, or one that does not parse.
    :raises TsigError: the answer's signature is missing or wrong, or the server refused ours.
    """
    question = Question(name, dns.rdatatype.to_text(type_of(rdtype)), rdclass)
    return await Asker(server, port, Manner(**manner), network=network, clock=clock).ask(question)
