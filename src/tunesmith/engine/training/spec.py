"""The border between a job and its training: plain data in, plain data out.

`TrainingSpec` is all that a training needs to know; it is saved as JSON in the
job's folder, so a killed trainer starts again from the same words. The training
reports through a `TrainingObserver` and asks it whether to go on. Neither side
imports the other: the training knows no database, the job no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - pydantic reads it at run time
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.datasets.destinations import DEFAULT_TOKEN_LIMIT
from tunesmith.types.job_parameters import Recipe, RecipeChoice  # noqa: TC001 - pydantic reads it

__all__ = [
    "CheckpointRecord",
    "EpochRecord",
    "ResolvedHyperparameters",
    "StepRecord",
    "StopRequest",
    "TrainingObserver",
    "TrainingOutcome",
    "TrainingPlan",
    "TrainingSpec",
    "ValidationRecord",
]

StopRequest = Literal["cancel", "pause", "shutdown"]


class TrainingSpec(BaseModel):
    """One training, in full. None means: derive the value from the data by the guide's rule.

    Attributes:
        job_id: The job's id; names the work folder, never shown to the model.
        base_model: Id of the base model.
        base_path: Folder of the base model.
        initial_adapter_path: Adapter (or whole weights) of the fine-tuned model to continue from.
        training_path: JSONL, prompt/completion rows or chat rows (or preference rows for "dpo").
        validation_path: Rows of the same shape, or None.
        work_path: Folder for checkpoints; the training alone writes there.
        output_path: Folder to write the trained model to; it appears whole or not at all.
        n_epochs: Passes over the data, 1 to 50.
        batch_size: Examples a step, 1 to 256.
        learning_rate_multiplier: Times the recipe's documented base rate.
        prompt_loss_weight: Weight of the prompt's tokens in the loss.
        classification_positive_class: The completion that counts as positive (binary).
        recipe: "auto" picks by estimated time.
        api: The API that the job came through. It decides the rules for values left
            open, and the scale of `learning_rate_multiplier` (see hyperparameters.py).
        max_tokens: Longer examples are refused or truncated, as the job API says.
        checkpoint_every_seconds: Least time between two checkpoints for resuming; 0 makes
            one after every step.
        threads: Threads to compute with; None leaves that to the process's environment.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    base_model: str
    base_path: Path
    initial_adapter_path: Path | None = None
    training_path: Path
    validation_path: Path | None = None
    work_path: Path
    output_path: Path
    method: Literal["supervised", "dpo"] = "supervised"
    n_epochs: int | None = Field(default=None, ge=1, le=50)
    batch_size: int | None = Field(default=None, ge=1, le=256)
    learning_rate_multiplier: float | None = Field(default=None, gt=0)
    prompt_loss_weight: float = Field(default=0.0, ge=0)
    compute_classification_metrics: bool = False
    classification_n_classes: int | None = None
    classification_positive_class: str | None = None
    classification_betas: list[float] | None = None
    dpo_beta: float = Field(default=0.1, gt=0, le=2)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    recipe: RecipeChoice = "auto"
    api: Literal["fine-tunes", "jobs"] = "jobs"
    max_tokens: int = Field(default=DEFAULT_TOKEN_LIMIT, ge=1)
    checkpoint_every_seconds: float = Field(default=20.0, ge=0)
    threads: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class ResolvedHyperparameters:
    """The values in use once the data has been counted."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What the training is about to do, reported once the data is read and before the first step.

    Attributes:
        recipe: The recipe chosen, and `reason` why.
        total_steps: Optimizer steps of the whole training.
        start_step: Steps already done when this process took over; 0 for a fresh training.
    """

    hyperparameters: ResolvedHyperparameters
    recipe: Recipe
    reason: str
    examples: int
    validation_examples: int
    tokens_per_epoch: int
    total_steps: int
    start_step: int


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """Figures on validation data: on one batch of it, or on all of it (`full`).

    Attributes:
        extra: Figures of the method's own, by their column's name.
    """

    loss: float
    sequence_accuracy: float
    token_accuracy: float
    full: bool = False
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step: one row of the result file.

    Attributes:
        step: 1 for the first.
        elapsed_tokens: Tokens seen so far, repeats included.
        elapsed_examples: Examples seen so far, repeats included.
        classification: Column name without its "classification/" → value, at the end of an epoch.
        extra: Figures of the method's own, by their column's name: the rewards of "dpo".
    """

    step: int
    total_steps: int
    epoch: int
    elapsed_tokens: int
    elapsed_examples: int
    training_loss: float
    training_sequence_accuracy: float
    training_token_accuracy: float
    learning_rate: float
    validation: ValidationRecord | None = None
    classification: dict[str, float] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch has ended. `step` is its last step."""

    epoch: int
    n_epochs: int
    step: int


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A snapshot that can be served: a model folder at `path`, written whole.

    Made at the end of each epoch. Checkpoints for resuming are the training's own
    affair and are not reported.
    """

    step: int
    path: Path
    record: StepRecord


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How a training ended.

    Attributes:
        stopped: None when the training is complete, else the request that it obeyed.
            On "pause" and "shutdown" a checkpoint was written first.
        results_path: The result file (CSV), complete up to the last step.
        output_path: The trained model's folder; None if it was stopped.
    """

    stopped: StopRequest | None
    trained_tokens: int
    steps: int
    results_path: Path
    output_path: Path | None


class TrainingObserver(Protocol):
    """Receives what happens. Calls come from one thread, in order.

    After a crash and a resume, steps since the last checkpoint are reported again
    with the same numbers: an observer keys what it stores by step.
    """

    def planned(self, plan: TrainingPlan) -> None:
        """The data is read and the values are settled."""

    def note(self, key: str, message: str) -> None:
        """Say something worth an event. `key` is unique within the job."""

    def step(self, record: StepRecord) -> None:
        """One step is done."""

    def epoch(self, record: EpochRecord) -> None:
        """One epoch is done; its step was reported before."""

    def checkpoint(self, record: CheckpointRecord) -> None:
        """A snapshot that can be served is complete on disk."""

    def stop_requested(self) -> StopRequest | None:
        """Return a request to stop; asked between steps."""
