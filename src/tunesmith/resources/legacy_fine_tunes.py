"""The legacy API, `/v1/fine-tunes`: create, follow and cancel fine-tunes."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from tunesmith.core.events import END, EventReader
from tunesmith.core.flow import Close, Emit, Emitting, Flow, PollPause, Read, Sleep
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions, Timeout, omit
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.core.request import RequestSpec, fill_path
from tunesmith.core.response import Response
from tunesmith.errors import APIStatusError, TunesmithError
from tunesmith.progress.job_progress import is_step
from tunesmith.types.fine_tuning import FineTuningJobEvent, FineTuningJobSummary
from tunesmith.types.job_parameters import LegacyOptions
from tunesmith.types.legacy_fine_tunes import FineTune, FineTuneEvent

from .base import APIResource
from .job_resource import JobResource
from .operations import AnyStream, iteration, listing, operation, streaming
from .training_files import uploaded_id
from .views import RawView, StreamingView
from .waiting import (
    RetryBudget,
    follow_job,
    job_id,
    resume_hint,
    wait_for_end,
    wait_shared,
    with_retries,
)

if TYPE_CHECKING:
    from tunesmith.progress.views import JobView
    from tunesmith.results import Results

__all__ = ["FineTuneCreateOptions", "FineTunes"]

_FINE_TUNE = "/fine-tunes/{fine_tune_id}"
# A silent stream is reopened after this long: a server that died without closing the
# connection would otherwise block the reader for the whole read timeout.
_SILENCE_SECONDS = 60.0
# The newest step is among the newest few events, whatever other events came after it.
_NEWEST_EVENTS = 5


class FineTuneCreateOptions(RequestOptions, LegacyOptions, total=False):
    """What `fine_tunes.create` takes besides the model and the files."""


class FineTunes(JobResource[ModeT_co]):
    """`/fine-tunes`: create, follow and end fine-tunes."""

    with_raw_response: RawView[FineTunes[SyncRaw], FineTunes[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[FineTunes[SyncStreaming], FineTunes[AsyncStreaming]] = (
        StreamingView()
    )

    @operation
    def create(
        self,
        *,
        model: str | Omit | NotGiven | None = omit,
        training_file: str | os.PathLike[str],
        validation_file: str | os.PathLike[str] | Omit | NotGiven | None = omit,
        **params: Unpack[FineTuneCreateOptions],
    ) -> Flow[FineTune[ModeT_co]]:
        """Start a fine-tune.

        A file given by path is uploaded first, with the prompt format saved beside it, unless
        the server has an identical file (see `files.find_matching`).

        Args:
            model: The base model, "curie" by default, or a fine-tuned model to continue from.
            training_file: Id ("file-…") or path.
            validation_file: Id or path.
            n_epochs: Passes over the training file, 4 by default.
            batch_size: Examples per step; by default 0.2 % of the training file, at most 256.
            learning_rate_multiplier: Factor of the base model's learning rate.
            prompt_loss_weight: Weight of the prompt's tokens in the loss, 0.01 by default.
            compute_classification_metrics: Whether to compute accuracy and F-scores each epoch.
                Needs a validation file, and `classification_n_classes` or
                `classification_positive_class`.
            classification_n_classes: Number of classes, for more than two.
            classification_positive_class: The positive class, for two classes.
            classification_betas: The betas of further F-beta scores.
            suffix: Up to 40 characters that the model's name will contain.
            params: The request options.

        Raises:
            TunesmithError: A path names no file.
        """
        fields: dict[str, Any] = {
            "training_file": (yield from uploaded_id(self, training_file, "training_file")),
            "validation_file": validation_file,
            "model": model,
        }
        if isinstance(validation_file, str | os.PathLike):
            fields["validation_file"] = yield from uploaded_id(
                self, validation_file, "validation_file"
            )
        return (yield from self._job("POST", "/fine-tunes", FineTune, {**fields, **params}))

    @operation
    def retrieve(self, id: str, **params: Unpack[RequestOptions]) -> Flow[FineTune[ModeT_co]]:
        """Return a fine-tune with its events.

        Args:
            id: "ft-…".
            params: The request options.

        Raises:
            NotFoundError: There is no such fine-tune.
        """
        return self._job("GET", _path(id), FineTune, params)

    @listing
    def list(self, **params: Unpack[RequestOptions]) -> PageFlow[FineTune[ModeT_co]]:
        """Return the fine-tunes, all on one page.

        Args:
            params: The request options.
        """
        return self._jobs("/fine-tunes", FineTune, params, paged=False)

    @operation
    def cancel(self, id: str, **params: Unpack[RequestOptions]) -> Flow[FineTune[ModeT_co]]:
        """Cancel a fine-tune that has not ended.

        Args:
            id: "ft-…".
            params: The request options.

        Raises:
            BadRequestError: The fine-tune has ended already.
        """
        return self._job("POST", _path(id, "/cancel"), FineTune, params)

    @operation
    def delete(self, id: str, **params: Unpack[RequestOptions]) -> Flow[Any]:
        """Delete the model of a fine-tune, as the old client's `delete` did.

        Args:
            id: "ft-…".
            params: The request options.

        Raises:
            TunesmithError: The fine-tune has no model.
        """
        from .models import Models

        self._refuse_streaming("fine_tunes.delete")
        job = yield from FineTunes.retrieve.flow(self, id)
        if job.fine_tuned_model is None:
            raise TunesmithError(
                f"Fine-tune {id} has no model (its status is {job.status}), "
                "so there is nothing to delete."
            )
        return (yield from Models.delete.flow(self, job.fine_tuned_model, **params))

    @listing
    def list_events(self, id: str, **params: Unpack[RequestOptions]) -> PageFlow[FineTuneEvent]:
        """Return a fine-tune's events, oldest first, all on one page.

        Args:
            id: "ft-…".
            params: The request options.
        """
        return self._pages(_path(id, "/events"), FineTuneEvent, params, paged=False)

    @streaming
    def stream_events(
        self, id: str, **params: Unpack[RequestOptions]
    ) -> Flow[AnyStream[FineTuneEvent]]:
        """Return a stream of all events, from the first, that ends with the fine-tune.

        A broken connection ends the stream with an error; `events` reconnects by itself.

        Args:
            id: "ft-…".
            params: The request options.
        """
        return self._open_stream(
            "GET", _path(id, "/events"), FineTuneEvent, {"stream": True, **params}
        )

    @iteration
    def events(self, id: str | FineTune, *, poll: float = 2.0) -> Emitting[FineTuneEvent]:
        """Yield a fine-tune's events from its first, oldest first, as they happen, until it ends.

        Each event comes once, across broken connections and restarts of the server. Events of
        this API have no id; their position in the list identifies them.

        Args:
            id: The fine-tune or its id.
            poll: Seconds between two polls where the server does not stream; the first few come
                sooner.
        """
        name = job_id(id)
        seen = EventCount()
        budget = RetryBudget()
        poll_pause = PollPause()
        while True:
            before = seen.value
            try:
                yield from self._events_once(name, seen)
                pause = poll_pause.next(poll)
            except Exception as error:  # noqa: BLE001 - `pause_after` raises what is not transient
                pause = budget.pause_after(error)
            job = yield from with_retries(budget, lambda: FineTunes.retrieve.flow(self, name))
            if job.is_terminal:
                for event in (yield from with_retries(budget, NewEvents(self, name, seen).read)):
                    yield Emit(event)
                return
            # A stream that brought something before it broke is opened again without delay.
            yield Sleep(min(pause, poll) if seen.value > before else pause)

    @operation
    def wait(
        self,
        id: str | FineTune,
        *,
        timeout: float | None = None,
        on_event: Callable[[FineTuneEvent], object] | None = None,
        poll: float = 2.0,
    ) -> Flow[FineTune[ModeT_co]]:
        """Wait until a fine-tune has ended and return it, however it ended.

        Survives broken connections and restarts of the server.

        Args:
            id: The fine-tune or its id.
            timeout: Seconds to wait at most; None waits without limit.
            on_event: Called with each event from the first, oldest first; on an AsyncClient it
                may be a coroutine function.
            poll: Seconds between two polls; the first few come sooner.

        Raises:
            WaitTimeoutError: The fine-tune did not end in time.
        """
        self._refuse_streaming("fine_tunes.wait")
        name = job_id(id)
        if on_event is None:
            return wait_shared(
                self,
                name,
                lambda one: FineTunes.retrieve.flow(self, one),
                self._pages("/fine-tunes", FineTuningJobSummary, {}, paged=False),
                timeout=timeout,
                poll=poll,
            )
        return wait_for_end(
            lambda: FineTunes.retrieve.flow(self, name),
            NewEvents(self, name, EventCount()).read,
            on_event,
            timeout=timeout,
            poll=poll,
        )

    @operation
    def follow(
        self,
        id: str | FineTune,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        view: JobView | None = None,
    ) -> Flow[FineTune[ModeT_co]]:
        """Wait until a fine-tune has ended and show its progress: notebook, terminal or pipe.

        An interruption leaves the fine-tune running and prints how to follow it again.

        Args:
            id: The fine-tune or its id.
            timeout: Seconds to wait at most; None waits without limit.
            poll: Seconds between two polls; the first few come sooner.
            view: Shows the job; by default the view that fits the output.

        Raises:
            WaitTimeoutError: The fine-tune did not end in time.
        """
        self._refuse_streaming("fine_tunes.follow")
        name = job_id(id)
        return follow_job(
            lambda: FineTunes.retrieve.flow(self, name),
            NewEvents(self, name, EventCount()).read,
            view,
            newest_step=NewestStep(self, name).read,
            timeout=timeout,
            poll=poll,
            hint=resume_hint("fine_tunes", name),
        )

    @operation
    def results(self, id: str | FineTune, **params: Unpack[RequestOptions]) -> Flow[Results]:
        """Return a fine-tune's result file as a table of typed rows: summary, curves, data frames.

        Args:
            id: The fine-tune or its id.
            params: The request options.

        Raises:
            TunesmithError: The fine-tune has no result file.
            ResultFileError: Its result file is damaged.
        """
        self._refuse_streaming("fine_tunes.results")
        job = yield from FineTunes.retrieve.flow(self, job_id(id), **params)
        return (yield from self._results(job, [file.id for file in job.result_files], params))

    def _events_once(self, name: str, seen: EventCount) -> Emitting[FineTuneEvent]:
        """Read the stream of events once, emitting those that have not been seen."""
        settings = self._executor.settings
        limits = settings.timeout.clipped(_SILENCE_SECONDS).phases()
        spec = RequestSpec("GET", _path(name, "/events"), query={"stream": True}, stream=True)
        spec.headers = {"accept": "text/event-stream"}
        spec.options = {"timeout": Timeout(**limits)}
        response = yield from self._exchange(spec)
        try:
            if "text/event-stream" in response.headers.get("content-type", ""):
                yield from _unseen(response, seen)
                return
        finally:
            yield Close(response)
        for event in (yield from NewEvents(self, name, seen).read()):
            yield Emit(event)


class EventCount:
    """How many events of a fine-tune have been seen."""

    def __init__(self) -> None:
        self.value = 0


class NewEvents:
    """Reads a fine-tune's events that have not been read before, oldest first."""

    def __init__(self, resource: APIResource[Any], name: str, seen: EventCount) -> None:
        self._page = resource._pages(_path(name, "/events"), FineTuneEvent, {}, paged=False)
        self._seen = seen

    def read(self) -> Flow[builtins.list[FineTuneEvent]]:
        """Return the new events."""
        page = yield from self._page(PageCursor())
        fresh = page.data[self._seen.value :]
        self._seen.value += len(fresh)
        return fresh


