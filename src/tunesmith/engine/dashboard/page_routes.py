"""The route class of every page: reads the session, renders errors as pages, sets headers."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.http_errors import ApiError, as_api_error, invalid
from tunesmith.engine.domain.errors import RequestError

from .browser_session import (
    BrowserSession,
    SignInNeededError,
    cookie_name,
    get_session,
    read_session,
)
from .rendering import SECURITY_HEADERS, render

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["PageRoute", "page_router", "see_other", "set_cookie"]


class PageRoute(APIRoute):
    """A route whose answers are pages, whatever happens."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler."""
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                request.state.session = await _read_session(request)
            except (ApiError, RequestError) as error:
                request.state.session = BrowserSession(
                    "", is_new=False, identity=None, is_open=False
                )
                return _with_headers(request, _error_page(request, error))
            try:
                response = await handle(request)
            except SignInNeededError:
                response = _to_sign_in(request)
            except (ApiError, RequestError) as error:
                response = _error_page(request, error)
            except RequestValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"][1:])
                response = _error_page(
                    request, invalid(f"Invalid value for {field!r}: {first['msg']}.")
                )
            return _with_headers(request, response)

        return page


def page_router() -> APIRouter:
    """Return a router for pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def see_other(request: Request, address: str) -> Response:
    """Redirect the browser to another page, also after a request of htmx."""
    if "hx-request" in request.headers:
        return Response(headers={"hx-redirect": address})
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Set the session cookie, which the browser keeps until it is closed."""
    response.set_cookie(
        cookie_name(request),
        token,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


async def _read_session(request: Request) -> BrowserSession:
    services, sessions = get_services(request), request.app.state.sessions
    return await anyio.to_thread.run_sync(read_session, request, services, sessions)


def _to_sign_in(request: Request) -> Response:
    target = request.url.path if request.method == "GET" else "/"
    if "hx-request" in request.headers:
        target = "/"
    return see_other(request, f"/sign-in?next={quote(target)}")


def _error_page(request: Request, error: ApiError | RequestError) -> Response:
    answer = as_api_error(error)
    return render(request, "error.html", status=answer.status, error=answer)


def _with_headers(request: Request, response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    session = get_session(request)
    if session.is_new and "set-cookie" not in response.headers:
        set_cookie(request, response, session.token)
    return response
