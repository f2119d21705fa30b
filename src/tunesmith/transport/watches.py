"""Shared waiting: one look at a list serves all who wait for something on it.

A thousand waiters cost one request per interval, not a thousand. The waiters of one key
make one watch; its looks are run by one of them (threads) or by one task (asyncio).
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tunesmith.core.flow import Flow, Watch

__all__ = ["TaskWatches", "ThreadWatches"]


class _ThreadWatch:
    """The threads that wait on one list. One of them leads: it looks, the others sleep."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: dict[str, int] = {}
        self.found: dict[str, Any] = {}
        self.led = False
        self.polls: list[float] = []


class ThreadWatches:
    """The watches of a blocking client."""

    def __init__(self, run: Callable[[Flow[Any]], Any]) -> None:
        self._run = run
        self._watches: dict[str, _ThreadWatch] = {}
        self._lock = threading.Lock()

    def wait(self, watch: Watch) -> Any:
        """Block until what is watched for has ended; None when the time has passed first."""
        with self._lock:
            state = self._watches.setdefault(watch.key, _ThreadWatch())
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

    def _wait(self, state: _ThreadWatch, watch: Watch, deadline: float | None) -> Any:
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

    def _hand_over(self, state: _ThreadWatch, found: dict[str, Any]) -> None:
        """Stop leading and wake the others, one of whom leads on."""
        with state.changed:
            state.found.update(found)
            state.led = False
            state.changed.notify_all()


class TaskWatches:
    """The watches of an asyncio client: one task per event loop and list."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._run = run
        self._watches: dict[tuple[int, str], _TaskWatch] = {}

    async def wait(self, watch: Watch) -> Any:
        """Wait until what is watched for has ended; None when the time has passed first."""
        key = (id(asyncio.get_running_loop()), watch.key)
        state = self._watches.get(key)
        if state is None or state.task.done():
            state = self._watches[key] = _TaskWatch(self._run, watch)
        future = state.enter(watch)
        try:
            async with asyncio.timeout(watch.seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            state.leave(watch, future)


class _TaskWatch:
    """The tasks that wait on one list, and the one that looks."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]], watch: Watch) -> None:
        self._run = run
        self._look = watch.look
        self._waiting: dict[str, set[asyncio.Future[Any]]] = {}
        self._polls: list[float] = []
        self.task = asyncio.create_task(self._serve())

    def enter(self, watch: Watch) -> asyncio.Future[Any]:
        """Wait for a name; the future gets its value."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(watch.name, set()).add(future)
        self._polls.append(watch.poll)
        return future

    def leave(self, watch: Watch, future: asyncio.Future[Any]) -> None:
        """Stop waiting; the last to leave ends the looks."""
        self._polls.remove(watch.poll)
        future.cancel()
        futures = self._waiting.get(watch.name)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._waiting[watch.name]
        if not self._waiting:
            self.task.cancel()

    async def _serve(self) -> None:
        # One turn of the loop lets all who begin to wait together share the first look.
        await asyncio.sleep(0)
        while self._waiting:
            try:
                found = await self._run(self._look(frozenset(self._waiting)))
            except Exception as error:  # noqa: BLE001 - each waiter gets it
                self._fail(error)
                return
            for name, value in found.items():
                for future in self._waiting.pop(name, ()):
                    if not future.done():
                        future.set_result(value)
            if self._waiting:
                await asyncio.sleep(min(self._polls))

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for futures in waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
