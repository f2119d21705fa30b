"""Which worker has which job: claims, heartbeats, and recovery when a worker has died.

A claim writes a random worker id into the job's row. Only that worker may write about the
job, and it checks its claim in each transaction. So a worker that was taken for dead and
comes back can do no harm.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select, update

from tunesmith.engine.domain.errors import LostLeaseError
from tunesmith.engine.domain.processes import process_exists
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.records import JobRow, new_token
from tunesmith.engine.store.schema import jobs

from . import lifecycle

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "Stage",
    "claim",
    "count_workers",
    "give_back",
    "has_local_process",
    "has_waiting_job",
    "heartbeat",
    "lock_claimed",
    "recover",
    "release",
    "set_pid",
]

Stage = Literal["validation", "training"]
"""What a worker does: check a job's files, or train."""

_WAITING: dict[Stage, str] = {"validation": "validating_files", "training": "queued"}


def count_workers(connection: Connection, stage: Stage) -> int:
    """Return how many workers of a stage have a job."""
    validating = jobs.c.status == "validating_files"
    of_stage = validating if stage == "validation" else ~validating
    query = select(func.count()).select_from(jobs).where(jobs.c.worker_id.is_not(None), of_stage)
    return connection.execute(query).scalar_one()


def has_waiting_job(connection: Connection, stage: Stage) -> bool:
    """Return whether a job waits for a worker of this stage."""
    query = select(jobs.c.id).where(jobs.c.status == _WAITING[stage], jobs.c.worker_id.is_(None))
    return connection.execute(query.limit(1)).first() is not None


def claim(connection: Connection, stage: Stage) -> JobRow | None:
    """Claim the next job for a new worker; None if no job waits.

    The organisation with the fewest claimed jobs comes first, then the oldest job. No organisation
    has two files validated at a time, so its slow ones delay nobody else's.
    """
    claimed = jobs.alias()
    busy = (
        select(func.count())
        .select_from(claimed)
        .where(claimed.c.organization == jobs.c.organization, claimed.c.worker_id.is_not(None))
        .scalar_subquery()
    )
    waits = (jobs.c.status == _WAITING[stage]) & jobs.c.worker_id.is_(None)
    if stage == "validation":
        validated = select(claimed.c.id).where(
            claimed.c.organization == jobs.c.organization,
            claimed.c.status == _WAITING[stage],
            claimed.c.worker_id.is_not(None),
        )
        waits &= ~validated.exists()
    query = (
        select(jobs.c.id)
        .where(waits)
        .order_by(busy, jobs.c.created_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs)
    )
    job_id = connection.execute(query).scalar()
    job = None if job_id is None else job_queries.lock(connection, job_id)
    if job is None:
        return None
    lease = {
        "worker_id": new_token(),
        "worker_host": socket.gethostname(),
        "worker_pid": None,
        "heartbeat_at": time.time(),
        "attempts": job.attempts + 1,
    }
    job_queries.change(connection, job.id, **lease)
    if stage == "training":
        lifecycle.start(connection, job)
    return job_queries.lock(connection, job.id)


def set_pid(connection: Connection, job: JobRow, pid: int | None) -> None:
    """Store the process that was started for a claimed job."""
    is_claimed = (jobs.c.id == job.id) & (jobs.c.worker_id == job.worker_id)
    connection.execute(update(jobs).where(is_claimed).values(worker_pid=pid))


def lock_claimed(connection: Connection, job_id: str, worker_id: str) -> JobRow:
    """Lock and return the job that this worker has claimed.

    Raises:
        LostLeaseError: The worker no longer has the job.
    """
    job = job_queries.lock(connection, job_id)
    if job is None or job.worker_id != worker_id:
        raise LostLeaseError(f"Another process has taken over the job {job_id}.")
    return job


def heartbeat(connection: Connection, job_id: str, worker_id: str) -> str:
    """Store that the worker is alive; return the job's status, by which it is told to stop.

    Raises:
        LostLeaseError: The worker no longer has the job.
    """
    is_claimed = (jobs.c.id == job_id) & (jobs.c.worker_id == worker_id)
    now = {"heartbeat_at": time.time(), "worker_pid": os.getpid()}
    if connection.execute(update(jobs).where(is_claimed).values(**now)).rowcount == 0:
        raise LostLeaseError(f"Another process has taken over the job {job_id}.")
    return str(connection.execute(select(jobs.c.status).where(is_claimed)).scalar_one())


def release(connection: Connection, job: JobRow) -> None:
    """End the claim on a job; a training that was interrupted goes back into the queue."""
    values: dict[str, object] = {
        "worker_id": None,
        "worker_host": None,
        "worker_pid": None,
        "heartbeat_at": None,
    }
    if job.status == "running":
        values["status"] = "queued"
    job_queries.change(connection, job.id, **values)


def give_back(connection: Connection, job: JobRow) -> None:
    """End a claim for which no process has been started: it was no attempt."""
    current = job_queries.lock(connection, job.id)
    if current is not None and current.worker_id == job.worker_id:
        release(connection, current)
        job_queries.change(connection, job.id, attempts=current.attempts - 1)


def has_local_process(job: JobRow) -> bool | None:
    """Return whether the process of a claimed job exists; None if that cannot be seen from here."""
    if job.worker_host != socket.gethostname() or job.worker_pid is None:
        return None
    return process_exists(job.worker_pid)


def recover(connection: Connection, job: JobRow, reason: str, max_attempts: int) -> None:
    """Take a job from a worker that has died; put it back into the queue or fail it.

    Args:
        connection: In a write transaction.
        job: The job, locked.
        reason: How the worker ended, as in "it was killed".
        max_attempts: Starts without progress after which the job fails.
    """
    worker_id = job.worker_id
    is_active = job.status in {"running", "validating_files"}
    release(connection, job)
    if not is_active:
        return
    job = dataclasses.replace(job, worker_id=None)
    if job.attempts >= max_attempts:
        message = (
            f"The process that worked on this job ended unexpectedly {job.attempts} times without "
            f"getting any further, the last time because it {reason}. Its log is worker.log in the "
            "job's folder on the engine."
        )
        lifecycle.fail(connection, job, "worker_died", message)
        return
    message = (
        f"The process that worked on this job ended unexpectedly: it {reason}. "
        f"It is restarted from its last checkpoint (attempt {job.attempts + 1} "
        f"of {max_attempts})."
    )
    job_queries.add_event(
        connection, job.id, f"lost:{worker_id}", "note", {"message": message}, level="warn"
    )
