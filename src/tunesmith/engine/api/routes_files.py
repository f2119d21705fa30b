"""`/v1/files`: upload, list, retrieve, delete, download."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse

from tunesmith.engine.domain.errors import CorruptFileError
from tunesmith.engine.domain.job import public_id
from tunesmith.engine.jobs.wire_objects import file_object
from tunesmith.engine.store import file_queries
from tunesmith.engine.store.records import FileRow, new_token
from tunesmith.engine.store.removal import remove

from .dependencies import CurrentKey, Services, get_services
from .file_download import send_file
from .file_fields import base_name, check_prompt_format, check_purpose, lifetime_seconds
from .http_errors import ApiError, invalid, not_found
from .idempotency import IdempotencyKey, fingerprint_of
from .keyed_route import KeyedRoute
from .multipart import Upload, read_upload
from .pagination import check_limit, cursor_of, page_object

if TYPE_CHECKING:
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.blobs import IncomingBlob

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1/files", tags=["files"], route_class=KeyedRoute)

_MAX_PAGE_SIZE = 10_000


@router.post("", summary="Upload a file")
async def create_file(request: Request, key: CurrentKey) -> JSONResponse:
    """Store the file of a multipart form with `purpose` and `file`.

    Further fields: `expires_after[anchor]` and `expires_after[seconds]`; `prompt_format`, JSON
    text that models trained on the file will carry.
    """
    services = get_services(request)
    with services.blobs.incoming() as blob:
        upload = await read_upload(
            request.stream(),
            request.headers.get("content-type", ""),
            blob,
            max_bytes=services.config.limits.file_bytes,
        )
        row = await anyio.to_thread.run_sync(_store, request, key, upload, blob)
    return JSONResponse(file_object(row))


def _store(request: Request, key: Identity, upload: Upload, blob: IncomingBlob) -> FileRow:
    services = get_services(request)
    now = time.time()
    idempotency = IdempotencyKey.from_request(request, key.organization, "files")
    if not upload.has_file:
        raise invalid("Missing required parameter: 'file'.", param="file")
    lifetime = lifetime_seconds(
        upload.fields.get("expires_after[anchor]"), upload.fields.get("expires_after[seconds]")
    )
    row = FileRow(
        id=f"file-{new_token()}",
        organization=key.organization,
        created_at=now,
        filename=base_name(upload.filename),
        purpose=check_purpose(upload.fields.get("purpose")),
        bytes=blob.bytes,
        sha256=blob.sha256,
        expires_at=None if lifetime is None else now + lifetime,
        prompt_format=_prompt_format(upload.fields),
    )
    fingerprint = fingerprint_of([row.filename, row.sha256, upload.fields])
    blob.seal()
    with services.database.write_for_request() as connection:
        previous = idempotency.find_previous(connection, fingerprint)
        if previous is not None:
            found = file_queries.get(connection, key.organization, previous)
            if found is None:
                raise not_found("file", previous)
            return found
        services.blobs.keep(blob)
        file_queries.insert_file(connection, row)
        idempotency.record(connection, fingerprint, row.id)
    return row


@router.get("", summary="List files")
def list_files(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    key: CurrentKey,
    purpose: str | None = None,
    limit: int = _MAX_PAGE_SIZE,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    starting_after: Annotated[str | None, Query(include_in_schema=False)] = None,
) -> JSONResponse:
    """Return files, newest first unless `order` is "asc"."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    after = after or starting_after
    with get_services(request).database.read() as connection:
        cursor = cursor_of(
            after, "file", lambda id_: file_queries.get(connection, key.organization, id_)
        )
        rows = file_queries.list_files(
            connection,
            key.organization,
            purpose=purpose,
            after=cursor,
            limit=size + 1,
            descending=order == "desc",
        )
    return JSONResponse(page_object(rows, size, file_object))


@router.get("/{file_id}", summary="Retrieve a file's record")
def retrieve_file(request: Request, key: CurrentKey, file_id: str) -> JSONResponse:
    """Return one file's record."""
    return JSONResponse(file_object(_find(get_services(request), key, file_id)))


@router.get("/{file_id}/content", summary="Download a file")
def file_content(request: Request, key: CurrentKey, file_id: str) -> FileResponse:
    """Return the file's bytes, after comparing them with the hash taken at upload."""
    services = get_services(request)
    row = _find(services, key, file_id)
    try:
        path = services.blobs.verified(row.sha256)
    except CorruptFileError as error:
        raise ApiError(
            HTTPStatus.INTERNAL_SERVER_ERROR, f"{file_id}: {error}", code="file_corrupt"
        ) from None
    return send_file(
        request, path, row.bytes, media_type=_media_type(row.filename), filename=row.filename
    )


@router.delete("/{file_id}", summary="Delete a file")
def delete_file(request: Request, key: CurrentKey, file_id: str) -> JSONResponse:
    """Delete a file that no unfinished job needs."""
    services = get_services(request)
    row = _find(services, key, file_id)
    with services.database.write_for_request() as connection:
        job_id = file_queries.unfinished_job_using(connection, file_id)
        if job_id is not None:
            raise invalid(
                f"The file {file_id} is needed by the job {public_id(job_id)}, which has not "
                "ended. Cancel the job or wait for its end.",
                param="id",
                code="file_in_use",
            )
        file_queries.remove(connection, file_id)
        is_unused = file_queries.unused(connection, row.sha256)
        aside = services.blobs.set_aside(row.sha256) if is_unused else None
    if aside is not None:
        remove(aside)
    freed = row.bytes if aside is not None else 0
    return JSONResponse({"id": file_id, "object": "file", "deleted": True, "freed_bytes": freed})


def _find(services: Services, key: Identity, file_id: str) -> FileRow:
    with services.database.read() as connection:
        row = file_queries.get(connection, key.organization, file_id)
    if row is None:
        raise not_found("file", file_id)
    return row


def _prompt_format(fields: dict[str, str]) -> dict[str, Any] | None:
    text = fields.get("prompt_format")
    if not text:
        return None
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return check_prompt_format(value)


def _media_type(filename: str) -> str:
    suffix = filename.rpartition(".")[2].lower()
    known = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
    return known.get(suffix, "application/octet-stream")
