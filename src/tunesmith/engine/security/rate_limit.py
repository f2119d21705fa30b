"""Limits of requests: so many a minute, and so many at a time.

Requests a minute are counted by token buckets: each key has a bucket that refills evenly.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ConcurrencyLimiter", "RateLimiter"]

_MAX_BUCKETS = 10_000


class RateLimiter:
    """Token buckets of one minute's requests each.

    Args:
        per_minute: Requests a minute for each name; 0 for no limit.
        clock: Returns monotonic seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> int:
        """Count a request; return 0 if it is allowed, else the whole seconds until one is."""
        if not self._per_minute:
            return 0
        now = self._clock()
        with self._lock:
            left, since = self._buckets.get(name, (float(self._per_minute), now))
            left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
            if left < 1:
                return math.ceil((1 - left) * 60 / self._per_minute)
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            self._buckets[name] = (left - 1, now)
            return 0


class ConcurrencyLimiter:
    """Counts what each name has in progress.

    Args:
        most: How much one name may have in progress at a time.
    """

    def __init__(self, most: float) -> None:
        self.most: float = most
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Count something that begins; return False, and count nothing, if it is too much."""
        with self._lock:
            if self._counts[name] >= self.most:
                return False
            self._counts[name] += 1
            return True

    def release(self, name: str) -> None:
        """Count something that has ended."""
        with self._lock:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
