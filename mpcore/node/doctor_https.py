"""What is wrong with HTTPS between us and a peer: its records, the connection, the certificate, a message.

Nothing here is a matter of life: messages go by DNS where HTTPS does not work, unless the settings say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import dns.rdatatype

from mpcore.control.models import DiagnosisStep
from mpcore.errors import DeliveryError, ExchangeError, MpError, RemoteError
from mpcore.net.client import describe
from mpcore.net.resolver_types import Answer
from mpcore.node.directory import Contact, Directory
from mpcore.node.https import HttpsTransport
from mpcore.node.outbound import Outbound
from mpcore.node.runtime import Lookups
from mpcore.peer import discovery
from mpcore.peer.dane import matches
from mpcore.wire.messages import Ping

__all__ = ("HttpsDoctor",)

Side = Literal["ours", "theirs", "network", "unknown"]


class HttpsDoctor:
    """One examination of the HTTPS of one peer.

    :param resolver: its cache for the peer is empty already.
    :param ping: makes a ping to the peer.
    :param new_id: makes a distribution id.
    """

    def __init__(
        self,
        identity: str,
        https: HttpsTransport,
        outbound: Outbound,
        directory: Directory,
        resolver: Lookups,
        ping: Callable[[], Ping],
        new_id: Callable[[], str],
    ) -> None:
        self._identity, self._https, self._outbound, self._directory = identity, https, outbound, directory
        self._resolver, self._ping, self._new_id = resolver, ping, new_id
        self.steps: list[DiagnosisStep] = []

    def _add(
        self, step: str, ok: bool | None, detail: str, side: Side | None = None, advice: str | None = None
    ) -> None:
        self.steps.append(DiagnosisStep(step=f"HTTPS: {step}", ok=ok, detail=detail, side=side, advice=advice))

    async def examine(self) -> list[DiagnosisStep]:
        """Go through all steps; they are also in :attr:`steps` as they are taken."""
        found, problem = await self._records()
        if problem is not None:
            self._add("records", False, problem, "theirs", "messages go by DNS meanwhile; see the records above")
        elif found is None:
            self._add("records", True, "it does not announce HTTPS: messages go by DNS")
        else:
            await self._connect(found)
            await self._exchange(found)
        return self.steps

    async def _records(self) -> tuple[discovery.HttpsContact | None, str | None]:
        outcomes: dict[discovery.Lookup, discovery.Outcome] = {}
        plan = discovery.discovery_plan(self._identity, https=True)
        seen: set[discovery.Lookup] = set()
        try:
            batch = next(plan)
            while True:
                outcomes = {lookup: await self._resolve(lookup) for lookup in batch}
                for lookup, outcome in outcomes.items():
                    if lookup not in seen and self._ours(lookup):
                        self._record(lookup, outcome)
                    seen.add(lookup)
                batch = plan.send(outcomes)
        except StopIteration as stop:
            contact: discovery.Contact = stop.value
            return contact.https, contact.https_problem
        except RemoteError:
            return None, "it is not found at all"

    def _ours(self, lookup: discovery.Lookup) -> bool:
        tlsa = lookup.rdtype == dns.rdatatype.TLSA
        return tlsa or lookup.owner.startswith((discovery.HTTPS_SERVICE, f"{discovery.HTTPS_HOST}."))

    async def _resolve(self, lookup: discovery.Lookup) -> Answer | MpError:
        try:
            return await self._resolver.resolve(lookup.owner, lookup.rdtype)
        except MpError as error:
            return error

    def _record(self, lookup: discovery.Lookup, outcome: discovery.Outcome) -> None:
        if not isinstance(outcome, Answer):
            self._add(str(lookup), False, str(outcome), "theirs", f"look at the name servers of {self._identity}")
        elif outcome.rrset is None:
            if lookup.owner.startswith(discovery.HTTPS_SERVICE):
                self._add(str(lookup), True, "no such record, and none is needed")
            else:
                self._add(str(lookup), None, "no such record")
        elif not outcome.secure:
            self._add(str(lookup), False, f"the answer is {outcome.security.value.lower()}", "theirs", "sign the zone")
        else:
            texts = " | ".join(sorted(item.to_text() for item in outcome.rrset))
            self._add(str(lookup), True, f"{texts[:200]} (secure)")

    async def _connect(self, found: discovery.HttpsContact) -> None:
        for host in found.addresses:
            where = f"{host} port {found.port}"
            try:
                spki = await self._https.probe(found, host)
            except ExchangeError as error:
                self._add(
                    f"connection to {where}",
                    False,
                    describe(error),
                    "network",
                    "is its daemon running with https.listen at this address, and does a firewall pass the port?",
                )
                continue
            self._add(f"connection to {where}", True, "TLS 1.3, certificates from either side")
            if matches(found.tlsa, spki):
                self._add(f"certificate of {where}", True, "its key is in the TLSA records")
            else:
                self._add(
                    f"certificate of {where}",
                    False,
                    "its key is in none of the TLSA records",
                    "theirs",
                    "another server answers there, or its key file was changed without 'agent certificate prepare'",
                )

    async def _exchange(self, found: discovery.HttpsContact) -> None:
        contact: Contact | None = self._directory.get(self._identity)
        if contact is None or contact.https is None:
            self._add("ping", None, "found in DNS, but not in use yet: mpcockpit peer reset")
            return
        try:
            answer = await self._outbound.exchange(contact, self._ping(), self._new_id(), way="https")
        except DeliveryError as error:
            refused = "REFUSED" in str(error)
            self._add(
                "ping",
                False,
                str(error),
                "ours" if refused else "network",
                "it does not know our certificate: compare 'agent certificate show' with DNS, and reset us at its side"
                if refused
                else "messages go by DNS meanwhile, unless https.fall_back is off",
            )
        else:
            self._add("ping", True, f"answered {answer.status}")
