"""The interface between a job and its training: plain data in, plain data out.

`TrainingSpec` is all that a training needs to know. It is saved as JSON in the job's
folder, so a killed training resumes from the same values; its field names are therefore a
stored format. The training reports to a `TrainingObserver` and asks it whether to stop.
Neither side imports the other: the training knows no database, the job no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - pydantic reads it at run time
from typing import ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tunesmith.engine.models.verdicts import ModelPath  # noqa: TC001 - pydantic reads it at run time
from tunesmith.types.job_parameters import (
    LEGACY_HYPERPARAMETERS,
    LegacyHyperparameters,
    Recipe,
    RecipeChoice,
)

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


class TrainingSpec(BaseModel, LegacyHyperparameters):
    """One training: its folders and files, and its hyperparameters.

    Hyperparameters have the names and bounds of `tunesmith.types.job_parameters`. One that is None
    gets a default by the number of examples, or is not used.

    Attributes:
        job_id: The job's id; names the work folder.
        base_model: Id of the base model.
        base_path: Folder of the base model.
        initial_adapter_path: Adapter (or whole weights) of the fine-tuned model to continue from.
        training_path: JSONL with prompt-completion rows, chats, or preferences for "dpo".
        validation_path: JSONL with rows of the same format, or None.
        work_path: Folder for checkpoints and caches; only the training writes there.
        output_path: Folder for the trained model; it appears complete or not at all.
        method: "supervised" for cross-entropy, "dpo" for preferences.
        dpo_beta: How strongly "dpo" stays near the base model.
        early_stopping: End after so many epochs without a lower validation loss; None for never.
        keep_best: Whether the model is that of the epoch with the lowest validation loss.
        train_experts: Whether the adapter is put on the experts of a mixture, too.
        seed: Seed of the order of examples and of the adapter's initial values.
        recipe: "auto" chooses by estimated time (see recipes.py).
        api: The API that created the job. It decides the defaults, and the scale of
            `learning_rate_multiplier` (see hyperparameters.py).
        max_tokens: Most tokens of an example; None for the model's context.
        checkpoint_every_seconds: Least time between two checkpoints for resuming; 0 makes
            one after every step.
        threads: Threads to compute with; None leaves that to the process's environment.
        path: "fast" or "general", as was proven for the base model; None to prove it at the start.
        serving_path: By which path the model will be served, where that was proven.
        memory_bytes: Most bytes of the device's memory to use; None for what is free on a GPU, and
            for no limit on a processor.
        optimizer: What keeps state for the trained weights; None chooses by memory.
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
    dpo_beta: float = Field(default=0.1, gt=0, le=2)
    early_stopping: int | None = Field(default=None, ge=1, le=50)
    keep_best: bool = False
    train_experts: bool = False
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    recipe: RecipeChoice = "auto"
    api: Literal["fine-tunes", "jobs"] = "jobs"
    max_tokens: int | None = Field(default=None, ge=1)
    checkpoint_every_seconds: float = Field(default=20.0, ge=0)
    threads: int | None = Field(default=None, ge=1)
    path: ModelPath | None = None
    serving_path: ModelPath | None = None
    memory_bytes: int | None = Field(default=None, ge=1)
    optimizer: Literal["adamw", "adamw_8bit"] | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        for parameter in LEGACY_HYPERPARAMETERS:
            value = getattr(self, parameter.name)
            if isinstance(value, int | float) and not parameter.is_within_bounds(value):
                raise ValueError(f"{parameter.name} is out of bounds: {value}")
        return self


@dataclass(frozen=True, slots=True)
class ResolvedHyperparameters:
    """The values in use: the job's, or defaults by the number of examples."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What the training is about to do, reported after the data is read, before the first step.

    Attributes:
        hyperparameters: The values in use.
        recipe: The chosen recipe.
        reason: Why this recipe, for the user.
        examples: Rows of the training file.
        validation_examples: Rows of the validation file.
        tokens_per_epoch: Tokens of all training examples.
        total_steps: Optimizer steps of the whole training.
        start_step: Steps already done; 0 unless the training was resumed.
        path: "fast", or "general" where plain transformers and PEFT train the model.
        path_reason: Why it is not "fast".
        serving_path: By which path the model will be served, where that was proven.
    """

    hyperparameters: ResolvedHyperparameters
    recipe: Recipe
    reason: str
    examples: int
    validation_examples: int
    tokens_per_epoch: int
    total_steps: int
    start_step: int
    path: ModelPath = "fast"
    path_reason: str = ""
    serving_path: ModelPath | None = None


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """Metrics on validation data: on one batch of it, or on all of it (`full`).

    Attributes:
        loss: Mean loss per token of the completions.
        sequence_accuracy: Share of the completions of which every token was predicted.
        token_accuracy: Share of the completions' tokens that were predicted.
        full: Whether all of the validation data was used.
        extra: Metrics of the method alone, by the names of their columns.
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
        total_steps: Steps of the whole training.
        epoch: 1 for the first.
        elapsed_tokens: Tokens seen so far, repeats included.
        elapsed_examples: Examples seen so far, repeats included.
        learning_rate: The rate of this step.
        validation: Validation metrics, if they were computed after this step.
        classification: Classification metrics by column name without "classification/", at
            the end of an epoch.
        extra: Metrics of the method alone, by the names of their columns: the rewards of "dpo".
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
    """A snapshot of the model that can be served: the complete folder `path`.

    Written at the end of the last epochs. Checkpoints for resuming are internal to the
    training and are not reported.
    """

    step: int
    path: Path
    record: StepRecord


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How a training ended.

    Attributes:
        stopped: None if the training is complete, else the request that stopped it. On
            "pause" and "shutdown" a checkpoint was written first.
        trained_tokens: Tokens seen, repeats included.
        steps: Steps done.
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

    After a crash, steps since the last checkpoint are done and reported again, with the
    same values: an observer must key what it stores by step.
    """

    def planned(self, plan: TrainingPlan) -> None:
        """The data was read, and hyperparameters and recipe are chosen."""

    def note(self, key: str, message: str) -> None:
        """Something worth an event happened. `key` is unique within the job."""

    def step(self, record: StepRecord) -> None:
        """A step was done."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch was done; its last step was reported before."""

    def checkpoint(self, record: CheckpointRecord) -> None:
        """A snapshot that can be served was written."""

    def stop_requested(self) -> StopRequest | None:
        """Return a request to stop, or None; called between steps."""
