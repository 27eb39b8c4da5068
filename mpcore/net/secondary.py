"""A zone kept up to date from its primaries: SOA timers, NOTIFY, failover (RFC 1034, section 4.3.5; RFC 1996).

What happens when, for one zone:

==================================  ================================================================================
event                               what follows
==================================  ================================================================================
start                               transfer at once; on failure again after 0.2 s, doubling up to 30 s
NOTIFY from a primary               that primary is asked at once, the others if it has nothing newer
NOTIFY while one is at work         one more refresh when it is done, however many came
REFRESH has passed                  all primaries are asked for their serial, the last good one first
newer serial (RFC 1982)             IXFR, or AXFR where that cannot be; the version is given to the hooks and then to
                                    ``on_version``
refused by a before-refresh hook    the version in service stays; the zone is confirmed, and the refused version is not
                                    fetched again until its serial changes
restored from a former run          in service until EXPIRE has passed since its last confirmation; transferred anew
                                    only if a primary has a newer serial
IXFR refused or of no use           AXFR at once, and no IXFR from that primary for an hour
connection lost during IXFR         AXFR at the next attempt
same serial                         the zone is confirmed: REFRESH and EXPIRE start anew
older serial                        counts as a failure of this primary
every primary failed                again after 0.2 s, doubling up to RETRY
EXPIRE has passed unconfirmed       the state is ``expired``; the next serial is taken, whatever it is
==================================  ================================================================================

Serial query and transfer share one TCP connection: nobody can forge the answer from afar, a dead primary is
noticed at once, and it costs no more round trips than a query over UDP before the transfer.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from random import SystemRandom

import anyio
import anyio.abc

from mpcore.actions import RandomSource
from mpcore.errors import ConfigError, ExchangeError, MpError, RemoteError, TransferError, ZoneRefusedError
from mpcore.net.clock import Clock
from mpcore.net.hooks import Hooks, Refresh
from mpcore.net.keyring import Keyring, find_key
from mpcore.net.network import Address, Network
from mpcore.net.remote import Remote
from mpcore.net.tls import TlsClient
from mpcore.net.transfer import PrimaryConnection, Run, TransferLimits, run_inline
from mpcore.zone import owners
from mpcore.zone.serial import compare
from mpcore.zone.version import ZoneVersion

__all__ = ("SecondaryZone", "ZoneState")

_log = logging.getLogger(__name__)

_FIRST_RETRY = 0.2  # seconds
_LAST_FIRST_RETRY = 30.0  # seconds, while nothing was ever loaded
_WITHOUT_IXFR = 3600.0  # seconds, after a primary answered IXFR with something that is of no use
_WITHOUT_IXFR_ONCE = 60.0  # seconds, after the connection was lost


class ZoneState(StrEnum):
    """Where a secondary zone stands; the values are those of the control API."""

    LOADING = "loading"  #: no version yet, no primary answered
    READY = "ready"
    EXPIRED = "expired"  #: not confirmed by any primary for longer than EXPIRE: not to be served
    ERROR = "error"  #: no version yet, and what a primary answered cannot be used


class SecondaryZone:
    """One zone and its primaries.

    :param network: where the primaries are.
    :param origin: apex, wire octets in lower case.
    :param primaries: at least one, in order of preference.
    :param keyring: TSIG keys by name.
    :param clock: for TSIG, and for :attr:`refreshed_at`.
    :param on_version: awaited with each new version that the hooks let pass.  Timers and NOTIFY wait for it; if it
        raises an :class:`~mpcore.errors.MpError`, the version counts as not received and is fetched again later.
    :param hooks: who else takes part, see :mod:`mpcore.net.hooks`; ``None``: nobody.
    :param on_confirmed: called when a primary has confirmed the zone or given a newer version, which has been taken.
    :param on_state: called after each change of :attr:`state` or :attr:`error`.
    :param min_refresh: lower bound of REFRESH and RETRY, seconds.
    :param max_refresh: upper bound of both.
    :param random: message ids, and REFRESH shortened by up to a tenth so that zones spread.
    :param limits: bounds of a transfer; ``None`` for the defaults.
    :param limiter: shared between zones: how many may transfer at a time.
    :param local_host: numeric address to connect from.
    :param run: where transfers are decoded, see :class:`mpcore.net.transfer.Run`.
    :param initial: a version kept from before; it is compared with the primaries' at the start.
    :param incremental: ask for changes (IXFR) where there is a version to begin with.
    """

    def __init__(
        self,
        network: Network,
        origin: bytes,
        primaries: Sequence[Remote],
        keyring: Keyring,
        *,
        clock: Clock,
        on_version: Callable[[ZoneVersion], Awaitable[None]],
        on_state: Callable[[SecondaryZone], None] | None = None,
        on_confirmed: Callable[[SecondaryZone], None] | None = None,
        hooks: Hooks | None = None,
        min_refresh: float = 60.0,
        max_refresh: float = 28800.0,
        random: RandomSource | None = None,
        limits: TransferLimits | None = None,
        limiter: anyio.CapacityLimiter | None = None,
        local_host: str | None = None,
        run: Run = run_inline,
        initial: ZoneVersion | None = None,
        incremental: bool = True,
    ) -> None:
        if not primaries:
            raise ConfigError("a secondary zone needs a primary", key="primaries")
        self.origin = origin
        self.version = initial  #: newest version received, as received
        self.state = ZoneState.LOADING if initial is None else ZoneState.READY
        self.error: str | None = None  #: why the last refresh failed; ``None`` if it did not
        self.refreshed_at: float | None = None  #: Unix time of the last confirmation by a primary
        self.primary: str | None = None  #: ``address:port`` of the primary that confirmed last
        self.refused: str | None = None  #: why the newest version received is not the one in service
        self._taken = initial
        self._on_confirmed, self._hooks = on_confirmed, hooks
        self._network, self._primaries, self._keyring = network, tuple(primaries), keyring
        self._clock, self._on_version, self._on_state = clock, on_version, on_state
        self._min, self._max = min_refresh, max(min_refresh, max_refresh)
        self._random = random or SystemRandom()
        self._limits, self._limiter, self._local_host, self._run = (
            limits or TransferLimits(),
            limiter,
            local_host,
            run,
        )
        self._incremental = incremental
        self._whole_until: dict[Address, float] = {}  # no IXFR from this primary before that time
        self._tls = {
            (primary.address, primary.port): TlsClient.of(identity)
            for primary in self._primaries
            if (identity := getattr(primary, "tls", None)) is not None
        }
        self._good: Remote | None = None
        self._told_by: Remote | None = None
        self._forced = False
        self._failures = 0
        self._wake: anyio.Event | None = None
        self._asked = False
        self._hosts = {_normal(primary.address): primary for primary in reversed(self._primaries)}

    def restore(self, version: ZoneVersion, refreshed_at: float) -> bool:
        """Go on from a former run, before :meth:`run`.

        :param version: the one in service then, as received.
        :param refreshed_at: Unix time when a primary confirmed it last.
        :return: whether it may be served: EXPIRE has not passed since.
        """
        self.version = self._taken = version
        self.refreshed_at = min(refreshed_at, self._clock.now())
        expired = self.refreshed_at + self._timers(version)[2] <= self._clock.now()
        self.state = ZoneState.EXPIRED if expired else ZoneState.READY
        return not expired

    @property
    def serial(self) -> int | None:
        """Serial of the newest version received."""
        return None if self.version is None else self.version.serial

    def notified(self, source: Address, serial: int | None = None) -> bool:
        """A NOTIFY came: refresh at once, or once more after the refresh that is at work.

        :param source: where it came from; only primaries are heard, by address, whatever the port.
        :param serial: a hint (RFC 1996, section 3.7); the serial we have already needs no refresh.
        :return: whether it came from a primary.
        """
        primary = self._hosts.get(_normal(source[0]))
        if primary is None:
            return False
        if serial is None or serial != self.serial or self.state is not ZoneState.READY or self.error is not None:
            self._told_by = primary
            self._ask()
        return True

    def refresh_now(self, *, force: bool = False) -> None:
        """Refresh at once, or once more after the refresh that is at work.

        :param force: transfer even if no primary has a newer serial, and take what comes.
        """
        self._forced = self._forced or force
        self._ask()

    def _ask(self) -> None:
        self._asked = True
        if self._wake is not None:
            self._wake.set()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the zone up to date until cancelled."""
        task_status.started()
        start = anyio.current_time()
        expires = None
        if self.version is not None:
            expires = start + self._timers(self.version)[2]
            if self.refreshed_at is not None:
                expires -= self._clock.now() - self.refreshed_at
        while True:
            self._asked = False
            confirmed = await self._refresh()
            now = anyio.current_time()
            if confirmed:
                assert self.version is not None
                refresh, _, expire = self._timers(self.version)
                expires = now + expire
                pause = refresh * self._random.uniform(0.9, 1.0)
            else:
                limit = _LAST_FIRST_RETRY if self.version is None else self._timers(self.version)[1]
                pause = min(_FIRST_RETRY * 2.0 ** min(self._failures - 1, 32), limit)
            await self._wait(now + pause, expires)
            if expires is not None and anyio.current_time() >= expires and self.state is ZoneState.READY:
                _log.error("%s expired: no primary has confirmed serial %s", self._name, self.serial)
                self._set(ZoneState.EXPIRED, self.error)

    async def _wait(self, until: float, expires: float | None) -> None:
        """Until a refresh is due or asked for, or the zone expires."""
        if self.state is ZoneState.READY and expires is not None:
            until = min(until, expires)
        if self._asked:
            return
        self._wake = anyio.Event()
        try:
            with anyio.move_on_after(max(0.0, until - anyio.current_time())):
                await self._wake.wait()
        finally:
            self._wake = None

    def _timers(self, version: ZoneVersion) -> tuple[float, float, float]:
        """REFRESH, RETRY and EXPIRE, within our bounds and sensible to each other."""
        soa = version.soa.rdatas[0]
        refresh, retry, expire = (int.from_bytes(soa[at : at + 4], "big") for at in (-16, -12, -8))
        refresh_in = min(max(refresh, self._min), self._max)
        retry_in = min(max(retry, self._min), refresh_in)
        return refresh_in, retry_in, max(float(expire), refresh_in + retry_in)

    def _order(self) -> list[Remote]:
        """The primaries: first the one that sent NOTIFY, then the one that answered last time."""
        told_by, self._told_by = self._told_by, None
        first = [primary for primary in (told_by, self._good) if primary is not None]
        return list(dict.fromkeys([*first, *self._primaries]))

    async def _refresh(self) -> bool:
        """Ask the primaries; whether one of them confirmed the zone or gave a newer version."""
        forced, self._forced = self._forced, False
        faults: list[RemoteError | ConfigError] = []
        confirmed = False
        for primary in self._order():
            try:
                version = await self._fetch(primary, forced)
                if version is not None:
                    await self._take(version)
            except (RemoteError, ConfigError) as error:
                faults.append(error)
                continue
            except MpError as error:  # ours: another primary will not change it
                faults.append(ConfigError(str(error)))
                break
            self._good, self.primary = primary, _where(primary)
            self.refreshed_at = self._clock.now()
            confirmed = True
            if version is not None:
                _log.info("%s: serial %d transferred from %s", self._name, version.serial, self.primary)
                break
        if confirmed:
            self._failures = 0
            self._set(ZoneState.READY, None)
            if self._on_confirmed is not None:
                self._on_confirmed(self)
        else:
            self._failures += 1
            self._forced = self._forced or forced
            error_text = "; ".join(dict.fromkeys(str(fault) for fault in faults))
            if error_text != self.error:
                _log.warning("%s: refresh failed: %s", self._name, error_text)
            state = self.state
            if self.version is None:
                unusable = any(not isinstance(fault, ExchangeError) for fault in faults)
                state = ZoneState.ERROR if unusable else ZoneState.LOADING
            self._set(state, error_text)
        return confirmed

    async def _take(self, received: ZoneVersion) -> None:
        """Let the hooks see a version, put it into service, and tell what has changed."""
        old, version = self._taken, received
        if self._hooks is not None:
            try:
                version = await self._hooks.refreshing(Refresh(self.origin, old, received))
            except ZoneRefusedError as error:
                # It stays the base of further changes: what mends it then comes as a change.
                self.version, self.refused = received, str(error)
                _log.error("%s: serial %d is not taken: %s", self._name, received.serial, error)
                if self._on_state is not None:
                    self._on_state(self)
                return
        await self._on_version(version)
        self.version, self._taken, self.refused = received, version, None
        if self._hooks is not None:
            await self._hooks.refreshed(Refresh(self.origin, old, version))

    async def _fetch(self, primary: Remote, forced: bool) -> ZoneVersion | None:
        """A version newer than ours, or ``None`` if ours is what the primary has."""
        ours = None if forced or self.version is None or self.state is ZoneState.EXPIRED else self.version.serial
        key = find_key(self._keyring, primary.tsig_key)
        where = (primary.address, primary.port)
        async with PrimaryConnection(
            self._network,
            self.origin,
            where,
            key=key,
            clock=self._clock,
            random=self._random,
            limits=self._limits,
            local_host=self._local_host,
            run=self._run,
            tls=self._tls.get(where),
        ) as connection:
            if ours is not None and not self._is_newer(await connection.soa_serial(), ours, primary):
                return None
            async with self._limiter or nullcontext():
                version = await self._transfer(connection, where, None if ours is None else self.version)
            return version if ours is None or self._is_newer(version.serial, ours, primary) else None

    async def _transfer(self, connection: PrimaryConnection, primary: Address, base: ZoneVersion | None) -> ZoneVersion:
        now = anyio.current_time()
        incremental = self._incremental and self._whole_until.get(primary, now) <= now
        try:
            version = await connection.transfer(base, incremental=incremental)
        except ExchangeError:
            if base is not None and incremental:
                self._whole_until[primary] = now + _WITHOUT_IXFR_ONCE
            raise
        if connection.fell_back is not None:
            _log.info("%s: no incremental transfer from %s: %s", self._name, primary[0], connection.fell_back)
            self._whole_until[primary] = now + _WITHOUT_IXFR
        return version

    def _is_newer(self, theirs: int, ours: int, primary: Remote) -> bool:
        order = compare(theirs, ours)
        if order < 0:
            raise TransferError(f"{_where(primary)} has serial {theirs}, which is behind our {ours}")
        return order > 0

    def _set(self, state: ZoneState, error: str | None) -> None:
        changed = (state, error) != (self.state, self.error)
        self.state, self.error = state, error
        if changed and self._on_state is not None:
            self._on_state(self)

    @property
    def _name(self) -> str:
        return owners.to_text(self.origin)


def _where(primary: Remote) -> str:
    return f"[{primary.address}]:{primary.port}" if ":" in primary.address else f"{primary.address}:{primary.port}"


def _normal(host: str) -> str:
    """One spelling for each address; IPv4-mapped IPv6 addresses are IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
