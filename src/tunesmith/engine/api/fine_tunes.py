"""`/v1/fine-tunes`: the first fine-tuning API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith.engine.jobs import lifecycle
from tunesmith.engine.jobs.event_messages import KINDS
from tunesmith.engine.jobs.wire_objects import fine_tune, fine_tune_event
from tunesmith.engine.store import file_rows, job_rows

from .context import Asker, parts_of
from .event_stream import stream_events
from .job_access import change_job, create_job, find_job
from .job_requests import CreateFineTune

if TYPE_CHECKING:
    from tunesmith.engine.store.records import FileRow, JobRow

    from .context import Parts

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1/fine-tunes", tags=["fine-tunes"])

_API: Final = "fine-tunes"


@router.post("", summary="Create a fine-tune")
def create_fine_tune(request: Request, asker: Asker, body: CreateFineTune) -> JSONResponse:
    """Queue a job. Continue from a fine-tuned model by naming it as `model`."""
    parts = parts_of(request)
    return JSONResponse(_shown(parts, create_job(parts, asker, request, body)))


@router.get("", summary="List fine-tunes")
def list_fine_tunes(request: Request, asker: Asker) -> JSONResponse:
    """Return all jobs, oldest first, without their events."""
    parts = parts_of(request)
    with parts.database.read() as connection:
        jobs = job_rows.list_jobs(connection, asker.organization, descending=False)
        files = {file.id: file for file in file_rows.list_files(connection, asker.organization)}
    return JSONResponse({"object": "list", "data": [fine_tune(job, files) for job in jobs]})


@router.get("/{fine_tune_id}", summary="Retrieve a fine-tune")
def retrieve_fine_tune(request: Request, asker: Asker, fine_tune_id: str) -> JSONResponse:
    """Return a job with its events."""
    parts = parts_of(request)
    with parts.database.read() as connection:
        job = find_job(connection, asker, fine_tune_id)
    return JSONResponse(_shown(parts, job))


@router.post("/{fine_tune_id}/cancel", summary="Cancel a fine-tune")
def cancel_fine_tune(request: Request, asker: Asker, fine_tune_id: str) -> JSONResponse:
    """End a job that has not ended."""
    parts = parts_of(request)
    return JSONResponse(_shown(parts, change_job(parts, asker, fine_tune_id, lifecycle.cancel)))


@router.get("/{fine_tune_id}/events", summary="List or stream a fine-tune's events")
def list_fine_tune_events(
    request: Request, asker: Asker, fine_tune_id: str, *, stream: bool = False
) -> Response:
    """Return the events, oldest first; with `stream`, as data-only server-sent events."""
    parts = parts_of(request)
    with parts.database.read() as connection:
        job = find_job(connection, asker, fine_tune_id)
        if stream:
            return stream_events(parts.watcher, job.id, _API, fine_tune_event)
        events = job_rows.events_of(connection, job.id, kinds=KINDS[_API])
    shown = [fine_tune_event(event) for event in events]
    return JSONResponse({"object": "list", "data": shown})


def _shown(parts: Parts, job: JobRow) -> dict[str, Any]:
    with parts.database.read() as connection:
        named = [job.training_file, job.validation_file, job.result_file]
        found = [file_rows.get(connection, job.organization, file) for file in named if file]
        files: dict[str, FileRow] = {file.id: file for file in found if file is not None}
        events = job_rows.events_of(connection, job.id, kinds=KINDS[_API])
    return fine_tune(job, files, events)
