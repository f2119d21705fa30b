"""A form for a new job. Its values are checked as the API checks a request's body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from fastapi import APIRouter, Depends, Request, Response

from tunesmith.engine.api.context import parts_of
from tunesmith.engine.api.errors import ApiError
from tunesmith.engine.api.job_access import create_job
from tunesmith.engine.api.job_requests import CreateFineTune, CreateFineTuningJob
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.store import file_rows, model_rows
from tunesmith.types.job_parameters import RECIPES

from .job import shown_id
from .rendering import render
from .route import page_router, see_other
from .visitor import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from tunesmith.engine.security.keys import Identity

__all__ = ["router"]

router: APIRouter = page_router()

_MOST_FILES = 200
_PLAIN = ("training_file", "validation_file", "model", "suffix", "recipe", "seed")
_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_WANTED = {
    "n_epochs": "Enter a whole number from 1 to 50, or nothing.",
    "batch_size": "Enter a whole number from 1 to 256, or nothing.",
    "learning_rate_multiplier": "Enter a number above 0, or nothing.",
    "seed": "Enter a whole number from 0 to 2147483647, or nothing.",
    "suffix": "Enter at most 64 characters, with classification metrics at most 40.",
    "classification_n_classes": "Enter a whole number from 2 to 10000, or nothing.",
}
_CLASSIFICATION = ("classification_n_classes", "classification_positive_class")


@router.get("/new-job")
def show(request: Request, asker: SignedIn, file: str = "", model: str = "") -> Response:
    """Show the form; `file` and `model` choose for the user."""
    return _form(request, asker, {"training_file": file, "model": model}, None)


async def _sent(request: Request) -> dict[str, str]:
    form = await request.form(max_files=0, max_fields=40)
    return {name: str(value) for name, value in form.items() if name != "form_token"}


@router.post("/new-job")
def create(
    request: Request, asker: Verified, values: Annotated[dict[str, str], Depends(_sent)]
) -> Response:
    """Create the job, or show the form again with what is wrong."""
    try:
        body = _body(values)
        job = create_job(parts_of(request), asker, request, body)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = next((str(part) for part in first["loc"] if part in values), "")
        return _form(request, asker, values, (name, _WANTED.get(name, f"{first['msg']}.")))
    except (ApiError, RequestError) as error:
        return _form(request, asker, values, (error.param or "", error.message))
    return see_other(request, f"/jobs/{shown_id(job)}")


def _body(values: dict[str, str]) -> CreateFineTune | CreateFineTuningJob:
    """Return the request that the form stands for.

    Classification metrics exist in the first API alone, so they decide which one it is.

    Raises:
        pydantic.ValidationError: A value is not one that the API takes.
    """
    given = {name: value.strip("\r\n") for name, value in values.items() if value.strip()}
    plain: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    chosen = {name: given[name] for name in _HYPERPARAMETERS if name in given}
    if "compute_classification_metrics" in given:
        classes = {name: given[name] for name in _CLASSIFICATION if name in given}
        data = {**plain, **chosen, **classes, "compute_classification_metrics": True}
        return CreateFineTune.model_validate(data)
    method = given.get("method", "supervised")
    config = {"type": method, method: {"hyperparameters": chosen}}
    return CreateFineTuningJob.model_validate({**plain, "method": config})


def _form(
    request: Request, asker: Identity, values: dict[str, str], problem: tuple[str, str] | None
) -> Response:
    parts = parts_of(request)
    with parts.database.read() as connection:
        files = file_rows.list_files(
            connection, asker.organization, purpose="fine-tune", limit=_MOST_FILES
        )
        models = model_rows.list_models(connection, asker.organization)
    return render(
        request,
        "new_job.html",
        status=200 if problem is None else 400,
        files=files,
        base_models=list(parts.models.installed_names()),
        models=[model for model in models if model.step is None][::-1],
        recipes=RECIPES,
        values=values,
        problem=problem,
    )
