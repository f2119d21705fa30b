"""Flows side by side: in threads for the blocking driver, in tasks for asyncio."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tunesmith.core.flow import Ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tunesmith.core.flow import Flow

__all__ = ["TaskGroup", "ThreadGroup"]


class ThreadGroup:
    """Runs flows in up to `limit` threads."""

    def __init__(self, run: Callable[[Flow[Any]], Any], limit: int) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(max(1, limit), "tunesmith-group")
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._closing = threading.Event()

    def start(self, tag: Any, flow: Flow[Any]) -> None:
        """Begin a flow."""
        self._pool.submit(self._one, tag, flow)

    def finished(self) -> Ended:
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
        self._ended.put(Ended(tag, value, failure, time.perf_counter() - started))


class TaskGroup:
    """Runs flows in tasks of the running event loop."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._run = run
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, tag: Any, flow: Flow[Any]) -> None:
        """Begin a flow."""
        task = asyncio.create_task(self._one(tag, flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finished(self) -> Ended:
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
        self._ended.put_nowait(Ended(tag, value, failure, time.perf_counter() - started))
