"""The list of jobs: filters, pages, and the last figures of each job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select

from tunesmith.engine.store.records import TERMINAL, JobRow, from_row
from tunesmith.engine.store.schema import events, jobs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = ["Filters", "find_jobs", "job_counts", "last_figures"]

UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show.

    Attributes:
        status: A status of the second API, "unfinished" for all that have not ended, or "".
        text: Part of an id, a suffix or a model's name; "" for any.
    """

    status: str = ""
    text: str = ""

    def conditions(self, organization: str) -> list[ColumnElement[bool]]:
        """Return them for the query of an organisation's jobs."""
        found = [jobs.c.organization == organization]
        if self.status == UNFINISHED:
            found.append(jobs.c.status.not_in(TERMINAL))
        elif self.status:
            found.append(jobs.c.status == self.status)
        text = self.text.strip()
        for prefix in ("ftjob-", "ft-"):
            text = text.removeprefix(prefix)
        if text:
            columns = (jobs.c.id, jobs.c.suffix, jobs.c.model, jobs.c.fine_tuned_model)
            found.append(or_(*(column.icontains(text, autoescape=True) for column in columns)))
        return found


def find_jobs(
    connection: Connection, organization: str, filters: Filters, before: JobRow | None, limit: int
) -> Sequence[JobRow]:
    """Return jobs, newest first, beginning behind `before`."""
    query = select(jobs).where(*filters.conditions(organization))
    if before is not None:
        same = and_(jobs.c.created_at == before.created_at, jobs.c.id < before.id)
        query = query.where(or_(jobs.c.created_at < before.created_at, same))
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    return [from_row(JobRow, row) for row in connection.execute(query)]


def job_counts(connection: Connection, organization: str) -> Mapping[str, int]:
    """Return the number of jobs by status, with "" for all and "unfinished" for those."""
    query = select(jobs.c.status, func.count()).where(jobs.c.organization == organization)
    rows = connection.execute(query.group_by(jobs.c.status))
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    unfinished = sum(count for status, count in counts.items() if status not in TERMINAL)
    return {**counts, "": sum(counts.values()), UNFINISHED: unfinished}


def last_figures(connection: Connection, job_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the figures of each job's last reported step, of those that have one."""
    last = (
        select(events.c.job_id, func.max(events.c.sequence).label("sequence"))
        .where(events.c.job_id.in_(job_ids), events.c.kind == "step")
        .group_by(events.c.job_id)
        .subquery()
    )
    query = select(events.c.job_id, events.c.data).join(
        last, and_(events.c.job_id == last.c.job_id, events.c.sequence == last.c.sequence)
    )
    return {row.job_id: row.data for row in connection.execute(query)}
