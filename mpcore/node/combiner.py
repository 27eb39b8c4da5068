"""A combiner at work: the owner's zone comes in, contributions are merged at its apex, the result goes to the signer.

An UPDATE is acknowledged when what it changes, the serial of the zone that results, and the CONFIRM that is owed for it
are in one commit; then the zone is served, and then the CONFIRM leaves.  Whatever is cut off in between is done at the
next start: contributions are merged into the first version that arrives, and the queue holds the CONFIRM.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from mpcore.actions import Action, Send
from mpcore.combiner import CombinerPolicy, Contribution, Contributions, Rebuilt, handle_update, rebuild, status_updates
from mpcore.combiner.update import refuse_update
from mpcore.control import models
from mpcore.control.models import Peer, Role, Snapshot
from mpcore.errors import NotFoundError, NotReadyError
from mpcore.node.base import Receipt
from mpcore.node.configured import configured_view
from mpcore.node.hosting import HostingNode
from mpcore.node.inbound import Incoming
from mpcore.node.keeping import Kept, Staged
from mpcore.node.runtime import Runtime
from mpcore.node.settings import CombinerSettings
from mpcore.sde.records import read_record
from mpcore.store.combiner import (
    ContributionRow,
    delete_contributions,
    load_contributions,
    open_combiner_database,
    put_contributions,
)
from mpcore.store.database import Database
from mpcore.store.serials import load_serials
from mpcore.wire.messages import Acknowledgement, Beat, Edits, Ping, Rfi, StatusUpdate, Update, rfc3339
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.rrset import type_text
from mpcore.zone.serial import next_serial
from mpcore.zone.version import ZoneVersion, diff

__all__ = ("CombinerNode",)

logger = logging.getLogger(__name__)


def _row(zone: str, origin: bytes, item: Contribution) -> ContributionRow:
    record = item.record
    return ContributionRow(
        zone=zone,
        originator=item.originator,
        owner=origin,
        rrtype=record.rdtype,
        rdata=record.key,
        ttl=record.ttl,
        record=record.text,
        received_at=item.received_at,
    )


class CombinerNode(HostingNode):
    """See the module's text."""

    ROLE = Role.COMBINER

    def __init__(self, settings: CombinerSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self.policy = CombinerPolicy(
            settings.identity, tuple(agent.identity for agent in settings.agents), settings.protected_namespaces
        )
        self._agents = {agent.identity: agent for agent in settings.agents}
        for agent in settings.agents:
            self.configure(agent)
        self._owner_versions: dict[bytes, ZoneVersion] = {}
        self._kept: dict[bytes, Contributions] = {}
        self._rebuilt: dict[bytes, Rebuilt] = {}
        self._serials: dict[str, int] = {}
        self._locks = {origin: anyio.Lock() for origin in self.zone_settings}

    async def open_database(self, path: Path) -> Database:
        return await open_combiner_database(path, self.runtime.executor)

    def read(self, connection: sqlite3.Connection) -> Any:
        kept: dict[bytes, list[Contribution]] = {origin: [] for origin in self.zone_settings}
        for row in load_contributions(connection):
            if row.owner in kept:
                record = read_record(row.record, type_text(row.rrtype), row.owner)
                kept[row.owner].append(Contribution(row.originator, record, row.received_at))
        contributions = {
            origin: Contributions(self.zone_settings[origin].name, items) for origin, items in kept.items()
        }
        return load_serials(connection), contributions

    def restore(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]], stored: Any) -> None:
        self._serials, self._kept = stored

    # ------------------------------------------------------------------ zones

    async def incoming(self, origin: bytes, version: ZoneVersion, roles: ZoneRoles | None) -> None:
        async with self._locks[origin]:
            rebuilt = rebuild(version, self._kept[origin], roles, self.policy)
            staged, outgoing = self._stage(origin, version, rebuilt, version.serial)
            await self.perform("zone", [], write=staged.write, committed=staged.commit)
            self._owner_versions[origin], self.roles[origin] = version, roles
            self._serve(origin, rebuilt, outgoing)

    async def resume_zone(self, origin: bytes, kept: Kept, roles: ZoneRoles | None) -> None:
        version, outgoing = kept.incoming, kept.outgoing
        async with self._locks[origin]:
            rebuilt = rebuild(version, self._kept[origin], roles, self.policy)
            self._owner_versions[origin], self.roles[origin] = version, roles
            if outgoing is not None and outgoing.serial == self._serials.get(self.zone_settings[origin].name):
                again = rebuilt.version.with_serial(outgoing.serial)
                if again.is_near(outgoing) and not diff(again, outgoing):
                    self._rebuilt[origin] = rebuilt
                    self.serve(outgoing)
                    return
            # The configuration is another now, or the last change had not been written completely.
            staged, outgoing = self._stage(origin, version, rebuilt, None)
            await self.perform("zone", [], write=staged.write, committed=staged.commit)
            self._serve(origin, rebuilt, outgoing)

    def _next_serial(self, origin: bytes, inbound: int | None) -> int:
        previous = self._serials.get(self.zone_settings[origin].name)
        return next_serial(previous, self.serial_policy(origin), self.clock.now(), inbound=inbound)

    def _stage(
        self, origin: bytes, version: ZoneVersion, rebuilt: Rebuilt, inbound: int | None
    ) -> tuple[Staged, ZoneVersion]:
        outgoing = rebuilt.version.with_serial(self._next_serial(origin, inbound))
        return self.stage(origin, version, outgoing, outgoing.serial, "merged"), outgoing

    def _serve(self, origin: bytes, rebuilt: Rebuilt, outgoing: ZoneVersion) -> None:
        name = self.zone_settings[origin].name
        self._serials[name] = outgoing.serial
        self._rebuilt[origin] = rebuilt
        self.publish(outgoing)
        self.changed("contributions", name)

    async def bump(self, origin: bytes) -> None:
        async with self._locks[origin]:
            rebuilt = self._rebuilt.get(origin)
            name = self.zone_settings[origin].name
            if rebuilt is None:
                raise NotReadyError(f"{name} is not loaded yet")
            staged, outgoing = self._stage(origin, self._owner_versions[origin], rebuilt, None)
            await self.perform("zone", [], write=staged.write, committed=staged.commit)
            self._serve(origin, rebuilt, outgoing)

    def identities(self) -> Sequence[str]:
        return self.policy.agents

    def origin_of(self, origin: bytes, owner: bytes, rdtype: int, rdata: bytes) -> str:
        return self._rebuilt[origin].origins.get((owner, rdtype, rdata), "owner")

    # --------------------------------------------------------------- messages

    def allows(self, sender: str, zone: str) -> bool:
        return sender in self._agents

    async def handle(self, incoming: Incoming) -> Acknowledgement:
        message = incoming.message
        match message:
            case Ping():
                return self.answer_ping(incoming, message)
            case Beat():
                return self.acknowledge(incoming, message="beat acknowledged")
            case Update():
                return await self._update(incoming, message)
            case Rfi():
                self._request(incoming, message)
                return self.acknowledge(incoming, message=f"rfi received from {incoming.sender}")
            case StatusUpdate():
                return self.acknowledge(incoming)
            case _:
                return self.unsupported(incoming)

    async def _update(self, incoming: Incoming, update: Update) -> Acknowledgement:
        acknowledgement = self.acknowledge(incoming, "pending", "update received")
        try:
            origin = self.zone_origin(update.zone)
        except NotFoundError as error:
            confirm = refuse_update(self.policy, update, incoming.distribution_id, incoming.now, str(error))
            told = Send(incoming.sender, confirm, incoming.distribution_id, durable=True)
            await self.perform("update", [told], receipt=Receipt(incoming, acknowledgement))
            return acknowledgement
        async with self._locks[origin]:
            version = self._owner_versions.get(origin)
            if version is None:
                # The sender's queue tries again; deciding without the zone's roles would be guessing.
                raise NotReadyError(f"{update.zone} is not loaded yet")
            roles = self.roles[origin]
            result = handle_update(
                self.policy,
                self._kept[origin],
                incoming.sender,
                update,
                incoming.distribution_id,
                roles,
                incoming.now,
            )
            name = self.zone_settings[origin].name
            old = self.newest(origin)
            rebuilt = (
                rebuild(version, result.contributions, roles, self.policy) if result.stored or result.dropped else None
            )
            staged = outgoing = None
            if rebuilt is not None and result.published:
                staged, outgoing = self._stage(origin, version, rebuilt, version.serial)
            actions: list[Action] = [Send(incoming.sender, result.confirm, incoming.distribution_id, durable=True)]
            if rebuilt is not None and outgoing is not None:
                actions += [
                    Send(incoming.sender, notice, self.new_distribution_id(), durable=True)
                    for notice in status_updates(old, rebuilt.version, self.policy, incoming.sender, incoming.now)
                ]

            def write(connection: sqlite3.Connection) -> None:
                delete_contributions(connection, (_row(name, origin, item) for item in result.dropped))
                put_contributions(connection, (_row(name, origin, item) for item in result.stored))
                if staged is not None:
                    staged.write(connection)

            def serve() -> None:
                self._kept[origin] = result.contributions
                if rebuilt is not None and staged is not None and outgoing is not None:
                    staged.commit()
                    self._serve(origin, rebuilt, outgoing)
                elif rebuilt is not None:
                    self._rebuilt[origin] = rebuilt
                    self.changed("contributions", name)

            await self.perform(
                "update", actions, receipt=Receipt(incoming, acknowledgement), write=write, committed=serve
            )
        return acknowledgement

    def _request(self, incoming: Incoming, request: Rfi) -> None:
        if request.rfi_type != "EDITS":
            return
        origin = self.zone_origin(request.zone)
        answer = Edits(
            my_identity=self.identity,
            your_identity=incoming.sender,
            zone=request.zone,
            agent_records=self._kept[origin].snapshot(),
            message="",
            time=rfc3339(incoming.now),
        )
        self.spawn(self.send_once, Send(incoming.sender, answer, self.new_distribution_id()))

    # ---------------------------------------------------------------- service

    def peers(self) -> list[Peer]:
        """See :class:`~mpcore.control.service.ControlService`."""
        zones = tuple(zone.name for zone in self.zone_settings.values())
        return [
            configured_view(agent, "agent", self.directory, self.started_at, zones) for agent in self._agents.values()
        ]

    def contributions(self, zone: str) -> models.Contributions:
        """See :class:`~mpcore.control.service.ControlService`."""
        origin = self.zone_origin(zone)
        rebuilt = self._rebuilt.get(origin)
        verdicts = (
            rebuilt.verdicts
            if rebuilt is not None
            else tuple((item, "the zone is not loaded yet") for item in self._kept[origin])
        )
        return models.Contributions(
            zone=self.zone_settings[origin].name,
            records=tuple(
                models.Contribution(
                    record=item.record.text,
                    type=item.record.rrtype,
                    originator=item.originator,
                    applied=reason is None,
                    reason=reason,
                    received_at=item.received_at,
                )
                for item, reason in verdicts
            ),
        )

    def snapshot(self) -> Snapshot:
        """See :class:`~mpcore.control.service.ControlService`."""
        return (
            super()
            .snapshot()
            .model_copy(
                update={"contributions": tuple(self.contributions(zone.name) for zone in self.zone_settings.values())}
            )
        )
