"""The route class of every page: finds the visitor, shows faults as pages, sets the headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from tunesmith.engine.api.context import parts_of
from tunesmith.engine.api.errors import ApiError, as_api_error, invalid
from tunesmith.engine.domain.errors import RequestError

from .rendering import SECURITY_HEADERS, render
from .visitor import SignInNeededError, Visitor, cookie_name, read_visitor, visitor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["page_router", "see_other", "set_cookie"]

_SEE_OTHER = 303


class _PageRoute(APIRoute):
    """A route whose answers are pages, whatever happens."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler."""
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                request.state.visitor = await _visitor(request)
            except (ApiError, RequestError) as error:
                request.state.visitor = Visitor("", is_new=False, identity=None, is_open=False)
                return _finished(request, _fault(request, error))
            try:
                response = await handle(request)
            except SignInNeededError:
                response = _to_sign_in(request)
            except (ApiError, RequestError) as error:
                response = _fault(request, error)
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"][1:])
                response = _fault(request, invalid(f"Invalid value for {place!r}: {first['msg']}."))
            return _finished(request, response)

        return page


def page_router() -> APIRouter:
    """Return a router for pages."""
    return APIRouter(route_class=_PageRoute, include_in_schema=False)


def see_other(request: Request, address: str) -> Response:
    """Send the browser to another page, also where htmx has asked."""
    if "hx-request" in request.headers:
        return Response(headers={"hx-redirect": address})
    return RedirectResponse(address, _SEE_OTHER)


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Give the browser its session cookie, which it keeps until it is closed."""
    response.set_cookie(
        cookie_name(request),
        token,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


async def _visitor(request: Request) -> Visitor:
    parts, sessions = parts_of(request), request.app.state.sessions
    return await anyio.to_thread.run_sync(read_visitor, request, parts, sessions)


def _to_sign_in(request: Request) -> Response:
    target = request.url.path if request.method == "GET" else "/"
    if "hx-request" in request.headers:
        target = "/"
    return see_other(request, f"/sign-in?next={quote(target)}")


def _fault(request: Request, error: ApiError | RequestError) -> Response:
    answer = as_api_error(error)
    return render(request, "fault.html", status=answer.status, error=answer)


def _finished(request: Request, response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    visitor = visitor_of(request)
    if visitor.is_new and "set-cookie" not in response.headers:
        set_cookie(request, response, visitor.token)
    return response
