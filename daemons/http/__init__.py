"""The control API over HTTP: a thin shell around any :class:`~mpcore.control.service.ControlService`.

``operations`` is the table of what there is; ``application`` makes routes of it and ``document`` the OpenAPI document
(``GET /v1/openapi.json``); ``stream`` sends events, ``problems`` says what went wrong, ``server`` holds the socket.
Every answer that is not a success is a Problem.
"""

from __future__ import annotations

from daemons.http.application import control_app
from daemons.http.document import openapi_document
from daemons.http.server import bind_control_socket, serve_control

__all__ = ("bind_control_socket", "control_app", "openapi_document", "serve_control")
