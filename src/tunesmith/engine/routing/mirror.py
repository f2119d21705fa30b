"""Asks the new model beside the old one, off the path of requests, so that no caller waits.

A bounded queue of requests, a few of which are asked at a time, and only while the event loop has
time: callers come first. What does not fit is dropped, and counted as dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .decisions import Decision, Observation

__all__ = ["Mirror"]

_TICK_SECONDS = 0.005
_QUIET_SECONDS = 0.003
_MOST_TICKS = 2000


@dataclass(slots=True)
class _Task:
    decision: Decision
    ask: Callable[[], Awaitable[Observation]]
    size: int


class Mirror:
    """The requests to be asked beside; used in one event loop.

    Args:
        finish: Called with each decision, once it has both answers or is dropped.
        most: How many may wait.
        most_bytes: How large those may be.
        at_a_time: How many are asked at a time.
    """

    def __init__(
        self, finish: Callable[[Decision], None], *, most: int, most_bytes: int, at_a_time: int
    ) -> None:
        self._finish = finish
        self._most = most
        self._most_bytes = most_bytes
        self._at_a_time = at_a_time
        self._waiting: deque[_Task] = deque()
        self._bytes = 0
        self._workers: set[asyncio.Task[None]] = set()

    def add(self, decision: Decision, ask: Callable[[], Awaitable[Observation]]) -> None:
        """Have a request asked beside, if there is room. Never waits.

        Args:
            decision: With the other service's answer.
            ask: Returns the new model's answer.
        """
        size = len(decision.request)
        if decision.upstream is not None:
            size += len(decision.upstream.content)
        if len(self._waiting) >= self._most or self._bytes + size > self._most_bytes:
            self._drop(decision)
            return
        self._waiting.append(_Task(decision, ask, size))
        self._bytes += size
        if len(self._workers) < self._at_a_time:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def stop(self) -> None:
        """Drop what waits."""
        while self._waiting:
            self._drop(self._waiting.popleft().decision)
        for worker in list(self._workers):
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    async def _work(self) -> None:
        while self._waiting:
            await _until_quiet()
            if not self._waiting:
                return
            task = self._waiting.popleft()
            self._bytes -= task.size
            try:
                task.decision.local = await task.ask()
            except BaseException:
                self._drop(task.decision)
                raise
            upstream, local = task.decision.upstream, task.decision.local
            comparable = upstream is not None and upstream.is_comparable and local.is_comparable
            task.decision.mirror = "compared" if comparable else "failed"
            self._finish(task.decision)

    def _drop(self, decision: Decision) -> None:
        decision.mirror = "dropped"
        self._finish(decision)


async def _until_quiet() -> None:
    """Wait until the event loop is not late, at most ten seconds."""
    loop = asyncio.get_running_loop()
    for _ in range(_MOST_TICKS):
        began = loop.time()
        await asyncio.sleep(_TICK_SECONDS)
        if loop.time() - began - _TICK_SECONDS < _QUIET_SECONDS:
            return
