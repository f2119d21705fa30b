"""The training's observer: its records become events, rows and models in the database.

Each record is written at once, under a key that depends on the step alone. So a training
that was killed and repeats steps neither loses nor duplicates an event.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunesmith.engine.store import job_queries, model_queries
from tunesmith.engine.store.records import CheckpointRow, ModelRow, new_token

from . import leases, model_names

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from sqlalchemy import Connection

    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow
    from tunesmith.engine.training.spec import (
        CheckpointRecord,
        EpochRecord,
        StepRecord,
        StopRequest,
        TrainingPlan,
    )

__all__ = ["Reporter"]

_MAX_STEP_EVENTS = 1000  # of one job; the result file has every step


class Reporter:
    """Implements `TrainingObserver`.

    Args:
        database: Where the job is.
        job: The job, claimed by `worker_id`.
        worker_id: The worker.
        home: The state folder's root, to which paths of models are relative.
        shutdown: Returns whether this process was told to exit.
    """

    def __init__(
        self,
        database: Database,
        job: JobRow,
        worker_id: str,
        home: Path,
        shutdown: Callable[[], bool],
    ) -> None:
        self._database = database
        self._job = job
        self._worker_id = worker_id
        self._home = home
        self._shutdown = shutdown
        self._status = "running"
        self.has_plan: bool = False
        self._event_every = 1  # steps
        self._first_step: tuple[int, float] | None = None  # of this process, and its time

    def set_status(self, status: str) -> None:
        """Set the job's status, as the heartbeat has read it."""
        self._status = status

    def planned(self, plan: TrainingPlan) -> None:
        """Store the hyperparameters in use, and an event with the recipe."""
        resolved = asdict(plan.hyperparameters)
        self.has_plan = True
        self._event_every = max(1, -(-plan.total_steps // _MAX_STEP_EVENTS))
        message = (
            f"Training on {plan.examples} examples in {plan.total_steps} steps with the recipe "
            f"{plan.recipe!r}: {plan.reason}"
        )
        message += f". Trained by the {plan.path} path"
        if plan.path_reason:
            message += f": {plan.path_reason}"
        if plan.serving_path is not None:
            message += f"; served by the {plan.serving_path} path"
        with self._writing() as (connection, job):
            job_queries.change(
                connection, job.id, resolved_hyperparameters=resolved, total_steps=plan.total_steps
            )
            job_queries.add_event(connection, job.id, "plan", "note", {"message": message})

    def note(self, key: str, message: str) -> None:
        """Store an event."""
        with self._writing() as (connection, job):
            job_queries.add_event(connection, job.id, f"note:{key}", "note", {"message": message})

    def step(self, record: StepRecord) -> None:
        """Store progress, and the step's metrics unless there are too many steps."""
        now = time.time()
        progress: dict[str, Any] = {
            "steps_done": record.step,
            "estimated_finish": self._estimate(record, now),
            "trained_tokens": record.elapsed_tokens,
        }
        with self._writing() as (connection, job):
            if record.step > job.steps_done:
                job_queries.change(connection, job.id, attempts=1, **progress)
            if self._has_event(record):
                key = f"step:{record.step}"
                job_queries.add_event(connection, job.id, key, "step", _metrics(record))

    def epoch(self, record: EpochRecord) -> None:
        """Store the end of an epoch."""
        data = {"epoch": record.epoch, "n_epochs": record.n_epochs, "step": record.step}
        with self._writing() as (connection, job):
            job_queries.add_event(connection, job.id, f"epoch:{record.epoch}", "epoch", data)

    def checkpoint(self, record: CheckpointRecord) -> None:
        """Store a snapshot as a checkpoint and as a model."""
        now = time.time()
        with self._writing() as (connection, job):
            name = model_names.checkpoint_name(job, record.step)
            metrics = _checkpoint_metrics(record.record)
            row = CheckpointRow(f"ftckpt_{new_token()}", job.id, record.step, now, name, metrics)
            if not job_queries.insert_checkpoint(connection, row):
                return
            model_queries.insert_model(
                connection,
                ModelRow(
                    name=name,
                    organization=job.organization,
                    created_at=now,
                    job_id=job.id,
                    base_model=job.base_model,
                    family=job.family,
                    path=record.path.relative_to(self._home).as_posix(),
                    step=record.step,
                    prompt_format=job_queries.prompt_format_of(connection, job),
                ),
            )
            data = {"step": record.step, "model": name}
            job_queries.add_event(
                connection, job.id, f"checkpoint:{record.step}", "checkpoint", data
            )

    @contextmanager
    def _writing(self) -> Generator[tuple[Connection, JobRow]]:
        """Yield a connection in a write transaction, and the job as it is now.

        If the job has ended, for example because it was cancelled, nothing is written.
        """
        with self._database.write() as connection:
            job = leases.lock_claimed(connection, self._job.id, self._worker_id)
            self._status = job.status
            yield connection, job
            if job.is_terminal:
                connection.rollback()

    def stop_requested(self) -> StopRequest | None:
        """Return the request that follows from the job's status or a signal to this process."""
        if self._status == "running":
            return "shutdown" if self._shutdown() else None
        return "cancel" if self._status in {"cancelled", "failed"} else "pause"

    def _estimate(self, record: StepRecord, now: float) -> float | None:
        """Return when the training will end, at the pace so far; one step alone has none."""
        if self._first_step is None:
            self._first_step = (record.step, now)
            return None
        first, started = self._first_step
        per_step = (now - started) / max(1, record.step - first)
        return now + per_step * (record.total_steps - record.step)

    def _has_event(self, record: StepRecord) -> bool:
        return (
            record.step % self._event_every == 0
            or record.step in {1, record.total_steps}
            or record.validation is not None
            or bool(record.classification)
        )


def _metrics(record: StepRecord) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "step": record.step,
        "total_steps": record.total_steps,
        "train_loss": record.training_loss,
        "train_mean_token_accuracy": record.training_token_accuracy,
        "train_sequence_accuracy": record.training_sequence_accuracy,
        "learning_rate": record.learning_rate,
        "elapsed_tokens": record.elapsed_tokens,
        "elapsed_examples": record.elapsed_examples,
    }
    if record.validation is not None:
        prefix = "full_valid" if record.validation.full else "valid"
        metrics[f"{prefix}_loss"] = record.validation.loss
        metrics[f"{prefix}_mean_token_accuracy"] = record.validation.token_accuracy
        metrics[f"{prefix}_sequence_accuracy"] = record.validation.sequence_accuracy
    metrics |= {f"classification/{name}": value for name, value in record.classification.items()}
    return metrics | record.extra


_CHECKPOINT_METRICS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)


def _checkpoint_metrics(record: StepRecord) -> dict[str, Any]:
    metrics = _metrics(record)
    return {name: metrics[name] for name in _CHECKPOINT_METRICS if name in metrics}
