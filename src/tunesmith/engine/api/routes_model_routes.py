"""`/v1/model_routes`: names of an organisation's own that lead to models, set by its owners.

A name leads to a model of this engine, to another service, or from one to the other in stages. It
is an exact string: `ft:gpt-4o-mini-2024-07-18:acme::AbC123` is another name than the same in lower
case.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.engine.store import decision_queries, model_queries, route_queries
from tunesmith.engine.store.records import ModelRouteRow, RouteDecisionRow

from .dependencies import OwnerKey, get_services
from .http_errors import invalid, not_found
from .keyed_route import KeyedRoute
from .pagination import check_limit, cursor_of, list_object, page_object

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tunesmith.engine.security.keys import Identity

    from .dependencies import Services

__all__ = ["SetModelRoute", "router", "set_route"]

router: APIRouter = APIRouter(
    prefix="/v1/model_routes", tags=["model routes"], route_class=KeyedRoute
)

_MAX_NAME = 255
_MOST_SECONDS = 3600.0
_ALL = 100.0
_MAX_PAGE_SIZE = 100
_MAX_POINTS = 1000
_Name = Annotated[str, Field(min_length=1, max_length=_MAX_NAME)]
_OTHER_SERVICE_STAGES = frozenset({"upstream", "mirror", "percentage"})
_MODEL_STAGES = frozenset({"mirror", "percentage", "local"})


class SetModelRoute(BaseModel):
    """The body of a request that sets a route. A field that is absent stays as it is."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: _Name
    target: _Name | None = None
    upstream: Annotated[str, Field(max_length=80)] | None = None
    stage: Literal["upstream", "mirror", "percentage", "local"] | None = None
    percentage: Annotated[float, Field(ge=0, le=_ALL, allow_inf_nan=False)] | None = None
    sticky_by: Literal["user", "conversation", "request"] | None = None
    fallback: bool | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=_MOST_SECONDS, allow_inf_nan=False)] | None = (
        None
    )
    keep_contents: bool | None = None


@router.post("", summary="Set where a model name leads")
def set_model_route(request: Request, key: OwnerKey, body: SetModelRoute) -> JSONResponse:
    """Add a route or change one; requests that come in from then on go by it."""
    return JSONResponse(route_object(set_route(get_services(request), key, body)))


@router.get("", summary="List where model names lead")
def list_model_routes(request: Request, key: OwnerKey) -> JSONResponse:
    """Return the organisation's routes, by name."""
    services = get_services(request)
    with services.database.read() as connection:
        rows = route_queries.all_routes(connection)
    own = [route_object(row) for row in rows if row.organization == key.organization]
    return JSONResponse(list_object(own, has_more=False))


