"""What an agent has where HTTPS is switched on: the transport, the key of its certificate and how that is rolled over.

The key lies in a file of its own, the next one beside it.  Both are published from the first step on, so that every
peer knows the next one before it is shown; the certificate around the key is made at the start and needs no renewal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import anyio

from mpcore.actions import Store
from mpcore.control.models import Certificate, CertificateAction, CertificateKey, CertificateRequest, PeerTransport
from mpcore.errors import ConflictError, NotFoundError, NotReadyError
from mpcore.node.agent_orders import AgentOrders
from mpcore.node.https import HttpsTransport, certificate_key, public_octets
from mpcore.node.identity import IdentityZone
from mpcore.node.keyroll import OVERLAP, KeyFiles, StoredKeys
from mpcore.node.runtime import Runtime
from mpcore.node.settings import AgentSettings
from mpcore.node.transports import Transport, in_order
from mpcore.peer.dane import tlsa_text
from mpcore.peer.discovery import HTTPS_HOST

__all__ = ("CERTIFICATE_ROLL", "AgentHttps")

CERTIFICATE_ROLL = "certificate-roll"
"""Kind of the document that says when a step of a roll-over of the certificate's key was taken."""

_ADVICE = {
    "steady": "no roll-over is under way; 'mpcockpit agent certificate prepare' begins one",
    "prepared": "wait until peers have looked the next key up, then 'mpcockpit agent certificate switch'",
}


class AgentHttps(AgentOrders):
    """HTTPS of :class:`~mpcore.node.agent.AgentNode`; everything is absent where the settings have no ``https``."""

    identity_zone: IdentityZone

    def __init__(self, settings: AgentSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self.https: HttpsTransport | None = None
        self._certificate_files: KeyFiles | None = None
        self._certificate_keys: StoredKeys | None = None
        self._certificate_step_at: float | None = None
        self._renewing = anyio.Lock()
        if settings.https is None:
            return
        self._certificate_files = KeyFiles(settings.https.key_file, None)
        self._certificate_keys = self._certificate_files.load()
        self.https = HttpsTransport(
            self.identity, settings.https, self._certificate_keys.current, runtime, self.inbound
        )
        self.outbound.https = self.https

    @abstractmethod
    async def publish_again(self) -> None:
        """Sign and serve the identity zone anew."""

    async def serve_https(self) -> None:
        """Begin to listen, if HTTPS is switched on."""
        if self.https is not None:
            await self.tasks.start(self.https.serve)

    # ------------------------------------------------------------ certificate

    def restore_certificate(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """When the steps of a roll-over were taken: the documents of kind :data:`CERTIFICATE_ROLL`."""
        since = state.get("step", {}).get("since")
        self._certificate_step_at = float(since) if isinstance(since, int | float) else None

    def publish_certificate(self) -> None:
        """Let the identity zone have the keys that there are; it is not served anew yet."""
        stored = self._certificate_keys
        if stored is not None:
            held = [stored.current] if stored.next is None else [stored.current, stored.next]
            self.identity_zone.set_https_keys([public_octets(key) for key in held])

    def certificate(self) -> Certificate:
        """See :class:`~mpcore.control.service.ControlService`."""
        stored, https = self._certificate_keys, self.agent_settings.https
        if stored is None or https is None:
            raise NotFoundError(f"{self.identity} has no HTTPS: its settings have no https")
        from mpcore.net.mutual_tls import certificate_text  # OpenSSL's bindings, which only HTTPS needs

        port = https.publish[0].port
        step: Literal["steady", "prepared"] = "steady" if stored.next is None else "prepared"
        keys = [CertificateKey(use="current", tlsa=tlsa_text(public_octets(stored.current)))]
        if stored.next is not None:
            keys.append(CertificateKey(use="next", tlsa=tlsa_text(public_octets(stored.next))))
        since = self._certificate_step_at if step == "prepared" else None
        return Certificate(
            identity=self.identity,
            owner=f"_{port}._tcp.{HTTPS_HOST}.{self.identity}",
            port=port,
            keys=tuple(keys),
            step=step,
            since=since,
            ready_at=None if since is None else since + OVERLAP,
            pem=certificate_text(certificate_key(stored.current), (self.identity, f"{HTTPS_HOST}.{self.identity}")),
            advice=_ADVICE[step],
        )

    async def certificate_action(self, request: CertificateRequest) -> Certificate:
        """See :class:`~mpcore.control.service.ControlService`."""
        async with self._renewing:
            before, action = self.certificate(), request.action
            files, https = self._certificate_files, self.https
            assert files is not None
            assert https is not None
            if before.step != ("steady" if action is CertificateAction.PREPARE else "prepared"):
                raise ConflictError(f"{action.value} is not possible now, the step is {before.step}: {before.advice}")
            now = self.clock.now()
            ready_at = (self._certificate_step_at or now) + OVERLAP
            if action is CertificateAction.SWITCH and now < ready_at and not request.force:
                raise NotReadyError(
                    f"switch is safe in {ready_at - now:.0f} s, when every peer has looked our records up again"
                )
            stored: StoredKeys = await self.runtime.run_blocking(getattr(files, action.value))
            if action is CertificateAction.SWITCH:
                # Unlike a key for messages, the former one is of no use any more.
                stored = await self.runtime.run_blocking(files.finish)
            self._certificate_keys, self._certificate_step_at = stored, now
            await self.perform("certificate", [Store(CERTIFICATE_ROLL, "step", {"step": action.value, "since": now})])
            https.set_key(stored.current)
            self.publish_certificate()
            await self.publish_again()
            self.log_event("info", f"operator: certificate: {action.value}", self.identity)
            return self.certificate()

    # ------------------------------------------------------------------ peers

    def peer_transports(self, identity: str) -> tuple[PeerTransport, ...]:
        """How each way to a peer does, the one that is tried first first; nothing where there is one way only."""
        contact, machine = self.directory.get(identity), self.machines.get(identity)
        if self.https is None or machine is None or machine.kind != "agent":
            return ()
        now, traffic = self.clock.now(), self.directory.traffic(identity)
        ways: tuple[Transport, ...] = ("https", "dns") if self.https.first else ("dns", "https")
        there = None if contact is None else contact.https
        shown = []
        for way in in_order(ways, traffic.transports, now):
            health = traffic.over(way)
            problem = None
            if way == "https" and there is None:
                found = machine.contact
                problem = (found.https_problem if found is not None else None) or "it does not announce HTTPS"
            elif way == "dns" and there is not None and self.https.alone:
                problem = "switched off for peers with HTTPS: https.fall_back"
            address = None
            if way == "https" and there is not None:
                address = f"{there.addresses[0]} port {there.port}"
            elif way == "dns" and contact is not None:
                address = f"{contact.addresses[0][0]} port {contact.addresses[0][1]}"
            shown.append(
                PeerTransport(
                    name=way,
                    address=address,
                    unavailable=problem,
                    sent=health.sent,
                    received=health.received,
                    last_acknowledged=health.last_acknowledged,
                    last_heard=health.last_heard,
                    round_trip=health.round_trip,
                    failures=health.failures,
                    last_error=health.last_error,
                    rests_until=health.rests_until if health.resting(now) else None,
                )
            )
        return tuple(shown)
