"""The ASGI application: each operation of the table as a route."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from daemons.http.document import models, openapi_document
from daemons.http.operations import OPERATIONS, Call, Operation
from daemons.http.problems import UsageError, failure, http_problem
from daemons.http.stream import EventStream
from mpcore.control.models import Transaction
from mpcore.control.service import ControlService

__all__ = ("control_app",)

_MAX_BODY = 64 * 1024

_Result = TypeVar("_Result")

# Models are built at first use, which takes some milliseconds: not in the event loop, and once for all forks.
for _each in models():
    _each.model_rebuild()
_ENCODERS = {operation.path: TypeAdapter(operation.answer) for operation in OPERATIONS if operation.method == "GET"}


def control_app(service: ControlService, *, closing: anyio.Event | None = None) -> Starlette:
    """The ASGI application.

    :param service: who does the work; its errors become Problems.
    :param closing: event streams end when this is set.
    """
    stop = closing if closing is not None else anyio.Event()

    async def events(request: Request) -> Response:
        try:
            return EventStream(service.events(_position(request)), stop)
        except Exception as error:
            return failure(error)

    async def document(request: Request) -> Response:
        return Response(json.dumps(openapi_document()), media_type="application/json")

    routes = [
        Route(_route(operation.path), _endpoint(service, operation), methods=[operation.method])
        for operation in OPERATIONS
    ]
    routes.append(Route("/v1/events", events, methods=["GET"]))
    routes.append(Route("/v1/openapi.json", document, methods=["GET"]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_problem})
    app.router.redirect_slashes = False
    return app


def _route(path: str) -> str:
    """The path as Starlette writes it: a zone's name (RFC 2317) and an id may contain a slash."""
    return re.sub(r"{(zone|id)}", r"{\1:path}", path)


def _endpoint(service: ControlService, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            # Named before the body is read, so that a wrong one is an error of its own.
            query = {each.name: _parameter(request, each) for each in operation.parameters}
            body = b"" if operation.method == "GET" else await _body(request)
            order = _order(operation, body) if operation.order is not None else None
            result = operation.act(service, Call(request.path_params, query, order))
            if inspect.isawaitable(result):
                # What changes something goes on when the client goes away: it becomes durable or fails.
                result = await (_while_connected(request, result) if operation.given_up else result)
        except Exception as error:
            return failure(error)
        return _success(operation, result)

    return endpoint


def _success(operation: Operation, result: Any) -> Response:
    if isinstance(result, list):
        body = _ENCODERS[operation.path].dump_json(result)
    else:
        body = result.model_dump_json().encode()
    response = Response(body, media_type="application/json")
    if isinstance(result, Transaction):
        response.headers["Location"] = f"/v1/transactions/{quote(result.id, safe='')}"
    if operation.accepted is not None and isinstance(result, operation.accepted):
        response.status_code = 202
    return response


def _parameter(request: Request, parameter: Any) -> Any:
    text = request.query_params.get(parameter.name)
    return parameter.default if text is None else parameter.parse(text)


def _position(request: Request) -> int | None:
    """The event after which the stream begins; :raises UsageError: it is no number."""
    given = request.headers.get("last-event-id", request.query_params.get("after"))
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 17):
        raise UsageError(f"{given!r} is not the id of an event")
    return int(given)


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UsageError(f"the body is {kind}, not application/json", status=415)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise UsageError(f"a request body has at most {_MAX_BODY} octets", status=413)
    return bytes(body)


def _order(operation: Operation, body: bytes) -> BaseModel:
    model = operation.order
    assert model is not None
    try:
        order = model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    # A misspelt dry_run must not become a change.
    unknown = sorted(set(json.loads(body)) - set(model.model_fields))
    if unknown:
        raise UsageError(f"{unknown[0]}: no such member of a {operation.words}")
    return order


async def _while_connected(request: Request, work: Awaitable[_Result]) -> _Result:
    """The result of *work*, which is given up when the client goes away; :raises ClientDisconnect: it did."""
    outcome: list[_Result] = []
    problem: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            outcome.append(await work)
        except Exception as error:  # carried out of the group, which would wrap it
            problem = error
        group.cancel_scope.cancel()
    if problem is not None:
        raise problem
    if not outcome:
        raise ClientDisconnect
    return outcome[0]
