"""Client of the control API: typed calls to one daemon over its Unix socket.

HTTP/1.1 by h11 on anyio, one connection for each call and one for an event stream; nothing is held between calls.
The module is small to import, because every one-shot command pays for it.

What the daemon reports becomes what :class:`~mpcore.control.service.ControlService` would have raised in the same
process: ``refused`` :class:`~mpcore.errors.PolicyError`, ``not-found`` :class:`~mpcore.errors.NotFoundError`,
``conflict`` :class:`~mpcore.errors.ConflictError`, ``not-ready`` :class:`~mpcore.errors.NotReadyError`, ``timeout``
:class:`TimeoutError`, ``usage`` :class:`ControlUsageError`, ``internal`` :class:`ControlError`; a daemon that cannot be
reached, or does not answer in time, :class:`ControlUnreachable`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import anyio
import h11
from anyio.abc import SocketStream
from pydantic import BaseModel, TypeAdapter, ValidationError

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
    Problem,
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
from mpcore.errors import ConfigError, ConflictError, LocalError, NotFoundError, NotReadyError, PolicyError

__all__ = (
    "MAX_SOCKET_PATH",
    "ControlClient",
    "ControlError",
    "ControlUnreachable",
    "ControlUsageError",
    "check_socket_path",
)

#: Longest path of a control socket, octets; ``sun_path`` has 108 with the final NUL (unix(7)).
MAX_SOCKET_PATH = 99

_MAX_RESPONSE = 64 * 1024 * 1024
_MAX_EVENT = 16 * 1024 * 1024
_CONNECT_TIMEOUT = 5.0
_EVENT_SILENCE = 45.0  # the daemon writes at least a comment every 15 seconds
_RETRY_FIRST, _RETRY_LAST = 0.1, 2.0
_SETTLED = 1.0  # a stream that lasted this long is resumed at once, a shorter one counts as a failure

_Model = TypeVar("_Model", bound=BaseModel)

# Models are built at first use; building the first one of a process reads the installed packages for plugins of
# pydantic, which is nothing for an event loop.
Problem.model_rebuild()


class ControlError(LocalError):
    """The daemon reported an error of its own, or does not speak the control API."""


class ControlUsageError(ControlError):
    """The daemon does not understand the request: an unusable name, record or parameter."""


class ControlUnreachable(ControlError):
    """Nothing answers on the control socket.

    :param path: the socket.
    :param reason: why, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"no daemon answers on {path}: {reason}")


_ERRORS: Mapping[str, type[Exception]] = {
    "refused": PolicyError,
    "usage": ControlUsageError,
    "not-found": NotFoundError,
    "conflict": ConflictError,
    "not-ready": NotReadyError,
    "timeout": TimeoutError,
    "internal": ControlError,
}


def check_socket_path(path: str | os.PathLike[str]) -> str:
    """The path of a control socket as text; :raises ConfigError: it is empty, or too long for a socket address."""
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ConfigError(f"{text!r} is not a path")
    length = len(os.fsencode(text))
    if length > MAX_SOCKET_PATH:
        raise ConfigError(f"{text}: the path of a Unix socket has at most {MAX_SOCKET_PATH} octets, not {length}")
    return text


