"""The playground: one prompt, two models, side by side. The browser sends the requests."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response  # noqa: TC002 - FastAPI reads the annotations

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.store import model_queries

from .browser_session import SignedIn  # noqa: TC001 - FastAPI reads the annotation
from .page_routes import page_router
from .rendering import render

__all__ = ["router"]

router: APIRouter = page_router()


@router.get("/playground")
def show(request: Request, key: SignedIn, model: str = "") -> Response:
    """Show the page; `model` chooses the fine-tuned model."""
    services = get_services(request)
    with services.database.read() as connection:
        rows = model_queries.list_usable(connection, key.organization)
    return render(
        request,
        "playground.html",
        models=[row for row in rows if row.step is None][::-1],
        checkpoints=[row for row in rows if row.step is not None][::-1],
        base_names=services.models.installed_names(),
        chosen=model,
    )
