"""What the synchronised data engine remembers, and the form in which it is stored.

Every class has ``store_key`` and ``to_value``, and ``from_value`` reads what ``to_value`` wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Self, cast

from mpcore.control.models import RecipientConfirmation, RecordState, TransactionState, Wait
from mpcore.sde.records import ContributedRecord

__all__ = (
    "FINAL",
    "Answer",
    "AnswerStatus",
    "Change",
    "Distribution",
    "Entry",
    "Inbound",
    "Leg",
    "Mark",
    "ZoneMemory",
    "confirmations",
    "copy_answers",
)

FINAL: Final = frozenset({"accepted", "ignored", "rejected", "removed"})
"""Answers after which nothing more is expected."""

AnswerStatus = Literal["owed", "received", "accepted", "ignored", "rejected", "removed"]


@dataclass(slots=True)
class Answer:
    """What one recipient said about one record.

    :param status: ``owed``: not delivered yet; ``received``: delivered, no final answer yet; else the final answer.
    :param at: Unix seconds.
    :param reason: of a refusal.
    """

    status: AnswerStatus
    at: float
    reason: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more is expected."""
        return self.status in FINAL


def _answers_value(answers: Mapping[str, Answer]) -> dict[str, list[Any]]:
    return {recipient: [answer.status, answer.at, answer.reason] for recipient, answer in answers.items()}


def _answers(value: Mapping[str, list[Any]]) -> dict[str, Answer]:
    return {recipient: Answer(item[0], item[1], item[2]) for recipient, item in value.items()}


def confirmations(answers: Mapping[str, Answer]) -> tuple[RecipientConfirmation, ...]:
    """Answers as the control API shows them."""
    return tuple(
        RecipientConfirmation(recipient=recipient, status=answer.status, at=answer.at, reason=answer.reason)
        for recipient, answer in answers.items()
    )


