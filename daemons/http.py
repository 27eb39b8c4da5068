"""The control API over HTTP: a thin shell around any :class:`~mpcore.control.service.ControlService`.

Served on a Unix socket that is bound here, in a directory of mode 0700, to processes of the same user and of root
(``SO_PEERCRED``, unix(7), checked when a connection is accepted).  There is no other authentication on this socket
and no other listener.

========================================  =========================================================================
``GET /v1/status``                        Status
``GET /v1/snapshot``                      Snapshot
``GET /v1/peers``                         list of Peer
``POST /v1/peers/{identity}/ping``        PingResult; ``?timeout=`` seconds, at most 60
``POST /v1/peers/{identity}/reset``       Peer
``POST /v1/peers/{identity}/doctor``      Diagnosis; ``?timeout=`` seconds, at most 60
``GET /v1/queue``                         Queue
``POST /v1/queue/actions``                QueueRequest; QueueResult
``POST /v1/queue/drain``                  Queue, when it is empty; ``?timeout=`` seconds
``GET /v1/distributions``                 list of DistributionInfo
``POST /v1/distributions/purge``          Purged; ``?everything=1``
``GET /v1/message-keys``                  MessageKeys
``POST /v1/message-keys/actions``         MessageKeyRequest; MessageKeys
``GET /v1/groups``                        list of Group
``GET /v1/groups/{key}``                  Group; *key* is the beginning of its hash or name
``POST /v1/groups/{key}/actions``         GroupActionRequest; Group
``GET /v1/zones``                         list of Zone
``GET /v1/zones/{zone}/records``          ZoneRecords; ``?limit=`` records, at most 10000
``GET /v1/zones/{zone}/edits``            SdeZone
``GET /v1/zones/{zone}/contributions``    Contributions
``GET /v1/zones/{zone}/keys``             list of Key
``POST /v1/zones/{zone}/changes``         ChangeRequest; 200 ChangePlan (``dry_run``) or 202 Transaction
``POST /v1/zones/{zone}/actions``         ZoneActionRequest; ZoneActionResult
``GET /v1/tsig-keys``                     list of TsigKeyInfo
``GET /v1/transactions``                  list of Transaction
``GET /v1/transactions/{id}``             Transaction; ``?wait=`` level, ``?timeout=`` seconds
``GET /v1/events``                        Event stream (server-sent events); ``?after=`` id, or ``Last-Event-ID``
``GET /v1/openapi.json``                  this table, for machines
========================================  =========================================================================

Every answer that is not a success is a Problem.  asyncio appears here because uvicorn is an asyncio server; this file
is one of the two edges where it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import anyio
import anyio.abc
import anyio.to_thread
import h11
import uvicorn
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemons.config import private_directory
from mpcore.control.client import check_socket_path
from mpcore.control.models import (
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
from mpcore.control.service import ControlService
from mpcore.errors import (
    ConflictError,
    LocalError,
    NotFoundError,
    NotReadyError,
    PolicyError,
    RemoteError,
)
from mpcore.names import Identity, InvalidNameError, ZoneName

__all__ = ("bind_control_socket", "control_app", "openapi_document", "serve_control")

_log = logging.getLogger(__name__)

_MAX_BODY = 64 * 1024
_MAX_HEAD = 16 * 1024
_MAX_CONNECTIONS = 128
_MAX_RECORDS = 10_000
_MAX_PING = 60.0
_MAX_WAIT = 86_400.0
_KEEP_ALIVE = 15.0  # seconds between signs of life on an event stream
_STOP_WITHIN = 3  # seconds for open answers when the daemon stops

_Result = TypeVar("_Result")
_Model = TypeVar("_Model", bound=BaseModel)

_MODELS: tuple[type[BaseModel], ...] = (
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
    Zone,
    ZoneActionRequest,
    ZoneActionResult,
    ZoneRecords,
)

# Models are built at first use, which takes some milliseconds: not in the event loop, and once for all forks.
for _model in _MODELS:
    _model.model_rebuild()

_STATUS = {
    "usage": 400,
    "refused": 403,
    "not-found": 404,
    "conflict": 409,
    "internal": 500,
    "not-ready": 503,
    "timeout": 504,
}


class _ProblemError(Exception):
    """A request that is answered with a Problem, by this shell rather than by the service."""

    def __init__(self, error: str, message: str, *, status: int | None = None) -> None:
        self.error, self.message, self.status = error, message, status or _STATUS[error]
        super().__init__(message)


# ---------------------------------------------------------------------------------------------------------------------
# The application


def control_app(service: ControlService, *, closing: anyio.Event | None = None) -> Starlette:
    """The ASGI application.

    :param service: who does the work; its errors become Problems.
    :param closing: event streams end when this is set.
    """
    stop = closing if closing is not None else anyio.Event()
    api = _Api(service, stop)
    routes = [
        Route("/v1/status", api.status, methods=["GET"]),
        Route("/v1/snapshot", api.snapshot, methods=["GET"]),
        Route("/v1/peers", api.peers, methods=["GET"]),
        Route("/v1/peers/{identity}/ping", api.ping, methods=["POST"]),
        Route("/v1/peers/{identity}/reset", api.reset_peer, methods=["POST"]),
        Route("/v1/peers/{identity}/doctor", api.doctor, methods=["POST"]),
        Route("/v1/queue", api.queue, methods=["GET"]),
        Route("/v1/queue/actions", api.queue_action, methods=["POST"]),
        Route("/v1/queue/drain", api.drain, methods=["POST"]),
        Route("/v1/distributions", api.distributions, methods=["GET"]),
        Route("/v1/distributions/purge", api.purge, methods=["POST"]),
        Route("/v1/message-keys", api.message_keys, methods=["GET"]),
        Route("/v1/message-keys/actions", api.message_key_action, methods=["POST"]),
        Route("/v1/groups", api.groups, methods=["GET"]),
        Route("/v1/groups/{key}", api.group, methods=["GET"]),
        Route("/v1/groups/{key}/actions", api.group_action, methods=["POST"]),
        Route("/v1/zones", api.zones, methods=["GET"]),
        # A zone's name may contain a slash (RFC 2317).
        Route("/v1/zones/{zone:path}/records", api.records, methods=["GET"]),
        Route("/v1/zones/{zone:path}/edits", api.edits, methods=["GET"]),
        Route("/v1/zones/{zone:path}/contributions", api.contributions, methods=["GET"]),
        Route("/v1/zones/{zone:path}/keys", api.keys, methods=["GET"]),
        Route("/v1/zones/{zone:path}/changes", api.changes, methods=["POST"]),
        Route("/v1/zones/{zone:path}/actions", api.actions, methods=["POST"]),
        Route("/v1/tsig-keys", api.tsig_keys, methods=["GET"]),
        Route("/v1/transactions", api.transactions, methods=["GET"]),
        Route("/v1/transactions/{id:path}", api.transaction, methods=["GET"]),
        Route("/v1/events", api.events, methods=["GET"]),
        Route("/v1/openapi.json", api.openapi, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_problem})
    app.router.redirect_slashes = False
    return app


class _Api:
    """One method for each route."""

    def __init__(self, service: ControlService, closing: anyio.Event) -> None:
        self._service, self._closing = service, closing

    async def status(self, request: Request) -> Response:
        return _answer(self._service.status)

    async def snapshot(self, request: Request) -> Response:
        return _answer(self._service.snapshot)

    async def peers(self, request: Request) -> Response:
        return _answer(self._service.peers, list[Peer])

    async def ping(self, request: Request) -> Response:
        async def ping() -> PingResult:
            identity = Identity(request.path_params["identity"])
            timeout = _seconds(request, "timeout", default=5.0, most=_MAX_PING)
            await _body(request)
            return await _while_connected(request, self._service.ping(identity, timeout))

        return await _answer_to(ping)

    async def reset_peer(self, request: Request) -> Response:
        async def reset() -> Peer:
            identity = Identity(request.path_params["identity"])
            await _body(request)
            return await self._service.reset_peer(identity)

        return await _answer_to(reset)

    async def doctor(self, request: Request) -> Response:
        async def diagnose() -> Diagnosis:
            identity = Identity(request.path_params["identity"])
            timeout = _seconds(request, "timeout", default=20.0, most=_MAX_PING)
            await _body(request)
            return await _while_connected(request, self._service.diagnose(identity, timeout))

        return await _answer_to(diagnose)

    async def queue(self, request: Request) -> Response:
        return _answer(self._service.queue_view)

    async def queue_action(self, request: Request) -> Response:
        async def act() -> QueueResult:
            return await self._service.queue_action(_order(QueueRequest, await _body(request)))

        return await _answer_to(act)

    async def drain(self, request: Request) -> Response:
        async def drain() -> Queue:
            timeout = _seconds(request, "timeout", default=60.0, most=_MAX_WAIT)
            await _body(request)
            return await _while_connected(request, self._service.drain(timeout))

        return await _answer_to(drain)

    async def distributions(self, request: Request) -> Response:
        return _answer(self._service.distributions, list[DistributionInfo])

    async def purge(self, request: Request) -> Response:
        async def purge() -> Purged:
            everything = request.query_params.get("everything", "0")
            if everything not in ("0", "1"):
                raise _ProblemError("usage", f"everything={everything}: 0 or 1 is expected")
            await _body(request)
            return self._service.purge_distributions(everything == "1")

        return await _answer_to(purge)

    async def message_keys(self, request: Request) -> Response:
        return _answer(self._service.message_keys)

    async def message_key_action(self, request: Request) -> Response:
        async def act() -> MessageKeys:
            return await self._service.message_key_action(_order(MessageKeyRequest, await _body(request)))

        return await _answer_to(act)

    async def group_action(self, request: Request) -> Response:
        async def act() -> Group:
            order = _order(GroupActionRequest, await _body(request))
            return await self._service.group_action(request.path_params["key"], order)

        return await _answer_to(act)

    async def groups(self, request: Request) -> Response:
        return _answer(self._service.groups, list[Group])

    async def group(self, request: Request) -> Response:
        return _answer(lambda: self._service.group(request.path_params["key"]))

    async def zones(self, request: Request) -> Response:
        return _answer(self._service.zones, list[Zone])

    async def records(self, request: Request) -> Response:
        return _answer(
            lambda: self._service.zone_records(
                _zone(request), _whole(request, "limit", default=1000, most=_MAX_RECORDS)
            )
        )

    async def edits(self, request: Request) -> Response:
        return _answer(lambda: self._service.edits(_zone(request)))

    async def contributions(self, request: Request) -> Response:
        return _answer(lambda: self._service.contributions(_zone(request)))

    async def keys(self, request: Request) -> Response:
        return _answer(lambda: self._service.keys(_zone(request)), list[Key])

    async def changes(self, request: Request) -> Response:
        async def change() -> ChangePlan | Transaction:
            zone = _zone(request)
            order = _order(ChangeRequest, await _body(request))
            if order.dry_run:
                return self._service.plan(zone, order)
            # Not given up when the client goes away: what was begun becomes durable or fails.
            return await self._service.change(zone, order)

        response = await _answer_to(change)
        if "location" in response.headers:
            response.status_code = 202
        return response

    async def actions(self, request: Request) -> Response:
        async def act() -> ZoneActionResult:
            zone = _zone(request)
            # Not given up when the client goes away, as a change is not.
            return await self._service.zone_action(zone, _order(ZoneActionRequest, await _body(request)))

        return await _answer_to(act)

    async def tsig_keys(self, request: Request) -> Response:
        return _answer(self._service.tsig_keys, list[TsigKeyInfo])

    async def transactions(self, request: Request) -> Response:
        return _answer(self._service.transactions, list[Transaction])

    async def transaction(self, request: Request) -> Response:
        name = request.path_params["id"]
        level = request.query_params.get("wait")
        if level is None:
            return _answer(lambda: self._service.transaction(name))

        async def wait() -> Transaction:
            if level not in {each.value for each in Wait}:
                raise _ProblemError("usage", f"wait={level}: one of {', '.join(Wait)} is expected")
            timeout = _seconds(request, "timeout", default=30.0, most=_MAX_WAIT)
            return await _while_connected(request, self._service.wait(name, Wait(level), timeout))

        return await _answer_to(wait)

    async def events(self, request: Request) -> Response:
        given = request.headers.get("last-event-id", request.query_params.get("after"))
        after: int | None = None
        if given is not None:
            if not (given.isascii() and given.isdigit() and len(given) < 17):
                return _problem("usage", f"{given!r} is not the id of an event")
            after = int(given)
        try:
            return _EventStream(self._service.events(after), self._closing)
        except Exception as error:
            return _failure(error)

    async def openapi(self, request: Request) -> Response:
        return Response(json.dumps(openapi_document()), media_type="application/json")


def _zone(request: Request) -> str:
    return ZoneName(request.path_params["zone"])


def _seconds(request: Request, key: str, *, default: float, most: float) -> float:
    text = request.query_params.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise _ProblemError("usage", f"{key}={text}: seconds from 0 to {most:g} are expected")
    return value


def _whole(request: Request, key: str, *, default: int, most: int) -> int:
    text = request.query_params.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise _ProblemError("usage", f"{key}={text}: a number from 1 to {most} is expected")
    return int(text)


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _ProblemError("usage", f"the body is {kind}, not application/json", status=415)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise _ProblemError("usage", f"a request body has at most {_MAX_BODY} octets", status=413)
    return bytes(body)


def _order(model: type[_Model], body: bytes) -> _Model:
    try:
        order = model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _ProblemError("usage", f"{where}: {first['msg']}" if where else first["msg"]) from None
    # A misspelt dry_run must not become a change.
    unknown = sorted(set(json.loads(body)) - set(model.model_fields))
    if unknown:
        raise _ProblemError("usage", f"{unknown[0]}: no such member of a {_words(model)}")
    return order


def _words(model: type[BaseModel]) -> str:
    words: dict[type[BaseModel], str] = {
        ChangeRequest: "change",
        ZoneActionRequest: "zone action",
        QueueRequest: "queue action",
        GroupActionRequest: "group action",
        MessageKeyRequest: "key action",
    }
    return words.get(model, model.__name__)


# -- answers


def _encode(result: object, kind: Any) -> bytes:
    if kind is not None:
        return TypeAdapter(kind).dump_json(result)
    return cast(BaseModel, result).model_dump_json().encode()


def _answer(read: Callable[[], object], kind: Any = None) -> Response:
    try:
        return Response(_encode(read(), kind), media_type="application/json")
    except Exception as error:
        return _failure(error)


async def _answer_to(act: Callable[[], Awaitable[BaseModel]]) -> Response:
    try:
        result = await act()
    except Exception as error:
        return _failure(error)
    response = Response(_encode(result, None), media_type="application/json")
    if isinstance(result, Transaction):
        response.headers["Location"] = f"/v1/transactions/{quote(result.id, safe='')}"
    return response


def _failure(error: Exception) -> Response:
    """The Problem for what a service or this shell raised."""
    match error:
        case _ProblemError():
            return _problem(error.error, error.message, status=error.status)
        case PolicyError():
            return _problem("refused", str(error))
        case NotFoundError():
            return _problem("not-found", str(error))
        case ConflictError():
            return _problem("conflict", str(error))
        case NotReadyError():
            return _problem("not-ready", str(error))
        case TimeoutError():
            return _problem("timeout", str(error) or "the time is over")
        case InvalidNameError() | RemoteError():
            return _problem("usage", str(error))
        case ClientDisconnect():
            return _problem("timeout", "the client is gone")
        case LocalError():
            _log.error("control request failed: %s", error)
            return _problem("internal", str(error))
        case _:
            _log.error("control request failed", exc_info=error)
            return _problem("internal", f"internal error ({type(error).__name__}); the daemon's log has the details")


def _problem(error: str, message: str, *, status: int | None = None, headers: Any = None) -> Response:
    body = Problem.model_validate({"error": error, "message": message}).model_dump_json()
    return Response(body, status_code=status or _STATUS[error], media_type="application/json", headers=headers)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _problem("not-found", f"no such resource: {request.url.path}")
    message = f"{request.method} is not possible on {request.url.path}" if error.status_code == 405 else error.detail
    return _problem("usage", message, status=error.status_code, headers=error.headers)


async def _while_connected(request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of *work*, which is given up when the client goes away; :raises ClientDisconnect: it did."""
    outcome: list[_Result] = []
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            outcome.append(await work)
        except Exception as error:  # carried out of the group, which would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not outcome:
        raise ClientDisconnect
    return outcome[0]


