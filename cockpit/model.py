"""Everything the screens show, as a value: a fleet's state, and how an entry changes it.

:func:`reduce` is pure: a live feed, a recording and a test give the same entries and get the same states.  Nothing here
reads a clock; ages are computed where they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from cockpit.contexts import ROLES, RoleName
from cockpit.output import printable, short_record
from cockpit.recording import Entry
from mpcore.control.models import (
    Contributions,
    Event,
    Group,
    Key,
    Peer,
    RecipientConfirmation,
    SdeZone,
    Snapshot,
    Status,
    Transaction,
    Zone,
)

__all__ = ("MAX_LOG", "Attention", "Daemon", "DaemonKey", "LogLine", "Model", "attention", "owed_by", "reduce")

_Value = TypeVar("_Value")

#: Lines of history kept.
MAX_LOG = 2000


class DaemonKey(NamedTuple):
    """Which daemon: a context and a role."""

    context: str
    role: RoleName

    def __str__(self) -> str:
        return f"{self.context}.{self.role}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """What is known of one daemon.

    :param connected: ``False``: never reached yet, or lost; what was known stays.
    :param since: when it was reached or lost, ``None``: not tried yet.
    :param problem: why it cannot be reached.
    """

    key: DaemonKey
    connected: bool = False
    since: float | None = None
    problem: str | None = None
    status: Status | None = None
    peers: Mapping[str, Peer] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    edits: Mapping[str, SdeZone] = field(default_factory=dict)
    contributions: Mapping[str, Contributions] = field(default_factory=dict)
    keys: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    transactions: Mapping[str, Transaction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of history, newest last."""

    number: int
    time: float
    source: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Model:
    """A fleet's state."""

    daemons: Mapping[DaemonKey, Daemon] = field(default_factory=dict)
    log: tuple[LogLine, ...] = ()
    counted: int = 0  #: history lines so far, the dropped ones included

    @classmethod
    def of(cls, keys: Iterable[DaemonKey]) -> Model:
        """A fleet of which nothing is known yet."""
        return cls({key: Daemon(key) for key in keys})

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the contexts, in the order in which they were named."""
        return tuple(dict.fromkeys(key.context for key in self.daemons))

    def daemon(self, context: str, role: RoleName) -> Daemon:
        """One daemon; an empty one if it is not known."""
        key = DaemonKey(context, role)
        return self.daemons.get(key) or Daemon(key)

    def of_context(self, context: str) -> tuple[Daemon, ...]:
        """The daemons of one context, agent first."""
        return tuple(self.daemons[key] for role in ROLES if (key := DaemonKey(context, role)) in self.daemons)

    def zones(self) -> tuple[str, ...]:
        """Names of all zones, sorted."""
        return tuple(sorted({name for daemon in self.daemons.values() for name in daemon.zones}))

    def labels(self) -> dict[str, str]:
        """Identity of an agent to its label, from the zones' HSYNC3 records and the daemons' configurations."""
        found = {
            daemon.status.identity: daemon.status.provider
            for daemon in self.daemons.values()
            if daemon.status is not None and daemon.key.role == "agent"
        }
        for daemon in self.daemons.values():
            for zone in daemon.zones.values():
                for label, identity in zone.providers.items():
                    found.setdefault(identity, label)
        return found


def reduce(model: Model, entry: Entry) -> Model:
    """The state after *entry*."""
    key = DaemonKey(entry.context, entry.role)
    daemon = model.daemons.get(key) or Daemon(key)
    if entry.down is not None:
        lines = [] if daemon.problem is not None else [(entry.at, "down", entry.down)]
        since = daemon.since if daemon.problem is not None else entry.at
        daemon = replace(daemon, connected=False, problem=entry.down, since=since)
    elif entry.snapshot is not None:
        lines = [] if daemon.connected else [(entry.at, "up", f"reached, {entry.snapshot.status.identity}")]
        daemon = _from_snapshot(daemon, entry.snapshot, entry.at)
    else:
        assert entry.event is not None
        before, daemon = daemon, _after_event(daemon, entry.event)
        lines = [(entry.event.time, entry.event.kind, text) for text in _describe(before, entry.event)]
    log = model.log
    if lines:
        added = tuple(
            LogLine(model.counted + number, at, str(key), kind, text) for number, (at, kind, text) in enumerate(lines)
        )
        log = (*log, *added)[-MAX_LOG:]
    return Model({**model.daemons, key: daemon}, log, model.counted + len(lines))


def _from_snapshot(daemon: Daemon, snapshot: Snapshot, at: float) -> Daemon:
    keys: dict[str, tuple[Key, ...]] = {}
    for key in snapshot.keys:
        keys[key.zone] = (*keys.get(key.zone, ()), key)
    return Daemon(
        daemon.key,
        connected=True,
        since=daemon.since if daemon.connected else at,
        status=snapshot.status,
        peers={peer.identity: peer for peer in snapshot.peers},
        groups={group.hash: group for group in snapshot.groups},
        zones={zone.name: zone for zone in snapshot.zones},
        edits={zone.zone: zone for zone in snapshot.edits},
        contributions={zone.zone: zone for zone in snapshot.contributions},
        keys=keys,
        transactions={each.id: each for each in snapshot.transactions},
    )


def _after_event(daemon: Daemon, event: Event) -> Daemon:
    match event.kind:
        case "status":
            return replace(daemon, status=Status.model_validate(event.data))
        case "peer":
            peer = Peer.model_validate(event.data)
            return replace(daemon, peers={**daemon.peers, peer.identity: peer})
        case "peer-removed":
            return replace(daemon, peers=_without(daemon.peers, event.data.get("identity", event.subject)))
        case "group":
            group = Group.model_validate(event.data)
            return replace(daemon, groups={**daemon.groups, group.hash: group})
        case "group-removed":
            return replace(daemon, groups=_without(daemon.groups, event.data.get("hash", event.subject)))
        case "zone":
            zone = Zone.model_validate(event.data)
            return replace(daemon, zones={**daemon.zones, zone.name: zone})
        case "edits":
            edits = SdeZone.model_validate(event.data)
            return replace(daemon, edits={**daemon.edits, edits.zone: edits})
        case "contributions":
            held = Contributions.model_validate(event.data)
            return replace(daemon, contributions={**daemon.contributions, held.zone: held})
        case "keys":
            keys = tuple(Key.model_validate(key) for key in event.data.get("keys", ()))
            return replace(daemon, keys={**daemon.keys, event.data.get("zone", event.subject): keys})
        case "transaction":
            transaction = Transaction.model_validate(event.data)
            return replace(daemon, transactions={**daemon.transactions, transaction.id: transaction})
    return daemon


def _without(values: Mapping[str, _Value], key: str) -> dict[str, _Value]:
    return {name: value for name, value in values.items() if name != key}


# ---------------------------------------------------------------------------------------------------------------------
# History: only what changed is worth a line


def _describe(before: Daemon, event: Event) -> list[str]:
    match event.kind:
        case "status":
            status = Status.model_validate(event.data)
            known = () if before.status is None else before.status.warnings
            lines = [f"warning: {warning}" for warning in status.warnings if warning not in known]
            if status.ready and before.status is not None and not before.status.ready:
                lines.append("ready")
            return [printable(line) for line in lines]
        case "peer":
            peer = Peer.model_validate(event.data)
            former = before.peers.get(peer.identity)
            if former is not None and former.state == peer.state:
                return []
            return [printable(f"{peer.identity} {former.state + ' -> ' if former else ''}{peer.state}")]
        case "peer-removed":
            return [printable(f"{event.subject} is no peer any more")]
        case "group":
            return _describe_group(before, Group.model_validate(event.data))
        case "group-removed":
            return [printable(f"{event.subject[:8]} is gone")]
        case "zone":
            zone = Zone.model_validate(event.data)
            known_zone = before.zones.get(zone.name)
            if known_zone is not None and (known_zone.serial, known_zone.state) == (zone.serial, zone.state):
                return []
            return [printable(f"{zone.name} {zone.state} serial {zone.serial if zone.serial is not None else '-'}")]
        case "edits":
            return _describe_edits(before, SdeZone.model_validate(event.data))
        case "keys":
            return _describe_keys(before, event)
        case "transaction":
            return _describe_transaction(before, Transaction.model_validate(event.data))
        case "log":
            return [printable(str(event.data.get("text", "")))]
        case "gap":
            return ["events were missed, everything is read again"]
    return []


def _describe_group(before: Daemon, group: Group) -> list[str]:
    former = before.groups.get(group.hash)
    lines = []
    if former is None or former.operational != group.operational:
        lines.append("operational" if group.operational else "not operational")
    old, new = (None if former is None else former.election), group.election
    if old is None or (old.phase, old.term) != (new.phase, new.term):
        lines.append(f"election {new.phase}, term {new.term}")
    if new.leader != (None if old is None else old.leader):
        lines.append(f"leader {new.leader or 'none'}, term {new.term}")
    return [printable(f"{group.hash[:8]} {line}") for line in lines]


def _describe_edits(before: Daemon, edits: SdeZone) -> list[str]:
    former = before.edits.get(edits.zone)
    known = {} if former is None else {(each.originator, each.record): each.state for each in former.records}
    present = {(each.originator, each.record) for each in edits.records}
    lines = [
        f"{each.state.value} {short_record(each.record)} of {each.originator}"
        for each in edits.records
        if known.get((each.originator, each.record)) != each.state
    ]
    lines += [f"gone {short_record(record)} of {who}" for who, record in known if (who, record) not in present]
    return [printable(line) for line in lines]


def _describe_keys(before: Daemon, event: Event) -> list[str]:
    zone = event.data.get("zone", event.subject)
    known = {(key.key_tag, key.algorithm, key.foreign): key.state for key in before.keys.get(zone, ())}
    lines = []
    for value in event.data.get("keys", ()):
        key = Key.model_validate(value)
        if known.get((key.key_tag, key.algorithm, key.foreign)) != key.state:
            lines.append(printable(f"{zone} key {key.key_tag} {key.state}"))
    return lines


def _describe_transaction(before: Daemon, transaction: Transaction) -> list[str]:
    former = before.transactions.get(transaction.id)
    if former is not None and (former.state, former.reached) == (transaction.state, transaction.reached):
        return []
    text = f"{transaction.id} {transaction.operation} {short_record(transaction.record)}: {transaction.state.value}"
    return [printable(f"{text}, reached {transaction.reached.value}")]


# ---------------------------------------------------------------------------------------------------------------------
# What needs a look


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that is not as it should be, or is not finished.

    :param severity: ``error``: broken; ``warning``: an operator must look; ``pending``: on its way.
    :param since: when it began, if that is known.
    """

    severity: str
    source: str
    text: str
    since: float | None = None


