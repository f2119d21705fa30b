"""Which model will be asked for next: that of a job which begins, is about to end, or has ended.

Trainings are followed by their rows, so those of an earlier server are, too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tunesmith.engine.store import job_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tunesmith.engine.store.database import Database
    from tunesmith.engine.store.records import JobRow

__all__ = ["Foresight"]

_AHEAD_SECONDS = 60.0


class Foresight:
    """Follows the trainings and names models.

    Args:
        database: Where the jobs are.
        want: Called with a model's name and its organisation.
    """

    def __init__(self, database: Database, want: Callable[[str, str], None]) -> None:
        self._database = database
        self._want = want
        self._near_end: dict[str, bool] = {}

    def look(self, held: Sequence[JobRow]) -> None:
        """Take note of all jobs that a worker holds now.

        A training's base is wanted at its start, because it may be short, and again within
        a minute of its end, by when an idle generator may have been stopped.
        """
        running = {job.id: job for job in held if job.status == "running"}
        for job in running.values():
            self.begun(job)
            if not self._near_end[job.id] and _is_near_end(job):
                self._near_end[job.id] = True
                self._want_start_of(job)
        for job_id in self._near_end.keys() - running.keys():
            del self._near_end[job_id]
            with self._database.read() as connection:
                ended = job_rows.find(connection, job_id)
            if ended is not None and ended.fine_tuned_model is not None:
                self._want(ended.fine_tuned_model, ended.organization)

    def begun(self, job: JobRow) -> None:
        """Take note of a training that begins, unless it is known."""
        if job.id not in self._near_end:
            self._near_end[job.id] = False
            self._want_start_of(job)

    def _want_start_of(self, job: JobRow) -> None:
        self._want(job.parent_model or job.base_model, job.organization)


def _is_near_end(job: JobRow) -> bool:
    remaining = (job.estimated_finish or float("inf")) - time.time()
    return job.steps_done > 1 and remaining < _AHEAD_SECONDS
