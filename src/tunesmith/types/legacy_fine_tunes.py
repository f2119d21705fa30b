"""Wire objects of the legacy API, `/v1/fine-tunes`."""

from __future__ import annotations

from typing import ClassVar, Literal

from tunesmith._lazy import set_public_module
from tunesmith.core.modes import ModeT_co

from .base import TERMINAL_STATUSES, WireModel
from .files import FileObject
from .job_methods import JobMethods
from .job_parameters import LegacyHyperparameters

__all__ = ["FineTune", "FineTuneEvent", "FineTuneHyperparams", "FineTuneStatus"]

FineTuneStatus = Literal["pending", "created", "running", "succeeded", "failed", "cancelled"] | str


class FineTuneEvent(WireModel):
    """One message of a fine-tune. It has no id: its place in the list is its identity."""

    list_columns: ClassVar[tuple[str, ...]] = ("created_at", "level", "message")

    object: Literal["fine-tune-event"] | str = "fine-tune-event"
    created_at: int
    level: Literal["info", "warn", "error"] | str = "info"
    message: str


class FineTuneHyperparams(WireModel, LegacyHyperparameters):
    """The values that the job trains with; null until the server has derived them from the data."""


class FineTune(WireModel, JobMethods[FineTuneEvent, ModeT_co]):
    """A fine-tune, the job of the legacy API.

    Attributes:
        id: "ft-…".
        fine_tuned_model: The name to use for completions once `status` is "succeeded".
        hyperparams: The values the job trains with.
        status: "pending", "running", "succeeded", "failed" or "cancelled".
        training_files: Whole file objects, where the fine-tuning jobs API gives ids.
        events: Oldest first; absent in lists. `iter_events` gives them as they happen.
    """

    __slots__ = ("_resource",)
    list_columns: ClassVar[tuple[str, ...]] = (
        "id",
        "status",
        "model",
        "fine_tuned_model",
        "created_at",
    )

    id: str
    object: Literal["fine-tune"] | str = "fine-tune"
    created_at: int
    updated_at: int
    model: str
    fine_tuned_model: str | None = None
    organization_id: str
    status: FineTuneStatus
    hyperparams: FineTuneHyperparams
    training_files: list[FileObject]
    validation_files: list[FileObject]
    result_files: list[FileObject]
    events: list[FineTuneEvent] | None = None

    @property
    def is_terminal(self) -> bool:
        """True once the job can no longer change: succeeded, failed or cancelled."""
        return self.status in TERMINAL_STATUSES


set_public_module(globals(), "tunesmith.types")