def owed_by(edits: SdeZone) -> dict[str, int]:
    """Recipient to how many final answers it still owes."""
    owed: dict[str, int] = {}
    for record in edits.records:
        for each in record.confirmations:
            if each.status in ("owed", "received"):
                owed[each.recipient] = owed.get(each.recipient, 0) + 1
    return owed


def attention(model: Model) -> list[Attention]:
    """Everything that is broken, then what an operator must look at, then what is on its way and who acts next."""
    found: list[Attention] = []
    for key, daemon in model.daemons.items():
        source = str(key)
        if not daemon.connected:
            text = daemon.problem or "not reached yet"
            found.append(Attention("error" if daemon.problem else "pending", source, text, daemon.since))
            continue
        if daemon.status is not None:
            found += [Attention("warning", source, text) for text in daemon.status.warnings]
            if not daemon.status.ready:
                found.append(Attention("pending", source, "loading", daemon.status.started_at))
        found += [
            Attention(
                "error" if zone.state != "loading" else "pending", source, f"{zone.name}: {zone.error or zone.state}"
            )
            for zone in daemon.zones.values()
            if zone.state != "ready"
        ]
        for group in daemon.groups.values():
            found += [Attention("warning", source, text) for text in group.problems]
            if group.operational and group.election.leader is None:
                reason = group.election.reason or f"election in phase {group.election.phase}"
                found.append(Attention("pending", source, f"group {group.hash[:8]} has no leader: {reason}"))
        found += [
            Attention(
                "pending",
                source,
                f"{peer.identity} is {peer.state}: {peer.waiting_for or peer.last_error or ''}",
                peer.since,
            )
            for peer in daemon.peers.values()
            if peer.state != "OPERATIONAL"
        ]
        for zone_edits in daemon.edits.values():
            for recipient, count in sorted(owed_by(zone_edits).items()):
                text = f"{zone_edits.zone}: {recipient} owes {count} confirmation{'s' if count > 1 else ''}"
                oldest = min(each.updated_at for each in zone_edits.records if _owes(each.confirmations, recipient))
                found.append(Attention("pending", source, text, oldest))
    order = {"error": 0, "warning": 1, "pending": 2}
    return sorted(found, key=lambda each: order[each.severity])


def _owes(confirmations: Iterable[RecipientConfirmation], recipient: str) -> bool:
    return any(each.recipient == recipient and each.status in ("owed", "received") for each in confirmations)
