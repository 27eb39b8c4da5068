"""What an agent tells and lets do: its part of the control service."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

import anyio
import dns.exception
import dns.message
import dns.name
import dns.rdatatype

from mpcore.control.models import (
    ChangePlan,
    ChangeRequest,
    Group,
    MatrixRow,
    SdeZone,
    Snapshot,
    Transaction,
    TransactionState,
    Wait,
    Zone,
)
from mpcore.control.models import Election as ElectionModel
from mpcore.errors import ConflictError, ExchangeError, NotFoundError, RemoteError
from mpcore.group.election import Election
from mpcore.group.gossip import OPERATIONAL, GossipTable
from mpcore.names import ZoneName
from mpcore.net.client import query
from mpcore.net.secondary import SecondaryZone
from mpcore.node.base import Node
from mpcore.node.hosting import zone_view
from mpcore.node.runtime import Lookups, Runtime
from mpcore.node.settings import AgentSettings, ZoneSettings
from mpcore.node.suspicion import suspicion
from mpcore.peer.machine import Peer
from mpcore.sde.engine import SynchronisedData
from mpcore.zone import owners
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.rrset import canonical_rdata, parse_record

__all__ = ("AgentService",)

logger = logging.getLogger(__name__)

_LEVELS = (Wait.HERE, Wait.COMBINER, Wait.EVERYWHERE, Wait.DNS)
_RECENT, _USUAL_INTERVAL = 4, 30.0  #: intervals, and seconds of one, for which a report counts as evidence
_FIRST_LOOK = 0.02
_LONGEST_LOOK = 1.0


class AgentService(Node):
    """State of an agent, and the operator's view of it."""

    def __init__(self, settings: AgentSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self.machines: dict[str, Peer] = {}
        self.elections: dict[str, Election] = {}
        self.roles: dict[bytes, ZoneRoles | None] = {}
        self.secondaries: dict[bytes, SecondaryZone] = {}
        self.zone_settings: dict[bytes, ZoneSettings] = {}
        self.zone_errors: dict[bytes, str] = {}
        self.key_states: dict[str, dict[str, str]] = {}
        self._ready_peers: set[str] = set()
        self._told_edits: set[str] = set()
        self._told_keys: set[str] = set()
        self._terms: dict[str, int] = {}
        self._waiting: dict[str, anyio.Event] = {}
        self._seen_in_dns: dict[str, float] = {}
        self.suspected: tuple[int, int] | None = None  #: late peers of all, while we suspect ourselves
        self.gossip: GossipTable
        self.resolver: Lookups
        self.sde: SynchronisedData

    # ----------------------------------------------------------------- groups

    def groups(self) -> list[Group]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return [self._group(key) for key in sorted(self.elections)]

    def group(self, key: str) -> Group:
        """See :class:`~mpcore.control.service.ControlService`."""
        found = [
            candidate
            for candidate, election in self.elections.items()
            if candidate.startswith(key) or election.group.name == key
        ]
        if len(found) != 1:
            raise NotFoundError(f"{'no group' if not found else 'more than one group'} is called {key!r}")
        return self._group(found[0])

    def _group(self, key: str) -> Group:
        now = self.clock.now()
        election = self.elections[key]
        group, view = election.group, election.view()
        return Group(
            hash=key,
            name=group.name,
            members=group.members,
            voters=group.voters,
            zones=group.zones,
            operational=self.gossip.operational(key),
            rows=tuple(
                MatrixRow(
                    reporter=row.reporter,
                    states=dict(row.states),
                    reported_at=row.timestamp or None,
                    received_at=row.received_at,
                    beat_interval=row.beat_interval,
                )
                for row in self.gossip.rows(key)
            ),
            election=ElectionModel(
                phase=view.phase,
                term=view.term,
                leader=view.leader,
                leader_expires=view.leader_expires,
                votes=view.votes,
                confirms=view.confirms,
                deadline=view.deadline,
                reason=view.reason,
            ),
            problems=(*self.gossip.explain(key, now), *self._suspicions(group.members, now)),
        )

    def _suspicions(self, members: Sequence[str], now: float) -> list[str]:
        found = ((identity, self.suspicion(identity, now)) for identity in members)
        return [f"{identity.removesuffix('.')}: {text}" for identity, text in found if text is not None]

    def suspicion(self, identity: str, now: float) -> str | None:
        """What is to be thought of a peer that is late, in words; ``None``: it is not late, or no agent."""
        peer = self.machines.get(identity)
        if peer is None or peer.kind != "agent":
            return None
        return suspicion(peer, self.said_by_others(identity), self.suspected, now)

    def said_by_others(self, identity: str) -> dict[str, str]:
        """What the other members of our groups report about a peer of late: member -> the worst word it uses."""
        said: dict[str, str] = {}
        now = self.clock.now()
        for key in self.elections:
            for row in self.gossip.rows(key):
                word = row.states.get(identity)
                if row.reporter in (self.identity, identity) or row.received_at is None or word is None:
                    continue
                if now - row.received_at > _RECENT * (row.beat_interval or _USUAL_INTERVAL):
                    continue
                if said.get(row.reporter, OPERATIONAL) == OPERATIONAL:
                    said[row.reporter] = word
        return said

    # ------------------------------------------------------------------ zones

    def zones(self) -> list[Zone]:
        """See :class:`~mpcore.control.service.ControlService`."""
        group_of = {zone: key for key, election in self.elections.items() for zone in election.group.zones}
        return [
            zone_view(
                zone,
                self.secondaries[origin],
                self.roles.get(origin),
                (self.identity,),
                self.secondaries[origin].version,
                group_of.get(zone.name),
                self.zone_errors.get(origin),
            )
            for origin, zone in self.zone_settings.items()
        ]

    def _zone_name(self, zone: str) -> str:
        try:
            name = ZoneName(zone)
        except ValueError as error:
            raise NotFoundError(str(error)) from None
        if name.owner not in self.zone_settings:
            raise NotFoundError(f"{zone} is not a zone of {self.identity}")
        return name

    def edits(self, zone: str) -> SdeZone:
        """See :class:`~mpcore.control.service.ControlService`."""
        name = self._zone_name(zone)
        states = self.key_states.get(name, {})
        records = tuple(
            record.model_copy(update={"key_state": states[record.record]}) if record.record in states else record
            for record in self.sde.entries(name)
        )
        return SdeZone(zone=name, records=records, outbound=self.outbound_messages(name))

    def snapshot(self) -> Snapshot:
        """See :class:`~mpcore.control.service.ControlService`."""
        return (
            super()
            .snapshot()
            .model_copy(
                update={
                    "groups": tuple(self.groups()),
                    "edits": tuple(self.edits(zone.name) for zone in self.zone_settings.values()),
                    "transactions": tuple(self.transactions()),
                }
            )
        )

    # ---------------------------------------------------------------- changes

    def plan(self, zone: str, request: ChangeRequest) -> ChangePlan:
        """See :class:`~mpcore.control.service.ControlService`."""
        name = self._zone_name(zone)
        plan = self.sde.plan(name, request.operation, request.record)
        verb = "addrr" if request.operation == "add" else "delrr"
        text = " ".join(plan.record.text.split())
        return ChangePlan(
            zone=name,
            operation=plan.operation,
            record=plan.record.text,
            effective=plan.effective,
            recipients=plan.recipients,
            appliers=plan.appliers,
            resulting=plan.resulting,
            warnings=plan.warnings,
            danger=plan.danger,
            command=f"mpcockpit --context {self.settings.provider} zone {verb} {name} {shlex.quote(text)}",
        )

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        """See :class:`~mpcore.control.service.ControlService`."""
        if request.dry_run:
            raise ConflictError("a dry run changes nothing; ask for the plan")
        name = self._zone_name(zone)
        transaction_id, actions = self.sde.local_change(name, request.operation, request.record, self.clock.now())
        await self.perform("sde", actions)
        self.changed("edits", name)
        self.changed("transaction", transaction_id)
        return self.transaction(transaction_id)

    def transactions(self) -> list[Transaction]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return [self._with_dns(transaction) for transaction in self.sde.transactions()]

    def transaction(self, transaction_id: str) -> Transaction:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self._with_dns(self.sde.transaction(transaction_id))

    def _with_dns(self, transaction: Transaction) -> Transaction:
        seen = self._seen_in_dns.get(transaction.id)
        if seen is None:
            return transaction
        reached_at = {**transaction.reached_at, Wait.DNS.value: seen}
        return transaction.model_copy(update={"reached": Wait.DNS, "reached_at": reached_at})

    def transaction_changed(self, transaction_id: str) -> None:
        """Wake those who wait for a transaction."""
        self.changed("transaction", transaction_id)
        waiting = self._waiting.pop(transaction_id, None)
        if waiting is not None:
            waiting.set()

    async def wait(self, transaction_id: str, level: Wait, timeout: float) -> Transaction:
        """See :class:`~mpcore.control.service.ControlService`."""
        before_dns = Wait.EVERYWHERE if level is Wait.DNS else level
        with anyio.fail_after(timeout):
            transaction = await self._reach(transaction_id, before_dns)
            if level is Wait.DNS and transaction.state is TransactionState.ACCEPTED:
                await self._reach_dns(transaction)
        return self.transaction(transaction_id)

    async def _reach(self, transaction_id: str, level: Wait) -> Transaction:
        while True:
            transaction = self.sde.transaction(transaction_id)
            if _LEVELS.index(transaction.reached) >= _LEVELS.index(level):
                return transaction
            if transaction.state in (TransactionState.REJECTED, TransactionState.SUPERSEDED):
                return transaction
            await self._waiting.setdefault(transaction_id, anyio.Event()).wait()

    async def _reach_dns(self, transaction: Transaction) -> None:
        """Until every name server of the zone that has an address answers with the change."""
        if transaction.id in self._seen_in_dns:
            return
        origin = ZoneName(transaction.zone).owner
        _, rdtype, _, rdata = parse_record(transaction.record, origin)
        wanted = transaction.operation == "add"
        pending: set[tuple[str, int]] | None = None
        pause = _FIRST_LOOK
        while True:
            if pending is None:
                pending = await self._name_servers(origin)
            for server in sorted(pending):
                if await self._answers(server, origin, rdtype, rdata) is wanted:
                    pending.discard(server)
            if not pending:
                break
            await anyio.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 1.5)
        self._seen_in_dns[transaction.id] = self.clock.now()
        self.changed("transaction", transaction.id)

    async def _name_servers(self, origin: bytes) -> set[tuple[str, int]]:
        """Addresses of the zone's name servers, from its NS RRset as we have it; names without address are left out."""
        version = self.secondaries[origin].version
        rrset = version.get(origin, int(dns.rdatatype.NS)) if version is not None else None
        names = [owners.to_text(rdata) for rdata in rrset.rdatas] if rrset is not None else []
        found: set[tuple[str, int]] = set()

        async def resolve(name: str, rdtype: int) -> None:
            try:
                answer = await self.resolver.resolve(name, rdtype)
            except RemoteError as error:
                logger.info("address of name server %s: %s", name, error)
                return
            if answer.rrset is not None:
                found.update((rdata.address, self.name_server_port) for rdata in answer.rrset)

        async with anyio.create_task_group() as tasks:
            for name in names:
                for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                    tasks.start_soon(resolve, name, int(rdtype))
        return found

    @property
    def name_server_port(self) -> int:
        """Port of authoritative servers: 53, or the one that the resolver is told to use."""
        settings = self.settings
        assert isinstance(settings, AgentSettings)
        return settings.resolver.port

    async def _answers(self, server: tuple[str, int], origin: bytes, rdtype: int, rdata: bytes) -> bool | None:
        """Whether *server* answers with the record; ``None``: it does not answer."""
        question = dns.message.make_query(
            dns.name.from_wire(origin, 0)[0], dns.rdatatype.RdataType.make(rdtype), flags=0, use_edns=0, payload=1232
        )
        question.id = self.runtime.random.getrandbits(16)
        try:
            octets = await query(self.runtime.network, question.to_wire(), server[0], server[1], timeout=2.0)
            answer = dns.message.from_wire(octets)
        except (ExchangeError, dns.exception.DNSException):
            return None
        if answer.rcode() != 0:
            return None
        wanted = canonical_rdata(rdtype, rdata)
        return any(
            canonical_rdata(rdtype, record.to_wire() or b"") == wanted
            for rrset in answer.answer
            if rrset.rdtype == rdtype
            for record in rrset
        )
