"""NOTIFY (RFC 1996): telling secondaries that a zone has changed, and being told."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import anyio
import anyio.abc

from mpcore.actions import RandomSource
from mpcore.errors import ConfigError, ExchangeError, RemoteError, TsigError
from mpcore.net.clock import Clock
from mpcore.net.keyring import Keyring, find_key
from mpcore.net.messages import (
    NOERROR,
    NOTAUTH,
    NOTIFY,
    NOTIMP,
    REFUSED,
    SOA,
    make_query,
    rcode_of,
    read_soa,
)
from mpcore.net.network import Address, Network
from mpcore.net.remote import Remote
from mpcore.net.server import Request, reply
from mpcore.net.signed import signed_exchange
from mpcore.zone import owners
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneVersion

__all__ = ("Notifiable", "Notifier", "NotifyMessage", "NotifyReceiver", "PendingNotify", "parse_notify", "send_notify")

_log = logging.getLogger(__name__)


# --- in ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotifyMessage:
    """What a NOTIFY says."""

    origin: bytes  #: apex of the zone, wire octets in lower case
    rdtype: int  #: type that changed, SOA for a zone
    serial: int | None  #: serial of the SOA record that came along, a hint that nothing proves


def parse_notify(request: Request) -> NotifyMessage:
    """Read a NOTIFY request.

    :raises ExchangeError: its answer section does not parse.
    """
    return NotifyMessage(request.qname, request.qtype, read_soa(request.octets))


class Notifiable(Protocol):
    """A zone that wants to know of changes at its primaries: a :class:`mpcore.net.secondary.SecondaryZone`."""

    def notified(self, source: Address, serial: int | None = None) -> bool:
        """A NOTIFY came from *source*; ``False``: this is not one of the primaries."""
        ...


class NotifyReceiver:
    """The server's handler for NOTIFY(SOA): register its :meth:`handle` for opcode 4, type 6.

    A NOTIFY for an unknown zone is answered NOTAUTH, one from an address that is not a primary's REFUSED (RFC 1996,
    section 3.10); any other at once with NOERROR, whatever the transfer then brings.

    :param zones: apex (wire octets, lower case) -> zone; looked up for each message, so it may change.
    """

    def __init__(self, zones: Mapping[bytes, Notifiable]) -> None:
        self._zones = zones

    async def handle(self, request: Request) -> bytes:
        """Answer one NOTIFY."""
        zone = self._zones.get(request.qname)
        if zone is None or request.qclass != 1:
            return reply(request, NOTAUTH)
        try:
            serial = parse_notify(request).serial
        except ExchangeError:
            serial = None
        accepted = zone.notified(request.source, serial)
        return reply(request, NOERROR if accepted else REFUSED, authoritative=accepted)


# --- out -----------------------------------------------------------------------------------------------------------


async def send_notify(
    network: Network,
    version: ZoneVersion,
    target: Remote,
    *,
    clock: Clock,
    query_id: int,
    key: TsigKey | None = None,
    over_tcp: bool = False,
    timeout: float = 5.0,
    local_host: str | None = None,
) -> int:
    """Send one NOTIFY(SOA), with the SOA record (RFC 1996, section 3.7), and return the RCODE of the reply.

    :param query_id: 0 to 65535.
    :param key: sign with this key, and want the reply signed.
    :param timeout: seconds.
    :raises ExchangeError: no reply.
    :raises TsigError: the reply's signature is missing or wrong.
    """
    soa = version.soa
    record = b"\xc0\x0c" + struct.pack("!HHIH", SOA, 1, soa.ttl, len(soa.rdatas[0])) + soa.rdatas[0]
    message = make_query(query_id, version.origin, SOA, opcode=NOTIFY, authoritative=True, answer=record)
    answer = await signed_exchange(
        network,
        message,
        target.address,
        target.port,
        key=key,
        clock=clock,
        over_tcp=over_tcp,
        timeout=timeout,
        local_host=local_host,
    )
    return rcode_of(answer)


@dataclass(frozen=True, slots=True)
class PendingNotify:
    """A secondary that has not acknowledged the newest serial yet."""

    origin: bytes
    target: Remote
    serial: int
    attempts: int  #: made so far
    error: str | None  #: why the last one failed


_JobKey: TypeAlias = tuple[bytes, str, int]


@dataclass(slots=True)
class _Job:
    target: Remote
    version: ZoneVersion
    attempts: int = 0
    error: str | None = None
    wake: anyio.Event = field(default_factory=anyio.Event)


class Notifier:
    """Tells secondaries of new versions until they acknowledge or the attempts are used up.

    An attempt is a NOTIFY over UDP, again after *timeout*, and at last over TCP.  After a failed attempt the next
    follows in *first_retry* seconds, doubling up to *last_retry*.  A newer version of the zone restarts the attempts;
    while one is on its way, further versions coalesce into the newest.  A secondary that answers NOTIMP is left alone.

    :param network: where to send.
    :param targets: apex (wire octets, lower case) -> secondaries; looked up at each :meth:`notify`.
    :param keyring: TSIG keys by name.
    :param clock: for TSIG.
    :param random: for message ids, and to spread the retries by a quarter.
    :param timeout: seconds to wait for the first answer over UDP; twice that for the second.
    :param attempts: at least 1.
    :param max_concurrent: exchanges at a time.
    :param local_host: numeric address to send from: receivers know their primaries by address.
    """

    def __init__(
        self,
        network: Network,
        targets: Mapping[bytes, Sequence[Remote]],
        keyring: Keyring,
        *,
        clock: Clock,
        random: RandomSource,
        timeout: float = 1.0,
        attempts: int = 10,
        first_retry: float = 1.0,
        last_retry: float = 60.0,
        max_concurrent: int = 64,
        local_host: str | None = None,
    ) -> None:
        self._network, self._targets, self._keyring = network, targets, keyring
        self._clock, self._random, self._local_host = clock, random, local_host
        self._timeout, self._attempts = timeout, attempts
        self._first_retry, self._last_retry, self._max_concurrent = first_retry, last_retry, max_concurrent
        self._jobs: dict[_JobKey, _Job] = {}
        self._waiting: list[_JobKey] = []
        self._tasks: anyio.abc.TaskGroup | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    @property
    def pending(self) -> tuple[PendingNotify, ...]:
        """The secondaries that have not acknowledged yet."""
        return tuple(
            PendingNotify(key[0], job.target, job.version.serial, job.attempts, job.error)
            for key, job in self._jobs.items()
        )

    def notify(self, version: ZoneVersion) -> None:
        """Tell the zone's secondaries of *version*.  Returns at once; before :meth:`run` it is kept until then."""
        for target in self._targets.get(version.origin, ()):
            key = (version.origin, target.address, target.port)
            job = self._jobs.get(key)
            if job is not None:
                job.target, job.version, job.attempts = target, version, 0
                job.wake.set()
            else:
                self._jobs[key] = _Job(target, version)
                if self._tasks is None:
                    self._waiting.append(key)
                else:
                    self._tasks.start_soon(self._work, key)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled."""
        self._limiter = anyio.CapacityLimiter(self._max_concurrent)
        async with anyio.create_task_group() as self._tasks:
            try:
                for key in self._waiting:
                    self._tasks.start_soon(self._work, key)
                self._waiting.clear()
                task_status.started()
                await anyio.sleep_forever()
            finally:
                self._tasks = None  # at once: a version published during the shutdown must not start a task here

    async def _work(self, key: _JobKey) -> None:
        job = self._jobs[key]
        try:
            while job.attempts < self._attempts:
                job.wake = anyio.Event()
                version = job.version
                done = await self._attempt(job, version)
                if job.version is not version:
                    continue
                if done:
                    return
                job.attempts += 1
                pause = min(self._first_retry * 2 ** (job.attempts - 1), self._last_retry)
                with anyio.move_on_after(pause * self._random.uniform(1, 1.25)):
                    await job.wake.wait()
            _log.warning(
                "%s: %s port %d does not take our NOTIFY of serial %d: %s",
                owners.to_text(key[0]),
                *key[1:],
                job.version.serial,
                job.error,
            )
        finally:
            del self._jobs[key]

    async def _attempt(self, job: _Job, version: ZoneVersion) -> bool:
        """Whether there is nothing more to do for this version."""
        assert self._limiter is not None
        try:
            key = find_key(self._keyring, job.target.tsig_key)
        except ConfigError as error:
            job.error = str(error)
            return False
        query_id = self._random.getrandbits(16)
        for over_tcp, timeout in ((False, self._timeout), (False, 2 * self._timeout), (True, 5 * self._timeout)):
            try:
                async with self._limiter:
                    rcode = await send_notify(
                        self._network,
                        version,
                        job.target,
                        clock=self._clock,
                        query_id=query_id,
                        key=key,
                        over_tcp=over_tcp,
                        timeout=timeout,
                        local_host=self._local_host,
                    )
            except TsigError as error:
                job.error = str(error)
                return False
            except RemoteError as error:
                job.error = str(error)
                if job.version is not version:
                    return False
            else:
                job.error = None if rcode == NOERROR else f"answered with RCODE {rcode}"
                return rcode in (NOERROR, NOTIMP)
        return False
