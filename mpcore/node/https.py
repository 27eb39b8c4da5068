"""Messages by HTTPS between agents of this implementation (guide, wire format, "HTTPS").

The body of a POST is the sealed payload as it would be in a NOTIFY, its path ends in what would be the QNAME, and the
body of the answer is the sealed acknowledgement.  What is done with it is no matter of this file: it goes through the
same door (:mod:`mpcore.node.inbound`).  TLS shows which key the other end has; the door compares it with the TLSA
records of the sender, this file with those of the receiver.
"""

from __future__ import annotations

import base64

import anyio.abc
from cryptography.hazmat.primitives.asymmetric import ec

from mpcore.errors import ExchangeError
from mpcore.net.channel import ChannelSecurity, spki_of
from mpcore.net.http_links import HttpLinks, HttpTarget
from mpcore.net.http_server import HttpLimits, HttpRequest, HttpResponse, HttpServer
from mpcore.node.directory import Contact
from mpcore.node.inbound import Inbound
from mpcore.node.runtime import Runtime
from mpcore.node.settings import HttpsSettings
from mpcore.peer.dane import matches
from mpcore.peer.discovery import HttpsContact
from mpcore.peer.identity_zone import HTTPS_PATH
from mpcore.wire import frame
from mpcore.wire.seal import MAX_SEALED, PrivateKey

__all__ = ("HttpsTransport", "certificate_key", "public_octets")

_STATUS = {frame.NOERROR: 200, frame.FORMERR: 400, frame.REFUSED: 403, frame.NOTIMP: 501, frame.SERVFAIL: 503}
_RCODE = {status: rcode for rcode, status in _STATUS.items()} | {500: frame.SERVFAIL}
_TIMEOUT = 5.0  #: seconds for one exchange with one address


def certificate_key(key: PrivateKey) -> ec.EllipticCurvePrivateKey:
    """The key of a certificate, from the form in which it is kept."""
    secret = base64.urlsafe_b64decode(key.to_jwk()["d"] + "=")
    return ec.derive_private_key(int.from_bytes(secret), ec.SECP256R1())


def public_octets(key: PrivateKey) -> bytes:
    """Its public half as SubjectPublicKeyInfo, DER."""
    return spki_of(certificate_key(key).public_key())


class HttpsTransport:
    """The HTTPS of one agent, server and client.

    :param identity: ours.
    :param key: of our certificate.
    """

    def __init__(
        self, identity: str, settings: HttpsSettings, key: PrivateKey, runtime: Runtime, inbound: Inbound
    ) -> None:
        self._identity, self._settings, self._runtime, self._inbound = identity, settings, runtime, inbound
        security = self._security(key)
        self.links = HttpLinks(runtime.network, security, max_body=MAX_SEALED)
        self.server = HttpServer(
            runtime.network,
            [(endpoint.address, endpoint.port) for endpoint in settings.listen],
            security,
            self._handle,
            limits=HttpLimits(max_connections=settings.max_connections, max_body=MAX_SEALED),
        )

    @property
    def first(self) -> bool:
        """Whether it is preferred to DNS."""
        return self._settings.prefer == "https"

    @property
    def alone(self) -> bool:
        """Whether DNS is not used to a peer that has it."""
        return self.first and not self._settings.fall_back

    def set_key(self, key: PrivateKey) -> None:
        """Show another certificate from now on, in new connections."""
        security = self._security(key)
        self.links.security = self.server.security = security

    def _security(self, key: PrivateKey) -> ChannelSecurity:
        return self._runtime.channels(certificate_key(key), self._identity)

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; :raises OSError: an address cannot be bound."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.server.serve)
            task_status.started()

    async def aclose(self) -> None:
        """Close the connections to peers."""
        await self.links.aclose()

    async def post(self, contact: Contact, name: str, body: bytes) -> frame.Response:
        """Send a message; the answer in the form of the answer to a NOTIFY.

        :param name: ``<distribution id>.<our identity>``.
        :param body: sealed.
        :raises ExchangeError: no address answers as it should.
        """
        there = contact.https
        if there is None:
            raise ExchangeError(f"{contact.identity} has no HTTPS")
        failures = []
        for host in there.addresses:
            try:
                status, data = await self.links.post(
                    HttpTarget(host, there.port, there.host),
                    f"{there.path}/{name}",
                    body,
                    expected=lambda spki: matches(there.tlsa, spki),
                    timeout=_TIMEOUT,
                )
            except ExchangeError as error:
                failures.append(str(error))
                continue
            rcode = _RCODE.get(status)
            if rcode is not None:
                return frame.Response(0, rcode, data or None, frame.FORMAT_SEALED if data else 0)
            failures.append(f"{host} port {there.port}: HTTP status {status}")
        raise ExchangeError("; ".join(failures))

    async def probe(self, there: HttpsContact, host: str) -> bytes:
        """The public key that a server proves, DER; :raises ExchangeError: it proves none."""
        return await self.links.probe(HttpTarget(host, there.port, there.host), timeout=_TIMEOUT)

    async def _handle(self, request: HttpRequest) -> HttpResponse | None:
        path, _, name = request.path.rpartition("/")
        if path != HTTPS_PATH:
            return HttpResponse(404)
        verdict = await self._inbound.posted(name, request.body, request.source[0], request.spki)
        if verdict is None:
            return None
        return HttpResponse(_STATUS.get(verdict.rcode, 500), verdict.data or b"")