class NewestStep:
    """Reads the newest step of a fine-tune, whose own events only report epochs.

    The embedded engine shows the same job in the fine-tuning jobs API, whose events include each
    step. On servers that do not, there is nothing to read.
    """

    def __init__(self, resource: APIResource[Any], name: str) -> None:
        path = fill_path(
            "/fine_tuning/jobs/{job_id}/events", job_id=f"ftjob-{name.removeprefix('ft-')}"
        )
        self._page = resource._pages(path, FineTuningJobEvent, {"limit": _NEWEST_EVENTS})
        self._known = True

    def read(self) -> Flow[FineTuningJobEvent | None]:
        """Return the event of the newest step, None where there is none."""
        if not self._known:
            return None
        try:
            page = yield from self._page(PageCursor())
        except APIStatusError:
            self._known = False
            return None
        return next((event for event in page.data if is_step(event.message)), None)


def _unseen(response: Response, seen: EventCount) -> Emitting[FineTuneEvent]:
    """Emit the events of one stream that lie beyond those seen."""
    reader = EventReader(response, FineTuneEvent)
    place = 0
    chunk: bytes = yield Read(response)
    while True:
        # The end of the body may hold a last event, too.
        for event in reader.feed(chunk) if chunk else reader.finish():
            if event is END:
                return
            place += 1
            if place > seen.value:
                seen.value = place
                yield Emit(event)
        if not chunk:
            return
        chunk = yield Read(response)


def _path(fine_tune_id: str, rest: str = "") -> str:
    return fill_path(_FINE_TUNE, fine_tune_id=fine_tune_id) + rest
