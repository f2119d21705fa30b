"""`/healthz`, `/readyz` and `/metrics`: for operators and their monitoring."""

from __future__ import annotations

import shutil
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from tunesmith.errors import TunesmithError

from .dependencies import OwnerKey, get_services
from .http_errors import ApiError
from .keyed_route import KeyedRoute
from .request_metrics import CONTENT_TYPE, exposition

__all__ = ["router"]

router: APIRouter = APIRouter(include_in_schema=False)

_keyed: APIRouter = APIRouter(include_in_schema=False, route_class=KeyedRoute)

_MIN_FREE_BYTES = 64 << 20


@router.get("/healthz")
async def health() -> JSONResponse:
    """Return 200: the server is alive."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
def ready(request: Request) -> JSONResponse:
    """Return 200 if the database answers, the model table is valid and the disk has space."""
    services = get_services(request)
    try:
        services.database.check()
        services.models.catalog  # noqa: B018 - reads the user's table
    except SQLAlchemyError:
        raise _not_ready("the database does not answer") from None
    except TunesmithError as error:
        root = f"{services.config.home.root}/"
        raise _not_ready(str(error).replace(root, "")) from None
    free = shutil.disk_usage(services.config.home.root).free
    if free < _MIN_FREE_BYTES:
        raise _not_ready(f"only {free} bytes are free on the disk of the state folder")
    return JSONResponse({"status": "ready"})


@_keyed.get("/metrics")
def metrics(request: Request, key: OwnerKey) -> Response:
    """Return metrics for Prometheus. Once a key exists, the role owner is needed.

    An owner of the organisation that the setting `organization` names sees the numbers of all;
    other owners see those of their own organisation.
    """
    services = get_services(request)
    is_operator = key.organization == services.config.organization
    text = exposition(
        services.request_metrics,
        services.database,
        None if is_operator else key.organization,
        services.watcher.open_streams,
    )
    return Response(text, media_type=CONTENT_TYPE)


router.include_router(_keyed)


def _not_ready(reason: str) -> ApiError:
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"Not ready: {reason}.",
        code="not_ready",
        headers={"retry-after": "5"},
    )
