"""The pages that the engine serves at `/`: jobs, files, models and a playground.

The pages are rendered on the server; a session cookie takes the place of the API key. Changes
go through the functions of the API, so the same rules hold. `mount_dashboard` adds the pages
to an application whose state holds `services`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["create_dashboard_router", "mount_dashboard"]

STATIC = Path(__file__).with_name("static")


def create_dashboard_router() -> APIRouter:
    """Return the pages' routes, none of which is part of the OpenAPI document."""
    from . import (  # noqa: PLC0415 - with the engine, not before
        page_compare,
        page_data,
        page_exports,
        page_files,
        page_job,
        page_jobs,
        page_migration,
        page_missing,
        page_model,
        page_models,
        page_names,
        page_new_job,
        page_playground,
        page_sign_in,
        page_stored,
    )

    router = APIRouter(include_in_schema=False)
    for page in (
        page_sign_in,
        page_jobs,
        page_new_job,
        page_data,
        page_compare,
        page_job,
        page_files,
        page_stored,
        page_model,
        page_models,
        page_names,
        page_migration,
        page_exports,
        page_playground,
        page_missing,
    ):
        router.include_router(page.router)
    return router


def mount_dashboard(app: FastAPI) -> None:
    """Add the pages, their static files and the API under a session cookie to `app`."""
    from tunesmith.engine.jobs.data_preparation import (  # noqa: PLC0415 - with the engine
        DataExaminer,
    )

    from .assets import StaticAssets  # noqa: PLC0415 - with the engine, not before
    from .browser_session import Sessions  # noqa: PLC0415
    from .rendering import compile_templates  # noqa: PLC0415
    from .session_middleware import SessionMiddleware  # noqa: PLC0415

    config = app.state.services.config
    app.state.sessions = Sessions()
    app.state.examiner = DataExaminer(config.validation_seconds, config.limits.file_bytes)
    app.include_router(create_dashboard_router())
    app.mount("/static", StaticAssets(STATIC), name="static")
    app.add_middleware(SessionMiddleware)
    threading.Thread(target=compile_templates, name="templates", daemon=True).start()
