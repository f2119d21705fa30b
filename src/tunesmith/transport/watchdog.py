"""One thread that cuts connections at their deadline.

A socket's own timeout limits the silence between two packets, so a server that sends byte
by byte can hold up a blocking call forever. Calls with a total deadline register here.
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

__all__ = ["Timer", "Watchdog", "watchdog"]


class Timer:
    """An action at a deadline."""

    __slots__ = ("action", "deadline")

    def __init__(self, deadline: float, action: Callable[[], None]) -> None:
        self.deadline: float = deadline
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Drop the action: what it limited has ended."""
        self.action = None


class Watchdog:
    """Runs actions at their deadlines, in one daemon thread that is started when needed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start_timer(self, deadline: float, action: Callable[[], None]) -> Timer:
        """Run `action` when `time.monotonic()` reaches `deadline`, unless cancelled before."""
        timer = Timer(deadline, action)
        with self._changed:
            heapq.heappush(self._heap, (deadline, next(self._numbers), timer))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="tunesmith-deadlines", daemon=True
                )
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][2].action is None:
                    heapq.heappop(self._heap)
                pause = self._heap[0][0] - time.monotonic() if self._heap else None
                if pause is None or pause > 0:
                    self._changed.wait(pause)
                    continue
                timer = heapq.heappop(self._heap)[2]
                action = timer.action
            if action is not None:
                action()


_current: tuple[int, Watchdog] | None = None
_lock = threading.Lock()


def watchdog() -> Watchdog:
    """Return the process's watchdog; a forked child has its own, as threads are not inherited."""
    global _current  # noqa: PLW0603 - one per process
    if _current is None or _current[0] != os.getpid():
        with _lock:
            if _current is None or _current[0] != os.getpid():
                _current = (os.getpid(), Watchdog())
    return _current[1]
