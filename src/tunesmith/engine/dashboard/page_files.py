"""The organisation's files: upload, download, delete."""

from __future__ import annotations

import hashlib
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.routes_files import delete_file
from tunesmith.engine.store import file_queries

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .page_routes import page_router, see_other
from .rendering import render

__all__ = ["router"]

router: APIRouter = page_router()

_MAX_FILES = 500


@router.get("/files")
def list_files(request: Request, key: SignedIn, purpose: str = "", version: str = "") -> Response:
    """Show files, newest first; for htmx only the table, and nothing if it has not changed."""
    services = get_services(request)
    with services.database.read() as connection:
        found = file_queries.list_files(
            connection, key.organization, purpose=purpose or None, limit=_MAX_FILES + 1
        )
    names = "\n".join(file.id for file in found)
    current_version = hashlib.sha256(names.encode()).hexdigest()[:16]
    partial = "hx-request" in request.headers
    if partial and version == current_version:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return render(
        request,
        "files_table.html" if partial else "files.html",
        files=found[:_MAX_FILES],
        more=len(found) > _MAX_FILES,
        purpose=purpose,
        version=current_version,
        max_bytes=services.config.limits.file_bytes,
    )


@router.post("/files/{file_id}/delete")
def delete(request: Request, key: Verified, file_id: str) -> Response:
    """Delete a file, by the API's rules."""
    delete_file(request, key, file_id)
    return see_other(request, "/files")
