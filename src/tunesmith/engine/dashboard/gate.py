"""The session's way into the API: `/dashboard/v1/…` is `/v1/…` with a cookie for a key.

The pages' scripts use it for what streams: answers of the playground, uploads, downloads.
The request goes on as if it had been sent to the API, with the identity in its scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.requests import HTTPConnection

from tunesmith.engine.api.errors import ApiError, as_api_error, error_response
from tunesmith.engine.domain.errors import RequestError

from .visitor import check_form, read_visitor

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SessionGate"]

_PREFIX = "/dashboard/v1/"
_READING = ("GET", "HEAD")
_UNAUTHORIZED = 401


class SessionGate:
    """Middleware of an application whose state has `parts` and `sessions`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        try:
            inner = await anyio.to_thread.run_sync(_enter, scope)
        except (ApiError, RequestError) as error:
            await error_response(as_api_error(error))(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self._app(inner, receive, guarded)


def _enter(scope: Scope) -> Scope:
    """Return the scope of the same request to the API.

    Raises:
        ApiError: The visitor has not signed in, or the request was not made by a page.
    """
    connection = HTTPConnection(scope)
    state = connection.app.state
    visitor = read_visitor(connection, state.parts, state.sessions)
    if visitor.identity is None:
        message = "Your session has ended. Sign in again."
        raise ApiError(_UNAUTHORIZED, message, code="session_ended")
    if scope["method"] not in _READING:
        check_form(connection, visitor, connection.headers.get("x-form-token", ""))
    path = "/v1/" + scope["path"].removeprefix(_PREFIX)
    headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    return {
        **scope,
        "path": path,
        "raw_path": path.encode(),
        "headers": headers,
        "identity": visitor.identity,
    }
