"""Decorators that turn a flow, declared once, into the methods of every mode.

A resource class is generic in a mode: the methods of `Files[Sync]` block, those of `Files[Async]`
are coroutine functions, and the raw and streaming modes return whole responses. Type checkers see
this through ParamSpec and overloads on the owner. At run time a method passes the flow to the
executor of its owner, after it has refused keywords that the operation does not have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import cached_property
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, overload

from tunesmith.core.flow import Emitting, Flow
from tunesmith.core.modes import (
    Async,
    AsyncRaw,
    AsyncStreaming,
    ModeT_co,
    Sync,
    SyncRaw,
    SyncStreaming,
)
from tunesmith.core.paging import PageFlow
from tunesmith.core.signatures import describe, keywords_of, parameter_texts, unknown_keyword

if TYPE_CHECKING:
    from tunesmith.transport.pages import AsyncPage, AsyncPaginator, Page
    from tunesmith.transport.responses import APIResponse, AsyncStreamedResponse, StreamedResponse
    from tunesmith.transport.streams import AsyncStream, Stream

__all__ = [
    "AnyStream",
    "OperationHost",
    "Resource",
    "deprecated",
    "helper",
    "iteration",
    "listing",
    "operation",
    "overloaded",
    "streaming",
]

P = ParamSpec("P")
T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class OperationHost(Generic[ModeT_co]):
    """An object with operations: a resource, or a client for requests to any path.

    Args:
        executor: Runs the flows.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor


class Resource(OperationHost[ModeT_co]):
    """A group of operations of one client."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._executor.settings.base_url}>"


class AnyStream(Generic[T]):
    """In a flow's type: a stream of T, `Stream[T]` or `AsyncStream[T]`."""


def deprecated(advice: str) -> Callable[[FunctionT], FunctionT]:
    """Mark a flow whose operation is deprecated; each call of it warns.

    Args:
        advice: What to use instead, as a sentence.
    """

    def mark(flow: FunctionT) -> FunctionT:
        flow.__deprecated__ = f"{flow.__name__} is deprecated. {advice}"  # type: ignore[attr-defined]
        return flow

    return mark


def _warn(message: str) -> None:
    """Warn of a deprecated operation, in the name of the line that called its method."""
    import warnings

    warnings.warn(message, DeprecationWarning, stacklevel=3)


