"""Waiting for a job to end and reading its events as they come, for both fine-tuning APIs.

The job's status decides when it has ended. It is read before the events, so that no event before
the end is missed. After an interruption the events are read again and those already seen are
skipped. Broken connections, restarted servers and temporary refusals do not end a wait; only
`RETRY_SECONDS` of uninterrupted failure do.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tunesmith.core.flow import (
    Call,
    Effect,
    Emit,
    Emitting,
    Flow,
    FlowAbandoned,
    PollPause,
    SharedWait,
    Sleep,
    ending_by,
)
from tunesmith.core.options import check_seconds
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.core.retry import may_pass
from tunesmith.errors import (
    APIError,
    APIResponseValidationError,
    DeadlineExceededError,
    WaitTimeoutError,
)

from .operations import Resource

if TYPE_CHECKING:
    from tunesmith.progress.views import JobView

__all__ = [
    "RETRY_SECONDS",
    "RetryBudget",
    "follow_events",
    "follow_job",
    "job_id",
    "resume_hint",
    "wait_for_end",
    "wait_shared",
    "with_retries",
]

RETRY_SECONDS = 600.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
# A proxy's page in place of the answer passes within seconds, or it is there to stay.
_FOREIGN_SECONDS = 15.0
# What the last request of a wait may take, as a wait of no time at all looks once, too.
_LAST_REQUEST_SECONDS = 2.0
# Up to this many waiters, reading each job costs less than reading the list of all jobs.
_FEW_WAITERS = 4


class Job(Protocol):
    """The fields that waiting needs of a job of either API."""

    @property
    def id(self) -> str:
        """The job's id."""
        ...

    @property
    def status(self) -> str:
        """Its status."""
        ...

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        ...


class Event(Protocol):
    """The fields that a view needs of an event of either API."""

    @property
    def message(self) -> str:
        """Its text."""
        ...

    @property
    def created_at(self) -> int:
        """Unix time in seconds."""
        ...


JobT = TypeVar("JobT", bound=Job)
EventT = TypeVar("EventT")
MessageT = TypeVar("MessageT", bound=Event)
T = TypeVar("T")


def job_id(job: str | Job) -> str:
    """Return the id of a job that is given as an object or as an id."""
    return job if isinstance(job, str) else job.id


def resume_hint(resource: str, name: str) -> str:
    """Return the text to print when `follow` is interrupted: how to follow or cancel the job."""
    return (
        f"Job {name} keeps running.\n"
        f"To follow it again:  client.{resource}.follow({name!r})\n"
        f"To cancel it:        client.{resource}.cancel({name!r})"
    )


