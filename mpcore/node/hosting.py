"""Zones that come in by transfer and go out by transfer, worked on in between: what combiner and signer share.

A version from the primary passes the hooks (:mod:`mpcore.net.hooks`), is worked on by the role (:meth:`incoming`),
staged with its serial (:mod:`mpcore.node.keeping`), and served when both are durable.  At the start the versions of the
former run are served until a primary has newer ones, or they expire.
"""

from __future__ import annotations

import logging
import sqlite3
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import anyio

from mpcore.control.models import (
    ServedRecord,
    Zone,
    ZoneAction,
    ZoneActionRequest,
    ZoneActionResult,
    ZoneRecords,
)
from mpcore.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    StoreError,
    StoreFullError,
    ZoneError,
    ZoneRefusedError,
)
from mpcore.names import ZoneName
from mpcore.net.acl import Acl
from mpcore.net.hooks import Hooks, Refresh
from mpcore.net.messages import SOA
from mpcore.net.network import Address
from mpcore.net.notify import Notifiable, Notifier, NotifyReceiver
from mpcore.net.remote import Remote
from mpcore.net.secondary import SecondaryZone, ZoneState
from mpcore.net.transfer import TransferServer, settle
from mpcore.node.base import Node
from mpcore.node.keeping import Kept, KeptZone, Staged, forget, load_kept
from mpcore.node.runtime import Runtime
from mpcore.node.settings import CombinerSettings, NodeSettings, SignerSettings, ZoneSettings
from mpcore.store.serials import put_serial
from mpcore.store.zones import load_copies, load_refreshes, put_refresh
from mpcore.zone import owners
from mpcore.zone.journal import Journal
from mpcore.zone.masterfile import write_master_file
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.rrset import record_text, type_text
from mpcore.zone.serial import SerialPolicy
from mpcore.zone.version import ZoneVersion

__all__ = ("HostingNode", "source_host", "zone_view")

logger = logging.getLogger(__name__)

AXFR, IXFR = 252, 251


def source_host(settings: NodeSettings) -> str | None:
    """The address to send from: the first listened on, so that others know us by it; ``None`` for a wildcard."""
    address = settings.listen[0].address
    return None if address in ("0.0.0.0", "::") else address


def zone_view(
    settings: ZoneSettings,
    secondary: SecondaryZone,
    roles: ZoneRoles | None,
    identities: Sequence[str],
    served: ZoneVersion | None,
    group: str | None = None,
    error: str | None = None,
) -> Zone:
    """A zone as the control API shows it.

    :param identities: ours in HSYNC3: the agent's own, or those of the agents of a combiner or signer.
    """
    own = next((identity for identity in identities if roles and roles.provider_of(identity)), None)
    view = Zone(
        name=settings.name,
        state=secondary.state.value if error is None else "error",
        serial=served.serial if served is not None else None,
        records=served.record_count if served is not None else None,
        refreshed_at=secondary.refreshed_at,
        primary=f"{settings.primaries[0].address}:{settings.primaries[0].port}",
        error=error or secondary.error,
        group=group,
    )
    if roles is None:
        return view
    return view.model_copy(
        update={
            "label": roles.label_of(own) if own else None,
            "providers": {provider.label: provider.identity for provider in roles.providers},
            "servers": tuple(roles.servers),
            "signers": tuple(roles.signers),
            "auditors": tuple(roles.auditors),
            "nsmgmt": roles.nsmgmt,
            "parentsync": roles.parentsync,
            "options": roles.options(own) if own else (),
        }
    )


class _Listeners(Mapping[bytes, Notifiable]):
    """Who wants to know of a NOTIFY, by apex: all secondaries that the node keeps of the zone."""

    def __init__(self, node: HostingNode) -> None:
        self._node = node

    def __getitem__(self, origin: bytes) -> Notifiable:
        return _Listener(self._node.notifiable(origin))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._node.zone_settings)

    def __len__(self) -> int:
        return len(self._node.zone_settings)


