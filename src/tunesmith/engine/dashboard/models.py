"""Models: the organisation's own, the base models, and what the serving has in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
from fastapi import APIRouter, Form, Request, Response

from tunesmith.engine.api.context import parts_of, require_owner
from tunesmith.engine.api.models import delete_model
from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.engine.store import model_rows

from .rendering import render
from .route import page_router, see_other
from .visitor import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tunesmith.engine.api.context import Parts
    from tunesmith.engine.models.catalog import Catalog

__all__ = ["router"]

router: APIRouter = page_router()

_PATIENCE_SECONDS = 2


@router.get("/models")
def list_models(request: Request, asker: SignedIn) -> Response:
    """Show fine-tuned models with their checkpoints, and base models."""
    parts = parts_of(request)
    with parts.database.read() as connection:
        rows = model_rows.list_models(connection, asker.organization)
    catalog = parts.models.catalog
    return render(
        request,
        "models.html",
        models=[row for row in rows if row.step is None][::-1],
        checkpoints=[row for row in rows if row.step is not None][::-1],
        bases=catalog.bases(),
        other_names=_other_names(catalog),
    )


@router.get("/models/held")
async def held(request: Request, asker: SignedIn) -> Response:
    """Show which of these models are in memory: those of the asker's organisation."""
    backend = request.app.state.backend
    try:
        sizes = await asyncio.wait_for(backend.loaded(), _PATIENCE_SECONDS)
    except (TimeoutError, GenerationError):
        return render(request, "models_held.html", held=None, running=backend.running)
    names = await anyio.to_thread.run_sync(_names, parts_of(request), asker.organization)
    known = [(names[folder], size) for folder, size in sizes.items() if folder in names]
    return render(request, "models_held.html", held=known, running=backend.running)


def _names(parts: Parts, organization: str) -> dict[Path, str]:
    """Return the names of the models that the organisation may see, by their folders."""
    with parts.database.read() as connection:
        rows = model_rows.list_models(connection, organization)
    names = {base.path: base.id for base in parts.models.catalog.bases()}
    return names | {parts.models.folder(row): row.name for row in rows}


@router.post("/models/delete")
def delete(request: Request, asker: Verified, model: Annotated[str, Form()]) -> Response:
    """Delete a fine-tuned model, by the API's rules: only an owner may."""
    delete_model(request, require_owner(asker), model.replace("%", "%25"))
    return see_other(request, "/models")


def _other_names(catalog: Catalog) -> Mapping[str, Sequence[str]]:
    """Return for each base model the other names that lead to it."""
    names: dict[str, list[str]] = {}
    for name in catalog.names:
        names.setdefault(catalog.find(name).id, []).append(name)
    return names
