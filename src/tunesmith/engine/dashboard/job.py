"""One job: its state, messages, curves, values and outcome, and what can be done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from tunesmith.engine.api.context import parts_of
from tunesmith.engine.api.job_access import change_job, find_job
from tunesmith.engine.jobs import lifecycle
from tunesmith.engine.jobs.event_messages import KINDS, message_of
from tunesmith.engine.store import file_rows, job_rows, model_rows

from .rendering import render
from .route import page_router, see_other
from .series import curve_columns, step_rows
from .visitor import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import Api, EventRow, JobRow

__all__ = ["router"]

router: APIRouter = page_router()

EventNumber = Annotated[int, Query(ge=0, lt=2**31)]

_UNCHANGED = 204
_MOST_FIGURES = 200
_KINDS = tuple({**dict.fromkeys(KINDS["fine-tunes"]), **dict.fromkeys(KINDS["fine-tuning"])})
_CHANGES = {
    "cancel": lifecycle.cancel,
    "pause": lifecycle.pause,
    "resume": lifecycle.resume,
}


@router.get("/jobs/{job_id}")
def show(request: Request, asker: SignedIn, job_id: str, *, steps: bool = False) -> Response:
    """Show a job whole; with `steps`, each step among its messages."""
    with parts_of(request).database.read() as connection:
        values = _state(connection, asker, job_id, behind=0, steps=steps)
    return render(request, "job.html", **values)


@router.get("/jobs/{job_id}/live")
def live(
    request: Request,
    asker: SignedIn,
    job_id: str,
    *,
    after: EventNumber = 0,
    state: str = "",
    steps: bool = False,
) -> Response:
    """Return what has changed on a job's page since its state was `state`."""
    with parts_of(request).database.read() as connection:
        values = _state(connection, asker, job_id, behind=after, steps=steps)
    if values["state"] == state and not values["messages"]:
        return Response(status_code=_UNCHANGED)
    previous = state.partition(":")[0]
    return render(
        request, "job_update.html", status_changed=previous != values["job"].status, **values
    )


@router.get("/jobs/{job_id}/series")
def series(request: Request, asker: SignedIn, job_id: str, behind: EventNumber = 0) -> Response:
    """Return the curves' points that were reported behind an event, as columns."""
    with parts_of(request).database.read() as connection:
        job = find_job(connection, asker, job_id)
        rows = step_rows(connection, job.id, behind=behind)
    return JSONResponse({**curve_columns(rows), "total_steps": job.total_steps})


@router.get("/jobs/{job_id}/figures")
def figures(request: Request, asker: SignedIn, job_id: str) -> Response:
    """Return the last steps' figures as a table."""
    with parts_of(request).database.read() as connection:
        job = find_job(connection, asker, job_id)
        rows = list(step_rows(connection, job.id))[-_MOST_FIGURES:]
    columns = curve_columns(rows)
    return render(request, "job_figures.html", job=job, rows=rows[::-1], names=columns["figures"])


@router.post("/jobs/{job_id}/{change}")
def act(request: Request, asker: Verified, job_id: str, change: str) -> Response:
    """Cancel, pause or resume a job."""
    if change in _CHANGES:
        change_job(parts_of(request), asker, job_id, _CHANGES[change])
    return see_other(request, f"/jobs/{job_id}")


def _state(
    connection: Connection, asker: Identity, job_id: str, *, behind: int, steps: bool
) -> dict[str, Any]:
    """Return all that the templates need, read in one snapshot."""
    job = find_job(connection, asker, job_id)
    kinds = _KINDS if steps else tuple(kind for kind in _KINDS if kind != "step")
    events = job_rows.events_of(connection, job.id, behind=behind, kinds=kinds, descending=True)
    file_ids = (job.training_file, job.validation_file, job.result_file)
    models = {row.name: row for row in model_rows.list_models(connection, asker.organization)}
    return {
        "job": job,
        "job_id": shown_id(job),
        "messages": [(event, _message(event, job.api)) for event in events],
        "files": {
            file_id: file_rows.get(connection, asker.organization, file_id)
            for file_id in file_ids
            if file_id is not None
        },
        "checkpoints": job_rows.checkpoints_of(connection, job.id),
        "existing": models,
        "started_at": _started_at(connection, job),
        "values": _values(job),
        "steps": steps,
        "state": f"{job.status}:{job.steps_done}:{job.event_count if job.is_terminal else 0}",
    }


def shown_id(job: JobRow) -> str:
    """Return a job's id in the API that it was created through."""
    return f"{'ft' if job.api == 'fine-tunes' else 'ftjob'}-{job.id}"


def _message(event: EventRow, api: Api) -> str:
    other: Api = "fine-tuning" if api == "fine-tunes" else "fine-tunes"
    return message_of(event, api if event.kind in KINDS[api] else other)


def _started_at(connection: Connection, job: JobRow) -> float | None:
    started = job_rows.events_of(connection, job.id, kinds=("started",), limit=1)
    return started[0].created_at if started else None


def _values(job: JobRow) -> Sequence[tuple[str, Any, Any]]:
    """Return hyperparameters as (name, asked for, in use)."""
    settled = job.settled or {}
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    rows = [(name, job.asked.get(name, "auto"), settled.get(name)) for name in names]
    rows += [(name, value, value) for name, value in job.asked.items() if name not in names]
    return rows
