"""The JSON messages between nodes, as typed models.

Python names are snake case; every member knows its spelling on the wire, which is the spelling of the deployed
implementation: three families of names live side by side there (guide, wire format, "Messages").  On input members are
looked up without regard to case, the exact spelling first; ``null`` counts as absent; unknown members are ignored.  On
output members are written, omitted or written empty as the deployed implementation does it.

:func:`decode_message` and :func:`decode_acknowledgement` raise only :exc:`~mpcore.errors.MessageError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from mpcore.errors import MessageError, UnknownTypeError
from mpcore.wire.times import ZERO_TIME, parse_rfc3339, rfc3339

__all__ = (
    "MAX_OPERATIONS",
    "MAX_RECORDS",
    "MESSAGE_TYPES",
    "ZERO_TIME",
    "Acknowledgement",
    "Address",
    "Audit",
    "Beat",
    "Config",
    "Confirm",
    "Edits",
    "GossipElection",
    "GossipMessage",
    "GossipRow",
    "GroupName",
    "Hello",
    "KeyInventoryEntry",
    "KeyState",
    "Message",
    "Operation",
    "Ping",
    "Publish",
    "RejectedItem",
    "Relocate",
    "Rfi",
    "StatusUpdate",
    "Sync",
    "Update",
    "decode_acknowledgement",
    "decode_json",
    "decode_message",
    "parse_rfc3339",
    "rfc3339",
)

MAX_OCTETS: Final = 4 * 1024 * 1024
"""Longest JSON text that is looked at; what fits one DNS message is far shorter."""

MAX_DEPTH: Final = 32
"""Deepest nesting of arrays and objects."""

MAX_NODES: Final = 600_000
"""Most values in one JSON text."""

MAX_OPERATIONS: Final = 1000
"""Most operations in one SYNC or UPDATE (guide, wire format)."""

MAX_RECORDS: Final = 500
"""Most records in one operation (guide, wire format)."""

# --------------------------------------------------------------------------------------------------------- JSON texts


class _BadJsonError(ValueError):
    """A JSON text is refused by one of the hooks below."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _BadJsonError("a member occurs twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise _BadJsonError("a number is out of range")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _BadJsonError("a number is out of range")
    return number


def _constant(word: str) -> float:
    raise _BadJsonError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def _check(value: object) -> None:
    """Bound depth and number of the values in *value*, and refuse surrogates that stand alone (no UTF-8 for them)."""
    level: list[object] = [value]
    count = 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_NODES:
            raise _BadJsonError("too many values")
        deeper: list[object] = []
        for item in level:
            if type(item) is dict:
                for name in item:
                    if not name.isascii():
                        name.encode()
                deeper.extend(item.values())
            elif type(item) is list:
                deeper.extend(item)
            elif type(item) is str and not item.isascii():
                item.encode()
        if not deeper:
            return
        level = deeper
    raise _BadJsonError("nested too deeply")


def decode_json(octets: bytes, *, max_octets: int = MAX_OCTETS) -> dict[str, Any]:
    """The JSON object in *octets*: UTF-8, no member twice, no NaN, numbers of at most 20 digits, at most 32 levels.

    :param octets: the text.
    :param max_octets: longest text that is looked at.
    :raises MessageError: it is anything else.
    """
    if len(octets) > max_octets:
        raise MessageError(f"{len(octets)} octets of JSON; at most {max_octets} are read")
    try:
        value = _DECODER.decode(octets.decode())
        _check(value)
    except RecursionError:
        raise MessageError("not usable JSON: nested too deeply") from None
    except ValueError as error:  # includes JSONDecodeError and the Unicode errors
        raise MessageError(f"not usable JSON: {error}") from None
    if type(value) is not dict:
        raise MessageError("the JSON text is not an object")
    return value


# ---------------------------------------------------------------------------------------------------------- the models


