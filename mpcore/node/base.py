"""What every role has: database, timers, DNS server, the door for peer messages, the delivery queue, events.

How actions are carried out
---------------------------
A machine returns actions; :meth:`Node.perform` carries them out in order.  All ``Store`` actions of one event, the
queue entries that its durable sends make, and the memory of the message that caused it go into one database write;
only when that is durable is anything sent.  Writes commit in the order in which machines made them, and the actions of
an event, even of one that stores nothing, wait until those of all earlier events of the same machine are carried out: a
message can never leave before the state that it follows from.  Machines do not wait for each other, so that heartbeats
go on while the disk is slow.

A disk without room refuses the event: the machines are read again from what is stored, the sender of the message gets
SERVFAIL and tries again, and serving goes on; every second something is let through to see whether there is room again.
Any other failure of the database stops the node.
"""

from __future__ import annotations

import logging
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.abc

import mpcore
from mpcore.actions import Action, CancelTimer, Send, SetTimer, Store
from mpcore.control.events import EventLog
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
    OutboundMessage,
    Peer,
    PingResult,
    Purged,
    Queue,
    QueueRequest,
    QueueResult,
    Role,
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
from mpcore.errors import (
    ConfigError,
    DeliveryError,
    LocalError,
    NotFoundError,
    QueueFullError,
    RemoteError,
    StoreError,
    StoreFullError,
)
from mpcore.net.cookies import ServerCookies
from mpcore.net.hooks import Hooks
from mpcore.net.keyring import Keyring, load_keyring
from mpcore.net.server import DnsServer
from mpcore.node.chunks import ChunkStore
from mpcore.node.directory import Contact, Directory
from mpcore.node.distributions import DistributionLog
from mpcore.node.fetch import Fetcher
from mpcore.node.inbound import Fetch, Inbound, Incoming, unsupported
from mpcore.node.listening import plain_endpoints, tls_endpoints
from mpcore.node.outbound import Outbound
from mpcore.node.ownkeys import OwnKeys
from mpcore.node.queue_control import QueueControl
from mpcore.node.replay import MAX_AGE, MEMORY, SeenKey
from mpcore.node.runtime import Runtime
from mpcore.node.settings import ConfiguredPeer, NodeSettings
from mpcore.node.timers import Callback, Timers
from mpcore.peer import delivery
from mpcore.peer.actions import Attempt, Expired, Superseded
from mpcore.peer.outbound_entry import OutboundEntry
from mpcore.records import CHUNK_TYPE
from mpcore.store.database import Database
from mpcore.store.seen import load_seen, purge_seen, remember_answer, stored_answer
from mpcore.store.state import apply_stores, load_state
from mpcore.wire.messages import Acknowledgement, Beat, Hello, Message, Ping, rfc3339
from mpcore.wire.seal import PrivateKey, PublicKey, read_private_key, read_public_keys
from mpcore.zone.answer import Responder
from mpcore.zone.version import ZoneVersion

__all__ = ("Node", "Receipt", "load_private_key", "load_public_keys")

logger = logging.getLogger(__name__)

_QUEUE = "queue"
_EVENT_DELAY = 0.02  #: seconds for which changes of one thing are gathered into one event
_PURGE_INTERVAL = 600.0
_READ_AGAIN = 2.0  #: seconds between readings of the key file of a peer whose messages do not verify
_TRY_AGAIN = 1.0  #: seconds between tries to reach a peer because it is heard
_LOOK_AGAIN = 1.0  #: seconds until something is tried again on a disk without room


class _Turn:
    """One event whose actions are being carried out."""

    __slots__ = ("earlier", "over", "undone")

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.undone = False
        self.earlier: list[_Turn] = []


class Receipt:
    """The message being handled and its inline answer, remembered in the write that keeps what the message changed."""

    __slots__ = ("answer", "key", "now")

    def __init__(self, incoming: Incoming, acknowledgement: Acknowledgement) -> None:
        self.key: SeenKey = incoming.key
        self.answer: bytes = acknowledgement.to_json()
        self.now: float = incoming.now


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except ValueError:
        raise ConfigError("is not UTF-8", file=str(path)) from None


