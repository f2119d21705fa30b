"""Sessions: which browser has shown which key.

The browser holds a random token in a cookie. The server holds the hash of the token and
the id of the key, in memory: a restart signs everyone out, and neither a copy of the
memory's file nor the cookie leads to a key. What ties a form to its session is derived
from the token, so that visitors who have not signed in cost the server nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass

__all__ = ["LIFE_SECONDS", "Sessions", "form_token", "is_form_token", "new_session_token"]

LIFE_SECONDS = 12 * 3600
_MOST_SESSIONS = 10_000
_TOKEN_BYTES = 32


def new_session_token() -> str:
    """Return a fresh token for a cookie."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def form_token(token: str) -> str:
    """Return what the forms of a session carry: proof that they were made for its cookie."""
    return hmac.new(token.encode(), b"tunesmith form", hashlib.sha256).hexdigest()


def is_form_token(token: str, shown: str) -> bool:
    """Return True if `shown` is the session's form token."""
    return hmac.compare_digest(form_token(token).encode(), shown.encode())


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
        """Begin a session for the holder of a key and return its token."""
        token = new_session_token()
        now = time.monotonic()
        with self._lock:
            self._forget_old(now)
            self._sessions[_digest(token)] = _Session(key_id, now)
        return token

    def key_id(self, token: str) -> str | None:
        """Return the id of the key that the session was begun with; None if it is not in use."""
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

    def _forget_old(self, now: float) -> None:
        old = [key for key, it in self._sessions.items() if now - it.last_seen > LIFE_SECONDS]
        for key in old:
            del self._sessions[key]
        while len(self._sessions) >= _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
