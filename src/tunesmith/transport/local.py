"""Values that belong to one process or to one event loop, and the wait for a place among them.

Connections cannot be taken across a fork, and asyncio's not from one event loop to another.
What a transport keeps of them is kept here.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Given", "LoopLocal", "ProcessLocal", "enter"]

T = TypeVar("T")


class ProcessLocal(Generic[T]):
    """A value that is made again in a forked child.

    The parent's value is kept there, not closed: closing would end the parent's TLS sessions,
    and wait for threads that stayed with the parent.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: list[tuple[int, T]] = []

    def get(self) -> T:
        """Return this process's value."""
        if not self._values or self._values[-1][0] != os.getpid():
            self._values.append((os.getpid(), self._make()))
        return self._values[-1][1]

    def drop(self) -> T | None:
        """Forget this process's value and return it, None where there is none."""
        if self._values and self._values[-1][0] == os.getpid():
            return self._values.pop()[1]
        return None


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


class Given(Generic[T]):
    """A value that the user made, for whatever process and loop."""

    def __init__(self, value: T) -> None:
        self._value = value

    def get(self) -> T:
        """Return the value."""
        return self._value

    def drop(self) -> T:
        """Return the value."""
        return self._value


async def enter(places: asyncio.Semaphore, seconds: float | None) -> bool:
    """Take one of the places, waiting at most `seconds`; False when none came free."""
    if not places.locked():
        return await places.acquire()
    try:
        async with asyncio.timeout(seconds):
            return await places.acquire()
    except TimeoutError:
        return False