def load_private_key(path: Path) -> PrivateKey:
    """The private JWK in *path*; :raises ConfigError: there is none."""
    try:
        return read_private_key(_read(path))
    except RemoteError as error:
        raise ConfigError(f"is not a private EC P-256 JWK: {error}", file=str(path)) from None


def load_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The public JWK in *path*, or the two of a JWK Set; :raises ConfigError: there is none."""
    try:
        return read_public_keys(_read(path))
    except RemoteError as error:
        raise ConfigError(f"is not a public EC P-256 JWK: {error}", file=str(path)) from None


class Node(ABC):
    """A role at work; also its :class:`~mpcore.control.service.ControlService`.

    :param settings: see :mod:`mpcore.node.settings`.
    :param runtime: the world around it; an event loop must be running.
    :raises ConfigError: a file that the settings name cannot be used.
    """

    ROLE: ClassVar[Role]

    def __init__(self, settings: NodeSettings, runtime: Runtime) -> None:
        self.settings, self.runtime, self.clock = settings, runtime, runtime.clock
        self.identity = settings.identity
        self.own_keys = OwnKeys(load_private_key(settings.key_file))
        self.keyring: Keyring = load_keyring(settings.tsig_keys_file) if settings.tsig_keys_file is not None else {}
        self.directory = Directory()
        self.configured: dict[str, ConfiguredPeer] = {}
        self._next_read: dict[str, float] = {}  #: configured peer -> when its key file may be read again
        self.timers = Timers(runtime.clock)
        self.history = DistributionLog(runtime.clock, settings.distribution_retention)
        self.queue_control = QueueControl(self)
        self.chunks = ChunkStore(runtime.clock, self._responder_answer)
        self.outbound = Outbound(
            self.identity,
            self.own_keys,
            self.directory,
            runtime,
            chunks=self.chunks,
            mode=settings.chunk_mode,
            endpoint=self.chunk_endpoint,
            history=self.history,
        )
        self.inbound = Inbound(
            self.identity,
            self.own_keys,
            self.directory,
            self,
            self._received,
            self._recall,
            runtime,
            self.fetcher(),
            history=self.history,
        )
        self.served: dict[bytes, ZoneVersion] = {}  #: what is answered and transferred, by origin
        self.server = DnsServer(
            runtime.network,
            plain_endpoints(settings.listen),
            keyring=self.keyring,
            clock=runtime.clock,
            tls=tls_endpoints(settings.listen),
            cookies=ServerCookies([runtime.random.getrandbits(128).to_bytes(16, "big")]),
        )
        self._responder = Responder(self.served)
        self.hooks = Hooks(self.server)  #: where the role takes part in what happens to zones and messages
        self.hooks.on_notify(CHUNK_TYPE, "peer messages", self.inbound.handle)
        self.hooks.on_query(CHUNK_TYPE, "payloads", self.chunks.handle)
        self.server.register_query(self._responder_answer)
        self.queue = delivery.DeliveryQueue()
        self.started_at = runtime.clock.now()
        self.event_log = EventLog(start=int(self.started_at * 1000))
        self.warnings: dict[str, str] = {}
        self._machines: dict[str, Callback] = {_QUEUE: self._queue_timer}
        self.restored: list[tuple[str, Sequence[Action]]] = []
        self._turns: dict[str, _Turn] = {}  #: the newest event of each machine that has events under way
        self._next_try: dict[str, float] = {}  #: peer -> when its being heard is the next reason to try it
        self._submitted = self._writing = 0  #: writes since the start, and those under way
        self._stale = False  #: machines know of something that could not be stored
        self._reload_lock = anyio.Lock()
        self._full_until: float | None = None  #: the disk is full; look again then
        self._failure: StoreError | None = None  #: why the database stopped the node
        self._dirty: dict[tuple[str, str], None] = {}
        self._dirtied = anyio.Event()
        self._ready = False
        self._distribution = int(self.started_at) & 0xFFFFFFFF

    @property
    def key(self) -> PrivateKey:
        """The key that we sign with."""
        return self.own_keys.current

    @property
    def service(self) -> ControlService:
        """What the node offers to its operator."""
        return self

    # ------------------------------------------------------------------ life

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; *task_status* is told when the sockets listen and everything stored is loaded.

        :raises StoreError: the database cannot be used.
        :raises OSError: an address cannot be bound.
        """
        self.database = await self.open_database(self.settings.state_dir / "state.sqlite3")
        try:
            await self._remember_seen()
            await self.reload()
            async with anyio.create_task_group() as self.tasks:
                self.tasks.start_soon(self.timers.run)
                self.tasks.start_soon(self._publish_events)
                self.tasks.start_soon(self._purge)
                await self.tasks.start(self.server.serve)
                await self.start()
                await self._resume()
                task_status.started()
                await anyio.sleep_forever()
        finally:
            await self.outbound.aclose()
            await self.database.close()
            if self._failure is not None:
                raise self._failure

    @abstractmethod
    async def open_database(self, path: Path) -> Database:
        """Open the role's database."""

    def read(self, connection: sqlite3.Connection) -> Any:
        """What the role keeps besides the documents of its machines; in a worker thread, perhaps."""
        return None

    @abstractmethod
    def restore(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]], stored: Any) -> None:
        """Take over what is stored: *state* by kind and key, and what :meth:`read` returned."""

    def store(self, connection: sqlite3.Connection, stores: Sequence[Store]) -> None:
        """Keep what *stores* say, within a transaction."""
        apply_stores(connection, stores)

    @abstractmethod
    async def start(self) -> None:
        """Start the role's tasks in ``self.tasks``; the sockets listen already."""

    @abstractmethod
    async def handle(self, incoming: Incoming) -> Acknowledgement:
        """Handle a message that passed every check; what it changes is durable when this returns."""

    @abstractmethod
    def allows(self, sender: str, zone: str) -> bool:
        """See :class:`mpcore.node.inbound.Authorizer`."""

    def unknown_key(self, sender: str, now: float) -> None:
        """See :class:`mpcore.node.inbound.Authorizer`; the file of a configured peer is read again."""
        if sender not in self.configured:
            logger.info("no key of %s is configured", sender)
        elif now >= self._next_read.get(sender, 0.0):
            # Anybody may claim to be the peer: that must not make us read files all the time.
            self._next_read[sender] = now + _READ_AGAIN
            self.spawn(self.reread_key, sender)

    def fetcher(self) -> Fetch:
        """How payloads are fetched that do not come with their message."""
        address = self.settings.listen[0].address
        host = None if address in ("0.0.0.0", "::") else address
        return Fetcher(self.identity, self.runtime.network, self.runtime.random, local_host=host).fetch

    def chunk_endpoint(self, recipient: str) -> str | None:
        """Where *recipient* is told to fetch payloads of ours; ``None``: where it knows us."""
        return None

    async def reload(self) -> None:
        """Put the machines into the state that is stored; nothing is written meanwhile."""

        def load(connection: sqlite3.Connection) -> tuple[dict[str, dict[str, dict[str, Any]]], Any]:
            return load_state(connection), self.read(connection)

        while True:
            submitted = self._submitted
            state, stored = await self.database.read(load)
            if submitted == self._submitted and not self._writing:
                break
            await anyio.sleep(0.01)  # what is being written is not in it
        now = self.clock.now()
        self.restore(state, stored)
        self.queue = delivery.DeliveryQueue()
        restored = self.queue.restore(state.get(delivery.KIND, {}), now, state.get(delivery.PAUSED, {}))
        for recipient in self.ready_recipients():
            restored += self.queue.recipient_ready(recipient, now)
        self.restored = [(_QUEUE, restored)]

    async def _resume(self) -> None:
        """Carry out what the machines asked for when they were restored."""
        restored, self.restored = self.restored, []
        for machine, actions in restored:
            await self.perform(machine, actions)

    async def _remember_seen(self) -> None:
        """Take over the messages that a former run has seen."""
        after = self.clock.now() - MAX_AGE
        seen = await self.database.read(lambda connection: load_seen(connection, after, MEMORY + 1))
        for columns, answer, seen_at in seen:
            self.inbound.remember(SeenKey(*columns), answer, seen_at)

    def ready_recipients(self) -> Iterable[str]:
        """Identities to which messages can be delivered now: the configured peers."""
        return self.directory.identities()

    def mark_ready(self) -> None:
        """Everything that has to be loaded is loaded."""
        if not self._ready:
            self._ready = True
            self.changed("status", self.identity)

    def warn(self, key: str, text: str | None) -> None:
        """Set or clear (``None``) a warning that an operator must act on."""
        if text is None:
            if self.warnings.pop(key, None) is not None:
                self.changed("status", self.identity)
        elif self.warnings.get(key) != text:
            self.warnings[key] = text
            logger.warning("%s", text)
            self.changed("status", self.identity)

    async def _purge(self) -> None:
        while True:
            now = self.clock.now()
            with suppress(StoreFullError):
                await self.write(partial(purge_seen, now=now))
            await anyio.sleep(_PURGE_INTERVAL)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        """Run something beside everything else; a disk without room does not end the node."""
        self.tasks.start_soon(self._spawned, function, *arguments)

    async def _spawned(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        try:
            await function(*arguments)
        except (StoreFullError, QueueFullError) as error:
            logger.info("%s: %s", getattr(function, "__name__", function), error)

    def set_timer(self, key: str, name: str, at: float, callback: Callback) -> None:
        """Call *callback* at *at*; a disk without room does not end the node."""
        self.timers.set(key, name, at, partial(self._spawned, callback))

    # --------------------------------------------------------------- actions

    def add_machine(self, key: str, on_timer: Callback) -> None:
        """Let actions of the machine *key* set timers."""
        self._machines[key] = on_timer

    def remove_machine(self, key: str) -> None:
        """Forget a machine and its timers."""
        self._machines.pop(key, None)
        self.timers.cancel_all(key)

    async def perform(
        self,
        machine: str,
        actions: Sequence[Action],
        *,
        also: tuple[str, Sequence[Action]] | None = None,
        receipt: Receipt | None = None,
        write: Callable[[sqlite3.Connection], None] | None = None,
        committed: Callable[[], None] | None = None,
    ) -> None:
        """Carry out *actions* of *machine*, stores first and durably.

        :param also: another machine and its actions, for the same database write.
        :param receipt: the message that caused them.
        :param write: further changes for the same database write.
        :param committed: called when all that is durable, before anything is sent.
        :raises StoreFullError: nothing was done.
        :raises QueueFullError: nothing was done, the delivery queue has no room.
        """
        mine = _Turn()
        keys = {machine: None} if also is None else {machine: None, also[0]: None}
        try:
            ordered = self._with_queue(machine, actions)
            if also is not None:
                ordered += self._with_queue(*also)
            keys |= {key: None for key, _ in ordered}
            mine.earlier = [self._turns[key] for key in keys if key in self._turns]
            self._turns |= dict.fromkeys(keys, mine)
            stores = [action for _, action in ordered if isinstance(action, Store)]
            if stores or receipt is not None or write is not None:

                def commit(connection: sqlite3.Connection) -> None:
                    self.store(connection, stores)
                    if write is not None:
                        write(connection)
                    if receipt is not None:
                        remember_answer(connection, receipt.key, receipt.answer, receipt.now)

                await self.write(commit)
            for turn in mine.earlier:
                await turn.over.wait()
            if any(turn.undone for turn in mine.earlier):
                raise StoreFullError("an event before this one could not be stored")
            if committed is not None:
                committed()
            for key, action in ordered:
                if isinstance(action, SetTimer):
                    if key in self._machines:
                        self.set_timer(key, action.name, action.at, self._machines[key])
                elif isinstance(action, CancelTimer):
                    self.timers.cancel(key, action.name)
                elif isinstance(action, Send):
                    self.spawn(self.send_once, action)
                elif isinstance(action, Attempt):
                    self.spawn(self._attempt, action.entry)
                elif isinstance(action, Expired):
                    self._expired(action)
                elif isinstance(action, Superseded):
                    logger.info("%s gave way to %s", action.entry.distribution_id, action.by)
                elif not isinstance(action, Store):
                    self.carry_out(key, action)
        except (StoreFullError, QueueFullError):
            self._stale = mine.undone = True
            self._end(keys, mine)
            self.undone(machine)
            await self._go_back()
            raise
        finally:
            self._end(keys, mine)

    def _end(self, keys: Iterable[str], turn: _Turn) -> None:
        turn.over.set()
        turn.earlier = []
        for key in keys:
            if self._turns.get(key) is turn:
                del self._turns[key]

    def undone(self, machine: str) -> None:
        """The actions of an event of *machine* are lost, the disk being full; machines without stored state react."""
        logger.info("an event of %s is undone", machine)

    def carry_out(self, machine: str, action: Action) -> None:
        """Perform an action of the role's own machines."""
        raise TypeError(f"nobody carries out {action!r} of {machine}")

    def _with_queue(self, machine: str, actions: Sequence[Action]) -> list[tuple[str, Action]]:
        """*actions* with every durable send replaced by what the delivery queue does about it."""
        now = self.clock.now()
        ordered: list[tuple[str, Action]] = []
        for action in actions:
            if isinstance(action, Send) and action.durable:
                ordered.extend(
                    (_QUEUE, queued)
                    for queued in self.queue.enqueue(action.recipient, action.message, action.distribution_id, now)
                )
            else:
                ordered.append((machine, action))
        return ordered

    async def write(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        """Commit what *function* changes; returns what it returns.

        :raises StoreFullError: nothing was kept.
        :raises StoreError: the database failed, and the node stops.
        """
        self._submitted += 1
        self._writing += 1
        try:
            result = await self.database.write(function)
        except StoreFullError:
            self._stale = True
            self._full_until = self.clock.now() + _LOOK_AGAIN
            self.warn("disk", f"the disk is full: {self.database.path} takes no changes, nothing new is accepted")
            raise
        except StoreError as error:
            logger.exception("the database failed; the node stops")
            self._failure = self._failure or error
            self.tasks.cancel_scope.cancel()
            raise
        finally:
            self._writing -= 1
        self._full_until = None
        self.warn("disk", None)
        return result

    async def _go_back(self) -> None:
        """Something could not be stored: let the machines forget it, and go on when there may be room again."""
        async with self._reload_lock:
            if self._stale:
                self._stale = False
                await self.reload()
        self.set_timer("disk", "resume", self.clock.now() + _LOOK_AGAIN, self._look_again)

    async def _look_again(self, name: str, now: float) -> None:
        await self._resume()

    # --------------------------------------------------------------- sending

    def new_distribution_id(self) -> str:
        """A distribution id for a message of ours: 8 hex digits, counting up from the time of the start."""
        self._distribution = (self._distribution + 1) & 0xFFFFFFFF
        return f"{self._distribution:08x}"

    def new_nonce(self) -> str:
        """32 random hex digits."""
        return f"{self.runtime.random.getrandbits(128):032x}"

    async def send(self, recipient: str, message: Message, distribution_id: str | None = None) -> Acknowledgement:
        """Send one message once and return its inline answer; :raises DeliveryError: there is none."""
        contact = self.directory.get(recipient)
        if contact is None:
            raise DeliveryError(f"no address and key known for {recipient}")
        try:
            answer = await self.outbound.exchange(contact, message, distribution_id or self.new_distribution_id())
        except DeliveryError as error:
            await self.exchanged(recipient, message, str(error))
            raise
        await self.exchanged(recipient, message, None)
        return answer

    async def exchanged(self, recipient: str, message: Message, error: str | None) -> None:
        """A message was acknowledged, or not and why; roles that watch the health of their peers add to this."""
        self.changed("peer", recipient)

    async def send_once(self, action: Send) -> None:
        try:
            await self.send(action.recipient, action.message, action.distribution_id)
        except DeliveryError as error:
            logger.info("%s to %s: %s", action.message.TYPE, action.recipient, error)

    async def _attempt(self, entry: OutboundEntry) -> None:
        contact = self.directory.get(entry.recipient)
        try:
            if contact is None:
                raise DeliveryError("no address and key known yet")
            await self.outbound.exchange(contact, entry.message, entry.distribution_id)
        except DeliveryError as failure:
            error: str | None = str(failure)
            logger.info("%s %s to %s: %s", entry.message.TYPE, entry.distribution_id, entry.recipient, error)
            await self.perform(_QUEUE, self.queue.failed(entry.key, str(error), self.clock.now()))
        else:
            error = None
            now = self.clock.now()
            await self.perform(_QUEUE, self.queue.delivered(entry.key, now), also=self.delivered(entry, now))
        await self.exchanged(entry.recipient, entry.message, error)
        if entry.zone:
            self.changed("edits", entry.zone)

    def delivered(self, entry: OutboundEntry, now: float) -> tuple[str, Sequence[Action]] | None:
        """What a machine of the role does when a queued message has been acknowledged inline."""
        return None

    def expired(self, entry: OutboundEntry, now: float) -> tuple[str, Sequence[Action]] | None:
        """What a machine of the role does when a queued message was given up."""
        return None

    def dropped(self, entry: OutboundEntry, now: float) -> tuple[str, Sequence[Action]] | None:
        """What a machine of the role does when the operator dropped a queued message."""
        return None

    def drop_effects(self, entry: OutboundEntry) -> list[str]:
        """What dropping a queued message would mean, in words."""
        return [f"{entry.recipient} does not get the {entry.message.TYPE} about {entry.zone or 'no zone'}"]

    def _expired(self, action: Expired) -> None:
        entry = action.entry
        self.log_event("warning", f"{entry.message.TYPE} to {entry.recipient} given up: {action.reason}", entry.zone)
        told = self.expired(entry, self.clock.now())
        if told is not None:
            self.spawn(self.perform, *told)

    async def _queue_timer(self, name: str, now: float) -> None:
        await self.perform(_QUEUE, self.queue.timer(name, now))

    async def recipient_ready(self, identity: str) -> None:
        """Messages for *identity* are worth trying now."""
        await self.perform(_QUEUE, self.queue.recipient_ready(identity, self.clock.now()))

    # -------------------------------------------------------------- receiving

    async def _received(self, incoming: Incoming) -> Acknowledgement:
        if self._full_until is not None and not isinstance(incoming.message, Hello | Beat | Ping):
            # Nothing that it would change could be kept; one message a second is let through to see.
            if self._stale or incoming.now < self._full_until:
                raise StoreFullError(f"{self.database.path}: the disk is full")
            self._full_until = incoming.now + _LOOK_AGAIN
        self._heard(incoming.sender, incoming.now)
        try:
            return await self.handle(incoming)
        finally:
            self.changed("peer", incoming.sender)

    def _heard(self, sender: str, now: float) -> None:
        """Whoever speaks after we could not reach it is back: what waits for it need not wait for its back-off.

        Once a second at most, for it may be that only one of the two directions works.
        """
        if self.directory.traffic(sender).last_error is None or now < self._next_try.get(sender, 0.0):
            return
        if sender in set(self.ready_recipients()):
            self._next_try[sender] = now + _TRY_AGAIN
            self.spawn(self.recipient_ready, sender)

    async def _recall(self, key: SeenKey) -> bytes | None:
        return await self.database.read(lambda connection: stored_answer(connection, key))

    def acknowledge(self, incoming: Incoming, status: str = "ok", message: str = "received") -> Acknowledgement:
        """The usual inline answer."""
        return Acknowledgement(
            type="confirm",
            distribution_id=incoming.distribution_id,
            status=status,
            message=message,
            timestamp=int(incoming.now),
        )

    def answer_ping(self, incoming: Incoming, ping: Ping) -> Acknowledgement:
        """The inline answer to a ping."""
        if not ping.nonce:
            raise NotFoundError("a ping without nonce")
        return Acknowledgement(
            type="ping_confirm",
            sender_id=self.identity,
            nonce=ping.nonce,
            distribution_id=incoming.distribution_id,
            status="ok",
            timestamp=int(incoming.now),
        )

    def unsupported(self, incoming: Incoming) -> Acknowledgement:
        """The inline answer to a type that this role does not take."""
        reason = f"no handler for {incoming.message.TYPE}"
        return unsupported(incoming.distribution_id, reason, incoming.now)

    def _responder_answer(self, octets: bytes, source: tuple[str, int], over_tcp: bool) -> bytes | None:
        return self._responder.respond(octets, over_tcp=over_tcp)

    # ----------------------------------------------------------------- events

    def changed(self, kind: str, subject: str) -> None:
        """Something about (*kind*, *subject*) changed: an event with its new state follows within 20 ms."""
        if (kind, subject) not in self._dirty:
            self._dirty[kind, subject] = None
            self._dirtied.set()

    async def _publish_events(self) -> None:
        while True:
            await self._dirtied.wait()
            await anyio.sleep(_EVENT_DELAY)
            self._dirtied = anyio.Event()
            dirty, self._dirty = self._dirty, {}
            for kind, subject in dirty:
                data = self.resource(kind, subject)
                if data is not None:
                    self.event_log.publish(kind, subject, data, self.clock.now())

    def resource(self, kind: str, subject: str) -> Any:
        """The present state of a resource for an event, or ``None``: it is gone, or this role has no such thing."""
        try:
            if kind == "status":
                return self.status()
            if kind == "peer":
                return self.peer(subject)
            if kind == "zone":
                return self.zone(subject)
            if kind == "edits":
                return self.edits(subject)
            if kind == "contributions":
                return self.contributions(subject)
            if kind == "keys":
                return {"zone": subject, "keys": self.keys(subject)}
            if kind == "group":
                return self.group(subject)
            if kind == "transaction":
                return self.transaction(subject)
        except LocalError:
            return None
        return None

    def log_event(self, severity: str, text: str, subject: str = "") -> None:
        """Put a line into the event stream."""
        self.event_log.publish("log", subject, {"severity": severity, "text": text}, self.clock.now())

    # ---------------------------------------------------------------- service

    def status(self) -> Status:
        """See :class:`~mpcore.control.service.ControlService`."""
        return Status(
            identity=self.identity,
            role=self.ROLE,
            provider=self.settings.provider,
            version=mpcore.__version__,
            pid=self.runtime.process_id,
            started_at=self.started_at,
            now=self.clock.now(),
            ready=self._ready,
            zones=len(self.zones()),
            warnings=tuple(self.warnings.values()),
        )

    def snapshot(self) -> Snapshot:
        """See :class:`~mpcore.control.service.ControlService`."""
        return Snapshot(
            event_id=self.event_log.last_id,
            status=self.status(),
            peers=tuple(self.peers()),
            zones=tuple(self.zones()),
        )

    @abstractmethod
    def peers(self) -> list[Peer]:
        """See :class:`~mpcore.control.service.ControlService`."""

    @abstractmethod
    def zones(self) -> list[Zone]:
        """See :class:`~mpcore.control.service.ControlService`."""

    def peer(self, identity: str) -> Peer:
        """One peer; :raises NotFoundError: no such peer."""
        for peer in self.peers():
            if peer.identity == identity:
                return peer
        raise NotFoundError(f"{identity} is not a peer of {self.identity}")

    def zone(self, name: str) -> Zone:
        """One zone; :raises NotFoundError: no such zone."""
        for zone in self.zones():
            if zone.name == name:
                return zone
        raise NotFoundError(f"{name} is not a zone of {self.identity}")

    async def ping(self, identity: str, timeout: float) -> PingResult:
        """See :class:`~mpcore.control.service.ControlService`."""
        self.peer(identity)
        nonce = f"{self.runtime.random.getrandbits(64):016x}"
        message = Ping(my_identity=self.identity, your_identity=identity, nonce=nonce, time=rfc3339(self.clock.now()))
        started = self.clock.now()
        try:
            with anyio.fail_after(timeout):
                answer = await self.send(identity, message)
        except (DeliveryError, TimeoutError) as error:
            return PingResult(identity=identity, ok=False, error=str(error) or f"no answer within {timeout:g} s")
        if answer.nonce != nonce:
            return PingResult(identity=identity, ok=False, error="the answer carries another nonce")
        return PingResult(identity=identity, ok=True, round_trip=self.clock.now() - started)

    async def reset_peer(self, identity: str) -> Peer:
        """See :class:`~mpcore.control.service.ControlService`."""
        self.peer(identity)
        raise NotFoundError(f"the peers of a {self.ROLE} are configured; there is nothing to reset")

    async def diagnose(self, identity: str, timeout: float) -> Diagnosis:
        """See :class:`~mpcore.control.service.ControlService`."""
        self.peer(identity)
        raise NotFoundError(f"a {self.ROLE} cannot look for faults; ask the agent")

    def message_keys(self) -> MessageKeys:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"the key of a {self.ROLE} is rolled over by its configuration")

    async def message_key_action(self, request: MessageKeyRequest) -> MessageKeys:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.message_keys()

    def certificate(self) -> Certificate:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} has no HTTPS; ask the agent")

    async def certificate_action(self, request: CertificateRequest) -> Certificate:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.certificate()

    async def group_action(self, key: str, request: GroupActionRequest) -> Group:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.group(key)

    def groups(self) -> list[Group]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return []

    def group(self, key: str) -> Group:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} has no groups; ask the agent")

    def edits(self, zone: str) -> SdeZone:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} has no synchronised data; ask the agent")

    def contributions(self, zone: str) -> Contributions:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} has no contributions; ask the combiner")

    def keys(self, zone: str) -> list[Key]:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} has no keys; ask the signer")

    def tsig_keys(self) -> list[TsigKeyInfo]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return [TsigKeyInfo(name=key.name_text, algorithm=key.algorithm) for _, key in sorted(self.keyring.items())]

    async def zone_action(self, zone: str, request: ZoneActionRequest) -> ZoneActionResult:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} publishes no customer zones; ask combiner or signer")

    def zone_records(self, zone: str, limit: int) -> ZoneRecords:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} serves no customer zones; ask combiner or signer")

    def plan(self, zone: str, request: ChangeRequest) -> ChangePlan:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} takes no changes; ask the agent")

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"a {self.ROLE} takes no changes; ask the agent")

    def transactions(self) -> list[Transaction]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return []

    def transaction(self, transaction_id: str) -> Transaction:
        """See :class:`~mpcore.control.service.ControlService`."""
        raise NotFoundError(f"no transaction {transaction_id}")

    async def wait(self, transaction_id: str, level: Wait, timeout: float) -> Transaction:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.transaction(transaction_id)

    def events(self, after: int | None) -> AsyncIterator[Event]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.event_log.subscribe(after)

    def queue_view(self) -> Queue:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.queue_control.view()

    async def queue_action(self, request: QueueRequest) -> QueueResult:
        """See :class:`~mpcore.control.service.ControlService`."""
        return await self.queue_control.act(request)

    async def drain(self, timeout: float) -> Queue:
        """See :class:`~mpcore.control.service.ControlService`."""
        return await self.queue_control.drain(timeout)

    def distributions(self) -> list[DistributionInfo]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return self.history.listed()

    def purge_distributions(self, everything: bool) -> Purged:
        """See :class:`~mpcore.control.service.ControlService`."""
        purged = self.history.purge(everything=everything)
        return Purged(purged=purged, left=len(self.history))

    def outbound_messages(self, zone: str) -> tuple[OutboundMessage, ...]:
        """Messages about *zone* that wait in the queue, oldest first."""
        return tuple(
            OutboundMessage(
                recipient=queued.recipient,
                type=queued.type,
                zone=queued.zone,
                distribution_id=queued.distribution_id,
                enqueued_at=queued.enqueued_at,
                attempts=queued.attempts,
                next_attempt=queued.next_attempt,
                last_error=queued.last_error,
            )
            for queued in self.queue.messages(zone)
        )

    def configure(self, peer: ConfiguredPeer) -> None:
        """Put a configured peer into the directory."""
        key, *others = load_public_keys(peer.public_key_file)
        other = others[0] if others else None
        self.configured[peer.identity] = peer
        self.directory.put(Contact(peer.identity, ((peer.address, peer.port),), key, other))

    async def reread_key(self, identity: str) -> None:
        """A message of a configured peer does not verify: its key file may have been changed meanwhile."""
        peer = self.configured[identity]
        try:
            keys = await self.runtime.run_blocking(load_public_keys, peer.public_key_file)
        except ConfigError as error:
            logger.warning("%s", error)
            return
        contact = self.directory.get(identity)
        if contact is not None and set(keys) != set(contact.keys):
            key = contact.key if contact.key in keys else keys[0]
            other = next((item for item in keys if item != key), None)
            self.directory.put(replace(contact, key=key, other_key=other))
            self.log_event("info", f"{identity}: its key file was read again, its keys are others", identity)