class ControlClient:
    """Calls to the daemon behind one control socket; the operations of ``ControlService``, all awaited.

    :param path: the Unix socket.
    :param timeout: seconds until a call that does not wait by itself is given up.
    :raises ConfigError: the path is too long for a Unix socket.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 30.0) -> None:
        self._path = check_socket_path(path)
        self._timeout = timeout

    @property
    def path(self) -> str:
        """The Unix socket this client connects to."""
        return self._path

    async def status(self) -> Status:
        """What the daemon says about itself."""
        return await self._get(Status, "/v1/status")

    async def snapshot(self) -> Snapshot:
        """Everything of the daemon at one moment; ``events(after=snapshot.event_id)`` goes on from there."""
        return await self._get(Snapshot, "/v1/snapshot")

    async def peers(self) -> list[Peer]:
        """The peers of the daemon."""
        return await self._get_list(Peer, "/v1/peers")

    async def ping(self, identity: str, timeout: float = 5.0) -> PingResult:
        """Send a ping to a peer and report the round trip; *timeout* in seconds, at most 60."""
        target = _target("/v1/peers/{}/ping", identity, timeout=timeout)
        return self._parse(PingResult, await self._call("POST", target, timeout=timeout))

    async def reset_peer(self, identity: str) -> Peer:
        """Have the daemon forget what it knows of a peer and find it anew."""
        return self._parse(Peer, await self._call("POST", _target("/v1/peers/{}/reset", identity)))

    async def diagnose(self, identity: str, timeout: float = 20.0) -> Diagnosis:
        """What is wrong between the daemon and a peer; *timeout* in seconds, at most 60."""
        target = _target("/v1/peers/{}/doctor", identity, timeout=timeout)
        return self._parse(Diagnosis, await self._call("POST", target, timeout=timeout))

    async def queue(self) -> Queue:
        """The messages that wait for delivery."""
        return await self._get(Queue, "/v1/queue")

    async def queue_action(self, request: QueueRequest) -> QueueResult:
        """Do something with the queue; :raises NotFoundError, ConflictError: no such message; not now."""
        return self._parse(QueueResult, await self._call("POST", "/v1/queue/actions", request))

    async def drain(self, timeout: float) -> Queue:
        """Wait until the queue is empty; :raises TimeoutError: it is not after *timeout* seconds."""
        target = f"/v1/queue/drain?{urlencode({'timeout': timeout})}"
        return self._parse(Queue, await self._call("POST", target, timeout=timeout))

    async def distributions(self) -> list[DistributionInfo]:
        """The messages sent and received of late."""
        return await self._get_list(DistributionInfo, "/v1/distributions")

    async def purge_distributions(self, everything: bool = False) -> Purged:
        """Forget those completed more than five minutes ago, or all that are completed."""
        target = f"/v1/distributions/purge?everything={int(everything)}"
        return self._parse(Purged, await self._call("POST", target))

    async def message_keys(self) -> MessageKeys:
        """The daemon's own keys for messages."""
        return await self._get(MessageKeys, "/v1/message-keys")

    async def message_key_action(self, request: MessageKeyRequest) -> MessageKeys:
        """Take a step of a key roll-over; :raises ConflictError, NotReadyError: it is not its turn, or too early."""
        return self._parse(MessageKeys, await self._call("POST", "/v1/message-keys/actions", request))

    async def certificate(self) -> Certificate:
        """The certificate of an agent for HTTPS; :raises NotFoundError: it has none."""
        return await self._get(Certificate, "/v1/certificate")

    async def certificate_action(self, request: CertificateRequest) -> Certificate:
        """Take a step of a roll-over of its key; :raises ConflictError, NotReadyError: not its turn, or too early."""
        return self._parse(Certificate, await self._call("POST", "/v1/certificate/actions", request))

    async def groups(self) -> list[Group]:
        """The provider groups of the daemon."""
        return await self._get_list(Group, "/v1/groups")

    async def group(self, key: str) -> Group:
        """The group whose hash or name starts with *key*; :raises NotFoundError: none, or more than one."""
        return await self._get(Group, _target("/v1/groups/{}", key))

    async def group_action(self, key: str, request: GroupActionRequest) -> Group:
        """Force an election, or have the daemon step down; :raises ConflictError: not possible here."""
        return self._parse(Group, await self._call("POST", _target("/v1/groups/{}/actions", key), request))

    async def zones(self) -> list[Zone]:
        """The zones of the daemon."""
        return await self._get_list(Zone, "/v1/zones")

    async def zone_records(self, zone: str, limit: int = 1000) -> ZoneRecords:
        """The first *limit* records of a zone as served, with their origins."""
        return await self._get(ZoneRecords, _target("/v1/zones/{}/records", zone, limit=limit))

    async def edits(self, zone: str) -> SdeZone:
        """The synchronised data of a zone."""
        return await self._get(SdeZone, _target("/v1/zones/{}/edits", zone))

    async def contributions(self, zone: str) -> Contributions:
        """The contributions that a combiner holds for a zone."""
        return await self._get(Contributions, _target("/v1/zones/{}/contributions", zone))

    async def keys(self, zone: str) -> list[Key]:
        """The DNSSEC keys of a zone."""
        return await self._get_list(Key, _target("/v1/zones/{}/keys", zone))

    async def tsig_keys(self) -> list[TsigKeyInfo]:
        """The TSIG keys that the daemon knows, without their secrets."""
        return await self._get_list(TsigKeyInfo, "/v1/tsig-keys")

    async def zone_action(self, zone: str, request: ZoneActionRequest) -> ZoneActionResult:
        """Do something with a zone of a combiner or signer; :raises NotReadyError, ConflictError: not now."""
        return self._parse(ZoneActionResult, await self._call("POST", _target("/v1/zones/{}/actions", zone), request))

    async def plan(self, zone: str, request: ChangeRequest) -> ChangePlan:
        """What *request* would do; nothing is changed, whatever its ``dry_run`` says."""
        body = request.model_copy(update={"dry_run": True})
        return self._parse(ChangePlan, await self._call("POST", _target("/v1/zones/{}/changes", zone), body))

    async def change(self, zone: str, request: ChangeRequest) -> Transaction:
        """Accept a change, whatever ``dry_run`` says; it is durable at the daemon when this returns."""
        body = request.model_copy(update={"dry_run": False})
        return self._parse(Transaction, await self._call("POST", _target("/v1/zones/{}/changes", zone), body))

    async def transactions(self) -> list[Transaction]:
        """The changes the daemon knows about."""
        return await self._get_list(Transaction, "/v1/transactions")

    async def transaction(self, transaction_id: str) -> Transaction:
        """One change."""
        return await self._get(Transaction, _target("/v1/transactions/{}", transaction_id))

    async def wait(self, transaction_id: str, level: Wait, timeout: float) -> Transaction:
        """Wait until *level* is reached or the fate is sealed; :raises TimeoutError: *timeout* seconds passed."""
        target = _target("/v1/transactions/{}", transaction_id, wait=level.value, timeout=timeout)
        return self._parse(Transaction, await self._call("GET", target, timeout=timeout))

    async def events(self, after: int | None = None, *, patience: float = 0.0) -> AsyncGenerator[Event, None]:
        """Follow the event stream; where the connection breaks, resume after the last event received.

        A ``gap`` event means that events are missing: read the snapshot again.

        :param after: give events with a greater id, usually ``snapshot.event_id``; ``None``: from now on.
        :param patience: seconds to keep trying while the daemon cannot be reached (it restarts, say).
        :raises ControlUnreachable: the daemon is out of reach for longer than *patience*.
        """
        position = after
        give_up = anyio.current_time() + patience
        delay = _RETRY_FIRST
        while True:
            connected_at: float | None = None
            try:
                async with aclosing(self._stream(position)) as stream:
                    async for event in stream:
                        if event is None:
                            connected_at = anyio.current_time()
                        else:
                            position = event.id
                            yield event
            except ControlUnreachable:
                now = anyio.current_time()
                if connected_at is not None and now - connected_at >= _SETTLED:
                    give_up, delay = now + patience, _RETRY_FIRST
                    continue
                if now >= give_up:
                    raise
                await anyio.sleep(min(delay, give_up - now))
                delay = min(2 * delay, _RETRY_LAST)

    # -- one call

    async def _get(self, model: type[_Model], target: str) -> _Model:
        return self._parse(model, await self._call("GET", target))

    async def _get_list(self, model: type[_Model], target: str) -> list[_Model]:
        body = await self._call("GET", target)
        try:
            return TypeAdapter(list[model]).validate_json(body)  # type: ignore[valid-type]
        except ValidationError as error:
            raise self._foreign(error) from None

    def _parse(self, model: type[_Model], body: bytes) -> _Model:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise self._foreign(error) from None

    def _foreign(self, reason: object) -> ControlError:
        return ControlError(f"the daemon on {self._path} does not speak this control API: {reason}")

    async def _connect(self) -> SocketStream:
        try:
            with anyio.fail_after(_CONNECT_TIMEOUT):
                return await anyio.connect_unix(self._path)
        except TimeoutError:
            raise ControlUnreachable(self._path, f"not accepted within {_CONNECT_TIMEOUT:g} s") from None
        except FileNotFoundError:
            raise ControlUnreachable(self._path, "no such socket; is the daemon running?") from None
        except ConnectionRefusedError:
            raise ControlUnreachable(self._path, "the socket is left over from a daemon that has ended") from None
        except OSError as error:
            raise ControlUnreachable(self._path, error.strerror or str(error)) from None

    async def _call(self, method: str, target: str, body: BaseModel | None = None, *, timeout: float = 0.0) -> bytes:
        """Send one request and return the body of a success; *timeout* is added to the client's own."""
        limit = self._timeout + timeout
        content = b"" if body is None else body.model_dump_json().encode()
        async with await self._connect() as stream:
            exchange = _Exchange(stream, method, target, content)
            with self._broken(exchange, f"no answer within {limit:g} s"), anyio.fail_after(limit):
                status = await exchange.send()
                received = await self._whole_body(exchange)
        if not 200 <= status < 300:
            self._raise(status, received)
        return received

    async def _whole_body(self, exchange: _Exchange) -> bytes:
        received = bytearray()
        while (part := await exchange.read()) is not None:
            received += part
            if len(received) > _MAX_RESPONSE:
                raise self._foreign(f"an answer of more than {_MAX_RESPONSE} octets")
        return bytes(received)

    @contextmanager
    def _broken(self, exchange: _Exchange, late: str) -> Iterator[None]:
        """Turn what happens to a connection into our errors."""
        try:
            yield
        except TimeoutError:
            raise ControlUnreachable(self._path, late) from None
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            raise ControlUnreachable(self._path, "the connection was closed before the answer was complete") from None
        except h11.RemoteProtocolError as error:
            if exchange.ended:
                raise ControlUnreachable(self._path, "the daemon ended in the middle of an answer") from None
            raise self._foreign(error) from None

    def _raise(self, status: int, body: bytes) -> NoReturn:
        try:
            problem = Problem.model_validate_json(body)
        except ValidationError:
            if status == 503:
                raise NotReadyError(f"the daemon on {self._path} has too many connections") from None
            raise self._foreign(f"HTTP status {status} without a problem description") from None
        raise _ERRORS[problem.error](problem.message)

    # -- the event stream

    async def _stream(self, after: int | None) -> AsyncGenerator[Event | None, None]:
        """``None`` once connected, then the events of one connection; ends in ControlUnreachable."""
        target = "/v1/events" if after is None else f"/v1/events?after={int(after)}"
        async with await self._connect() as stream:
            exchange = _Exchange(stream, "GET", target, b"")
            with self._broken(exchange, "no answer"), anyio.fail_after(self._timeout):
                status = await exchange.send()
                refusal = None if status == 200 else await self._whole_body(exchange)
            if refusal is not None:
                self._raise(status, refusal)
            yield None
            lines = _Lines()
            while True:
                with self._broken(exchange, "the event stream fell silent"), anyio.fail_after(_EVENT_SILENCE):
                    part = await exchange.read()
                if part is None:
                    raise ControlUnreachable(self._path, "the daemon ended the event stream")
                try:
                    complete = lines.feed(part)
                except _TooLongError:
                    raise self._foreign(f"an event of more than {_MAX_EVENT} octets") from None
                for data in complete:
                    yield self._parse(Event, data)


