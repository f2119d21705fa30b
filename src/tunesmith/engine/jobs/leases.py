"""Who works on what: claims, signs of life, and the recovery of jobs whose worker has died.

A claim writes a random text into the job's row. Its holder alone may write about the job,
and checks that in each transaction; so a worker that was given up for dead and comes
back can do no harm.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select, update

from tunesmith.engine.domain.errors import LostLeaseError
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.records import JobRow, new_token
from tunesmith.engine.store.schema import jobs

from . import lifecycle

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "Stage",
    "beat",
    "claim",
    "give_up",
    "held",
    "is_alive",
    "is_waiting",
    "launched",
    "occupied",
    "process_exists",
    "release",
]

Stage = Literal["validation", "training"]

_WAITING: dict[Stage, str] = {"validation": "validating_files", "training": "queued"}


def occupied(connection: Connection, stage: Stage) -> int:
    """Return how many workers of a stage hold a job."""
    validating = jobs.c.status == "validating_files"
    of_stage = validating if stage == "validation" else ~validating
    query = select(func.count()).select_from(jobs).where(jobs.c.worker_id.is_not(None), of_stage)
    return connection.execute(query).scalar_one()


def is_waiting(connection: Connection, stage: Stage) -> bool:
    """Return whether a job waits for a worker of this stage."""
    query = select(jobs.c.id).where(jobs.c.status == _WAITING[stage], jobs.c.worker_id.is_(None))
    return connection.execute(query.limit(1)).first() is not None


def claim(connection: Connection, stage: Stage) -> JobRow | None:
    """Take the job whose turn it is and start it; None if none waits.

    The organisation with the fewest trainings under way comes first, then the oldest job.
    """
    held = jobs.alias()
    busy = (
        select(func.count())
        .select_from(held)
        .where(held.c.organization == jobs.c.organization, held.c.worker_id.is_not(None))
        .scalar_subquery()
    )
    query = (
        select(jobs.c.id)
        .where(jobs.c.status == _WAITING[stage], jobs.c.worker_id.is_(None))
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


def launched(connection: Connection, job: JobRow, pid: int | None) -> None:
    """Note the process that was started for a claimed job."""
    mine = (jobs.c.id == job.id) & (jobs.c.worker_id == job.worker_id)
    connection.execute(update(jobs).where(mine).values(worker_pid=pid))


def held(connection: Connection, job_id: str, worker_id: str) -> JobRow:
    """Return the job, locked, if this worker still holds it.

    Raises:
        LostLeaseError: It does not.
    """
    job = job_queries.lock(connection, job_id)
    if job is None or job.worker_id != worker_id:
        raise LostLeaseError(f"Another process has taken over the job {job_id}.")
    return job


def beat(connection: Connection, job_id: str, worker_id: str) -> str:
    """Give a sign of life; return the job's status, which is the word to the worker.

    Raises:
        LostLeaseError: The worker no longer holds the job.
    """
    mine = (jobs.c.id == job_id) & (jobs.c.worker_id == worker_id)
    now = {"heartbeat_at": time.time(), "worker_pid": os.getpid()}
    if connection.execute(update(jobs).where(mine).values(**now)).rowcount == 0:
        raise LostLeaseError(f"Another process has taken over the job {job_id}.")
    return str(connection.execute(select(jobs.c.status).where(mine)).scalar_one())


def release(connection: Connection, job: JobRow) -> None:
    """Let go of a job that is held; one that was interrupted goes back into the queue."""
    values: dict[str, object] = {
        "worker_id": None,
        "worker_host": None,
        "worker_pid": None,
        "heartbeat_at": None,
    }
    if job.status == "running":
        values["status"] = "queued"
    job_queries.change(connection, job.id, **values)


def is_alive(job: JobRow, lease_seconds: float) -> bool:
    """Return whether a held job's worker can be taken to live."""
    if job.heartbeat_at is None or time.time() - job.heartbeat_at > lease_seconds:
        return False
    if job.worker_host != socket.gethostname() or job.worker_pid is None:
        return True
    return process_exists(job.worker_pid)


def give_up(connection: Connection, job: JobRow, how: str, max_attempts: int) -> None:
    """Take a job from a worker that has died, and queue it again or end it.

    Args:
        connection: In a write transaction.
        job: The job, locked.
        how: How the worker ended, in words.
        max_attempts: Starts without progress after which the job fails.
    """
    lost = job.worker_id
    active = job.status in {"running", "validating_files"}
    release(connection, job)
    if not active:
        return
    job = dataclasses.replace(job, worker_id=None)
    if job.attempts >= max_attempts:
        message = (
            f"The process that worked on this job ended unexpectedly {job.attempts} times without "
            f"getting any further, the last time because it {how}. Its log is worker.log in the "
            "job's folder on the engine."
        )
        lifecycle.fail(connection, job, "worker_died", message)
        return
    message = (
        f"The process that worked on this job ended unexpectedly: it {how}. "
        f"It is started again from its last checkpoint (attempt {job.attempts + 1} "
        f"of {max_attempts})."
    )
    job_queries.add_event(
        connection, job.id, f"lost:{lost}", "note", {"message": message}, level="warn"
    )


def process_exists(pid: int) -> bool:
    """Return whether a process of this machine still runs."""
    if os.name == "nt":
        return True  # no harmless question there; the heartbeat decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended and only waits to be noticed by its parent."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
