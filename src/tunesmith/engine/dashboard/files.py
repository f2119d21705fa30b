"""The organisation's files: upload, download, delete."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Request, Response

from tunesmith.engine.api.context import parts_of
from tunesmith.engine.api.files import delete_file
from tunesmith.engine.store import file_rows

from .rendering import render
from .route import page_router, see_other
from .visitor import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations

__all__ = ["router"]

router: APIRouter = page_router()

_MOST = 500
_UNCHANGED = 204


@router.get("/files")
def list_files(request: Request, asker: SignedIn, purpose: str = "", version: str = "") -> Response:
    """Show files, newest first; for htmx only the table, and nothing if it is as it was."""
    parts = parts_of(request)
    with parts.database.read() as connection:
        found = file_rows.list_files(
            connection, asker.organization, purpose=purpose or None, limit=_MOST + 1
        )
    names = "\n".join(file.id for file in found)
    now_version = hashlib.sha256(names.encode()).hexdigest()[:16]
    partial = "hx-request" in request.headers
    if partial and version == now_version:
        return Response(status_code=_UNCHANGED)
    return render(
        request,
        "files_table.html" if partial else "files.html",
        files=found[:_MOST],
        more=len(found) > _MOST,
        purpose=purpose,
        version=now_version,
        most_bytes=parts.config.limits.file_bytes,
    )


@router.post("/files/{file_id}/delete")
def delete(request: Request, asker: Verified, file_id: str) -> Response:
    """Delete a file, by the API's rules."""
    delete_file(request, asker, file_id)
    return see_other(request, "/files")
