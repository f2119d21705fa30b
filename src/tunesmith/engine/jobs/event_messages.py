"""The words of events. An event is stored as a kind and its data; each API words it.

The first API uses the wording that users of the hosted service saw; it has no ids,
no step events, and counts epochs. The second one has step events with data, and
checkpoints. None means that an API does not show this kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunesmith.engine.domain.job import Api
    from tunesmith.engine.store.records import EventRow

__all__ = ["KINDS", "message_of", "metrics_of"]

Words = tuple["str | None", "str | None"]

_WORDS: Mapping[str, Words] = {
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


def _shown(api: Api) -> Callable[[str], bool]:
    return lambda kind: _WORDS[kind][_COLUMN[api]] is not None


KINDS: Mapping[Api, tuple[str, ...]] = {api: tuple(filter(_shown(api), _WORDS)) for api in _COLUMN}
"""The kinds that each API shows."""


def message_of(event: EventRow, api: Api) -> str:
    """Return the event's text in the words of an API that shows its kind."""
    words = _WORDS[event.kind][_COLUMN[api]]
    if words is None:
        raise ValueError(f"the API {api!r} does not show events of kind {event.kind!r}")
    return words.format_map({"job": event.job_id, **event.data})


def metrics_of(event: EventRow) -> dict[str, Any] | None:
    """Return the figures of a step event; None for others."""
    return dict(event.data) if event.kind == "step" else None
