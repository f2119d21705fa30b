"""What asynchronous transports share: values per event loop, waiting for a permit, bodies.

A module of its own, because blocking clients do not load asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from .pool import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from tunesmith.core.request import Body

__all__ = ["LoopLocal", "acquire", "read_in_threads"]

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """A value per event loop, created again in a forked child; closed and freed with its loop.

    Args:
        make: Returns a new value.
        close: Closes a value whose loop is about to end.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._lock = threading.Lock()
        self._loops: ProcessLocal[dict[asyncio.AbstractEventLoop, _Kept[T]]] = ProcessLocal(dict)

    def get(self) -> T:
        """Return the running loop's value."""
        loop = asyncio.get_running_loop()
        kept = self._loops.get().get(loop)
        return self._add(loop) if kept is None else kept.value

    def drop(self) -> T | None:
        """Remove the running loop's value and return it, None if there is none."""
        kept = self._loops.get().pop(asyncio.get_running_loop(), None)
        return None if kept is None else kept.value

    def _add(self, loop: asyncio.AbstractEventLoop) -> T:
        loops = self._loops.get()
        with self._lock:
            for closed in [one for one in loops if one.is_closed()]:
                del loops[closed]  # Its sockets close when they are collected.
            value = self._make()
            end = self._until_the_loop_ends(loop, value)
            loops[loop] = _Kept(value, end)
        # Started here, up to its `yield`, so that the loop knows of it.
        with contextlib.suppress(StopIteration):
            end.asend(None).send(None)
        return value

    async def _until_the_loop_ends(
        self, loop: asyncio.AbstractEventLoop, value: T
    ) -> AsyncGenerator[None]:
        # A loop closes its unfinished asynchronous generators at its end, while it still runs
        # (`shutdown_asyncgens`, which `asyncio.run` calls). Connections are closed with it:
        # left alone they would hold their sockets, and the loop that holds them.
        try:
            yield
        finally:
            kept = self._loops.get().get(loop)
            if kept is not None and kept.value is value:
                del self._loops.get()[loop]
                await self._close(value)


class _Kept(NamedTuple, Generic[T]):
    """A value, and the generator that ends with its loop."""

    value: T
    end: AsyncGenerator[None]


async def acquire(semaphore: asyncio.Semaphore, seconds: float | None) -> bool:
    """Acquire a semaphore within `seconds`; return whether it was acquired."""
    if not semaphore.locked():
        return await semaphore.acquire()
    try:
        async with asyncio.timeout(seconds):
            return await semaphore.acquire()
    except TimeoutError:
        return False


async def read_in_threads(body: Body) -> AsyncIterator[bytes]:
    """Yield a body, read in worker threads so that a slow disk does not block the event loop."""
    chunks = body.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