class _Listener:
    """Several secondaries of one zone, from different primaries."""

    def __init__(self, secondaries: Sequence[SecondaryZone]) -> None:
        self._secondaries = secondaries

    def notified(self, source: Address, serial: int | None = None) -> bool:
        """Tell those that know *source* as a primary; ``False``: none does."""
        accepted = [secondary.notified(source, serial) for secondary in self._secondaries]  # all are told
        return any(accepted)


class HostingNode(Node):
    """A node with customer zones: secondaries in, notifications and transfers out."""

    def __init__(self, settings: CombinerSettings | SignerSettings, runtime: Runtime) -> None:
        super().__init__(settings, runtime)
        self._policy_of_all = settings.serial_policy
        self.zone_settings: dict[bytes, ZoneSettings] = {ZoneName(zone.name).owner: zone for zone in settings.zones}
        self.secondaries: dict[bytes, SecondaryZone] = {}
        self.roles: dict[bytes, ZoneRoles | None] = {}
        self.zone_errors: dict[bytes, str] = {}
        self.hooks.before_refresh("roles", self._check_roles)
        self.hooks.after_refresh("ready", self._taken)
        self.hooks.first_load("events", self._loaded_first)
        self._frozen: dict[bytes, ZoneVersion | None] = {}  #: by origin, what is held back
        self._targets: dict[bytes, Sequence[Remote]] = {
            origin: zone.secondaries for origin, zone in self.zone_settings.items()
        }
        self._acls = {origin: Acl.for_servers(targets) for origin, targets in self._targets.items()}
        host = source_host(settings)
        self.notifier = Notifier(
            runtime.network,
            self._targets,
            self.keyring,
            clock=runtime.clock,
            random=runtime.random,
            local_host=host,
        )
        self.kept: dict[bytes, KeptZone] = {
            origin: self._keep(origin, zone) for origin, zone in self.zone_settings.items()
        }
        self.journals: dict[bytes, Journal] = {origin: kept.journal for origin, kept in self.kept.items()}
        self.refreshes: dict[tuple[str, str], float] = {}  #: zone and source -> last confirmation of the former run
        transfers = TransferServer(self.served, self._acls, run=runtime.run_blocking, journals=self.journals)
        self.hooks.on_query(AXFR, "transfers", transfers.handle)
        self.hooks.on_query(IXFR, "transfers", transfers.handle)
        self.hooks.on_notify(SOA, "refreshes", NotifyReceiver(_Listeners(self)).handle)
        for origin, zone in self.zone_settings.items():
            self.secondaries[origin] = self.make_secondary(
                origin, zone.primaries, partial(self._arrived, origin), hooks=self.hooks
            )

    def _keep(self, origin: bytes, zone: ZoneSettings) -> KeptZone:
        return KeptZone(
            origin,
            write=self.write,
            run=self.runtime.run_blocking,
            spawn=self.spawn,
            max_octets=zone.journal_octets,
            max_changes=zone.journal_changes,
        )

    def serial_policy(self, origin: bytes) -> SerialPolicy:
        """How serials of a zone advance."""
        return self.zone_settings[origin].serial_policy or self._policy_of_all

    def make_secondary(
        self,
        origin: bytes,
        primaries: Sequence[Remote],
        on_version: Callable[[ZoneVersion], Awaitable[None]],
        *,
        source: str = "primary",
        hooks: Hooks | None = None,
    ) -> SecondaryZone:
        """A secondary of *origin* that calls *on_version* with each new version.

        :param source: what it is called in the database.
        """
        return SecondaryZone(
            self.runtime.network,
            origin,
            primaries,
            self.keyring,
            clock=self.clock,
            random=self.runtime.random,
            min_refresh=self.settings.min_refresh,
            max_refresh=self.settings.max_refresh,
            on_version=on_version,
            on_state=self._state_changed,
            on_confirmed=partial(self._confirmed, source),
            hooks=hooks,
            local_host=source_host(self.settings),
            run=self.runtime.run_blocking,
        )

    async def start(self) -> None:
        await self.tasks.start(self.notifier.run)
        await self._restore()
        for secondary in self.secondaries.values():
            self.tasks.start_soon(secondary.run)

    async def _restore(self) -> None:
        """Serve what a former run has left, where it may still be served."""
        copies, self.refreshes = await self.database.read(
            lambda connection: (load_copies(connection), load_refreshes(connection))
        )
        for origin, kept in self.kept.items():
            name = owners.to_text(origin)
            if name not in copies:
                continue
            try:
                found = await self.database.read(partial(load_kept, origin=origin, state=copies[name]))
                roles = ZoneRoles.from_version(found.incoming)
            except ZoneError as error:
                logger.warning("%s: what is kept of it is thrown away, it is transferred whole: %s", name, error)
                kept.discard()
                continue
            kept.restore(found)
            self.hooks.restored(origin)
            if not self.restore_secondary(self.secondaries[origin], found.incoming):
                continue
            try:
                await self.resume_zone(origin, found, roles)
            except (StoreFullError, ZoneError, NotReadyError, ConfigError) as error:
                logger.warning("%s: what is kept of it cannot be served, it is transferred whole: %s", name, error)
                self.secondaries[origin].refresh_now(force=True)
            self.changed("zone", name)
        for name in copies.keys() - {owners.to_text(origin) for origin in self.kept}:
            self.spawn(self._forget_copy, name)
        self.look_whether_ready()

    async def _forget_copy(self, zone: str) -> None:
        """Remove what is kept of a zone that is not ours any more, a few rows at a time."""
        while await self.write(partial(forget, zone=zone)):
            await anyio.lowlevel.checkpoint()

    def restore_secondary(self, secondary: SecondaryZone, version: ZoneVersion, source: str = "primary") -> bool:
        """Let a secondary go on from *version*; whether that may still be served."""
        refreshed_at = self.refreshes.get((owners.to_text(secondary.origin), source))
        alive = refreshed_at is not None and secondary.restore(version, refreshed_at)
        self._state_changed(secondary)
        return alive

    def _confirmed(self, source: str, secondary: SecondaryZone) -> None:
        self.spawn(self._note_refresh, source, owners.to_text(secondary.origin), secondary.refreshed_at)

    async def _note_refresh(self, source: str, zone: str, refreshed_at: float) -> None:
        await self.write(lambda connection: put_refresh(connection, zone, source, refreshed_at))

    async def _check_roles(self, refresh: Refresh) -> None:
        """A mistake in HSYNC3 must not change who may do what: the version in service stays."""
        name = owners.to_text(refresh.origin)
        try:
            ZoneRoles.from_version(refresh.new)
        except ZoneError as error:
            self.zone_errors[refresh.origin] = str(error)
            self.warn(f"zone {name}", f"{name}: {error}")
            raise ZoneRefusedError(str(error)) from None
        self.zone_errors.pop(refresh.origin, None)
        self.warn(f"zone {name}", None)

    async def _arrived(self, origin: bytes, version: ZoneVersion) -> None:
        """A new version came from the primary, and its roles can be read."""
        await self.incoming(origin, version, ZoneRoles.from_version(version))

    async def _taken(self, refresh: Refresh) -> None:
        self.changed("zone", owners.to_text(refresh.origin))
        self.look_whether_ready()

    async def _loaded_first(self, version: ZoneVersion) -> None:
        name = owners.to_text(version.origin)
        self.log_event("info", f"{name} is loaded, serial {version.serial} of its primary", name)

    def look_whether_ready(self) -> None:
        """We are ready when every zone is served."""
        if all(zone in self.served for zone in self.zone_settings):
            self.mark_ready()

    def _state_changed(self, secondary: SecondaryZone) -> None:
        name = owners.to_text(secondary.origin)
        if secondary.state is ZoneState.EXPIRED:
            # RFC 1035, section 4.3.5: a zone that could not be refreshed for so long is not to be trusted.
            self.withdraw(secondary.origin)
            self.warn(f"expired {name}", f"{name} has expired: its primary has not answered for too long")
        else:
            self.warn(f"expired {name}", None)
        self.changed("zone", name)

    def notifiable(self, origin: bytes) -> Sequence[SecondaryZone]:
        """The secondaries kept of a zone; :raises KeyError: it is none of ours."""
        return [self.secondaries[origin]]

    @abstractmethod
    async def resume_zone(self, origin: bytes, kept: Kept, roles: ZoneRoles | None) -> None:
        """Go on from what a former run has left of a zone: serve the version published then, or make another."""

    @abstractmethod
    async def incoming(self, origin: bytes, version: ZoneVersion, roles: ZoneRoles | None) -> None:
        """Work on a new version from the primary and publish the result."""

    def stage(
        self, origin: bytes, incoming: ZoneVersion, outgoing: ZoneVersion | None, serial: int | None, made: str
    ) -> Staged:
        """Prepare to store what is going to be published, see :class:`~mpcore.node.keeping.KeptZone`.

        :param incoming: the version from the primary that it is made of, as it came.
        :param serial: to be stored with it; ``None``: there is no new one.
        :param made: how *outgoing* was made.
        """
        kept = self.kept[origin]
        staged = kept.stage(incoming, outgoing, made)
        name, now = owners.to_text(origin), self.clock.now()
        came = kept.incoming is not incoming

        def write(connection: sqlite3.Connection) -> None:
            if serial is not None:
                put_serial(connection, name, serial, now)
            if came:
                put_refresh(connection, name, "primary", now)
            staged.write(connection)

        return Staged(write, staged.commit)

    def publish(self, version: ZoneVersion) -> None:
        """Serve *version* from now on and tell the secondaries; it is durable with its serial, and committed.

        A version of a frozen zone is held back until the zone is thawed.
        """
        if version.origin in self._frozen:
            self._frozen[version.origin] = version
            self.changed("zone", owners.to_text(version.origin))
            return
        self.serve(version)

    def serve(self, version: ZoneVersion) -> None:
        """:meth:`publish` for a version that is no change, but what a former run or a thawed zone has left."""
        journal = self.journals[version.origin]
        if journal.unsettled():  # now, so that the old version need not be kept for the client that asks for it
            self.spawn(settle, journal, self.runtime.run_blocking)
        self.served[version.origin] = version
        self.notifier.notify(version)
        self.changed("zone", owners.to_text(version.origin))

    def withdraw(self, origin: bytes) -> None:
        """Serve nothing of a zone, nor anything held back, until a new version is published."""
        self.served.pop(origin, None)
        if origin in self._frozen:
            self._frozen[origin] = None

    def newest(self, origin: bytes) -> ZoneVersion | None:
        """The version published last: the one served, or the one that a frozen zone holds back."""
        return self._frozen.get(origin) or self.served.get(origin)

    @abstractmethod
    async def bump(self, origin: bytes) -> None:
        """Publish the same content under a newer serial, which is durable.

        :raises NotReadyError: the zone is not loaded.
        :raises ConflictError: its serial is another's to choose.
        """

    async def zone_action(self, zone: str, request: ZoneActionRequest) -> ZoneActionResult:
        """See :class:`~mpcore.control.service.ControlService`."""
        origin = self.zone_origin(zone)
        path: Path | None = None
        match request.action:
            case ZoneAction.REFRESH:
                for secondary in self.notifiable(origin):
                    secondary.refresh_now(force=request.force)
                message = "the primary is asked for a transfer" if request.force else "the primary is asked"
            case ZoneAction.NOTIFY:
                self.notifier.notify(self._loaded(origin))
                targets = len(self._targets[origin])
                message = f"{targets} secondar{'y is' if targets == 1 else 'ies are'} told"
            case ZoneAction.WRITE:
                path = await self._write_zone(self._loaded(origin))
                message = f"written to {path}"
            case ZoneAction.FREEZE:
                message = self._freeze(origin)
            case ZoneAction.THAW:
                message = self._thaw(origin)
            case ZoneAction.BUMP:
                if origin in self._frozen:
                    raise ConflictError(f"{zone} is frozen; thaw it first")
                self._loaded(origin)
                await self.bump(origin)
                message = "served under a newer serial"
        served = self.served.get(origin)
        name = owners.to_text(origin)
        self.log_event("info", f"{request.action} of {name}: {message}", name)
        return ZoneActionResult(
            zone=name,
            action=request.action,
            serial=None if served is None else served.serial,
            message=message,
            path=None if path is None else str(path),
        )

    def _loaded(self, origin: bytes) -> ZoneVersion:
        version = self.served.get(origin)
        if version is None:
            raise NotReadyError(f"{owners.to_text(origin)} is not served yet")
        return version

    async def _write_zone(self, version: ZoneVersion) -> Path:
        name = owners.to_text(version.origin).rstrip(".") or "root"
        path = self.settings.state_dir / "zones" / f"{quote(name, safe='')}.zone"

        def write() -> None:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_master_file(path, version)

        try:
            await self.runtime.run_blocking(write)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def _freeze(self, origin: bytes) -> str:
        serial = self._loaded(origin).serial
        if origin in self._frozen:
            return f"it was frozen already, at serial {serial}"
        name = owners.to_text(origin)
        self._frozen[origin] = None
        self.warn(
            f"frozen {name}",
            f"{name} is frozen at serial {serial}: changes are taken but not served, and signatures are not renewed",
        )
        self.changed("zone", name)
        return f"frozen at serial {serial}"

    def _thaw(self, origin: bytes) -> str:
        if origin not in self._frozen:
            return "it was not frozen"
        name = owners.to_text(origin)
        held = self._frozen.pop(origin)
        self.warn(f"frozen {name}", None)
        self.changed("zone", name)
        if held is None:
            return "thawed; nothing was held back"
        self.serve(held)
        return f"thawed; serial {held.serial} was held back"

    def identities(self) -> Sequence[str]:
        """Our identities in HSYNC3."""
        return ()

    def origin_of(self, origin: bytes, owner: bytes, rdtype: int, rdata: bytes) -> str:
        """Where a served record comes from: ``owner``, ``signer``, or the identity of an agent."""
        return "owner"

    def zone_origin(self, zone: str) -> bytes:
        """Apex of a configured zone; :raises NotFoundError: it is none of ours."""
        try:
            origin = ZoneName(zone).owner
        except ValueError as error:
            raise NotFoundError(str(error)) from None
        if origin not in self.zone_settings:
            raise NotFoundError(f"{zone} is not a zone of {self.identity}")
        return origin

    def zones(self) -> list[Zone]:
        """See :class:`~mpcore.control.service.ControlService`."""
        return [
            zone_view(
                zone,
                self.secondaries[origin],
                self.roles.get(origin),
                self.identities(),
                self.served.get(origin),
                error=self.zone_errors.get(origin),
            ).model_copy(update=self._freezing(origin))
            for origin, zone in self.zone_settings.items()
        ]

    def _freezing(self, origin: bytes) -> dict[str, object]:
        if origin not in self._frozen:
            return {}
        held = self._frozen[origin]
        return {"frozen": True, "held_serial": None if held is None else held.serial}

    def zone_records(self, zone: str, limit: int) -> ZoneRecords:
        """See :class:`~mpcore.control.service.ControlService`."""
        origin = self.zone_origin(zone)
        version = self.served.get(origin)
        if version is None:
            raise NotFoundError(f"{zone} is not loaded yet")
        records: list[ServedRecord] = []
        for owner, rrset in version.rrsets():
            for rdata in rrset.rdatas:
                if len(records) >= limit:
                    return ZoneRecords(zone=zone, serial=version.serial, records=tuple(records), truncated=True)
                records.append(
                    ServedRecord(
                        record=record_text(owner, rrset.rdtype, rrset.ttl, rdata),
                        type=type_text(rrset.rdtype),
                        origin=self.origin_of(origin, owner, rrset.rdtype, rdata),
                    )
                )
        return ZoneRecords(zone=zone, serial=version.serial, records=tuple(records))
