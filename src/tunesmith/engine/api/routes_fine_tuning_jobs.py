"""`/v1/fine_tuning/jobs`: the fine-tuning jobs API."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith.engine.domain.job import JOBS_API
from tunesmith.engine.jobs import lifecycle
from tunesmith.engine.jobs.event_messages import KINDS
from tunesmith.engine.jobs.wire_objects import checkpoint_object, event_object, fine_tuning_job
from tunesmith.engine.store import job_queries

from .dependencies import CurrentKey, get_services
from .http_errors import invalid
from .job_operations import change_job, create_job, find_job, stream_events
from .job_requests import CreateFineTuningJob
from .keyed_route import KeyedRoute
from .pagination import check_limit, cursor_of, list_object, page_object

__all__ = ["router"]

router: APIRouter = APIRouter(
    prefix="/v1/fine_tuning/jobs", tags=["fine-tuning jobs"], route_class=KeyedRoute
)

_MAX_PAGE_SIZE = 1000
_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)


@router.post("", summary="Create a fine-tuning job")
def create_fine_tuning_job(
    request: Request, key: CurrentKey, body: CreateFineTuningJob
) -> JSONResponse:
    """Queue a job. Continue from a fine-tuned model by naming it as `model`."""
    return JSONResponse(fine_tuning_job(create_job(get_services(request), key, request, body)))


@router.get("", summary="List fine-tuning jobs")
def list_fine_tuning_jobs(
    request: Request, key: CurrentKey, after: str | None = None, limit: int = 20
) -> JSONResponse:
    """Return jobs, newest first; `metadata[key]=value` keeps those that carry it."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    wanted = {
        match[1]: value
        for name, value in request.query_params.items()
        if (match := _METADATA.fullmatch(name))
    }
    with get_services(request).database.read() as connection:
        cursor = find_job(connection, key, after) if after else None
        jobs = job_queries.list_jobs(
            connection, key.organization, after=cursor, limit=size + 1, metadata=wanted
        )
    data = [fine_tuning_job(job) for job in jobs[:size]]
    return JSONResponse(list_object(data, has_more=len(jobs) > size))


@router.get("/{fine_tuning_job_id}", summary="Retrieve a fine-tuning job")
def retrieve_fine_tuning_job(
    request: Request, key: CurrentKey, fine_tuning_job_id: str
) -> JSONResponse:
    """Return a job."""
    with get_services(request).database.read() as connection:
        return JSONResponse(fine_tuning_job(find_job(connection, key, fine_tuning_job_id)))


@router.post("/{fine_tuning_job_id}/cancel", summary="Cancel a fine-tuning job")
def cancel_fine_tuning_job(
    request: Request, key: CurrentKey, fine_tuning_job_id: str
) -> JSONResponse:
    """Cancel a job that has not ended."""
    job = change_job(get_services(request), key, fine_tuning_job_id, lifecycle.cancel)
    return JSONResponse(fine_tuning_job(job))


@router.post("/{fine_tuning_job_id}/pause", summary="Pause a fine-tuning job")
def pause_fine_tuning_job(
    request: Request, key: CurrentKey, fine_tuning_job_id: str
) -> JSONResponse:
    """Pause a job; a running training writes a checkpoint first."""
    job = change_job(get_services(request), key, fine_tuning_job_id, lifecycle.pause)
    return JSONResponse(fine_tuning_job(job))


@router.post("/{fine_tuning_job_id}/resume", summary="Resume a paused fine-tuning job")
def resume_fine_tuning_job(
    request: Request, key: CurrentKey, fine_tuning_job_id: str
) -> JSONResponse:
    """Put a paused job back into the queue; it resumes where it stopped."""
    job = change_job(get_services(request), key, fine_tuning_job_id, lifecycle.resume)
    return JSONResponse(fine_tuning_job(job))


@router.get("/{fine_tuning_job_id}/events", summary="List a fine-tuning job's events")
def list_fine_tuning_events(
    request: Request,
    key: CurrentKey,
    fine_tuning_job_id: str,
    after: str | None = None,
    limit: int = 20,
    *,
    stream: bool = False,
) -> Response:
    """Return events, newest first; with `stream`, all from the first as server-sent events."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    services = get_services(request)
    with services.database.read() as connection:
        job = find_job(connection, key, fine_tuning_job_id)
        if stream:
            return stream_events(request, job.id, JOBS_API, event_object)
        before = cursor_of(
            after, "event", lambda id_: job_queries.event_sequence(connection, job.id, id_)
        )
        events = job_queries.events_of(
            connection,
            job.id,
            before=before,
            kinds=KINDS[JOBS_API],
            limit=size + 1,
            descending=True,
        )
    return JSONResponse(page_object(events, size, event_object))


@router.get("/{fine_tuning_job_id}/checkpoints", summary="List a fine-tuning job's checkpoints")
def list_fine_tuning_checkpoints(
    request: Request,
    key: CurrentKey,
    fine_tuning_job_id: str,
    after: str | None = None,
    limit: int = 10,
) -> JSONResponse:
    """Return checkpoints, newest first. Each names a model that can be used."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    with get_services(request).database.read() as connection:
        job = find_job(connection, key, fine_tuning_job_id)
        rows = list(job_queries.checkpoints_of(connection, job.id))
    if after is not None:
        found = [index for index, row in enumerate(rows) if row.id == after]
        if not found:
            raise invalid(f"No such checkpoint to list after: {after}", param="after")
        rows = rows[found[0] + 1 :]
    data = [checkpoint_object(row) for row in rows[:size]]
    page = list_object(data, has_more=len(rows) > size)
    return JSONResponse(
        page | {"first_id": page["first_id"] or None, "last_id": page["last_id"] or None}
    )
