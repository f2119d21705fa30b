"""A form for a new job, or several. Its values are checked as the API checks a request's body."""

from __future__ import annotations

import itertools
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from fastapi import APIRouter, Depends, Query, Request, Response

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.http_errors import ApiError
from tunesmith.engine.api.job_operations import create_job, find_job
from tunesmith.engine.api.job_requests import CreateFineTune, CreateFineTuningJob
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.domain.job import LEGACY_API, public_id
from tunesmith.engine.store import file_queries, model_queries
from tunesmith.engine.store.records import new_token
from tunesmith.types.fine_tuning import FineTuningJobHyperparameters
from tunesmith.types.job_parameters import (
    OWN_PARAMETERS,
    RECIPES,
    JobParameter,
    job_parameter,
    parameters_of,
)

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .data_checks import examine_as_is, forecast
from .form_fields import form_lists, single_values
from .job_notes import NOTE, TAGS, notes_of, write_notes
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import JobRow

__all__ = ["router"]

router: APIRouter = page_router()

_MAX_FILES = 200
_MAX_JOBS = 12
_TOP_LEVEL = ("training_file", "validation_file", "model", "recipe")
_SETTINGS = parameters_of("jobs", hyperparameters=False)
_HYPERPARAMETERS = tuple(map(job_parameter, FineTuningJobHyperparameters.model_fields))
# Only the legacy API has these. A list of numbers is no field of a form.
_CLASSIFICATION = tuple(
    parameter
    for parameter in parameters_of("legacy", hyperparameters=False)
    if parameter not in _SETTINGS and parameter.type != "floats"
)

_FIELDS = {
    parameter.name: parameter for parameter in _SETTINGS + _HYPERPARAMETERS + _CLASSIFICATION
}
_ADVANCED = {"recipe", "seed", "method"} | {
    parameter.name for parameter in OWN_PARAMETERS + _CLASSIFICATION
}
_KNOWN = {*_TOP_LEVEL, *_FIELDS, "method", TAGS, NOTE}
_Text = Annotated[str, Query(max_length=300)]


def _names(parameters: tuple[JobParameter, ...]) -> list[str]:
    return [parameter.name for parameter in parameters]


def _expected(name: str) -> str | None:
    """Return what a field of the form takes, None for one that is not a setting."""
    parameter = _FIELDS.get(name)
    if parameter is None:
        return None
    if parameter.type == "int":
        least, most = parameter.minimum, parameter.maximum
        return f"Enter a whole number from {least} to {most}, or nothing."
    if parameter.above is not None:
        return f"Enter a number above {parameter.above}, or nothing."
    if parameter.minimum is not None:
        return f"Enter a number from {parameter.minimum} to {parameter.maximum}, or nothing."
    most, fewer = parameter.max_length.get("jobs"), parameter.max_length.get("legacy")
    if most is not None:
        return f"Enter at most {most} characters, with classification metrics at most {fewer}."
    return None


@router.get("/new-job")
def show(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    key: SignedIn,
    file: _Text = "",
    validation: _Text = "",
    model: _Text = "",
    method: _Text = "",
    like: _Text = "",
) -> Response:
    """Show the form.

    `file`, `validation`, `model` and `method` preselect their options, `like` fills in the
    settings of a job.
    """
    values = {"training_file": file, "validation_file": validation, "model": model}
    if like:
        with get_services(request).database.read() as connection:
            values = _values_of(find_job(connection, key, like))
    if method:
        values["method"] = method
    return _form(request, key, values, {})


def _values_of(job: JobRow) -> dict[str, str]:
    """Return the form's values that make such a job again."""
    settings = {
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "model": job.model,
        "suffix": job.suffix,
        "seed": job.seed,
        "method": job.method,
        "like": public_id(job.id, job.api),
        **notes_of(job),
        **job.requested_hyperparameters,
    }
    is_legacy = job.api == LEGACY_API and "compute_classification_metrics" in settings
    kept = {
        name: value for name, value in settings.items() if is_legacy or name in _KNOWN | {"like"}
    }
    return {
        name: "true" if value is True else str(value)
        for name, value in kept.items()
        if value is not None and value is not False
    }


