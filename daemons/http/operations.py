"""The operations of the control API: one row for each, from which the routes and the document are made.

A row says the method and path, what the operation takes and answers, and which operation of
:class:`~mpcore.control.service.ControlService` does the work.  Three things are not rows, because their answers are not
models: the event stream, the document itself, and what happens to errors.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from mpcore.control.models import (
    Certificate,
    CertificateRequest,
    ChangePlan,
    ChangeRequest,
    Contributions,
    Diagnosis,
    DistributionInfo,
    Group,
    GroupActionRequest,
    Key,
    MessageKeyRequest,
    MessageKeys,
    Peer,
    PingResult,
    Purged,
    Queue,
    QueueRequest,
    QueueResult,
    SdeZone,
    Snapshot,
    Status,
    Transaction,
    TsigKeyInfo,
    Wait,
    Zone,
    ZoneActionRequest,
    ZoneActionResult,
    ZoneRecords,
)
from mpcore.control.service import ControlService
from mpcore.names import Identity, ZoneName

__all__ = ("OPERATIONS", "Call", "Choice", "Count", "Operation", "Parameter", "Seconds", "UnusableParameter")

_MAX_WORK = 60.0  # seconds that a ping or a diagnosis may take
_MAX_WAIT = 86_400.0
_MAX_RECORDS = 10_000

_Model = TypeVar("_Model", bound=BaseModel)


class UnusableParameter(ValueError):
    """A query parameter that cannot be understood; its text names the parameter and says what is expected."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """A query parameter: seconds from 0 to *most*."""

    name: str
    description: str
    default: float
    most: float

    def parse(self, text: str) -> float:
        """The seconds that *text* says; :raises UnusableParameter: none, or too many."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= self.most:
            raise UnusableParameter(f"{self.name}={text}: seconds from 0 to {self.most:g} are expected")
        return value

    def schema(self) -> dict[str, Any]:
        """JSON schema of the value."""
        return {"type": "number", "minimum": 0, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Count:
    """A query parameter: a whole number from 1 to *most*."""

    name: str
    description: str
    default: int
    most: int

    def parse(self, text: str) -> int:
        """The number that *text* says; :raises UnusableParameter: none, or out of range."""
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= self.most):
            raise UnusableParameter(f"{self.name}={text}: a number from 1 to {self.most} is expected")
        return int(text)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the value."""
        return {"type": "integer", "minimum": 1, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Choice:
    """A query parameter: one of some words."""

    name: str
    description: str
    words: tuple[str, ...]
    default: str | None = None

    def parse(self, text: str) -> str:
        """The word; :raises UnusableParameter: it is none of them."""
        if text not in self.words:
            raise UnusableParameter(f"{self.name}={text}: one of {', '.join(self.words)} is expected")
        return text

    def schema(self) -> dict[str, Any]:
        """JSON schema of the value."""
        return {"type": "string", "enum": list(self.words)}


Parameter = Seconds | Count | Choice


@dataclass(frozen=True, slots=True)
class Call:
    """One request, understood.

    :ivar path: what the path says, by name.
    :ivar query: values of the query parameters, by name; those not given have their defaults.
    :ivar body: the order of the request, if the operation takes one.
    """

    path: Mapping[str, str]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: BaseModel | None = None

    @property
    def zone(self) -> ZoneName:
        """The zone in the path; :raises InvalidNameError: it is no name."""
        return ZoneName(self.path["zone"])

    @property
    def identity(self) -> Identity:
        """The identity in the path; :raises InvalidNameError: it is no name."""
        return Identity(self.path["identity"])

    def order(self, model: type[_Model]) -> _Model:
        """The order, which is a *model*."""
        assert isinstance(self.body, model)
        return self.body


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the control API.

    :ivar method: ``GET`` reads, ``POST`` does something.
    :ivar path: with its parts in braces; a ``zone`` or an ``id`` may contain slashes.
    :ivar summary: what it does, in a few words.
    :ivar answer: type of the answer: a model or a list of them.
    :ivar act: does it, at once or awaited.
    :ivar order: model of the body, if it takes one.
    :ivar words: what the order is called in an error.
    :ivar parameters: what it takes in the query.
    :ivar given_up: the work ends when the client goes away; what changes something is not given up.
    :ivar accepted: type of the answer when the work goes on after it (status 202), if that happens.
    """

    method: str
    path: str
    summary: str
    answer: Any
    act: Callable[[ControlService, Call], object | Awaitable[object]]
    order: type[BaseModel] | None = None
    words: str = ""
    parameters: tuple[Parameter, ...] = ()
    given_up: bool = False
    accepted: type[BaseModel] | None = None


def _purge(service: ControlService, call: Call) -> Purged:
    return service.purge_distributions(call.query["everything"] == "1")


def _change(service: ControlService, call: Call) -> ChangePlan | Awaitable[Transaction]:
    order = call.order(ChangeRequest)
    return service.plan(call.zone, order) if order.dry_run else service.change(call.zone, order)


def _transaction(service: ControlService, call: Call) -> Transaction | Awaitable[Transaction]:
    name, level = call.path["id"], call.query["wait"]
    return service.transaction(name) if level is None else service.wait(name, Wait(level), call.query["timeout"])


