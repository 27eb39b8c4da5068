"""What must hold in every run, watched while it happens.

========== ===========================================================================================================
leader     at most one leader per group and term, whoever believes in it, however it learned of it
term       a node never votes twice in a term, nor in a term below one that it has voted in, also after a crash
row        a row of the gossip matrix never gets older at the same reader
confirmed  a record that an agent confirms as applied is, or has since the message was, in that agent's combiner
deleted    a record that its author deleted and a combiner removed does not come back there
origin     every record a combiner adds to the zone is a contribution, and every contribution was made by its author
lost       what was acknowledged before a crash is there after it: changes of the operator, messages of peers
settled    after quiet: matrices complete, one leader per group, every change accepted, and every author's set the same
           at the author, at every other agent and in every combiner
========== ===========================================================================================================

A breach is noted, with the time and the place, and the run goes on; :attr:`Watcher.breaches` has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from mpcore.control.models import ChangeRequest, RecordState, Transaction
from mpcore.group.actions import Broadcast, LeaderChanged
from mpcore.names import ZoneName
from mpcore.node.agent import AgentNode
from mpcore.node.base import Node
from mpcore.node.combiner import CombinerNode
from mpcore.node.inbound import Incoming
from mpcore.node.signer import SignerNode
from mpcore.peer.outbound_entry import OutboundEntry
from mpcore.sim.world import Daemon, World
from mpcore.wire.messages import Acknowledgement, Confirm, GossipMessage, Sync, Update
from mpcore.zone import owners
from mpcore.zone.roles import SYNCHRONISED_TYPES
from mpcore.zone.rrset import type_text
from mpcore.zone.version import ZoneVersion

__all__ = ("Breach", "Watcher")

_SetKey = tuple[str, str, str, str]
"""Daemon, zone, author, type."""


@dataclass(frozen=True, slots=True)
class Breach:
    """Something that must not happen has happened.

    :param invariant: its name in the table above.
    """

    invariant: str
    at: float
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: at {self.at:.3f} s, {self.where}: {self.what}"


class Watcher:
    """Watches all daemons of a world: an :class:`mpcore.sim.world.Observer`."""

    def __init__(self) -> None:
        self.breaches: list[Breach] = []
        self._leaders: dict[tuple[str, int], str] = {}
        self._votes: dict[tuple[str, str], dict[int, int]] = {}
        self._rows: dict[tuple[str, int, str, str], float] = {}
        self._present: dict[tuple[str, str], dict[tuple[str, str], str]] = {}  # combiner, zone -> author, text -> type
        self._seen_in: dict[tuple[str, str, str, str], float] = {}  # combiner, zone, author, text -> last seen there
        self._removed_from: dict[tuple[str, str, str, str], float] = {}
        self._operations: dict[tuple[str, str, str], tuple[float, str]] = {}  # zone, author, text -> last operation
        self._acknowledged: dict[_SetKey, frozenset[str]] = {}
        self._under_way: dict[_SetKey, list[frozenset[str]]] = {}
        self._transactions: dict[str, set[str]] = {}

    # ------------------------------------------------------------- observer

    def attach(self, world: World) -> None:
        """See :class:`mpcore.sim.world.Observer`."""
        self.world = world

    def node_class(self, role: str) -> type[Node]:
        """See :class:`mpcore.sim.world.Observer`."""
        watcher = self
        base = {"agent": _Agent, "combiner": _Combiner, "signer": _Signer}[role]
        return type(base.__name__, (base,), {"watcher": watcher})

    def started(self, daemon: Daemon) -> None:
        """See :class:`mpcore.sim.world.Observer`."""

    def ended(self, daemon: Daemon) -> None:
        """See :class:`mpcore.sim.world.Observer`."""

    def sent(self, daemon: Daemon, recipient: str, plaintext: bytes) -> None:
        """See :class:`mpcore.sim.world.Observer`."""

    def breach(self, invariant: str, where: str, what: str) -> None:
        """Note a breach."""
        found = Breach(invariant, anyio.current_time(), where, what)
        self.breaches.append(found)
        self.world.trace.event(where, "breach", invariant=invariant, what=what)

    # ------------------------------------------------------------ elections

    def leader(self, node: _Agent, action: LeaderChanged) -> None:
        held = action.leadership
        name = node.daemon.name
        self.world.trace.event(name, "leader", group=action.group, leader=held and held.leader, term=held and held.term)
        if held is None or not held.term:
            return
        first = self._leaders.setdefault((action.group, held.term), held.leader)
        if first != held.leader:
            self.breach("leader", name, f"term {held.term} has two leaders, {first} and {held.leader}")

    def ballot(self, node: _Agent, action: Broadcast) -> None:
        ballot = action.ballot
        if ballot.kind == "CONFIRM" or not ballot.vote:
            return
        name = node.daemon.name
        votes = self._votes.setdefault((name, ballot.group), {})
        before = votes.get(ballot.term)
        if before is None:
            if votes and ballot.term < max(votes):
                self.breach("term", name, f"votes in term {ballot.term} after term {max(votes)}")
            votes[ballot.term] = ballot.vote
        elif before != ballot.vote:
            self.breach("term", name, f"votes twice in term {ballot.term}")

    def matrix(self, node: _Agent) -> None:
        daemon = node.daemon
        for group in node.gossip.groups:
            for row in node.gossip.rows(group):
                if not row.timestamp:
                    continue
                key = (daemon.name, daemon.lives, group, row.reporter)
                before = self._rows.get(key, 0.0)
                if row.timestamp < before:
                    self.breach(
                        "row", daemon.name, f"the row of {row.reporter} went back by {before - row.timestamp} s"
                    )
                self._rows[key] = row.timestamp

    # ----------------------------------------------------------------- data

    def operation(self, node: _Agent, zone: str, request: ChangeRequest) -> None:
        self._operations[zone, node.identity, _canonical(request.record)] = (anyio.current_time(), request.operation)

    def changed(self, node: _Agent, transaction: Transaction) -> None:
        daemon = node.daemon
        self._transactions.setdefault(daemon.name, set()).add(transaction.id)
        self.world.trace.event(
            daemon.name, "change", operation=transaction.operation, record=transaction.record, id=transaction.id
        )

    def own_sets(self, node: _Agent, zone: str) -> dict[tuple[str, str], frozenset[str]]:
        """(Author, type) -> texts that an agent holds to be there."""
        sets: dict[tuple[str, str], set[str]] = {}
        for record in node.sde.entries(zone):
            if record.state not in (RecordState.PENDING_REMOVAL, RecordState.REMOVED):
                sets.setdefault((record.originator, record.type), set()).add(_canonical(record.record))
        return {key: frozenset(texts) for key, texts in sets.items()}

    def combiner_sets(self, node: _Combiner, zone: str) -> dict[tuple[str, str], frozenset[str]]:
        """(Author, type) -> texts that a combiner keeps."""
        sets: dict[tuple[str, str], set[str]] = {}
        for item in node._kept[ZoneName(zone).owner]:
            sets.setdefault((item.originator, item.record.rrtype), set()).add(_canonical(item.record.text))
        return {key: frozenset(texts) for key, texts in sets.items()}

    def sets(self, node: _Agent | _Combiner, zone: str) -> dict[tuple[str, str], frozenset[str]]:
        """The sets of a zone that a node keeps."""
        return self.own_sets(node, zone) if isinstance(node, _Agent) else self.combiner_sets(node, zone)

    def contributions(self, node: _Combiner, zone: str) -> None:
        combiner = node.daemon.name
        now = anyio.current_time()
        present = {
            (item.originator, _canonical(item.record.text)): item.record.rrtype
            for item in node._kept[ZoneName(zone).owner]
        }
        before = self._present.get((combiner, zone), {})
        for author, text in before.keys() - present.keys():
            self._removed_from[combiner, zone, author, text] = now
        for (author, text), rrtype in sorted(present.items()):
            self._seen_in[combiner, zone, author, text] = now
            if (author, text) in before or rrtype == "DNSKEY":
                continue
            last = self._operations.get((zone, author, text))
            if last is None:
                self.breach("origin", combiner, f"{author} never contributed {text!r}")
            elif last[1] == "delete" and self._removed_from.get((combiner, zone, author, text), -1.0) >= last[0]:
                self.breach("deleted", combiner, f"{text!r} of {author} is back, deleted at {last[0]:.3f} s")
        self._present[combiner, zone] = present

    def published(self, node: _Combiner, version: ZoneVersion) -> None:
        origin = version.origin
        zone = owners.to_text(origin)
        given = node._owner_versions.get(origin)
        kept = {(item.record.rdtype, item.record.rdata) for item in node._kept[origin]}
        for rdtype, rrset in (version.node(origin) or {}).items():
            if type_text(rdtype) not in SYNCHRONISED_TYPES:
                continue
            owned = given.get(origin, rdtype) if given is not None else None
            for rdata in rrset.rdatas:
                if (rdtype, rdata) not in kept and (owned is None or rdata not in owned.rdatas):
                    self.breach("origin", node.daemon.name, f"{zone}: a {type_text(rdtype)} record of nobody")

    def confirming(self, node: _Agent, recipient: str, confirm: Confirm) -> None:
        if confirm.status not in ("SUCCESS", "PARTIAL"):
            return
        combiner = f"{node.daemon.label}.combiner"
        for record in confirm.applied_records or ():
            text = _canonical(record)
            if (combiner, confirm.zone, recipient, text) not in self._seen_in:
                self.breach("confirmed", node.daemon.name, f"{text!r} of {recipient} is not in its combiner")

    # -------------------------------------------------------------- crashes

    def arriving(self, node: _Agent | _Combiner, incoming: Incoming) -> list[_SetKey]:
        """A message about sets is being handled."""
        message = incoming.message
        if isinstance(message, Update):
            author = message.originator_id
        elif isinstance(message, Sync):
            author = incoming.sender
        else:
            return []
        keys = []
        for operation in message.operations:
            key = (node.daemon.name, message.zone, author, operation.rrtype)
            self._under_way.setdefault(key, []).append(frozenset(map(_canonical, operation.records)))
            keys.append(key)
        return keys

    def acknowledged(self, node: _Agent | _Combiner, keys: Sequence[_SetKey]) -> None:
        """The message was handled; its acknowledgement goes out now."""
        for key in keys:
            self._under_way.pop(key, None)
            _, zone, author, rrtype = key
            self._acknowledged[key] = self.sets(node, zone).get((author, rrtype), frozenset())

    def restored(self, node: _Agent | _Combiner) -> None:
        """A node has read its database at its start."""
        name = node.daemon.name
        if isinstance(node, _Agent):
            known = {transaction.id for transaction in node.sde.transactions()}
            for missing in sorted(self._transactions.get(name, set()) - known):
                self.breach("lost", name, f"transaction {missing}")
        for key, texts in sorted(self._acknowledged.items()):
            _, zone, author, rrtype = key
            if key[0] != name:
                continue
            found = self.sets(node, zone).get((author, rrtype), frozenset())
            if found != texts and not any(found <= texts | new for new in self._under_way.get(key, ())):
                self.breach("lost", name, f"{rrtype} records of {author}: {sorted(found)} instead of {sorted(texts)}")
        for key in [key for key in self._under_way if key[0] == name]:
            del self._under_way[key]
        if isinstance(node, _Combiner):
            for zone in self.world.plan.zones:
                self.contributions(node, zone)

    # ------------------------------------------------------------- at the end

    def unsettled(self) -> list[str]:
        """Why the world has not come to rest; empty: it has."""
        world = self.world
        reasons = []
        dead = [name for name, daemon in world.daemons.items() if not daemon.alive]
        if dead:
            return [f"{', '.join(dead)} does not run"]
        if not world.operational():
            reasons.append("a matrix is not complete")
        if not world.led():
            reasons.append(f"leaders: {world.leaders()}")
        nodes: list[_Agent] = [daemon.node for daemon in world.agents()]
        for zone in world.plan.zones:
            for node in nodes:
                reasons += [
                    f"{node.daemon.name}: {transaction.id} {transaction.waiting_for}"
                    for transaction in node.transactions()
                    if transaction.zone == zone and transaction.state == "pending"
                ]
            reasons += self._differences(zone, nodes)
        return reasons

    def _differences(self, zone: str, nodes: Sequence[_Agent]) -> list[str]:
        reasons = []
        views = {node.daemon.name: self.own_sets(node, zone) for node in nodes}
        for author in nodes:
            own = {key[1]: texts for key, texts in views[author.daemon.name].items() if key[0] == author.identity}
            for node in nodes:
                theirs = {key[1]: texts for key, texts in views[node.daemon.name].items() if key[0] == author.identity}
                if theirs != own:
                    reasons.append(
                        f"{zone}: {node.daemon.name} has {_short(theirs)} of {author.daemon.name}: {_short(own)}"
                    )
                combiner = self.world.daemons[f"{node.daemon.label}.combiner"].node
                kept = {
                    key[1]: texts
                    for key, texts in self.combiner_sets(combiner, zone).items()
                    if key[0] == author.identity
                }
                wanted = {rrtype: texts for rrtype, texts in own.items() if rrtype != "DNSKEY" or node is not author}
                if kept != wanted:
                    reasons.append(
                        f"{zone}: {combiner.daemon.name} has {_short(kept)} of {author.daemon.name}: {_short(wanted)}"
                    )
        return reasons

    def settled(self) -> None:
        """Note a breach for each reason of :meth:`unsettled`."""
        for reason in self.unsettled():
            self.breach("settled", "world", reason)


def _short(sets: dict[str, frozenset[str]]) -> str:
    return str({rrtype: sorted(texts) for rrtype, texts in sorted(sets.items())})


def _canonical(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------------------------- nodes


class _Watched:
    watcher: Watcher
    daemon: Daemon

    def resource(self, kind: str, subject: str) -> Any:
        """Events cost time: they are made only when somebody records them."""
        if not self.watcher.world.recorded:
            return None
        return super().resource(kind, subject)  # type: ignore[misc]


class _Agent(_Watched, AgentNode):
    async def reload(self) -> None:
        first = not hasattr(self, "sde")
        await super().reload()
        if first:
            self.watcher.restored(self)

    def _leader_changed(self, action: LeaderChanged) -> None:
        self.watcher.leader(self, action)
        super()._leader_changed(action)

    def _broadcast(self, action: Broadcast) -> None:
        self.watcher.ballot(self, action)
        super()._broadcast(action)

    async def _merge(self, sender: str, gossip: Sequence[GossipMessage], now: float) -> None:
        await super()._merge(sender, gossip, now)
        self.watcher.matrix(self)

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        if request.operation == "add":
            self.watcher.operation(self, zone, request)
        transaction = await super().change(zone, request)
        if request.operation == "delete":
            self.watcher.operation(self, zone, request)
        self.watcher.changed(self, transaction)
        return transaction

    async def _attempt(self, entry: OutboundEntry) -> None:
        if isinstance(entry.message, Confirm):
            self.watcher.confirming(self, entry.recipient, entry.message)
        await super()._attempt(entry)

    async def _received(self, incoming: Incoming) -> Acknowledgement:
        keys = self.watcher.arriving(self, incoming)
        acknowledgement = await super()._received(incoming)
        self.watcher.acknowledged(self, keys)
        return acknowledgement


class _Combiner(_Watched, CombinerNode):
    async def reload(self) -> None:
        first = not self._kept
        await super().reload()
        if first:
            self.watcher.restored(self)

    def changed(self, kind: str, subject: str) -> None:
        if kind == "contributions":
            self.watcher.contributions(self, subject)
        super().changed(kind, subject)

    def publish(self, version: ZoneVersion) -> None:
        self.watcher.published(self, version)
        super().publish(version)

    async def _received(self, incoming: Incoming) -> Acknowledgement:
        keys = self.watcher.arriving(self, incoming)
        acknowledgement = await super()._received(incoming)
        self.watcher.acknowledged(self, keys)
        return acknowledgement


class _Signer(_Watched, SignerNode):
    pass
