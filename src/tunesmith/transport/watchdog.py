"""One thread that cuts connections at their deadline.

A socket's own timeout limits the silence between two packets, so a server that drips
bytes can hold a blocking call for ever. Calls with a total deadline register here.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Guard", "Watchdog", "watchdog"]


class Guard:
    """One registered deadline."""

    __slots__ = ("action", "deadline")

    def __init__(self, deadline: float, action: Callable[[], None]) -> None:
        self.deadline: float = deadline
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget the deadline: what it guarded has ended."""
        self.action = None


class Watchdog:
    """Runs actions at their deadlines, in one daemon thread that is started when needed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Guard]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, deadline: float, action: Callable[[], None]) -> Guard:
        """Run `action` when `time.monotonic()` reaches `deadline`, unless cancelled before."""
        guard = Guard(deadline, action)
        with self._changed:
            heapq.heappush(self._heap, (deadline, next(self._numbers), guard))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="tunesmith-deadlines", daemon=True
                )
                self._thread.start()
            elif self._heap[0][2] is guard:
                self._changed.notify()
        return guard

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][2].action is None:
                    heapq.heappop(self._heap)
                pause = self._heap[0][0] - time.monotonic() if self._heap else None
                if pause is None or pause > 0:
                    self._changed.wait(pause)
                    continue
                guard = heapq.heappop(self._heap)[2]
                action = guard.action
            if action is not None:
                action()


_current: tuple[int, Watchdog] | None = None
_lock = threading.Lock()


def watchdog() -> Watchdog:
    """Return the process's watchdog; a forked child gets its own, as threads do not survive."""
    global _current  # noqa: PLW0603 - one per process is the point
    if _current is None or _current[0] != os.getpid():
        with _lock:
            if _current is None or _current[0] != os.getpid():
                _current = (os.getpid(), Watchdog())
    return _current[1]
