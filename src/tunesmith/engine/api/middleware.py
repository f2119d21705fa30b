"""Middleware around every request: request id, path decoding, log line, metrics, body limit."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.exceptions import HTTPException

from tunesmith.engine.store.records import new_token

from .azure_addresses import own_address
from .http_errors import ApiError, error_response, invalid

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tunesmith.engine.security.keys import Identity

    from .request_metrics import RequestMetrics

__all__ = ["RequestContext"]

_log = logging.getLogger("tunesmith.engine.access")

_audit = logging.getLogger("tunesmith.engine.audit")

_MAX_LOGGED = 512
_UPLOAD_PART = re.compile(r"(?:/dashboard)?/v1/uploads/[^/]+/parts")
_UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class RequestContext:
    """Wraps the whole application.

    - What is put on the stack `scope["after_answer"]` is called when a response has ended.
    - Each response has an `x-request-id`, error responses included.
    - Azure's addresses lead to the same routes as the others.
    - `log_fields` in the scope are added to the log line.
    - `%2F` in a path does not split it: the segment keeps `%2F`, handlers decode it.
    - The body of every request except file uploads is limited.
    - The character NUL, which no database takes in a text, is in no path and no query.

    Args:
        app: The application.
        body_bytes: Largest body, in bytes.
        metrics: Counts the requests.
        unlimited: Paths whose bodies are limited by their own handlers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes: int,
        metrics: RequestMetrics,
        unlimited: frozenset[str] = frozenset({"/v1/files"}),
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._metrics = metrics
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{new_token(20)}"
        scope["request_id"] = request_id
        scope["path"] = own_address(_path(scope))
        scope["log_fields"] = {}
        scope["after_answer"] = after_answer = contextlib.ExitStack()
        began = first_byte = time.perf_counter()
        status, failed = 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, failed, first_byte
            if message["type"] == "http.response.start":
                first_byte = time.perf_counter()
                status = message["status"]
                failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        limited = self._limited(scope, receive)
        refusal = _refusal(scope)
        try:
            await (refusal or self._app)(scope, limited, send_with_id)
        except Exception:
            if not failed:  # otherwise it was logged and answered
                raise
        finally:
            after_answer.close()
            self._record(scope, status, first_byte - began, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, waited: float, seconds: float) -> None:
        """Count and log a request; requests that may change something are also in the audit log."""
        route = getattr(scope.get("route"), "path", "unknown")
        identity: Identity | None = scope.get("identity")
        organization = identity.organization if identity else None
        self._metrics.add(organization, scope["method"], route, status, waited)
        raw = scope.get("raw_path", b"")[:_MAX_LOGGED].decode("ascii", "backslashreplace")
        client = scope.get("client")
        fields = {
            "request_id": scope["request_id"],
            "method": scope["method"][:_MAX_LOGGED],
            "path": raw,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "organization": organization,
            "key": identity.key_id if identity else None,
            "address": client[0] if client else None,
            **scope["log_fields"],
        }
        text = "%(method)s %(path)s %(status)s %(milliseconds)s ms %(request_id)s"
        if "answered_by" in fields:
            text += " %(model)s: %(side)s, %(answered_by)s"
        level = logging.DEBUG if _is_poll(scope) else logging.INFO
        _log.log(level, text, fields, extra={"fields": fields})
        if scope["method"] in _UNSAFE_METHODS:
            _audit.info(text, fields, extra={"fields": fields})

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        if scope["path"] in self._unlimited or _UPLOAD_PART.fullmatch(scope["path"]):
            return receive
        limit = self._body_bytes
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                # While it reads a body, FastAPI passes on no exception but this one.
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"The request body is larger than this engine accepts ({limit} bytes).",
                    headers={"connection": "close"},
                )
            return message

        return limited


def _is_poll(scope: Scope) -> bool:
    """Return whether a page of the dashboard polls for its changes, as it does every second."""
    return scope["method"] == "GET" and (b"hx-request", b"true") in scope["headers"]


def _refusal(scope: Scope) -> JSONResponse | None:
    """Return the answer to a request whose address has the character NUL in it."""
    if "\0" in scope["path"]:
        shown = scope["path"].replace("\0", "%00")[:_MAX_LOGGED]
        message = f"There is nothing at {shown}: no id has the character NUL."
        return error_response(ApiError(HTTPStatus.NOT_FOUND, message, param="id", code="not_found"))
    if b"%00" in scope.get("query_string", b""):
        return error_response(invalid("The query has the character NUL, %00. Remove it."))
    return None


def _path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    if not raw:
        return str(scope["path"])
    text = raw.decode("latin-1").partition("?")[0]
    return unquote(text.replace("%2F", "%252F").replace("%2f", "%252F"), errors="replace")
