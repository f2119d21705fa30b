"""Signing in with an API key, and out again. The key is compared and not kept."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from tunesmith.engine.api.dependencies import get_services

from .browser_session import Verified, check_form, get_session
from .page_routes import page_router, see_other, set_cookie
from .rendering import render

__all__ = ["router"]

router: APIRouter = page_router()

_LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x7e]*")


@router.get("/sign-in")
def show(request: Request, next: str = "/") -> Response:  # noqa: A002 - its name in the address
    """Show the form."""
    if get_session(request).identity is not None:
        return see_other(request, _local_path(next))
    return render(request, "sign_in.html", next_page=_local_path(next), problem=None)


@router.post("/sign-in")
def sign_in(
    request: Request,
    api_key: Annotated[str, Form(max_length=400)] = "",
    next_page: Annotated[str, Form(max_length=2000)] = "/",
    form_token: Annotated[str, Form()] = "",
) -> Response:
    """Start a session for a key."""
    session = get_session(request)
    check_form(request, session, form_token)
    identity = get_services(request).keys.identify(api_key.strip() or None)
    if identity is None or identity.key_id is None:
        if session.is_open:
            return see_other(request, "/")
        problem = "This key is wrong or has been revoked." if api_key else "Enter a key."
        return render(
            request,
            "sign_in.html",
            status=HTTPStatus.UNAUTHORIZED,
            next_page=_local_path(next_page),
            problem=problem,
        )
    sessions = request.app.state.sessions
    sessions.sign_out(session.token)
    response = see_other(request, _local_path(next_page))
    set_cookie(request, response, sessions.sign_in(identity.key_id))
    return response


@router.post("/sign-out")
def sign_out(request: Request, _key: Verified) -> Response:
    """End the session."""
    request.app.state.sessions.sign_out(get_session(request).token)
    return see_other(request, "/sign-in")


def _local_path(address: str) -> str:
    """Return the address if it is a path on this server, else the first page."""
    return address if _LOCAL_PATH.fullmatch(address) else "/"
