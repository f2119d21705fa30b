"""One job: its state, messages, curves, hyperparameters and results; cancel, pause, resume."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import JSONResponse

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.job_operations import change_job, find_job
from tunesmith.engine.domain.job import JOBS_API, LEGACY_API, public_id
from tunesmith.engine.jobs import lifecycle
from tunesmith.engine.jobs.event_messages import KINDS, event_message
from tunesmith.engine.store import file_queries, job_queries, model_queries
from tunesmith.types.fine_tuning import FineTuningJobHyperparameters

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .job_notes import NOTE, TAGS, notes_of, tags_of, write_notes
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from tunesmith.engine.domain.job import Api
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import EventRow, JobRow

__all__ = ["curve_columns", "hyperparameters_of", "router", "step_rows"]

router: APIRouter = page_router()

EventNumber = Annotated[int, Query(ge=0, lt=2**31)]

_MAX_METRIC_ROWS = 200
_NOT_CURVES = ("step", "total_steps")
_KINDS = tuple(dict.fromkeys((*KINDS[LEGACY_API], *KINDS[JOBS_API])))
_ACTIONS = {
    "cancel": lifecycle.cancel,
    "pause": lifecycle.pause,
    "resume": lifecycle.resume,
}


@router.get("/jobs/{job_id}")
def show(request: Request, key: SignedIn, job_id: str, *, steps: bool = False) -> Response:
    """Show a whole job; with `steps`, the messages include each step."""
    with get_services(request).database.read() as connection:
        values = _state(connection, key, job_id, after=0, steps=steps)
    return render(request, "job.html", **values)


@router.get("/jobs/{job_id}/live")
def live(
    request: Request,
    key: SignedIn,
    job_id: str,
    *,
    after: EventNumber = 0,
    state: str = "",
    steps: bool = False,
) -> Response:
    """Return what has changed on a job's page since its state was `state`."""
    with get_services(request).database.read() as connection:
        values = _state(connection, key, job_id, after=after, steps=steps)
    if values["state"] == state and not values["messages"]:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    previous = state.partition(":")[0]
    return render(
        request, "job_update.html", status_changed=previous != values["job"].status, **values
    )


@router.get("/jobs/{job_id}/series")
def series(request: Request, key: SignedIn, job_id: str, after: EventNumber = 0) -> Response:
    """Return the points of the curves that were reported after an event, as columns."""
    with get_services(request).database.read() as connection:
        job = find_job(connection, key, job_id)
        rows = step_rows(connection, job.id, after=after)
    return JSONResponse({**curve_columns(rows), "total_steps": job.total_steps})


@router.get("/jobs/{job_id}/metrics")
def metrics(request: Request, key: SignedIn, job_id: str) -> Response:
    """Return the metrics of the last steps as a table."""
    with get_services(request).database.read() as connection:
        job = find_job(connection, key, job_id)
        rows = list(step_rows(connection, job.id))[-_MAX_METRIC_ROWS:]
    columns = curve_columns(rows)
    return render(request, "job_metrics.html", job=job, rows=rows[::-1], names=columns["metrics"])


@router.post("/jobs/{job_id}/notes")
def set_notes(
    request: Request,
    key: Verified,
    job_id: str,
    tags: Annotated[str, Form(max_length=2000)] = "",
    note: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Set tags and note of a job."""
    write_notes(get_services(request), key, job_id, tags, note)
    return see_other(request, f"/jobs/{job_id}#notes")


@router.post("/jobs/{job_id}/{action}")
def change(request: Request, key: Verified, job_id: str, action: str) -> Response:
    """Cancel, pause or resume a job."""
    if action in _ACTIONS:
        change_job(get_services(request), key, job_id, _ACTIONS[action])
    return see_other(request, f"/jobs/{job_id}")


def _state(
    connection: Connection, key: Identity, job_id: str, *, after: int, steps: bool
) -> dict[str, Any]:
    """Return what the templates need, read in one snapshot."""
    job = find_job(connection, key, job_id)
    kinds = _KINDS if steps else tuple(kind for kind in _KINDS if kind != "step")
    events = job_queries.events_of(connection, job.id, after=after, kinds=kinds, descending=True)
    file_ids = (job.training_file, job.validation_file, job.result_file)
    models = {row.name: row for row in model_queries.list_models(connection, key.organization)}
    return {
        "job": job,
        "job_id": public_id(job.id, job.api),
        "messages": [(event, _message(event, job.api)) for event in events],
        "files": {
            file_id: file_queries.get(connection, key.organization, file_id)
            for file_id in file_ids
            if file_id is not None
        },
        "checkpoints": job_queries.checkpoints_of(connection, job.id),
        "existing": models,
        "started_at": job_queries.started_at(connection, job.id),
        "values": hyperparameters_of(job),
        "notes": notes_of(job),
        "tags": tags_of(job),
        "other_metadata": {
            name: value for name, value in (job.metadata or {}).items() if name not in {TAGS, NOTE}
        },
        "steps": steps,
        "state": f"{job.status}:{job.steps_done}:{job.event_count if job.is_terminal else 0}",
    }


def _message(event: EventRow, api: Api) -> str:
    other: Api = JOBS_API if api == LEGACY_API else LEGACY_API
    return event_message(event, api if event.kind in KINDS[api] else other)


def hyperparameters_of(job: JobRow) -> Sequence[tuple[str, Any, Any]]:
    """Return hyperparameters as (name, requested, resolved)."""
    requested, resolved = job.requested_hyperparameters, job.resolved_hyperparameters or {}
    names = FineTuningJobHyperparameters.model_fields
    rows = [(name, requested.get(name, "auto"), resolved.get(name)) for name in names]
    return rows + [(name, value, value) for name, value in requested.items() if name not in names]


def step_rows(connection: Connection, job_id: str, *, after: int = 0) -> Sequence[EventRow]:
    """Return the events with metrics whose sequence is above `after`, in order of their steps.

    A step that was trained twice, because a killed training resumed from its last checkpoint,
    was reported once.
    """
    rows = job_queries.events_of(connection, job_id, after=after, kinds=("step",))
    return sorted(rows, key=lambda row: row.data["step"])


def last_values(connection: Connection, job_id: str) -> dict[str, Any]:
    """Return the last value of each metric that a job reported."""
    found: dict[str, Any] = {}
    for row in step_rows(connection, job_id):
        found |= {name: value for name, value in row.data.items() if value is not None}
    return found


def curve_columns(rows: Sequence[EventRow]) -> dict[str, Any]:
    """Return `steps` and, for each metric of any row, a list of that length; null where absent."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(name for name in row.data if name not in _NOT_CURVES)
    return {
        "steps": [row.data["step"] for row in rows],
        "metrics": {name: [_number(row.data.get(name)) for row in rows] for name in names},
        "last": max((row.sequence for row in rows), default=0),
    }


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
