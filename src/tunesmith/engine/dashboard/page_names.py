"""Names: which model or service answers under each, the stages as buttons, agreement as a curve."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response

from tunesmith.engine.api.dependencies import get_services, require_owner
from tunesmith.engine.api.routes_model_routes import SetModelRoute, curve, set_route
from tunesmith.engine.store import decision_queries

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from tunesmith.engine.api.dependencies import Services
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import ModelRouteRow

__all__ = ["router"]

router: APIRouter = page_router()

_SHOWN = 10
_HOURS = 24.0
_POINTS = 96
_WIDTH, _HEIGHT = 640, 120
# Stage → what its button says, and what the stage means.
STAGES = {
    "upstream": ("Old service", "The old service answers everything."),
    "mirror": ("Mirror", "The old service answers; the new model is asked beside and compared."),
    "percentage": ("Percentage", "The new model answers a share of the users."),
    "local": ("New model", "The new model answers everything."),
}


@router.get("/names")
def list_names(request: Request, key: SignedIn) -> Response:
    """Show the routes of model names; only owners see how requests were answered."""
    services = get_services(request)
    routes = services.routes.of(key.organization).values()
    shown = [_shown(services, key, route) for route in routes]
    return render(request, "names.html", routes=shown, stages=STAGES, width=_WIDTH, height=_HEIGHT)


@router.post("/names/stage")
def set_stage(
    request: Request,
    key: Verified,
    name: Annotated[str, Form()],
    stage: Annotated[Literal["upstream", "mirror", "percentage", "local"], Form()],
    percentage: Annotated[float | None, Form()] = None,
) -> Response:
    """Set the stage of a name, by the API's rules: only an owner may."""
    body = SetModelRoute(
        name=name, stage=stage, percentage=percentage if stage == "percentage" else None
    )
    set_route(get_services(request), require_owner(key), body)
    return see_other(request, "/names")


def _shown(services: Services, key: Identity, route: ModelRouteRow) -> dict[str, Any]:
    if key.role != "owner" or route.upstream is None:
        return {"route": route, "points": [], "decisions": [], "lines": {}, "totals": {}}
    points = curve(services, key, route.name, _HOURS, _POINTS)
    with services.database.read() as connection:
        decisions = decision_queries.list_decisions(
            connection, key.organization, route.name, limit=_SHOWN
        )
    return {
        "route": route,
        "points": points,
        "decisions": decisions,
        "lines": _lines(points),
        "totals": _totals(points),
    }


def _totals(points: list[dict[str, Any]]) -> dict[str, int]:
    names = (
        "requests",
        "upstream",
        "local",
        "fallbacks",
        "failures",
        "compared",
        "dropped",
        "same_text",
        "same_normalized",
    )
    return {name: sum(point[name] for point in points) for name in names}


def _lines(points: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return the curves of the last hours as points of the drawing: share against time."""
    begin = time.time() - _HOURS * 3600
    lines: dict[str, list[tuple[float, float]]] = {"agreement": [], "new": []}
    for point in points:
        middle = point["created_at"] + point["seconds"] / 2 - begin
        across = round(_WIDTH * max(0.0, min(1.0, middle / (_HOURS * 3600))), 1)
        if point["compared"]:
            share = point["same_normalized"] / point["compared"]
            lines["agreement"].append((across, round(_HEIGHT * (1 - share), 1)))
        share = point["local"] / point["requests"]
        lines["new"].append((across, round(_HEIGHT * (1 - share), 1)))
    return lines