@router.get("/new-job/plan")
def plan(request: Request, key: SignedIn) -> Response:
    """Show rows, tokens and faults of the chosen files, and the button if a job can be made."""
    values = {name: value for name, value in request.query_params.items() if name in _KNOWN}
    file_id = values.get("training_file", "")
    if not file_id:
        return render(request, "new_job_plan.html", found=None, values=values, jobs=1, problems={})
    problems = _file_problems(request, key, values)
    found: dict[str, Any] = {}
    if "training_file" not in problems:
        found = _examined(request, key, values, "training_file")
    return render(
        request,
        "new_job_plan.html",
        found=found,
        values=values,
        jobs=len(list(_sweep(values))),
        problems=problems,
        asked=request.url.query,
    )


@router.get("/new-job/estimate")
def estimate(request: Request, key: SignedIn) -> Response:
    """Show the time and the memory that the job will take."""
    values = {name: value for name, value in request.query_params.items() if name in _KNOWN}
    found = None
    jobs = list(itertools.islice(_sweep(values), _MAX_JOBS))
    try:
        tokens = _examined(request, key, values, "training_file").get("tokens")
        if tokens:
            all_found = [
                forecast(request, key, values.get("model", ""), tokens, _wanted(one))
                for one in jobs
            ]
            found = [one for one in all_found if one is not None]
    except (ApiError, RequestError):
        found = None
    return render(request, "new_job_estimate.html", found=found)


def _wanted(values: Mapping[str, str]) -> dict[str, Any]:
    def whole(name: str) -> int | None:
        text = values.get(name, "").strip()
        return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 2**31 else None

    recipe = values.get("recipe")
    return {
        "n_epochs": whole("n_epochs"),
        "batch_size": whole("batch_size"),
        "recipe": recipe if recipe in RECIPES else None,
        "legacy": "compute_classification_metrics" in values,
    }


def _examined(
    request: Request, key: Identity, values: Mapping[str, str], name: str
) -> dict[str, Any]:
    model, method = values.get("model", ""), values.get("method", "")
    return examine_as_is(request, key, values[name], model, method)


def _file_problems(request: Request, key: Identity, values: Mapping[str, str]) -> dict[str, str]:
    """Return by field why its file cannot be trained on."""
    problems: dict[str, str] = {}
    for name in ("training_file", "validation_file"):
        if not values.get(name):
            continue
        try:
            found = _examined(request, key, values, name)
        except (ApiError, RequestError) as error:
            problems[name] = error.message
            continue
        if not found.get("ok"):
            left = found.get("left") or []
            first = left[0]["message"] if left else found.get("unlearnable") or found.get("problem")
            problems[name] = f"This file cannot be trained on: {first}"
    return problems


