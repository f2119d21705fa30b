"""Browser sessions: the cookie, the identity behind it, and the check of forms.

The browser holds a random token in a cookie. The server holds the hash of the token and
the id of the key, in memory: a restart signs everyone out, and neither a memory dump nor
the cookie leads to a key. The token of a session's forms is derived from the cookie's
token, so browsers that have not signed in cost the server nothing.

While no key has ever been made, requests from this machine need no sign-in
(`security.keys`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Form, Request

from tunesmith.engine.api.http_errors import ApiError
from tunesmith.engine.api.keyed_route import check_rate_limit
from tunesmith.engine.security.keys import Identity, check_host

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from tunesmith.engine.api.dependencies import Services

__all__ = [
    "LIFE_SECONDS",
    "BrowserSession",
    "Sessions",
    "SignInNeededError",
    "SignedIn",
    "Verified",
    "check_form",
    "cookie_name",
    "form_token",
    "get_session",
    "is_form_token",
    "read_session",
]

LIFE_SECONDS = 12 * 3600
_MAX_SESSIONS = 10_000
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[\w-]{20,100}", re.ASCII)


def form_token(token: str) -> str:
    """Return the token of a session's forms: proof that they were rendered for its cookie."""
    return hmac.new(token.encode(), b"tunesmith form", hashlib.sha256).hexdigest()


def is_form_token(token: str, submitted: str) -> bool:
    """Return True if the submitted text is the session's form token."""
    return hmac.compare_digest(form_token(token).encode(), submitted.encode())


@dataclass(slots=True)
class _Session:
    key_id: str
    last_seen: float


class Sessions:
    """The sessions that are signed in. Safe to use from several threads."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def sign_in(self, key_id: str) -> str:
        """Start a session for a key and return the session's token."""
        token = _new_token()
        now = time.monotonic()
        with self._lock:
            self._remove_expired(now)
            self._sessions[_digest(token)] = _Session(key_id, now)
        return token

    def key_id(self, token: str) -> str | None:
        """Return the id of the key that started the session; None if the session has ended."""
        now = time.monotonic()
        with self._lock:
            session = self._sessions.get(_digest(token))
            if session is None or now - session.last_seen > LIFE_SECONDS:
                return None
            session.last_seen = now
            return session.key_id

    def sign_out(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(token), None)

    def _remove_expired(self, now: float) -> None:
        expired = [
            digest
            for digest, session in self._sessions.items()
            if now - session.last_seen > LIFE_SECONDS
        ]
        for digest in expired:
            del self._sessions[digest]
        while len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]


class SignInNeededError(Exception):
    """The page is for those who have signed in."""


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """The session of a request.

    Attributes:
        token: Of the session cookie, or a new one if the browser sent none.
        is_new: True if the cookie has to be set.
        identity: Whom the session acts for; None if the browser has to sign in first.
        is_open: True while no key exists and no sign-in is needed.
    """

    token: str
    is_new: bool
    identity: Identity | None
    is_open: bool

    @property
    def form_token(self) -> str:
        """The token that the session's forms carry."""
        return form_token(self.token)


def cookie_name(connection: HTTPConnection) -> str:
    """Return the cookie's name. Browsers share cookies between ports; two engines must not."""
    server = connection.scope.get("server")
    return f"tunesmith_session_{server[1] if server else 0}"


def read_session(
    connection: HTTPConnection, services: Services, sessions: Sessions
) -> BrowserSession:
    """Return the session of a request. Reads the database at most once a second.

    Raises:
        UnknownHostError: No key has been made and the request names another machine.
    """
    cookie = connection.cookies.get(cookie_name(connection), "")
    is_new = _TOKEN.fullmatch(cookie) is None
    token = _new_token() if is_new else cookie
    opened = services.keys.identify(None)
    if opened is not None:
        check_host(connection.url.hostname or "", services.config.host)
        return BrowserSession(token, is_new, opened, is_open=True)
    key_id = sessions.key_id(token)
    identity = None if key_id is None else services.keys.holder(key_id)
    return BrowserSession(token, is_new, identity, is_open=False)


def check_form(connection: HTTPConnection, session: BrowserSession, submitted: str) -> None:
    """Check that a form was rendered for this session.

    Args:
        connection: The request.
        session: Its session.
        submitted: The form token that was sent.

    Raises:
        ApiError: 403 if the form came from elsewhere.
    """
    site = connection.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or not is_form_token(session.token, submitted):
        raise ApiError(
            HTTPStatus.FORBIDDEN,
            "This form does not belong to your session. Load the page again and repeat what you "
            "did.",
            code="form_token_mismatch",
        )


def get_session(request: Request) -> BrowserSession:
    """Return the session that `PageRoute` has put into the request."""
    session: BrowserSession = request.state.session
    return session


def _new_token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _signed_in(request: Request) -> Identity:
    identity = get_session(request).identity
    if identity is None:
        raise SignInNeededError
    return identity


def _verified(request: Request, form_token: Annotated[str, Form()] = "") -> Identity:
    identity = _signed_in(request)
    check_form(request, get_session(request), form_token)
    check_rate_limit(request, identity)
    return identity


SignedIn = Annotated[Identity, Depends(_signed_in)]
"""Parameter of a page: the identity behind its session."""

Verified = Annotated[Identity, Depends(_verified)]
"""Parameter of a form's handler: the same, after the form has been checked."""
