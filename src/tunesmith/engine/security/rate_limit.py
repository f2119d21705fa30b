"""How often a key may ask: a bucket of requests that fills up evenly."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimiter"]

_MOST_BUCKETS = 10_000


class RateLimiter:
    """Buckets that hold a minute's requests and fill up evenly.

    Args:
        per_minute: Requests a minute for each name; 0 for no limit.
        clock: Seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> int:
        """Take one request; return 0, or the whole seconds until one may be taken."""
        if not self._per_minute:
            return 0
        now = self._clock()
        with self._lock:
            left, since = self._buckets.get(name, (float(self._per_minute), now))
            left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
            if left < 1:
                return math.ceil((1 - left) * 60 / self._per_minute)
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets.clear()
            self._buckets[name] = (left - 1, now)
            return 0