class _EventStream(Response):
    """Server-sent events (HTML Living Standard, section 9.2), until the client or the daemon goes away."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[Event], closing: anyio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._events, self._closing = events, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        wake = anyio.Event()
        writing = anyio.Lock()

        async def write(text: str) -> None:
            nonlocal wake
            async with writing:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            wake.set()
            wake = anyio.Event()

        await write(": events follow\n\n")
        try:
            async with anyio.create_task_group() as group:

                async def until_gone() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                async def until_closing() -> None:
                    await self._closing.wait()
                    group.cancel_scope.cancel()

                async def signs_of_life() -> None:
                    while True:
                        with anyio.move_on_after(_KEEP_ALIVE) as quiet:
                            await wake.wait()
                        if quiet.cancelled_caught:
                            await write(": alive\n\n")

                group.start_soon(until_gone)
                group.start_soon(until_closing)
                group.start_soon(signs_of_life)
                async with aclosing(_closable(self._events)) as events:
                    async for event in events:
                        await write(f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n")
                group.cancel_scope.cancel()
        except Exception as error:
            _log.error("event stream failed", exc_info=error)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _closable(events: AsyncIterator[Event]) -> Any:
    try:
        async for event in events:
            yield event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


# ---------------------------------------------------------------------------------------------------------------------
# The document


def openapi_document() -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document, from the models."""
    _, schema = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )

    def ref(model: type[BaseModel]) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{model.__name__}"}

    def listed(model: type[BaseModel]) -> dict[str, Any]:
        return {"type": "array", "items": ref(model)}

    def content(kind: dict[str, Any], description: str, media: str = "application/json") -> dict[str, Any]:
        return {"description": description, "content": {media: {"schema": kind}}}

    def operation(summary: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
        responses = {"200": content(answer, summary), "default": content(ref(Problem), "anything else")}
        return {"summary": summary, "parameters": list(parameters), "responses": responses}

    def order(
        summary: str, body: type[BaseModel], answer: type[BaseModel], *parameters: dict[str, Any]
    ) -> dict[str, Any]:
        whole = operation(summary, ref(answer), *parameters)
        whole["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(body)}}}
        return whole

    def query(name: str, kind: dict[str, Any], description: str) -> dict[str, Any]:
        return {"name": name, "in": "query", "schema": kind, "description": description}

    def in_path(name: str) -> dict[str, Any]:
        return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}

    seconds = {"type": "number", "minimum": 0}
    zone = in_path("zone")
    changes = operation("Change a record, or say what would change", ref(ChangePlan), zone)
    changes["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(ChangeRequest)}}}
    changes["responses"]["202"] = content(ref(Transaction), "the change is durable and under way")
    actions = operation("Do something with a zone", ref(ZoneActionResult), zone)
    actions["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(ZoneActionRequest)}}}
    events = operation(
        "Events as they happen",
        {"type": "string", "description": "server-sent events; the data of each is an Event"},
        query("after", {"type": "integer", "minimum": 0}, "events with a greater id; without it from now on"),
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer", "minimum": 0}},
    )
    events["responses"]["200"]["content"] = {
        "text/event-stream": {"schema": {"type": "string"}, "x-event-data": ref(Event)}
    }
    wait = query(
        "wait", {"type": "string", "enum": [level.value for level in Wait]}, "wait until this level is reached"
    )
    paths: dict[str, Any] = {
        "/v1/status": {"get": operation("What the daemon says about itself", ref(Status))},
        "/v1/snapshot": {"get": operation("Everything at one moment", ref(Snapshot))},
        "/v1/peers": {"get": operation("The peers", listed(Peer))},
        "/v1/peers/{identity}/ping": {
            "post": operation(
                "Send a ping to a peer",
                ref(PingResult),
                in_path("identity"),
                query("timeout", {**seconds, "maximum": _MAX_PING}, "seconds"),
            )
        },
        "/v1/peers/{identity}/reset": {"post": operation("Find a peer anew", ref(Peer), in_path("identity"))},
        "/v1/peers/{identity}/doctor": {
            "post": operation(
                "Look for what is wrong between us and a peer",
                ref(Diagnosis),
                in_path("identity"),
                query("timeout", {**seconds, "maximum": _MAX_PING}, "seconds"),
            )
        },
        "/v1/queue": {"get": operation("The messages that wait for delivery", ref(Queue))},
        "/v1/queue/actions": {"post": order("Do something with the queue", QueueRequest, QueueResult)},
        "/v1/queue/drain": {
            "post": operation("Wait until the queue is empty", ref(Queue), query("timeout", seconds, "seconds"))
        },
        "/v1/distributions": {"get": operation("The messages sent and received of late", listed(DistributionInfo))},
        "/v1/distributions/purge": {
            "post": operation(
                "Forget the messages that are completed",
                ref(Purged),
                query("everything", {"type": "integer", "enum": [0, 1]}, "also those of the last five minutes"),
            )
        },
        "/v1/message-keys": {"get": operation("Our keys for messages", ref(MessageKeys))},
        "/v1/message-keys/actions": {"post": order("Take a step of a key roll-over", MessageKeyRequest, MessageKeys)},
        "/v1/groups": {"get": operation("The provider groups", listed(Group))},
        "/v1/groups/{key}": {"get": operation("The group whose hash or name begins so", ref(Group), in_path("key"))},
        "/v1/groups/{key}/actions": {
            "post": order("Do something with an election", GroupActionRequest, Group, in_path("key"))
        },
        "/v1/zones": {"get": operation("The zones", listed(Zone))},
        "/v1/zones/{zone}/records": {
            "get": operation(
                "Records as served, with their origins",
                ref(ZoneRecords),
                zone,
                query("limit", {"type": "integer", "minimum": 1, "maximum": _MAX_RECORDS}, "records at most"),
            )
        },
        "/v1/zones/{zone}/edits": {"get": operation("The synchronised data", ref(SdeZone), zone)},
        "/v1/zones/{zone}/contributions": {"get": operation("The contributions held", ref(Contributions), zone)},
        "/v1/zones/{zone}/keys": {"get": operation("The DNSSEC keys", listed(Key), zone)},
        "/v1/zones/{zone}/changes": {"post": changes},
        "/v1/zones/{zone}/actions": {"post": actions},
        "/v1/tsig-keys": {"get": operation("The TSIG keys, without their secrets", listed(TsigKeyInfo))},
        "/v1/transactions": {"get": operation("The changes", listed(Transaction))},
        "/v1/transactions/{id}": {
            "get": operation(
                "One change",
                ref(Transaction),
                in_path("id"),
                wait,
                query("timeout", {**seconds, "maximum": _MAX_WAIT}, "seconds to wait"),
            )
        },
        "/v1/events": {"get": events},
        "/v1/openapi.json": {"get": operation("This document", {"type": "object"})},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Control API of mpagent, mpcombiner and mpsigner", "version": "1"},
        "paths": paths,
        "components": {"schemas": schema["$defs"]},
    }


# ---------------------------------------------------------------------------------------------------------------------
# The server


def bind_control_socket(path: Path) -> socket.socket:
    """Bind and listen on a Unix socket that only our user (and root) can reach.

    The directory is created with mode 0700 when it is missing, and must have no more than that.  A socket left over
    from a daemon that ended is replaced; one that answers is not.

    :raises ConfigError: the path is too long, or the directory is open to others.
    :raises ConflictError: another process serves on this path.
    :raises OSError: the socket cannot be created.
    """
    check_socket_path(path)
    private_directory(path.parent)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ConflictError(f"{path} exists and is not a socket") from None
            path.unlink()
        else:
            raise ConflictError(f"another process serves on {path}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(path: Path) -> tuple[socket.socket, int]:
    listener = bind_control_socket(path)
    return listener, path.lstat().st_ino


def _remove(path: Path, inode: int) -> None:
    """Remove our socket, unless something else has taken its place."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _peer_uid(transport: asyncio.Transport) -> int:
    connection = transport.get_extra_info("socket")
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return cast(int, uid)


class _CheckedProtocol(H11Protocol):
    """HTTP/1.1 for processes of our user and of root; others are cut off before a request is read."""

    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        uid = _peer_uid(transport)
        if uid not in {os.geteuid(), 0}:
            _log.warning("control connection of user %d refused", uid)
            self._refused = True
            transport.abort()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._refused:
            super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        body = Problem(error="usage", message=msg).model_dump_json().encode()
        head = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn inside our task group: our socket, our signals, no ticking while idle."""

    def __init__(self, config: uvicorn.Config, stopping: anyio.Event, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping, self._on_started = stopping, started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_unix_server(
                lambda: _CheckedProtocol(self.config, self.server_state, self.lifespan.state),
                sock=listener,
                backlog=self.config.backlog,
            )
            for listener in sockets or ()
        ]
        self.started = True
        await self.on_tick(0)
        self._on_started()

    async def main_loop(self) -> None:
        await self._stopping.wait()


async def serve_control(
    service: ControlService,
    path: Path,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control API on a Unix socket until cancelled; asyncio only.

    When cancelled, event streams end, other answers have three seconds to finish, and the socket is removed.

    :raises ConfigError, ConflictError, OSError: as :func:`bind_control_socket`.
    """
    listener, inode = await anyio.to_thread.run_sync(_bind, path)
    closing = anyio.Event()
    config = uvicorn.Config(
        control_app(service, closing=closing),
        http=_CheckedProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEAD,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_WITHIN,
        timeout_keep_alive=5,
    )
    server = _Server(config, closing, task_status.started)

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[listener])

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            try:
                await anyio.sleep_forever()
            finally:
                closing.set()
    finally:
        listener.close()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove, path, inode)
