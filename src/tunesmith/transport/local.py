"""Where a transport keeps its connections: they cannot be taken across a fork."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ProcessLocal", "UserOwned", "forks"]

T = TypeVar("T")

_forks = 0


def forks() -> int:
    """Return how many forks lie between this process and the first that loaded this module."""
    return _forks


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one count for the process is the point
    _forks += 1


if hasattr(os, "register_at_fork"):
    # A count costs less to compare than asking the system for the process at each request.
    os.register_at_fork(after_in_child=_count_fork)


class ProcessLocal(Generic[T]):
    """A value that is made again in a forked child.

    The parent's value is kept there, not closed: closing would end the parent's TLS sessions,
    and wait for threads that stayed with the parent.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: list[tuple[int, T]] = []

    def get(self) -> T:
        """Return this process's value."""
        if not self._values or self._values[-1][0] != _forks:
            self._values.append((_forks, self._make()))
        return self._values[-1][1]

    def drop(self) -> T | None:
        """Forget this process's value and return it, None where there is none."""
        if self._values and self._values[-1][0] == _forks:
            return self._values.pop()[1]
        return None


class UserOwned(Generic[T]):
    """A value that the user made, for whatever process and loop."""

    def __init__(self, value: T) -> None:
        self._value = value

    def get(self) -> T:
        """Return the value."""
        return self._value

    def drop(self) -> T:
        """Return the value."""
        return self._value
