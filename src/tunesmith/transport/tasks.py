"""What the asyncio driver runs in tasks: groups of flows, and shared waits.

A thousand waiters cost one request per interval, not a thousand: for each key, one task
per event loop polls for all waiters.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import FlowResult, PollPause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tunesmith.core.flow import Flow, SharedWait

__all__ = ["SharedTaskWaits", "TaskGroup"]


class TaskGroup:
    """Runs flows in tasks of the running event loop."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._run = run
        self._results: asyncio.Queue[FlowResult] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, tag: Any, flow: Flow[Any]) -> None:
        """Start a flow."""
        task = asyncio.create_task(self._run_one(tag, flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def next_result(self) -> FlowResult:
        """Wait until a flow has ended."""
        return await self._results.get()

    async def close(self) -> None:
        """Cancel the flows that still run and wait until they have stopped."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_one(self, tag: Any, flow: Flow[Any]) -> None:
        started = time.perf_counter()
        value: Any = None
        failure: BaseException | None = None
        try:
            value = await self._run(flow)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the flow that reads the result
            failure = error
        self._results.put_nowait(FlowResult(tag, value, failure, time.perf_counter() - started))


class SharedTaskWaits:
    """The shared waits of an asyncio client: one polling task per event loop and key."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._run = run
        self._pollers: dict[tuple[asyncio.AbstractEventLoop, str], _Poller] = {}

    async def wait(self, wait: SharedWait) -> Any:
        """Wait until `wait.name` has ended and return its value; None after the timeout."""
        deadline = None if wait.timeout is None else time.monotonic() + wait.timeout
        while True:
            future = await self._wait_once(wait, deadline)
            if not future.done():
                return None
            if not future.cancelled():
                return future.result()
            # Only the polling task was cancelled, by other code: another one takes over.

    async def _wait_once(self, wait: SharedWait, deadline: float | None) -> asyncio.Future[Any]:
        """Return the future of one waiter when it is done, or pending after the deadline."""
        key = (asyncio.get_running_loop(), wait.key)
        poller = self._pollers.get(key)
        if poller is None:
            # It leaves the table when it ends, or as soon as nobody waits: a waiter that comes
            # later must never join a task that is being cancelled.
            poller = self._pollers[key] = _Poller(self._run, wait, lambda: self._retire(key))
        future = poller.add(wait)
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            await asyncio.wait([future], timeout=remaining)
        finally:
            poller.remove(wait, future)
        return future

    def _retire(self, key: tuple[asyncio.AbstractEventLoop, str]) -> None:
        self._pollers.pop(key, None)


class _Poller:
    """The tasks that wait with one key, and the task that polls for them.

    Args:
        retire: Called once, when the poller takes no more waiters.
    """

    def __init__(
        self,
        run: Callable[[Flow[Any]], Awaitable[Any]],
        wait: SharedWait,
        retire: Callable[[], None],
    ) -> None:
        self._run = run
        self._poll = wait.poll
        self._retire = [retire]
        self._waiting: dict[str, set[asyncio.Future[Any]]] = {}
        self._intervals: list[float] = []
        self._task = asyncio.create_task(self._poll_until_unused())
        self._task.add_done_callback(self._end)

    def add(self, wait: SharedWait) -> asyncio.Future[Any]:
        """Add a waiter; the future gets the value of its name."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(wait.name, set()).add(future)
        self._intervals.append(wait.interval)
        return future

    def remove(self, wait: SharedWait, future: asyncio.Future[Any]) -> None:
        """Remove a waiter; the last one ends the polls."""
        self._intervals.remove(wait.interval)
        if future.done() and not future.cancelled():
            future.exception()  # A waiter that was cancelled at this moment does not raise it.
        futures = self._waiting.get(wait.name)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._waiting[wait.name]
        if not self._waiting:
            self._stop_accepting()
            self._task.cancel()

    async def _poll_until_unused(self) -> None:
        # One iteration of the loop lets all who start to wait together share the first poll.
        await asyncio.sleep(0)
        pause = PollPause()
        while self._waiting:
            try:
                found = await self._run(self._poll(frozenset(self._waiting)))
            except Exception as error:  # noqa: BLE001 - each waiter gets it
                self._fail(error)
                return
            for name, value in found.items():
                for future in self._waiting.pop(name, ()):
                    if not future.done():
                        future.set_result(value)
            if self._waiting:
                await asyncio.sleep(pause.next(min(self._intervals)))

    def _fail(self, error: Exception) -> None:
        self._stop_accepting()
        waiting, self._waiting = self._waiting, {}
        for futures in waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Let the waiters that are left start another poller."""
        del task
        self._stop_accepting()
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()

    def _stop_accepting(self) -> None:
        while self._retire:
            self._retire.pop()()
