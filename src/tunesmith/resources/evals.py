"""Evals, reading only: tests, their runs and the items of a run."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.evals import Eval, EvalRun, EvalRunOutputItem

from .base import APIResource
from .fine_tuning_jobs import PageOptions
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = [
    "EvalListOptions",
    "EvalRunListOptions",
    "EvalRunOutputItemListOptions",
    "Evals",
    "EvalsRuns",
    "EvalsRunsOutputItems",
]

_RUNS = "/evals/{eval_id}/runs"
_RUN = "/evals/{eval_id}/runs/{run_id}"


class EvalListOptions(PageOptions, total=False):
    """What `evals.list` takes."""

    order: Literal["asc", "desc"] | Omit | NotGiven
    order_by: Literal["created_at", "updated_at"] | Omit | NotGiven


class EvalRunListOptions(PageOptions, total=False):
    """What `evals.runs.list` takes besides the eval."""

    order: Literal["asc", "desc"] | Omit | NotGiven
    status: Literal["queued", "in_progress", "completed", "canceled", "failed"] | Omit | NotGiven


class EvalRunOutputItemListOptions(PageOptions, total=False):
    """What `evals.runs.output_items.list` takes besides the run."""

    order: Literal["asc", "desc"] | Omit | NotGiven
    status: Literal["fail", "pass"] | Omit | NotGiven


class Evals(APIResource[ModeT_co]):
    """`/evals`, reading only."""

    with_raw_response: RawView[Evals[SyncRaw], Evals[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Evals[SyncStreaming], Evals[AsyncStreaming]] = (
        StreamingView()
    )

    @listing
    def list(self, **params: Unpack[EvalListOptions]) -> PageFlow[Eval]:
        """Return the evals.

        Args:
            after: Id of the eval after which the page starts.
            limit: Evals per page, 20 by default.
            order: "asc" or "desc"; ascending by default.
            order_by: "created_at" or "updated_at".
            params: The request options.
        """
        return self._pages("/evals", Eval, params)

    @operation
    def retrieve(self, eval_id: str, **params: Unpack[RequestOptions]) -> Flow[Eval]:
        """Return an eval.

        Args:
            eval_id: "eval_…".
            params: The request options.

        Raises:
            NotFoundError: There is no such eval.
        """
        return self._request("GET", fill_path("/evals/{eval_id}", eval_id=eval_id), Eval, params)

    @cached_property
    def runs(self) -> EvalsRuns[ModeT_co]:
        """The runs of an eval."""
        return EvalsRuns(self._executor)


class EvalsRuns(APIResource[ModeT_co]):
    """`/evals/{id}/runs`, reading only."""

    with_raw_response: RawView[EvalsRuns[SyncRaw], EvalsRuns[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[EvalsRuns[SyncStreaming], EvalsRuns[AsyncStreaming]] = (
        StreamingView()
    )

    @listing
    def list(self, eval_id: str, **params: Unpack[EvalRunListOptions]) -> PageFlow[EvalRun]:
        """Return the runs of an eval.

        Args:
            eval_id: "eval_…".
            after: Id of the run after which the page starts.
            limit: Runs per page, 20 by default.
            order: "asc" or "desc"; ascending by default.
            status: Only runs with this status.
            params: The request options.
        """
        return self._pages(fill_path(_RUNS, eval_id=eval_id), EvalRun, params)

    @operation
    def retrieve(
        self, run_id: str, *, eval_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[EvalRun]:
        """Return a run.

        Args:
            run_id: "evalrun_…".
            eval_id: "eval_…".
            params: The request options.

        Raises:
            NotFoundError: There is no such run.
        """
        path = fill_path(_RUN, eval_id=eval_id, run_id=run_id)
        return self._request("GET", path, EvalRun, params)

    @cached_property
    def output_items(self) -> EvalsRunsOutputItems[ModeT_co]:
        """The items of a run."""
        return EvalsRunsOutputItems(self._executor)


class EvalsRunsOutputItems(APIResource[ModeT_co]):
    """`/evals/{id}/runs/{id}/output_items`."""

    with_raw_response: RawView[EvalsRunsOutputItems[SyncRaw], EvalsRunsOutputItems[AsyncRaw]] = (
        RawView()
    )
    with_streaming_response: StreamingView[
        EvalsRunsOutputItems[SyncStreaming], EvalsRunsOutputItems[AsyncStreaming]
    ] = StreamingView()

    @listing
    def list(
        self, run_id: str, *, eval_id: str, **params: Unpack[EvalRunOutputItemListOptions]
    ) -> PageFlow[EvalRunOutputItem]:
        """Return the items of a run: each with its row, the answer and the graders' results.

        Args:
            run_id: "evalrun_…".
            eval_id: "eval_…".
            after: Id of the item after which the page starts.
            limit: Items per page, 20 by default.
            order: "asc" or "desc"; ascending by default.
            status: Only items that passed ("pass") or failed ("fail").
            params: The request options.
        """
        return self._pages(_items(eval_id, run_id), EvalRunOutputItem, params)

    @operation
    def retrieve(
        self, output_item_id: str, *, eval_id: str, run_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[EvalRunOutputItem]:
        """Return an item of a run.

        Args:
            output_item_id: "outputitem_…".
            eval_id: "eval_…".
            run_id: "evalrun_…".
            params: The request options.

        Raises:
            NotFoundError: There is no such item.
        """
        path = _items(eval_id, run_id) + fill_path("/{item_id}", item_id=output_item_id)
        return self._request("GET", path, EvalRunOutputItem, params)


def _items(eval_id: str, run_id: str) -> str:
    return fill_path(_RUN, eval_id=eval_id, run_id=run_id) + "/output_items"
