"""How many requests to have in flight: more while the server keeps up, fewer when it does not.

Additive increase, multiplicative decrease, the rule by which TCP shares links (Chiu and
Jain, 1989): each full round of successes allows one request more; an overload response
halves the number; responses slower than `SLOW` times the best round's mean take one off.
"""

from __future__ import annotations

__all__ = ["AdaptiveConcurrency"]

SLOW = 3.0
_START = 4


class AdaptiveConcurrency:
    """The number of concurrent requests, between 1 and `limit`.

    Attributes:
        allowed: How many may run now.
    """

    def __init__(self, limit: int) -> None:
        self.limit: int = max(1, limit)
        self.allowed: int = min(_START, self.limit)
        self._successes = 0
        self._elapsed = 0.0
        self._best: float | None = None

    def record_success(self, seconds: float) -> None:
        """Record a response and the seconds it took."""
        self._successes += 1
        self._elapsed += seconds
        if self._successes < self.allowed:
            return
        # The time per response, with the load divided out: a server that works on one
        # request at a time is not slow because four are waiting.
        mean = self._elapsed / self._successes / self.allowed
        self._successes, self._elapsed = 0, 0.0
        if self._best is None or mean < self._best:
            self._best = mean
        if mean > self._best * SLOW:
            self.allowed = max(1, self.allowed - 1)
        else:
            self.allowed = min(self.limit, self.allowed + 1)

    def record_overload(self) -> None:
        """Record that the server is too busy."""
        self.allowed = max(1, self.allowed // 2)
        self._successes, self._elapsed = 0, 0.0
