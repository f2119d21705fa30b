"""What the blocking driver does with threads: flows side by side, and shared waiting.

A thousand waiters cost one request per interval, not a thousand: those of one key make one
watch, and one of them looks for all.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import FlowResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.core.flow import Flow, SharedWait

__all__ = ["SharedThreadWaits", "ThreadGroup"]


class ThreadGroup:
    """Runs flows in up to `limit` threads."""

    def __init__(self, run: Callable[[Flow[Any]], Any], limit: int) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(max(1, limit), "tunesmith-group")
        self._ended: queue.SimpleQueue[FlowResult] = queue.SimpleQueue()
        self._closing = threading.Event()

    def start(self, tag: Any, flow: Flow[Any]) -> None:
        """Begin a flow."""
        self._pool.submit(self._one, tag, flow)

    def next_result(self) -> FlowResult:
        """Block until a flow has ended."""
        return self._ended.get()

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    def _one(self, tag: Any, flow: Flow[Any]) -> None:
        if self._closing.is_set():
            return
        started = time.perf_counter()
        value: Any = None
        failure: BaseException | None = None
        try:
            value = self._run(flow)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failure = error
        self._ended.put(FlowResult(tag, value, failure, time.perf_counter() - started))


class _ThreadWait:
    """The threads that wait on one list. One of them leads: it looks, the others sleep."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: dict[str, int] = {}
        self.found: dict[str, Any] = {}
        self.led = False
        self.polls: list[float] = []


class SharedThreadWaits:
    """The watches of a blocking client."""

    def __init__(self, run: Callable[[Flow[Any]], Any]) -> None:
        self._run = run
        self._shared_waits: dict[str, _ThreadWait] = {}
        self._lock = threading.Lock()

    def wait(self, watch: SharedWait) -> Any:
        """Block until what is watched for has ended; None when the time has passed first."""
        with self._lock:
            state = self._shared_waits.setdefault(watch.key, _ThreadWait())
        deadline = None if watch.seconds is None else time.monotonic() + watch.seconds
        with state.changed:
            state.waiting[watch.name] = state.waiting.get(watch.name, 0) + 1
            state.polls.append(watch.poll)
        try:
            return self._wait(state, watch, deadline)
        finally:
            with state.changed:
                state.polls.remove(watch.poll)
                state.waiting[watch.name] -= 1
                if state.waiting[watch.name] == 0:
                    del state.waiting[watch.name]
                    state.found.pop(watch.name, None)

    def _wait(self, state: _ThreadWait, watch: SharedWait, deadline: float | None) -> Any:
        while True:
            with state.changed:
                if watch.name in state.found:
                    return state.found[watch.name]
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                if state.led:
                    state.changed.wait(remaining)
                    continue
                state.led = True
                names = frozenset(state.waiting)
            try:
                found = self._run(watch.look(names))
            except BaseException:
                self._hand_over(state, {})
                raise
            own = watch.name in found
            if own:
                self._hand_over(state, found)
                continue
            with state.changed:
                state.found.update(found)
                state.changed.notify_all()
                pause = min(state.polls)
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            try:
                if left > 0:
                    time.sleep(left)
            finally:
                self._hand_over(state, {})

    def _hand_over(self, state: _ThreadWait, found: dict[str, Any]) -> None:
        """Stop leading and wake the others, one of whom leads on."""
        with state.changed:
            state.found.update(found)
            state.led = False
            state.changed.notify_all()
