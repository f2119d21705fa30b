"""Models: the organisation's own, the base models, and which of them are in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
from fastapi import APIRouter, Form, Request, Response

from tunesmith.engine.api.dependencies import get_services, require_owner
from tunesmith.engine.api.routes_models import delete_model
from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.engine.store import model_queries

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.api.dependencies import Services

__all__ = ["router"]

router: APIRouter = page_router()

_TIMEOUT_SECONDS = 2


@router.get("/models")
def list_models(request: Request, key: SignedIn) -> Response:
    """Show fine-tuned models with their checkpoints, and base models."""
    services = get_services(request)
    with services.database.read() as connection:
        rows = model_queries.list_models(connection, key.organization)
    catalog = services.models.catalog
    return render(
        request,
        "models.html",
        models=[row for row in rows if row.step is None][::-1],
        checkpoints=[row for row in rows if row.step is not None][::-1],
        bases=catalog.bases(),
        verdicts={
            base.id: services.models.verdict(base) for base in catalog.bases() if base.installed
        },
        other_names=catalog.names_by_base(),
    )


@router.get("/models/loaded")
async def loaded(request: Request, key: SignedIn) -> Response:
    """Show which of the models that the organisation may use are in memory."""
    backend = request.app.state.backend
    try:
        sizes = await asyncio.wait_for(backend.loaded(), _TIMEOUT_SECONDS)
    except (TimeoutError, GenerationError):
        return render(request, "models_loaded.html", loaded=None, running=backend.running)
    names = await anyio.to_thread.run_sync(
        _names_by_folder, get_services(request), key.organization
    )
    known = [(names[folder], size) for folder, size in sizes.items() if folder in names]
    return render(request, "models_loaded.html", loaded=known, running=backend.running)


def _names_by_folder(services: Services, organization: str) -> dict[Path, str]:
    """Return the names of the models that the organisation may use, by their folders."""
    with services.database.read() as connection:
        rows = model_queries.list_models(connection, organization)
    names = {base.path: base.id for base in services.models.catalog.bases()}
    return names | {services.models.folder(row): row.name for row in rows}


@router.post("/models/delete")
def delete(request: Request, key: Verified, model: Annotated[str, Form()]) -> Response:
    """Delete a fine-tuned model, by the API's rules: only an owner may."""
    delete_model(request, require_owner(key), model.replace("%", "%25"))
    return see_other(request, "/models")
