"""What the asyncio driver does with tasks: flows side by side, and shared waiting.

A thousand waiters cost one request per interval, not a thousand: those of one key make one
watch, and one task per event loop looks for all.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import FlowResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tunesmith.core.flow import Flow, SharedWait

__all__ = ["SharedTaskWaits", "TaskGroup"]


class TaskGroup:
    """Runs flows in tasks of the running event loop."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._run = run
        self._ended: asyncio.Queue[FlowResult] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, tag: Any, flow: Flow[Any]) -> None:
        """Begin a flow."""
        task = asyncio.create_task(self._one(tag, flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def next_result(self) -> FlowResult:
        """Wait until a flow has ended."""
        return await self._ended.get()

    async def close(self) -> None:
        """Cancel what still runs and wait until it has stopped."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, tag: Any, flow: Flow[Any]) -> None:
        started = time.perf_counter()
        value: Any = None
        failure: BaseException | None = None
        try:
            value = await self._run(flow)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failure = error
        self._ended.put_nowait(FlowResult(tag, value, failure, time.perf_counter() - started))


class SharedTaskWaits:
    """The watches of an asyncio client: one task per event loop and list."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._run = run
        self._shared_waits: dict[tuple[int, str], _TaskWait] = {}

    async def wait(self, watch: SharedWait) -> Any:
        """Wait until what is watched for has ended; None when the time has passed first."""
        key = (id(asyncio.get_running_loop()), watch.key)
        state = self._shared_waits.get(key)
        if state is None or state.task.done():
            state = self._shared_waits[key] = _TaskWait(self._run, watch)
        future = state.enter(watch)
        try:
            async with asyncio.timeout(watch.seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            state.leave(watch, future)


class _TaskWait:
    """The tasks that wait on one list, and the one that looks."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]], watch: SharedWait) -> None:
        self._run = run
        self._look = watch.look
        self._waiting: dict[str, set[asyncio.Future[Any]]] = {}
        self._polls: list[float] = []
        self.task = asyncio.create_task(self._serve())

    def enter(self, watch: SharedWait) -> asyncio.Future[Any]:
        """Wait for a name; the future gets its value."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(watch.name, set()).add(future)
        self._polls.append(watch.poll)
        return future

    def leave(self, watch: SharedWait, future: asyncio.Future[Any]) -> None:
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