class _Declared:
    """What the decorators share: the methods of a flow, each made when it is first used."""

    # The method of the executor, and what the blocking and the asynchronous method return.
    _runner: ClassVar[str] = "run"
    _returns: ClassVar[tuple[str, str]] = ("{}", "{}")

    def __init__(self, flow: Callable[..., Any]) -> None:
        self.flow = flow
        self.__doc__ = flow.__doc__
        self._owner: Any = None

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._owner = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method; mocks look for this where they replace a class's attribute."""
        return self.__get__(args[0], type(args[0]))(*args[1:], **kwargs)

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        raise NotImplementedError

    @cached_property
    def _method(self) -> Any:
        """The method of modes that block."""
        return self._plain(self._returns[0])

    @cached_property
    def _async_method(self) -> Any:
        """The method of asynchronous modes that returns something not to be awaited."""
        return self._plain(self._returns[1])

    @cached_property
    def _coroutine_method(self) -> Any:
        """The method of asynchronous modes that has to be awaited."""
        flow, runner, name = self.flow, self._runner, self.flow.__name__
        known, warning = keywords_of(flow), getattr(flow, "__deprecated__", None)

        async def method(self: OperationHost[Any], *args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known:
                raise unknown_keyword(self, name, kwargs, known)
            if warning is not None:
                _warn(warning)
            return await getattr(self._executor, runner)(flow(self, *args, **kwargs))

        return self._described(method, self._returns[1])

    def _plain(self, returns: str) -> Any:
        flow, runner, name = self.flow, self._runner, self.flow.__name__
        known, warning = keywords_of(flow), getattr(flow, "__deprecated__", None)

        def method(self: OperationHost[Any], *args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known:
                raise unknown_keyword(self, name, kwargs, known)
            if warning is not None:
                _warn(warning)
            return getattr(self._executor, runner)(flow(self, *args, **kwargs))

        return self._described(method, returns)

    def _described(self, method: Any, returns: str) -> Any:
        # Options that several methods of a class share are described by its `create`.
        create = vars(self._owner).get("create")
        texts = parameter_texts(create) if create is not None else {}
        describe(method, self.flow, returns=returns, texts=texts)
        method.flow = self.flow
        return method


class operation(_Declared, Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares an operation by its flow, which does one request or several.

    The method returns the flow's value, or is a coroutine function that does. `flow` is the
    undecorated flow, for composition with `yield from`.
    """

    flow: Callable[Concatenate[Any, P], Flow[T]]

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> operation[P, T]: ...
    @overload
    def __get__(self, instance: OperationHost[Sync], owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, instance: OperationHost[Async], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[SyncRaw], owner: type[Any]
    ) -> Callable[P, APIResponse[T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[AsyncRaw], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, APIResponse[T]]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[SyncStreaming], owner: type[Any]
    ) -> Callable[P, StreamedResponse[T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[AsyncStreaming], owner: type[Any]
    ) -> Callable[P, AsyncStreamedResponse[T]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            # A client's class says its mode, which mocks of the class go by.
            kind = getattr(owner, "_executor_class", None)
            return self._coroutine_method if kind is not None and kind.awaits else self._method
        method = self._coroutine_method if instance._executor.awaits else self._method
        return MethodType(method, instance)


class listing(_Declared, Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares a list operation by the flow of one page.

    On a blocking client the method returns the first `Page`; on an asyncio client it
    returns at once an `AsyncPaginator`, to be awaited for the first page or iterated.
    """

    _runner: ClassVar[str] = "paginate"
    _returns: ClassVar[tuple[str, str]] = ("Page[{}]", "AsyncPaginator[{}]")
    flow: Callable[Concatenate[Any, P], PageFlow[T]]

    def __init__(self, pages: Callable[Concatenate[Any, P], PageFlow[T]]) -> None:
        super().__init__(pages)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> listing[P, T]: ...
    @overload
    def __get__(self, instance: OperationHost[Sync], owner: type[Any]) -> Callable[P, Page[T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[Async], owner: type[Any]
    ) -> Callable[P, AsyncPaginator[T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[SyncRaw], owner: type[Any]
    ) -> Callable[P, APIResponse[Page[T]]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[AsyncRaw], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, APIResponse[AsyncPage[T]]]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[SyncStreaming], owner: type[Any]
    ) -> Callable[P, StreamedResponse[Page[T]]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[AsyncStreaming], owner: type[Any]
    ) -> Callable[P, AsyncStreamedResponse[AsyncPage[T]]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        executor = instance._executor
        if executor.awaits_pages:
            return MethodType(self._coroutine_method, instance)
        return MethodType(self._async_method if executor.is_async else self._method, instance)


class streaming(_Declared, Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares an operation whose value is a stream: `Stream[T]` or, awaited, `AsyncStream[T]`."""

    _returns: ClassVar[tuple[str, str]] = ("Stream[{}]", "AsyncStream[{}]")
    flow: Callable[Concatenate[Any, P], Flow[AnyStream[T]]]

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[AnyStream[T]]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> streaming[P, T]: ...
    @overload
    def __get__(
        self, instance: OperationHost[Sync], owner: type[Any]
    ) -> Callable[P, Stream[T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[Async], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, AsyncStream[T]]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        method = self._coroutine_method if instance._executor.awaits else self._method
        return MethodType(method, instance)


class iteration(_Declared, Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares an operation that yields items over time, by a flow that emits them.

    On a blocking client the method returns an iterator, on an asyncio client an
    asynchronous one.
    """

    _runner: ClassVar[str] = "iterate"
    _returns: ClassVar[tuple[str, str]] = ("Iterator[{}]", "AsyncIterator[{}]")
    flow: Callable[Concatenate[Any, P], Emitting[T]]

    def __init__(self, flow: Callable[Concatenate[Any, P], Emitting[T]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> iteration[P, T]: ...
    @overload
    def __get__(
        self, instance: OperationHost[Sync], owner: type[Any]
    ) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(
        self, instance: OperationHost[Async], owner: type[Any]
    ) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        method = self._async_method if instance._executor.is_async else self._method
        return MethodType(method, instance)


class _Overloaded(_Declared):
    """An operation whose types stand in overloads: they depend on the arguments."""

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        method = self._coroutine_method if instance._executor.awaits else self._method
        return MethodType(method, instance)


class _Helper(_Declared):
    """A method that returns at once in every mode, by a plain function."""

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self._method if instance is None else MethodType(self._method, instance)

    def _plain(self, returns: str) -> Any:
        function, name = self.flow, self.flow.__name__
        known = keywords_of(function)

        def method(self: OperationHost[Any], *args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known:
                raise unknown_keyword(self, name, kwargs, known)
            return function(self, *args, **kwargs)

        return self._described(method, returns)


def overloaded(flow: Callable[P, T]) -> Callable[P, T]:
    """Declare an operation whose types stand in overloads before it."""
    declared: Any = _Overloaded(flow)
    return declared  # type: ignore[no-any-return]  # what users see stands in the overloads


def helper(function: Callable[P, T]) -> Callable[P, T]:
    """Declare a method that returns at once in every mode, its types in overloads before it."""
    declared: Any = _Helper(function)
    return declared  # type: ignore[no-any-return]  # as above
