"""The playground: one prompt, two models, side by side. The browser does the asking."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response  # noqa: TC002 - FastAPI reads the annotations

from tunesmith.engine.api.context import parts_of
from tunesmith.engine.store import model_rows

from .rendering import render
from .route import page_router
from .visitor import SignedIn  # noqa: TC001 - FastAPI reads the annotation

__all__ = ["router"]

router: APIRouter = page_router()


@router.get("/playground")
def show(request: Request, asker: SignedIn, model: str = "") -> Response:
    """Show the page; `model` chooses the fine-tuned model."""
    parts = parts_of(request)
    with parts.database.read() as connection:
        rows = model_rows.list_models(connection, asker.organization)
    return render(
        request,
        "playground.html",
        models=[row for row in rows if row.step is None][::-1],
        checkpoints=[row for row in rows if row.step is not None][::-1],
        base_names=parts.models.installed_names(),
        chosen=model,
    )