def _sweep(values: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield the values of each job: every combination of the values with commas between them."""
    several = {
        name: [part.strip() for part in values[name].split(",") if part.strip()]
        for name in _names(_HYPERPARAMETERS)
        if "," in values.get(name, "")
    }
    # Jobs that are to be compared differ in these values alone.
    same = {"seed": values.get("seed", "").strip() or str(secrets.randbelow(2**31))}
    for chosen in itertools.product(*several.values()):
        yield {**values, **(same if several else {}), **dict(zip(several, chosen, strict=True))}


@router.post("/new-job")
def create(
    request: Request, key: Verified, form: Annotated[dict[str, list[str]], Depends(form_lists)]
) -> Response:
    """Create the job or jobs, or show the form again with what is wrong beside each field."""
    values = single_values(form)
    bodies, problems = _bodies(values)
    if not values.get("training_file"):
        problems["training_file"] = "Choose a file to train on."
    problems = _file_problems(request, key, values) | problems
    if problems:
        return _form(request, key, values, problems)
    jobs: list[JobRow] = []
    for body in bodies:
        try:
            jobs.append(create_job(get_services(request), key, request, body))
        except (ApiError, RequestError) as error:
            made = f" {len(jobs)} of the jobs were created." if jobs else ""
            return _form(request, key, values, {error.param or "": error.message + made})
    tags = values.get(TAGS, "")
    if len(jobs) > 1:
        tags = ", ".join(filter(None, [tags, f"sweep {new_token()[:6]}"]))
    for job in jobs:
        write_notes(get_services(request), key, job.id, tags, values.get(NOTE, ""))
    ids = [public_id(job.id, job.api) for job in jobs]
    if len(ids) == 1:
        return see_other(request, f"/jobs/{ids[0]}")
    return see_other(request, "/compare?" + "&".join(f"job={one}" for one in ids))


def _bodies(
    values: Mapping[str, str],
) -> tuple[list[CreateFineTune | CreateFineTuningJob], dict[str, str]]:
    """Return the request bodies of a form, and by field what is wrong with its values."""
    wanted = list(itertools.islice(_sweep(values), _MAX_JOBS + 1))
    if len(wanted) > _MAX_JOBS:
        name = next(name for name in _names(_HYPERPARAMETERS) if "," in values.get(name, ""))
        return [], {name: f"These values make more than {_MAX_JOBS} jobs. Take fewer."}
    bodies: list[CreateFineTune | CreateFineTuningJob] = []
    problems: dict[str, str] = {}
    for one in wanted:
        try:
            bodies.append(_body(one))
        except pydantic.ValidationError as error:
            for fault in error.errors():
                name = next((str(part) for part in reversed(fault["loc"]) if part in _KNOWN), "")
                problems.setdefault(name, _expected(name) or f"{fault['msg']}.")
    return bodies, problems


def _body(values: Mapping[str, str]) -> CreateFineTune | CreateFineTuningJob:
    """Return the request body of a form.

    Only the legacy API has classification metrics, so they decide which API it is.

    Raises:
        pydantic.ValidationError: A value is not one that the API takes.
    """
    entered = {name: value.strip("\r\n") for name, value in values.items() if value.strip()}

    def take(names: Iterable[str]) -> dict[str, Any]:
        return {name: entered[name] for name in names if name in entered}

    top_level = take([*_TOP_LEVEL, *_names(_SETTINGS)])
    hyperparameters = take(_names(_HYPERPARAMETERS))
    if "compute_classification_metrics" in entered:
        classes = take(_names(_CLASSIFICATION))
        return CreateFineTune.model_validate({**top_level, **hyperparameters, **classes})
    method = entered.get("method", "supervised")
    config = {"type": method, method: {"hyperparameters": hyperparameters}}
    return CreateFineTuningJob.model_validate({**top_level, "method": config})


def _form(
    request: Request, key: Identity, values: dict[str, str], problems: dict[str, str]
) -> Response:
    services = get_services(request)
    with services.database.read() as connection:
        files = file_queries.list_files(
            connection, key.organization, purpose="fine-tune", limit=_MAX_FILES
        )
        models = model_queries.list_models(connection, key.organization)
    return render(
        request,
        "new_job.html",
        status=HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        files=files,
        base_models=list(services.models.installed_names()),
        models=[model for model in models if model.step is None][::-1],
        recipes=RECIPES,
        hyperparameters=_HYPERPARAMETERS,
        seed=job_parameter("seed"),
        own=OWN_PARAMETERS,
        classification=_CLASSIFICATION,
        opened=bool(_ADVANCED & {*problems})
        or any(values.get(name, "") not in {"", "supervised"} for name in _ADVANCED),
        values=values,
        problems=problems,
        unplaced=[message for name, message in problems.items() if name not in _KNOWN],
        max_bytes=services.config.limits.file_bytes,
    )
