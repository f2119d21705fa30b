"""The methods of job objects: refresh, wait, follow, cancel, events, results.

A job that came from a client keeps the resource that returned it, and a method here is that
resource's operation of the same name for this job: it blocks on a `Client` and is awaited on an
`AsyncClient`, which type checkers see. The resource is no part of the data: it is not printed,
compared, copied or pickled, and the methods of a job without one raise an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import cached_property
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, overload

from typing_extensions import TypeVar

from tunesmith.core.modes import ModeT_co
from tunesmith.core.signatures import describe, keywords_of, unknown_keyword
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from typing import Unpack

    from tunesmith.core.modes import AnyAsync, AnySync
    from tunesmith.core.options import RequestOptions
    from tunesmith.progress.views import JobView
    from tunesmith.results import Results

    SyncJobT = TypeVar("SyncJobT", bound="JobMethods[Any, AnySync]")
    AsyncJobT = TypeVar("AsyncJobT", bound="JobMethods[Any, AnyAsync]")
    SyncPausableT = TypeVar("SyncPausableT", bound="PausableJobMethods[Any, AnySync]")
    AsyncPausableT = TypeVar("AsyncPausableT", bound="PausableJobMethods[Any, AnyAsync]")
else:
    # The names that describe options at run time.
    from tunesmith.core.options import RequestOptions

__all__ = ["EventT", "JobMethods", "PausableJobMethods"]

EventT = TypeVar("EventT")
P = ParamSpec("P")
T = TypeVar("T")


class _JobMethod:
    """A method whose flow the executor of the job's resource runs."""

    def __init__(self, flow: Callable[..., Any]) -> None:
        self.__doc__ = flow.__doc__
        self._flow = flow

    @cached_property
    def _method(self) -> Any:
        flow, name = self._flow, self._flow.__name__
        known = keywords_of(flow)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known:
                raise unknown_keyword(self, name, kwargs, known)
            executor = self._bound_resource()._executor.plain
            return executor.run(flow(self, *args, **kwargs))

        describe(method, flow)
        return method

    @cached_property
    def _coroutine_method(self) -> Any:
        method = self._method

        async def coroutine_method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await method(self, *args, **kwargs)

        describe(coroutine_method, self._flow)
        return coroutine_method

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self._method
        resource = getattr(instance, "_resource", None)
        is_async = resource is not None and resource._executor.is_async
        return MethodType(self._coroutine_method if is_async else self._method, instance)


def _job_method(flow: Callable[P, T]) -> Callable[P, T]:
    """Declare a method of both modes by its flow; its types stand in overloads before it."""
    declared: Any = _JobMethod(flow)
    return declared  # type: ignore[no-any-return]  # what users see stands in the overloads


