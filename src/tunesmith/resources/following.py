"""Following a job: waiting for its end and reading its events as they come.

The rules, for both fine-tuning APIs: the job's status is the truth about its end; it
is read before the events, so that no event before the end is missed; events are read
again after every interruption and those already seen are skipped. Connections that
break, servers that restart and requests that are refused for the moment do not end
a wait; only `patience` seconds of nothing else do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tunesmith.core.flow import Call, Effect, Emit, Emitting, Flow, Sleep, Watch
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    InternalServerError,
    RateLimitError,
    WaitTimeoutError,
)

from .declare import Resource

if TYPE_CHECKING:
    from tunesmith.progress.views import JobView

__all__ = [
    "PATIENCE",
    "Patience",
    "follow_events",
    "follow_job",
    "how_to_go_on",
    "job_id",
    "wait_for_end",
    "wait_shared",
]

PATIENCE = 600.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
# Up to so many waiters, asking for each job is cheaper than reading the list of all.
_FEW = 4
_PASSING = (APIConnectionError, InternalServerError, RateLimitError, APIResponseValidationError)


class Job(Protocol):
    """What both kinds of job have."""

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
    """What both kinds of event have."""

    @property
    def message(self) -> str:
        """What it says."""
        ...

    @property
    def created_at(self) -> int:
        """Unix time in seconds."""
        ...


JobT = TypeVar("JobT", bound=Job)
EventT = TypeVar("EventT")
ShownT = TypeVar("ShownT", bound=Event)
T = TypeVar("T")


def job_id(job: str | Job) -> str:
    """Return the id of a job that is given as an object or as an id."""
    return job if isinstance(job, str) else job.id


def how_to_go_on(resource: str, name: str) -> str:
    """Return what to tell a person whose following was interrupted."""
    return (
        f"Job {name} goes on by itself.\n"
        f"To follow it again:  client.{resource}.follow({name!r})\n"
        f"To cancel it:        client.{resource}.cancel({name!r})"
    )


class Patience:
    """How long failures that may pass are put up with, and how long to pause after each."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._pause = _FIRST_PAUSE

    def met(self) -> None:
        """Note a success: patience is whole again."""
        self._since = None
        self._pause = _FIRST_PAUSE

    def pause(self, error: Exception) -> float:
        """Return the seconds to pause after `error`, or raise it when patience has run out."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        passing = isinstance(error, _PASSING) and getattr(error, "retryable", True)
        if not passing or now - self._since > self._seconds:
            raise error
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return self._pause


def patiently(patience: Patience, flow: Callable[[], Flow[T]]) -> Flow[T]:
    """Run a flow until it succeeds, as long as its failures may pass."""
    while True:
        try:
            value = yield from flow()
        except Exception as error:  # noqa: BLE001 - judged by `pause`, which raises all others
            yield Sleep(patience.pause(error))
        else:
            patience.met()
            return value


def follow_events(
    retrieve: Callable[[], Flow[JobT]],
    new_events: Callable[[], Flow[list[EventT]]],
    poll: float,
) -> Generator[Effect | Emit[EventT], Any, JobT]:
    """Emit each event once, oldest first, and return the job when it has ended."""
    patience = Patience()
    while True:
        job = yield from patiently(patience, retrieve)
        for event in (yield from patiently(patience, new_events)):
            yield Emit(event)
        if job.is_terminal:
            return job
        yield Sleep(poll)


def wait_for_end(
    retrieve: Callable[[], Flow[JobT]],
    new_events: Callable[[], Flow[list[EventT]]],
    on_event: Callable[[EventT], object],
    *,
    timeout: float | None,
    poll: float,
) -> Flow[JobT]:
    """Return the job when it has ended; call `on_event` with each event on the way.

    Raises:
        WaitTimeoutError: The job did not end within `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    patience = Patience(PATIENCE if timeout is None else min(timeout, PATIENCE))
    while True:
        job = yield from patiently(patience, retrieve)
        for event in (yield from patiently(patience, new_events)):
            yield Call(on_event, (event,))
        if job.is_terminal:
            return job
        pause = poll if deadline is None else min(poll, deadline - time.monotonic())
        if pause <= 0:
            raise WaitTimeoutError(
                f"Job {job.id} did not end within {timeout:g} seconds. It goes on; "
                "wait again to follow it.",
                job=job,
            )
        yield Sleep(pause)


def follow_job(
    retrieve: Callable[[], Flow[JobT]],
    new_events: Callable[[], Flow[list[ShownT]]],
    view: JobView | None,
    *,
    newest_step: Callable[[], Flow[Event | None]] | None = None,
    timeout: float | None,
    poll: float,
    advice: str,
) -> Flow[JobT]:
    """Return the job when it has ended; show it and its events on the way.

    Args:
        retrieve: Reads the job.
        new_events: Reads the events since the last reading.
        view: What shows them; None opens what fits where the output goes, and says `advice`
            when the following is interrupted.
        newest_step: Reads the newest step's event, where `new_events` does not tell the steps.
        timeout: Seconds at most.
        poll: Seconds between two looks.
        advice: How to go on with a job that runs though nobody follows it.

    Raises:
        WaitTimeoutError: The job did not end within `timeout` seconds.
    """
    from tunesmith.progress.views import open_view

    shown: JobView = view if view is not None else (yield Call(open_view))

    def look() -> Flow[JobT]:
        job = yield from retrieve()
        step = (yield from newest_step()) if newest_step and shown.wants_steps else None
        if step is not None:
            yield Call(shown.event, (step.message, step.created_at))
        yield Call(shown.look, (job.status, getattr(job, "estimated_finish", None)))
        return job

    def show(event: ShownT) -> None:
        shown.event(event.message, event.created_at)

    try:
        job = yield from wait_for_end(look, new_events, show, timeout=timeout, poll=poll)
    except BaseException as error:
        shown.close()
        if view is None and not isinstance(error, Exception | GeneratorExit):
            print(f"\n{advice}", file=sys.stderr, flush=True)  # noqa: T201 - for the person there
        raise
    shown.close()
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
    """Return the job when it has ended, sharing the looks with all who wait on the same API.

    Clones of a client share its connections but not their looks: another key sees other jobs.
    Few waiters ask for their own jobs; many are served by the list of jobs.

    Raises:
        WaitTimeoutError: The job did not end within `timeout` seconds.
    """
    patience = Patience()

    def look(names: frozenset[str]) -> Flow[dict[str, JobT | Exception]]:
        ended: dict[str, JobT | Exception] = {}
        try:
            candidates = names
            if len(names) > _FEW:
                glances = yield from _glance(pages, names)
                candidates = frozenset(
                    one for one in names if one not in glances or glances[one].is_terminal
                )
            for one in candidates:
                job = yield from _retrieved(retrieve, one)
                if isinstance(job, Exception) or job.is_terminal:
                    ended[one] = job
        except _PASSING as error:
            # The next look comes after the poll's pause; until then nothing more is known.
            patience.pause(error)
        else:
            patience.met()
        return ended

    key = f"{type(resource).__name__} {id(resource._client._settings)}"
    found: JobT | Exception | None = yield Watch(key, name, look, poll, timeout)
    job = (yield from retrieve(name)) if found is None else found
    if isinstance(job, Exception):
        raise job
    if job.is_terminal:
        return job
    raise WaitTimeoutError(
        f"Job {name} did not end within {timeout:g} seconds. It goes on; wait again to follow it.",
        job=job,
    )


def _retrieved(retrieve: Callable[[str], Flow[JobT]], name: str) -> Flow[JobT | Exception]:
    """Return a job, or the error that is for the waiter of this job alone."""
    try:
        return (yield from retrieve(name))
    except _PASSING:
        raise
    except APIError as error:
        return error


def _glance(pages: PageFlow[Any], names: frozenset[str]) -> Flow[dict[str, Any]]:
    """Walk the list until all of `names` have been met."""
    met: dict[str, Any] = {}
    cursor: PageCursor | None = PageCursor()
    while cursor is not None and len(met) < len(names):
        page = yield from pages(cursor)
        met.update({item.id: item for item in page.data if item.id in names})
        cursor = page.next
    return met


def emitting_only(flow: Generator[Effect | Emit[EventT], Any, Any]) -> Emitting[EventT]:
    """Return the flow without its value, as iteration wants it."""
    yield from flow
