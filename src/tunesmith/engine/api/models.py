"""`/v1/models`: base models that are installed, and the organisation's own."""

from __future__ import annotations

import shutil
from typing import Any
from urllib.parse import unquote

import anyio.from_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tunesmith.engine.jobs.wire_objects import organization_id
from tunesmith.engine.serving.backend import ServingBackend
from tunesmith.engine.store import model_rows
from tunesmith.engine.store.records import ModelRow, new_token
from tunesmith.types.models import Model

from .context import Asker, Owner, Parts, parts_of
from .errors import ApiError, invalid

__all__ = ["router"]

router: APIRouter = APIRouter(tags=["models"])


@router.get("/v1/models", summary="List models")
def list_models(request: Request, asker: Asker) -> JSONResponse:
    """Return every name that can be used: base models first, then fine-tuned ones."""
    parts = parts_of(request)
    names = parts.models.installed_names()
    with parts.database.read() as connection:
        rows = model_rows.list_models(connection, asker.organization)
    shown = [_base_object(name, base_id) for name, base_id in names.items()]
    shown += [_fine_tuned_object(row) for row in rows]
    return JSONResponse({"object": "list", "data": shown})


@router.get("/v1/models/{model:path}", summary="Retrieve a model")
def retrieve_model(request: Request, asker: Asker, model: str) -> JSONResponse:
    """Return a model. A fine-tuned one tells its base, its job and its prompt format."""
    models = parts_of(request).models
    name = unquote(model)
    row = models.fine_tuned(name, asker.organization)
    if row is not None:
        return JSONResponse(_fine_tuned_object(row))
    return JSONResponse(_base_object(name, models.base(name).id))


@router.delete("/v1/models/{model:path}", summary="Delete a fine-tuned model")
def delete_model(request: Request, asker: Owner, model: str) -> JSONResponse:
    """Delete a fine-tuned model and its weights."""
    parts = parts_of(request)
    name = unquote(model)
    with parts.database.write() as connection:
        row = model_rows.get(connection, asker.organization, name)
        if row is not None:
            model_rows.remove(connection, name)
    if row is None:
        parts.models.base(name)
        raise invalid(f"{name!r} is a base model; only fine-tuned models can be deleted.")
    backend: ServingBackend = request.app.state.backend
    anyio.from_thread.run(backend.unload, parts.models.folder(row))
    _remove_weights(parts, row)
    return JSONResponse({"id": name, "object": "model", "deleted": True})


@router.get("/v1/engines", summary="List models by their older name", include_in_schema=False)
def list_engines(request: Request, asker: Asker) -> JSONResponse:
    """Return the same names as `/v1/models`, for the oldest clients."""
    names = parts_of(request).models.installed_names()
    with parts_of(request).database.read() as connection:
        rows = model_rows.list_models(connection, asker.organization)
    shown = [_engine_object(name) for name in [*names, *(row.name for row in rows)]]
    return JSONResponse({"object": "list", "data": shown})


@router.get("/v1/engines/{model}", summary="Retrieve an engine", include_in_schema=False)
def retrieve_engine(request: Request, asker: Asker, model: str) -> JSONResponse:
    """Return one model in the older form."""
    name = unquote(model)
    parts_of(request).models.resolve(name, asker.organization)
    return JSONResponse(_engine_object(name))


def _engine_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "engine", "owner": "tunesmith", "ready": True}


def _base_object(name: str, base_id: str) -> dict[str, Any]:
    shown = Model(id=name, created=0, owned_by="tunesmith").model_dump()
    return shown | {"base_model": base_id}


def _fine_tuned_object(row: ModelRow) -> dict[str, Any]:
    shown = Model(
        id=row.name, created=int(row.created_at), owned_by=organization_id(row.organization)
    ).model_dump()
    return shown | {
        "base_model": row.base_model,
        "job": f"ftjob-{row.job_id}",
        "step": row.step,
        "prompt_format": row.prompt_format,
    }


def _remove_weights(parts: Parts, row: ModelRow) -> None:
    """Move the folder away at once, then remove it; what is in use stays readable till then."""
    folder = parts.models.folder(row)
    trash = folder.with_name(f".deleted-{new_token(8)}")
    try:
        folder.replace(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"The model is deleted, but its folder could not be removed: {error.strerror}."
        raise ApiError(500, message, code="folder_in_use") from None
    shutil.rmtree(trash, ignore_errors=True)
