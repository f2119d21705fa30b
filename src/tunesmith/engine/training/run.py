"""One training from its specification to its outcome."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from tunesmith.disk_space import NotEnoughSpaceError
from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.domain.exhausted import (
    DISK_FULL,
    OUT_OF_MEMORY,
    is_disk_full,
    is_out_of_memory,
)

from . import distributed
from .checkpoint import FolderCheckpoints, Position
from .hyperparameters import base_learning_rate
from .loop import Schedule, TrainingLoop
from .preparation import Preparation
from .sharded_checkpoints import ShardedCheckpoints
from .spec import TrainingOutcome, TrainingPlan
from .work_folder import Summary, WorkFolder, read_summary, write_folder, write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .checkpoint import Checkpoints
    from .preparation import TrainableModel
    from .spec import StopRequest, TrainingObserver, TrainingSpec

__all__ = ["run"]

_FULL_WEIGHT_DECAY = 0.01


def run(spec: TrainingSpec, observer: TrainingObserver) -> TrainingOutcome:
    """Train; see `tunesmith.engine.training.train`.

    Where a `torch.distributed` process group is initialised, each of its processes calls
    this, and they share every batch. Only rank 0's observer receives complete records.

    Args:
        spec: The job.
        observer: Receives what happens.
    """
    with _friendly_errors():
        summary = read_summary(spec.output_path)
        if summary is not None:  # killed after it had written its model
            return _outcome(spec, None, Position(summary.steps, summary.trained_tokens))
        folder = WorkFolder(spec.work_path)
        distributed.run_on_leader(folder.prepare)
        choices = folder.read_choices()
        return _run(
            spec.model_copy(update=choices),
            observer,
            folder,
            is_resumed=bool(choices),
        )


def _run(
    spec: TrainingSpec,
    observer: TrainingObserver,
    folder: WorkFolder,
    *,
    is_resumed: bool,
) -> TrainingOutcome:
    torch.set_num_threads(spec.threads or torch.get_num_threads())
    should_continue = _StopPoll(observer)
    prepared = Preparation(spec, folder, should_continue)
    model, data, recipe = prepared.model, prepared.data, prepared.recipe
    for key, message in data.notes():
        observer.note(key, message)
    if not is_resumed:
        prepared.check_disk_space()
    if distributed.is_leader():
        folder.freeze_choices(recipe.recipe, torch.get_num_threads(), prepared.optimizer)
    sets = prepared.example_sets()
    if sets is None:
        return _outcome(spec, should_continue.request, Position())
    trainable = prepared.trainable_model()
    values = prepared.hyperparameters
    schedule = Schedule(
        values,
        examples=data.rows,
        peak_rate=base_learning_rate(spec, recipe.recipe) * values.learning_rate_multiplier,
        weight_decay=_FULL_WEIGHT_DECAY if recipe.recipe == "full" else 0.0,
    )
    with model.only_layers(recipe.first_layer):
        objective = prepared.objective(*sets, observer.note)
        if objective is None:
            return _outcome(spec, should_continue.request, Position())
        loop = TrainingLoop(
            spec,
            observer,
            schedule=schedule,
            objective=objective,
            parameters=trainable.parameters,
            joined=recipe.adapter is not None,
            eight_bits=prepared.optimizer == "adamw_8bit" and recipe.adapter is None,
            limit=prepared.limit,
            snapshot=trainable.snapshot,
            checkpoints=_checkpoints(folder, trainable),
            sharded=trainable.sharded,
        )
        observer.planned(
            TrainingPlan(
                hyperparameters=values,
                recipe=recipe.recipe,
                reason=recipe.reason,
                examples=data.rows,
                validation_examples=len(data.validation) * data.rows // len(data.train),
                tokens_per_epoch=data.tokens,
                total_steps=schedule.total_steps,
                start_step=loop.position.step,
                path=model.path,
                path_reason=model.path_reason,
                serving_path=spec.serving_path,
            )
        )
        if data.classes is not None:
            observer.note("classes", data.classes.advice())
        for key, message in prepared.notes():
            observer.note(key, message)
        stopped = loop.run()
    if stopped is None:
        position = loop.position
        best = position.best_step if spec.keep_best else 0
        summary = Summary(
            spec.base_model, recipe.recipe, position.step, position.elapsed_tokens, best
        )
        _publish(
            spec.output_path,
            _saved_best(folder, position, observer) if best else trainable.snapshot(),
            summary,
        )
    return _outcome(spec, stopped, loop.position)


class _StopPoll:
    """Asks the observer whether to continue, and keeps the request that said no."""

    def __init__(self, observer: TrainingObserver) -> None:
        self._observer = observer
        self.request: StopRequest | None = None

    def __call__(self) -> bool:
        self.request = self._observer.stop_requested()
        return self.request is None


def _checkpoints(folder: WorkFolder, trainable: TrainableModel) -> Checkpoints:
    kind = FolderCheckpoints if trainable.sharded is None else ShardedCheckpoints
    return kind(folder.checkpoints)


def _publish(folder: Path, save_model: Callable[[Path], None], summary: Summary) -> None:
    def save(temporary: Path) -> None:
        save_model(temporary)
        write_summary(temporary, summary)

    if distributed.is_leader():
        write_folder(folder, save)


def _saved_best(
    folder: WorkFolder, position: Position, observer: TrainingObserver
) -> Callable[[Path], None]:
    """Return what copies the best epoch's model, and report which one that is."""
    observer.note(
        "keep_best",
        f"The model is that of epoch {position.best_epoch} (step {position.best_step}), whose "
        f"validation loss is the lowest: {position.best_loss:.4g}.",
    )

    def copy(target: Path) -> None:
        shutil.copytree(folder.best(position.best_step), target, dirs_exist_ok=True)

    return copy


def _outcome(
    spec: TrainingSpec, stopped: StopRequest | None, position: Position
) -> TrainingOutcome:
    return TrainingOutcome(
        stopped=stopped,
        trained_tokens=position.elapsed_tokens,
        steps=position.step,
        results_path=WorkFolder(spec.work_path).results,
        output_path=None if stopped else spec.output_path,
    )


@contextmanager
def _friendly_errors() -> Iterator[None]:
    """Turn a full disk and too little memory into errors that say what to do."""
    try:
        yield
    except NotEnoughSpaceError as error:
        raise TrainingError(str(error), "disk_full") from error
    except (OSError, SafetensorError) as error:
        if is_disk_full(error):
            raise TrainingError(DISK_FULL, "disk_full") from error
        raise
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise TrainingError(OUT_OF_MEMORY, "out_of_memory") from error
        raise
