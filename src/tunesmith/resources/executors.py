"""Executors: how the flows of a client's operations are run, one class per mode.

A resource hands its flows to an executor and knows neither transports nor clients. An executor
holds the settings and shares the connections, which are opened with the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar

from tunesmith.core.flow import Emitting, Flow, Send
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.errors import APIResponseValidationError, TunesmithError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from tunesmith.core.response import Response
    from tunesmith.core.settings import Settings
    from tunesmith.transport.async_driver import AsyncDriver
    from tunesmith.transport.pages import AsyncPaginator, Page
    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )
    from tunesmith.transport.sync_driver import SyncDriver

__all__ = [
    "AsyncExecutor",
    "AsyncRawExecutor",
    "AsyncStreamingExecutor",
    "Connections",
    "Executor",
    "RawExecutor",
    "StreamingExecutor",
    "SyncExecutor",
]

T = TypeVar("T")


class Connections:
    """The driver that a client and its clones share, made with the first request.

    Args:
        http_client: An httpx client of the user's to send with.
        limit: The most connections at one time.
        transport: The name of a transport, or an object with a `send` method.
        http2: Whether to offer HTTP/2.
    """

    def __init__(
        self, http_client: Any, limit: int | None, transport: Any, *, http2: bool = False
    ) -> None:
        self.http_client = http_client
        self.limit = limit
        self.transport = transport
        self.http2 = http2
        self.driver: Any = None


class Executor:
    """Runs flows. `plain` is the executor that returns values, for a view the one behind it."""

    is_async: ClassVar[bool]
    """Whether values are awaited."""
    awaits: ClassVar[bool]
    """Whether `run` returns a coroutine, so that methods have to be coroutine functions."""
    awaits_pages: ClassVar[bool] = False
    """Whether `paginate` returns a coroutine."""
    streams: ClassVar[bool] = False
    """Whether the body of an answer is left to the caller, so that one call is one request."""

    def __init__(self, settings: Settings, connections: Connections) -> None:
        self.settings = settings
        self.connections = connections

    @property
    def plain(self) -> Self:
        """This executor: it returns values."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.settings.base_url}>"


class SyncExecutor(Executor):
    """Runs flows in the calling thread."""

    is_async = False
    awaits = False

    @property
    def driver(self) -> SyncDriver:
        """The driver, made when it is first needed."""
        shared = self.connections
        if shared.driver is None:
            from tunesmith.transport.factory import make_sync_transport
            from tunesmith.transport.sync_driver import SyncDriver

            shared.driver = SyncDriver(
                make_sync_transport(
                    shared.transport,
                    http_client=shared.http_client,
                    max_connections=shared.limit,
                    http2=shared.http2,
                )
            )
        driver: SyncDriver = shared.driver
        return driver

    @property
    def run(self) -> Callable[[Flow[T]], T]:
        """Run a flow and return its value."""
        return self.driver.run

    def paginate(self, pages: PageFlow[T]) -> Page[T]:
        """Return the first page."""
        from tunesmith.transport.pages import first_page

        return first_page(pages, self.driver)

    def iterate(self, flow: Emitting[T]) -> Iterator[T]:
        """Return an iterator of the flow's items."""
        return self.driver.iterate(flow)


class AsyncExecutor(Executor):
    """Runs flows on the running event loop."""

    is_async = True
    awaits = True

    @property
    def driver(self) -> AsyncDriver:
        """The driver, made when it is first needed."""
        shared = self.connections
        if shared.driver is None:
            from tunesmith.transport.async_driver import AsyncDriver
            from tunesmith.transport.factory import make_async_transport

            shared.driver = AsyncDriver(
                make_async_transport(
                    shared.transport,
                    http_client=shared.http_client,
                    max_connections=shared.limit,
                    http2=shared.http2,
                )
            )
        driver: AsyncDriver = shared.driver
        return driver

    @property
    def run(self) -> Callable[[Flow[T]], Coroutine[Any, Any, T]]:
        """Run a flow and return its value."""
        return self.driver.run

    def paginate(self, pages: PageFlow[T]) -> AsyncPaginator[T]:
        """Return a paginator, to be awaited or iterated."""
        from tunesmith.transport.pages import AsyncPaginator

        return AsyncPaginator(pages, self.driver)

    def iterate(self, flow: Emitting[T]) -> AsyncIterator[T]:
        """Return an asynchronous iterator of the flow's items."""
        return self.driver.iterate(flow)


