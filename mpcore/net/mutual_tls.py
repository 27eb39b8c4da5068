"""Channels by TLS 1.3: a certificate from either side, ALPN ``http/1.1``.

A certificate is no more than the envelope of a public key: names, dates and issuer mean nothing (RFC 7671, 5.1).
The standard library's ``ssl`` cannot ask a client for a certificate without an authority that issued it; pyOpenSSL can.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import suppress

import anyio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from mpcore.errors import ExchangeError
from mpcore.net.channel import Channel
from mpcore.net.network import Address, ByteStream

__all__ = ("MutualTls", "certificate_text", "make_certificate")

_ALPN = b"http/1.1"
_CHUNK = 65536
_CLOSING = 0.5  #: seconds that the farewell may take
_LONGEST_NAME = 64  #: characters of a common name (RFC 5280, appendix A.1)
_NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59)  # RFC 5280, section 4.1.2.5
_BEGIN = datetime.datetime(2000, 1, 1)


def make_certificate(
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    *,
    not_before: datetime.datetime = _BEGIN,
    not_after: datetime.datetime = _NO_END,
) -> x509.Certificate:
    """The envelope of a public key for TLS: self-signed, without an end; its meaning is in DNS.

    :param names: domain names, at least one.
    :param not_before: UTC; likewise *not_after*.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_LONGEST_NAME])])
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name.removesuffix(".")) for name in names])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(alternatives, critical=False)
        .sign(key, SHA256())
    )


def certificate_text(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> str:
    """A certificate like the one that is shown, in PEM: its signature differs each time, its key does not."""
    return make_certificate(key, names).public_bytes(Encoding.PEM).decode("ascii")


class MutualTls:
    """TLS with one key of ours.

    :param key: EC P-256.
    :param names: for the certificate; our identity first.
    :param certificate: instead of one made here.
    """

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, names: Sequence[str], certificate: x509.Certificate | None = None
    ) -> None:
        self.certificate = certificate or make_certificate(key, names)
        self._server = self._context(SSL.TLS_SERVER_METHOD, key)
        self._client = self._context(SSL.TLS_CLIENT_METHOD, key)
        self._client.set_alpn_protos([_ALPN])
        self._server.set_alpn_select_callback(_choose)

    def _context(self, method: int, key: ec.EllipticCurvePrivateKey) -> SSL.Context:
        context = SSL.Context(method)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.use_certificate(self.certificate)
        context.use_privatekey(key)
        # A certificate is demanded and its key proven by the handshake.  Names, dates and issuer mean nothing here.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        return context

    async def accept(self, stream: ByteStream) -> Channel:
        """See :class:`~mpcore.net.channel.ChannelSecurity`."""
        connection = SSL.Connection(self._server, None)
        connection.set_accept_state()
        return await _shake(stream, connection)

    async def connect(self, stream: ByteStream, server_name: str) -> Channel:
        """See :class:`~mpcore.net.channel.ChannelSecurity`."""
        connection = SSL.Connection(self._client, None)
        connection.set_connect_state()
        connection.set_tlsext_host_name(server_name.removesuffix(".").encode("ascii"))
        return await _shake(stream, connection)


def _choose(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    # A client that offers nothing is taken for one that speaks HTTP/1.1; one that wants only others is not.
    return _ALPN if _ALPN in offered else b""


async def _shake(stream: ByteStream, connection: SSL.Connection) -> Channel:
    tls = _TlsStream(stream, connection)
    try:
        await tls.handshake()
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise ExchangeError("the other end has no certificate")
        key = certificate.public_key()
        return Channel(tls, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except BaseException as error:
        with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError):
            await stream.aclose()
        if isinstance(error, SSL.Error):
            raise ExchangeError(f"TLS failed: {_reason(error)}") from None
        if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | anyio.ClosedResourceError | OSError):
            raise ExchangeError("the connection ended during the TLS handshake") from None
        if isinstance(error, ValueError):
            raise ExchangeError(f"the certificate cannot be used: {error}") from None
        raise


def _reason(error: SSL.Error) -> str:
    """The last entry of OpenSSL's error queue, in its words."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(queue[-1][2]) if queue else "the handshake was not completed"


class _TlsStream:
    """A :class:`~mpcore.net.network.ByteStream` through TLS; the end must be a farewell, or what is read is cut."""

    __slots__ = ("_connection", "_done", "_sending", "_stream")

    def __init__(self, stream: ByteStream, connection: SSL.Connection) -> None:
        self._stream, self._connection = stream, connection
        self._sending = anyio.Lock()
        self._done = False

    @property
    def local(self) -> Address:
        return self._stream.local

    @property
    def peer(self) -> Address:
        return self._stream.peer

    async def handshake(self) -> None:
        while not self._done:
            try:
                self._connection.do_handshake()
                self._done = True
            except SSL.WantReadError:
                await self._flush()
                self._connection.bio_write(await self._stream.receive(_CHUNK))
            except SSL.Error:
                with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._flush()  # the alert that tells the other end why
                raise
        await self._flush()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while True:
            try:
                return self._connection.recv(max_bytes)
            except SSL.WantReadError:
                await self._flush()
                self._connection.bio_write(await self._stream.receive(_CHUNK))
            except SSL.ZeroReturnError:
                raise anyio.EndOfStream from None
            except SSL.Error as error:
                raise anyio.BrokenResourceError(f"TLS failed: {_reason(error)}") from None

    async def send(self, item: bytes) -> None:
        if item:
            try:
                self._connection.sendall(item)
            except SSL.Error as error:
                raise anyio.BrokenResourceError(f"TLS failed: {_reason(error)}") from None
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            while True:
                try:
                    octets = self._connection.bio_read(_CHUNK)
                except SSL.WantReadError:
                    return
                await self._stream.send(octets)

    async def aclose(self) -> None:
        """Say farewell, without waiting for an answer, and close."""
        if self._done:
            with suppress(SSL.Error):
                self._connection.shutdown()
            with (
                anyio.move_on_after(_CLOSING, shield=True),
                suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError),
            ):
                await self._flush()
        await self._stream.aclose()
