"""Redaction: a wrapper for credentials and a mask for header fields.

Nothing here hides a secret from code that asks for it; it keeps secrets out of `repr`,
`vars`, logs, tracebacks and pickles, where they end up by accident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["SECRET_HEADERS", "Secret", "redacted_headers"]

MASK = "**********"
SECRET_HEADERS = frozenset(
    {"authorization", "api-key", "x-api-key", "cookie", "set-cookie", "proxy-authorization"}
)


class Secret:
    """A string that only `reveal` returns."""

    __slots__ = ("_read",)

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


def redacted_headers(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return header fields with the values of secret ones masked."""
    return {name: MASK if name.lower() in SECRET_HEADERS else value for name, value in items}
