"""How an operation is declared once and offered in both colours.

A resource class is generic in the client that it belongs to: `Files[Client]` blocks,
`Files[AsyncClient]` gives coroutines, and the views behind `with_raw_response` give
whole responses. The descriptors here turn a flow into the method that fits, typed
for mypy and pyright through ParamSpec and overloads on the owner.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from tunesmith.core.flow import Emitting, Flow
from tunesmith.core.options import omit
from tunesmith.core.paging import PageFlow

if TYPE_CHECKING:
    from tunesmith.client import AsyncClient, Client
    from tunesmith.transport.pages import AsyncPaginator, Page
    from tunesmith.transport.responses import APIResponse, AsyncStreamedResponse, StreamedResponse
    from tunesmith.transport.streams import AsyncStream, Stream

    from .views import AsyncRawClient, AsyncStreamingClient, RawClient, StreamingClient

__all__ = [
    "AnyStream",
    "ClientT_co",
    "Resource",
    "expanded",
    "iteration",
    "listing",
    "operation",
    "streaming",
]

P = ParamSpec("P")
T = TypeVar("T")
ClientT_co = TypeVar("ClientT_co", covariant=True)


class Resource(Generic[ClientT_co]):
    """A group of operations of one client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"


class operation(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares an operation by its flow.

    On a blocking client the method returns the flow's value, on an asyncio client a
    coroutine of it. `flow` is the undecorated flow, for composition with `yield from`.
    """

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self.flow = flow

        def method(self: Resource[Any], *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._client._run(flow(self, *args, **kwargs))

        self._method = _presented(method, flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> operation[P, T]: ...
    @overload
    def __get__(self, instance: Resource[Client], owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncClient], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(
        self, instance: Resource[RawClient], owner: type[Any]
    ) -> Callable[P, APIResponse[T]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncRawClient], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, APIResponse[T]]]: ...
    @overload
    def __get__(
        self, instance: Resource[StreamingClient], owner: type[Any]
    ) -> Callable[P, StreamedResponse[T]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncStreamingClient], owner: type[Any]
    ) -> Callable[P, AsyncStreamedResponse[T]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        return self._method.__get__(instance, owner)


class listing(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares a list operation by the flow of one page.

    On a blocking client the method returns the first `Page`; on an asyncio client it
    returns at once an `AsyncPaginator`, to be awaited for the first page or iterated.
    """

    def __init__(self, pages: Callable[Concatenate[Any, P], PageFlow[T]]) -> None:
        self.pages = pages

        def method(self: Resource[Any], *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._client._paginate(pages(self, *args, **kwargs))

        self._method = _presented(method, pages)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> listing[P, T]: ...
    @overload
    def __get__(self, instance: Resource[Client], owner: type[Any]) -> Callable[P, Page[T]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncClient], owner: type[Any]
    ) -> Callable[P, AsyncPaginator[T]]: ...
    @overload
    def __get__(
        self, instance: Resource[RawClient], owner: type[Any]
    ) -> Callable[P, APIResponse[Page[T]]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncRawClient], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, APIResponse[AsyncPaginator[T]]]]: ...
    @overload
    def __get__(
        self, instance: Resource[StreamingClient], owner: type[Any]
    ) -> Callable[P, StreamedResponse[Page[T]]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncStreamingClient], owner: type[Any]
    ) -> Callable[P, AsyncStreamedResponse[AsyncPaginator[T]]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        return self._method.__get__(instance, owner)


class AnyStream(Generic[T]):
    """In a flow's type: a stream of T, of the driver's colour."""


class streaming(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares an operation whose value is a stream: `Stream[T]` or, awaited, `AsyncStream[T]`."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[AnyStream[T]]]) -> None:
        self.flow = flow

        def method(self: Resource[Any], *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._client._run(flow(self, *args, **kwargs))

        self._method = _presented(method, flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> streaming[P, T]: ...
    @overload
    def __get__(self, instance: Resource[Client], owner: type[Any]) -> Callable[P, Stream[T]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncClient], owner: type[Any]
    ) -> Callable[P, Coroutine[Any, Any, AsyncStream[T]]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        return self._method.__get__(instance, owner)


class iteration(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Declares an operation that yields items over time, by a flow that emits them.

    On a blocking client the method returns an iterator, on an asyncio client an
    asynchronous one.
    """

    def __init__(self, flow: Callable[Concatenate[Any, P], Emitting[T]]) -> None:
        self.flow = flow

        def method(self: Resource[Any], *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._client._iterate(flow(self, *args, **kwargs))

        self._method = _presented(method, flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> iteration[P, T]: ...
    @overload
    def __get__(self, instance: Resource[Client], owner: type[Any]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(
        self, instance: Resource[AsyncClient], owner: type[Any]
    ) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        return self._method.__get__(instance, owner)


def expanded(method: Callable[P, T]) -> Callable[P, T]:
    """Give a hand-written method the signature that users see, its options spelt out."""
    method.__signature__ = _user_signature(method)  # type: ignore[attr-defined]  # inspect reads it
    return method


def _presented(method: Any, flow: Any) -> Any:
    """Return `method` looking like the flow's declaration, so that help and docs are right."""
    functools.update_wrapper(method, flow)
    method.flow = flow
    method.__signature__ = _user_signature(flow)
    return method


def _user_signature(function: Any) -> inspect.Signature:
    """Return the signature with `**params: Unpack[Options]` spelt out as keyword arguments."""
    signature = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
            continue
        for name, annotation in _options_of(function, parameter).items():
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=omit, annotation=annotation
                )
            )
    annotation = str(signature.return_annotation)
    for wrapper in ("Flow", "PageFlow", "Emitting", "AnyStream"):
        if annotation.startswith(f"{wrapper}["):
            annotation = annotation[len(wrapper) + 1 : -1]
    return signature.replace(parameters=parameters, return_annotation=annotation)


def _options_of(function: Any, parameter: inspect.Parameter) -> dict[str, Any]:
    """Return the fields of the TypedDict that `**params` unpacks, with those it inherits."""
    name = str(parameter.annotation).removeprefix("Unpack[").removesuffix("]")
    options = function.__globals__[name]
    return {
        field: getattr(kind, "__forward_arg__", kind)
        for field, kind in options.__annotations__.items()
    }
