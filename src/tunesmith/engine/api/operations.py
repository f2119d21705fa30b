"""For those who run the engine: is it alive, is it ready, how is it doing."""

from __future__ import annotations

import shutil

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from tunesmith.engine.metrics import CONTENT_TYPE, exposition
from tunesmith.errors import TunesmithError

from .context import Owner, parts_of
from .errors import ApiError

__all__ = ["router"]

router: APIRouter = APIRouter(include_in_schema=False)

_LEAST_FREE_BYTES = 64 << 20


@router.get("/healthz")
async def health() -> JSONResponse:
    """Answer, which says that the server lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
def ready(request: Request) -> JSONResponse:
    """Say whether requests can be answered: database, table of base models, room on the disk."""
    parts = parts_of(request)
    try:
        parts.database.check()
        parts.models.catalog  # noqa: B018 - reads the user's table
    except SQLAlchemyError:
        raise _not_ready("the database does not answer") from None
    except TunesmithError as error:
        raise _not_ready(str(error)) from None
    free = shutil.disk_usage(parts.config.home.root).free
    if free < _LEAST_FREE_BYTES:
        raise _not_ready(f"only {free} bytes are free on the disk of the state folder")
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
def metrics(request: Request, _asker: Owner) -> Response:
    """Return figures for Prometheus. Once keys exist, with the key of an owner."""
    parts = parts_of(request)
    text = exposition(parts.figures, parts.database, parts.watcher.open_streams)
    return Response(text, media_type=CONTENT_TYPE)


def _not_ready(reason: str) -> ApiError:
    return ApiError(503, f"Not ready: {reason}.", code="not_ready", headers={"retry-after": "5"})
