"""The steps of a training, one after the other, until the last or until a stop is asked for.

Everything that decides a step follows from the data, the seed and the step's number;
what remains, parameters and optimizer state, is in the checkpoint. So a training that
was killed ends with the same weights and the same result file as one that was not.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn.utils import clip_grad_norm_

from tunesmith.engine.models.folders import publish_folder
from tunesmith.engine.training import distributed
from tunesmith.engine.training.batches import epoch_batches
from tunesmith.engine.training.checkpoint import Position
from tunesmith.engine.training.errors import TrainingError
from tunesmith.engine.training.hyperparameters import learning_rate_at
from tunesmith.engine.training.result_file import ResultFile, classification_columns
from tunesmith.engine.training.spec import CheckpointRecord, EpochRecord, StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from tunesmith.engine.training.checkpoint import Checkpoints
    from tunesmith.engine.training.objective import Objective
    from tunesmith.engine.training.spec import (
        ResolvedHyperparameters,
        StopRequest,
        TrainingObserver,
        TrainingSpec,
    )

__all__ = ["SNAPSHOT_EPOCHS", "Loop", "Schedule", "write_folder"]

_GRADIENT_NORM = 1.0
_VALIDATIONS = 25
SNAPSHOT_EPOCHS = 3
# Saving may take this share of the time at most, unless every step is to be saved.
_SAVING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many steps, and how large.

    Attributes:
        peak_rate: The highest learning rate of the training.
        weight_decay: AdamW's decoupled decay.
    """

    values: ResolvedHyperparameters
    examples: int
    peak_rate: float
    weight_decay: float

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass; the last may have fewer examples."""
        return math.ceil(self.examples / self.values.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.values.n_epochs


class Loop:
    """One training under way.

    Args:
        spec: The job.
        schedule: Its steps.
        objective: What it learns.
        parameters: What is trained, by name.
        save_model: Writes the model as it is now to an existing folder.
        checkpoints: Where to go on from, and what to keep for it.
        observer: Whom to tell.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        observer: TrainingObserver,
        *,
        schedule: Schedule,
        objective: Objective,
        parameters: Mapping[str, nn.Parameter],
        save_model: Callable[[Path], None],
        checkpoints: Checkpoints,
    ) -> None:
        self._spec = spec
        self._schedule = schedule
        self._objective = objective
        self._parameters = parameters
        self._save_model = save_model
        self._observer = observer
        self._optimizer = torch.optim.AdamW(
            list(parameters.values()),
            lr=schedule.peak_rate,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self._store = checkpoints
        self.position: Position = Position()
        found = self._store.newest()
        if found is not None:
            self.position = found[0]
            self._restore(found[1])
        self._results: ResultFile | None = None
        if distributed.leads():
            self._results = ResultFile(
                spec.work_path / "results.csv",
                classification_columns(spec),
                objective.columns,
                self.position.results_length,
            )
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    def run(self) -> StopRequest | None:
        """Do the steps that are left; return the request that ended them early, if one did.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        for epoch in range(
            self.position.step // self._schedule.steps_per_epoch, self._schedule.values.n_epochs
        ):
            batches = epoch_batches(
                self._objective.lengths,
                self._schedule.values.batch_size,
                seed=self._spec.seed,
                epoch=epoch,
            )
            done = self.position.step - epoch * self._schedule.steps_per_epoch
            for numbers in batches[done:]:
                stop = distributed.by_leader(self._observer.stop_requested)
                if stop is not None:
                    if stop != "cancel":
                        self._save()
                    return stop
                self._step(epoch + 1, numbers)
        self._synced_length()
        return None

    def _step(self, epoch: int, numbers: Sequence[int]) -> None:
        record = self._learn(epoch, numbers)
        ends_epoch = record.step % self._schedule.steps_per_epoch == 0
        record = self._validated(record, ends_epoch=ends_epoch)
        if self._results is not None:
            self._results.add(record)
        self._observer.step(record)
        if ends_epoch:
            self._end_epoch(record)
        if distributed.by_leader(self._save_is_due):
            self._save()

    def _learn(self, epoch: int, numbers: Sequence[int]) -> StepRecord:
        step = self.position.step + 1
        rate = learning_rate_at(step, self._schedule.total_steps, self._schedule.peak_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        figures = self._objective.backward(numbers)
        distributed.add_gradients(self._parameters.values())
        clip_grad_norm_(self._parameters.values(), _GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(figures.loss):
            msg = (
                f"The loss is no longer a number at step {step}. A smaller "
                f"learning_rate_multiplier helps; it was "
                f"{self._schedule.values.learning_rate_multiplier}."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
        self.position = replace(
            self.position,
            step=step,
            elapsed_tokens=self.position.elapsed_tokens + figures.tokens,
            elapsed_examples=self.position.elapsed_examples + len(numbers),
        )
        return StepRecord(
            step=step,
            total_steps=self._schedule.total_steps,
            epoch=epoch,
            elapsed_tokens=self.position.elapsed_tokens,
            elapsed_examples=self.position.elapsed_examples,
            training_loss=figures.loss,
            training_sequence_accuracy=figures.sequence_accuracy,
            training_token_accuracy=figures.token_accuracy,
            learning_rate=rate,
            extra=figures.extra,
        )

    def _validated(self, record: StepRecord, *, ends_epoch: bool) -> StepRecord:
        """Add validation: on all examples at the end of an epoch, on a batch now and then."""
        count = self._objective.validation_count
        if count == 0:
            return record
        if ends_epoch:
            validation, classification = self._objective.validate_all()
            return replace(
                record,
                validation=validation,
                classification=classification,
                extra=record.extra | validation.extra,
            )
        every = math.ceil(self._schedule.total_steps / _VALIDATIONS)
        if record.step % every:
            return record
        size = min(self._schedule.values.batch_size, count)
        start = (record.step // every - 1) * size
        numbers = [(start + offset) % count for offset in range(size)]
        validation = self._objective.validate(numbers)
        return replace(record, validation=validation, extra=record.extra | validation.extra)

    def _end_epoch(self, record: StepRecord) -> None:
        n_epochs = self._schedule.values.n_epochs
        self._observer.epoch(EpochRecord(record.epoch, n_epochs, record.step))
        if record.epoch > n_epochs - SNAPSHOT_EPOCHS and distributed.leads():
            folder = self._spec.work_path / "snapshots" / f"step-{record.step}"
            write_folder(folder, self._save_model)
            self._observer.checkpoint(CheckpointRecord(record.step, folder, record))

    def _save_is_due(self) -> bool:
        wanted = self._spec.checkpoint_every_seconds
        wait = max(wanted, self._save_seconds / _SAVING_SHARE) if wanted else 0.0
        return time.monotonic() - self._saved_at >= wait

    def _save(self) -> None:
        started = time.monotonic()
        self.position = replace(self.position, results_length=self._synced_length())
        self._store.save(self.position, self._state())
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def _synced_length(self) -> int:
        """Return the bytes of the result file, all on the disk; 0 in a process that writes none."""
        return 0 if self._results is None else self._results.synced_length()

    def _state(self) -> dict[str, torch.Tensor]:
        state = {}
        for name, parameter in self._parameters.items():
            state[f"parameter/{name}"] = parameter.detach()
            for key, value in self._optimizer.state.get(parameter, {}).items():
                state[f"{key}/{name}"] = value
        return {name: value.cpu().contiguous() for name, value in state.items()}

    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state[f"parameter/{name}"])
                self._optimizer.state[parameter] = {
                    key: state[f"{key}/{name}"].to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}/{name}" in state
                }


def write_folder(folder: Path, save: Callable[[Path], None]) -> None:
    """Make `folder` appear with what `save` writes, whole; leave it if it is there already."""
    if folder.exists():
        return
    gathered = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(gathered, ignore_errors=True)
    gathered.mkdir(parents=True)
    try:
        save(gathered)
        publish_folder(gathered, folder)
    finally:
        shutil.rmtree(gathered, ignore_errors=True)
