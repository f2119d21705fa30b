"""The state of a transport: its limits, its idle connections, and who owns them after a fork."""

from __future__ import annotations

import os
import queue
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from tunesmith.core.urls import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DRAIN_SECONDS",
    "KEEP_ALIVE_SECONDS",
    "MAX_CONNECTIONS",
    "PROBES",
    "PROBE_SECONDS",
    "IdleConnections",
    "Permits",
    "ProcessLocal",
    "UserOwned",
    "fork_count",
]

MAX_CONNECTIONS = 1000
# How long an idle connection is assumed to be still open.
KEEP_ALIVE_SECONDS = 15.0
# How long the end of a body may take to follow a stream's end mark.
DRAIN_SECONDS = 0.25
# Idle connections die silently behind address translation; probes keep them alive
# and find the dead ones. The values are those that long-running API clients use.
PROBE_SECONDS = 60
PROBES = 5

T = TypeVar("T")

_forks = 0


def fork_count() -> int:
    """Return the number of forks between this process and the first that loaded this module."""
    return _forks


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one count per process
    _forks += 1


if hasattr(os, "register_at_fork"):
    # Comparing a count is cheaper than asking the system for the process id at each request.
    os.register_at_fork(after_in_child=_count_fork)


class Permits:
    """A semaphore that waits in C; that of the standard library is written in Python."""

    def __init__(self, count: int) -> None:
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self.release()

    def acquire(self, timeout: float | None) -> bool:
        """Take a permit; return whether one was free within `timeout` seconds."""
        try:
            self._free.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    def release(self) -> None:
        """Give a permit back."""
        self._free.put(None)


class ProcessLocal(Generic[T]):
    """A value that is created again in a forked child.

    The parent's value is kept in the child, but not closed: closing would end the parent's TLS
    sessions, and wait for threads that exist only in the parent.
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
        """Remove this process's value and return it, None if there is none."""
        if self._values and self._values[-1][0] == _forks:
            return self._values.pop()[1]
        return None


class UserOwned(Generic[T]):
    """A value that the user created, the same in every process and event loop."""

    def __init__(self, value: T) -> None:
        self._value = value

    def get(self) -> T:
        """Return the value."""
        return self._value

    def drop(self) -> T:
        """Return the value."""
        return self._value


class _Connection(Protocol):
    """One connection, sync or async."""

    origin: str


ConnectionT = TypeVar("ConnectionT", bound=_Connection)


class IdleConnections(Generic[ConnectionT]):
    """Connections without a request, by origin; the most recently used is taken first.

    Each step is atomic in CPython.
    """

    def __init__(self) -> None:
        self._connections: dict[str, list[ConnectionT]] = {}

    def take(self, url: str) -> ConnectionT | None:
        """Return a connection to the server of `url`, None if all are in use."""
        try:
            return self._connections[origin_of(url)].pop()
        except (KeyError, IndexError):
            return None

    def add(self, connection: ConnectionT) -> None:
        """Keep a connection for the next request."""
        self._connections.setdefault(connection.origin, []).append(connection)

    def clear(self) -> list[ConnectionT]:
        """Remove and return all connections."""
        connections, self._connections = self._connections, {}
        return [connection for group in connections.values() for connection in group]
