"""Signing in with an API key, and out again. The key is compared and forgotten."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from tunesmith.engine.api.context import parts_of

from .rendering import render
from .route import page_router, see_other, set_cookie
from .visitor import Verified, check_form, visitor_of

__all__ = ["router"]

router: APIRouter = page_router()

_OWN_PAGE = re.compile(r"/(?![/\\])[\x21-\x7e]*")
_UNAUTHORIZED = 401


@router.get("/sign-in")
def show(request: Request, next: str = "/") -> Response:  # noqa: A002 - its name in the address
    """Show the form."""
    if visitor_of(request).identity is not None:
        return see_other(request, _own(next))
    return render(request, "sign_in.html", next_page=_own(next), problem=None)


@router.post("/sign-in")
def sign_in(
    request: Request,
    api_key: Annotated[str, Form(max_length=400)] = "",
    next_page: Annotated[str, Form(max_length=2000)] = "/",
    form_token: Annotated[str, Form()] = "",
) -> Response:
    """Begin a session for the holder of a key."""
    visitor = visitor_of(request)
    check_form(request, visitor, form_token)
    identity = parts_of(request).keys.identify(api_key.strip() or None)
    if identity is None or identity.key_id is None:
        if visitor.is_open:
            return see_other(request, "/")
        problem = "This key is wrong or has been revoked." if api_key else "Enter a key."
        return render(
            request,
            "sign_in.html",
            status=_UNAUTHORIZED,
            next_page=_own(next_page),
            problem=problem,
        )
    sessions = request.app.state.sessions
    sessions.sign_out(visitor.token)
    response = see_other(request, _own(next_page))
    set_cookie(request, response, sessions.sign_in(identity.key_id))
    return response


@router.post("/sign-out")
def sign_out(request: Request, _asker: Verified) -> Response:
    """End the session."""
    request.app.state.sessions.sign_out(visitor_of(request).token)
    return see_other(request, "/sign-in")


def _own(address: str) -> str:
    """Return the address if it is a page of this server, else the first page."""
    return address if _OWN_PAGE.fullmatch(address) else "/"
