"""Redaction: a wrapper for credentials and a mask for header fields.

Nothing here hides a secret from code that asks for it; it keeps secrets out of `repr`,
`vars`, logs, tracebacks and pickles, where they end up by accident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "MASK",
    "Login",
    "Secret",
    "is_secret_name",
    "redacted_headers",
    "scrubbed",
    "secret_values",
]

MASK = "**********"
# Parts of the names that gateways, proxies and signed URLs give to their credentials.
_SECRET_PARTS = (
    "key",
    "token",
    "secret",
    "cookie",
    "password",
    "credential",
    "authorization",
    "signature",
)
_SECRET_WORDS = frozenset({"auth", "sig", "pwd", "jwt"})
# Shorter values, such as the key "local", are words that a text may contain anyway.
_SHORTEST_SECRET = 8


class Secret:
    """A string that only `reveal` returns; it is sent as `Authorization: Bearer …`."""

    __slots__ = ("_read",)

    scheme: ClassVar[str] = "Bearer"

    _read: Callable[[], str]

    def __init__(self, value: str) -> None:
        # A closure, because a slot's value would show in tools that walk attributes.
        self._read = lambda: value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._read()

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __reduce__(self) -> NoReturn:
        raise TunesmithError(
            "A credential cannot be pickled. Create a client in the process that uses it."
        )


class Login(Secret):
    """User name and password of a URL, encoded as `Authorization: Basic …` sends them."""

    __slots__ = ()

    scheme: ClassVar[str] = "Basic"


def redacted_headers(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return header fields with the values of secret ones masked."""
    return {name: MASK if is_secret_name(name) else value for name, value in items}


def is_secret_name(name: str) -> bool:
    """Return whether a header field or query parameter of this name holds a credential."""
    # Counts of tokens, and the key that makes a repeated request harmless, are no secrets.
    rest = name.lower().replace("tokens", "").replace("idempotency-key", "")
    if any(part in rest for part in _SECRET_PARTS):
        return True
    return not _SECRET_WORDS.isdisjoint(rest.replace("_", "-").split("-"))


def secret_values(headers: Mapping[str, str]) -> list[str]:
    """Return the credentials in a request's headers, to mask them in texts of others."""
    values = [
        part.strip()
        for name, value in headers.items()
        if is_secret_name(name)
        for part in (value, value.partition(" ")[2])
    ]
    return [value for value in values if len(value) >= _SHORTEST_SECRET]


def scrubbed(text: str, headers: Mapping[str, str]) -> str:
    """Return a text of a server or a library without the credentials in a request's headers."""
    for secret in secret_values(headers):
        text = text.replace(secret, MASK)
    return text
