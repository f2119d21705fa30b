"""The first page: the organisation's jobs, with filters, pages and each job's latest metrics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import and_, func, or_, select

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.domain.job import TERMINAL_STATUSES, internal_id
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.records import JobRow, from_row
from tunesmith.engine.store.schema import events, jobs

from .browser_session import SignedIn  # noqa: TC001 - FastAPI reads the annotation
from .job_notes import NOTE, TAGS, tags_of
from .page_routes import page_router
from .rendering import render

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = ["Filters", "find_jobs", "job_counts", "latest_metrics", "router"]

router: APIRouter = page_router()

UNFINISHED = "unfinished"
_PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show.

    Attributes:
        status: A status of the fine-tuning jobs API, "unfinished" for every job that has not
            ended, or "" for any.
        text: Part of an id, a suffix, a model's name, a tag or a note; "" for any.
    """

    status: str = ""
    text: str = ""

    def conditions(self, organization: str) -> list[ColumnElement[bool]]:
        """Return the conditions for the query of an organisation's jobs."""
        conditions = [jobs.c.organization == organization]
        if self.status == UNFINISHED:
            conditions.append(jobs.c.status.not_in(TERMINAL_STATUSES))
        elif self.status:
            conditions.append(jobs.c.status == self.status)
        text = internal_id(self.text.strip())
        if text:
            columns = (
                *(jobs.c.id, jobs.c.suffix, jobs.c.model, jobs.c.fine_tuned_model),
                *(jobs.c.metadata[name].as_string() for name in (TAGS, NOTE)),
            )
            conditions.append(or_(*(column.icontains(text, autoescape=True) for column in columns)))
        return conditions


@router.get("/")
def list_jobs(
    request: Request,
    key: SignedIn,
    *,
    status: str = "",
    text: str = "",
    before: str = "",
    version: str = "",
) -> Response:
    """Show jobs, newest first; for htmx only the table, and nothing if it has not changed."""
    filters = Filters(status, text[:200].replace("\0", ""))
    with get_services(request).database.read() as connection:
        cursor = job_queries.get(connection, key.organization, before) if before else None
        found = find_jobs(connection, key.organization, filters, cursor, _PAGE_SIZE + 1)
        page = found[:_PAGE_SIZE]
        counts = job_counts(connection, key.organization)
        metrics = latest_metrics(connection, [job.id for job in page])
    current_version = _version(page)
    partial = "hx-request" in request.headers
    if partial and version == current_version:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return render(
        request,
        "jobs_table.html" if partial else "jobs.html",
        jobs=page,
        metrics=metrics,
        tags={job.id: tags_of(job) for job in page},
        counts=counts,
        filters=filters,
        before=before,
        older=page[-1].id if len(found) > _PAGE_SIZE else None,
        version=current_version,
        busy=any(not job.is_terminal for job in page),
    )


def _version(page: Sequence[JobRow]) -> str:
    text = "\n".join(f"{job.id} {job.updated_at!r}" for job in page)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_jobs(
    connection: Connection, organization: str, filters: Filters, before: JobRow | None, limit: int
) -> Sequence[JobRow]:
    """Return jobs, newest first, that were created before `before`."""
    query = select(jobs).where(*filters.conditions(organization))
    if before is not None:
        same = and_(jobs.c.created_at == before.created_at, jobs.c.id < before.id)
        query = query.where(or_(jobs.c.created_at < before.created_at, same))
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    return [from_row(JobRow, row) for row in connection.execute(query)]


def job_counts(connection: Connection, organization: str) -> Mapping[str, int]:
    """Return the number of jobs by status, with "" for all and "unfinished" for those not ended."""
    query = select(jobs.c.status, func.count()).where(jobs.c.organization == organization)
    rows = connection.execute(query.group_by(jobs.c.status))
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    unfinished = sum(count for status, count in counts.items() if status not in TERMINAL_STATUSES)
    return {**counts, "": sum(counts.values()), UNFINISHED: unfinished}


def latest_metrics(connection: Connection, job_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return by job id the metrics of the last reported step; jobs without steps are left out."""
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
