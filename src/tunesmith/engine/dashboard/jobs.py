"""The first page: the organisation's jobs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from tunesmith.engine.api.context import parts_of
from tunesmith.engine.store import job_rows

from .listing import Filters, find_jobs, job_counts, last_figures
from .rendering import render
from .route import page_router
from .visitor import SignedIn  # noqa: TC001 - FastAPI reads the annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.engine.store.records import JobRow

__all__ = ["router"]

router: APIRouter = page_router()

_PAGE = 50
_UNCHANGED = 204


@router.get("/")
def list_jobs(
    request: Request,
    asker: SignedIn,
    *,
    status: str = "",
    text: str = "",
    before: str = "",
    version: str = "",
) -> Response:
    """Show jobs, newest first; for htmx only the table, and nothing if it is as it was."""
    filters = Filters(status, text[:200].replace("\0", ""))
    with parts_of(request).database.read() as connection:
        place = job_rows.get(connection, asker.organization, before) if before else None
        found = find_jobs(connection, asker.organization, filters, place, _PAGE + 1)
        shown = found[:_PAGE]
        counts = job_counts(connection, asker.organization)
        figures = last_figures(connection, [job.id for job in shown])
    now_version = _version(shown)
    partial = "hx-request" in request.headers
    if partial and version == now_version:
        return Response(status_code=_UNCHANGED)
    return render(
        request,
        "jobs_table.html" if partial else "jobs.html",
        jobs=shown,
        figures=figures,
        counts=counts,
        filters=filters,
        before=before,
        older=shown[-1].id if len(found) > _PAGE else None,
        version=now_version,
        busy=any(not job.is_terminal for job in shown),
    )


def _version(jobs: Sequence[JobRow]) -> str:
    text = "\n".join(f"{job.id} {job.updated_at!r}" for job in jobs)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
