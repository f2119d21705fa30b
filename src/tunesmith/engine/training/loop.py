"""The steps of a training, one after the other, until the last or until a stop is requested.

Everything that determines a step follows from the data, the seed and the step's number;
the rest, parameters and optimizer state, is in the checkpoint. So a training that was
killed ends with the same weights and the same result file as one that was not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tunesmith.engine.domain.errors import TrainingError

from . import distributed
from .batches import epoch_batches
from .checkpoint import Checkpointer
from .hyperparameters import learning_rate_at
from .optimizer import Optimizer
from .result_file import ResultFile, classification_columns
from .sharding import ShardedOptimizer
from .spec import CheckpointRecord, EpochRecord, StepRecord
from .work_folder import SNAPSHOT_EPOCHS, WorkFolder, write_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from .checkpoint import Checkpoints, Position
    from .memory_limit import MemoryLimit
    from .objective import Objective
    from .sharding import ShardedModel
    from .spec import ResolvedHyperparameters, StopRequest, TrainingObserver, TrainingSpec

__all__ = ["Schedule", "TrainingLoop"]

T = TypeVar("T")

_VALIDATIONS = 25  # on one batch each, spread over the training


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many steps, and how large.

    Attributes:
        hyperparameters: The values in use.
        examples: Training examples.
        peak_rate: The highest learning rate of the training.
        weight_decay: AdamW's decoupled decay.
    """

    hyperparameters: ResolvedHyperparameters
    examples: int
    peak_rate: float
    weight_decay: float

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass; one of them may have fewer examples."""
        return math.ceil(self.examples / self.hyperparameters.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.hyperparameters.n_epochs


class TrainingLoop:
    """The steps of one training, resumed from its newest checkpoint.

    Args:
        spec: The job.
        observer: Receives the records of steps, epochs and snapshots.
        schedule: How many steps, and how large.
        objective: What is minimised.
        parameters: What is trained, by name.
        joined: Whether the optimizer may keep the parameters in one buffer.
        eight_bits: Whether it keeps its moments in 8 bits.
        snapshot: Returns what writes the model as it is now to an existing folder. Every
            process calls it.
        checkpoints: Where to resume from and to save.
        limit: How much goes through the layers at a time.
        sharded: The model, if it is sharded.

    Attributes:
        position: How far the training has come.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        observer: TrainingObserver,
        *,
        schedule: Schedule,
        objective: Objective,
        parameters: Mapping[str, nn.Parameter],
        joined: bool,
        eight_bits: bool,
        snapshot: Callable[[], Callable[[Path], None]],
        checkpoints: Checkpoints,
        limit: MemoryLimit,
        sharded: ShardedModel | None = None,
    ) -> None:
        self._spec = spec
        self._observer = observer
        self._schedule = schedule
        self._objective = objective
        self._snapshot = snapshot
        self._folder = WorkFolder(spec.work_path)
        decay = schedule.weight_decay
        self._optimizer: Optimizer | ShardedOptimizer = (
            Optimizer(parameters, weight_decay=decay, joined=joined, eight_bits=eight_bits)
            if sharded is None
            else ShardedOptimizer(sharded, weight_decay=decay)
        )
        self._checkpointer = Checkpointer(
            checkpoints, self._optimizer, spec.checkpoint_every_seconds
        )
        self.position: Position = self._checkpointer.restore()
        self._limit = limit
        limit.restore(self.position.max_tokens, self.position.recomputed_layers)
        self._results: ResultFile | None = None  # only the leader writes one
        if distributed.is_leader():
            self._results = ResultFile(
                self._folder.results,
                classification_columns(spec),
                objective.columns,
                self.position.results_length,
            )

    def run(self) -> StopRequest | None:
        """Do the remaining steps; return the request that stopped them early, if one did.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        steps_per_epoch = self._schedule.steps_per_epoch
        n_epochs = self._schedule.hyperparameters.n_epochs
        for epoch in range(self.position.step // steps_per_epoch, n_epochs):
            if self._has_stopped_improving(epoch):
                break
            batches = epoch_batches(
                self._objective.lengths,
                self._schedule.hyperparameters.batch_size,
                seed=self._spec.seed,
                epoch=epoch,
            )
            done = self.position.step - epoch * steps_per_epoch
            for indices in batches[done:]:
                stop = distributed.run_on_leader(self._observer.stop_requested)
                if stop is not None:
                    if stop != "cancel":
                        self._save()
                    return stop
                self._step(epoch + 1, indices)
        self._sync_results()
        return None

    def _step(self, epoch: int, indices: Sequence[int]) -> None:
        record = self._optimize(epoch, indices)
        ends_epoch = record.step % self._schedule.steps_per_epoch == 0
        record = self._validate(record, ends_epoch=ends_epoch)
        if self._results is not None:
            self._results.add(record)
        self._observer.step(record)
        if ends_epoch:
            self._end_epoch(record)
        if distributed.run_on_leader(self._checkpointer.is_due):
            self._save()

    def _optimize(self, epoch: int, indices: Sequence[int]) -> StepRecord:
        step = self.position.step + 1
        rate = learning_rate_at(step, self._schedule.total_steps, self._schedule.peak_rate)
        metrics = self._within_memory(partial(self._objective.backward, indices))
        self._optimizer.step(rate)
        if not math.isfinite(metrics.loss):
            multiplier = self._schedule.hyperparameters.learning_rate_multiplier
            msg = (
                f"The loss is no longer a number at step {step}. Use a smaller "
                f"learning_rate_multiplier; it was {multiplier}."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
        self.position = replace(
            self.position,
            step=step,
            elapsed_tokens=self.position.elapsed_tokens + metrics.tokens,
            elapsed_examples=self.position.elapsed_examples + len(indices),
        )
        return StepRecord(
            step=step,
            total_steps=self._schedule.total_steps,
            epoch=epoch,
            elapsed_tokens=self.position.elapsed_tokens,
            elapsed_examples=self.position.elapsed_examples,
            training_loss=metrics.loss,
            training_sequence_accuracy=metrics.sequence_accuracy,
            training_token_accuracy=metrics.token_accuracy,
            learning_rate=rate,
            extra=metrics.extra,
        )

    def _validate(self, record: StepRecord, *, ends_epoch: bool) -> StepRecord:
        """Add validation metrics: of all examples at the end of an epoch, of a batch at times."""
        count = self._objective.validation_count
        if count == 0:
            return record
        if ends_epoch:
            validation, classification = self._within_memory(self._objective.validate_all)
            return replace(
                record,
                validation=validation,
                classification=classification,
                extra=record.extra | validation.extra,
            )
        every = math.ceil(self._schedule.total_steps / _VALIDATIONS)
        if record.step % every:
            return record
        size = min(self._schedule.hyperparameters.batch_size, count)
        start = (record.step // every - 1) * size
        indices = [(start + offset) % count for offset in range(size)]
        validation = self._within_memory(partial(self._objective.validate, indices))
        return replace(record, validation=validation, extra=record.extra | validation.extra)

    def _within_memory(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which uses gradients for nothing but to add to them."""
        return self._limit.attempt(work, self._optimizer.clear, self._observer.note)

    def _end_epoch(self, record: StepRecord) -> None:
        n_epochs = self._schedule.hyperparameters.n_epochs
        self._observer.epoch(EpochRecord(record.epoch, n_epochs, record.step))
        self._compare_with_best(record)
        if record.epoch > n_epochs - SNAPSHOT_EPOCHS:
            folder = self._folder.snapshot(record.step)
            save = self._snapshot()
            if distributed.is_leader():
                write_folder(folder, save)
                self._observer.checkpoint(CheckpointRecord(record.step, folder, record))

    def _compare_with_best(self, record: StepRecord) -> None:
        """Remember an epoch with a lower validation loss, and keep its model if that is wanted.

        What a killed training repeats comes to the same epoch again, with the same weights.
        """
        wanted = self._spec.keep_best or self._spec.early_stopping is not None
        if not wanted or record.validation is None:
            return
        loss, best = record.validation.loss, self.position.best_loss
        is_better = math.isfinite(loss) and (best is None or loss < best)
        if not distributed.broadcast(is_better):
            return
        if self._spec.keep_best:
            save = self._snapshot()
            if distributed.is_leader():
                write_folder(self._folder.best(record.step), save)
                self._folder.keep_only_best(record.step)
        self.position = replace(
            self.position, best_step=record.step, best_epoch=record.epoch, best_loss=loss
        )

    def _has_stopped_improving(self, epochs_done: int) -> bool:
        """Return whether early stopping ends the training after so many epochs."""
        limit = self._spec.early_stopping
        if limit is None or self.position.best_epoch == 0:
            return False
        if epochs_done - self.position.best_epoch < limit:
            return False
        n_epochs = self._schedule.hyperparameters.n_epochs
        self._observer.note(
            "early_stopping",
            f"Ended after epoch {epochs_done} of {n_epochs}: the validation loss has not been "
            f"lower than in epoch {self.position.best_epoch} ({self.position.best_loss:.4g}).",
        )
        return True

    def _save(self) -> None:
        self.position = replace(
            self.position,
            results_length=self._sync_results(),
            max_tokens=self._limit.tokens,
            recomputed_layers=self._limit.recomputed_layers,
        )
        self._checkpointer.save(self.position)

    def _sync_results(self) -> int:
        """Flush the result file to the disk and return its bytes; 0 in a process without one."""
        return 0 if self._results is None else self._results.sync()