#: All of them, in the order of the document.
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/v1/status", "What the daemon says about itself", Status, lambda service, _: service.status()),
    Operation("GET", "/v1/snapshot", "Everything at one moment", Snapshot, lambda service, _: service.snapshot()),
    Operation("GET", "/v1/peers", "The peers", list[Peer], lambda service, _: service.peers()),
    Operation(
        "POST",
        "/v1/peers/{identity}/ping",
        "Send a ping to a peer",
        PingResult,
        lambda service, call: service.ping(call.identity, call.query["timeout"]),
        parameters=(Seconds("timeout", "seconds", 5.0, _MAX_WORK),),
        given_up=True,
    ),
    Operation(
        "POST",
        "/v1/peers/{identity}/reset",
        "Find a peer anew",
        Peer,
        lambda service, call: service.reset_peer(call.identity),
    ),
    Operation(
        "POST",
        "/v1/peers/{identity}/doctor",
        "Look for what is wrong between us and a peer",
        Diagnosis,
        lambda service, call: service.diagnose(call.identity, call.query["timeout"]),
        parameters=(Seconds("timeout", "seconds", 20.0, _MAX_WORK),),
        given_up=True,
    ),
    Operation(
        "GET", "/v1/queue", "The messages that wait for delivery", Queue, lambda service, _: service.queue_view()
    ),
    Operation(
        "POST",
        "/v1/queue/actions",
        "Do something with the queue",
        QueueResult,
        lambda service, call: service.queue_action(call.order(QueueRequest)),
        order=QueueRequest,
        words="queue action",
    ),
    Operation(
        "POST",
        "/v1/queue/drain",
        "Wait until the queue is empty",
        Queue,
        lambda service, call: service.drain(call.query["timeout"]),
        parameters=(Seconds("timeout", "seconds", 60.0, _MAX_WAIT),),
        given_up=True,
    ),
    Operation(
        "GET",
        "/v1/distributions",
        "The messages sent and received of late",
        list[DistributionInfo],
        lambda service, _: service.distributions(),
    ),
    Operation(
        "POST",
        "/v1/distributions/purge",
        "Forget the messages that are completed",
        Purged,
        _purge,
        parameters=(Choice("everything", "1: also those of the last five minutes", ("0", "1"), "0"),),
    ),
    Operation(
        "GET", "/v1/message-keys", "Our keys for messages", MessageKeys, lambda service, _: service.message_keys()
    ),
    Operation(
        "POST",
        "/v1/message-keys/actions",
        "Take a step of a key roll-over",
        MessageKeys,
        lambda service, call: service.message_key_action(call.order(MessageKeyRequest)),
        order=MessageKeyRequest,
        words="key action",
    ),
    Operation(
        "GET", "/v1/certificate", "Our certificate for HTTPS", Certificate, lambda service, _: service.certificate()
    ),
    Operation(
        "POST",
        "/v1/certificate/actions",
        "Take a step of a roll-over of the certificate's key",
        Certificate,
        lambda service, call: service.certificate_action(call.order(CertificateRequest)),
        order=CertificateRequest,
        words="certificate action",
    ),
    Operation("GET", "/v1/groups", "The provider groups", list[Group], lambda service, _: service.groups()),
    Operation(
        "GET",
        "/v1/groups/{key}",
        "The group whose hash or name begins so",
        Group,
        lambda service, call: service.group(call.path["key"]),
    ),
    Operation(
        "POST",
        "/v1/groups/{key}/actions",
        "Do something with an election",
        Group,
        lambda service, call: service.group_action(call.path["key"], call.order(GroupActionRequest)),
        order=GroupActionRequest,
        words="group action",
    ),
    Operation("GET", "/v1/zones", "The zones", list[Zone], lambda service, _: service.zones()),
    Operation(
        "GET",
        "/v1/zones/{zone}/records",
        "Records as served, with their origins",
        ZoneRecords,
        lambda service, call: service.zone_records(call.zone, call.query["limit"]),
        parameters=(Count("limit", "records at most", 1000, _MAX_RECORDS),),
    ),
    Operation(
        "GET",
        "/v1/zones/{zone}/edits",
        "The synchronised data",
        SdeZone,
        lambda service, call: service.edits(call.zone),
    ),
    Operation(
        "GET",
        "/v1/zones/{zone}/contributions",
        "The contributions held",
        Contributions,
        lambda service, call: service.contributions(call.zone),
    ),
    Operation(
        "GET", "/v1/zones/{zone}/keys", "The DNSSEC keys", list[Key], lambda service, call: service.keys(call.zone)
    ),
    Operation(
        "POST",
        "/v1/zones/{zone}/changes",
        "Change a record, or say what would change",
        ChangePlan,
        _change,
        order=ChangeRequest,
        words="change",
        accepted=Transaction,
    ),
    Operation(
        "POST",
        "/v1/zones/{zone}/actions",
        "Do something with a zone",
        ZoneActionResult,
        lambda service, call: service.zone_action(call.zone, call.order(ZoneActionRequest)),
        order=ZoneActionRequest,
        words="zone action",
    ),
    Operation(
        "GET",
        "/v1/tsig-keys",
        "The TSIG keys, without their secrets",
        list[TsigKeyInfo],
        lambda service, _: service.tsig_keys(),
    ),
    Operation("GET", "/v1/transactions", "The changes", list[Transaction], lambda service, _: service.transactions()),
    Operation(
        "GET",
        "/v1/transactions/{id}",
        "One change",
        Transaction,
        _transaction,
        parameters=(
            Choice("wait", "wait until this level is reached", tuple(level.value for level in Wait)),
            Seconds("timeout", "seconds to wait", 30.0, _MAX_WAIT),
        ),
        given_up=True,
    ),
)
