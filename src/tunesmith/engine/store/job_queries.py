"""Queries on jobs and their events.

Whatever changes a job locks its row first (`lock`), so that its events are numbered
without gaps and a status is never overwritten by one that was decided on older news.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, insert, or_, select, update

from tunesmith.engine.domain.job import TERMINAL_STATUSES

from .creation_order import page
from .records import CheckpointRow, EventRow, JobRow, from_row, new_token
from .schema import checkpoints, events, files, jobs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

__all__ = [
    "add_event",
    "change",
    "checkpoints_of",
    "event_counts",
    "event_sequence",
    "events_of",
    "find",
    "get",
    "insert_checkpoint",
    "insert_job",
    "last_succeeded",
    "list_jobs",
    "lock",
    "prompt_format_of",
    "unfinished",
    "unfinished_count",
    "waiting_before",
]


def insert_job(connection: Connection, row: JobRow) -> None:
    """Add a job."""
    connection.execute(insert(jobs).values({name: getattr(row, name) for name in JobRow.__slots__}))


def get(connection: Connection, organization: str, job_id: str) -> JobRow | None:
    """Return a job of the organisation."""
    query = select(jobs).where(jobs.c.id == job_id, jobs.c.organization == organization)
    row = connection.execute(query).first()
    return None if row is None else from_row(JobRow, row)


def find(connection: Connection, job_id: str) -> JobRow | None:
    """Return a job of any organisation."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else from_row(JobRow, row)


def lock(connection: Connection, job_id: str) -> JobRow | None:
    """Return a job as it is now and keep others from changing it until the transaction ends."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).first()
    return None if row is None else from_row(JobRow, row)


def change(connection: Connection, job_id: str, **values: object) -> None:
    """Set columns of a locked job."""
    values.setdefault("updated_at", time.time())
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def add_event(
    connection: Connection,
    job_id: str,
    key: str,
    kind: str,
    data: Mapping[str, Any] | None = None,
    *,
    level: str = "info",
) -> None:
    """Append an event to a locked job, unless it already has one with this key."""
    known = select(events.c.sequence).where(events.c.job_id == job_id, events.c.key == key)
    if connection.execute(known).first() is not None:
        return
    count = select(jobs.c.event_count).where(jobs.c.id == job_id)
    sequence = connection.execute(count).scalar_one() + 1
    connection.execute(
        insert(events).values(
            job_id=job_id,
            sequence=sequence,
            id=f"ftevent-{new_token()}",
            key=key,
            created_at=time.time(),
            level=level,
            kind=kind,
            data=dict(data or {}),
        )
    )
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(event_count=sequence))


def list_jobs(
    connection: Connection,
    organization: str,
    *,
    after: JobRow | None = None,
    limit: int | None = None,
    metadata: Mapping[str, str] | None = None,
    descending: bool = True,
) -> Sequence[JobRow]:
    """Return jobs in order of creation, from the one after `after` on."""
    query = select(jobs).where(jobs.c.organization == organization)
    for key, value in (metadata or {}).items():
        query = query.where(jobs.c.metadata[key].as_string() == value)
    query = page(query, jobs, after=after, limit=limit, descending=descending)
    return [from_row(JobRow, row) for row in connection.execute(query)]


def unfinished(connection: Connection) -> Sequence[JobRow]:
    """Return the jobs that wait, run, pause or are still leased by a worker, oldest first."""
    query = select(jobs).where(
        or_(jobs.c.status.not_in(TERMINAL_STATUSES), jobs.c.worker_id.is_not(None))
    )
    query = query.order_by(jobs.c.created_at, jobs.c.id)
    return [from_row(JobRow, row) for row in connection.execute(query)]


def unfinished_count(connection: Connection, organization: str) -> int:
    """Return how many of the organisation's jobs have not ended."""
    query = select(func.count()).where(
        jobs.c.organization == organization, jobs.c.status.not_in(TERMINAL_STATUSES)
    )
    return connection.execute(query).scalar_one()


