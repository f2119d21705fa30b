"""What the jobs of both APIs can be asked: to be read again, waited for, followed, ended.

A job that came from a client knows the operations that made it, and a call here is the
operation of the same name on this job: it blocks on a `Client` and is awaited on an
`AsyncClient`, which type checkers see. The tie to the client is no part of the data: it is
not printed, compared, copied or pickled, and a job without one says what to do instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, overload

from typing_extensions import TypeVar

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from typing import Unpack

    from tunesmith.client import AsyncClient, Client
    from tunesmith.core.options import RequestOptions
    from tunesmith.progress.views import JobView
    from tunesmith.resources.views import (
        AsyncRawClient,
        AsyncStreamingClient,
        RawClient,
        StreamingClient,
    )
    from tunesmith.results import Results

    Blocking: TypeAlias = Client | RawClient | StreamingClient
    Awaited: TypeAlias = AsyncClient | AsyncRawClient | AsyncStreamingClient
    BlockingJob = TypeVar("BlockingJob", bound="JobMethods[Any, Blocking]")
    AwaitedJob = TypeVar("AwaitedJob", bound="JobMethods[Any, Awaited]")

__all__ = ["ClientT_co", "EventT", "JobMethods"]

EventT = TypeVar("EventT")
ClientT_co = TypeVar("ClientT_co", covariant=True, default=Any)


class JobMethods(Generic[EventT, ClientT_co]):
    """The calls of a job. A job brings its changed object up to date in place and returns it."""

    __slots__ = ()

    @overload
    def refresh(self: BlockingJob, **params: Unpack[RequestOptions]) -> BlockingJob: ...
    @overload
    def refresh(
        self: AwaitedJob, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, AwaitedJob]: ...
    def refresh(self, **params: Unpack[RequestOptions]) -> Any:
        """Read the job again: this object then holds what the server says now.

        Args:
            params: The request options.
        """
        return self._call("retrieve", params)

    @overload
    def wait(
        self: BlockingJob,
        *,
        timeout: float | None = None,
        on_event: Callable[[EventT], object] | None = None,
        poll: float = 2.0,
    ) -> BlockingJob: ...
    @overload
    def wait(
        self: AwaitedJob,
        *,
        timeout: float | None = None,
        on_event: Callable[[EventT], object] | None = None,
        poll: float = 2.0,
    ) -> Coroutine[Any, Any, AwaitedJob]: ...
    def wait(
        self,
        *,
        timeout: float | None = None,
        on_event: Callable[[EventT], object] | None = None,
        poll: float = 2.0,
    ) -> Any:
        """Wait until the job has ended, whether it succeeded, failed or was cancelled.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.
            on_event: Called with each event from the job's first, oldest first; on an
                AsyncClient it may be a coroutine function.
            poll: Seconds between two polls.

        Raises:
            WaitTimeoutError: The job did not end in time.
        """
        return self._call("wait", {"timeout": timeout, "on_event": on_event, "poll": poll})

    @overload
    def follow(
        self: BlockingJob,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        view: JobView | None = None,
    ) -> BlockingJob: ...
    @overload
    def follow(
        self: AwaitedJob,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        view: JobView | None = None,
    ) -> Coroutine[Any, Any, AwaitedJob]: ...
    def follow(
        self, *, timeout: float | None = None, poll: float = 1.0, view: JobView | None = None
    ) -> Any:
        """Wait until the job has ended and show how far it is: in a notebook, a terminal, a pipe.

        An interruption leaves the job running and says how to go on.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.
            poll: Seconds between two polls.
            view: What shows the job; by default what fits where the output goes.

        Raises:
            WaitTimeoutError: The job did not end in time.
        """
        return self._call("follow", {"timeout": timeout, "poll": poll, "view": view})

    @overload
    def cancel(self: BlockingJob, **params: Unpack[RequestOptions]) -> BlockingJob: ...
    @overload
    def cancel(
        self: AwaitedJob, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, AwaitedJob]: ...
    def cancel(self, **params: Unpack[RequestOptions]) -> Any:
        """Stop the job.

        Args:
            params: The request options.

        Raises:
            BadRequestError: The job has ended already.
        """
        return self._call("cancel", params)

    @overload
    def iter_events(
        self: JobMethods[EventT, Blocking], *, poll: float = 2.0
    ) -> Iterator[EventT]: ...
    @overload
    def iter_events(
        self: JobMethods[EventT, Awaited], *, poll: float = 2.0
    ) -> AsyncIterator[EventT]: ...
    def iter_events(self, *, poll: float = 2.0) -> Any:
        """Yield the job's events from its first, oldest first, as they happen, until it ends.

        Args:
            poll: Seconds between two polls.
        """
        origin, client = self._bound_resource()
        return client._iterate(origin.events.flow(origin, self, poll=poll))

    @overload
    def results(self: JobMethods[Any, Blocking], **params: Unpack[RequestOptions]) -> Results: ...
    @overload
    def results(
        self: JobMethods[Any, Awaited], **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, Results]: ...
    def results(self, **params: Unpack[RequestOptions]) -> Any:
        """Return the job's result file as a table of typed rows.

        Args:
            params: The request options.

        Raises:
            TunesmithError: The job has no result file.
        """
        origin, client = self._bound_resource()
        return client._run(origin.results.flow(origin, self, **params))

    def _bind(self, origin: Any) -> None:
        """Tie the job to the operations that made it."""
        object.__setattr__(self, "_origin", origin)

    def _call(self, name: str, params: Any) -> Any:
        """Carry out the operation `name` on this job, which then is what it returns."""
        origin, client = self._bound_resource()
        job_id: str = getattr(self, "id")  # noqa: B009 - a field of the classes that mix this in
        return client._run(self._updated(getattr(origin, name).flow(origin, job_id, **params)))

    def _updated(self, flow: Generator[Any, Any, Any]) -> Generator[Any, Any, Self]:
        fresh = yield from flow
        for part in ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__"):
            object.__setattr__(self, part, getattr(fresh, part))
        return self

    def _bound_resource(self) -> tuple[Any, Any]:
        """Return the operations that made this job, and their client."""
        origin = getattr(self, "_origin", None)
        if origin is None:
            raise TunesmithError(
                f"This {type(self).__name__} did not come from a client, so it cannot ask for "
                "anything. Give its id to a client: client.fine_tuning.jobs or client.fine_tunes."
            )
        return origin, getattr(origin._client, "_whole", origin._client)
