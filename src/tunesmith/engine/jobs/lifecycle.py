"""The states of a job. Every change of status is made here, together with its events.

validating_files → queued ⇄ running → succeeded
each of these → failed | cancelled; queued, running ⇄ paused

All functions take a connection in a write transaction; those that take a job expect it
locked by the caller.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tunesmith.engine.domain.errors import JobStateError
from tunesmith.engine.store import job_queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tunesmith.engine.store.records import JobRow

__all__ = ["cancel", "create", "fail", "pause", "queue", "resume", "start"]

_PAUSABLE = ("validating_files", "queued", "running")


def create(connection: Connection, job: JobRow) -> None:
    """Add a new job, whose files are to be validated."""
    job_queries.insert_job(connection, job)
    job_queries.add_event(connection, job.id, "created", "created")
    job_queries.add_event(
        connection, job.id, "validating", "validating", {"file": job.training_file}
    )


def queue(connection: Connection, job: JobRow) -> None:
    """Queue a job whose files are valid."""
    job_queries.change(connection, job.id, status="queued", attempts=0)
    number = job_queries.waiting_before(connection, job)
    job_queries.add_event(connection, job.id, "enqueued", "enqueued", {"number": number})


def start(connection: Connection, job: JobRow) -> None:
    """Start the training of a job, for the first time or again."""
    job_queries.change(connection, job.id, status="running")
    job_queries.add_event(connection, job.id, "started", "started")


def fail(
    connection: Connection, job: JobRow, code: str, message: str, param: str | None = None
) -> None:
    """End the job with an error."""
    now = time.time()
    error = {"code": code, "message": message, "param": param}
    job_queries.change(connection, job.id, status="failed", finished_at=now, error=error)
    job_queries.add_event(
        connection, job.id, "failed", "failed", {"message": message, "code": code}, level="error"
    )


def cancel(connection: Connection, job: JobRow) -> None:
    """Cancel the job. A running training stops after its current step.

    Raises:
        JobStateError: The job has ended.
    """
    _refuse_if_ended(job, "cancelled")
    job_queries.change(connection, job.id, status="cancelled", finished_at=time.time())
    job_queries.add_event(connection, job.id, "cancelled", "cancelled")


def pause(connection: Connection, job: JobRow) -> None:
    """Pause the job. A running training writes a checkpoint, and its process exits.

    Raises:
        JobStateError: The job has ended, or is paused.
    """
    _refuse_if_ended(job, "paused")
    if job.status not in _PAUSABLE:
        raise JobStateError("The job is paused already.")
    job_queries.change(connection, job.id, status="paused")
    key = f"paused:{job.event_count}"
    data: dict[str, Any] = {"from": job.status}
    job_queries.add_event(connection, job.id, key, "paused", data)


def resume(connection: Connection, job: JobRow) -> None:
    """Put a paused job back into the queue.

    Raises:
        JobStateError: The job is not paused.
    """
    _refuse_if_ended(job, "resumed")
    if job.status != "paused":
        raise JobStateError(f"The job is not paused; its status is {job.status!r}.")
    was_validated = any(
        event.kind == "enqueued" for event in job_queries.events_of(connection, job.id)
    )
    status = "queued" if was_validated else "validating_files"
    job_queries.change(connection, job.id, status=status, attempts=0)
    job_queries.add_event(connection, job.id, f"resumed:{job.event_count}", "resumed")


def _refuse_if_ended(job: JobRow, what: str) -> None:
    if job.is_terminal:
        raise JobStateError(f"The job has already {_ENDED[job.status]}: it cannot be {what}.")


_ENDED = {"succeeded": "succeeded", "failed": "failed", "cancelled": "been cancelled"}