class _View:
    """An executor that returns whole responses, on the connections of a plain executor."""

    awaits_pages: ClassVar[bool] = False
    streams: ClassVar[bool] = False

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    @property
    def settings(self) -> Settings:
        """The settings of the client."""
        settings: Settings = self.plain.settings
        return settings

    def iterate(self, flow: Emitting[T]) -> NoReturn:
        """Raise: an iteration makes many requests.

        Raises:
            TunesmithError: Always.
        """
        del flow
        raise TunesmithError(
            "An operation that is iterated makes many requests, so it has no single response to "
            "return. Call it on the client itself."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.settings.base_url}>"


class RawExecutor(_View):
    """Returns an `APIResponse` for each flow."""

    is_async: ClassVar[bool] = False
    awaits: ClassVar[bool] = False

    def run(self, flow: Flow[T]) -> APIResponse[T]:
        """Run a flow and return its value with the response."""
        response: APIResponse[T] = self.plain.run(_Recorder(flow).run())
        return response

    def paginate(self, pages: PageFlow[T]) -> Any:
        """Return the response of the first page."""
        from tunesmith.transport.pages import Page

        response = self.plain.run(_Recorder(pages(PageCursor())).run())
        response.wrap(lambda page: Page(page, pages, self.plain.driver))
        return response


class AsyncRawExecutor(_View):
    """Returns an `APIResponse` for each flow, to be awaited."""

    is_async: ClassVar[bool] = True
    awaits: ClassVar[bool] = True
    awaits_pages: ClassVar[bool] = True

    async def run(self, flow: Flow[T]) -> APIResponse[T]:
        """Run a flow and return its value with the response."""
        response: APIResponse[T] = await self.plain.run(_Recorder(flow).run())
        return response

    async def paginate(self, pages: PageFlow[T]) -> Any:
        """Return the response of the first page."""
        from tunesmith.transport.pages import AsyncPage

        response = await self.plain.run(_Recorder(pages(PageCursor())).run())
        response.wrap(lambda page: AsyncPage(page, pages, self.plain.driver))
        return response


class StreamingExecutor(_View):
    """Returns a `StreamedResponse` for each flow; it runs when entered."""

    is_async: ClassVar[bool] = False
    awaits: ClassVar[bool] = False
    streams: ClassVar[bool] = True

    def run(self, flow: Flow[T]) -> StreamedResponse[T]:
        """Return the response; its body is read on demand."""
        from tunesmith.transport.responses import StreamedResponse

        return StreamedResponse(self.plain.driver, flow)

    def paginate(self, pages: PageFlow[T]) -> Any:
        """Return the response of the first page."""
        from tunesmith.transport.pages import Page

        def first() -> Flow[Any]:
            page = yield from pages(PageCursor())
            return Page(page, pages, self.plain.driver)

        return self.run(first())


class AsyncStreamingExecutor(_View):
    """Returns an `AsyncStreamedResponse` for each flow; it runs when entered."""

    is_async: ClassVar[bool] = True
    awaits: ClassVar[bool] = False
    streams: ClassVar[bool] = True

    def run(self, flow: Flow[T]) -> AsyncStreamedResponse[T]:
        """Return the response; its body is read on demand."""
        from tunesmith.transport.responses import AsyncStreamedResponse

        return AsyncStreamedResponse(self.plain.driver, flow)

    def paginate(self, pages: PageFlow[T]) -> Any:
        """Return the response of the first page."""
        from tunesmith.transport.pages import AsyncPage

        def first() -> Flow[Any]:
            page = yield from pages(PageCursor())
            return AsyncPage(page, pages, self.plain.driver)

        return self.run(first())


class _Recorder(Generic[T]):
    """Runs a flow and keeps the last successful response."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.response: Response | None = None

    def run(self) -> Flow[APIResponse[T]]:
        """Return the flow's value with its response; a validation error is kept for `parse`."""
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
            except BaseException as error:  # noqa: BLE001 - passed on to the flow, which decides
                failure = error
                continue
            if isinstance(effect, Send) and outcome.is_success:
                outcome.sent = effect.request
                self.response = outcome
