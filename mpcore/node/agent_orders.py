"""What an operator may order an agent to do besides changing records: peers, elections, resynchronising."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import anyio

from mpcore.actions import Action
from mpcore.control.models import (
    Diagnosis,
    Group,
    GroupAction,
    GroupActionRequest,
    ZoneAction,
    ZoneActionRequest,
    ZoneActionResult,
)
from mpcore.control.models import Peer as PeerModel
from mpcore.errors import ConflictError, DeliveryError, NotFoundError, NotReadyError
from mpcore.names import ZoneName
from mpcore.node.agent_service import AgentService
from mpcore.node.doctor import Doctor
from mpcore.node.settings import AgentSettings
from mpcore.peer.machine import Peer
from mpcore.wire.messages import Rfi

__all__ = ("AgentOrders",)

_ANSWER_WITHIN = 10.0  #: seconds for the acknowledgements of what a resynchronisation asks for


class AgentOrders(AgentService):
    """Orders of the operator, carried out by the machines of :class:`~mpcore.node.agent.AgentNode`."""

    agent_settings: AgentSettings

    @abstractmethod
    async def peer_event(self, peer: Peer, actions: Sequence[Action]) -> None:
        """Carry out what a peer machine asked for."""

    @abstractmethod
    async def election_event(self, key: str, actions: Sequence[Action]) -> None:
        """Carry out what an election asked for."""

    @abstractmethod
    def rfi(self, recipient: str, zone: str, kind: str) -> Rfi:
        """A request for information."""

    # ------------------------------------------------------------------ peers

    def machine(self, identity: str) -> Peer:
        """The machine of a peer; :raises NotFoundError: no such peer."""
        machine = self.machines.get(identity.lower())
        if machine is None:
            raise NotFoundError(f"{identity} is not a peer of {self.identity}")
        return machine

    async def reset_peer(self, identity: str) -> PeerModel:
        """See :class:`~mpcore.control.service.ControlService`."""
        machine = self.machine(identity)
        if machine.kind == "agent":
            self.resolver.flush(machine.identity)
            self.directory.forget_contact(machine.identity)
        self.log_event("info", f"operator: {machine.identity} is reset", machine.identity)
        await self.peer_event(machine, machine.reset(self.clock.now()))
        return self.peer(machine.identity)

    async def diagnose(self, identity: str, timeout: float) -> Diagnosis:
        """See :class:`~mpcore.control.service.ControlService`."""
        return await Doctor(self, self.machine(identity)).examine(timeout)

    def said_by_others(self, identity: str) -> dict[str, str]:
        """What the other members of our groups report about a peer: member -> the worst word it uses."""
        said: dict[str, str] = {}
        for key in self.elections:
            for row in self.gossip.rows(key):
                word = row.states.get(identity)
                if row.reporter in (self.identity, identity) or row.received_at is None or word is None:
                    continue
                if said.get(row.reporter, "OPERATIONAL") == "OPERATIONAL":
                    said[row.reporter] = word
        return said

    # -------------------------------------------------------------- elections

    async def group_action(self, key: str, request: GroupActionRequest) -> Group:
        """See :class:`~mpcore.control.service.ControlService`."""
        found = self.group(key).hash
        election, now = self.elections[found], self.clock.now()
        act = election.force if request.action is GroupAction.FORCE else election.step_down
        actions = act(now)
        self.log_event("info", f"operator: group {found[:8]}: {request.action.value}", found)
        await self.election_event(found, actions)
        return self.group(found)

    # --------------------------------------------------------- resynchronising

    async def zone_action(self, zone: str, request: ZoneActionRequest) -> ZoneActionResult:
        """See :class:`~mpcore.control.service.ControlService`."""
        name = self._zone_name(zone)
        if request.action is not ZoneAction.RESYNC:
            raise ConflictError(f"an agent publishes no zones: {request.action} is for combiner or signer")
        origin = ZoneName(name).owner
        roles = self.roles.get(origin)
        if roles is None:
            raise NotReadyError(f"{name} is not loaded, or has no HSYNC3 and HSYNCPARAM records")
        said: list[str] = []
        if request.direction in ("push", "both"):
            await self.perform("sde", self.sde.push(name, self.clock.now()))
            others = len(roles.identities()) - 1
            said.append(f"our records are sent to our combiner and {others} other providers")
        if request.direction in ("pull", "both"):
            said.append(await self._pull(name, [item for item in roles.identities() if item != self.identity]))
        message = "; ".join(said)
        self.log_event("info", f"operator: {name}: resync: {message}", name)
        self.changed("edits", name)
        version = self.secondaries[origin].version
        return ZoneActionResult(
            zone=name, action=request.action, serial=None if version is None else version.serial, message=message
        )

    async def _pull(self, zone: str, providers: Sequence[str]) -> str:
        """Ask everybody for what they have; who was asked, and who did not answer, in words."""
        settings = self.agent_settings
        failures: dict[str, str] = {}

        async def ask(recipient: str, kind: str) -> None:
            try:
                with anyio.fail_after(_ANSWER_WITHIN):
                    await self.send(recipient, self.rfi(recipient, zone, kind))
            except (DeliveryError, TimeoutError) as error:
                failures[recipient] = str(error) or "no answer in time"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, settings.combiner.identity, "EDITS")
            tasks.start_soon(ask, settings.signer.identity, "KEYSTATE")
            for identity in providers:
                tasks.start_soon(ask, identity, "SYNC")
        asked = f"our combiner, our signer and {len(providers)} other providers are asked for what they have"
        return "; ".join([asked, *(f"{name} did not answer: {why}" for name, why in sorted(failures.items()))])