class _Exchange:
    """One request and its answer on a fresh connection."""

    def __init__(self, stream: SocketStream, method: str, target: str, content: bytes) -> None:
        self._stream, self._content = stream, content
        self._connection = h11.Connection(h11.CLIENT)
        headers = [("Host", "localhost"), ("Connection", "close"), ("Accept", "application/json, text/event-stream")]
        if content or method != "GET":
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        self._request = h11.Request(method=method, target=target, headers=headers)
        self.ended = False

    async def send(self) -> int:
        """Send the request; return the status of the answer."""
        octets = self._connection.send(self._request) or b""
        if self._content:
            octets += self._connection.send(h11.Data(data=self._content)) or b""
        octets += self._connection.send(h11.EndOfMessage()) or b""
        await self._stream.send(octets)
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event.status_code

    async def read(self) -> bytes | None:
        """The next part of the answer's body, ``None`` at its end."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _event(self) -> h11.Event:
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    octets = await self._stream.receive()
                except anyio.EndOfStream:
                    self.ended = True
                    octets = b""
                self._connection.receive_data(octets)
            elif isinstance(event, h11.ConnectionClosed):
                raise anyio.EndOfStream
            else:
                assert isinstance(event, h11.Event)
                return event


class _TooLongError(Exception):
    pass


class _Lines:
    """The ``data`` of server-sent events (HTML Living Standard, section 9.2.6), as our daemons write them."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, octets: bytes) -> Sequence[bytes]:
        """Take octets of the stream; return the data of the events that are complete now."""
        complete: list[bytes] = []
        self._pending += octets
        *lines, rest = self._pending.split(b"\n")
        self._pending = bytearray(rest)
        for raw in lines:
            line = bytes(raw.removesuffix(b"\r"))
            if not line:
                if self._data:
                    complete.append(b"\n".join(self._data))
                self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
        if self._size + len(self._pending) > _MAX_EVENT:
            raise _TooLongError
        return complete


def _target(pattern: str, name: str, **query: Any) -> str:
    path = pattern.format(quote(name, safe=""))
    return f"{path}?{urlencode(query)}" if query else path
