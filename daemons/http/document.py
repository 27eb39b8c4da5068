"""The control API as an OpenAPI document, made from the table of operations and the models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from daemons.http.operations import OPERATIONS, Operation
from mpcore.control.models import Event, Problem

__all__ = ("models", "openapi_document")


def models(operations: Iterable[Operation] = OPERATIONS) -> tuple[type[BaseModel], ...]:
    """Every model that goes over the API, each once, by name."""
    found: set[type[BaseModel]] = {Event, Problem}
    for operation in operations:
        for kind in (_model(operation.answer), operation.order, operation.accepted):
            if kind is not None:
                found.add(kind)
    return tuple(sorted(found, key=lambda model: model.__name__))


def openapi_document() -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document."""
    _, schema = models_json_schema(
        [(model, "validation") for model in models()], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    paths["/v1/events"] = {"get": _events()}
    paths["/v1/openapi.json"] = {
        "get": {"summary": "This document", "responses": _responses({"type": "object"}, "this document")}
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Control API of mpagent, mpcombiner and mpsigner", "version": "1"},
        "paths": paths,
        "components": {"schemas": schema["$defs"]},
    }


def _model(kind: Any) -> type[BaseModel]:
    """The model of an answer that is one, or a list of them."""
    (model,) = get_args(kind) or (kind,)
    return model  # type: ignore[no-any-return]


def _reference(kind: Any) -> dict[str, Any]:
    model = {"$ref": f"#/components/schemas/{_model(kind).__name__}"}
    return {"type": "array", "items": model} if get_args(kind) else model


def _content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _responses(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"200": _content(schema, description), "default": _content(_reference(Problem), "anything else")}


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    parameters += [
        {"name": each.name, "in": "query", "schema": each.schema(), "description": each.description}
        for each in operation.parameters
    ]
    whole: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _responses(_reference(operation.answer), operation.summary),
    }
    if operation.order is not None:
        body = {"application/json": {"schema": _reference(operation.order)}}
        whole["requestBody"] = {"required": True, "content": body}
    if operation.accepted is not None:
        whole["responses"]["202"] = _content(_reference(operation.accepted), "it is durable and under way")
    return whole


def _events() -> dict[str, Any]:
    position = {"type": "integer", "minimum": 0}
    responses = _responses({}, "Events as they happen")
    responses["200"]["content"] = {
        "text/event-stream": {
            "schema": {"type": "string", "description": "server-sent events; the data of each is an Event"},
            "x-event-data": _reference(Event),
        }
    }
    return {
        "summary": "Events as they happen",
        "parameters": [
            {
                "name": "after",
                "in": "query",
                "schema": position,
                "description": "events with a greater id; without it from now on",
            },
            {"name": "Last-Event-ID", "in": "header", "schema": position},
        ],
        "responses": responses,
    }
