"""DNS over TLS (RFC 7858) and zone transfers over TLS (RFC 9103), on top of any :class:`~mpcore.net.network.Network`.

TLS 1.3 only, ALPN ``dot``.  A server is authenticated by the SHA-256 of its public key (a *pin*), by a certificate
authority and its name, or by both; a client, if it is asked, by its certificate.  The handshake takes place when the
first octet is sent or received, so a listener accepts the next connection without waiting for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import anyio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mpcore.errors import ConfigError, ExchangeError
from mpcore.net.network import Address, ByteStream, Listener, Network

__all__ = (
    "ClientIdentity",
    "ServerIdentity",
    "TlsClient",
    "TlsEndpoint",
    "TlsStream",
    "fingerprint_of",
    "listen_tls",
    "pin_of",
    "server_context",
)

_ALPN = "dot"
_CHUNK = 65536
_CLOSING = 0.5  # seconds that the farewell may take


class ServerIdentity(Protocol):
    """How a server is known, and with what to present oneself: the ``tls`` of a configured primary."""

    @property
    def server_name(self) -> str | None:
        """Name in the server's certificate."""
        ...

    @property
    def pins(self) -> tuple[str, ...]:
        """Acceptable public keys, see :func:`pin_of`."""
        ...

    @property
    def ca_file(self) -> Path | None:
        """Certificates of authorities, PEM."""
        ...

    @property
    def certificate_file(self) -> Path | None:
        """Our certificate chain, PEM."""
        ...

    @property
    def private_key_file(self) -> Path | None:
        """Its private key, PEM."""
        ...


class ClientIdentity(Protocol):
    """How a client is known: the ``tls`` of a configured secondary."""

    @property
    def client_fingerprint(self) -> str | None:
        """See :func:`fingerprint_of`; ``None``: any client, also one without a certificate."""
        ...


@dataclass(frozen=True, slots=True)
class TlsEndpoint:
    """Where to listen for TLS."""

    host: str  #: numeric address
    port: int  #: 853 by custom; 0 takes a free one
    context: ssl.SSLContext  #: see :func:`server_context`


def pin_of(certificate: bytes) -> str:
    """The pin of a certificate (DER): SHA-256 of its SubjectPublicKeyInfo in base64 (RFC 7858, section 4.2).

    :raises ExchangeError: it is no certificate.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:  # whatever the library makes of octets from outside: versions, curves, encodings
        raise ExchangeError(f"the certificate does not parse: {error}") from None
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER) in lower-case hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()


def _context(purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([_ALPN])
    return context


def _load_chain(context: ssl.SSLContext, certificate_file: Path, private_key_file: Path) -> None:
    try:
        context.load_cert_chain(certificate_file, private_key_file, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ConfigError(
            f"certificate {certificate_file} with key {private_key_file}: {_reason(error)}", key="tls"
        ) from None


def _no_password() -> str:
    raise ValueError("the key is protected by a password")


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise ConfigError(f"certificates {file} cannot be used: {_reason(error)}", key="tls") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def server_context(
    certificate_file: Path, private_key_file: Path, *, client_ca_file: Path | None = None
) -> ssl.SSLContext:
    """What a server listens with.

    :param certificate_file: certificate chain, PEM.
    :param private_key_file: private key, PEM, without a password.
    :param client_ca_file: clients are asked for a certificate, and one that is given must be among these or issued by
        one of these (PEM); a client without any is served all the same, see :class:`mpcore.net.acl.Acl`.
    :raises ConfigError: a file is missing or unusable, or the two do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    _load_chain(context, certificate_file, private_key_file)
    if client_ca_file is not None:
        _load_authorities(context, client_ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class TlsClient:
    """How to connect to servers by TLS, and which servers to accept.

    With pins the server's key must be one of them.  With a certificate authority or a server name the certificate must
    be valid and issued to that name; without *ca_file* the authorities of the system count.  With both, both.  With
    neither, any server is accepted: the data must then be authenticated otherwise, by TSIG (RFC 9103, section 9.3.2).

    :param server_name: name in the server's certificate; with *ca_file* alone it may be the address connected to.
    :param pins: see :func:`pin_of`.
    :param ca_file: certificates of authorities, PEM.
    :param certificate_file: our certificate chain, PEM, offered to servers that ask.
    :param private_key_file: its private key, PEM.
    :raises ConfigError: a file is missing or unusable, a pin is not 32 octets in base64.
    """

    def __init__(
        self,
        *,
        server_name: str | None = None,
        pins: Iterable[str] = (),
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        private_key_file: Path | None = None,
    ) -> None:
        self._pins = frozenset(_checked_pin(pin) for pin in pins)
        self._by_name = ca_file is not None or (server_name is not None and not self._pins)
        self._server_name = server_name
        self._context = _context(ssl.PROTOCOL_TLS_CLIENT)
        if not self._by_name:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        elif ca_file is not None:
            _load_authorities(self._context, ca_file)
            self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        else:
            self._context.load_default_certs()
        if (certificate_file is None) != (private_key_file is None):
            raise ConfigError("a client certificate needs certificate_file and private_key_file", key="tls")
        if certificate_file is not None and private_key_file is not None:
            _load_chain(self._context, certificate_file, private_key_file)

    @classmethod
    def of(cls, identity: ServerIdentity) -> Self:
        """A client for a server as it is configured; :raises ConfigError: see above."""
        return cls(
            server_name=identity.server_name,
            pins=identity.pins,
            ca_file=identity.ca_file,
            certificate_file=identity.certificate_file,
            private_key_file=identity.private_key_file,
        )

    @property
    def authenticates(self) -> bool:
        """Whether a server is accepted only if it proves who it is."""
        return bool(self._pins) or self._by_name

    async def connect(self, network: Network, host: str, port: int, *, local_host: str | None = None) -> TlsStream:
        """A connection whose handshake is done; the parameters are those of :meth:`Network.connect_tcp`.

        :raises OSError: no connection.
        :raises ExchangeError: the handshake failed, or the server is another than it should be.
        """
        raw = await network.connect_tcp(host, port, local_host=local_host)
        stream = TlsStream(raw, self._context, server_side=False, server_name=self._server_name or host)
        try:
            await stream.handshake()
            certificate = stream.certificate
            if self._pins and (certificate is None or pin_of(certificate) not in self._pins):
                raise ExchangeError(f"{host} port {port}: the key of the server is none of those configured")
        except BaseException as error:
            with anyio.move_on_after(_CLOSING, shield=True):
                await raw.aclose()
            if isinstance(error, ssl.SSLError):
                raise ExchangeError(f"{host} port {port}: TLS failed: {_reason(error)}") from None
            if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | OSError):
                raise ExchangeError(f"{host} port {port}: the connection ended during the TLS handshake") from None
            raise
        return stream


