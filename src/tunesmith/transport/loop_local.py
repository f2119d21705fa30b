"""The same for asyncio, whose connections belong to one event loop; and the wait for a place."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

from .local import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoopLocal", "enter"]

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """A value for each event loop, made again in a forked child; gone with its loop."""

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
        """Forget the running loop's value and return it, None where there is none."""
        return self._loops.get().pop(asyncio.get_running_loop(), None)


async def enter(places: asyncio.Semaphore, seconds: float | None) -> bool:
    """Take one of the places, waiting at most `seconds`; False when none came free."""
    if not places.locked():
        return await places.acquire()
    try:
        async with asyncio.timeout(seconds):
            return await places.acquire()
    except TimeoutError:
        return False
