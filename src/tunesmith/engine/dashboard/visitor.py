"""Who is looking: the cookie of a request, the identity behind it, and the checks on forms.

While no key has ever been made, whoever reaches the loopback address under a name of this
machine is let in (`security.hosts`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Form, Request

from tunesmith.engine.api.errors import ApiError
from tunesmith.engine.security.hosts import check_host
from tunesmith.engine.security.keys import Identity

from .sessions import Sessions, form_token, is_form_token, new_session_token

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from tunesmith.engine.api.context import Parts

__all__ = [
    "SignInNeededError",
    "SignedIn",
    "Verified",
    "Visitor",
    "check_form",
    "cookie_name",
    "read_visitor",
    "visitor_of",
]

_TOKEN = re.compile(r"[\w-]{20,100}", re.ASCII)
_FORBIDDEN = 403


class SignInNeededError(Exception):
    """The page is for those who have signed in."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser.

    Attributes:
        token: Of its session cookie, or a new one if it sent none.
        is_new: True if the cookie has to be set.
        identity: Whom it acts for; None if it has to sign in first.
        is_open: True while no key exists and nobody has to sign in.
    """

    token: str
    is_new: bool
    identity: Identity | None
    is_open: bool

    @property
    def form_token(self) -> str:
        """What its forms carry."""
        return form_token(self.token)


def cookie_name(connection: HTTPConnection) -> str:
    """Return the cookie's name. Browsers share cookies between ports; two engines must not."""
    server = connection.scope.get("server")
    return f"tunesmith_session_{server[1] if server else 0}"


def read_visitor(connection: HTTPConnection, parts: Parts, sessions: Sessions) -> Visitor:
    """Return who sent a request. Reads the database at most once a second.

    Raises:
        UnknownHostError: No key has been made and the request names another machine.
    """
    cookie = connection.cookies.get(cookie_name(connection), "")
    is_new = _TOKEN.fullmatch(cookie) is None
    token = new_session_token() if is_new else cookie
    opened = parts.keys.identify(None)
    if opened is not None:
        check_host(connection.url.hostname or "", parts.config.host)
        return Visitor(token, is_new, opened, is_open=True)
    key_id = sessions.key_id(token)
    identity = None if key_id is None else parts.keys.holder(key_id)
    return Visitor(token, is_new, identity, is_open=False)


def check_form(connection: HTTPConnection, visitor: Visitor, shown: str) -> None:
    """Check that a change was asked for on a page of this session.

    Raises:
        ApiError: 403 if it comes from elsewhere.
    """
    site = connection.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or not is_form_token(visitor.token, shown):
        raise ApiError(
            _FORBIDDEN,
            "This form does not belong to your session. Load the page again and repeat what you "
            "did.",
            code="form_token_mismatch",
        )


def visitor_of(request: Request) -> Visitor:
    """Return the visitor that the route has put into the request."""
    visitor: Visitor = request.state.visitor
    return visitor


def _signed_in(request: Request) -> Identity:
    identity = visitor_of(request).identity
    if identity is None:
        raise SignInNeededError
    return identity


def _verified(request: Request, form_token: Annotated[str, Form()] = "") -> Identity:
    identity = _signed_in(request)
    check_form(request, visitor_of(request), form_token)
    return identity


SignedIn = Annotated[Identity, Depends(_signed_in)]
"""Parameter of a page: whom its visitor acts for."""

Verified = Annotated[Identity, Depends(_verified)]
"""Parameter of a form's target: the same, once the form has been checked."""
