"""Threads that prepare requests: they tokenise prompts and compile grammars.

Turns go round by organisation, and no organisation occupies all threads: one whose prompts are
long, whose grammars are large or whose requests are many delays no other one's. Of models this
module knows nothing.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PreparationQueue"]

Work: TypeAlias = "tuple[int, Callable[[], None]]"
"""The number of a request, and what prepares it."""

_THREADS = 2


class PreparationQueue:
    """Work for each organisation, and the threads that do it.

    Args:
        threads: How many; each organisation gets one less at a time.
    """

    def __init__(self, threads: int = _THREADS) -> None:
        self._most = max(threads - 1, 1)
        self._waiting: dict[str, deque[Work]] = {}  # in the order of their turns
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"prepare {number}", daemon=True).start()

    def put(self, number: int, organization: str, prepare: Callable[[], None]) -> None:
        """Have a request prepared. `prepare` must not raise."""
        with self._changed:
            self._waiting.setdefault(organization, deque()).append((number, prepare))
            self._changed.notify()

    def remove(self, number: int) -> None:
        """Forget a request whose preparation has not begun."""
        with self._changed:
            for organization, works in list(self._waiting.items()):
                kept = deque(work for work in works if work[0] != number)
                if kept:
                    self._waiting[organization] = kept
                else:
                    del self._waiting[organization]

    def _run(self) -> None:
        while True:
            with self._changed:
                while (organization := self._next()) is None:
                    self._changed.wait()
                works = self._waiting.pop(organization)
                _, prepare = works.popleft()
                if works:
                    self._waiting[organization] = works  # behind all others
                self._busy[organization] += 1
            try:
                prepare()
            finally:
                with self._changed:
                    self._busy[organization] -= 1
                    self._changed.notify_all()

    def _next(self) -> str | None:
        return next((one for one in self._waiting if self._busy[one] < self._most), None)
