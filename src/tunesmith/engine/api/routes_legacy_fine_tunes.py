"""`/v1/fine-tunes`: the legacy API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith.engine.domain.job import LEGACY_API
from tunesmith.engine.jobs import lifecycle
from tunesmith.engine.jobs.event_messages import KINDS
from tunesmith.engine.jobs.wire_objects import fine_tune, fine_tune_event
from tunesmith.engine.store import file_queries, job_queries

from .dependencies import CurrentKey, get_services
from .job_operations import change_job, create_job, find_job, stream_events
from .job_requests import CreateFineTune
from .keyed_route import KeyedRoute

if TYPE_CHECKING:
    from tunesmith.engine.store.records import FileRow, JobRow

    from .dependencies import Services

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1/fine-tunes", tags=["fine-tunes"], route_class=KeyedRoute)


@router.post("", summary="Create a fine-tune")
def create_fine_tune(request: Request, key: CurrentKey, body: CreateFineTune) -> JSONResponse:
    """Queue a job. Continue from a fine-tuned model by naming it as `model`."""
    services = get_services(request)
    return JSONResponse(_payload(services, create_job(services, key, request, body)))


@router.get("", summary="List fine-tunes")
def list_fine_tunes(request: Request, key: CurrentKey) -> JSONResponse:
    """Return all jobs, oldest first, without their events."""
    services = get_services(request)
    with services.database.read() as connection:
        jobs = job_queries.list_jobs(connection, key.organization, descending=False)
        files = {file.id: file for file in file_queries.list_files(connection, key.organization)}
    return JSONResponse({"object": "list", "data": [fine_tune(job, files) for job in jobs]})


@router.get("/{fine_tune_id}", summary="Retrieve a fine-tune")
def retrieve_fine_tune(request: Request, key: CurrentKey, fine_tune_id: str) -> JSONResponse:
    """Return a job with its events."""
    services = get_services(request)
    with services.database.read() as connection:
        job = find_job(connection, key, fine_tune_id)
    return JSONResponse(_payload(services, job))


@router.post("/{fine_tune_id}/cancel", summary="Cancel a fine-tune")
def cancel_fine_tune(request: Request, key: CurrentKey, fine_tune_id: str) -> JSONResponse:
    """Cancel a job that has not ended."""
    services = get_services(request)
    return JSONResponse(
        _payload(services, change_job(services, key, fine_tune_id, lifecycle.cancel))
    )


@router.get("/{fine_tune_id}/events", summary="List or stream a fine-tune's events")
def list_fine_tune_events(
    request: Request, key: CurrentKey, fine_tune_id: str, *, stream: bool = False
) -> Response:
    """Return the events, oldest first; with `stream`, as data-only server-sent events."""
    services = get_services(request)
    with services.database.read() as connection:
        job = find_job(connection, key, fine_tune_id)
        if stream:
            return stream_events(request, job.id, LEGACY_API, fine_tune_event)
        events = job_queries.events_of(connection, job.id, kinds=KINDS[LEGACY_API])
    data = [fine_tune_event(event) for event in events]
    return JSONResponse({"object": "list", "data": data})


def _payload(services: Services, job: JobRow) -> dict[str, Any]:
    with services.database.read() as connection:
        named = [job.training_file, job.validation_file, job.result_file]
        found = [file_queries.get(connection, job.organization, file) for file in named if file]
        files: dict[str, FileRow] = {file.id: file for file in found if file is not None}
        events = job_queries.events_of(connection, job.id, kinds=KINDS[LEGACY_API])
    return fine_tune(job, files, events)