@router.get("/{name:path}/decisions", summary="List how requests to a name were answered")
def list_decisions(
    request: Request, key: OwnerKey, name: str, *, after: str | None = None, limit: int = 20
) -> JSONResponse:
    """Return decisions, newest first."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    services = get_services(request)
    name = find_route(services, key, unquote(name)).name
    with services.database.read() as connection:
        cursor = cursor_of(
            after, "decision", lambda id_: decision_queries.get(connection, key.organization, id_)
        )
        rows = decision_queries.list_decisions(
            connection, key.organization, name, after=cursor, limit=size + 1
        )
    return JSONResponse(page_object(rows, size, decision_object))


@router.get("/{name:path}/curves", summary="List what happened to requests over time")
def list_curves(
    request: Request,
    key: OwnerKey,
    name: str,
    *,
    hours: Annotated[float, Query(gt=0, le=24 * 366)] = 24.0,
    points: Annotated[int, Query(ge=1, le=_MAX_POINTS)] = 96,
) -> JSONResponse:
    """Return sums over equal spans of time, oldest first; spans without requests are left out."""
    services = get_services(request)
    name = find_route(services, key, unquote(name)).name
    return JSONResponse(list_object(curve(services, key, name, hours, points), has_more=False))


def curve(
    services: Services, key: Identity, name: str, hours: float, points: int
) -> list[dict[str, Any]]:
    """Return the points of a curve; see `list_curves`."""
    minutes = max(1, math.ceil(hours * 60 / points))
    since = time.time() - hours * 3600
    with services.database.read() as connection:
        found = decision_queries.curves(
            connection, key.organization, name, since=since, minutes=minutes
        )
    return [
        {"id": str(point["created_at"]), "object": "model_route.point"} | point for point in found
    ]


@router.get("/{name:path}", summary="Retrieve where a model name leads")
def retrieve_model_route(request: Request, key: OwnerKey, name: str) -> JSONResponse:
    """Return a route."""
    return JSONResponse(route_object(find_route(get_services(request), key, unquote(name))))


@router.delete("/{name:path}", summary="Delete a route")
def delete_model_route(request: Request, key: OwnerKey, name: str) -> JSONResponse:
    """Delete a route: the name leads nowhere from then on."""
    services = get_services(request)
    name = find_route(services, key, unquote(name)).name
    with services.database.write_for_request() as connection:
        route_queries.remove(connection, key.organization, name)
    services.routes.changed()
    return JSONResponse({"id": name, "object": "model_route", "deleted": True})


def find_route(services: Services, key: Identity, name: str) -> ModelRouteRow:
    """Return a route of the organisation.

    Raises:
        ApiError: 404: it has none of this name.
    """
    with services.database.read() as connection:
        row = route_queries.get(connection, key.organization, name)
    if row is None:
        raise not_found("model route", name)
    return row


def set_route(services: Services, key: Identity, body: SetModelRoute) -> ModelRouteRow:
    """Add or change a route of the organisation.

    Raises:
        ApiError: Its parts contradict each other, or the name is that of a model.
        UnknownModelError: There is no such target.
        UnknownUpstreamError: The settings have no such other service.
    """
    name, now = body.name, time.time()
    if body.target is not None:
        _check_target(services, key, name, body.target)
    if body.upstream:
        services.upstreams.get(body.upstream)
    with services.database.write_for_request() as connection:
        _check_name(connection, services, key, name)
        old = route_queries.get(connection, key.organization, name)
        row = old or ModelRouteRow(key.organization, name, now, now, None, stage="")
        fields = body.model_dump(exclude_none=True, exclude={"name"})
        if body.upstream == "":  # the other service is not needed any more
            fields["upstream"] = None
        row = replace(row, **fields, updated_at=now)
        if not row.stage:
            row = replace(row, stage="upstream" if row.target is None else "local")
        _check_parts(row)
        route_queries.put(connection, row)
    services.routes.changed()
    return row


def _check_target(services: Services, key: Identity, name: str, target: str) -> None:
    if target == name:
        raise invalid(f"{name!r} cannot stand for itself.", param="target")
    route = services.routes.get(key.organization, target)
    if route is not None:
        raise invalid(
            f"{target!r} is another name itself, of {route.target or route.upstream!r}. Name the "
            "model: another name of another name could lead in a circle.",
            param="target",
        )
    services.models.resolve_model(target, key.organization)


def _check_name(connection: Connection, services: Services, key: Identity, name: str) -> None:
    if any(not character.isprintable() for character in name):
        raise invalid("A model name has no control characters.", param="name")
    is_base = any(base.id == name and base.installed for base in services.models.catalog.bases())
    if is_base or model_queries.get_usable(connection, key.organization, name) is not None:
        raise invalid(
            f"{name!r} is a model of this engine, which requests could no longer reach.",
            param="name",
            code="name_taken",
        )


def _check_parts(row: ModelRouteRow) -> None:
    if row.target is None and row.upstream is None:
        raise invalid("A route needs a target, an upstream, or both.", param="target")
    if row.target is None and row.stage in _MODEL_STAGES:
        raise invalid(f"The stage {row.stage!r} needs a target: the new model.", param="target")
    if row.upstream is None and row.stage in _OTHER_SERVICE_STAGES:
        raise invalid(
            f"The stage {row.stage!r} needs an upstream: the other service.", param="upstream"
        )


def route_object(row: ModelRouteRow) -> dict[str, Any]:
    """Return a route as it is sent."""
    return {
        "id": row.name,
        "object": "model_route",
        "created_at": math.floor(row.created_at),
        "updated_at": math.floor(row.updated_at),
        "target": row.target,
        "upstream": row.upstream,
        "stage": row.stage,
        "percentage": row.percentage,
        "sticky_by": row.sticky_by,
        "fallback": row.fallback,
        "timeout_seconds": row.timeout_seconds,
        "keep_contents": row.keep_contents,
    }


def decision_object(row: RouteDecisionRow) -> dict[str, Any]:
    """Return a decision as it is sent."""
    data = row.data
    agreement = None
    if row.same_text is not None:
        agreement = {
            "text": row.same_text,
            "normalized": row.same_normalized,
            "calls": row.same_calls,
            "label": row.same_class,
        }
    return {
        "id": row.id,
        "object": "model_route.decision",
        "created_at": row.created_at,
        "model": row.name,
        "target": row.target,
        "stage": row.stage,
        "side": row.side,
        "fallback": row.fallback,
        "mirror": row.mirror,
        "request_id": data.get("request_id"),
        "stream": bool(data.get("stream")),
        "request": data.get("request"),
        "upstream": _side(row.upstream_status, row.upstream_seconds, data.get("upstream")),
        "local": _side(row.local_status, row.local_seconds, data.get("local")),
        "agreement": agreement,
    }


def _side(status: int | None, seconds: float | None, data: Any) -> dict[str, Any] | None:
    if status is None:
        return None
    return {"status": status, "seconds": seconds} | (data or {})
