"""Removes a job that has ended: its row, events, checkpoints and folder.

What came out of it and is used by its own name stays: models, and files such as its results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from tunesmith.disk_space import folder_bytes
from tunesmith.engine.domain.errors import EngineError
from tunesmith.engine.domain.job import internal_id

from . import job_queries
from .removal import remove, set_aside
from .schema import jobs, models

if TYPE_CHECKING:
    from tunesmith.engine.home import Home

    from .database import Database

__all__ = ["remove_job"]


def remove_job(home: Home, database: Database, job_id: str) -> int:
    """Remove a job; return the bytes of its folder, which are free again.

    Args:
        home: The state folder.
        database: Its database.
        job_id: The id, as either API shows it.

    Raises:
        EngineError: There is no such job, it has not ended, or models are in its folder.
    """
    with database.write() as connection:
        job = job_queries.lock(connection, internal_id(job_id))
        if job is None:
            raise EngineError(f"There is no job {job_id} in {home.root}.")
        if not job.is_terminal or job.worker_id is not None:
            raise EngineError(f"The job {job_id} is {job.status}. Cancel it, or wait for its end.")
        folder = home.job(job.id)
        rows = connection.execute(select(models.c.name, models.c.path))
        inside = [row.name for row in rows if folder in (home.root / row.path).parents]
        if inside:
            raise EngineError(
                f"The folder of the job {job_id} holds the models {', '.join(inside)}. Delete them "
                "first: tunesmith api models.delete"
            )
        size = folder_bytes(folder)
        connection.execute(delete(jobs).where(jobs.c.id == job.id))
        aside = set_aside(folder)
    if aside is not None:
        remove(aside)
    return size