@dataclass(slots=True)
class Entry:
    """One record of one author.

    :param sequence: number of the distribution in which the record began to be there, or to be gone: confirmations of
        earlier distributions say nothing about it.
    :param distribution_id: of the last message that is awaited for it.
    :param answers: recipient -> what it said.  Of the records of other authors only our combiner is asked.
    """

    KIND: ClassVar[str] = "sde-entry"

    zone: str
    originator: str
    record: ContributedRecord
    state: RecordState
    sequence: int
    updated_at: float
    distribution_id: str | None = None
    reason: str | None = None
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        """Whether the author wants the record to be there."""
        return self.state not in (RecordState.PENDING_REMOVAL, RecordState.REMOVED)

    @property
    def store_key(self) -> str:
        """Key of the stored form."""
        return f"{self.zone} {self.originator} {self.record.text}"

    def to_value(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "zone": self.zone,
            "originator": self.originator,
            "text": self.record.text,
            "rrtype": self.record.rrtype,
            "ttl": self.record.ttl,
            "rdata": self.record.rdata.hex(),
            "state": self.state.value,
            "sequence": self.sequence,
            "updated_at": self.updated_at,
            "distribution_id": self.distribution_id,
            "reason": self.reason,
            "answers": _answers_value(self.answers),
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(
            zone=value["zone"],
            originator=value["originator"],
            record=ContributedRecord(value["text"], value["rrtype"], value["ttl"], bytes.fromhex(value["rdata"])),
            state=RecordState(value["state"]),
            sequence=value["sequence"],
            updated_at=value["updated_at"],
            distribution_id=value["distribution_id"],
            reason=value["reason"],
            answers=_answers(value["answers"]),
        )


@dataclass(slots=True)
class Leg:
    """One recipient of a distribution.

    :param nonce: 32 hex digits.
    :param status: ``owed``, ``received`` (delivered, final answer awaited), ``final``, or ``superseded``: a later
        message to the same recipient carries the set, an answer to this one is welcome but not awaited.
    :param since: when the status was entered, or the message was last sent again; Unix seconds.
    :param asked: how often it was sent again for want of a final answer.
    """

    nonce: str
    status: str
    since: float
    asked: int = 0

    @property
    def awaited(self) -> bool:
        """Whether an answer is awaited."""
        return self.status in ("owed", "received")


@dataclass(slots=True)
class Distribution:
    """One message: the complete set of one author and type, as sent to some recipients.

    :param id: 8 hex digits.
    :param sequence: counts distributions up.
    :param texts: the set.
    :param time: the ``Time`` in the message, Unix seconds.
    """

    KIND: ClassVar[str] = "sde-distribution"

    id: str
    sequence: int
    zone: str
    originator: str
    rrtype: str
    texts: tuple[str, ...]
    time: float
    legs: dict[str, Leg]

    @property
    def store_key(self) -> str:
        """Key of the stored form."""
        return self.id

    def to_value(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "id": self.id,
            "sequence": self.sequence,
            "zone": self.zone,
            "originator": self.originator,
            "rrtype": self.rrtype,
            "texts": list(self.texts),
            "time": self.time,
            "legs": {name: [leg.nonce, leg.status, leg.since, leg.asked] for name, leg in self.legs.items()},
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(
            id=value["id"],
            sequence=value["sequence"],
            zone=value["zone"],
            originator=value["originator"],
            rrtype=value["rrtype"],
            texts=tuple(value["texts"]),
            time=value["time"],
            legs={name: Leg(*item) for name, item in value["legs"].items()},
        )


@dataclass(slots=True)
class Inbound:
    """One SYNC of another provider, and the final CONFIRM that we owe or gave.

    :param operations: (operation, type, record texts as received).
    :param removed: type -> texts that the message made leave the author's set.
    :param waits: type -> sequence number of the distribution to our combiner whose answer is awaited.
    :param confirmed: whether the final CONFIRM was given to the queue.
    """

    KIND: ClassVar[str] = "sde-inbound"

    sender: str
    distribution_id: str
    zone: str
    nonce: str
    received_at: float
    operations: tuple[tuple[str, str, tuple[str, ...]], ...]
    removed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    confirmed: bool = False

    @property
    def store_key(self) -> str:
        """Key of the stored form."""
        return f"{self.sender} {self.distribution_id}"

    def to_value(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "sender": self.sender,
            "distribution_id": self.distribution_id,
            "zone": self.zone,
            "nonce": self.nonce,
            "received_at": self.received_at,
            "operations": [[verb, rrtype, list(texts)] for verb, rrtype, texts in self.operations],
            "removed": {rrtype: list(texts) for rrtype, texts in self.removed.items()},
            "waits": dict(self.waits),
            "confirmed": self.confirmed,
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(
            sender=value["sender"],
            distribution_id=value["distribution_id"],
            zone=value["zone"],
            nonce=value["nonce"],
            received_at=value["received_at"],
            operations=tuple((verb, rrtype, tuple(texts)) for verb, rrtype, texts in value["operations"]),
            removed={rrtype: tuple(texts) for rrtype, texts in value["removed"].items()},
            waits=dict(value["waits"]),
            confirmed=value["confirmed"],
        )


@dataclass(slots=True)
class Mark:
    """That we know the set of one author and type at first hand, and from when.

    :param time: the ``Time`` of the last message that set it: our own last one, or the author's last one that we took.
    """

    KIND: ClassVar[str] = "sde-set"

    zone: str
    originator: str
    rrtype: str
    time: float

    @property
    def store_key(self) -> str:
        """Key of the stored form."""
        return f"{self.zone} {self.originator} {self.rrtype}"

    def to_value(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"zone": self.zone, "originator": self.originator, "rrtype": self.rrtype, "time": self.time}

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(value["zone"], value["originator"], value["rrtype"], value["time"])


@dataclass(slots=True)
class ZoneMemory:
    """What the roles of a zone were when they were last looked at.

    :param recipients: our combiner and the other providers.
    :param appliers: type -> identities whose combiners publish it.
    :param tags: key tags of ours whose distribution the signer still waits for.
    :param refused: authors whose message was refused because of their role; they are asked again when roles change.
    """

    KIND: ClassVar[str] = "sde-zone"

    zone: str
    recipients: tuple[str, ...] = ()
    appliers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tags: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def store_key(self) -> str:
        """Key of the stored form."""
        return self.zone

    def to_value(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "zone": self.zone,
            "recipients": list(self.recipients),
            "appliers": {rrtype: list(identities) for rrtype, identities in self.appliers.items()},
            "tags": list(self.tags),
            "refused": list(self.refused),
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        appliers = {rrtype: tuple(identities) for rrtype, identities in value["appliers"].items()}
        return cls(value["zone"], tuple(value["recipients"]), appliers, tuple(value["tags"]), tuple(value["refused"]))


@dataclass(slots=True)
class Change:
    """A change ordered by the operator: what the control API calls a transaction.

    :param sequence: number of the distribution whose fate it shares, see :attr:`Entry.sequence`.
    """

    KIND: ClassVar[str] = "sde-transaction"

    id: str
    zone: str
    operation: Literal["add", "delete"]
    text: str
    rrtype: str
    sequence: int
    created_at: float
    state: TransactionState = TransactionState.PENDING
    reached: dict[Wait, float] = field(default_factory=dict)
    distribution_id: str | None = None
    reason: str | None = None
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether its fate is not sealed."""
        return self.state is TransactionState.PENDING

    @property
    def store_key(self) -> str:
        """Key of the stored form."""
        return self.id

    def to_value(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "id": self.id,
            "zone": self.zone,
            "operation": self.operation,
            "text": self.text,
            "rrtype": self.rrtype,
            "sequence": self.sequence,
            "created_at": self.created_at,
            "state": self.state.value,
            "reached": {level.value: at for level, at in self.reached.items()},
            "distribution_id": self.distribution_id,
            "reason": self.reason,
            "answers": _answers_value(self.answers),
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(
            id=value["id"],
            zone=value["zone"],
            operation=cast(Literal["add", "delete"], value["operation"]),
            text=value["text"],
            rrtype=value["rrtype"],
            sequence=value["sequence"],
            created_at=value["created_at"],
            state=TransactionState(value["state"]),
            reached={Wait(level): at for level, at in value["reached"].items()},
            distribution_id=value["distribution_id"],
            reason=value["reason"],
            answers=_answers(value["answers"]),
        )


def copy_answers(answers: Mapping[str, Answer], recipients: Iterable[str] | None = None) -> dict[str, Answer]:
    """A copy that does not change with the original."""
    return {
        recipient: Answer(answer.status, answer.at, answer.reason)
        for recipient, answer in answers.items()
        if recipients is None or recipient in recipients
    }
