"""An agent at work: peers, groups, elections, and the synchronised data of its zones.

Four machines do the thinking: one :class:`~mpcore.peer.machine.Peer` for each peer, the
:class:`~mpcore.group.gossip.GossipTable`, one :class:`~mpcore.group.election.Election` for each group, and
:class:`~mpcore.sde.engine.SynchronisedData`.  This node feeds them with what arrives and carries out what they ask for.
Heartbeats and elections never wait for data: nothing here holds a lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from mpcore.actions import Action, Send
from mpcore.control.models import Peer as PeerModel
from mpcore.control.models import Role
from mpcore.errors import DeliveryError, MpError, ZoneError, ZoneRefusedError
from mpcore.group.actions import Broadcast, LeaderChanged, Leadership
from mpcore.group.ballot import Ballot
from mpcore.group.election import Election
from mpcore.group.gossip import GossipTable
from mpcore.group.groups import ProviderGroup, provider_groups
from mpcore.names import ZoneName
from mpcore.net.hooks import Refresh
from mpcore.net.messages import SOA
from mpcore.net.notify import Notifier, NotifyReceiver
from mpcore.net.resolver import Resolver, load_trust_anchors
from mpcore.net.secondary import SecondaryZone
from mpcore.net.transfer import TransferServer
from mpcore.node.agent_https import CERTIFICATE_ROLL, AgentHttps
from mpcore.node.agent_orders import KEY_ROLL
from mpcore.node.base import Receipt
from mpcore.node.directory import Contact
from mpcore.node.hosting import AXFR, IXFR, source_host
from mpcore.node.identity import IdentityZone
from mpcore.node.inbound import Incoming
from mpcore.node.keyroll import KeyFiles, StoredKeys
from mpcore.node.relocation import Relocations
from mpcore.node.runtime import Runtime
from mpcore.node.settings import AgentSettings, ConfiguredPeer
from mpcore.node.suspicion import PATIENCE, ourselves_suspected
from mpcore.peer import discovery
from mpcore.peer.actions import Discover, Forget, SendBeat, SendHello, StateChanged
from mpcore.peer.machine import Peer, PeerSettings
from mpcore.peer.outbound_entry import OutboundEntry
from mpcore.sde.actions import KeysPropagated, TransactionChanged, ZoneChanged
from mpcore.sde.engine import SynchronisedData
from mpcore.signer.inventory import contributed
from mpcore.signer.keys import KeyState as KeyStage
from mpcore.store.agent import open_agent_database
from mpcore.store.database import Database
from mpcore.wire.messages import (
    Acknowledgement,
    Beat,
    Confirm,
    Edits,
    GossipMessage,
    Hello,
    KeyInventoryEntry,
    KeyState,
    Message,
    Ping,
    Relocate,
    Rfi,
    StatusUpdate,
    Sync,
    rfc3339,
)
from mpcore.wire.seal import PublicKey
from mpcore.zone import owners
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.version import Difference, ZoneVersion

__all__ = ("AgentNode",)

logger = logging.getLogger(__name__)

_SDE = "sde"
_DNSKEY = 48
_EVALUATE = "evaluate"
_DISCOVERY_LIMIT = 30.0  #: seconds for all look-ups of one discovery
_LEGACY_MAY = (Hello, Beat, Ping)
_FIRST_PAUSE = 0.1
_RESIGN_AGAIN = 60.0  #: seconds until a signing that failed is tried again
_LOOK_AGAIN = 2.0  #: seconds between look-ups of a peer whose messages do not verify
_ASK_AGAIN = 5.0  #: seconds until combiner or signer is asked again for what it has not sent


class AgentNode(AgentHttps):
    """See the module's text."""

    ROLE = Role.AGENT

    def __init__(self, settings: AgentSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self.agent_settings = settings
        self.peer_settings = PeerSettings(
            beat_interval=settings.beat_interval,
            hello_fast_attempts=settings.hello_fast_attempts,
            hello_fast_interval=settings.hello_fast_interval,
            hello_retry=settings.hello_retry,
            discovery_retry=settings.discovery_retry,
        )
        self.gossip = GossipTable(self.identity, settings.beat_interval)
        self.zone_settings = {ZoneName(zone.name).owner: zone for zone in settings.zones}
        for peer in (settings.combiner, settings.signer):
            self.configure(peer)
        host = source_host(settings)
        self.resolver = runtime.resolver or Resolver(
            runtime.network,
            trust_anchors=load_trust_anchors(settings.resolver.trust_anchor_file),
            root_hints=settings.resolver.root_hints,
            forwarders=[(forwarder.address, forwarder.port) for forwarder in settings.resolver.forwarders],
            port=settings.resolver.port,
            clock=runtime.clock,
            random=runtime.random,
            timeout=settings.resolver.timeout,
        )
        self.key_files = KeyFiles(settings.key_file, settings.next_key_file)
        self.stored_keys = self.key_files.load()
        self.own_keys.set(self.stored_keys.current, self.stored_keys.others)
        self.identity_zone = IdentityZone(settings, self.key.public(), runtime.clock)
        self._publish_keys()
        self.publish_certificate()
        origin = ZoneName(self.identity).owner
        self.notifier = Notifier(
            runtime.network,
            {origin: settings.identity_zone.secondaries},
            self.keyring,
            clock=runtime.clock,
            random=runtime.random,
            local_host=host,
        )
        transfers = TransferServer(self.served, {origin: self.identity_zone.acl}, run=runtime.run_blocking)
        self.hooks.on_query(AXFR, "transfers", transfers.handle)
        self.hooks.on_query(IXFR, "transfers", transfers.handle)
        self.hooks.before_refresh("roles", self._check_roles)
        self.hooks.first_load("keys", self._first_keys)
        self.hooks.changed_rrsets("keys", self._keys_of_zone_changed, apex=True, types={_DNSKEY})
        for zone_origin, zone in self.zone_settings.items():
            self.secondaries[zone_origin] = SecondaryZone(
                runtime.network,
                zone_origin,
                zone.primaries,
                self.keyring,
                clock=runtime.clock,
                random=runtime.random,
                min_refresh=settings.min_refresh,
                max_refresh=settings.max_refresh,
                on_version=partial(self._zone_arrived, zone_origin),
                on_state=lambda secondary: self.changed("zone", owners.to_text(secondary.origin)),
                hooks=self.hooks,
                local_host=host,
                run=runtime.run_blocking,
            )
        self.hooks.on_notify(SOA, "refreshes", NotifyReceiver(self.secondaries).handle)
        self._inventories: dict[str, list[KeyInventoryEntry]] = {}
        self._ballots: set[tuple[str, Ballot]] = set()  #: on their way, by recipient
        self.relocations = Relocations()
        self._next_look: dict[str, float] = {}  #: peer -> when its key may be looked up again because of a message
        self.add_machine(_SDE, self._sde_timer)

    def chunk_endpoint(self, recipient: str) -> str | None:
        settings = self.agent_settings
        if settings.chunk_query_endpoint == "none" or recipient in (
            settings.combiner.identity,
            settings.signer.identity,
        ):
            return None
        endpoint = settings.publish[0]  # where other agents find us, and the only place where they look
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        return f"{host}:{endpoint.port}"

    # ------------------------------------------------------------------- life

    async def open_database(self, path: Path) -> Database:
        return await open_agent_database(path, self.runtime.executor)

    def restore(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]], stored: Any) -> None:
        self.sde = SynchronisedData(
            self.identity,
            self.agent_settings.combiner.identity,
            new_distribution_id=self.new_distribution_id,
            new_nonce=self.new_nonce,
        )
        self.sde.restore(state)
        self._terms = {key: int(value.get("term", 0)) for key, value in state.get("term", {}).items()}
        self.identity_zone.restore(state)
        self.restore_key_roll(state.get(KEY_ROLL, {}))
        self.restore_certificate(state.get(CERTIFICATE_ROLL, {}))

    async def reload(self) -> None:
        await super().reload()
        for roles in self.roles.values():
            if roles is not None:
                self.restored.append((_SDE, self.sde.set_roles(roles.zone, roles, self.clock.now())))

    async def start(self) -> None:
        await self.tasks.start(self.notifier.run)
        await self.serve_https()
        await self.perform("identity", self.identity_zone.load(self.clock.now()))
        await self._publish_identity()
        for kind, configured in (("combiner", self.agent_settings.combiner), ("signer", self.agent_settings.signer)):
            await self._start_configured(kind, configured)
        for secondary in self.secondaries.values():
            self.tasks.start_soon(secondary.run)
        for zone in self.agent_settings.zones:
            self.tasks.start_soon(self._ask_until_told, zone.name)
        if not self.agent_settings.zones:
            self.mark_ready()

    async def _start_configured(self, kind: str, configured: ConfiguredPeer) -> None:
        known = self.directory.get(configured.identity)
        assert known is not None
        contact = discovery.Contact(addresses=(configured.address,), port=configured.port, jwk=known.key.to_jwk())
        peer = Peer(configured.identity, kind, self.peer_settings, contact=contact)  # type: ignore[arg-type]
        await self._add_peer(peer)

    def _publish_keys(self) -> None:
        following = self.stored_keys.next
        self.identity_zone.set_keys(
            self.stored_keys.current.public(), None if following is None else following.public()
        )

    async def keys_changed(self, stored: StoredKeys) -> None:
        self.stored_keys = stored
        self.own_keys.set(stored.current, stored.others)
        self._publish_keys()
        await self.publish_again()

    async def publish_again(self) -> None:
        await self._resign_identity("keys", self.clock.now())

    async def _publish_identity(self) -> None:
        version = self.identity_zone.version
        self.served[version.origin] = version
        self.notifier.notify(version)
        self.set_timer("identity", "resign", self.identity_zone.next_due(), self._resign_identity)

    async def _resign_identity(self, name: str, now: float) -> None:
        self.set_timer("identity", "resign", now + _RESIGN_AGAIN, self._resign_identity)
        await self.perform("identity", self.identity_zone.load(now))
        await self._publish_identity()

    async def _ask_until_told(self, zone: str) -> None:
        """Ask our combiner for the contributions that it keeps, and our signer for its keys, until both have answered.

        Where the zone is not signed here, the signer's answer is an empty inventory.
        """
        pause = _FIRST_PAUSE
        while True:
            for kind, recipient, told in (
                ("EDITS", self.agent_settings.combiner.identity, self._told_edits),
                ("KEYSTATE", self.agent_settings.signer.identity, self._told_keys),
            ):
                if zone not in told:
                    await self.send_once(Send(recipient, self.rfi(recipient, zone, kind), self.new_distribution_id()))
            if zone in self._told_edits and zone in self._told_keys:
                return
            await anyio.sleep(pause)
            pause = min(_ASK_AGAIN, pause * 1.5)

    def rfi(self, recipient: str, zone: str, kind: str) -> Rfi:
        return Rfi(
            originator_id=self.identity,
            your_identity=recipient,
            zone=zone,
            time=rfc3339(self.clock.now()),
            rfi_type=kind,
        )

    def ready_recipients(self) -> Iterable[str]:
        return self._ready_peers

    # ------------------------------------------------------------------ zones

    async def _check_roles(self, refresh: Refresh) -> None:
        """A mistake in HSYNC3 must not change who may do what: the roles in force stay."""
        name = owners.to_text(refresh.origin)
        try:
            ZoneRoles.from_version(refresh.new)
        except ZoneError as error:
            self.zone_errors[refresh.origin] = str(error)
            self.warn(f"zone {name}", f"{name}: {error}")
            raise ZoneRefusedError(str(error)) from None
        self.zone_errors.pop(refresh.origin, None)

    async def _first_keys(self, version: ZoneVersion) -> None:
        if version.get(version.origin, _DNSKEY) is not None:
            self._ask_keys(version.origin)

    async def _keys_of_zone_changed(self, origin: bytes, changes: Sequence[Difference]) -> None:
        self._ask_keys(origin)

    def _ask_keys(self, origin: bytes) -> None:
        """The DNSKEY RRset of a zone is another: our signer says which keys in it are its own."""
        signer, name = self.agent_settings.signer.identity, owners.to_text(origin)
        self.spawn(self.send_once, Send(signer, self.rfi(signer, name, "KEYSTATE"), self.new_distribution_id()))

    async def _zone_arrived(self, origin: bytes, version: ZoneVersion) -> None:
        name = owners.to_text(origin)
        roles = ZoneRoles.from_version(version)
        listed = roles is not None and roles.provider_of(self.identity) is not None
        if roles is None:
            self.warn(f"zone {name}", f"{name} has no HSYNC3 and HSYNCPARAM records: there is nobody to agree with")
        elif not listed:
            self.warn(f"zone {name}", f"{name}: {self.identity} is not listed in its HSYNC3 records")
        else:
            self.warn(f"zone {name}", None)
        if origin not in self.roles or roles != self.roles[origin]:
            now = self.clock.now()
            await self.perform(_SDE, self.sde.set_roles(name, roles if listed else None, now))
            self.roles[origin] = roles
            await self.perform(_SDE, self._own_keys(name, now))
            await self._regroup(now)
        self.changed("zone", name)
        if all(zone in self.roles for zone in self.zone_settings):
            self.mark_ready()

    async def _regroup(self, now: float) -> None:
        """Peers, groups and elections follow from the roles of all zones."""
        listed = [
            roles for roles in self.roles.values() if roles is not None and roles.provider_of(self.identity) is not None
        ]
        shared: dict[str, list[str]] = {}
        for roles in listed:
            for identity in roles.identities():
                if identity != self.identity:
                    shared.setdefault(identity, []).append(roles.zone)
        for identity in [*shared, *self.machines]:
            machine = self.machines.get(identity)
            if machine is None:
                machine = Peer(identity, "agent", self.peer_settings)
                actions = machine.set_zones(shared[identity], now)
                await self._add_peer(machine, actions)
            elif machine.kind == "agent":
                await self.peer_event(machine, machine.set_zones(shared.get(identity, ()), now))
            else:
                await self.peer_event(machine, machine.set_zones([roles.zone for roles in listed], now))
        groups = {key: group for key, group in provider_groups(listed).items() if self.identity in group.members}
        await self._set_groups(groups, now)

    async def _set_groups(self, groups: Mapping[str, ProviderGroup], now: float) -> None:
        self.gossip.set_groups(groups, now)
        for key in [key for key in self.elections if key not in groups]:
            del self.elections[key]
            self.remove_machine(f"election {key}")
            self.event_log.publish("group-removed", key, {"hash": key}, now)
        for key, group in groups.items():
            election = self.elections.get(key)
            if election is None:
                self.elections[key] = self._election(group)
                self.add_machine(f"election {key}", partial(self._election_timer, key))
            else:
                await self.election_event(key, election.group_changed(group, now))
            self.changed("group", key)
        await self._own_states(now)
        await self._evaluate(groups, now)

    def _election(self, group: ProviderGroup) -> Election:
        return Election(
            self.identity,
            group,
            random=self.runtime.random,
            term=self._terms.get(group.hash, 0),
            leader_ttl=self.agent_settings.leader_ttl,
            beat_interval=self.agent_settings.beat_interval,
        )

    # ------------------------------------------------------------------ peers

    async def _add_peer(self, peer: Peer, first: Sequence[Action] = ()) -> None:
        self.machines[peer.identity] = peer
        self.add_machine(f"peer {peer.identity}", partial(self._peer_timer, peer))
        await self.peer_event(peer, [*first, *peer.start(self.clock.now())])

    async def peer_event(self, peer: Peer, actions: Sequence[Action]) -> None:
        if self.machines.get(peer.identity) is not peer:
            return  # it was forgotten meanwhile
        await self.perform(f"peer {peer.identity}", actions)
        ready = peer.ready
        if ready != (peer.identity in self._ready_peers):
            now = self.clock.now()
            if ready:
                self._ready_peers.add(peer.identity)
                await self.perform("queue", self.queue.recipient_ready(peer.identity, now))
            else:
                self._ready_peers.discard(peer.identity)
                await self.perform("queue", self.queue.recipient_not_ready(peer.identity, now))
        self.changed("peer", peer.identity)

    async def _peer_timer(self, peer: Peer, name: str, now: float) -> None:
        if name == "health":
            await self._judge_ourselves(now)
        await self.peer_event(peer, peer.timer(name, now))

    async def _judge_ourselves(self, now: float) -> None:
        """Where most peers are late at once, the fault is likely ours: give them more time, and say so."""
        suspected = ourselves_suspected(self.machines.values(), now)
        self.suspected = suspected
        text = None
        if suspected is not None:
            late, of = suspected
            text = (
                f"{late} of {of} peers are late at the same time: the fault is probably ours; "
                "look at this host, its clock and its network"
            )
        self.warn("ourselves", text)
        patience = 1.0 if suspected is None else PATIENCE
        for other in list(self.machines.values()):
            if other.kind == "agent":
                actions = other.set_patience(patience, now)
                if actions:
                    await self.peer_event(other, actions)

    async def _own_states(self, now: float) -> None:
        """Our gossip row follows the states of the peers; a change of it goes out with a beat at once."""
        states = {identity: peer.gossip_state for identity, peer in self.machines.items() if peer.kind == "agent"}
        if self.gossip.set_own_states(states, now):
            for peer in list(self.machines.values()):
                if peer.kind == "agent":
                    await self.peer_event(peer, peer.own_row_changed(now))

    async def _state_changed(self, action: StateChanged) -> None:
        self.log_event("info", f"{action.identity}: {action.old} -> {action.new}: {action.reason}", action.identity)
        now = self.clock.now()
        await self._own_states(now)
        await self._evaluate(self.gossip.groups, now)
        if action.new == "OPERATIONAL" and action.old in ("DEGRADED", "INTERRUPTED"):
            await self.recipient_ready(action.identity)  # what waits for it need not wait for its back-off

    async def _discover(self, action: Discover) -> None:
        peer = self.machines.get(action.identity)
        if peer is None:
            return
        if action.flush:
            self.resolver.flush(action.identity)
        plan = discovery.discovery_plan(action.identity, https=self.https is not None)
        try:
            with anyio.fail_after(_DISCOVERY_LIMIT):
                contact = await self._look_up(plan)
            key, other = self._keys_of(action.identity, contact)
        except (MpError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_DISCOVERY_LIMIT:g} s"
            await self.peer_event(peer, peer.discovery_failed(reason, self.clock.now()))
            return
        if self.machines.get(action.identity) is not peer:
            return  # it was forgotten meanwhile
        addresses = self._addresses_of(action.identity, contact)
        self.directory.put(Contact(action.identity, addresses, key, other, contact.https))
        await self.peer_event(peer, peer.discovered(contact, self.clock.now()))

    def _addresses_of(self, identity: str, found: discovery.Contact) -> tuple[tuple[str, int], ...]:
        addresses = tuple((address, found.port) for address in found.addresses)
        return self.relocations.addresses(identity, addresses, self.clock.now())

    def _relocated(self, incoming: Incoming, message: Relocate, peer: Peer | None) -> Acknowledgement:
        contact = self.directory.get(incoming.sender)
        if peer is None or peer.kind != "agent" or contact is None or peer.contact is None:
            return self._refuse(incoming, "only agents that are found in DNS can be relocated")
        found = tuple((address, peer.contact.port) for address in peer.contact.addresses)
        outcome = self.relocations.take(incoming.sender, message, found, incoming.now)
        if isinstance(outcome, str):
            return self._refuse(incoming, outcome)
        addresses = self.relocations.addresses(incoming.sender, found, incoming.now)
        self.directory.put(replace(contact, addresses=addresses))
        host, port = addresses[0]
        text = (
            f"{incoming.sender} is reached at {host} port {port} for {outcome - incoming.now:.0f} s: {message.reason}"
        )
        self.log_event("info", text, incoming.sender)
        self.set_timer(f"peer {incoming.sender}", "relocation", outcome, self._relocation_ends)
        # What DNS says is worth more: see whether it has the new address by now.
        self.spawn(self.peer_event, peer, peer.key_unknown(incoming.now))
        return self.acknowledge(incoming, message="relocation accepted")

    async def _relocation_ends(self, name: str, now: float) -> None:
        for peer in list(self.machines.values()):
            contact = self.directory.get(peer.identity)
            if peer.kind == "agent" and peer.contact is not None and contact is not None:
                addresses = self._addresses_of(peer.identity, peer.contact)
                if addresses != contact.addresses:
                    self.directory.put(replace(contact, addresses=addresses))

    def _keys_of(self, identity: str, found: discovery.Contact) -> tuple[PublicKey, PublicKey | None]:
        """The key to encrypt with, the one in use if it is still published, and the other one, if there are two."""
        keys = [PublicKey.from_jwk(jwk) for jwk in (found.jwk, *found.other_jwks)]
        known = self.directory.get(identity)
        if known is not None and known.key in keys:
            keys.sort(key=lambda key: key != known.key)
        return keys[0], keys[1] if len(keys) > 1 else None

    async def _look_up(self, plan: Any) -> discovery.Contact:
        batch = next(plan)
        while True:
            outcomes: dict[discovery.Lookup, discovery.Outcome] = {}

            async def resolve(lookup: discovery.Lookup, into: dict[discovery.Lookup, discovery.Outcome]) -> None:
                try:
                    into[lookup] = await self.resolver.resolve(lookup.owner, lookup.rdtype)
                except MpError as error:
                    into[lookup] = error

            async with anyio.create_task_group() as tasks:
                for lookup in batch:
                    tasks.start_soon(resolve, lookup, outcomes)
            try:
                batch = plan.send(outcomes)
            except StopIteration as end:
                contact: discovery.Contact = end.value
                return contact

    async def _hello(self, action: SendHello) -> None:
        peer = self.machines.get(action.identity)
        if peer is None:
            return
        now = self.clock.now()
        message = Hello(my_identity=self.identity, your_identity=action.identity, zone=action.zone, time=rfc3339(now))
        try:
            answer = await self.send(action.identity, message)
        except DeliveryError as error:
            await self.peer_event(peer, peer.hello_failed(str(error), self.clock.now()))
            return
        now, round_trip = self.clock.now(), self.directory.traffic(action.identity).round_trip
        if answer.accepted:
            await self.peer_event(peer, peer.hello_accepted(now, round_trip))
        else:
            await self.peer_event(peer, peer.hello_failed(f"answered {answer.status}: {answer.message}", now))

    async def _beat(self, action: SendBeat) -> None:
        peer = self.machines.get(action.identity)
        if peer is None:
            return
        agent = peer.kind == "agent"
        if agent:
            await self._own_states(self.clock.now())  # the row of this beat is of this moment, changed or not
        message = Beat(
            my_identity=self.identity,
            your_identity=action.identity,
            my_beat_interval=max(1, round(self.agent_settings.beat_interval)) if agent else 0,
            zones=list(peer.zones[:1]) if agent else [],  # one names the group; a beat must not grow with the zones
            time=rfc3339(self.clock.now()),
            gossip=self._gossip_for(action.identity) if agent else None,
        )
        try:
            answer = await self.send(action.identity, message)
        except DeliveryError as error:
            await self.peer_event(peer, peer.beat_failed(str(error), self.clock.now()))
            return
        now = self.clock.now()
        if not answer.accepted:
            await self.peer_event(peer, peer.beat_failed(f"answered {answer.status}: {answer.message}", now))
            return
        await self.peer_event(peer, peer.beat_acknowledged(now, self.directory.traffic(action.identity).round_trip))
        if self.suspected is not None:
            await self._judge_ourselves(now)
        if agent and answer.gossip:
            await self._merge(action.identity, answer.gossip, now)

    def _gossip_for(self, identity: str) -> list[GossipMessage]:
        return self.gossip.message_for(
            identity, {key: election.announced() for key, election in self.elections.items()}
        )

    async def _forget(self, action: Forget) -> None:
        peer = self.machines.pop(action.identity, None)
        if peer is None:
            return
        self.remove_machine(f"peer {action.identity}")
        self._ready_peers.discard(action.identity)
        self.directory.remove(action.identity)
        self._next_look.pop(action.identity, None)
        self.relocations.forget(action.identity)
        now = self.clock.now()
        await self.perform(
            "queue", self.queue.forget_recipient(action.identity, "it shares no zone with us any more", now)
        )
        self.event_log.publish("peer-removed", action.identity, {"identity": action.identity}, now)

    # ----------------------------------------------------------------- groups

    async def _merge(self, sender: str, gossip: Sequence[GossipMessage], now: float) -> None:
        merged = self.gossip.merge(sender, gossip, now)
        for text in merged.skipped:
            logger.info("gossip of %s: %s", sender, text)
        for key, leadership in merged.leaderships:
            election = self.elections.get(key)
            if election is not None:
                await self.election_event(key, election.adopt(leadership, sender, now))
        for key in merged.changed_groups:
            self.changed("group", key)
        await self._evaluate(self.gossip.groups, now)

    async def _evaluate(self, groups: Mapping[str, ProviderGroup], now: float) -> None:
        """Tell the elections whether the matrix of their group is complete."""
        for key in list(groups):
            election = self.elections.get(key)
            if election is None:
                continue
            edge = election.operational if self.gossip.operational(key) else election.not_operational
            actions = edge(now)
            if actions:
                await self.election_event(key, actions)

    async def election_event(self, key: str, actions: Sequence[Action]) -> None:
        await self.perform(f"election {key}", actions)
        self.changed("group", key)

    async def _election_timer(self, key: str, name: str, now: float) -> None:
        election = self.elections.get(key)
        if election is not None:
            await self.election_event(key, election.timer(name, now))

    def _broadcast(self, action: Broadcast) -> None:
        """Send a ballot to each recipient, save those to whom the same one is still on its way.

        An election repeats itself where it hears nothing; with everybody busy, repeating would keep them so.
        """
        group = self.elections[action.ballot.group].group
        now = self.clock.now()
        for recipient in action.recipients:
            if (recipient, action.ballot) in self._ballots:
                continue
            message = Rfi(
                originator_id=self.identity,
                your_identity=recipient,
                zone=group.zone,
                records=action.ballot.records(),
                time=rfc3339(now),
                rfi_type=action.ballot.rfi_type,
            )
            self._ballots.add((recipient, action.ballot))
            self.spawn(self._send_ballot, action.ballot, Send(recipient, message, self.new_distribution_id()))

    async def _send_ballot(self, ballot: Ballot, send: Send) -> None:
        try:
            await self.send_once(send)
        finally:
            self._ballots.discard((send.recipient, ballot))

    def _leader_changed(self, action: LeaderChanged) -> None:
        leadership: Leadership | None = action.leadership
        who = f"{leadership.leader} leads, term {leadership.term}" if leadership else "no leader"
        self.log_event("info", f"group {action.group[:8]}: {who}: {action.reason}", action.group)
        self.changed("group", action.group)

    # --------------------------------------------------------------- messages

    def allows(self, sender: str, zone: str) -> bool:
        """Configured peers, and those that HSYNC3 lists beside us: in *zone*, or in any zone if it is ``""``."""
        settings = self.agent_settings
        if sender in (settings.combiner.identity, settings.signer.identity):
            return True
        if zone:
            try:
                roles = self.roles.get(ZoneName(zone).owner)
            except ValueError:
                return False
            candidates = [roles]
        else:
            machine = self.machines.get(sender)
            if machine is not None:
                return True
            candidates = list(self.roles.values())
        return any(
            roles is not None and roles.provider_of(self.identity) is not None and roles.provider_of(sender) is not None
            for roles in candidates
        )

    def unknown_key(self, sender: str, now: float) -> None:
        if sender in self.configured:
            super().unknown_key(sender, now)
            return
        peer = self.machines.get(sender)
        if peer is not None and now >= self._next_look.get(sender, 0.0):
            # Anybody may claim to be the peer: that must not make us look it up all the time.
            self._next_look[sender] = now + _LOOK_AGAIN
            self.spawn(self.peer_event, peer, peer.key_unknown(now))

    async def handle(self, incoming: Incoming) -> Acknowledgement:
        message, sender = incoming.message, incoming.sender
        peer = self.machines.get(sender)
        if peer is not None and peer.kind == "agent" and not peer.zones and not isinstance(message, _LEGACY_MAY):
            return self._refuse(incoming, f"{sender} shares no zone with us any more")
        refusal = self._bound(sender, message)
        if refusal is not None:
            return self._refuse(incoming, refusal)
        now = incoming.now
        match message:
            case Ping():
                acknowledgement = self.answer_ping(incoming, message)
            case Hello():
                acknowledgement = self.acknowledge(incoming)
                if peer is not None:
                    self.spawn(self.peer_event, peer, peer.hello_received(now))
                return acknowledgement
            case Beat():
                return self._beaten(incoming, message, peer)
            case Sync():
                acknowledgement = self.acknowledge(incoming, message=f"sync received from {sender}")
                actions = self.sde.sync_received(sender, message, incoming.distribution_id, now)
                await self.perform(_SDE, actions, receipt=Receipt(incoming, acknowledgement))
            case Confirm():
                acknowledgement = self.acknowledge(incoming)
                confirm = message
                actions = self.sde.confirm_received(sender, confirm, now)
                await self.perform(_SDE, actions, receipt=Receipt(incoming, acknowledgement))
            case Edits():
                zone = self._zone_name(message.zone)
                acknowledgement = self.acknowledge(incoming, message=f"edits received for zone {zone}")
                actions = self.sde.edits_received(zone, message.agent_records, now)
                await self.perform(_SDE, actions, receipt=Receipt(incoming, acknowledgement))
                self._told_edits.add(zone)
            case KeyState():
                acknowledgement = self.acknowledge(
                    incoming, message=f"keystate {message.signal} received for zone {message.zone}"
                )
                await self._inventory(message, Receipt(incoming, acknowledgement))
            case StatusUpdate():
                acknowledgement = self.acknowledge(incoming, message=f"status-update received for {message.zone}")
                self.log_event("info", f"{message.zone}: {message.sub_type} says {sender}", message.zone)
            case Rfi():
                acknowledgement = self.acknowledge(incoming, message=f"rfi received from {sender}")
                await self._request(incoming, message)
            case Relocate():
                acknowledgement = self._relocated(incoming, message, peer)
            case _:
                acknowledgement = self.unsupported(incoming)
        if peer is not None:
            await self.peer_event(peer, peer.message_received(now))
        return acknowledgement

    def _bound(self, sender: str, message: Message) -> str | None:
        """Why *sender* may not send a message of this kind; ``None``: it may."""
        settings = self.agent_settings
        combiner, signer = settings.combiner.identity, settings.signer.identity
        if isinstance(message, KeyState):
            return None if sender == signer else "keystate is taken from our signer only"
        if isinstance(message, Edits):
            return None if sender == combiner else "edits are taken from our combiner only"
        if isinstance(message, StatusUpdate) and message.sub_type in ("ns-changed", "ksk-changed"):
            return None if sender == combiner else f"{message.sub_type} is taken from our combiner only"
        if isinstance(message, Sync | Rfi) and sender in (combiner, signer):
            return f"{message.TYPE} is taken from agents only"
        if isinstance(message, Confirm) and sender == signer:
            return "confirm is taken from agents and our combiner only"
        return None

    def _refuse(self, incoming: Incoming, reason: str) -> Acknowledgement:
        logger.warning("%s from %s refused: %s", incoming.message.TYPE, incoming.sender, reason)
        return self.acknowledge(incoming, "rejected", reason)

    def _beaten(self, incoming: Incoming, beat: Beat, peer: Peer | None) -> Acknowledgement:
        # The answer carries our gossip as it was before this beat, as all implementations do.
        acknowledgement = self.acknowledge(incoming, message="beat acknowledged").model_copy(
            update={"gossip": self._gossip_for(incoming.sender)}
        )
        if peer is not None:
            self.spawn(self._after_beat, peer, beat, incoming)
        return acknowledgement

    async def _after_beat(self, peer: Peer, beat: Beat, incoming: Incoming) -> None:
        await self.peer_event(peer, peer.beat_received(float(beat.my_beat_interval), incoming.now))
        if beat.gossip:
            await self._merge(incoming.sender, beat.gossip, incoming.now)

    async def _request(self, incoming: Incoming, request: Rfi) -> None:
        ballot = Ballot.from_rfi(request.rfi_type or "", request.records or {})
        if ballot is not None:
            election = self.elections.get(ballot.group)
            if election is not None:
                actions = election.received(ballot.kind, incoming.sender, ballot.term, ballot.value, self.clock.now())
                await self.election_event(ballot.group, actions)
        elif request.rfi_type == "SYNC":
            await self.perform(_SDE, self.sde.rfi_sync(incoming.sender, request.zone, incoming.now))
        else:
            logger.info("rfi %s from %s is not answered", request.rfi_type, incoming.sender)

    async def _inventory(self, message: KeyState, receipt: Receipt) -> None:
        zone = self._zone_name(message.zone)
        if message.signal != "inventory":
            await self.perform(_SDE, [], receipt=receipt)
            return
        entries = list(message.key_inventory or ())
        self.key_states[zone] = {entry.keyrr: entry.state for entry in entries}
        self._inventories[zone] = entries
        await self.perform(_SDE, self._own_keys(zone, receipt.now), receipt=receipt)
        self._told_keys.add(zone)

    def _own_keys(self, zone: str, now: float) -> list[Action]:
        """Contribute the keys that our signer told us of, as soon as the roles of the zone are known."""
        entries = self._inventories.get(zone)
        roles = self.roles.get(ZoneName(zone).owner)
        if entries is None or roles is None or not roles.is_signer(self.identity):
            return []
        waiting = [entry.key_tag for entry in entries if entry.state in (KeyStage.MPDIST, KeyStage.MPREMOVE)]
        return self.sde.local_dnskeys(zone, [entry.keyrr for entry in contributed(entries)], waiting, now)

    # ---------------------------------------------------------------- actions

    def undone(self, machine: str) -> None:
        key = machine.removeprefix("election ")
        election = self.elections.get(key)
        if election is None:
            return
        # It has begun something that is not stored and was not sent: it starts again from the stored term.
        self.timers.cancel_all(machine)
        self.elections[key] = self._election(election.group)
        self.set_timer(machine, _EVALUATE, self.clock.now() + _LOOK_AGAIN, self._evaluate_again)

    async def _evaluate_again(self, name: str, now: float) -> None:
        await self._evaluate(self.gossip.groups, now)

    def carry_out(self, machine: str, action: Action) -> None:
        match action:
            case Discover():
                self.spawn(self._discover, action)
            case SendHello():
                self.spawn(self._hello, action)
            case SendBeat():
                self.spawn(self._beat, action)
            case StateChanged():
                self.spawn(self._state_changed, action)
            case Forget():
                self.spawn(self._forget, action)
            case Broadcast():
                self._broadcast(action)
            case LeaderChanged():
                self._leader_changed(action)
            case ZoneChanged():
                self.changed("edits", action.zone)
            case TransactionChanged():
                self.transaction_changed(action.id)
            case KeysPropagated():
                self._keys_propagated(action)
            case _:
                super().carry_out(machine, action)

    def _keys_propagated(self, action: KeysPropagated) -> None:
        signer = self.agent_settings.signer.identity
        for tag in action.tags:
            message = KeyState(
                my_identity=self.identity,
                your_identity=signer,
                zone=action.zone,
                key_tag=tag,
                algorithm=0,
                signal="rejected" if action.rejected else "propagated",
                message=action.reason,
                key_inventory=None,
                time=rfc3339(self.clock.now()),
            )
            self.spawn(self.perform, _SDE, [Send(signer, message, self.new_distribution_id(), durable=True)])

    async def _sde_timer(self, name: str, now: float) -> None:
        await self.perform(_SDE, self.sde.timer(name, now))

    def delivered(self, entry: OutboundEntry, now: float) -> tuple[str, Sequence[Action]]:
        return _SDE, self.sde.delivered(entry.recipient, entry.distribution_id, now, entry.message.TYPE)

    def expired(self, entry: OutboundEntry, now: float) -> tuple[str, Sequence[Action]]:
        return _SDE, self.sde.expired(entry.recipient, entry.distribution_id, now, entry.message.TYPE)

    def dropped(self, entry: OutboundEntry, now: float) -> tuple[str, Sequence[Action]]:
        return _SDE, self.sde.dropped(entry.recipient, entry.distribution_id, now, entry.message.TYPE)

    def drop_effects(self, entry: OutboundEntry) -> list[str]:
        return self.sde.drop_effects(entry.recipient, entry.distribution_id, entry.message.TYPE)

    async def exchanged(self, recipient: str, message: Message, error: str | None) -> None:
        await super().exchanged(recipient, message, error)
        peer = self.machines.get(recipient)
        if peer is None or isinstance(message, Hello | Beat):
            return  # these two report their outcome themselves
        now = self.clock.now()
        if error is None:
            actions = peer.message_acknowledged(now, self.directory.traffic(recipient).round_trip)
        else:
            actions = peer.message_failed(error, now)
        await self.peer_event(peer, actions)

    # ---------------------------------------------------------------- service

    def peers(self) -> list[PeerModel]:
        """See :class:`~mpcore.control.service.ControlService`."""
        now = self.clock.now()
        found = []
        for identity in sorted(self.machines):
            view = self.machines[identity].view(now)
            thought = self.suspicion(identity, now)
            found.append(
                PeerModel(
                    identity=view.identity,
                    kind=view.kind,
                    state=view.state,
                    since=view.since,
                    address=view.address,
                    zones=view.zones,
                    beat_interval=view.beat_interval,
                    last_heard=view.last_heard,
                    last_acknowledged=view.last_acknowledged,
                    round_trip=view.round_trip,
                    last_error=view.last_error,
                    waiting_for="; ".join(text for text in (view.waiting_for, thought) if text) or None,
                    counters=self.directory.traffic(identity).counters(),
                    transports=self.peer_transports(identity),
                )
            )
        return found
