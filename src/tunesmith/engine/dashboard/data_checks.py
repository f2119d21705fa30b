"""What the pages ask of `jobs.data_preparation`: files of an organisation, costs of a training.

Everything that is read of a file is read in that module's own process, never here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.training_defaults import (
    LEGACY_EPOCHS,
    default_batch_size,
    default_epochs,
)
from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.http_errors import not_found
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.store import file_queries, job_queries

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import Request
    from sqlalchemy import Connection

    from tunesmith.engine.api.dependencies import Services
    from tunesmith.engine.jobs.data_preparation import DataExaminer
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import FileRow
    from tunesmith.engine.training.estimates import TrainingCosts
    from tunesmith.types.job_parameters import RecipeChoice

__all__ = [
    "Forecast",
    "base_of",
    "examine_as_is",
    "examiner",
    "file_of",
    "forecast",
]

_MEASURED_JOBS = 5
_MOST_TIMES = 50.0  # what a measured training may be slower, or faster, than the arithmetic says


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job will take.

    Attributes:
        steps: Its steps.
        n_epochs: Its passes over the data.
        batch_size: Its examples of a step.
        recipe: How it will be trained.
        seconds: How long it takes, once it runs.
        memory_bytes: Its memory at the peak; None if that is not known.
        measured: On how many trainings of the same model the time rests; 0 for arithmetic alone.
    """

    steps: int
    n_epochs: int
    batch_size: int
    recipe: str
    seconds: float
    memory_bytes: int | None
    measured: int


def examiner(request: Request) -> DataExaminer:
    """Return what examines files."""
    found: DataExaminer = request.app.state.examiner
    return found


def file_of(request: Request, key: Identity, file_id: str) -> FileRow:
    """Return a file of the organisation.

    Raises:
        ApiError: 404: it has none of this id.
    """
    with get_services(request).database.read() as connection:
        row = file_queries.get(connection, key.organization, file_id)
    if row is None:
        raise not_found("file", file_id)
    return row


def base_of(services: Services, key: Identity, model: str) -> tuple[str, Path, int | None] | None:
    """Return id and folder of the base of a model, and the most tokens of its examples.

    Returns:
        None if there is no such model here.
    """
    try:
        trainable = services.models.trainable(model, key.organization)
        base = services.models.base(trainable.base_model)
    except RequestError:
        return None
    return base.id, base.path, services.config.example_limit(trainable.family)


def examine_as_is(
    request: Request, key: Identity, file_id: str, model: str, method: str
) -> dict[str, Any]:
    """Return whether a job could train on a file, and how many rows and tokens it has.

    Raises:
        ApiError: There is no such file.
        ExaminationError: It takes too much to find out.
    """
    services = get_services(request)
    row = file_of(request, key, file_id)
    base = base_of(services, key, model)
    order = {
        "as_is": True,
        "method": "dpo" if method == "dpo" else "supervised",
        "base_path": None if base is None else str(base[1]),
        "max_tokens": None if base is None else base[2],
    }
    return examiner(request).examine(services.blobs.path(row.sha256), row.filename, order)


def forecast(
    request: Request, key: Identity, model: str, tokens: dict[str, Any], wanted: dict[str, Any]
) -> Forecast | None:
    """Return what a job will take; None if that cannot be computed for its model.

    Args:
        request: The request.
        key: Who asks.
        model: The model to start from.
        tokens: "examples", "total" and "longest", as they were counted.
        wanted: "n_epochs", "batch_size", "recipe" of the job where they are given; "legacy" if it
            will be one of the legacy API.

    Raises:
        ExaminationError: It takes too long to find out.
    """
    services = get_services(request)
    base = base_of(services, key, model)
    if base is None:
        return None
    costs = examiner(request).costs(base[1], tokens["longest"])
    if costs is None:
        return None
    examples = tokens["examples"]
    batch_size = min(wanted.get("batch_size") or default_batch_size(examples), max(1, examples))
    default = LEGACY_EPOCHS if wanted.get("legacy") else default_epochs(examples)
    n_epochs = wanted.get("n_epochs") or default
    steps = -(-examples // batch_size)
    seconds = costs.time(tokens["total"], steps, n_epochs)
    choice: RecipeChoice = wanted.get("recipe") or services.config.recipe
    recipe = costs.recipe(choice, seconds)
    with services.database.read() as connection:
        times, measured = _measured(connection, key.organization, base[0], recipe, costs)
    return Forecast(
        steps=steps * n_epochs,
        n_epochs=n_epochs,
        batch_size=batch_size,
        recipe=recipe,
        seconds=seconds[recipe] * times,
        memory_bytes=costs.memory_bytes(recipe, tokens["longest"], batch_size),
        measured=measured,
    )


def _measured(
    connection: Connection, organization: str, base: str, recipe: str, costs: TrainingCosts
) -> tuple[float, int]:
    """Return how many times longer than computed trainings took, and from how many that is known.

    Jobs whose time or tokens were not kept say nothing.
    """
    taken = computed = 0.0
    measured = 0
    for job in job_queries.last_succeeded(connection, organization, base, limit=_MEASURED_JOBS):
        used = job.resolved_hyperparameters or {}
        epochs = int(used.get("n_epochs") or 1)
        trained_for = job_queries.training_seconds(connection, job)
        if trained_for is None or not job.trained_tokens:
            continue
        seconds = costs.time(job.trained_tokens // epochs, (job.total_steps or 0) // epochs, epochs)
        expected: float = seconds.get(recipe, 0.0)  # type: ignore[call-overload]
        if not expected:
            continue
        taken += trained_for
        computed += expected
        measured += 1
    if not measured or not taken:
        return 1.0, 0
    return min(_MOST_TIMES, max(1 / _MOST_TIMES, taken / computed)), measured
