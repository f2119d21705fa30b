"""Several jobs side by side: their curves over each other, and what differs between them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.job_operations import find_job
from tunesmith.engine.domain.job import public_id
from tunesmith.engine.store import file_queries, job_queries

from .browser_session import SignedIn  # noqa: TC001 - FastAPI reads the annotation
from .job_notes import notes_of
from .page_job import hyperparameters_of, last_values
from .page_jobs import Filters, find_jobs
from .page_routes import page_router
from .rendering import duration, number, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from tunesmith.engine.store.records import JobRow

__all__ = ["router"]

router: APIRouter = page_router()

_MOST = 12
_OFFERED = 50
# Metric → its name for people, in the order of the table.
_RESULTS = {
    "train_loss": "Training loss, last step",
    "train_mean_token_accuracy": "Training token accuracy, last step",
    "full_valid_loss": "Validation loss, last",
    "full_valid_mean_token_accuracy": "Validation token accuracy, last",
    "valid_loss": "Validation loss of one batch, last",
}
_Row = tuple[str, list[str], bool]


@router.get("/compare")
def compare(
    request: Request,
    key: SignedIn,
    job: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Show jobs side by side, and others that can be added."""
    with get_services(request).database.read() as connection:
        asked = list(dict.fromkeys(job))
        jobs = list(
            {row.id: row for row in (find_job(connection, key, one) for one in asked)}.values()
        )
        shown = jobs[:_MOST]
        others = [
            row
            for row in find_jobs(connection, key.organization, Filters(), None, _OFFERED)
            if row.id not in {one.id for one in jobs}
        ]
        settings = _settings(connection, key.organization, shown)
        results = _results(connection, shown)
    ids = [public_id(row.id, row.api) for row in shown]
    labels = _labels(shown, ids)
    return render(
        request,
        "compare.html",
        jobs=list(zip(shown, ids, labels, strict=True)),
        left_out=len(jobs) - len(shown),
        others=[(row, public_id(row.id, row.api)) for row in others],
        sections=[("Settings", settings), ("Results", results)],
        curves=json.dumps(
            [{"id": one, "label": label} for one, label in zip(ids, labels, strict=True)]
        ),
    )


def _labels(jobs: Sequence[JobRow], ids: Sequence[str]) -> list[str]:
    """Return a short name of each job, different from the others': by what differs, or its id."""
    names = [job.suffix or one for job, one in zip(jobs, ids, strict=True)]
    used = [job.resolved_hyperparameters or job.requested_hyperparameters for job in jobs]
    differing = [
        name
        for name in dict.fromkeys(name for values in used for name in values)
        if len({number(values.get(name)) for values in used}) > 1
    ]
    settings = [
        ", ".join(f"{name} {number(values.get(name))}" for name in differing) for values in used
    ]
    labels: list[str] = []
    for name, one, setting in zip(names, ids, settings, strict=True):
        alike = [other for same, other in zip(names, settings, strict=True) if same == name]
        if len(alike) == 1:
            labels.append(name)
        else:
            labels.append(f"{name} · {setting if alike.count(setting) == 1 else one[-4:]}")
    return labels


def _row(name: str, values: Sequence[object]) -> _Row:
    shown = [number(value) for value in values]
    return name, shown, len(set(shown)) > 1


def _settings(connection: Connection, organization: str, jobs: Sequence[JobRow]) -> list[_Row]:
    rows = [
        _row("Model", [job.model for job in jobs]),
        _row("Training file", [_name(connection, organization, job.training_file) for job in jobs]),
        _row(
            "Validation file",
            [_name(connection, organization, job.validation_file) for job in jobs],
        ),
        _row("Method", [job.method for job in jobs]),
        _row("Seed", [job.seed for job in jobs]),
    ]
    used = [
        {
            name: requested if resolved is None else resolved
            for name, requested, resolved in hyperparameters_of(job)
        }
        for job in jobs
    ]
    names = dict.fromkeys(name for values in used for name in values)
    rows += [_row(name, [values.get(name) for values in used]) for name in names]
    notes = [notes_of(job) for job in jobs]
    rows += [
        _row(name.capitalize(), [one.get(name) for one in notes])
        for name in ("tags", "note")
        if any(name in one for one in notes)
    ]
    return rows


def _name(connection: Connection, organization: str, file_id: str | None) -> str | None:
    if file_id is None:
        return None
    row = file_queries.get(connection, organization, file_id)
    return file_id if row is None else f"{row.filename} ({file_id[-4:]})"


def _results(connection: Connection, jobs: Sequence[JobRow]) -> list[_Row]:
    measured = [last_values(connection, job.id) for job in jobs]
    extra = dict.fromkeys(
        name for values in measured for name in values if name.startswith("classification/")
    )
    names = {**_RESULTS, **{name: name.removeprefix("classification/") for name in extra}}
    return [
        _row("Status", [job.status for job in jobs]),
        _row("Steps", [job.steps_done for job in jobs]),
        _row("Trained tokens", [job.trained_tokens for job in jobs]),
        _row("Took", [_took(connection, job) for job in jobs]),
        *(
            _row(label, [values.get(name) for values in measured])
            for name, label in names.items()
            if any(name in values for values in measured)
        ),
        _row("Fine-tuned model", [job.fine_tuned_model for job in jobs]),
    ]


def _took(connection: Connection, job: JobRow) -> str | None:
    seconds = job_queries.training_seconds(connection, job)
    return None if seconds is None else duration(seconds)
