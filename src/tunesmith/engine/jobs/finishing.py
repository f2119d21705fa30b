"""The end of a training: result file, model, events and status, in one transaction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tunesmith.engine.store import file_queries, job_queries, model_queries
from tunesmith.engine.store.blobs import BlobStore
from tunesmith.engine.store.records import FileRow, ModelRow, new_token

from . import leases, model_names

if TYPE_CHECKING:
    from tunesmith.engine.home import Home
    from tunesmith.engine.store.database import Database
    from tunesmith.engine.training.spec import TrainingOutcome

__all__ = ["finish"]

_RESULT_NAMES = {"fine-tunes": "compiled_results.csv", "fine-tuning": "step_metrics.csv"}


def finish(
    database: Database, home: Home, job_id: str, worker_id: str, outcome: TrainingOutcome
) -> None:
    """Store result file and model of a complete training, and mark its job as succeeded.

    A job that was cancelled or paused in the meantime keeps its status, and nothing is
    stored. If the transaction fails, calling this again is safe.

    Raises:
        LostLeaseError: Another process has the job.
    """
    if outcome.output_path is None:
        raise ValueError("a complete training has an output path")
    blobs = BlobStore(home.files)
    with blobs.add(outcome.results_path) as blob, database.write() as connection:
        job = leases.lock_claimed(connection, job_id, worker_id)
        if job.status != "running":
            leases.release(connection, job)
            return
        now = time.time()
        blobs.keep(blob)
        file = FileRow(
            id=f"file-{new_token()}",
            organization=job.organization,
            created_at=now,
            filename=_RESULT_NAMES[job.api],
            purpose="fine-tune-results",
            bytes=blob.bytes,
            sha256=blob.sha256,
        )
        file_queries.insert_file(connection, file)
        model = ModelRow(
            name=model_names.final_name(
                job, now, lambda name: model_queries.is_taken(connection, name)
            ),
            organization=job.organization,
            created_at=now,
            job_id=job.id,
            base_model=job.base_model,
            family=job.family,
            path=outcome.output_path.relative_to(home.root).as_posix(),
            prompt_format=job_queries.prompt_format_of(connection, job),
        )
        model_queries.insert_model(connection, model)
        job_queries.add_event(connection, job.id, "model", "model", {"model": model.name})
        job_queries.add_event(connection, job.id, "result", "result", {"file": file.id})
        job_queries.add_event(connection, job.id, "succeeded", "succeeded")
        leases.release(connection, job)
        job_queries.change(
            connection,
            job.id,
            status="succeeded",
            finished_at=now,
            estimated_finish=None,
            fine_tuned_model=model.name,
            result_file=file.id,
            trained_tokens=outcome.trained_tokens,
            total_steps=outcome.steps,  # early stopping does fewer than were planned
        )
