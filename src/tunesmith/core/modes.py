"""The modes in which operations run, as marker types.

A resource and a job are generic in one of these: `Files[Sync]` blocks, `Files[Async]` has
coroutine methods, and the raw and streaming modes return whole responses. The classes carry no
code and are never instantiated; overloads select a mode's types by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

__all__ = [
    "AnyAsync",
    "AnySync",
    "Async",
    "AsyncRaw",
    "AsyncStreaming",
    "ModeT_co",
    "Sync",
    "SyncRaw",
    "SyncStreaming",
]


class Sync:
    """Methods block and return the value."""


class Async:
    """Methods are coroutine functions that return the value."""


class SyncRaw:
    """Methods block and return an `APIResponse` with the value."""


class AsyncRaw:
    """Methods are coroutine functions that return an `APIResponse` with the value."""


class SyncStreaming:
    """Methods return a `StreamedResponse`, to be used with `with`."""


class AsyncStreaming:
    """Methods return an `AsyncStreamedResponse`, to be used with `async with`."""


AnySync: TypeAlias = Sync | SyncRaw | SyncStreaming
AnyAsync: TypeAlias = Async | AsyncRaw | AsyncStreaming
# A default means nothing at run time, and typing_extensions would cost each process milliseconds.
if TYPE_CHECKING:
    ModeT_co = TypeVarWithDefault("ModeT_co", covariant=True, default=Any)
else:
    ModeT_co = TypeVar("ModeT_co", covariant=True)
