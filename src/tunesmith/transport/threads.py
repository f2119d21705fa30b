"""What the blocking driver runs in threads: groups of flows, and shared waits.

A thousand waiters cost one request per interval, not a thousand: one of the waiters with
the same key polls for all of them.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import FlowResult, PollPause, ending_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.core.flow import Flow, SharedWait

__all__ = ["SharedThreadWaits", "ThreadGroup"]


class ThreadGroup:
    """Runs flows in up to `limit` threads."""

    def __init__(self, run: Callable[[Flow[Any]], Any], limit: int) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(max(1, limit), "tunesmith-group")
        self._results: queue.SimpleQueue[FlowResult] = queue.SimpleQueue()
        self._closing = threading.Event()

    def start(self, tag: Any, flow: Flow[Any]) -> None:
        """Start a flow."""
        self._pool.submit(self._run_one, tag, flow)

    def next_result(self) -> FlowResult:
        """Block until a flow has ended."""
        return self._results.get()

    def close(self) -> None:
        """Drop the flows that have not started and wait for the others."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    def _run_one(self, tag: Any, flow: Flow[Any]) -> None:
        if self._closing.is_set():
            return
        started = time.perf_counter()
        value: Any = None
        failure: BaseException | None = None
        try:
            value = self._run(flow)
        except BaseException as error:  # noqa: BLE001 - raised by the flow that reads the result
            failure = error
        self._results.put(FlowResult(tag, value, failure, time.perf_counter() - started))


class _SharedState:
    """The threads that wait with one key. One of them polls, the others sleep."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: dict[str, int] = {}
        self.found: dict[str, Any] = {}
        self.polling = False
        self.intervals: list[float] = []
        self.pause = PollPause()

    def enter(self, wait: SharedWait) -> None:
        """Add a waiter."""
        with self.changed:
            self.waiting[wait.name] = self.waiting.get(wait.name, 0) + 1
            self.intervals.append(wait.interval)

    def leave(self, wait: SharedWait) -> None:
        """Remove a waiter, and what was found for the last one of its name."""
        with self.changed:
            self.intervals.remove(wait.interval)
            self.waiting[wait.name] -= 1
            if self.waiting[wait.name] == 0:
                del self.waiting[wait.name]
                self.found.pop(wait.name, None)

    def publish(self, found: dict[str, Any]) -> None:
        """Keep what was found for those who still wait, and wake them; `changed` is held."""
        self.found.update((name, value) for name, value in found.items() if name in self.waiting)
        self.changed.notify_all()


class SharedThreadWaits:
    """The shared waits of a blocking client."""

    def __init__(self, run: Callable[[Flow[Any]], Any]) -> None:
        self._run = run
        self._states: dict[str, _SharedState] = {}
        self._lock = threading.Lock()

    def wait(self, wait: SharedWait) -> Any:
        """Block until `wait.name` has ended and return its value; None after the timeout."""
        deadline = None if wait.timeout is None else time.monotonic() + wait.timeout
        with self._lock:
            state = self._states.setdefault(wait.key, _SharedState())
            state.enter(wait)
        try:
            return self._wait(state, wait, deadline)
        finally:
            with self._lock:
                state.leave(wait)
                if not state.waiting and self._states.get(wait.key) is state:
                    del self._states[wait.key]

    def _wait(self, state: _SharedState, wait: SharedWait, deadline: float | None) -> Any:
        while True:
            with state.changed:
                if wait.name in state.found:
                    return state.found[wait.name]
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                if state.polling:
                    state.changed.wait(remaining)
                    continue
                state.polling = True
                names = frozenset(state.waiting)
            poll = wait.poll(names)
            try:
                found = self._run(poll if deadline is None else ending_by(poll, deadline))
            except BaseException:
                self._stop_polling(state, {})
                raise
            if wait.name in found:
                self._stop_polling(state, found)
                continue
            with state.changed:
                state.publish(found)
                pause = state.pause.next(min(state.intervals))
            if deadline is not None:
                pause = min(pause, deadline - time.monotonic())
            try:
                if pause > 0:
                    time.sleep(pause)
            finally:
                self._stop_polling(state, {})

    def _stop_polling(self, state: _SharedState, found: dict[str, Any]) -> None:
        """Publish what was found and wake the other waiters, one of which polls next."""
        with state.changed:
            state.polling = False
            state.publish(found)
