"""Batches, `/v1/batches`: many requests in one file, answered within a day."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel

__all__ = [
    "Batch",
    "BatchError",
    "BatchErrors",
    "BatchRequestCounts",
    "BatchStatus",
    "BatchUsage",
]

BatchStatus = (
    Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    | str
)


class BatchError(WireModel):
    """Why the input file of a batch was refused; `line` is counted from 1."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    code: str | None = None
    line: int | None = None
    message: str | None = None
    param: str | None = None


class BatchErrors(WireModel):
    """The errors of a batch that failed before it began."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    data: list[BatchError] | None = None
    object: Literal["list"] | str | None = None


class BatchRequestCounts(WireModel):
    """How many requests a batch has, and how many of them are done."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    completed: int = 0
    failed: int = 0
    total: int = 0


class BatchUsage(WireModel):
    """The tokens of all requests of a batch."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    input_tokens: int = 0
    input_tokens_details: dict[str, Any] | None = None
    output_tokens: int = 0
    output_tokens_details: dict[str, Any] | None = None
    total_tokens: int = 0


class Batch(WireModel):
    """A batch of requests.

    Attributes:
        id: "batch_…".
        completion_window: "24h".
        endpoint: The route that answers each line, such as "/v1/chat/completions".
        input_file_id: The file with one request a line.
        output_file_id: The file of the answers; absent where every request failed.
        error_file_id: The file of the requests that failed.
    """

    list_columns: ClassVar[tuple[str, ...]] = ("id", "status", "endpoint", "created_at")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "status"})

    id: str
    completion_window: str = ""
    created_at: int = 0
    endpoint: str = ""
    input_file_id: str = ""
    object: Literal["batch"] | str = "batch"
    status: BatchStatus
    cancelled_at: int | None = None
    cancelling_at: int | None = None
    completed_at: int | None = None
    error_file_id: str | None = None
    errors: BatchErrors | None = None
    expired_at: int | None = None
    expires_at: int | None = None
    failed_at: int | None = None
    finalizing_at: int | None = None
    in_progress_at: int | None = None
    metadata: dict[str, str] | None = None
    model: str | None = None
    output_file_id: str | None = None
    request_counts: BatchRequestCounts | None = None
    usage: BatchUsage | None = None


set_public_module(globals(), "tunesmith.types")
