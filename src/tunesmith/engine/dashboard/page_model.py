"""One fine-tuned model: what it is, how it is asked, its checkpoints, other names and exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from fastapi import APIRouter, Form, Query, Request, Response

from tunesmith.engine.api.dependencies import get_services, require_owner
from tunesmith.engine.api.http_errors import ApiError, not_found
from tunesmith.engine.api.routes_model_routes import SetModelRoute, set_route
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.domain.job import public_id
from tunesmith.engine.store import file_queries, job_queries, model_queries

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .job_notes import notes_of, tags_of
from .page_job import last_values
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import JobRow, ModelRow

__all__ = ["router"]

router: APIRouter = page_router()

_Name = Annotated[str, Query(max_length=400)]
_EXAMPLE = "Your prompt"
_ONE_TOKEN = {"max_tokens": 1}


@router.get("/models/show")
def show(request: Request, key: SignedIn, model: _Name = "") -> Response:
    """Show a model that the organisation may use."""
    return _page(request, key, model, {}, "")


@router.post("/models/alias")
def add_name(
    request: Request,
    key: Verified,
    model: Annotated[str, Form(max_length=400)],
    name: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Let another name lead to a model, by the API's rules: only an owner may."""
    services = get_services(request)
    _find(request, key, model)
    try:
        body = SetModelRoute(name=name.strip(), target=model)
        set_route(services, require_owner(key), body)
    except pydantic.ValidationError:
        return _page(request, key, model, {"name": "Enter a name of 1 to 255 characters."}, name)
    except (ApiError, RequestError) as error:
        return _page(request, key, model, {"name": error.message}, name)
    return see_other(request, "/names")


def _find(request: Request, key: Identity, name: str) -> ModelRow:
    with get_services(request).database.read() as connection:
        row = model_queries.get_usable(connection, key.organization, name)
    if row is None:
        raise not_found("model", name)
    return row


def _page(
    request: Request, key: Identity, name: str, problems: dict[str, str], entered: str
) -> Response:
    services = get_services(request)
    row = _find(request, key, name)
    with services.database.read() as connection:
        job = job_queries.get(connection, key.organization, row.job_id)
        facts = {} if job is None else _facts(connection, key.organization, job)
        checkpoints = [] if job is None else job_queries.checkpoints_of(connection, job.id)
        existing = {one.name for one in model_queries.list_models(connection, key.organization)}
    aliases = [
        route.name
        for route in services.routes.of(key.organization).values()
        if route.target == row.name
    ]
    chat = facts.get("is_chat", row.prompt_format is None)
    return render(
        request,
        "model.html",
        status=400 if problems else 200,
        model=row,
        job=job,
        job_id=None if job is None else public_id(job.id, job.api),
        tags=[] if job is None else tags_of(job),
        notes={} if job is None else notes_of(job),
        facts=facts,
        checkpoints=[one for one in checkpoints if one.model in existing],
        aliases=aliases,
        example=_example(row, is_chat=chat),
        is_chat=chat,
        problems=problems,
        entered=entered,
    )


def _facts(connection: Connection, organization: str, job: JobRow) -> dict[str, Any]:
    file = file_queries.get(connection, organization, job.training_file)
    last = last_values(connection, job.id)
    names = ("train_loss", "full_valid_loss", "full_valid_mean_token_accuracy")
    return {
        "file": file,
        "metrics": {name: last[name] for name in names if name in last},
        "seconds": job_queries.training_seconds(connection, job),
        "is_chat": job_queries.prompt_format_of(connection, job) is None,
    }


def _example(row: ModelRow, *, is_chat: bool) -> dict[str, Any]:
    """Return a request that asks a model as it was trained."""
    if is_chat:
        return {"model": row.name, "messages": [{"role": "user", "content": _EXAMPLE}]}
    parts = row.prompt_format or {}
    stop = parts.get("stop") or ""
    return {
        "model": row.name,
        "prompt": _EXAMPLE + str(parts.get("separator") or ""),
        "temperature": 0,
        **({"stop": [stop], "max_tokens": 64} if stop else _ONE_TOKEN),
    }