@dataclass(frozen=True, slots=True)
class _Wire:
    """How a field is spelled on the wire.

    :param name: exact spelling of the member.
    :param omit: whether an empty value is left out; ``None`` always is, unless *null*.
    :param null: whether ``None`` is written as ``null``.
    :param also: other spellings that mean the same; all that are present must agree.
    """

    name: str
    omit: bool = False
    null: bool = False
    also: tuple[str, ...] = ()


_Word = Annotated[str, StringConstraints(max_length=256)]
_Name = Annotated[str, StringConstraints(max_length=1024)]
_Text = Annotated[str, StringConstraints(max_length=16384)]
_Record = Annotated[str, StringConstraints(max_length=65535)]
_U8 = Annotated[StrictInt, Field(ge=0, le=255)]
_U16 = Annotated[StrictInt, Field(ge=0, le=65535)]
_U32 = Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)]
_Seconds = Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFFFFFFFFFF)]
_Names = Annotated[list[_Name], Field(max_length=10000)]
_Records = Annotated[list[_Record], Field(max_length=100000)]
_RecordMap = Annotated[dict[_Name, _Records], Field(max_length=10000)]


def _empty(value: object) -> bool:
    return value is None or value == "" or value == 0 or value == [] or value == {}


def _plain(value: object) -> object:
    if isinstance(value, _Model):
        return value.to_plain()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _look_up(members: Mapping[str, Any], folded: Mapping[str, list[str]], name: str) -> Any:
    """The value of member *name*: the exact spelling, else the one that differs in case only; ``None`` if absent."""
    value = members.get(name)
    if value is not None:
        return value
    found = [members[spelling] for spelling in folded.get(name.lower(), ()) if members[spelling] is not None]
    if any(other != found[0] for other in found[1:]):
        raise MessageError(f"member {name!r} is spelled in two ways with two values")
    return found[0] if found else None


def _fold(members: Mapping[str, Any]) -> dict[str, list[str]]:
    folded: dict[str, list[str]] = {}
    for name in members:
        folded.setdefault(name.lower(), []).append(name)
    return folded


def _agree(members: Mapping[str, Any], folded: Mapping[str, list[str]], names: tuple[str, ...]) -> Any:
    """The first non-empty value among members that mean the same.

    :raises MessageError: two of them say different things.
    """
    found: Any = None
    for name in names:
        value = _look_up(members, folded, name)
        if value is None or value == "":
            continue
        if found is None:
            found = value
        elif found != value:
            raise MessageError(f"members {' and '.join(names)} contradict each other")
    return found


