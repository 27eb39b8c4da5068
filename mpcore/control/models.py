"""Models of the control API, as the daemons answer and the cockpit reads them.

Reads are snapshots, changes are commands that return a :class:`Transaction`; every change of state is an
:class:`Event` whose ``data`` is the whole new resource, so that a reader replaces what it has.  Times are Unix
seconds (UTC, fractions allowed).  Records are one-line master-file text with absolute names.  The JSON shapes are
stable: members are added, never renamed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = (
    "Certificate",
    "CertificateAction",
    "CertificateKey",
    "CertificateRequest",
    "ChangePlan",
    "ChangeRequest",
    "Contribution",
    "Contributions",
    "Counter",
    "Diagnosis",
    "DiagnosisStep",
    "DistributionInfo",
    "Election",
    "Event",
    "Group",
    "GroupAction",
    "GroupActionRequest",
    "Key",
    "MatrixRow",
    "MessageKey",
    "MessageKeyAction",
    "MessageKeyRequest",
    "MessageKeys",
    "OutboundMessage",
    "Peer",
    "PeerTransport",
    "PingResult",
    "Problem",
    "Purged",
    "Queue",
    "QueueAction",
    "QueueEntry",
    "QueueRequest",
    "QueueResult",
    "RecipientConfirmation",
    "RecordState",
    "Role",
    "SdeRecord",
    "SdeZone",
    "ServedRecord",
    "Snapshot",
    "Status",
    "Transaction",
    "TransactionState",
    "TsigKeyInfo",
    "Wait",
    "Zone",
    "ZoneAction",
    "ZoneActionRequest",
    "ZoneActionResult",
    "ZoneRecords",
)


class _Model(BaseModel):
    # Schemas are built at first use: a one-shot command needs two of the models and starts 50 ms sooner.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Role(StrEnum):
    """What a daemon does."""

    AGENT = "agent"
    COMBINER = "combiner"
    SIGNER = "signer"


class Wait(StrEnum):
    """How far a change must have come before the command returns."""

    HERE = "here"  #: durable at our agent
    COMBINER = "combiner"  #: confirmed by our own combiner
    EVERYWHERE = "everywhere"  #: a final confirmation from every recipient, applied by each that may
    DNS = "dns"  #: answered by every name server of the zone that has an address


class Status(_Model):
    """What a daemon says about itself (``GET /v1/status``)."""

    identity: str
    role: Role
    provider: str  #: label of the provider in its own configuration, e.g. ``alpha``
    version: str
    pid: int
    started_at: float
    now: float
    ready: bool  #: everything that has to be loaded before peers are answered is loaded
    zones: int
    warnings: tuple[str, ...] = ()  #: only what an operator must act on


class Counter(_Model):
    """Messages of one type exchanged with a peer since the start of the daemon."""

    sent: int = 0
    received: int = 0


class PeerTransport(_Model):
    """One way between us and a peer, since the start of the daemon."""

    name: Literal["dns", "https"]
    address: str | None = None
    unavailable: str | None = None  #: why it is not used at all
    sent: int = 0  #: messages of ours that were acknowledged
    received: int = 0
    last_acknowledged: float | None = None
    last_heard: float | None = None
    round_trip: float | None = None  #: seconds, of the last acknowledged message
    failures: int = 0  #: in a row
    last_error: str | None = None
    rests_until: float | None = None  #: it failed; until then it is tried last


class Peer(_Model):
    """One peer of an agent, or one configured agent of a combiner or signer."""

    identity: str
    kind: Literal["agent", "combiner", "signer"]
    state: str  #: NEEDED, KNOWN, INTRODUCED, OPERATIONAL, LEGACY, DEGRADED or INTERRUPTED
    since: float  #: when the state was entered
    address: str | None = None  #: ``host:port`` once discovered
    zones: tuple[str, ...] = ()
    beat_interval: float | None = None  #: seconds, as the peer announces it
    last_heard: float | None = None
    last_acknowledged: float | None = None
    round_trip: float | None = None  #: seconds, of the last acknowledged message
    last_error: str | None = None
    waiting_for: str | None = None  #: in words: who acts next, and what it waits for
    counters: dict[str, Counter] = Field(default_factory=dict)
    transports: tuple[PeerTransport, ...] = ()  #: the ways to it, where there can be two; the first is tried first


class PingResult(_Model):
    """Answer of ``POST /v1/peers/{identity}/ping``."""

    identity: str
    ok: bool
    round_trip: float | None = None
    error: str | None = None


class MatrixRow(_Model):
    """What one member of a group reports about the others."""

    reporter: str
    states: dict[str, str]  #: peer -> state word; a peer without report is missing
    reported_at: float | None  #: by the reporter's clock; ``None``: nothing heard yet
    received_at: float | None  #: by our clock
    beat_interval: float | None = None


class Election(_Model):
    """Leader election of one group, as this agent sees it."""

    phase: Literal["idle", "voting", "confirming", "backoff"]
    term: int
    leader: str | None = None
    leader_expires: float | None = None
    votes: dict[str, int] = Field(default_factory=dict)
    confirms: dict[str, str] = Field(default_factory=dict)
    deadline: float | None = None  #: end of the present phase, or time of the next try
    reason: str | None = None  #: why there is no leader, in words


class Group(_Model):
    """A provider group: the providers that serve the same zones."""

    hash: str
    name: str
    members: tuple[str, ...]
    voters: tuple[str, ...]
    zones: tuple[str, ...]
    operational: bool
    rows: tuple[MatrixRow, ...]
    election: Election
    problems: tuple[str, ...] = ()  #: split views explained in words


class Zone(_Model):
    """A customer zone at one daemon, with the roles that HSYNC3 and HSYNCPARAM give."""

    name: str
    state: Literal["loading", "ready", "expired", "error"]
    serial: int | None = None
    records: int | None = None  #: number of records served
    refreshed_at: float | None = None
    primary: str | None = None
    error: str | None = None
    label: str | None = None  #: our label in this zone
    providers: dict[str, str] = Field(default_factory=dict)  #: label -> identity
    servers: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    auditors: tuple[str, ...] = ()
    nsmgmt: Literal["owner", "agent"] = "owner"
    parentsync: Literal["owner", "agent"] = "owner"
    options: tuple[str, ...] = ()  #: multi-provider, multi-signer, mp-disallow-edits
    group: str | None = None  #: hash of the group the zone belongs to
    frozen: bool = False  #: new versions are held back until the zone is thawed
    held_serial: int | None = None  #: of the version that is held back, if there is one


class ZoneAction(StrEnum):
    """What can be done with a zone at a combiner or signer; ``resync`` at an agent."""

    REFRESH = "refresh"  #: ask the primaries for a newer version now; with ``force``, transfer what they have
    NOTIFY = "notify"  #: tell all secondaries of the version served
    WRITE = "write"  #: write the version served as a master file into the daemon's state directory
    FREEZE = "freeze"  #: serve the present version on, hold newer ones back; ends with the daemon
    THAW = "thaw"  #: serve what was held back
    BUMP = "bump"  #: serve the same content under a newer serial, durably
    RESYNC = "resync"  #: send all that we know, ask for all that others know, or both


class ZoneActionRequest(_Model):
    """Body of ``POST /v1/zones/{zone}/actions``."""

    action: ZoneAction
    force: bool = False  #: for ``refresh``
    direction: Literal["push", "pull", "both"] = "both"  #: for ``resync``


class ZoneActionResult(_Model):
    """What an action has done, or begun."""

    zone: str
    action: ZoneAction
    serial: int | None  #: served when it was done
    message: str  #: in words
    path: str | None = None  #: the file that ``write`` has written


class TsigKeyInfo(_Model):
    """A TSIG key that a daemon knows (``GET /v1/tsig-keys``); its secret is shown nowhere."""

    name: str
    algorithm: str


class ServedRecord(_Model):
    """One served record with where it comes from."""

    record: str
    type: str
    origin: str  #: ``owner``, ``signer``, or the identity of the contributing agent


class ZoneRecords(_Model):
    """Records of a zone as served (``GET /v1/zones/{zone}/records``)."""

    zone: str
    serial: int
    records: tuple[ServedRecord, ...]
    truncated: bool = False  #: only the first ``limit`` records are listed


class RecordState(StrEnum):
    """State of a record in the synchronised data engine."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    IGNORED = "ignored"
    REJECTED = "rejected"
    PENDING_REMOVAL = "pending-removal"
    REMOVED = "removed"


