"""`/v1/exports`: models in the forms of other programs, made in the background, for owners.

An export is made by a process of its own, outlives the request that asked for it, and is kept for
a day. Its archive is one file, with a hash, that can be downloaded in ranges. The hosted service
has nothing like it.
"""

from __future__ import annotations

import base64
import importlib.util
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tunesmith._install import install_extra
from tunesmith.engine.domain.export_rules import export_fault
from tunesmith.engine.jobs.export_worker import ARCHIVE
from tunesmith.engine.jobs.wire_objects import export_object
from tunesmith.engine.store import export_queries
from tunesmith.engine.store.records import ExportRow, new_token
from tunesmith.engine.store.removal import remove, set_aside
from tunesmith.types.model_exports import ExportFormat, Quantization

from .dependencies import OwnerKey, Services, get_services
from .file_download import send_file
from .http_errors import ApiError, invalid, not_found
from .idempotency import IdempotencyKey, fingerprint_of
from .keyed_route import KeyedRoute
from .pagination import check_limit, cursor_of, page_object

if TYPE_CHECKING:
    from tunesmith.engine.security.keys import Identity

__all__ = ["ExportBody", "cancel_export", "create_export", "delete_export", "router"]

router: APIRouter = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=KeyedRoute)

_MAX_PAGE_SIZE = 100


class ExportBody(BaseModel):
    """The body of a request to export a model."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(description="A model of the organisation, or a base model.")]
    format: Annotated[
        ExportFormat,
        Field(
            description="peft: the adapter; merged: whole weights; gguf: a file for llama.cpp; "
            "ollama: that and a Modelfile."
        ),
    ]
    quantization: Annotated[
        Quantization,
        Field(description="The type of the weights; merged ones have the first three only."),
    ] = "bf16"
    with_base: Annotated[
        bool, Field(description="Put the base model's files beside the adapter.")
    ] = False
    compare: Annotated[
        bool,
        Field(description="Compare the copy with the served model; one that differs is refused."),
    ] = True


@router.post("", summary="Export a model")
def create_export(request: Request, key: OwnerKey, body: ExportBody) -> JSONResponse:
    """Begin to export a model; its progress and its end are read from the export's record."""
    services = get_services(request)
    idempotency = IdempotencyKey.from_request(request, key.organization, "exports")
    fingerprint = fingerprint_of(body.model_dump())
    _check(services, key, body)
    row = ExportRow(
        id=f"export-{new_token()}",
        organization=key.organization,
        created_at=time.time(),
        **body.model_dump(),
    )
    with services.database.write_for_request() as connection:
        previous = idempotency.find_previous(connection, fingerprint)
        if previous is not None:
            found = export_queries.get(connection, key.organization, previous)
            if found is None:
                raise not_found("export", previous)
            return JSONResponse(export_object(found))
        _check_number(services, export_queries.count(connection, key.organization))
        export_queries.insert_export(connection, row)
        idempotency.record(connection, fingerprint, row.id)
    services.exports.wake()
    return JSONResponse(export_object(row))


