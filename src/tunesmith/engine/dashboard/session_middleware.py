"""The API under a session cookie: `/dashboard/v1/…` is `/v1/…` with a cookie for a key.

The pages' scripts use it for the playground's streams, uploads and downloads. The request
is passed on as if it had been sent to the API, with the session's identity in its scope.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.requests import HTTPConnection

from tunesmith.engine.api.http_errors import ApiError, as_api_error, error_response
from tunesmith.engine.domain.errors import RequestError

from .browser_session import check_form, read_session

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SessionMiddleware"]

_PREFIX = "/dashboard/v1/"
_SAFE_METHODS = ("GET", "HEAD")


class SessionMiddleware:
    """Middleware of an application whose state has `services` and `sessions`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        try:
            api_scope = await anyio.to_thread.run_sync(_api_scope, scope)
        except (ApiError, RequestError) as error:
            await error_response(as_api_error(error))(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self._app(api_scope, receive, send_with_headers)


def _api_scope(scope: Scope) -> Scope:
    """Return the scope of the same request to the API.

    Raises:
        ApiError: The browser has not signed in, or the request was not made by a page.
        UnknownHostError: No key has been made and the request names another machine.
    """
    connection = HTTPConnection(scope)
    state = connection.app.state
    session = read_session(connection, state.services, state.sessions)
    if session.identity is None:
        message = "Your session has ended. Sign in again."
        raise ApiError(HTTPStatus.UNAUTHORIZED, message, code="session_ended")
    scope["identity"] = session.identity  # for the log, which sees the scope before it is copied
    if scope["method"] not in _SAFE_METHODS:
        check_form(connection, session, connection.headers.get("x-form-token", ""))
    path = "/v1/" + scope["path"].removeprefix(_PREFIX)
    headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    return {
        **scope,
        "path": path,
        "raw_path": path.encode(),
        "headers": headers,
    }
