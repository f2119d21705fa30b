"""Wire objects of the fine-tuning jobs API, `/v1/fine_tuning/jobs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from tunesmith._lazy import set_public_module
from tunesmith.core.modes import ModeT_co

from .base import TERMINAL_STATUSES, WireModel
from .job_methods import PausableJobMethods

__all__ = [
    "FineTuningJob",
    "FineTuningJobCheckpoint",
    "FineTuningJobCheckpointMetrics",
    "FineTuningJobError",
    "FineTuningJobEvent",
    "FineTuningJobHyperparameters",
    "FineTuningJobIntegration",
    "FineTuningJobIntegrationWandb",
    "FineTuningJobMethod",
    "FineTuningJobMethodConfig",
    "FineTuningJobStatus",
    "FineTuningJobSummary",
]

FineTuningJobStatus = (
    Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    | str
)


class FineTuningJobError(WireModel):
    """Why a job failed; all fields null on a job that did not."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class FineTuningJobHyperparameters(WireModel):
    """Requested values, "auto" for the server to choose; later the values that it chose."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    n_epochs: Literal["auto"] | int | None = None
    batch_size: Literal["auto"] | int | None = None
    learning_rate_multiplier: Literal["auto"] | float | None = None


class FineTuningJobMethodConfig(WireModel):
    """The settings of one method; `hyperparameters` adds `beta` for preference training."""

    hyperparameters: dict[str, Any] | None = None
    grader: dict[str, Any] | None = None


class FineTuningJobMethod(WireModel):
    """How the model is trained: "supervised", "dpo" or "reinforcement"."""

    type: Literal["supervised", "dpo", "reinforcement"] | str = ""
    supervised: FineTuningJobMethodConfig | None = None
    dpo: FineTuningJobMethodConfig | None = None
    reinforcement: FineTuningJobMethodConfig | None = None


class FineTuningJobIntegrationWandb(WireModel):
    """Where a Weights & Biases run of the job is written."""

    project: str = ""
    entity: str | None = None
    name: str | None = None
    tags: list[str] | None = None


class FineTuningJobIntegration(WireModel):
    """An outside service that follows the job."""

    type: Literal["wandb"] | str = ""
    wandb: FineTuningJobIntegrationWandb | None = None


class FineTuningJobEvent(WireModel):
    """One message of a job; `type` "metrics" carries numbers in `data`."""

    list_columns: ClassVar[tuple[str, ...]] = ("created_at", "level", "message")
    _essential: ClassVar[frozenset[str] | None] = frozenset({"message"})

    id: str = ""
    created_at: int = 0
    level: Literal["info", "warn", "error"] | str = "info"
    message: str
    object: Literal["fine_tuning.job.event"] | str = "fine_tuning.job.event"
    data: dict[str, Any] | None = None
    type: Literal["message", "metrics"] | str | None = None


class FineTuningJob(WireModel, PausableJobMethods[FineTuningJobEvent, ModeT_co]):
    """A job of the fine-tuning jobs API.

    Attributes:
        id: "ftjob-…".
        error: Set when the job failed.
        estimated_finish: Unix time in seconds, while the job runs.
        fine_tuned_model: The name to use once `status` is "succeeded".
        result_files: Ids of the result files.
        trained_tokens: Tokens seen in training, repeats included; null until the end.
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
        {"id", "status", "error", "fine_tuned_model", "training_file", "result_files"}
    )

    id: str
    created_at: int = 0
    error: FineTuningJobError | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    hyperparameters: FineTuningJobHyperparameters = Field(
        default_factory=FineTuningJobHyperparameters
    )
    model: str = ""
    object: Literal["fine_tuning.job"] | str = "fine_tuning.job"
    organization_id: str = ""
    result_files: list[str] = Field(default_factory=list[str])
    seed: int | None = None
    status: FineTuningJobStatus
    trained_tokens: int | None = None
    training_file: str = ""
    validation_file: str | None = None
    estimated_finish: int | None = None
    integrations: list[FineTuningJobIntegration] | None = None
    metadata: dict[str, str] | None = None
    method: FineTuningJobMethod | None = None
    user_provided_suffix: str | None = None

    @property
    def is_terminal(self) -> bool:
        """True once the job can no longer change: succeeded, failed or cancelled."""
        return self.status in TERMINAL_STATUSES

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """An error may be a text, and a result file a whole file object as in the legacy API."""
        if not isinstance(content, Mapping):
            return content
        mended = {**content}
        if isinstance(error := mended.get("error"), str):
            mended["error"] = {"message": error}
        if isinstance(files := mended.get("result_files"), list):
            mended["result_files"] = [
                file.get("id") if isinstance(file, Mapping) else file for file in files
            ]
        return mended


class FineTuningJobSummary(WireModel):
    """The fields of a job that say whether it has ended."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", defer_build=True)

    id: str
    status: str

    @property
    def is_terminal(self) -> bool:
        """True once the job can no longer change."""
        return self.status in TERMINAL_STATUSES


class FineTuningJobCheckpointMetrics(WireModel):
    """The job's metrics at one step; null where they were not computed."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    step: float | None = None
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class FineTuningJobCheckpoint(WireModel):
    """A snapshot of a job that can be used as a model."""

    list_columns: ClassVar[tuple[str, ...]] = (
        "step_number",
        "fine_tuned_model_checkpoint",
        "metrics",
        "created_at",
    )
    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "fine_tuned_model_checkpoint"})

    id: str
    created_at: int = 0
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str = ""
    metrics: FineTuningJobCheckpointMetrics = Field(default_factory=FineTuningJobCheckpointMetrics)
    object: Literal["fine_tuning.job.checkpoint"] | str = "fine_tuning.job.checkpoint"
    step_number: int = 0


set_public_module(globals(), "tunesmith.types")
