"""The fine-tuning jobs API, `/v1/fine_tuning/jobs`: jobs, their events and their checkpoints."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from tunesmith.core.flow import Emitting, Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions, omit
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.fine_tuning import (
    FineTuningJob,
    FineTuningJobCheckpoint,
    FineTuningJobEvent,
    FineTuningJobSummary,
)

from .base import APIResource
from .job_resource import JobResource
from .operations import iteration, listing, operation
from .training_files import uploaded_id
from .views import RawView, StreamingView
from .waiting import (
    follow_events,
    follow_job,
    job_id,
    resume_hint,
    wait_for_end,
    wait_shared,
    without_value,
)

if TYPE_CHECKING:
    from tunesmith.progress.views import JobView
    from tunesmith.results import Results

__all__ = [
    "FineTuningJobCreateOptions",
    "FineTuningJobListOptions",
    "FineTuningJobs",
    "FineTuningJobsCheckpoints",
    "PageOptions",
]

_JOB = "/fine_tuning/jobs/{fine_tuning_job_id}"
_EVENTS_PER_PAGE = 100
_JOBS_PER_PAGE = 100


class PageOptions(RequestOptions, total=False):
    """What a paged list takes."""

    after: str | Omit | NotGiven
    limit: int | Omit | NotGiven


class FineTuningJobListOptions(PageOptions, total=False):
    """What `fine_tuning.jobs.list` takes."""

    metadata: Mapping[str, str] | Omit | NotGiven | None


class FineTuningJobCreateOptions(RequestOptions, total=False):
    """What `fine_tuning.jobs.create` takes besides the model and the files."""

    method: Mapping[str, Any] | Omit | NotGiven
    hyperparameters: Mapping[str, Any] | Omit | NotGiven
    suffix: str | Omit | NotGiven | None
    seed: int | Omit | NotGiven | None
    metadata: Mapping[str, str] | Omit | NotGiven | None
    integrations: Iterable[Mapping[str, Any]] | Omit | NotGiven | None


class FineTuningJobs(JobResource[ModeT_co]):
    """`/fine_tuning/jobs`: create, follow and end fine-tuning jobs."""

    with_raw_response: RawView[FineTuningJobs[SyncRaw], FineTuningJobs[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        FineTuningJobs[SyncStreaming], FineTuningJobs[AsyncStreaming]
    ] = StreamingView()

    @operation
    def create(
        self,
        *,
        model: str,
        training_file: str | os.PathLike[str],
        validation_file: str | os.PathLike[str] | Omit | NotGiven | None = omit,
        **params: Unpack[FineTuningJobCreateOptions],
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Start a fine-tuning job.

        The request carries an idempotency key, so a retry does not start a second job. A file
        given by path is uploaded first, with the prompt format saved beside it, unless the
        server has an identical file (see `files.find_matching`).

        Args:
            model: The base model, or a fine-tuned model to continue from.
            training_file: Id ("file-…") of an uploaded file with purpose "fine-tune", or path.
            validation_file: Id or path.
            method: How to train, such as
                `{"type": "supervised", "supervised": {"hyperparameters": …}}`.
            hyperparameters: `n_epochs`, `batch_size` and `learning_rate_multiplier`, each a
                number or "auto". The older place for those of `method`.
            suffix: Up to 64 characters that the model's name will contain.
            seed: The seed of the training's random choices.
            metadata: Up to 16 pairs of strings to keep with the job.
            integrations: Services that follow the job, such as Weights & Biases.
            params: The request options.

        Raises:
            TunesmithError: There is no file at a path.
        """
        fields: dict[str, Any] = {
            "model": model,
            "training_file": (yield from uploaded_id(self, training_file, "training_file")),
            "validation_file": validation_file,
        }
        if isinstance(validation_file, str | os.PathLike):
            fields["validation_file"] = yield from uploaded_id(
                self, validation_file, "validation_file"
            )
        return (
            yield from self._job("POST", "/fine_tuning/jobs", FineTuningJob, params, fields=fields)
        )

    @operation
    def retrieve(
        self, fine_tuning_job_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Return a job.

        Args:
            fine_tuning_job_id: "ftjob-…".
            params: The request options.

        Raises:
            NotFoundError: There is no such job.
        """
        return self._job("GET", _path(fine_tuning_job_id), FineTuningJob, params)

    @listing
    def list(self, **params: Unpack[FineTuningJobListOptions]) -> PageFlow[FineTuningJob[ModeT_co]]:
        """Return the jobs, newest first.

        Args:
            after: Id of the job after which the page starts.
            limit: Jobs per page, 20 by default.
            metadata: Pairs that the jobs must have; None for jobs without metadata.
            params: The request options.
        """
        return self._jobs("/fine_tuning/jobs", FineTuningJob, params)

    @operation
    def cancel(
        self, fine_tuning_job_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Cancel a job that has not ended.

        Args:
            fine_tuning_job_id: "ftjob-…".
            params: The request options.

        Raises:
            BadRequestError: The job has ended already.
        """
        return self._job("POST", _path(fine_tuning_job_id, "/cancel"), FineTuningJob, params)

    @operation
    def pause(
        self, fine_tuning_job_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Pause a running job; `resume` continues where it stopped.

        Args:
            fine_tuning_job_id: "ftjob-…".
            params: The request options.
        """
        return self._job("POST", _path(fine_tuning_job_id, "/pause"), FineTuningJob, params)

    @operation
    def resume(
        self, fine_tuning_job_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Continue a paused job.

        Args:
            fine_tuning_job_id: "ftjob-…".
            params: The request options.
        """
        return self._job("POST", _path(fine_tuning_job_id, "/resume"), FineTuningJob, params)

    @listing
    def list_events(
        self, fine_tuning_job_id: str, **params: Unpack[PageOptions]
    ) -> PageFlow[FineTuningJobEvent]:
        """Return a job's events, newest first. `events` gives them in order, as they happen.

        Args:
            fine_tuning_job_id: "ftjob-…".
            after: Id of the event after which the page starts.
            limit: Events per page, 20 by default.
            params: The request options.
        """
        return self._pages(_path(fine_tuning_job_id, "/events"), FineTuningJobEvent, params)

    @iteration
    def events(
        self, fine_tuning_job_id: str | FineTuningJob, *, poll: float = 2.0
    ) -> Emitting[FineTuningJobEvent]:
        """Yield a job's events from its first, oldest first, as they happen, until it ends.

        Each event comes once, across broken connections and restarts of the server.

        Args:
            fine_tuning_job_id: The job or its id.
            poll: Seconds between two polls; the first few come sooner.
        """
        name = job_id(fine_tuning_job_id)
        return without_value(follow_events(self._retriever(name), NewEvents(self, name).read, poll))

    @operation
    def wait(
        self,
        fine_tuning_job_id: str | FineTuningJob,
        *,
        timeout: float | None = None,
        on_event: Callable[[FineTuningJobEvent], object] | None = None,
        poll: float = 2.0,
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Wait until a job has ended and return it, whether it succeeded, failed or was cancelled.

        Survives broken connections and restarts of the server.

        Args:
            fine_tuning_job_id: The job or its id.
            timeout: Seconds to wait at most; None waits without limit.
            on_event: Called with each event from the job's first, oldest first; on an
                AsyncClient it may be a coroutine function.
            poll: Seconds between two polls; the first few come sooner.

        Raises:
            WaitTimeoutError: The job did not end in time.
        """
        self._refuse_streaming("fine_tuning.jobs.wait")
        name = job_id(fine_tuning_job_id)
        if on_event is None:
            return wait_shared(
                self,
                name,
                lambda one: FineTuningJobs.retrieve.flow(self, one),
                self._pages("/fine_tuning/jobs", FineTuningJobSummary, {"limit": _JOBS_PER_PAGE}),
                timeout=timeout,
                poll=poll,
            )
        events = NewEvents(self, name).read
        return wait_for_end(self._retriever(name), events, on_event, timeout=timeout, poll=poll)

    @operation
    def follow(
        self,
        fine_tuning_job_id: str | FineTuningJob,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        view: JobView | None = None,
    ) -> Flow[FineTuningJob[ModeT_co]]:
        """Wait until a job has ended and show its progress: in a notebook, a terminal, a pipe.

        An interruption leaves the job running and prints how to follow it again.

        Args:
            fine_tuning_job_id: The job or its id.
            timeout: Seconds to wait at most; None waits without limit.
            poll: Seconds between two polls; the first few come sooner.
            view: Shows the job; by default the view that fits the output.

        Raises:
            WaitTimeoutError: The job did not end in time.
        """
        self._refuse_streaming("fine_tuning.jobs.follow")
        name = job_id(fine_tuning_job_id)
        return follow_job(
            self._retriever(name),
            NewEvents(self, name).read,
            view,
            timeout=timeout,
            poll=poll,
            hint=resume_hint("fine_tuning.jobs", name),
        )

    @operation
    def results(
        self, fine_tuning_job_id: str | FineTuningJob, **params: Unpack[RequestOptions]
    ) -> Flow[Results]:
        """Return a job's result file as a table of typed rows: summary, curves, data frames.

        Args:
            fine_tuning_job_id: The job or its id.
            params: The request options.

        Raises:
            TunesmithError: The job has no result file.
            ResultFileError: Its result file is damaged.
        """
        self._refuse_streaming("fine_tuning.jobs.results")
        name = job_id(fine_tuning_job_id)
        job = yield from FineTuningJobs.retrieve.flow(self, name, **params)
        return (yield from self._results(job, job.result_files, params))

    @cached_property
    def checkpoints(self) -> FineTuningJobsCheckpoints[ModeT_co]:
        """The checkpoints of jobs."""
        return FineTuningJobsCheckpoints(self._executor)

    def _retriever(self, name: str) -> Callable[[], Flow[FineTuningJob[ModeT_co]]]:
        return lambda: FineTuningJobs.retrieve.flow(self, name)


class FineTuningJobsCheckpoints(APIResource[ModeT_co]):
    """`/fine_tuning/jobs/{id}/checkpoints`: snapshots that can be used as models."""

    with_raw_response: RawView[
        FineTuningJobsCheckpoints[SyncRaw], FineTuningJobsCheckpoints[AsyncRaw]
    ] = RawView()
    with_streaming_response: StreamingView[
        FineTuningJobsCheckpoints[SyncStreaming],
        FineTuningJobsCheckpoints[AsyncStreaming],
    ] = StreamingView()

    @listing
    def list(
        self, fine_tuning_job_id: str, **params: Unpack[PageOptions]
    ) -> PageFlow[FineTuningJobCheckpoint]:
        """Return a job's checkpoints, newest first.

        Args:
            fine_tuning_job_id: "ftjob-…".
            after: Id of the checkpoint after which the page starts.
            limit: Checkpoints per page, 10 by default.
            params: The request options.
        """
        path = _path(fine_tuning_job_id, "/checkpoints")
        return self._pages(path, FineTuningJobCheckpoint, params)


class NewEvents:
    """Reads a job's events that have not been read before, oldest first."""

    def __init__(self, jobs: APIResource[Any], name: str) -> None:
        self._pages = jobs._pages(
            _path(name, "/events"), FineTuningJobEvent, {"limit": _EVENTS_PER_PAGE}
        )
        self._seen: set[object] = set()

    def read(self) -> Flow[builtins.list[FineTuningJobEvent]]:
        """Return the new events, oldest first.

        Newest-first pages are read back to a known event; those of servers that begin with the
        oldest, to the end.
        """
        fresh: builtins.list[FineTuningJobEvent] = []
        forward = False
        cursor: PageCursor | None = PageCursor()
        while cursor is not None:
            page = yield from self._pages(cursor)
            unknown = [event for event in page.data if _identity(event) not in self._seen]
            fresh += unknown
            forward |= bool(page.data) and page.data[0].created_at < page.data[-1].created_at
            cursor = page.next if forward or len(unknown) == len(page.data) else None
        self._seen.update(map(_identity, fresh))
        if not forward:
            fresh.reverse()
        return fresh


def _identity(event: FineTuningJobEvent) -> object:
    """Return what tells an event from others: its id, or all of it where the server sends none."""
    return event.id or (event.created_at, event.message, str(event.data))


def _path(fine_tuning_job_id: str, rest: str = "") -> str:
    return fill_path(_JOB, fine_tuning_job_id=fine_tuning_job_id) + rest
