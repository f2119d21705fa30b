"""`/v1/uploads`: a file in parts, several at a time, of which one file object is made.

Parts are kept in a folder of the upload until it is completed, cancelled or an hour old.
Completing it joins them into a content like that of any other file.
"""

from __future__ import annotations

import hashlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.engine.jobs.wire_objects import upload_object
from tunesmith.engine.store import file_queries, upload_queries
from tunesmith.engine.store.records import FileRow, UploadPartRow, UploadRow, new_token
from tunesmith.engine.store.removal import remove, set_aside
from tunesmith.types.uploads import UploadPart

from .dependencies import CurrentKey, Services, get_services
from .file_fields import base_name, check_prompt_format, check_purpose, lifetime_seconds
from .http_errors import ApiError, invalid, not_found
from .idempotency import IdempotencyKey, fingerprint_of
from .keyed_route import KeyedRoute
from .multipart import read_upload

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.blobs import IncomingBlob

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=KeyedRoute)

_LIFETIME_SECONDS = 3600
_MAX_PART_BYTES = 64 << 20
_MAX_PARTS = 10_000
_CHUNK = 1 << 20


class ExpiresAfter(BaseModel):
    """When the file expires."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    anchor: str
    seconds: int


class CreateUpload(BaseModel):
    """The body of a request for a new upload."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    filename: Annotated[str, Field(min_length=1, max_length=4096)]
    purpose: str
    bytes: Annotated[int, Field(ge=0)]
    mime_type: Annotated[str, Field(max_length=255)]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(BaseModel):
    """The body of a request that makes a file of an upload."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    part_ids: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=_MAX_PARTS)]
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None
    prompt_format: Annotated[
        dict[str, Any] | None,
        Field(description="What models that are trained on the file will carry, as in /v1/files."),
    ] = None


@router.post("", summary="Create an upload")
def create_upload(request: Request, body: CreateUpload, key: CurrentKey) -> JSONResponse:
    """Announce a file by name, size and purpose; its parts have to arrive within an hour."""
    services = get_services(request)
    most = services.config.limits.file_bytes
    if body.bytes > most:
        raise ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The file is larger than this engine accepts ({most} bytes).",
            param="bytes",
            code="file_too_large",
        )
    after = body.expires_after
    now = time.time()
    row = UploadRow(
        id=f"upload_{new_token()}",
        organization=key.organization,
        created_at=now,
        expires_at=now + _LIFETIME_SECONDS,
        filename=base_name(_utf8(body.filename, "filename")),
        purpose=check_purpose(body.purpose),
        bytes=body.bytes,
        lifetime_seconds=None if after is None else _lifetime(after),
    )
    idempotency = IdempotencyKey.from_request(request, key.organization, "uploads")
    fingerprint = fingerprint_of(body.model_dump())
    with services.database.write_for_request() as connection:
        previous = idempotency.find_previous(connection, fingerprint)
        if previous is not None:
            return _answer(connection, _find(connection, key, previous))
        upload_queries.insert_upload(connection, row)
        idempotency.record(connection, fingerprint, row.id)
        return _answer(connection, row)


@router.post("/{upload_id}/parts", summary="Add a part to an upload")
async def create_part(request: Request, upload_id: str, key: CurrentKey) -> JSONResponse:
    """Store the part in the field `data` of a multipart form; at most 64 MiB."""
    services = get_services(request)

    def check() -> UploadRow:
        with services.database.read() as connection:
            upload = _find_pending(connection, key, upload_id)
            _check_room(connection, upload, 0)
            return upload

    await anyio.to_thread.run_sync(check)
    with services.blobs.incoming() as blob:
        form = await read_upload(
            request.stream(),
            request.headers.get("content-type", ""),
            blob,
            max_bytes=_MAX_PART_BYTES,
            field_name="data",
        )
        if not form.has_file:
            raise invalid("Missing required parameter: 'data'.", param="data")
        row = await anyio.to_thread.run_sync(_store_part, request, key, upload_id, blob)
    part = UploadPart(id=row.id, created_at=int(row.created_at), upload_id=row.upload_id)
    return JSONResponse(part.model_dump())


def _store_part(
    request: Request, key: Identity, upload_id: str, blob: IncomingBlob
) -> UploadPartRow:
    services = get_services(request)
    idempotency = IdempotencyKey.from_request(request, key.organization, "upload_parts")
    fingerprint = fingerprint_of([upload_id, blob.sha256])
    row = UploadPartRow(f"part_{new_token()}", upload_id, time.time(), blob.bytes, blob.sha256)
    blob.seal()
    with services.database.write_for_request() as connection:
        upload = _find_pending(connection, key, upload_id)
        previous = idempotency.find_previous(connection, fingerprint)
        if previous is not None:
            known = upload_queries.list_parts(connection, upload_id).get(previous)
            if known is None:
                raise not_found("part", previous)
            return known
        _check_room(connection, upload, blob.bytes)
        folder = services.config.home.uploads / upload.id
        folder.mkdir(parents=True, exist_ok=True)
        blob.path.replace(folder / row.id)
        upload_queries.insert_part(connection, row)
        idempotency.record(connection, fingerprint, row.id)
    return row


@router.post("/{upload_id}/complete", summary="Make a file of an upload")
def complete_upload(
    request: Request, upload_id: str, body: CompleteUpload, key: CurrentKey
) -> JSONResponse:
    """Join the parts in the order of `part_ids`; size and `md5`, if given, must agree."""
    services = get_services(request)
    prompt_format = None
    if body.prompt_format is not None:
        prompt_format = check_prompt_format(body.prompt_format)
    idempotency = IdempotencyKey.from_request(request, key.organization, "upload_complete")
    fingerprint = fingerprint_of([upload_id, body.part_ids, body.md5, prompt_format])
    with services.database.read() as connection:
        if idempotency.find_previous(connection, fingerprint) is not None:
            return _answer(connection, _find(connection, key, upload_id))
        upload = _find_pending(connection, key, upload_id)
        parts = _chosen_parts(upload_queries.list_parts(connection, upload_id), body.part_ids)
    size = sum(part.bytes for part in parts)
    if size != upload.bytes:
        raise invalid(
            f"The parts have {size} bytes together; {upload.bytes} were announced.",
            param="part_ids",
            code="size_mismatch",
        )
    with services.blobs.incoming() as blob:
        found = _join(services, parts, blob)
        if body.md5 is not None and found != body.md5.lower():
            raise invalid(
                f"The MD5 of the parts together is {found}, not {body.md5.lower()}.",
                param="md5",
                code="md5_mismatch",
            )
        blob.seal()
        now = time.time()
        lifetime = upload.lifetime_seconds
        file = FileRow(
            id=f"file-{new_token()}",
            organization=key.organization,
            created_at=now,
            filename=upload.filename,
            purpose=upload.purpose,
            bytes=blob.bytes,
            sha256=blob.sha256,
            expires_at=None if lifetime is None else now + lifetime,
            prompt_format=prompt_format,
        )
        with services.database.write_for_request() as connection:
            _find_pending(connection, key, upload_id)  # nobody has ended it meanwhile
            services.blobs.keep(blob)
            file_queries.insert_file(connection, file)
            upload_queries.finish(connection, upload_id, "completed", file.id)
            idempotency.record(connection, fingerprint, upload_id)
            aside = set_aside(services.config.home.uploads / upload_id)
            answer = _answer(connection, _find(connection, key, upload_id))
    if aside is not None:
        remove(aside)
    return answer


@router.post("/{upload_id}/cancel", summary="Cancel an upload")
def cancel_upload(request: Request, upload_id: str, key: CurrentKey) -> JSONResponse:
    """Cancel an upload that is not completed; its parts are removed."""
    services = get_services(request)
    with services.database.write_for_request() as connection:
        upload = _find(connection, key, upload_id)
        if upload.status == "cancelled":
            return _answer(connection, upload)
        _check_pending(upload)
        upload_queries.finish(connection, upload_id, "cancelled")
        aside = set_aside(services.config.home.uploads / upload_id)
        answer = _answer(connection, _find(connection, key, upload_id))
    if aside is not None:
        remove(aside)
    return answer


def _chosen_parts(known: dict[str, UploadPartRow], part_ids: list[str]) -> list[UploadPartRow]:
    """Return the parts of an upload in the order of their ids.

    Raises:
        ApiError: One is unknown, or named twice.
    """
    seen = set[str]()
    for number, part_id in enumerate(part_ids):
        if part_id not in known:
            raise invalid(f"The upload has no part {part_id}.", param=f"part_ids[{number}]")
        if part_id in seen:
            raise invalid(f"The part {part_id} is named twice.", param=f"part_ids[{number}]")
        seen.add(part_id)
    return [known[part_id] for part_id in part_ids]


def _join(services: Services, parts: list[UploadPartRow], blob: IncomingBlob) -> str:
    """Write the parts one after the other; return the MD5 of all.

    Raises:
        ApiError: A part is missing or damaged on the disk.
    """
    whole = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digest = hashlib.sha256()
        path = services.config.home.uploads / part.upload_id / part.id
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    whole.update(chunk)
                    blob.write(chunk)
        except FileNotFoundError:
            raise _damaged(part) from None
        if digest.hexdigest() != part.sha256:
            raise _damaged(part)
    return whole.hexdigest()


def _damaged(part: UploadPartRow) -> ApiError:
    return invalid(
        f"The part {part.id} is missing or damaged on the engine's disk. Send it again, and "
        "complete the upload with the new id.",
        param="part_ids",
        code="part_damaged",
    )


def _check_room(connection: Connection, upload: UploadRow, size: int) -> None:
    """Raise ApiError if a part of `size` bytes is more than an upload may need.

    A part may be sent twice, because its first answer was lost.
    """
    count, received = upload_queries.received(connection, upload.id)
    if count >= _MAX_PARTS:
        raise invalid(f"An upload has at most {_MAX_PARTS} parts.", param="data")
    if size > upload.bytes or received + size > 2 * upload.bytes:
        raise invalid(
            f"The upload was announced with {upload.bytes} bytes; its parts have more.",
            param="data",
            code="size_mismatch",
        )


def _find(connection: Connection, key: Identity, upload_id: str) -> UploadRow:
    upload = upload_queries.get(connection, key.organization, upload_id)
    if upload is None:
        raise not_found("upload", upload_id)
    return upload


def _find_pending(connection: Connection, key: Identity, upload_id: str) -> UploadRow:
    upload = _find(connection, key, upload_id)
    _check_pending(upload)
    return upload


def _check_pending(upload: UploadRow) -> None:
    if upload.status != "pending":
        raise invalid(
            f"The upload {upload.id} is {upload.status}.", param="id", code="upload_not_pending"
        )
    if upload.expires_at <= time.time():
        raise invalid(
            f"The upload {upload.id} has expired: its parts had to arrive within an hour. "
            "Create another one.",
            param="id",
            code="upload_expired",
        )


def _answer(connection: Connection, row: UploadRow) -> JSONResponse:
    file = None
    if row.file_id is not None:
        file = file_queries.get(connection, row.organization, row.file_id)
    return JSONResponse(upload_object(row, file, time.time()))


def _lifetime(after: ExpiresAfter) -> int | None:
    return lifetime_seconds(after.anchor, str(after.seconds))


def _utf8(text: str, param: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(f"{param} contains half of a surrogate pair.", param=param) from None
    return text