class RecipientConfirmation(_Model):
    """What one recipient said about a record."""

    recipient: str
    status: Literal["owed", "received", "accepted", "ignored", "rejected", "removed"]
    #: ``owed``: not delivered yet; ``received``: delivered, no final answer yet
    at: float | None = None
    reason: str | None = None


class SdeRecord(_Model):
    """One record of the synchronised data engine."""

    record: str
    type: str
    originator: str
    state: RecordState
    distribution_id: str | None = None
    updated_at: float
    reason: str | None = None
    key_tag: int | None = None
    key_state: str | None = None
    confirmations: tuple[RecipientConfirmation, ...] = ()


class OutboundMessage(_Model):
    """One message waiting in the durable queue."""

    recipient: str
    type: str
    zone: str
    distribution_id: str
    enqueued_at: float
    attempts: int
    next_attempt: float
    last_error: str | None = None


class QueueEntry(OutboundMessage):
    """One message in the queue, as queue control names it."""

    id: str  #: of this entry, for ``drop``; one message to several recipients has one entry for each
    #: ``under way``; ``waiting`` for its next attempt; ``queued`` behind another one; ``resting`` until its recipient
    #: can be reached; ``paused`` by the operator
    state: Literal["queued", "under way", "waiting", "resting", "paused"]


