"""What is not a success, as a Problem."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from daemons.http.operations import UnusableParameter
from mpcore.control.models import Problem
from mpcore.errors import ConflictError, LocalError, NotFoundError, NotReadyError, PolicyError, RemoteError
from mpcore.names import InvalidNameError

__all__ = ("UsageError", "failure", "http_problem")

_log = logging.getLogger(__name__)

_STATUS = {
    "usage": 400,
    "refused": 403,
    "not-found": 404,
    "conflict": 409,
    "internal": 500,
    "not-ready": 503,
    "timeout": 504,
}


class UsageError(Exception):
    """A request that this shell does not understand; *status* says how (RFC 9110, section 15.5)."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


def failure(error: Exception) -> Response:
    """The answer to what a service or this shell raised."""
    match error:
        case UsageError():
            return _problem("usage", str(error), status=error.status)
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
        case InvalidNameError() | RemoteError() | UnusableParameter():
            return _problem("usage", str(error))
        case ClientDisconnect():
            return _problem("timeout", "the client is gone")
        case LocalError():
            _log.error("control request failed: %s", error)
            return _problem("internal", str(error))
        case _:
            _log.error("control request failed", exc_info=error)
            return _problem("internal", f"internal error ({type(error).__name__}); the daemon's log has the details")


async def http_problem(request: Request, error: Exception) -> Response:
    """The answer to a path or a method that is not there; a handler of Starlette's exceptions."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _problem("not-found", f"no such resource: {request.url.path}")
    message = f"{request.method} is not possible on {request.url.path}" if error.status_code == 405 else error.detail
    return _problem("usage", message, status=error.status_code, headers=error.headers)


def _problem(
    error: str, message: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    body = Problem.model_validate({"error": error, "message": message}).model_dump_json()
    return Response(body, status_code=status or _STATUS[error], media_type="application/json", headers=headers)