def waiting_before(connection: Connection, job: JobRow) -> int:
    """Return how many unfinished jobs came before this one."""
    query = select(func.count()).where(
        jobs.c.status.in_(("validating_files", "queued", "running")),
        or_(
            jobs.c.created_at < job.created_at,
            and_(jobs.c.created_at == job.created_at, jobs.c.id < job.id),
        ),
    )
    return connection.execute(query).scalar_one()


def events_of(
    connection: Connection,
    job_id: str,
    *,
    after: int = 0,
    before: int | None = None,
    kinds: Collection[str] | None = None,
    limit: int | None = None,
    descending: bool = False,
) -> Sequence[EventRow]:
    """Return events with `after` < sequence < `before`."""
    query = select(events).where(events.c.job_id == job_id, events.c.sequence > after)
    if before is not None:
        query = query.where(events.c.sequence < before)
    if kinds is not None:
        query = query.where(events.c.kind.in_(kinds))
    order = events.c.sequence.desc() if descending else events.c.sequence.asc()
    query = query.order_by(order).limit(limit)
    return [from_row(EventRow, row) for row in connection.execute(query)]


def started_at(connection: Connection, job_id: str) -> float | None:
    """Return when the training of a job began; None if it has not."""
    started = events_of(connection, job_id, kinds=("started",), limit=1)
    return started[0].created_at if started else None


def training_seconds(connection: Connection, job: JobRow) -> float | None:
    """Return how long an ended job took from the start of its training; None for any other."""
    started = started_at(connection, job.id)
    return None if started is None or job.finished_at is None else job.finished_at - started


def event_sequence(connection: Connection, job_id: str, event_id: str) -> int | None:
    """Return the sequence of the event with this id."""
    query = select(events.c.sequence).where(events.c.job_id == job_id, events.c.id == event_id)
    return connection.execute(query).scalar()


def event_counts(connection: Connection, job_ids: Collection[str]) -> dict[str, tuple[int, bool]]:
    """Return for each job how many events it has and whether it has ended."""
    query = select(jobs.c.id, jobs.c.event_count, jobs.c.status).where(jobs.c.id.in_(job_ids))
    return {
        identity: (count, status in TERMINAL_STATUSES)
        for identity, count, status in connection.execute(query)
    }


def insert_checkpoint(connection: Connection, row: CheckpointRow) -> bool:
    """Add a checkpoint; return False if the job has one at this step already."""
    known = select(checkpoints.c.id).where(
        checkpoints.c.job_id == row.job_id, checkpoints.c.step == row.step
    )
    if connection.execute(known).first() is not None:
        return False
    values = {name: getattr(row, name) for name in CheckpointRow.__slots__}
    connection.execute(insert(checkpoints).values(values))
    return True


def checkpoints_of(connection: Connection, job_id: str) -> Sequence[CheckpointRow]:
    """Return a job's checkpoints, newest first."""
    query = (
        select(checkpoints)
        .where(checkpoints.c.job_id == job_id)
        .order_by(checkpoints.c.step.desc())
    )
    return [from_row(CheckpointRow, row) for row in connection.execute(query)]


def prompt_format_of(connection: Connection, job: JobRow) -> dict[str, Any] | None:
    """Return the prompt format that the job's training file was uploaded with."""
    query = select(files.c.prompt_format).where(files.c.id == job.training_file)
    return connection.execute(query).scalar()


def last_succeeded(
    connection: Connection, organization: str, base_model: str, *, limit: int
) -> Sequence[JobRow]:
    """Return the jobs of a base model that succeeded last, newest first."""
    query = (
        select(jobs)
        .where(
            jobs.c.organization == organization,
            jobs.c.base_model == base_model,
            jobs.c.status == "succeeded",
        )
        .order_by(jobs.c.finished_at.desc())
        .limit(limit)
    )
    return [from_row(JobRow, row) for row in connection.execute(query)]
