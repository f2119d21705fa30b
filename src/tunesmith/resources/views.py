"""The attributes `with_raw_response` and `with_streaming_response` of resource classes.

`client.files.with_raw_response` is a `Files[SyncRaw]`: the same class with another executor, so
that every operation has its raw and its streaming form without a second declaration.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from tunesmith.core.modes import Async, Sync

from .executors import (
    AsyncRawExecutor,
    AsyncStreamingExecutor,
    RawExecutor,
    StreamingExecutor,
)
from .operations import OperationHost

__all__ = ["RawView", "StreamingView"]

SyncT = TypeVar("SyncT")
AsyncT = TypeVar("AsyncT")


class RawView(Generic[SyncT, AsyncT]):
    """The attribute `with_raw_response` of a class with operations."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> RawView[SyncT, AsyncT]: ...
    @overload
    def __get__(self, instance: OperationHost[Sync], owner: type[Any]) -> SyncT: ...
    @overload
    def __get__(self, instance: OperationHost[Async], owner: type[Any]) -> AsyncT: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        plain = instance._executor.plain
        return owner(AsyncRawExecutor(plain) if plain.is_async else RawExecutor(plain))


class StreamingView(Generic[SyncT, AsyncT]):
    """The attribute `with_streaming_response` of a class with operations."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> StreamingView[SyncT, AsyncT]: ...
    @overload
    def __get__(self, instance: OperationHost[Sync], owner: type[Any]) -> SyncT: ...
    @overload
    def __get__(self, instance: OperationHost[Async], owner: type[Any]) -> AsyncT: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        plain = instance._executor.plain
        return owner(AsyncStreamingExecutor(plain) if plain.is_async else StreamingExecutor(plain))
