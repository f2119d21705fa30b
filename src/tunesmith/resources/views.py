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


class _View:
    """What both attributes share: the view is made once, so that what is set on it stays.

    Programs that trace calls replace `client.chat.completions.with_raw_response.create`.
    """

    _name: str

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def _kept(self, instance: Any, view: Any) -> Any:
        # With the view in the instance's dict, this descriptor is not reached again.
        return vars(instance).setdefault(self._name, view)


class RawView(_View, Generic[SyncT, AsyncT]):
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
        executor = AsyncRawExecutor(plain) if plain.is_async else RawExecutor(plain)
        return self._kept(instance, owner(executor))


class StreamingView(_View, Generic[SyncT, AsyncT]):
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
        executor = AsyncStreamingExecutor(plain) if plain.is_async else StreamingExecutor(plain)
        return self._kept(instance, owner(executor))
