"""Views of a client: the same resources, giving whole responses instead of values.

`client.files.with_raw_response` is a `Files[RawClient]`: the same class under another
kind of client, so that every operation has its raw and its streaming form without a
second declaration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, overload

from tunesmith.core.flow import Emitting, Flow, Send
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.errors import APIResponseValidationError, TunesmithError

from .operations import ClientT_co, Resource
from .tree import ResourceTree

if TYPE_CHECKING:
    from tunesmith.client import AsyncClient, Client
    from tunesmith.core.response import Response
    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )

__all__ = [
    "AsyncRawClient",
    "AsyncStreamingClient",
    "RawClient",
    "RawView",
    "StreamingClient",
    "StreamingView",
]

T = TypeVar("T")
BlockingT = TypeVar("BlockingT")
AwaitedT = TypeVar("AwaitedT")


class _View(ResourceTree[ClientT_co]):
    """A client seen in another way."""

    def __init__(self, client: Any) -> None:
        super().__init__(self)
        self._whole = client
        self._settings = client._settings

    @property
    def _driver(self) -> Any:
        return self._whole._driver

    def _iterate(self, flow: Emitting[T]) -> NoReturn:
        del flow
        raise TunesmithError(
            "What is iterated makes many requests, so there is no one answer to give. Ask the "
            "client itself."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._whole!r}>"


class _Recorded(Generic[T]):
    """Runs a flow and keeps the last answer it was sent."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.response: Response | None = None

    def run(self) -> Flow[APIResponse[T]]:
        """Return the flow's value with its answer; a misfit is kept for `parse`."""
        from tunesmith.transport.responses import APIResponse

        try:
            value = yield from self._observed()
        except APIResponseValidationError as error:
            if self.response is None:
                raise
            return APIResponse(self.response, None, error)
        if self.response is None:
            raise RuntimeError("This operation makes no request of its own.")
        return APIResponse(self.response, value, None)

    def _observed(self) -> Flow[T]:
        outcome: Any = None
        failure: BaseException | None = None
        while True:
            try:
                effect = self._flow.send(outcome) if failure is None else self._flow.throw(failure)
            except StopIteration as stop:
                value: T = stop.value
                return value
            failure = None
            try:
                outcome = yield effect
            except BaseException as error:  # noqa: BLE001 - handed to the flow, which decides
                failure = error
                continue
            if isinstance(effect, Send) and outcome.is_success:
                self.response = outcome


class RawClient(_View["RawClient"]):
    """Runs operations of a Client and returns their whole responses."""

    def _run(self, flow: Flow[T]) -> APIResponse[T]:
        response: APIResponse[T] = self._driver.run(_Recorded(flow).run())
        return response

    def _paginate(self, pages: PageFlow[T]) -> Any:
        from tunesmith.transport.pages import Page

        response = self._driver.run(_Recorded(pages(PageCursor())).run())
        response.wrap(lambda page: Page(page, pages, self._driver))
        return response


class AsyncRawClient(_View["AsyncRawClient"]):
    """Runs operations of an AsyncClient and returns their whole responses, to be awaited."""

    async def _run(self, flow: Flow[T]) -> APIResponse[T]:
        response: APIResponse[T] = await self._driver.run(_Recorded(flow).run())
        return response

    async def _paginate(self, pages: PageFlow[T]) -> Any:
        from tunesmith.transport.pages import AsyncPage

        response = await self._driver.run(_Recorded(pages(PageCursor())).run())
        response.wrap(lambda page: AsyncPage(page, pages, self._driver))
        return response


class StreamingClient(_View["StreamingClient"]):
    """Runs operations of a Client up to their answer and leaves the body to the caller."""

    _streams: ClassVar[bool] = True

    def _run(self, flow: Flow[T]) -> StreamedResponse[T]:
        from tunesmith.transport.responses import StreamedResponse

        return StreamedResponse(self._driver, flow)

    def _paginate(self, pages: PageFlow[T]) -> Any:
        return self._run(pages(PageCursor()))


class AsyncStreamingClient(_View["AsyncStreamingClient"]):
    """Runs operations of an AsyncClient up to their answer and leaves the body to the caller."""

    _streams: ClassVar[bool] = True

    def _run(self, flow: Flow[T]) -> AsyncStreamedResponse[T]:
        from tunesmith.transport.responses import AsyncStreamedResponse

        return AsyncStreamedResponse(self._driver, flow)

    def _paginate(self, pages: PageFlow[T]) -> Any:
        return self._run(pages(PageCursor()))


class RawView(Generic[BlockingT, AwaitedT]):
    """The attribute `with_raw_response` of a resource class."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> RawView[BlockingT, AwaitedT]: ...
    @overload
    def __get__(self, instance: Resource[Client], owner: type[Any]) -> BlockingT: ...
    @overload
    def __get__(self, instance: Resource[AsyncClient], owner: type[Any]) -> AwaitedT: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        view = AsyncRawClient if instance._client._is_async else RawClient
        return owner(view(instance._client))


class StreamingView(Generic[BlockingT, AwaitedT]):
    """The attribute `with_streaming_response` of a resource class."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> StreamingView[BlockingT, AwaitedT]: ...
    @overload
    def __get__(self, instance: Resource[Client], owner: type[Any]) -> BlockingT: ...
    @overload
    def __get__(self, instance: Resource[AsyncClient], owner: type[Any]) -> AwaitedT: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        view = AsyncStreamingClient if instance._client._is_async else StreamingClient
        return owner(view(instance._client))