class Queue(_Model):
    """The durable queue of a daemon (``GET /v1/queue``)."""

    messages: tuple[QueueEntry, ...]  #: oldest first
    paused: tuple[str, ...] = ()  #: identities to which nothing queued is sent
    capacity: int


class QueueAction(StrEnum):
    """What can be done with the queue."""

    RETRY = "retry"  #: try what waits now: for ``peer``, or everything
    DROP = "drop"  #: give the message ``id`` up
    PAUSE = "pause"  #: send nothing queued to ``peer``, also after a restart
    RESUME = "resume"  #: send to ``peer`` again, at once


class QueueRequest(_Model):
    """Body of ``POST /v1/queue/actions``."""

    action: QueueAction
    peer: str | None = None
    id: str | None = None
    dry_run: bool = False  #: say what would happen


class QueueResult(_Model):
    """What an action on the queue has done, or would do."""

    action: QueueAction
    done: bool  #: ``False``: it was a dry run
    message: str  #: in words
    affected: tuple[QueueEntry, ...] = ()  #: as they were before
    effects: tuple[str, ...] = ()  #: what else follows, in words


class DistributionInfo(_Model):
    """One message sent or received of late, one attempt (``GET /v1/distributions``)."""

    id: str
    direction: Literal["in", "out"]
    peer: str
    type: str
    zone: str
    began_at: float
    octets: int | None = None  #: of the payload, sealed if it was sent, opened if it was received
    mode: Literal["edns0", "query", "https"] = "edns0"  #: with the message, fetched by its receiver, or by HTTPS
    state: Literal["pending", "confirmed", "failed"]
    ended_at: float | None = None
    error: str | None = None


class Purged(_Model):
    """Answer of ``POST /v1/distributions/purge``."""

    purged: int
    left: int


class DiagnosisStep(_Model):
    """One step of ``peer doctor``."""

    step: str
    ok: bool | None  #: ``None``: could not be looked at, because of an earlier step
    detail: str
    side: Literal["ours", "theirs", "network", "unknown"] | None = None  #: whose fault it is; ``None``: nobody's
    advice: str | None = None


class Diagnosis(_Model):
    """What is wrong between us and a peer (``POST /v1/peers/{identity}/doctor``)."""

    identity: str
    ok: bool
    verdict: str  #: in one sentence
    steps: tuple[DiagnosisStep, ...]


class GroupAction(StrEnum):
    """What can be done with an election."""

    FORCE = "force"  #: call an election now
    STEP_DOWN = "step-down"  #: give the leadership up and have another one elected


class GroupActionRequest(_Model):
    """Body of ``POST /v1/groups/{key}/actions``."""

    action: GroupAction


class MessageKey(_Model):
    """One of our keys for messages; its private half is shown nowhere."""

    thumbprint: str  #: RFC 7638
    jwk: dict[str, str]  #: the public key
    use: Literal["current", "next", "previous"]  #: signs; is published beside it; opens late messages


class MessageKeyAction(StrEnum):
    """The steps of a key roll-over."""

    PREPARE = "prepare"  #: make the next key and publish it beside the current one
    SWITCH = "switch"  #: sign with the next key; the former one still opens messages
    FINISH = "finish"  #: forget the former key
    CANCEL = "cancel"  #: forget the next key


class MessageKeyRequest(_Model):
    """Body of ``POST /v1/message-keys/actions``."""

    action: MessageKeyAction
    force: bool = False  #: although peers may still need more time


class MessageKeys(_Model):
    """Our keys for messages, and how far a roll-over is (``GET /v1/message-keys``)."""

    identity: str
    keys: tuple[MessageKey, ...]
    step: Literal["steady", "prepared", "switched"]
    since: float | None = None  #: when the step was reached
    ready_at: float | None = None  #: when the next step is safe: every peer has had time to look
    advice: str  #: what to do next, in words


class CertificateKey(_Model):
    """A key of our certificate for HTTPS."""

    use: Literal["current", "next"]  #: shown in connections; published beside it
    tlsa: str  #: RDATA of its TLSA record