class _Model(BaseModel):
    """Base of everything that is an object on the wire; immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    _wire: ClassVar[tuple[tuple[str, _Wire], ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        table = []
        for attribute, field in cls.model_fields.items():
            found = [item for item in field.metadata if isinstance(item, _Wire)]
            table.append((attribute, found[0] if found else _Wire(attribute)))
        cls._wire = tuple(table)

    @classmethod
    def _attributes(cls, members: Mapping[str, Any]) -> dict[str, Any]:
        """Wire members as keyword arguments: folded spellings, ``null`` dropped."""
        folded = _fold(members)
        attributes: dict[str, Any] = {}
        for attribute, wire in cls._wire:
            if wire.also:
                value = _agree(members, folded, (wire.name, *wire.also))
            else:
                value = _look_up(members, folded, wire.name)
            if value is not None:
                attributes[attribute] = value
        return attributes

    def to_plain(self) -> dict[str, Any]:
        """The object as JSON-able values, in the order and with the omissions of the wire."""
        members: dict[str, Any] = {}
        for attribute, wire in self._wire:
            value = getattr(self, attribute)
            if wire.null or not (value is None or (wire.omit and _empty(value))):
                members[wire.name] = _plain(value)
        return members

    def to_json(self) -> bytes:
        """The object as JSON text in UTF-8, without white space."""
        return json.dumps(self.to_plain(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


class _Part(_Model):
    """Base of the objects inside messages; their Python names are their names on the wire."""

    @model_validator(mode="before")
    @classmethod
    def _from_wire(cls, value: Any) -> Any:
        return cls._attributes(value) if type(value) is dict else value


class Operation(_Part):
    """One change of one record type.

    :ivar operation: ``replace`` (the complete set; none = remove all), ``add`` or ``delete``.
    :ivar rrtype: mnemonic in upper case.
    :ivar records: texts of the records, at most 500.
    """

    operation: _Word = ""
    rrtype: _Word = ""
    records: Annotated[list[_Record], Field(max_length=MAX_RECORDS), _Wire("records", omit=True)] = []


class Publish(_Part):
    """Instruction to publish a KEY (and CDS) set at some places.

    :ivar locations: ``at-apex``, ``at-ns``; none = retract.
    """

    key_rrs: Annotated[_Records, _Wire("key_rrs", omit=True)] = []
    cds_rrs: Annotated[_Records, _Wire("cds_rrs", omit=True)] = []
    locations: Annotated[list[_Word], Field(max_length=16)] = []


class RejectedItem(_Part):
    """A record that was refused, and why."""

    record: _Record = ""
    reason: _Text = ""


class KeyInventoryEntry(_Part):
    """One key of a signer.

    :ivar key_tag: 0-65535 (RFC 4034, appendix B).
    :ivar state: ``created``, ``mpdist``, ``published``, ``ds-published``, ``standby``, ``active``, ``retired``,
        ``mpremove``, ``removed`` or ``foreign``.
    :ivar keyrr: text of the DNSKEY record; may be empty for a foreign key.
    """

    key_tag: _U16 = 0
    algorithm: _U8 = 0
    flags: _U16 = 0
    state: _Word = ""
    keyrr: _Record = ""


class GroupName(_Part):
    """A proposed name of a provider group; practically always empty."""

    group_hash: _Word = ""
    name: _Word = ""
    proposer: _Name = ""
    proposed_at: _Word = ZERO_TIME

    @property
    def proposed_time(self) -> float:
        """When it was proposed, Unix seconds; ``0.0``: never."""
        return parse_rfc3339(self.proposed_at)


class GossipRow(_Part):
    """What one member of a group says about the others.

    :ivar identity: the member.
    :ivar peer_states: identity of another member -> state word (``OPERATIONAL`` ...).
    :ivar timestamp: RFC 3339 time when the member made the row.
    :ivar beat_interval: seconds between its beats; 0 = not said.
    """

    identity: _Name = ""
    peer_states: Annotated[dict[_Name, _Word], Field(max_length=1000)] = {}
    zones: _Names = []
    timestamp: _Word = ZERO_TIME
    beat_interval: Annotated[_U32, _Wire("beat_interval", omit=True)] = 0

    @property
    def time(self) -> float:
        """When the row was made, Unix seconds; ``0.0``: never."""
        return parse_rfc3339(self.timestamp)


class GossipElection(_Part):
    """The leadership that the sender knows of; all empty before the first election.

    :ivar term: 0-4294967295.
    :ivar leader_expiry: RFC 3339 time.
    """

    leader: Annotated[_Name, _Wire("leader", omit=True)] = ""
    term: Annotated[_U32, _Wire("term", omit=True)] = 0
    leader_expiry: _Word = ZERO_TIME

    @property
    def expires(self) -> float:
        """When the leadership ends, Unix seconds; ``0.0``: there is none."""
        return parse_rfc3339(self.leader_expiry)


class GossipMessage(_Part):
    """Gossip of one provider group.

    :ivar group_hash: 16 hex digits.
    :ivar members: identity -> row.  A ``null`` row on input is skipped.
    """

    group_hash: _Word = ""
    group_name: GroupName = GroupName()
    members: Annotated[dict[_Name, GossipRow], Field(max_length=1000)] = {}
    election: GossipElection = GossipElection()

    @classmethod
    def _attributes(cls, members: Mapping[str, Any]) -> dict[str, Any]:
        attributes = super()._attributes(members)
        rows = attributes.get("members")
        if type(rows) is dict:
            attributes["members"] = {identity: row for identity, row in rows.items() if row is not None}
        return attributes

    def check_times(self) -> None:
        """Read every time in it, because the deployed implementation discards gossip with a bad one.

        :raises MessageError: a time is not RFC 3339.
        """
        parse_rfc3339(self.group_name.proposed_at)
        parse_rfc3339(self.election.leader_expiry)
        for row in self.members.values():
            parse_rfc3339(row.timestamp)


_Gossip = Annotated[list[GossipMessage], Field(max_length=1000)]


class Address(_Part):
    """Where a node that moved can be reached.

    :ivar transport: ``udp``, ``tcp`` or ``https``.
    """

    host: _Name = ""
    port: _U16 = 0
    transport: _Word = ""
    path: Annotated[_Name, _Wire("path", omit=True)] = ""


class Message(_Model):
    """Base of all messages.

    :cvar TYPE: type word on the wire.
    :cvar TYPE_MEMBER: spelling of the member that carries it.
    """

    TYPE: ClassVar[str] = ""
    TYPE_MEMBER: ClassVar[str] = "MessageType"

    @property
    def sender(self) -> str:
        """The identity that the message itself claims to come from; the author of the data for an UPDATE."""
        return ""

    @property
    def zone_name(self) -> str:
        """The zone that it is about; for a BEAT the first of its zones; ``""`` if none."""
        zone: str = getattr(self, "zone", "")
        return zone

    @property
    def sent_at(self) -> float | None:
        """Unix seconds of the time that the sender put into it; ``None`` if it put none or it cannot be read."""
        return _time_of(getattr(self, "time", ZERO_TIME))

    def to_plain(self) -> dict[str, Any]:
        return {self.TYPE_MEMBER: self.TYPE, **super().to_plain()}

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Self:
        """The message made of JSON *members* (see :func:`decode_json`), whatever type they say.

        :raises MessageError: a member has the wrong type, is out of bounds or contradicts another.
        """
        message = _validated(cls, members)
        if isinstance(message, Beat):
            for gossip in message.gossip or ():
                gossip.check_times()
        return message


_ModelT = TypeVar("_ModelT", bound=_Model)


def _validated(cls: type[_ModelT], members: Mapping[str, Any]) -> _ModelT:
    try:
        return cls.model_validate(cls._attributes(members))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MessageError(f"{cls.__name__.lower()}: {where[:256]}: {first['msg']}") from None


_Sender = Annotated[_Name, _Wire("MyIdentity", also=("OriginatorID", "sender_id"))]
_Originator = Annotated[_Name, _Wire("OriginatorID", also=("MyIdentity", "sender_id"))]
_SenderId = Annotated[_Name, _Wire("sender_id", also=("OriginatorID", "MyIdentity"))]
_Receiver = Annotated[_Name, _Wire("YourIdentity")]
_Zone = Annotated[_Name, _Wire("Zone", also=("zone",))]
_Time = Annotated[_Word, _Wire("Time")]


def _time_of(text: str) -> float | None:
    try:
        return parse_rfc3339(text) or None
    except MessageError:
        return None


class _Greeting(Message):
    """What the messages of one node about itself have in common."""

    my_identity: _Sender = ""
    your_identity: _Receiver = ""

    @property
    def sender(self) -> str:
        return self.my_identity


class Hello(_Greeting):
    """Introduction of one agent to another (or to an auditor), naming one zone that both serve."""

    TYPE: ClassVar[str] = "hello"

    zone: _Zone = ""
    time: _Time = ZERO_TIME


class Beat(_Greeting):
    """Heartbeat.

    :ivar my_beat_interval: seconds until the next one; 0 = not said.
    :ivar zones: the zones that both serve.
    :ivar gossip: one element per provider group that both belong to; ``None`` towards combiner and signer.
    """

    TYPE: ClassVar[str] = "beat"

    my_beat_interval: Annotated[_U32, _Wire("MyBeatInterval")] = 0
    zones: Annotated[_Names, _Wire("Zones")] = []
    time: _Time = ZERO_TIME
    gossip: Annotated[_Gossip | None, _Wire("Gossip")] = None

    @property
    def zone_name(self) -> str:
        return self.zones[0] if self.zones else ""


class Ping(_Greeting):
    """Question whether the receiver lives; the answer repeats the nonce."""

    TYPE: ClassVar[str] = "ping"

    nonce: Annotated[_Word, _Wire("Nonce")] = ""
    time: _Time = ZERO_TIME


class _Data(Message):
    """The one structure of SYNC, UPDATE and RFI.

    :ivar originator_id: the author of the data (in an UPDATE maybe not the sender).
    :ivar operations: at most 1000.
    :ivar records: election data in an RFI: ``_term``, ``_group``, ``_vote``, ``_winner`` -> list of one text.
    :ivar nonce: 32 hex digits, repeated in the CONFIRM.
    :ivar zone_class: ``""``, ``mp`` or ``provider``.
    """

    originator_id: _Originator = ""
    your_identity: _Receiver = ""
    zone: _Zone = ""
    operations: Annotated[list[Operation], Field(max_length=MAX_OPERATIONS), _Wire("operations", omit=True)] = []
    records: Annotated[_RecordMap, _Wire("records", omit=True)] = {}
    time: _Time = ZERO_TIME
    rfi_type: Annotated[_Word, _Wire("RfiType")] = ""
    rfi_subtype: Annotated[_Word, _Wire("rfi_subtype", omit=True)] = ""
    nonce: Annotated[_Word, _Wire("nonce", omit=True)] = ""
    zone_class: Annotated[_Word, _Wire("zone_class", omit=True)] = ""
    publish: Annotated[Publish | None, _Wire("publish")] = None

    @property
    def sender(self) -> str:
        return self.originator_id


class Sync(_Data):
    """Data of one provider for a zone, to every other member of the zone."""

    TYPE: ClassVar[str] = "sync"


class Update(_Data):
    """Data of one provider for a zone, from an agent to its combiner."""

    TYPE: ClassVar[str] = "update"


class Rfi(_Data):
    """Request for information; the answer is a message of its own.

    :ivar rfi_type: ``SYNC``, ``AUDIT``, ``CONFIG``, ``EDITS``, ``KEYSTATE``, ``ELECT-CALL``, ``ELECT-VOTE``,
        ``ELECT-CONFIRM``.
    :ivar rfi_subtype: with ``CONFIG``: ``upstream``, ``downstream``, ``sig0key``.
    """

    TYPE: ClassVar[str] = "rfi"


class Confirm(Message):
    """Result of a SYNC or UPDATE, under the distribution id of that message.

    :ivar status: ``SUCCESS``, ``PARTIAL``, ``FAILED``, ``REJECTED``, ``PENDING`` or ``IGNORED``.
    :ivar applied_records: record texts exactly as they were received; likewise the other lists.
    :ivar timestamp: whole Unix seconds.
    """

    TYPE: ClassVar[str] = "confirm"
    TYPE_MEMBER: ClassVar[str] = "type"

    sender_id: _SenderId = ""
    zone: Annotated[_Name, _Wire("zone", also=("Zone",))] = ""
    distribution_id: _Word = ""
    nonce: Annotated[_Word, _Wire("nonce", omit=True)] = ""
    status: _Word = ""
    message: Annotated[_Text, _Wire("message", omit=True)] = ""
    applied_count: Annotated[_U32, _Wire("applied_count", omit=True)] = 0
    removed_count: Annotated[_U32, _Wire("removed_count", omit=True)] = 0
    rejected_count: Annotated[_U32, _Wire("rejected_count", omit=True)] = 0
    ignored_count: Annotated[_U32, _Wire("ignored_count", omit=True)] = 0
    applied_records: Annotated[_Records, _Wire("applied_records", omit=True)] = []
    removed_records: Annotated[_Records, _Wire("removed_records", omit=True)] = []
    ignored_records: Annotated[_Records, _Wire("ignored_records", omit=True)] = []
    rejected_items: Annotated[list[RejectedItem], Field(max_length=100000), _Wire("rejected_items", omit=True)] = []
    truncated: Annotated[StrictBool, _Wire("truncated", omit=True)] = False
    timestamp: _Seconds = 0

    @property
    def sender(self) -> str:
        return self.sender_id

    @property
    def sent_at(self) -> float | None:
        return float(self.timestamp) or None


class KeyState(_Greeting):
    """Word about DNSKEYs between an agent and its signer.

    :ivar key_tag: 1-65535 for one key; 0 with ``inventory``.
    :ivar signal: ``propagated``, ``rejected``, ``removed`` (to the signer); ``published``, ``retired``, ``inventory``
        (from the signer).
    :ivar key_inventory: with ``inventory``: every key; ``None`` otherwise, and when the signer does not sign the zone.
    """

    TYPE: ClassVar[str] = "keystate"

    zone: _Zone = ""
    key_tag: Annotated[_U16, _Wire("KeyTag")] = 0
    algorithm: Annotated[_U8, _Wire("Algorithm")] = 0
    signal: Annotated[_Word, _Wire("Signal")] = ""
    message: Annotated[_Text, _Wire("Message")] = ""
    key_inventory: Annotated[
        Annotated[list[KeyInventoryEntry], Field(max_length=1000)] | None, _Wire("KeyInventory", null=True)
    ] = None
    time: _Time = ZERO_TIME


class Edits(_Greeting):
    """Everything that a combiner keeps for a zone: originator -> owner -> record texts."""

    TYPE: ClassVar[str] = "edits"

    zone: _Zone = ""
    agent_records: Annotated[dict[_Name, _RecordMap], Field(max_length=10000), _Wire("AgentRecords")] = {}
    message: Annotated[_Text, _Wire("Message")] = ""
    time: _Time = ZERO_TIME

    @classmethod
    def _attributes(cls, members: Mapping[str, Any]) -> dict[str, Any]:
        attributes = super()._attributes(members)
        if type(agents := attributes.get("agent_records")) is dict:
            attributes["agent_records"] = {
                agent: _without_nulls(owners) for agent, owners in agents.items() if owners is not None
            }
        return attributes


def _without_nulls(value: Any) -> Any:
    return {name: item for name, item in value.items() if item is not None} if type(value) is dict else value


class Config(_Greeting):
    """Answer to an RFI of type ``CONFIG``.

    :ivar subtype: ``upstream``, ``downstream`` or ``sig0key``.
    :ivar config_data: texts by name (``xfr_srcs``, ``xfr_auth``, ...).
    """

    TYPE: ClassVar[str] = "config"

    zone: _Zone = ""
    subtype: Annotated[_Word, _Wire("Subtype")] = ""
    config_data: Annotated[dict[_Name, _Text], Field(max_length=1000), _Wire("ConfigData")] = {}
    message: Annotated[_Text, _Wire("Message")] = ""
    time: _Time = ZERO_TIME


class Audit(_Greeting):
    """Answer to an RFI of type ``AUDIT``; *audit_data* is any JSON value."""

    TYPE: ClassVar[str] = "audit"

    zone: _Zone = ""
    audit_data: Annotated[Any, _Wire("AuditData", null=True)] = None
    message: Annotated[_Text, _Wire("Message")] = ""
    time: _Time = ZERO_TIME


class StatusUpdate(_Greeting):
    """Word that the delegation needs work, or that the parent has been updated.

    :ivar sub_type: ``ns-changed``, ``ksk-changed`` (combiner to agent) or ``parentsync-done`` (leader to members).
    """

    TYPE: ClassVar[str] = "status-update"

    zone: _Zone = ""
    sub_type: Annotated[_Word, _Wire("SubType")] = ""
    ns_records: Annotated[_Records, _Wire("NSRecords", omit=True)] = []
    ds_records: Annotated[_Records, _Wire("DSRecords", omit=True)] = []
    result: Annotated[_Word, _Wire("Result", omit=True)] = ""
    msg: Annotated[_Text, _Wire("Msg", omit=True)] = ""
    time: _Time = ZERO_TIME


class Relocate(Message):
    """Wish of a node to be reached elsewhere.

    :ivar valid_until: whole Unix seconds.
    """

    TYPE: ClassVar[str] = "relocate"
    TYPE_MEMBER: ClassVar[str] = "type"

    sender_id: _SenderId = ""
    new_address: Address = Address()
    reason: Annotated[_Text, _Wire("reason", omit=True)] = ""
    valid_until: _Seconds = 0

    @property
    def sender(self) -> str:
        return self.sender_id


class Acknowledgement(_Model):
    """The payload of the response to a NOTIFY.

    :ivar type: ``confirm``, ``ping_confirm`` or ``error``.
    :ivar distribution_id: the one of the request.
    :ivar status: ``ok``, ``success``, ``pending``, ...; see :attr:`received`.
    :ivar timestamp: whole Unix seconds; ``None`` in the answer to a SYNC or RFI.
    :ivar gossip: in the answer to a BEAT.
    :ivar nonce: in the answer to a PING.
    """

    type: _Word = ""
    sender_id: Annotated[_Name, _Wire("sender_id", omit=True)] = ""
    nonce: Annotated[_Word, _Wire("nonce", omit=True)] = ""
    distribution_id: _Word = ""
    status: _Word = ""
    message: Annotated[_Text, _Wire("message", omit=True)] = ""
    timestamp: _Seconds | None = None
    gossip: Annotated[_Gossip | None, _Wire("Gossip")] = None
    applied_records: Annotated[_Records, _Wire("applied_records", omit=True)] = []
    removed_records: Annotated[_Records, _Wire("removed_records", omit=True)] = []
    rejected_items: Annotated[list[RejectedItem], Field(max_length=100000), _Wire("rejected_items", omit=True)] = []
    truncated: Annotated[StrictBool, _Wire("truncated", omit=True)] = False

    @property
    def received(self) -> bool:
        """Whether the peer has the message and it need not be sent again; an unknown status means it has not."""
        return self.type in ("confirm", "ping_confirm") and self.status.lower() in (
            "success", "ok", "pending", "partial", "rejected", "ignored"
        )  # fmt: skip

    @property
    def accepted(self) -> bool:
        """Whether the peer agrees with it: what a HELLO, a BEAT and every question need."""
        return self.type in ("confirm", "ping_confirm") and self.status.lower() in ("success", "ok")


# ----------------------------------------------------------------------------------------------------------- decoding

MESSAGE_TYPES: Final[Mapping[str, type[Message]]] = {
    cls.TYPE: cls
    for cls in (
        Hello, Beat, Ping, Sync, Update, Rfi, Confirm, KeyState, Edits, Config, Audit, StatusUpdate, Relocate
    )
}  # fmt: skip
"""Type word on the wire -> model."""


def decode_message(octets: bytes) -> Message:
    """The message in the JSON text *octets*.

    :raises UnknownTypeError: its type is not one of :data:`MESSAGE_TYPES`.
    :raises MessageError: it is not JSON, has no type, has members that contradict each other (``MessageType`` and
        ``type``, ``Zone`` and ``zone``, two senders), or a member has the wrong type or is out of bounds.
    """
    members = decode_json(octets)
    word = _agree(members, _fold(members), ("MessageType", "type"))
    if type(word) is not str:
        raise MessageError("the message has no type")
    cls = MESSAGE_TYPES.get(word)
    if cls is None:
        raise UnknownTypeError(f"message type {word[:64]!r} is not known")
    return cls.from_members(members)


def decode_acknowledgement(octets: bytes) -> Acknowledgement:
    """The acknowledgement in the JSON text *octets*.

    :raises MessageError: it is not JSON, has no type, or a member has the wrong type or is out of bounds.
    """
    acknowledgement = _validated(Acknowledgement, decode_json(octets))
    if not acknowledgement.type:
        raise MessageError("the acknowledgement has no type")
    for gossip in acknowledgement.gossip or ():
        gossip.check_times()
    return acknowledgement
