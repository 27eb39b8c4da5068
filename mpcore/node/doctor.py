"""What is wrong between us and a peer, step by step, in words, and at whose side.

The steps follow the way of a message: may the two talk at all (HSYNC3), can the peer be found (URI, SVCB, JWK, every
answer validated), can it find us, is the key the one in use, do its addresses take connections, does it answer a ping,
can the answer be opened, do the clocks agree, how long does a round trip take, what do the last HELLO and BEAT say,
what do the others say, and is anything held back here.  Where HTTPS is switched on, it is examined after the pings.
A step that cannot be looked at says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import anyio
import dns.rcode
import dns.rdatatype

from mpcore.control.models import Diagnosis, DiagnosisStep
from mpcore.errors import DeliveryError, MpError, RemoteError
from mpcore.net.client import describe
from mpcore.net.resolver_types import Answer
from mpcore.node.directory import Contact
from mpcore.node.doctor_https import HttpsDoctor
from mpcore.node.https import HttpsTransport
from mpcore.node.outbound import FailedExchangeError
from mpcore.peer import discovery
from mpcore.records import JWK_TYPE
from mpcore.wire.messages import Acknowledgement, Ping, rfc3339
from mpcore.wire.seal import PublicKey

if TYPE_CHECKING:
    from mpcore.node.agent_orders import AgentOrders
    from mpcore.peer.machine import Peer

__all__ = ("Doctor",)

Side = Literal["ours", "theirs", "network", "unknown"]

_PINGS = 5
_CONNECT = 3.0  #: seconds for one connection
_SKEW = 60.0  #: seconds by which clocks may differ without being worth a word
_REFUSED_SKEW = 600.0  #: seconds above which fresh messages are refused
_TLSA = int(dns.rdatatype.TLSA)
_OPERATIONAL = "OPERATIONAL"

_RCODES: dict[int, tuple[str, Side, str]] = {
    1: (
        "it could not read the message",
        "theirs",
        "a deployed combiner or signer answers so when the payload has to be fetched: set chunk_mode to edns0 or auto",
    ),
    2: (
        "it could not handle the message now",
        "theirs",
        "it is starting, overloaded, or its disk is full: its log says which",
    ),
    4: (
        "it takes no such messages",
        "theirs",
        "a name server answers there, but no agent: look at its published port",
    ),
    5: (
        "it takes no messages from us",
        "theirs",
        "its copy of the zone does not list us in HSYNC3, or it has an old key of ours or none: reset us at its side",
    ),
    9: ("it does not serve this", "theirs", "a name server answers there, but no agent: look at its published port"),
}


class Doctor:
    """One examination of one peer.

    :param node: the agent.
    :param peer: the machine of the peer.
    """

    def __init__(self, node: AgentOrders, peer: Peer) -> None:
        self._node, self._peer, self._identity = node, peer, peer.identity
        self._steps: list[DiagnosisStep] = []

    async def examine(self, timeout: float) -> Diagnosis:
        """Go through all steps, within *timeout* seconds."""
        with anyio.move_on_after(timeout) as limit:
            await self._all()
        if limit.cancelled_caught:
            self._add("time", None, f"the time of {timeout:g} s was over before the last step", "unknown", "allow more")
        failed = [step for step in self._steps if step.ok is False]
        if not failed:
            verdict = f"{self._identity} is well: {self._steps_text()}"
        else:
            first = failed[0]
            whose = {"ours": "at our side", "theirs": "at its side", "network": "in the network between", "unknown": ""}
            where = whose[first.side or "unknown"]
            verdict = f"{first.step}{f' ({where})' if where else ''}: {first.detail}"
        return Diagnosis(identity=self._identity, ok=not failed, verdict=verdict, steps=tuple(self._steps))

    def _steps_text(self) -> str:
        return f"{sum(1 for step in self._steps if step.ok)} steps without a fault"

    def _add(
        self, step: str, ok: bool | None, detail: str, side: Side | None = None, advice: str | None = None
    ) -> bool | None:
        self._steps.append(DiagnosisStep(step=step, ok=ok, detail=detail, side=side, advice=advice))
        return ok

    async def _all(self) -> None:
        contact = self._node.directory.get(self._identity)
        if self._peer.kind == "agent":
            self._listed()
            found = await self._discover()
            await self._ourselves()
            self._key(contact, found)
        else:
            self._add("configuration", True, f"a {self._peer.kind} is reached as configured, not looked up")
        if contact is None:
            self._add("connection", None, "neither address nor key is known, so nothing can be sent")
        else:
            await self._connect(contact)
            await self._exchange()
        if self._peer.kind == "agent" and self._node.https is not None:
            await self._https(self._node.https)
        self._ages()
        if self._peer.kind == "agent":
            self._others()
        self._held()

    # ------------------------------------------------------------------ HSYNC3

    def _listed(self) -> None:
        zones = self._peer.zones
        if zones:
            self._add("HSYNC3", True, f"{len(zones)} of our zones list both of us: {', '.join(zones[:5])}")
        else:
            self._add(
                "HSYNC3",
                False,
                "no zone of ours lists both of us",
                "unknown",
                "look at the HSYNC3 records of the zones at their owner, and whether our copies are current",
            )
        row = self._row()
        if row is None:
            self._add("HSYNC3, their view", None, "it has not reported yet what it sees")
            return
        word = row.get(self._node.identity)
        if word is None:
            self._add(
                "HSYNC3, their view",
                False,
                "its report does not name us",
                "theirs",
                "its copy of the zone does not list us, or is out of date",
            )
        else:
            self._add("HSYNC3, their view", True, f"its report says that it sees us as {word}")

    def _row(self) -> dict[str, str] | None:
        """What the peer reports of the members of the groups that we share."""
        said: dict[str, str] | None = None
        for key in self._node.elections:
            for row in self._node.gossip.rows(key):
                if row.reporter == self._identity and row.received_at is not None:
                    said = {**(said or {}), **row.states}
        return said

    # --------------------------------------------------------------------- DNS

    async def _discover(self) -> discovery.Contact | None:
        self._node.resolver.flush(self._identity)
        outcomes: dict[discovery.Lookup, discovery.Outcome] = {}
        plan = discovery.discovery_plan(self._identity)
        contact, error = None, None
        try:
            batch = next(plan)
            while True:
                found = {lookup: await self._resolve(lookup.owner, lookup.rdtype) for lookup in batch}
                outcomes |= found
                batch = plan.send(found)
        except StopIteration as stop:
            contact = stop.value
        except RemoteError as fault:
            error = str(fault)
        silent = all(isinstance(outcome, Exception) for outcome in outcomes.values())
        for lookup, outcome in outcomes.items():
            self._record(lookup, outcome, silent=silent)
        if contact is None:
            self._add("discovery", False, error or "it cannot be found", "theirs", self._publish_advice())
        if self._node.https is None:
            await self._certificate()
        return contact

    def _publish_advice(self) -> str:
        return (
            f"its identity zone must hold URI at _dns._tcp.{self._identity}, SVCB and JWK at dns.{self._identity}, "
            "signed, with DS records up to the root"
        )

    async def _resolve(self, owner: str, rdtype: int) -> Answer | MpError:
        try:
            return await self._node.resolver.resolve(owner, rdtype)
        except MpError as error:
            return error

    def _record(self, lookup: discovery.Lookup, outcome: discovery.Outcome, *, silent: bool) -> None:
        word = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(lookup.rdtype))
        needed = word in ("URI", "SVCB", "JWK", f"TYPE{JWK_TYPE}")
        if not isinstance(outcome, Answer):
            advice = (
                "none of its names can be looked up: look at our resolver: root hints, forwarders, trust anchor"
                if silent
                else f"look at the name servers and the delegation of {self._identity}"
            )
            self._add(str(lookup), False, str(outcome), "ours" if silent else "theirs", advice)
            return
        left = max(0.0, outcome.expires - self._node.clock.now())
        state = f"{outcome.security.value.lower()}, for {left:.0f} s more"
        if outcome.rrset is None:
            rcode = dns.rcode.to_text(dns.rcode.Rcode.make(outcome.rcode))
            detail = f"no such record ({rcode}, {state})"
            self._add(
                str(lookup),
                not needed,
                detail,
                "theirs" if needed else None,
                self._publish_advice() if needed else None,
            )
        elif not outcome.secure:
            self._add(
                str(lookup),
                False,
                f"the answer is {state}{f': {outcome.reason}' if outcome.reason else ''}",
                "theirs",
                "its zone must be signed, with DS records at its parent that match, and signatures that are current",
            )
        else:
            texts = " | ".join(sorted(item.to_text() for item in outcome.rrset))
            self._add(str(lookup), True, f"{texts[:200]} ({state})")

    async def _certificate(self) -> None:
        """TLSA of the HTTPS that deployed agents have, which we do not speak."""
        uri = await self._resolve(f"_https._tcp.{self._identity}", int(dns.rdatatype.URI))
        if not isinstance(uri, Answer) or uri.rrset is None:
            self._add("TLSA", True, "it publishes no HTTPS transport, so it needs no certificate")
            return
        try:
            port = urlsplit(uri.rrset[0].target.decode("ascii")).port or 443
        except (ValueError, UnicodeError):
            self._add("TLSA", False, "its URI for HTTPS cannot be read", "theirs", "messages by DNS are not concerned")
            return
        owner = f"_{port}._tcp.api.{self._identity}"
        tlsa = await self._resolve(owner, _TLSA)
        if isinstance(tlsa, Answer) and tlsa.rrset is not None and tlsa.secure:
            self._add("TLSA", True, f"{owner}: {len(tlsa.rrset)} certificates, secure")
        else:
            why = tlsa.security.value.lower() if isinstance(tlsa, Answer) else str(tlsa)
            self._add("TLSA", True, f"{owner}: {why}; HTTPS would not work, messages by DNS are not concerned")

    async def _ourselves(self) -> None:
        """Whether others can find us: our own records, looked up as they would."""
        node = self._node
        node.resolver.flush(node.identity)
        plan = discovery.discovery_plan(node.identity)
        try:
            batch = next(plan)
            while True:
                batch = plan.send({lookup: await self._resolve(lookup.owner, lookup.rdtype) for lookup in batch})
        except StopIteration as stop:
            own: discovery.Contact = stop.value
        except RemoteError as error:
            self._add(
                "our own records",
                False,
                f"others cannot find us: {error}",
                "ours",
                f"look at the secondaries, the delegation and the DS records of {node.identity}",
            )
            return
        if node.key.public() not in _keys(own):
            self._add(
                "our own records",
                False,
                "the key that others find is not the one that we sign with",
                "ours",
                "the secondaries of our identity zone have an old version, or key_file was changed without a roll-over",
            )
            return
        published = {endpoint.address for endpoint in node.agent_settings.publish}
        if not published & set(own.addresses):
            self._add(
                "our own records",
                False,
                f"others find us at {', '.join(own.addresses)}, we publish {', '.join(sorted(published))}",
                "ours",
                "the secondaries of our identity zone have an old version",
            )
            return
        self._add("our own records", True, f"others find us at {', '.join(own.addresses)} port {own.port}, secure")

    def _key(self, contact: Contact | None, found: discovery.Contact | None) -> None:
        if found is None:
            self._add("key", None, "its key was not found in DNS")
        elif contact is None:
            self._add(
                "key",
                False,
                "found in DNS, but not in use yet",
                "ours",
                f"it is looked up again soon; at once with: mpcockpit peer reset {self._identity}",
            )
        elif not set(contact.keys) & set(_keys(found)):
            self._add(
                "key",
                False,
                "the key in DNS is not the one that we use: it has changed",
                "ours",
                f"mpcockpit peer reset {self._identity}",
            )
        else:
            self._add("key", True, f"the key in DNS is the one in use, thumbprint {contact.key.thumbprint}")

    # ----------------------------------------------------------------- network

    async def _connect(self, contact: Contact) -> None:
        node = self._node
        for host, port in contact.addresses:
            step = f"connection to {host} port {port}"
            began = node.clock.now()
            try:
                with anyio.fail_after(_CONNECT):
                    stream = await node.runtime.network.connect_tcp(host, port)
            except TimeoutError:
                detail = f"no answer within {_CONNECT:g} s"
                self._add(step, False, detail, "network", "a firewall drops TCP, or the host is down")
            except (OSError, anyio.BrokenResourceError) as error:
                refused = isinstance(error, ConnectionRefusedError)
                self._add(
                    step,
                    False,
                    describe(error),
                    "theirs" if refused else "network",
                    "nothing listens there: is its daemon running, at this port?" if refused else "look at the routes",
                )
            else:
                await stream.aclose()
                self._add(step, True, f"established in {1000 * (node.clock.now() - began):.1f} ms")

    def _new_ping(self) -> Ping:
        node = self._node
        return Ping(
            my_identity=node.identity,
            your_identity=self._identity,
            nonce=f"{node.runtime.random.getrandbits(64):016x}",
            time=rfc3339(node.clock.now()),
        )

    async def _https(self, https: HttpsTransport) -> None:
        node = self._node
        doctor = HttpsDoctor(
            self._identity,
            https,
            node.outbound,
            node.directory,
            node.resolver,
            self._new_ping,
            node.new_distribution_id,
        )
        try:
            await doctor.examine()
        finally:
            self._steps += doctor.steps  # those taken, if the time is over

    async def _exchange(self) -> None:
        node = self._node
        trips: list[float] = []
        skews: list[float] = []
        for _ in range(_PINGS):
            began = node.clock.now()
            message = self._new_ping()
            try:
                answer: Acknowledgement = await node.send(self._identity, message)
            except DeliveryError as error:
                self._refused(error)
                return
            ended = node.clock.now()
            trips.append(ended - began)
            if answer.nonce != message.nonce:
                self._add("ping", False, "the answer is to another ping", "theirs", "something replays old answers")
                return
            if answer.timestamp:
                skews.append(answer.timestamp + 0.5 - (began + ended) / 2)
        self._add("ping", True, f"{len(trips)} of {_PINGS} answered NOERROR")
        self._add("decryption", True, "its answers open with our key and are signed with the key that we know")
        self._clock(skews)
        middle, worst = statistics.median(trips), max(trips)
        self._add("round trips", True, f"{len(trips)}: median {1000 * middle:.1f} ms, worst {1000 * worst:.1f} ms")

    def _refused(self, error: DeliveryError) -> None:
        stage = error.stage if isinstance(error, FailedExchangeError) else None
        if stage == "rcode":
            assert isinstance(error, FailedExchangeError)
            words, side, advice = _RCODES.get(error.rcode or 0, (str(error), "theirs", "look at its log"))
            if error.rcode == 5 and any(step.step == "our own records" and step.ok is False for step in self._steps):
                side, advice = "ours", "it cannot find our key: repair our own records first"
            self._add("ping", False, f"{words} ({error})", side, advice)
            self._add("decryption", None, "there is no answer to open")
        elif stage == "network":
            connected = any(step.step.startswith("connection") and step.ok for step in self._steps)
            advice = (
                "it takes the connection but says nothing: it does not know our key yet, or is stuck"
                if connected
                else "see the connections above"
            )
            self._add("ping", False, str(error), "theirs" if connected else "network", advice)
            self._add("decryption", None, "there is no answer to open")
        elif stage == "opening":
            self._add("ping", True, "answered NOERROR")
            self._add(
                "decryption",
                False,
                str(error),
                "theirs",
                "it signs with another key than it publishes, or has an old key of ours; try at both sides: "
                "mpcockpit peer reset",
            )
        else:
            self._add("ping", False, str(error), "theirs", "its log says why")
        self._add("clock", None, "there is no answer with a time in it")
        self._add("round trips", None, "none was completed")

    def _clock(self, skews: Sequence[float]) -> None:
        if not skews:
            self._add("clock", None, "its answers carry no time")
            return
        skew = statistics.median(skews)
        if abs(skew) < 1:
            self._add("clock", True, "its clock and ours agree to the second")
            return
        side = "ahead of" if skew > 0 else "behind"
        detail = f"its clock is {abs(skew):.0f} s {side} ours"
        if abs(skew) <= _SKEW:
            self._add("clock", True, detail)
            return
        worse = f"; above {_REFUSED_SKEW:.0f} s messages are refused"
        self._add("clock", False, detail + worse, "unknown", "both need NTP: compare each with a time server")

    # ----------------------------------------------------------------- history

    def _ages(self) -> None:
        node, now = self._node, self._node.clock.now()
        view = self._peer.view(now)
        heard = "never" if view.last_heard is None else f"{now - view.last_heard:.0f} s ago"
        told = "never" if view.last_acknowledged is None else f"{now - view.last_acknowledged:.0f} s ago"
        counters = node.directory.traffic(self._identity).counters()
        greetings = counters.get("hello")
        greeted = "no HELLO of it since our start"
        if greetings is not None and greetings.received:
            greeted = f"{greetings.received} HELLO of it since our start"
        every = "" if view.beat_interval is None else f", it announces a beat every {view.beat_interval:g} s"
        healthy = view.state == _OPERATIONAL
        self._add(
            "HELLO and BEAT",
            healthy,
            f"state {view.state}; heard {heard}, acknowledged {told}{every}; {greeted}",
            None if healthy else "unknown",
            None if healthy else view.waiting_for,
        )

    def _others(self) -> None:
        """Indirect evidence: what the other members of our groups say about the peer."""
        said = self._node.said_by_others(self._identity)
        if not said:
            self._add("the others' reports", None, "nobody else reports about it")
            return
        hear = sorted(name for name, word in said.items() if word == _OPERATIONAL)
        deaf = sorted(name for name, word in said.items() if word != _OPERATIONAL)
        if self._peer.state == _OPERATIONAL:
            self._add("the others' reports", not deaf, _counted(hear, deaf), "theirs" if deaf else None)
        elif hear:
            self._add(
                "the others' reports",
                False,
                f"{_counted(hear, deaf)}: the fault is between us and it",
                "ours" if not deaf else "network",
                "look at our own network, published addresses and key first",
            )
        else:
            self._add("the others' reports", False, f"{_counted(hear, deaf)}: it is away", "theirs", "ask its operator")

    def _held(self) -> None:
        node = self._node
        waiting = [item for item in node.queue.messages() if item.recipient == self._identity]
        if self._identity in node.queue.paused:
            self._add(
                "queue",
                False,
                f"paused by the operator, {len(waiting)} messages wait",
                "ours",
                f"mpcockpit queue resume {self._identity}",
            )
        else:
            self._add("queue", True, f"{len(waiting)} messages wait for it" if waiting else "nothing waits for it")


def _keys(found: discovery.Contact) -> list[PublicKey]:
    return [PublicKey.from_jwk(jwk) for jwk in (found.jwk, *found.other_jwks)]


def _counted(hear: Sequence[str], deaf: Sequence[str]) -> str:
    parts = []
    if hear:
        parts.append(f"{', '.join(hear)} hear it")
    if deaf:
        parts.append(f"{', '.join(deaf)} do not")
    return "; ".join(parts)