class CertificateAction(StrEnum):
    """The steps of a roll-over of the certificate's key."""

    PREPARE = "prepare"  #: make the next key and publish it beside the current one
    SWITCH = "switch"  #: show the next key, forget the current one
    CANCEL = "cancel"  #: forget the next key


class CertificateRequest(_Model):
    """Body of ``POST /v1/certificate/actions``."""

    action: CertificateAction
    force: bool = False  #: although peers may still need more time


class Certificate(_Model):
    """The certificate that we show by HTTPS, and how far a roll-over of its key is (``GET /v1/certificate``)."""

    identity: str
    owner: str  #: of the TLSA records
    port: int
    keys: tuple[CertificateKey, ...]
    step: Literal["steady", "prepared"]
    since: float | None = None  #: when the step was reached
    ready_at: float | None = None  #: when the next step is safe: every peer has had time to look
    pem: str  #: the certificate
    advice: str  #: what to do next, in words


class SdeZone(_Model):
    """The synchronised data of one zone (``GET /v1/zones/{zone}/edits`` at an agent)."""

    zone: str
    records: tuple[SdeRecord, ...]
    outbound: tuple[OutboundMessage, ...] = ()


class Contribution(_Model):
    """One contributed record at a combiner."""

    record: str
    type: str
    originator: str
    applied: bool  #: ``False``: stored, but not published by this combiner
    reason: str | None = None
    received_at: float


class Contributions(_Model):
    """The contributions to one zone (``GET /v1/zones/{zone}/edits`` at a combiner)."""

    zone: str
    records: tuple[Contribution, ...]


class Key(_Model):
    """One DNSSEC key at a signer."""

    zone: str
    key_tag: int
    algorithm: int
    flags: int
    state: str
    foreign: bool
    record: str


class ChangeRequest(_Model):
    """Body of ``POST /v1/zones/{zone}/changes``."""

    operation: Literal["add", "delete"]
    record: str
    dry_run: bool = False


class ChangePlan(_Model):
    """What a change would do, before it does it."""

    zone: str
    operation: Literal["add", "delete"]
    record: str  #: normalised
    effective: bool  #: ``False``: nothing would change
    recipients: tuple[str, ...]  #: who will be told
    appliers: tuple[str, ...]  #: who will publish it; the others store it and answer IGNORED
    resulting: tuple[str, ...]  #: the complete set of this type that we would then contribute
    warnings: tuple[str, ...] = ()
    danger: Literal["mild", "moderate", "severe"] = "mild"
    command: str  #: the equivalent cockpit command


class TransactionState(StrEnum):
    """Fate of a change."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


class Transaction(_Model):
    """A change that was accepted by the agent, and how far it has come."""

    id: str
    zone: str
    operation: Literal["add", "delete"]
    record: str
    state: TransactionState
    reached: Wait  #: the furthest level reached so far
    created_at: float
    distribution_id: str | None = None
    reached_at: dict[str, float] = Field(default_factory=dict)  #: level -> time
    confirmations: tuple[RecipientConfirmation, ...] = ()
    waiting_for: str | None = None
    reason: str | None = None


class Snapshot(_Model):
    """Everything of one daemon at one moment (``GET /v1/snapshot``)."""

    event_id: int  #: resume the event stream after this id
    status: Status
    peers: tuple[Peer, ...] = ()
    groups: tuple[Group, ...] = ()
    zones: tuple[Zone, ...] = ()
    edits: tuple[SdeZone, ...] = ()
    contributions: tuple[Contributions, ...] = ()
    keys: tuple[Key, ...] = ()
    transactions: tuple[Transaction, ...] = ()


class Event(_Model):
    """One element of the event stream (``GET /v1/events``, server-sent events).

    ``kind`` and ``data``: ``status`` Status, ``peer`` Peer, ``peer-removed`` {identity}, ``group`` Group,
    ``group-removed`` {hash}, ``zone`` Zone, ``edits`` SdeZone, ``contributions`` Contributions, ``keys``
    {zone, keys: [Key]}, ``transaction`` Transaction, ``log`` {severity, text}, ``gap`` {} (read the snapshot again).
    """

    id: int
    time: float
    kind: Literal[
        "status",
        "peer",
        "peer-removed",
        "group",
        "group-removed",
        "zone",
        "edits",
        "contributions",
        "keys",
        "transaction",
        "log",
        "gap",
    ]
    subject: str = ""  #: identity, group hash, zone or transaction id
    data: dict[str, Any] = Field(default_factory=dict)


class Problem(_Model):
    """Body of every answer that is not a success."""

    error: Literal["refused", "usage", "not-found", "conflict", "not-ready", "timeout", "internal"]
    message: str