def _checked_pin(pin: str) -> str:
    try:
        octets = base64.b64decode(pin, validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != 32:
        raise ConfigError(f"{pin!r} is not a SHA-256 in base64", key="tls.pins")
    return base64.b64encode(octets).decode()


class TlsStream:
    """A :class:`~mpcore.net.network.ByteStream` through TLS.

    A connection that ends without a farewell counts as ended: DNS messages say themselves where they end.

    :param stream: the connection; closed by :meth:`aclose`.
    :param server_name: for a client, the name that it asks for and that the context checks.
    """

    __slots__ = ("_done", "_handshaking", "_incoming", "_object", "_outgoing", "_sending", "_stream")

    def __init__(
        self, stream: ByteStream, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._sending, self._handshaking = anyio.Lock(), anyio.Lock()
        self._done = False

    @property
    def local(self) -> Address:
        """Our end."""
        return self._stream.local

    @property
    def peer(self) -> Address:
        """The other end."""
        return self._stream.peer

    @property
    def certificate(self) -> bytes | None:
        """The other end's certificate (DER), once the handshake is done and if it has one."""
        return self._object.getpeercert(binary_form=True) if self._done else None

    async def handshake(self) -> None:
        """Do the handshake, unless it is done.

        :raises ssl.SSLError: it failed.
        :raises anyio.EndOfStream: the other end closed the connection.
        :raises anyio.BrokenResourceError: the connection broke.
        """
        async with self._handshaking:
            while not self._done:
                try:
                    self._object.do_handshake()
                    self._done = True
                except ssl.SSLWantReadError:
                    await self._flush()
                    self._incoming.write(await self._stream.receive(_CHUNK))
                except ssl.SSLError:
                    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await self._flush()  # the alert that tells the other end why
                    raise
            await self._flush()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See :meth:`~mpcore.net.network.ByteStream.receive`."""
        if not self._done:
            await self.handshake()
        while True:
            try:
                octets = self._object.read(max_bytes)
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self._stream.receive(_CHUNK))
            except ssl.SSLZeroReturnError:
                raise anyio.EndOfStream from None
            else:
                if not octets:
                    raise anyio.EndOfStream
                return octets

    async def send(self, item: bytes) -> None:
        """See :meth:`~mpcore.net.network.ByteStream.send`."""
        if not self._done:
            await self.handshake()
        if item:
            self._object.write(item)
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            while self._outgoing.pending:
                await self._stream.send(self._outgoing.read())

    async def aclose(self) -> None:
        """Say farewell, without waiting for an answer, and close."""
        if self._done:
            with suppress(ssl.SSLError):
                self._object.unwrap()
            with (
                anyio.move_on_after(_CLOSING, shield=True),
                suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError),
            ):
                await self._flush()
        await self._stream.aclose()


class _TlsListener:
    __slots__ = ("_context", "_listener")

    def __init__(self, listener: Listener, context: ssl.SSLContext) -> None:
        self._listener, self._context = listener, context

    @property
    def address(self) -> Address:
        return self._listener.address

    async def accept(self) -> TlsStream:
        return TlsStream(await self._listener.accept(), self._context, server_side=True)

    async def aclose(self) -> None:
        await self._listener.aclose()


async def listen_tls(network: Network, endpoint: TlsEndpoint) -> Listener:
    """Listen for TLS connections; each does its handshake when it is first read.

    :raises OSError: the address is in use or not ours.
    """
    return _TlsListener(await network.listen_tcp(endpoint.host, endpoint.port), endpoint.context)
