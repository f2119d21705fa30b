"""The texts of events. An event is stored as a kind and its data; each API has its own text.

The legacy API (`/v1/fine-tunes`) uses the texts that users of the hosted service saw; it
has no ids and no step events, and counts epochs. The fine-tuning jobs API
(`/v1/fine_tuning/jobs`) has step events with data, and checkpoints. None means that an API
does not show events of this kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.engine.domain.job import Api
    from tunesmith.engine.store.records import EventRow

__all__ = ["KINDS", "event_message", "event_metrics"]

_TEXTS: Mapping[str, tuple[str | None, str | None]] = {
    # kind: (legacy API, fine-tuning jobs API)
    "created": ("Created fine-tune: ft-{job}", "Created fine-tuning job: ftjob-{job}"),
    "validating": (None, "Validating training file: {file}"),
    "enqueued": (
        "Fine-tune enqueued. Queue number: {number}",
        "Files validated, moving job to queued state",
    ),
    "started": ("Fine-tune started", "Fine-tuning job started"),
    "note": ("{message}", "{message}"),
    "epoch": ("Completed epoch {epoch}/{n_epochs}", None),
    "step": (None, "Step {step}/{total_steps}: training loss={train_loss:.2f}"),
    "checkpoint": (None, "Checkpoint created at step {step} with Snapshot ID: {model}"),
    "model": ("Uploaded model: {model}", "New fine-tuned model created: {model}"),
    "result": ("Uploaded result file: {file}", None),
    "succeeded": ("Fine-tune succeeded", "The job has successfully completed"),
    "failed": ("Fine-tune failed. {message}", "The job failed due to an error: {message}"),
    "cancelled": ("Fine-tune cancelled", "Fine-tuning job cancelled"),
    "paused": ("Fine-tune paused", "Fine-tuning job paused"),
    "resumed": ("Fine-tune resumed", "Fine-tuning job resumed"),
}

_COLUMN: Mapping[Api, int] = {"fine-tunes": 0, "fine-tuning": 1}

KINDS: Mapping[Api, tuple[str, ...]] = {
    api: tuple(kind for kind, texts in _TEXTS.items() if texts[column] is not None)
    for api, column in _COLUMN.items()
}
"""The kinds of events that each API shows."""


def event_message(event: EventRow, api: Api) -> str:
    """Return the event's text in an API that shows its kind."""
    text = _TEXTS[event.kind][_COLUMN[api]]
    if text is None:
        raise ValueError(f"the API {api!r} does not show events of kind {event.kind!r}")
    return text.format_map({"job": event.job_id, **event.data})


def event_metrics(event: EventRow) -> dict[str, Any] | None:
    """Return the metrics of a step event; None for others."""
    return dict(event.data) if event.kind == "step" else None
