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
from tunesmith.engine.store import file_queries, model_queries
from tunesmith.types.job_parameters import RECIPES

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .page_job import public_id
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from tunesmith.engine.security.keys import Identity

__all__ = ["router"]

router: APIRouter = page_router()

_MAX_FILES = 200
# The fields of the form, by their place in a request's body.
_TOP_LEVEL = ("training_file", "validation_file", "model", "suffix", "recipe", "seed")
_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_CLASSIFICATION = ("classification_n_classes", "classification_positive_class")
_FIELDS = (*_TOP_LEVEL, *_HYPERPARAMETERS, *_CLASSIFICATION)
_ADVANCED_FIELDS = ("recipe", "seed", *_CLASSIFICATION)
_EXPECTED = {
    "n_epochs": "Enter a whole number from 1 to 50, or nothing.",
    "batch_size": "Enter a whole number from 1 to 256, or nothing.",
    "learning_rate_multiplier": "Enter a number above 0, or nothing.",
    "seed": "Enter a whole number from 0 to 2147483647, or nothing.",
    "suffix": "Enter at most 64 characters, with classification metrics at most 40.",
    "classification_n_classes": "Enter a whole number from 2 to 10000, or nothing.",
}


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
        return _form(request, key, values, (name, _EXPECTED.get(name, f"{first['msg']}.")))
    except (ApiError, RequestError) as error:
        return _form(request, key, values, (error.param or "", error.message))
    return see_other(request, f"/jobs/{public_id(job)}")


def _body(values: dict[str, str]) -> CreateFineTune | CreateFineTuningJob:
    """Return the request body of a form.

    Only the legacy API has classification metrics, so they decide which API it is.

    Raises:
        pydantic.ValidationError: A value is not one that the API takes.
    """
    entered = {name: value.strip("\r\n") for name, value in values.items() if value.strip()}
    top_level: dict[str, Any] = {name: entered[name] for name in _TOP_LEVEL if name in entered}
    hyperparameters = {name: entered[name] for name in _HYPERPARAMETERS if name in entered}
    if "compute_classification_metrics" in entered:
        classes = {name: entered[name] for name in _CLASSIFICATION if name in entered}
        data = {**top_level, **hyperparameters, **classes, "compute_classification_metrics": True}
        return CreateFineTune.model_validate(data)
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
        fields=_FIELDS,
        advanced_fields=_ADVANCED_FIELDS,
        values=values,
        problem=problem,
    )