class JobMethods(Generic[EventT, ModeT_co]):
    """The methods of a job of either API. Those that return the job update it in place."""

    __slots__ = ()

    @overload
    def refresh(self: SyncJobT, **params: Unpack[RequestOptions]) -> SyncJobT: ...
    @overload
    def refresh(
        self: AsyncJobT, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, AsyncJobT]: ...
    @_job_method
    def refresh(self, **params: Unpack[RequestOptions]) -> Any:
        """Read the job again and update this object.

        Args:
            params: The request options.
        """
        return self._updated("retrieve", params)

    @overload
    def wait(
        self: SyncJobT,
        *,
        timeout: float | None = None,
        on_event: Callable[[EventT], object] | None = None,
        poll: float = 2.0,
    ) -> SyncJobT: ...
    @overload
    def wait(
        self: AsyncJobT,
        *,
        timeout: float | None = None,
        on_event: Callable[[EventT], object] | None = None,
        poll: float = 2.0,
    ) -> Coroutine[Any, Any, AsyncJobT]: ...
    @_job_method
    def wait(
        self,
        *,
        timeout: float | None = None,
        on_event: Callable[[EventT], object] | None = None,
        poll: float = 2.0,
    ) -> Any:
        """Wait until the job has ended, whether it succeeded, failed or was cancelled.

        Args:
            timeout: Seconds to wait at most; None waits without limit.
            on_event: Called with each event from the job's first, oldest first; on an
                AsyncClient it may be a coroutine function.
            poll: Seconds between two polls; the first few come sooner.

        Raises:
            WaitTimeoutError: The job did not end in time.
        """
        return self._updated("wait", {"timeout": timeout, "on_event": on_event, "poll": poll})

    @overload
    def follow(
        self: SyncJobT,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        view: JobView | None = None,
    ) -> SyncJobT: ...
    @overload
    def follow(
        self: AsyncJobT,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        view: JobView | None = None,
    ) -> Coroutine[Any, Any, AsyncJobT]: ...
    @_job_method
    def follow(
        self, *, timeout: float | None = None, poll: float = 1.0, view: JobView | None = None
    ) -> Any:
        """Wait until the job has ended and show its progress: in a notebook, a terminal, a pipe.

        An interruption leaves the job running and prints how to follow it again.

        Args:
            timeout: Seconds to wait at most; None waits without limit.
            poll: Seconds between two polls; the first few come sooner.
            view: Shows the job; by default the view that fits the output.

        Raises:
            WaitTimeoutError: The job did not end in time.
        """
        return self._updated("follow", {"timeout": timeout, "poll": poll, "view": view})

    @overload
    def cancel(self: SyncJobT, **params: Unpack[RequestOptions]) -> SyncJobT: ...
    @overload
    def cancel(
        self: AsyncJobT, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, AsyncJobT]: ...
    @_job_method
    def cancel(self, **params: Unpack[RequestOptions]) -> Any:
        """Cancel the job.

        Args:
            params: The request options.

        Raises:
            BadRequestError: The job has ended already.
        """
        return self._updated("cancel", params)

    @overload
    def iter_events(
        self: JobMethods[EventT, AnySync], *, poll: float = 2.0
    ) -> Iterator[EventT]: ...
    @overload
    def iter_events(
        self: JobMethods[EventT, AnyAsync], *, poll: float = 2.0
    ) -> AsyncIterator[EventT]: ...
    def iter_events(self, *, poll: float = 2.0) -> Any:
        """Yield the job's events from its first, oldest first, as they happen, until it ends.

        Args:
            poll: Seconds between two polls; the first few come sooner.
        """
        resource = self._bound_resource()
        return resource._executor.plain.iterate(resource.events.flow(resource, self, poll=poll))

    @overload
    def results(self: JobMethods[Any, AnySync], **params: Unpack[RequestOptions]) -> Results: ...
    @overload
    def results(
        self: JobMethods[Any, AnyAsync], **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, Results]: ...
    @_job_method
    def results(self, **params: Unpack[RequestOptions]) -> Any:
        """Return the job's result file as a table of typed rows.

        Args:
            params: The request options.

        Raises:
            TunesmithError: The job has no result file.
        """
        resource = self._bound_resource()
        return resource.results.flow(resource, self, **params)

    def _bind(self, resource: Any) -> None:
        """Keep the resource that returned this job."""
        object.__setattr__(self, "_resource", resource)

    def _updated(self, operation: str, params: Any) -> Generator[Any, Any, Self]:
        """Run an operation of the resource on this job, then hold the job that it returns."""
        resource = self._bound_resource()
        job_id: str = getattr(self, "id")  # noqa: B009 - a field of the classes that mix this in
        fresh = yield from getattr(resource, operation).flow(resource, job_id, **params)
        for part in ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__"):
            object.__setattr__(self, part, getattr(fresh, part))
        return self

    def _bound_resource(self) -> Any:
        """Return the resource that returned this job.

        Raises:
            TunesmithError: The job did not come from a client.
        """
        resource = getattr(self, "_resource", None)
        if resource is None:
            raise TunesmithError(
                f"This {type(self).__name__} did not come from a client, so it cannot send "
                "requests. Give its id to a client: client.fine_tuning.jobs or client.fine_tunes."
            )
        return resource


class PausableJobMethods(JobMethods[EventT, ModeT_co]):
    """The methods of a job that can be paused."""

    __slots__ = ()

    @overload
    def pause(self: SyncPausableT, **params: Unpack[RequestOptions]) -> SyncPausableT: ...
    @overload
    def pause(
        self: AsyncPausableT, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, AsyncPausableT]: ...
    @_job_method
    def pause(self, **params: Unpack[RequestOptions]) -> Any:
        """Pause the running job; `resume` continues where it stopped.

        Args:
            params: The request options.
        """
        return self._updated("pause", params)

    @overload
    def resume(self: SyncPausableT, **params: Unpack[RequestOptions]) -> SyncPausableT: ...
    @overload
    def resume(
        self: AsyncPausableT, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, AsyncPausableT]: ...
    @_job_method
    def resume(self, **params: Unpack[RequestOptions]) -> Any:
        """Continue the paused job.

        Args:
            params: The request options.
        """
        return self._updated("resume", params)
