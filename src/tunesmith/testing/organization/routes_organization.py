"""The addresses of a recorded organisation's evals, projects, limits and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .service import Caller, OrganizationService, Refused, limit_of, position_of, route
from .tasks import draw

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

__all__: list[str] = []

# Evals


def _eval_position(service: OrganizationService, caller: Caller, found: re.Match[str]) -> int:
    if service.quirks.evals_closed:
        raise Refused(410, "The Evals API has been shut down.", "endpoint_removed")
    position = position_of(service.contents.eval_ids(caller.place), found["eval"])
    if position < 0:
        raise Refused(404, f"Eval {found['eval']} not found.")
    return position


def _run_position(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> tuple[int, int]:
    position = _eval_position(service, caller, found)
    run = position_of(service.contents.eval_run_ids(caller.place, position), found["run"])
    if run < 0:
        raise Refused(404, f"Run {found['run']} not found.")
    return position, run


@route("GET", r"/evals")
def _list_evals(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    if service.quirks.evals_closed:
        raise Refused(410, "The Evals API has been shut down.", "endpoint_removed")
    ids = service.contents.eval_ids(caller.place)

    def make(at: int) -> dict[str, Any]:
        return service.contents.eval(caller.place, at)

    return service.page(caller, ids, make, default=20, most=100)


@route("GET", r"/evals/(?P<eval>[^/]+)")
def _get_eval(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    return service.contents.eval(caller.place, _eval_position(service, caller, found))


@route("GET", r"/evals/(?P<eval>[^/]+)/runs")
def _list_runs(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    position = _eval_position(service, caller, found)
    ids = service.contents.eval_run_ids(caller.place, position)

    def make(at: int) -> dict[str, Any]:
        return service.contents.eval_run(caller.place, position, at)

    return service.page(caller, ids, make, default=20, most=100)


@route("GET", r"/evals/(?P<eval>[^/]+)/runs/(?P<run>[^/]+)")
def _get_run(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    position, run = _run_position(service, caller, found)
    return service.contents.eval_run(caller.place, position, run)


@route("GET", r"/evals/(?P<eval>[^/]+)/runs/(?P<run>[^/]+)/output_items")
def _list_items(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    position, run = _run_position(service, caller, found)
    items = [
        service.contents.eval_item(caller.place, position, run, item)
        for item in range(service.contents.eval_item_count)
    ]
    return service.page_of(caller, items, default=20, most=100)


@route("GET", r"/evals/(?P<eval>[^/]+)/runs/(?P<run>[^/]+)/output_items/(?P<item>[^/]+)")
def _get_item(service: OrganizationService, caller: Caller, found: re.Match[str]) -> dict[str, Any]:
    position, run = _run_position(service, caller, found)
    for item in range(service.contents.eval_item_count):
        one = service.contents.eval_item(caller.place, position, run, item)
        if one["id"] == found["item"]:
            return one
    raise Refused(404, f"Output item {found['item']} not found.")


# The organisation


@route("GET", r"/organization/projects")
def _list_projects(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    contents = service.contents
    ids = list(contents.projects)
    if caller.query.get("include_archived") == "true":
        ids.append(contents.archived_project)
    return service.page(caller, ids, contents.project_object, default=20, most=100)


def _project_position(service: OrganizationService, found: re.Match[str]) -> int:
    contents = service.contents
    position = position_of([*contents.projects, contents.archived_project], found["project"])
    if position < 0:
        raise Refused(404, f"Project {found['project']} not found.")
    return position


@route("GET", r"/organization/projects/(?P<project>[^/]+)")
def _get_project(service: OrganizationService, _: Caller, found: re.Match[str]) -> dict[str, Any]:
    return service.contents.project_object(_project_position(service, found))


@route("GET", r"/organization/projects/(?P<project>[^/]+)/rate_limits")
def _list_limits(
    service: OrganizationService, caller: Caller, found: re.Match[str]
) -> dict[str, Any]:
    _project_position(service, found)
    limits = service.contents.rate_limits()
    return service.page_of(caller, limits, default=100, most=100)


def _days(service: OrganizationService, caller: Caller) -> tuple[list[int], str | None]:
    """Return the days of one page of usage, and the page after it."""
    try:
        start = int(caller.query["start_time"])
        first = int(caller.query.get("page", "page_0").removeprefix("page_"))
    except (KeyError, ValueError):
        raise Refused(400, "start_time is a Unix time.", param="start_time") from None
    end = int(caller.query.get("end_time") or service.contents.now)
    days = list(range(start // 86_400, end // 86_400))
    limit = limit_of(caller.query, 7, 180)
    following = first + limit
    return days[first:following], f"page_{following}" if following < len(days) else None


def _buckets(days: list[int], results: Callable[[int], Any], following: str | None) -> Any:
    data = [
        {"object": "bucket", "start_time": day * 86_400, "end_time": (day + 1) * 86_400}
        | {"results": results(day)}
        for day in days
    ]
    more = following is not None
    return {"object": "page", "data": data, "has_more": more, "next_page": following}


@route("GET", r"/organization/costs")
def _costs(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    days, following = _days(service, caller)
    contents = service.contents

    def results(day: int) -> list[dict[str, Any]]:
        return [contents.cost_bucket(day, at) for at in range(len(contents.projects))]

    found: dict[str, Any] = _buckets(days, results, following)
    return found


@route("GET", r"/organization/usage/completions")
def _usage(service: OrganizationService, caller: Caller, _: Any) -> dict[str, Any]:
    days, following = _days(service, caller)
    contents = service.contents
    models = [one for at in range(len(contents.projects)) for one in contents.models_of(at)]

    def results(day: int) -> list[dict[str, Any]]:
        return [
            {
                "object": "organization.usage.completions.result",
                "input_tokens": 100,
                "output_tokens": 10,
                "num_model_requests": 1 + draw(50, day, one.name),
                "project_id": contents.projects[one.project],
                "model": one.name,
            }
            for one in models
            if draw(9, "used", one.name, day) == 0
        ]

    found: dict[str, Any] = _buckets(days, results, following)
    return found