class RetryBudget:
    """Limits how long transient failures are retried, with a growing pause after each.

    Args:
        seconds: Seconds of uninterrupted failure after which the failure is raised.
        deadline: `time.monotonic()` value after which each failure is raised.
    """

    def __init__(self, seconds: float = RETRY_SECONDS, deadline: float = math.inf) -> None:
        self._seconds = seconds
        self._deadline = deadline
        # When uninterrupted failure began, and when that with foreign answers did.
        self._since: dict[bool, float] = {}
        self._pause = _FIRST_PAUSE

    def succeeded(self) -> None:
        """Restore the full budget after a success."""
        self._since.clear()
        self._pause = _FIRST_PAUSE

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to pause after `error`; raise it if permanent or out of budget."""
        now = time.monotonic()
        foreign = isinstance(error, APIResponseValidationError)
        since = self._since.setdefault(foreign, now)
        seconds = min(self._seconds, _FOREIGN_SECONDS) if foreign else self._seconds
        if not may_pass(error) or now - since > seconds or now >= self._deadline:
            raise error
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return min(self._pause, self._deadline - now)


def with_retries(budget: RetryBudget, flow: Callable[[], Flow[T]]) -> Flow[T]:
    """Run a flow until it succeeds; transient failures use up the budget."""
    while True:
        try:
            value = yield from flow()
        except Exception as error:  # noqa: BLE001 - `pause_after` raises what is not transient
            yield Sleep(budget.pause_after(error))
        else:
            budget.succeeded()
            return value


def follow_events(
    retrieve: Callable[[], Flow[JobT]],
    new_events: Callable[[], Flow[list[EventT]]],
    poll: float,
) -> Generator[Effect | Emit[EventT], Any, JobT]:
    """Emit each event once, oldest first, and return the job when it has ended."""
    check_seconds("poll", poll)
    budget = RetryBudget()
    pause = PollPause()
    while True:
        job = yield from with_retries(budget, retrieve)
        for event in (yield from with_retries(budget, new_events)):
            yield Emit(event)
        if job.is_terminal:
            return job
        yield Sleep(pause.next(poll))


def wait_for_end(
    retrieve: Callable[[], Flow[JobT]],
    new_events: Callable[[], Flow[list[EventT]]],
    on_event: Callable[[EventT], object],
    *,
    timeout: float | None,
    poll: float,
) -> Flow[JobT]:
    """Return the job when it has ended; call `on_event` with each event until then.

    Raises:
        WaitTimeoutError: The job did not end within `timeout` seconds.
    """
    check_seconds("poll", poll)
    check_seconds("timeout", timeout)
    seconds = math.inf if timeout is None else timeout
    deadline = time.monotonic() + seconds
    budget = RetryBudget(min(seconds, RETRY_SECONDS), deadline)
    pause = PollPause()
    job: JobT | None = None
    while True:
        try:
            job = yield from with_retries(budget, lambda: _in_time(retrieve(), deadline))
            events = yield from with_retries(budget, lambda: _in_time(new_events(), deadline))
        except APIError as error:
            in_vain = job is None and not isinstance(error, DeadlineExceededError)
            if time.monotonic() < deadline or in_vain or not may_pass(error):
                raise
            raise _timed_out(job.id if job is not None else "", seconds, job) from error
        for event in events:
            yield Call(on_event, (event,))
        if job.is_terminal:
            return job
        left = deadline - time.monotonic()
        if left <= 0:
            raise _timed_out(job.id, seconds, job)
        yield Sleep(min(pause.next(poll), left))


def _in_time(flow: Flow[T], deadline: float) -> Flow[T]:
    """Run a flow whose requests do not last longer than the wait they belong to."""
    if math.isinf(deadline):
        return flow
    return ending_by(flow, max(deadline, time.monotonic() + _LAST_REQUEST_SECONDS))


def _timed_out(name: str, seconds: float, job: Job | None) -> WaitTimeoutError:
    state = "It is still running" if job is not None else "The server did not answer in time"
    return WaitTimeoutError(
        f"Job {name}".rstrip() + f" did not end within {seconds:g} seconds. {state}; wait again "
        "to follow it.",
        job=job,
    )


def follow_job(
    retrieve: Callable[[], Flow[JobT]],
    new_events: Callable[[], Flow[list[MessageT]]],
    view: JobView | None,
    *,
    newest_step: Callable[[], Flow[Event | None]] | None = None,
    timeout: float | None,
    poll: float,
    hint: str,
) -> Flow[JobT]:
    """Return the job when it has ended; show its status and events in a view until then.

    Args:
        retrieve: Reads the job.
        new_events: Reads the events since the last call.
        view: Shows the job. None opens the view that fits the output, and prints `hint` when
            the call is interrupted.
        newest_step: Reads the newest step's event, where `new_events` has no steps.
        timeout: Seconds at most.
        poll: Seconds between two polls; the first few come sooner.
        hint: How to follow or cancel the job after an interruption.

    Raises:
        WaitTimeoutError: The job did not end within `timeout` seconds.
    """
    from tunesmith.progress.views import open_view

    opened: JobView = view if view is not None else (yield Call(open_view))

    def poll_once() -> Flow[JobT]:
        job = yield from retrieve()
        step = (yield from newest_step()) if newest_step and opened.wants_steps else None
        if step is not None:
            yield Call(opened.event, (step.message, step.created_at))
        yield Call(opened.update, (job.status, getattr(job, "estimated_finish", None)))
        return job

    def show(event: MessageT) -> None:
        opened.event(event.message, event.created_at)

    try:
        job = yield from wait_for_end(poll_once, new_events, show, timeout=timeout, poll=poll)
    except BaseException as error:
        opened.close()
        if view is None and not isinstance(error, Exception | GeneratorExit | FlowAbandoned):
            print(f"\n{hint}", file=sys.stderr, flush=True)  # noqa: T201 - for the user at the keyboard
        raise
    opened.close()
    return job


def wait_shared(
    resource: Resource[Any],
    name: str,
    retrieve: Callable[[str], Flow[JobT]],
    pages: PageFlow[Any],
    *,
    timeout: float | None,
    poll: float,
) -> Flow[JobT]:
    """Return the job when it has ended, sharing polls with all waiters on the same API and client.

    Clones of a client share its connections but not its polls: another key sees other jobs.
    A few waiters each read their own job; many are served by the list of jobs.

    Raises:
        WaitTimeoutError: The job did not end within `timeout` seconds.
    """
    check_seconds("poll", poll)
    check_seconds("timeout", timeout)
    budget = RetryBudget()

    def poll_names(names: frozenset[str]) -> Flow[dict[str, JobT | Exception]]:
        ended: dict[str, JobT | Exception] = {}
        try:
            candidates = names
            if len(names) > _FEW_WAITERS:
                summaries = yield from _summaries(pages, names)
                candidates = frozenset(
                    one for one in names if one not in summaries or summaries[one].is_terminal
                )
            for one in candidates:
                job = yield from _retrieve_one(retrieve, one)
                if isinstance(job, Exception) or job.is_terminal:
                    ended[one] = job
        except APIError as error:
            # The next poll retries what may pass; until then there is no news.
            budget.pause_after(error)
        else:
            budget.succeeded()
        return ended

    key = f"{type(resource).__name__} {id(resource._executor.settings)}"
    found: JobT | Exception | None = yield SharedWait(key, name, poll_names, poll, timeout)
    if found is None:
        return (yield from _last_look(name, retrieve(name), timeout or 0.0))
    if isinstance(found, Exception):
        raise found
    return found


def _last_look(name: str, retrieve: Flow[JobT], seconds: float) -> Flow[JobT]:
    """Return the job if it has ended by the end of a wait of so many seconds.

    Raises:
        WaitTimeoutError: It has not.
    """
    try:
        job = yield from _in_time(retrieve, time.monotonic())
    except DeadlineExceededError as error:
        raise _timed_out(name, seconds, None) from error
    if job.is_terminal:
        return job
    raise _timed_out(name, seconds, job)


def _retrieve_one(retrieve: Callable[[str], Flow[JobT]], name: str) -> Flow[JobT | Exception]:
    """Return a job, or the error that concerns only the waiter for this job."""
    try:
        return (yield from retrieve(name))
    except APIError as error:
        if may_pass(error):
            raise
        return error


def _summaries(pages: PageFlow[Any], names: frozenset[str]) -> Flow[dict[str, Any]]:
    """Page through the list until all of `names` are found; return those found, by id."""
    found: dict[str, Any] = {}
    cursor: PageCursor | None = PageCursor()
    while cursor is not None and len(found) < len(names):
        try:
            page = yield from pages(cursor)
        except APIResponseValidationError:
            # A job of somebody else that cannot be read; ours are then read one by one.
            break
        found.update({item.id: item for item in page.data if item.id in names})
        cursor = page.next
    return found


def without_value(flow: Generator[Effect | Emit[EventT], Any, Any]) -> Emitting[EventT]:
    """Drop the flow's return value, as the type of an iteration has none."""
    yield from flow
