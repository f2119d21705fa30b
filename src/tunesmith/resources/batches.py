"""Batches: many requests in one uploaded file, answered within a day at a lower price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.batches import Batch

from .base import APIResource
from .fine_tuning_jobs import PageOptions
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = ["BatchCreateOptions", "Batches"]

_BATCH = "/batches/{batch_id}"


class BatchCreateOptions(RequestOptions, total=False):
    """What `batches.create` takes besides the file and its endpoint."""

    metadata: Mapping[str, str] | Omit | NotGiven | None
    output_expires_after: Mapping[str, object] | Omit | NotGiven


class Batches(APIResource[ModeT_co]):
    """`/batches`: start, read, list and cancel batches of requests."""

    with_raw_response: RawView[Batches[SyncRaw], Batches[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Batches[SyncStreaming], Batches[AsyncStreaming]] = (
        StreamingView()
    )

    @operation
    def create(
        self,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: Literal["24h"] | str = "24h",
        **params: Unpack[BatchCreateOptions],
    ) -> Flow[Batch]:
        """Start a batch.

        Args:
            input_file_id: An uploaded file with the purpose "batch": one request a line, all for
                the same model, each with `custom_id`, `method`, `url` and `body`.
            endpoint: The route of all requests, such as "/v1/chat/completions".
            completion_window: The time within which the requests are answered, "24h".
            metadata: Up to 16 pairs of strings.
            output_expires_after: When the server may delete the files of answers:
                `{"anchor": "created_at", "seconds": …}`.
            params: The request options.
        """
        fields = {
            "input_file_id": input_file_id,
            "endpoint": endpoint,
            "completion_window": completion_window,
        }
        return self._request("POST", "/batches", Batch, params, fields=fields)

    @operation
    def retrieve(self, batch_id: str, **params: Unpack[RequestOptions]) -> Flow[Batch]:
        """Return a batch.

        Args:
            batch_id: "batch_…".
            params: The request options.

        Raises:
            NotFoundError: There is no such batch.
        """
        return self._request("GET", _path(batch_id), Batch, params)

    @listing
    def list(self, **params: Unpack[PageOptions]) -> PageFlow[Batch]:
        """Return the batches, newest first.

        Args:
            after: Id of the batch after which the page starts.
            limit: Batches per page, from 1 to 100; 20 by default.
            params: The request options.
        """
        return self._pages("/batches", Batch, params)

    @operation
    def cancel(self, batch_id: str, **params: Unpack[RequestOptions]) -> Flow[Batch]:
        """Cancel a batch; what has been answered so far can still be read.

        Args:
            batch_id: "batch_…".
            params: The request options.
        """
        return self._request("POST", _path(batch_id) + "/cancel", Batch, params)


def _path(batch_id: str) -> str:
    return fill_path(_BATCH, batch_id=batch_id)
