"""The pages that the engine serves at `/`: jobs, files, models and a playground.

Server-rendered; a session cookie takes the place of the API key. What changes something
goes through the same functions as the API, so the same rules hold. `mount_dashboard` adds
the pages to an application whose state holds `parts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["create_dashboard_router", "mount_dashboard"]

STATIC = Path(__file__).with_name("static")


def create_dashboard_router() -> APIRouter:
    """Return the pages' routes, none of which is part of the OpenAPI document."""
    from . import files, job, jobs, models, new_job, playground, sign_in  # noqa: PLC0415

    router = APIRouter(include_in_schema=False)
    for room in (sign_in, jobs, new_job, job, files, models, playground):
        router.include_router(room.router)
    return router


def mount_dashboard(app: FastAPI) -> None:
    """Add the pages, their static files and the session's way into the API to `app`."""
    from .assets import StaticAssets  # noqa: PLC0415 - with the engine, not before
    from .gate import SessionGate  # noqa: PLC0415
    from .sessions import Sessions  # noqa: PLC0415

    app.state.sessions = Sessions()
    app.include_router(create_dashboard_router())
    app.mount("/static", StaticAssets(STATIC), name="static")
    app.add_middleware(SessionGate)