@router.get("", summary="List exports")
def list_exports(
    request: Request,
    key: OwnerKey,
    limit: int = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query()] = None,
) -> JSONResponse:
    """Return the organisation's exports, newest first unless `order` is "asc"."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    with get_services(request).database.read() as connection:
        cursor = cursor_of(
            after, "export", lambda id_: export_queries.get(connection, key.organization, id_)
        )
        rows = export_queries.list_exports(
            connection,
            key.organization,
            after=cursor,
            limit=size + 1,
            descending=order == "desc",
        )
    return JSONResponse(page_object(rows, size, export_object))


@router.get("/{export_id}", summary="Retrieve an export")
def retrieve_export(request: Request, key: OwnerKey, export_id: str) -> JSONResponse:
    """Return an export: how far it is, or how it ended."""
    return JSONResponse(export_object(_find(get_services(request), key, export_id)))


@router.get("/{export_id}/content", summary="Download an export")
def export_content(request: Request, key: OwnerKey, export_id: str) -> FileResponse:
    """Return the archive, a tar file; `Range` continues a download that was interrupted."""
    services = get_services(request)
    row = _find(services, key, export_id)
    if row.status != "succeeded" or row.sha256 is None or row.bytes is None:
        raise invalid(
            f"The export {row.id} has no archive: its status is {row.status!r}.",
            param="id",
            code="export_not_ready",
        )
    path = services.config.home.exports / row.id / ARCHIVE
    digest = base64.b64encode(bytes.fromhex(row.sha256)).decode("ascii")
    return send_file(
        request,
        path,
        row.bytes,
        media_type="application/x-tar",
        filename=row.filename or ARCHIVE,
        headers={"etag": f'"{row.sha256}"', "repr-digest": f"sha-256=:{digest}:"},
    )


@router.post("/{export_id}/cancel", summary="Cancel an export")
def cancel_export(request: Request, key: OwnerKey, export_id: str) -> JSONResponse:
    """End an export that waits or runs; nothing of it is kept."""
    services = get_services(request)
    with services.database.write_for_request() as connection:
        expires_at = time.time() + services.exports.kept_seconds
        row = export_queries.get(connection, key.organization, export_id)
        if row is None:
            raise not_found("export", export_id)
        if not export_queries.cancel(connection, row.id, expires_at) and row.status != "cancelled":
            raise invalid(
                f"The export {row.id} has ended; its status is {row.status!r}.",
                param="id",
                code="export_ended",
            )
        row = export_queries.get(connection, key.organization, export_id) or row
    services.exports.wake()
    return JSONResponse(export_object(row))


@router.delete("/{export_id}", summary="Delete an export")
def delete_export(request: Request, key: OwnerKey, export_id: str) -> JSONResponse:
    """Delete an export and its archive; one that waits or runs is ended."""
    services = get_services(request)
    row = _find(services, key, export_id)
    with services.database.write_for_request() as connection:
        export_queries.remove(connection, row.id)
    services.exports.wake()
    if row.finished_at is not None:  # otherwise its process still writes; it is garbage later
        aside = set_aside(services.config.home.exports / row.id)
        if aside is not None:
            remove(aside)
    return JSONResponse({"id": row.id, "object": "model.export", "deleted": True})


def _find(services: Services, key: Identity, export_id: str) -> ExportRow:
    with services.database.read() as connection:
        row = export_queries.get(connection, key.organization, export_id)
    if row is None:
        raise not_found("export", export_id)
    return row


def _check(services: Services, key: Identity, body: ExportBody) -> None:
    """Raise ApiError for an export that cannot be made, before it waits for its turn."""
    models = services.models
    row = models.fine_tuned(body.model, key.organization)
    if row is None and models.usable(body.model, key.organization) is not None:
        raise ApiError(
            HTTPStatus.FORBIDDEN,
            f"The model {body.model!r} belongs to another organisation: you may send it requests, "
            "but not export it.",
            param="model",
            code="insufficient_permissions",
        )
    base = models.base(body.model if row is None else row.base_model)
    folder = base.path if row is None else models.folder(row)
    is_adapter = (folder / "adapter_config.json").is_file()
    fault = export_fault(body.model, body.format, body.quantization, is_adapter=is_adapter)
    if fault is not None:
        raise invalid(fault, param="format", code="unsupported_export")
    if body.format in {"gguf", "ollama"} and importlib.util.find_spec("sentencepiece") is None:
        raise ApiError(
            HTTPStatus.NOT_IMPLEMENTED,
            "This engine lacks what GGUF files need. Its operator can install it: "
            f"{install_extra('export')}",
            param="format",
            code="extra_missing",
        )


def _check_number(services: Services, found: int) -> None:
    most = services.config.limits.exports
    if found >= most:
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS if most else HTTPStatus.FORBIDDEN,
            f"The organisation has {found} exports, as many as the engine keeps for one "
            "([limits] exports). Delete one that is no longer needed."
            if most
            else "This engine offers no exports over the API ([limits] exports = 0).",
            code="exports_limit",
        )
