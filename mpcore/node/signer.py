"""A signer at work: the merged zone comes in from the combiner, the signed zone goes out.

By the roles in HSYNC3 and HSYNCPARAM the zone is

* signed here, if we are one of its signers: DNSKEY RRset of own and foreign keys, incremental signatures;
* transferred from our upstream's signer, if others sign it and we only serve it;
* passed through, if nobody signs it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from mpcore.actions import Action, Send, Store
from mpcore.control.models import Key, Peer, Role, Snapshot
from mpcore.errors import ConfigError, ConflictError, NotReadyError, StoreFullError
from mpcore.net.secondary import SecondaryZone
from mpcore.node.base import Receipt
from mpcore.node.configured import configured_view
from mpcore.node.hosting import HostingNode
from mpcore.node.inbound import Incoming
from mpcore.node.keeping import Kept
from mpcore.node.runtime import Runtime
from mpcore.node.settings import SignerSettings
from mpcore.signer.keys import KeyState, SigningKey, algorithm_number, generate_signing_key
from mpcore.signer.plan import STORE_KIND, KeyMachine, KeysChanged, SignalIgnored
from mpcore.signer.signing import SigningPolicy, ZoneSigner
from mpcore.store.database import Database
from mpcore.store.serials import load_serials
from mpcore.store.signer import load_keys, open_signer_database, put_key
from mpcore.store.state import apply_stores
from mpcore.wire.messages import Acknowledgement, Beat, Ping, Rfi, StatusUpdate, rfc3339
from mpcore.wire.messages import KeyState as KeyStateMessage
from mpcore.zone import owners
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.serial import add, next_serial
from mpcore.zone.version import ZoneVersion

__all__ = ("SignerNode",)

logger = logging.getLogger(__name__)

_RESIGN = "resign"
_RESIGN_AGAIN = 60.0  #: seconds until a signing that failed is tried again
_SIGNED, _PASSED, _UPSTREAM = "signed", "passed", "upstream "  #: how a version that is kept was made
_SLICE = 0.005  #: seconds that signing may keep the event loop
_DERIVED = frozenset({46, 47, 48, 59, 60})  #: RRSIG, NSEC, DNSKEY, CDS, CDNSKEY: made by the signer


class _SignedZone:
    """What is kept of a zone that may be signed here."""

    def __init__(self, origin: bytes, keys: KeyMachine, policy: SigningPolicy) -> None:
        self.keys = keys
        self.signer = ZoneSigner(origin, policy)
        self.lock = anyio.Lock()
        self.received: ZoneVersion | None = None  #: from the combiner, as it came
        self.unsigned: ZoneVersion | None = None  #: the same, under another serial where the operator wanted one
        self.made = ""  #: how the version published last was made
        self.upstream: SecondaryZone | None = None
        self.upstream_label: str | None = None
        self.upstream_scope: anyio.CancelScope | None = None


class SignerNode(HostingNode):
    """See the module's text."""

    ROLE = Role.SIGNER

    def __init__(self, settings: SignerSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self._upstreams = {upstream.label: upstream for upstream in settings.upstream_signers}
        self._agents = {agent.identity: agent for agent in settings.agents}
        for agent in settings.agents:
            self.configure(agent)
        passphrase = None
        if settings.key_passphrase_file is not None:
            try:
                passphrase = settings.key_passphrase_file.read_bytes().strip()
            except OSError as error:
                raise ConfigError(f"cannot be read: {error.strerror}", file=str(settings.key_passphrase_file)) from None
        self._algorithm = algorithm_number(settings.algorithm)
        self._passphrase = passphrase
        self._dnskey_ttl = settings.dnskey_ttl
        self._policy = SigningPolicy(
            lifetime=settings.signature_lifetime, refresh=settings.signature_refresh, dnskey_ttl=settings.dnskey_ttl
        )
        self._zones: dict[bytes, _SignedZone] = {}
        self._serials: dict[str, int] = {}
        for origin in self.zone_settings:
            self._zones[origin] = _SignedZone(origin, self._key_machine(origin), self._policy)
            self.add_machine(owners.to_text(origin), partial(self._resign, origin))

    def _key_machine(self, origin: bytes) -> KeyMachine:
        return KeyMachine(
            owners.to_text(origin),
            algorithm=self._algorithm,
            passphrase=self._passphrase,
            dnskey_ttl=self._dnskey_ttl,
            generate=partial(generate_signing_key, random=self.runtime.key_random),
        )

    async def open_database(self, path: Path) -> Database:
        return await open_signer_database(path, self.runtime.executor)

    def read(self, connection: sqlite3.Connection) -> Any:
        machines: dict[bytes, KeyMachine] = {}
        for origin in self._zones:
            machines[origin] = self._key_machine(origin)
            machines[origin].restore(load_keys(connection, owners.to_text(origin)))
        return load_serials(connection), machines

    def restore(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]], stored: Any) -> None:
        self._serials, machines = stored
        for origin, zone in self._zones.items():
            zone.keys = machines[origin]

    async def reload(self) -> None:
        await super().reload()
        for origin, zone in self._zones.items():
            if zone.unsigned is not None:
                actions = await self._zone_loaded(origin, zone.unsigned, self.roles.get(origin))
                self.restored.append((owners.to_text(origin), actions))

    async def _zone_loaded(self, origin: bytes, version: ZoneVersion, roles: ZoneRoles | None) -> list[Action]:
        """Tell the keys which version of the zone there is, and by its roles who signs it.

        Keys that it needs are made in a worker: RSA takes hundreds of milliseconds.
        """
        own = self._own_identity(roles)
        keys, signs = self._zones[origin].keys, self._signs(roles, own)
        made: list[SigningKey] = []
        for ksk in keys.wanted(sign=signs):
            made.append(await self.runtime.run_blocking(keys.make, ksk, version, self.clock.now(), tuple(made)))
        return keys.zone_loaded(
            version,
            sign=signs,
            shared=roles is not None and own is not None and bool(roles.other_signers(own)),
            now=self.clock.now(),
            made=made,
        )

    @staticmethod
    def _signs(roles: ZoneRoles | None, own: str | None) -> bool:
        return roles is not None and own is not None and roles.is_signer(own)

    def store(self, connection: sqlite3.Connection, stores: Sequence[Store]) -> None:
        for action in stores:
            if action.kind == STORE_KIND:
                put_key(connection, action.key, action.value)
        apply_stores(connection, [action for action in stores if action.kind != STORE_KIND])

    # ------------------------------------------------------------------ zones

    async def incoming(self, origin: bytes, version: ZoneVersion, roles: ZoneRoles | None) -> None:
        zone = self._zones[origin]
        name = owners.to_text(origin)
        own = self._own_identity(roles)
        signs = self._signs(roles, own)
        self.roles[origin] = roles
        self._follow_upstream(origin, roles, own, wanted=roles is not None and roles.signed and not signs)
        async with zone.lock:
            zone.received = zone.unsigned = version
            actions = await self._zone_loaded(origin, version, roles)
            # The zone is signed below in any case; what is left to do about the keys is to store and tell them.
            await self.perform(name, actions)
            if signs:
                await self._sign(origin)
            elif roles is None or not roles.signed:
                await self._publish(version, version.serial)
            else:  # what is served is the upstream's
                staged = self.stage(origin, version, self.kept[origin].outgoing, None, zone.made)
                await self.perform(name, [], write=staged.write, committed=staged.commit)
        self.changed("keys", name)

    async def resume_zone(self, origin: bytes, kept: Kept, roles: ZoneRoles | None) -> None:
        zone, name = self._zones[origin], owners.to_text(origin)
        own = self._own_identity(roles)
        signs = self._signs(roles, own)
        self.roles[origin] = roles
        # Only what was published last under the serial stored may be served again.
        last = kept.outgoing if kept.outgoing is not None and kept.outgoing.serial == self._serials.get(name) else None
        zone.made = kept.made
        async with zone.lock:
            zone.received = zone.unsigned = kept.incoming
            actions = await self._zone_loaded(origin, kept.incoming, roles)
            await self.perform(name, actions)
            if signs:
                if last is not None and kept.made == _SIGNED:
                    await self.runtime.run_blocking(zone.signer.resume, kept.incoming, last)
                    self.serve(last)
                await self._sign(origin)
            elif roles is None or not roles.signed:
                if last is not None and kept.made == _PASSED:
                    self.serve(last)
                else:
                    await self._publish(kept.incoming, None)
        wanted = roles is not None and roles.signed and not signs
        self._follow_upstream(origin, roles, own, wanted=wanted, last=last)

    def _own_identity(self, roles: ZoneRoles | None) -> str | None:
        if roles is None:
            return None
        return next((agent for agent in self._agents if roles.provider_of(agent) is not None), None)

    async def bump(self, origin: bytes) -> None:
        zone = self._zones[origin]
        name = owners.to_text(origin)
        async with zone.lock:
            if zone.upstream is not None:
                raise ConflictError(
                    f"the serial of {name} is that of the signer at {zone.upstream_label}; bump it there"
                )
            if zone.unsigned is None:
                raise NotReadyError(f"{name} is not loaded yet")
            if zone.keys.signs:
                # Another SOA makes another version, signed under the next serial.
                zone.unsigned = zone.unsigned.with_serial(add(zone.unsigned.serial, 1))
                await self._sign(origin)
            else:
                await self._publish(zone.unsigned, None)

    async def _publish(self, version: ZoneVersion, inbound: int | None) -> None:
        """Pass the zone through under a serial of our own."""
        origin, name = version.origin, owners.to_text(version.origin)
        serial = next_serial(self._serials.get(name), self.serial_policy(origin), self.clock.now(), inbound=inbound)
        await self._keep_and_publish(origin, version.with_serial(serial), _PASSED)

    async def _keep_and_publish(self, origin: bytes, version: ZoneVersion, made: str) -> None:
        zone, name = self._zones[origin], owners.to_text(origin)
        assert zone.received is not None
        staged = self.stage(origin, zone.received, version, version.serial, made)
        await self.perform(name, [], write=staged.write, committed=staged.commit)
        zone.made = made
        self._serials[name] = version.serial
        self.publish(version)

    async def _sign(self, origin: bytes) -> None:
        """Sign what came in last and serve it; the caller holds the zone's lock."""
        zone = self._zones[origin]
        name = owners.to_text(origin)
        if zone.unsigned is None:
            raise NotReadyError(f"{name} is not loaded yet")
        now = self.clock.now()
        serial = next_serial(self._serials.get(name), self.serial_policy(origin), now, inbound=zone.unsigned.serial)
        zone.signer.set_keys(zone.keys.keys, zone.keys.foreign)
        steps = zone.signer.signing_steps(zone.unsigned, now, serial)
        slice_end = anyio.current_time() + _SLICE
        while True:
            try:
                next(steps)
            except StopIteration as end:
                signed: ZoneVersion = end.value
                break
            if anyio.current_time() >= slice_end:
                await anyio.lowlevel.checkpoint()
                slice_end = anyio.current_time() + _SLICE
        if self.newest(origin) is not signed:
            await self._keep_and_publish(origin, signed, _SIGNED)
        elif zone.received is not None and zone.received is not self.kept[origin].incoming:
            staged = self.stage(origin, zone.received, signed, None, _SIGNED)
            await self.perform(name, [], write=staged.write, committed=staged.commit)
        due = zone.signer.next_due()
        if due is not None:
            self.set_timer(name, _RESIGN, max(due, now + 1), partial(self._resign, origin))

    async def _resign(self, origin: bytes, name: str, now: float) -> None:
        zone = self._zones[origin]
        async with zone.lock:
            if not zone.keys.signs:
                return
            try:
                await self._sign(origin)
            except StoreFullError:
                self.set_timer(owners.to_text(origin), _RESIGN, now + _RESIGN_AGAIN, partial(self._resign, origin))
                raise

    # --------------------------------------------------------------- upstream

    def _follow_upstream(
        self,
        origin: bytes,
        roles: ZoneRoles | None,
        own: str | None,
        *,
        wanted: bool,
        last: ZoneVersion | None = None,
    ) -> None:
        """Begin or end transferring a zone that others sign.

        :param last: what a former run served.
        """
        zone = self._zones[origin]
        name = owners.to_text(origin)
        label = None
        if wanted and roles is not None:
            provider = roles.provider_of(own) if own is not None else None
            label = provider.upstream if provider is not None else None
            if not label:
                self.warn(
                    f"upstream {name}", f"{name}: others sign it, and HSYNC3 gives us no upstream to serve it from"
                )
            elif label not in self._upstreams:
                self.warn(
                    f"upstream {name}", f"{name}: upstream_signers has no entry for {label}, our upstream in HSYNC3"
                )
                label = None
            else:
                self.warn(f"upstream {name}", None)
        if label == zone.upstream_label:
            return
        if zone.upstream_scope is not None:
            zone.upstream_scope.cancel()
        zone.upstream_label, zone.upstream, zone.upstream_scope = label or None, None, None
        if label:
            # The unsigned zone is not served any more; until the signed one is here, nothing is.
            self.withdraw(origin)
            zone.upstream_scope = anyio.CancelScope()
            zone.upstream = self.make_secondary(
                origin, [self._upstreams[label]], partial(self._from_upstream, origin), source=_UPSTREAM + label
            )
            same = last is not None and zone.made == _UPSTREAM + label
            if last is not None and same and self.restore_secondary(zone.upstream, last, _UPSTREAM + label):
                self.serve(last)
            self.tasks.start_soon(self._run_upstream, zone.upstream, zone.upstream_scope)

    async def _run_upstream(self, upstream: SecondaryZone, scope: anyio.CancelScope) -> None:
        with scope:
            await upstream.run()

    async def _from_upstream(self, origin: bytes, version: ZoneVersion) -> None:
        name = owners.to_text(origin)
        zone = self._zones[origin]
        async with zone.lock:
            if zone.upstream_label is None:
                return  # meanwhile we have come to sign it ourselves
            # Serials of a signed zone are its signer's: our secondaries see the same zone everywhere.
            await self._keep_and_publish(origin, version, _UPSTREAM + zone.upstream_label)
        self.changed("zone", name)
        self.look_whether_ready()

    def notifiable(self, origin: bytes) -> Sequence[SecondaryZone]:
        upstream = self._zones[origin].upstream
        return [self.secondaries[origin]] if upstream is None else [self.secondaries[origin], upstream]

    def identities(self) -> Sequence[str]:
        return tuple(self._agents)

    def origin_of(self, origin: bytes, owner: bytes, rdtype: int, rdata: bytes) -> str:
        if self._zones[origin].keys.signs and rdtype in _DERIVED:
            return "signer"
        return "owner"

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
            case KeyStateMessage():
                return await self._signal(incoming, message)
            case Rfi():
                if message.rfi_type == "KEYSTATE":
                    self._send_inventory(self.zone_origin(message.zone), incoming.sender)
                return self.acknowledge(incoming, message=f"rfi received from {incoming.sender}")
            case StatusUpdate():
                return self.acknowledge(incoming)
            case _:
                return self.unsupported(incoming)

    async def _signal(self, incoming: Incoming, message: KeyStateMessage) -> Acknowledgement:
        origin = self.zone_origin(message.zone)
        zone = self._zones[origin]
        acknowledgement = self.acknowledge(
            incoming, message=f"keystate {message.signal} received for zone {message.zone}"
        )
        actions = zone.keys.signal(
            message.signal, message.key_tag, message.algorithm, incoming.now, message.message or ""
        )
        await self.perform(message.zone, actions, receipt=Receipt(incoming, acknowledgement))
        return acknowledgement

    def carry_out(self, machine: str, action: Action) -> None:
        match action:
            case KeysChanged():
                origin = self.zone_origin(action.zone)
                self.changed("keys", action.zone)
                if action.distribute:
                    for agent in self._agents:
                        self._send_inventory(origin, agent)
                if self._zones[origin].unsigned is not None and self._zones[origin].keys.signs:
                    self.set_timer(action.zone, _RESIGN, self.clock.now(), partial(self._resign, origin))
            case SignalIgnored():
                logger.info("%s: signal for key %d changes nothing: %s", action.zone, action.key_tag, action.reason)
            case _:
                super().carry_out(machine, action)

    def _send_inventory(self, origin: bytes, agent: str) -> None:
        zone = self._zones[origin]
        message = KeyStateMessage(
            my_identity=self.identity,
            your_identity=agent,
            zone=owners.to_text(origin),
            key_tag=0,
            algorithm=0,
            signal="inventory",
            message="",
            key_inventory=zone.keys.inventory() if zone.keys.signs else None,
            time=rfc3339(self.clock.now()),
        )
        self.spawn(self.send_once, Send(agent, message, self.new_distribution_id()))

    # ---------------------------------------------------------------- service

    def peers(self) -> list[Peer]:
        """See :class:`~mpcore.control.service.ControlService`."""
        zones = tuple(zone.name for zone in self.zone_settings.values())
        return [
            configured_view(agent, "agent", self.directory, self.started_at, zones) for agent in self._agents.values()
        ]

    def keys(self, zone: str) -> list[Key]:
        """See :class:`~mpcore.control.service.ControlService`."""
        origin = self.zone_origin(zone)
        name = owners.to_text(origin)
        machine = self._zones[origin].keys
        return [
            Key(
                zone=name,
                key_tag=entry.key_tag,
                algorithm=entry.algorithm,
                flags=entry.flags,
                state=entry.state,
                foreign=entry.state == KeyState.FOREIGN,
                record=entry.keyrr,
            )
            for entry in machine.inventory()
        ]

    def snapshot(self) -> Snapshot:
        """See :class:`~mpcore.control.service.ControlService`."""
        return (
            super()
            .snapshot()
            .model_copy(
                update={"keys": tuple(key for zone in self.zone_settings.values() for key in self.keys(zone.name))}
            )
        )
