"""Wire objects of the legacy API, `/v1/fine-tunes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

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
    _essential: ClassVar[frozenset[str] | None] = frozenset({"message"})

    object: Literal["fine-tune-event"] | str = "fine-tune-event"
    created_at: int = 0
    level: Literal["info", "warn", "error"] | str = "info"
    message: str


class FineTuneHyperparams(WireModel, LegacyHyperparameters):
    """The values that the job trains with; null until the server has derived them from the data."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()


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
    _essential: ClassVar[frozenset[str] | None] = frozenset(
        {"id", "status", "fine_tuned_model", "training_files", "result_files"}
    )

    id: str
    object: Literal["fine-tune"] | str = "fine-tune"
    created_at: int = 0
    updated_at: int = 0
    model: str = ""
    fine_tuned_model: str | None = None
    organization_id: str = ""
    status: FineTuneStatus
    hyperparams: FineTuneHyperparams = Field(default_factory=FineTuneHyperparams)
    training_files: list[FileObject] = Field(default_factory=list[FileObject])
    validation_files: list[FileObject] = Field(default_factory=list[FileObject])
    result_files: list[FileObject] = Field(default_factory=list[FileObject])
    events: list[FineTuneEvent] | None = None

    @property
    def is_terminal(self) -> bool:
        """True once the job can no longer change: succeeded, failed or cancelled."""
        return self.status in TERMINAL_STATUSES

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """A file may be its id alone, as in the fine-tuning jobs API."""
        if not isinstance(content, Mapping):
            return content
        mended = {**content}
        for name in ("training_files", "validation_files", "result_files"):
            if isinstance(files := mended.get(name), list):
                mended[name] = [{"id": file} if isinstance(file, str) else file for file in files]
        return mended


set_public_module(globals(), "tunesmith.types")
