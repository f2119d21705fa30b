"""What asynchronous transports share: values per event loop, waiting for a permit, bodies.

A module of its own, because blocking clients do not load asyncio.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

from .pool import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tunesmith.core.request import Body

__all__ = ["LoopLocal", "acquire", "read_in_threads"]

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """A value per event loop, created again in a forked child; freed with its loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._loops: ProcessLocal[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T]] = (
            ProcessLocal(weakref.WeakKeyDictionary)
        )

    def get(self) -> T:
        """Return the running loop's value."""
        loop, values = asyncio.get_running_loop(), self._loops.get()
        value = values.get(loop)
        if value is None:
            value = values[loop] = self._make()
        return value

    def drop(self) -> T | None:
        """Remove the running loop's value and return it, None if there is none."""
        return self._loops.get().pop(asyncio.get_running_loop(), None)


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
