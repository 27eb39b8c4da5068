"""What a node offers to its operator: the interface behind the HTTP shell.

One protocol for all roles; a role that lacks a thing raises :class:`~mpcore.errors.NotFoundError`.  Reads are
synchronous snapshots; changes are awaited until they are durable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from mpcore.control.models import (
    Certificate,
    CertificateRequest,
    ChangePlan,
    ChangeRequest,
    Contributions,
    Diagnosis,
    DistributionInfo,
    Event,
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

__all__ = ("ControlService",)


class ControlService(Protocol):
    """Operations of the control API; see ``daemons/http/operations.py`` for the routes."""

    def status(self) -> Status: ...

    def snapshot(self) -> Snapshot: ...

    def peers(self) -> list[Peer]: ...

    async def ping(self, identity: str, timeout: float) -> PingResult: ...

    async def reset_peer(self, identity: str) -> Peer:
        """Forget what is known of a peer and find it anew; :raises NotFoundError: no such peer."""
        ...

    async def diagnose(self, identity: str, timeout: float) -> Diagnosis:
        """Look for what is wrong between us and a peer, within *timeout* seconds; :raises NotFoundError: none."""
        ...

    def queue_view(self) -> Queue: ...

    async def queue_action(self, request: QueueRequest) -> QueueResult:
        """Do something with the queue; :raises NotFoundError, ConflictError, PolicyError: no such message; not now."""
        ...

    async def drain(self, timeout: float) -> Queue:
        """Wait until the queue is empty; :raises TimeoutError, ConflictError: it is not, and says why."""
        ...

    def distributions(self) -> list[DistributionInfo]: ...

    def purge_distributions(self, everything: bool) -> Purged: ...

    def message_keys(self) -> MessageKeys: ...

    async def message_key_action(self, request: MessageKeyRequest) -> MessageKeys:
        """Take a step of a key roll-over; :raises ConflictError, NotReadyError: it is not its turn, or too early."""
        ...

    def certificate(self) -> Certificate:
        """Our certificate for HTTPS; :raises NotFoundError: there is none."""
        ...

    async def certificate_action(self, request: CertificateRequest) -> Certificate:
        """Take a step of a roll-over; :raises NotFoundError, ConflictError, NotReadyError: not here, not its turn, or
        too early."""
        ...

    def groups(self) -> list[Group]: ...

    def group(self, key: str) -> Group:
        """The group whose hash or name starts with *key*; :raises NotFoundError: none, or more than one."""
        ...

    async def group_action(self, key: str, request: GroupActionRequest) -> Group:
        """Do something with an election; :raises NotFoundError, ConflictError: no such group; not possible here."""
        ...

    def zones(self) -> list[Zone]: ...

    def zone_records(self, zone: str, limit: int) -> ZoneRecords: ...

    def edits(self, zone: str) -> SdeZone: ...

    def contributions(self, zone: str) -> Contributions: ...

    def keys(self, zone: str) -> list[Key]: ...

    def tsig_keys(self) -> list[TsigKeyInfo]: ...

    async def zone_action(self, zone: str, request: ZoneActionRequest) -> ZoneActionResult:
        """Do something with a zone; :raises NotReadyError, ConflictError: not now."""
        ...

    def plan(self, zone: str, request: ChangeRequest) -> ChangePlan:
        """What *request* would do; :raises PolicyError, NotFoundError, NotReadyError: it would be refused."""
        ...

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        """Accept a change: when this returns it is durable (``Wait.HERE``)."""
        ...

    def transactions(self) -> list[Transaction]: ...

    def transaction(self, transaction_id: str) -> Transaction: ...

    async def wait(self, transaction_id: str, level: Wait, timeout: float) -> Transaction:
        """Wait until *level* is reached or the fate is sealed; :raises TimeoutError: *timeout* seconds passed."""
        ...

    def events(self, after: int | None) -> AsyncIterator[Event]:
        """Events with an id above *after* (``None``: from now on); a ``gap`` event if they are no longer kept."""
        ...
