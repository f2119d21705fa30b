"""Migration: what lies in an archive, the inventories and comparisons, as pages for owners.

Where they lie is a setting, `[migrate] archive` and `reports`; a JSON file can also be shown from
the browser, and is not kept.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response, UploadFile

from tunesmith.engine.api.dependencies import get_services, require_owner
from tunesmith.engine.api.http_errors import not_found
from tunesmith.migrate import ArchiveError

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .migration_views import archive_view, reading, report_names, view_of_json
from .page_routes import page_router
from .rendering import render

if TYPE_CHECKING:
    from tunesmith.engine.config import MigrateConfig

__all__ = ["router"]

router: APIRouter = page_router()

_MOST_BYTES = 8 << 20


@router.get("/migration")
def show(request: Request, key: SignedIn) -> Response:
    """Show the archive that the settings name, and the reports; for owners."""
    require_owner(key)
    return _page(request, None, None)


@router.get("/migration/report")
def show_report(
    request: Request, key: SignedIn, name: Annotated[str, Query(max_length=255)] = ""
) -> Response:
    """Show a file of the folder of reports."""
    require_owner(key)
    folder = _settings(request).reports
    content = None if folder is None else reading(folder, name)
    if content is None:
        raise not_found("report", name)
    return _report(request, name, content)


@router.post("/migration/report")
def show_upload(request: Request, key: Verified, file: UploadFile) -> Response:
    """Show a file from the browser; it is not kept."""
    require_owner(key)
    content = file.file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        return _page(
            request,
            None,
            "This file has more than 8 MB. Put it into the folder that `[migrate] reports` names.",
        )
    return _report(request, file.filename or "report", content)


def _report(request: Request, name: str, content: bytes) -> Response:
    try:
        found = view_of_json(content)
    except ValueError as error:
        return _page(request, None, f"{name}: {error}")
    return _page(request, {"name": name, **found}, None)


def _settings(request: Request) -> MigrateConfig:
    return get_services(request).config.migrate


def _page(request: Request, report: dict[str, Any] | None, problem: str | None) -> Response:
    settings = _settings(request)
    archive: dict[str, Any] | None = None
    fault: str | None = None
    if report is None and settings.archive is not None:
        try:
            archive = archive_view(settings.archive)
        except (ArchiveError, OSError, ValueError, KeyError, TypeError) as error:
            fault = str(error)
    return render(
        request,
        "migration.html",
        status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
        settings=settings,
        archive=archive,
        fault=fault,
        reports=[] if settings.reports is None else report_names(settings.reports),
        report=report,
        problem=problem,
    )
