"""What an operator may order an agent to do besides changing records: peers, elections, resynchronising."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import anyio

from mpcore.actions import Action, Store
from mpcore.control.models import (
    Diagnosis,
    Group,
    GroupAction,
    GroupActionRequest,
    MessageKey,
    MessageKeyAction,
    MessageKeyRequest,
    MessageKeys,
    ZoneAction,
    ZoneActionRequest,
    ZoneActionResult,
)
from mpcore.control.models import Peer as PeerModel
from mpcore.errors import ConflictError, DeliveryError, NotFoundError, NotReadyError
from mpcore.names import ZoneName
from mpcore.node.agent_service import AgentService
from mpcore.node.doctor import Doctor
from mpcore.node.https import HttpsTransport
from mpcore.node.keyroll import OVERLAP, KeyFiles, StoredKeys
from mpcore.node.relocation import Relocations
from mpcore.node.runtime import Runtime
from mpcore.node.settings import AgentSettings
from mpcore.peer.machine import Peer
from mpcore.wire.messages import Ping, Rfi, rfc3339
from mpcore.wire.seal import PrivateKey

__all__ = ("KEY_ROLL", "AgentOrders")

KEY_ROLL = "key-roll"
"""Kind of the document that says when a step of a key roll-over was taken."""

_ADVICE = {
    "steady": "no roll-over is under way; 'mpcockpit agent key prepare' begins one",
    "prepared": "give both keys to our combiner and signer, wait, then 'mpcockpit agent key switch'",
    "switched": "wait, then 'mpcockpit agent key finish'; combiner and signer may forget the former key then",
}
_PROOFS, _PROOF_PAUSE = 3, 0.5  #: pings that show whether a peer knows a key, and seconds between them
_ANSWER_WITHIN = 10.0  #: seconds for the acknowledgements of what a resynchronisation asks for


class AgentOrders(AgentService):
    """Orders of the operator, carried out by the machines of :class:`~mpcore.node.agent.AgentNode`."""

    agent_settings: AgentSettings
    key_files: KeyFiles
    stored_keys: StoredKeys
    relocations: Relocations
    https: HttpsTransport | None

    def __init__(self, settings: AgentSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self._rolling = anyio.Lock()
        self._rolled_at: float | None = None

    @abstractmethod
    async def peer_event(self, peer: Peer, actions: Sequence[Action]) -> None:
        """Carry out what a peer machine asked for."""

    @abstractmethod
    async def election_event(self, key: str, actions: Sequence[Action]) -> None:
        """Carry out what an election asked for."""

    @abstractmethod
    def rfi(self, recipient: str, zone: str, kind: str) -> Rfi:
        """A request for information."""

    @abstractmethod
    async def keys_changed(self, stored: StoredKeys) -> None:
        """Use and publish the keys that the files hold now."""

    # ------------------------------------------------------------------- keys

    def restore_key_roll(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """When the steps of a roll-over were taken: the documents of kind :data:`KEY_ROLL`."""
        since = state.get("step", {}).get("since")
        self._rolled_at = float(since) if isinstance(since, int | float) else None

    def message_keys(self) -> MessageKeys:
        """See :class:`~mpcore.control.service.ControlService`."""
        stored = self.stored_keys
        held: tuple[tuple[Literal["current", "next", "previous"], PrivateKey | None], ...] = (
            ("current", stored.current),
            ("next", stored.next),
            ("previous", stored.previous),
        )
        keys = [
            MessageKey(thumbprint=key.public().thumbprint, jwk=key.public().to_jwk(), use=use)
            for use, key in held
            if key is not None
        ]
        since = self._rolled_at if stored.step != "steady" else None
        ready_at = None if since is None else since + OVERLAP
        return MessageKeys(
            identity=self.identity,
            keys=tuple(keys),
            step=stored.step,
            since=since,
            ready_at=ready_at,
            advice=_ADVICE[stored.step],
        )

    async def message_key_action(self, request: MessageKeyRequest) -> MessageKeys:
        """See :class:`~mpcore.control.service.ControlService`."""
        async with self._rolling:
            action, step = request.action, self.stored_keys.step
            wanted = {
                MessageKeyAction.PREPARE: "steady",
                MessageKeyAction.SWITCH: "prepared",
                MessageKeyAction.FINISH: "switched",
                MessageKeyAction.CANCEL: "prepared",
            }[action]
            if step != wanted:
                raise ConflictError(f"{action.value} is not possible now, the step is {step}: {_ADVICE[step]}")
            if action in (MessageKeyAction.SWITCH, MessageKeyAction.FINISH) and not request.force:
                self._due(action)
                if action is MessageKeyAction.SWITCH:
                    await self._known_to_own()
            stored = await self.runtime.run_blocking(getattr(self.key_files, action.value))
            now = self.clock.now()
            self._rolled_at = now
            await self.perform("keys", [Store(KEY_ROLL, "step", {"step": stored.step, "since": now})])
            await self.keys_changed(stored)
            self.log_event("info", f"operator: message key: {action.value}", self.identity)
            return self.message_keys()

    def _due(self, action: MessageKeyAction) -> None:
        now = self.clock.now()
        ready_at = (self._rolled_at or now) + OVERLAP
        if now < ready_at:
            raise NotReadyError(
                f"{action.value} is safe in {ready_at - now:.0f} s, when every peer has looked our records up again"
            )

    async def _known_to_own(self) -> None:
        """See that our combiner and signer take what the next key signs; :raises ConflictError: one does not."""
        settings = self.agent_settings
        for identity in (settings.combiner.identity, settings.signer.identity):
            error = "it is not configured"
            for _ in range(_PROOFS):  # the first failure makes it read its files again
                failure = await self._proof(identity)
                if failure is None:
                    break
                error = failure
                await anyio.sleep(_PROOF_PAUSE)
            else:
                raise ConflictError(
                    f"{identity} does not take messages signed with the next key ({error}): put both keys into its "
                    "public_key_file for us, as the JWK Set that 'mpcockpit agent key show' writes"
                )

    async def _proof(self, identity: str) -> str | None:
        """Send a ping signed with the next key; why that was not taken."""
        contact = self.directory.get(identity)
        nonce = f"{self.runtime.random.getrandbits(64):016x}"
        message = Ping(my_identity=self.identity, your_identity=identity, nonce=nonce, time=rfc3339(self.clock.now()))
        if contact is None:
            return "it is not configured"
        try:
            await self.outbound.exchange(contact, message, self.new_distribution_id(), key=self.stored_keys.next)
        except DeliveryError as error:
            return str(error)
        return None

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
            self.relocations.forget(machine.identity)
        self.log_event("info", f"operator: {machine.identity} is reset", machine.identity)
        await self.peer_event(machine, machine.reset(self.clock.now()))
        return self.peer(machine.identity)

    async def diagnose(self, identity: str, timeout: float) -> Diagnosis:
        """See :class:`~mpcore.control.service.ControlService`."""
        return await Doctor(self, self.machine(identity)).examine(timeout)

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
