"""A form for a new job. Its values are checked as the API checks a request's body."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from fastapi import APIRouter, Depends, Request, Response

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.http_errors import ApiError
from tunesmith.engine.api.job_operations import create_job
from tunesmith.engine.api.job_requests import CreateFineTune, CreateFineTuningJob
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.domain.job import public_id
from tunesmith.engine.store import file_queries, model_queries
from tunesmith.types.fine_tuning import FineTuningJobHyperparameters
from tunesmith.types.job_parameters import (
    OWN_PARAMETERS,
    RECIPES,
    JobParameter,
    job_parameter,
    parameters_of,
)

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunesmith.engine.security.keys import Identity

__all__ = ["router"]

router: APIRouter = page_router()

_MAX_FILES = 200
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
    most, fewer = parameter.max_length.get("jobs"), parameter.max_length.get("legacy")
    if most is not None:
        return f"Enter at most {most} characters, with classification metrics at most {fewer}."
    return None


@router.get("/new-job")
def show(request: Request, key: SignedIn, file: str = "", model: str = "") -> Response:
    """Show the form; `file` and `model` preselect the options of these names."""
    return _form(request, key, {"training_file": file, "model": model}, None)


async def _form_values(request: Request) -> dict[str, str]:
    form = await request.form(max_files=0, max_fields=40)
    return {name: str(value) for name, value in form.items() if name != "form_token"}


@router.post("/new-job")
def create(
    request: Request, key: Verified, values: Annotated[dict[str, str], Depends(_form_values)]
) -> Response:
    """Create the job, or show the form again with what is wrong."""
    try:
        body = _body(values)
        job = create_job(get_services(request), key, request, body)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = next((str(part) for part in first["loc"] if part in values), "")
        return _form(request, key, values, (name, _expected(name) or f"{first['msg']}."))
    except (ApiError, RequestError) as error:
        return _form(request, key, values, (error.param or "", error.message))
    return see_other(request, f"/jobs/{public_id(job.id, job.api)}")


def _body(values: dict[str, str]) -> CreateFineTune | CreateFineTuningJob:
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
    request: Request, key: Identity, values: dict[str, str], problem: tuple[str, str] | None
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
        status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
        files=files,
        base_models=list(services.models.installed_names()),
        models=[model for model in models if model.step is None][::-1],
        recipes=RECIPES,
        hyperparameters=_HYPERPARAMETERS,
        seed=job_parameter("seed"),
        own=OWN_PARAMETERS,
        classification=_CLASSIFICATION,
        fields={*_TOP_LEVEL, *_FIELDS},
        advanced_fields={"recipe", "seed", *_names(OWN_PARAMETERS + _CLASSIFICATION)},
        values=values,
        problem=problem,
    )
