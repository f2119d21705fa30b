"""`/v1/models`: base models that are installed, and fine-tuned ones that a key may use."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import anyio.from_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tunesmith.disk_space import folder_bytes
from tunesmith.engine.domain.job import public_id
from tunesmith.engine.domain.json_values import find_json_fault
from tunesmith.engine.jobs.wire_objects import organization_id
from tunesmith.engine.model_registry import ModelRegistry
from tunesmith.engine.models.model_info import BaseModel
from tunesmith.engine.security.keys import Identity
from tunesmith.engine.serving.backend import ServingBackend
from tunesmith.engine.store import model_queries, route_queries
from tunesmith.engine.store.records import ModelRouteRow, ModelRow
from tunesmith.engine.store.removal import remove, set_aside
from tunesmith.types.models import Model

from .dependencies import CurrentKey, OwnerKey, Services, get_services
from .http_errors import ApiError, invalid
from .keyed_route import KeyedRoute

__all__ = ["router"]

router: APIRouter = APIRouter(tags=["models"], route_class=KeyedRoute)


@router.get("/v1/models", summary="List models")
def list_models(request: Request, key: CurrentKey) -> JSONResponse:
    """Return every name that requests may use: of base models, fine-tuned ones, and others."""
    services = get_services(request)
    names = services.models.installed_names()
    with services.database.read() as connection:
        rows = model_queries.list_usable(connection, key.organization)
    routes = services.routes.of(key.organization)
    data = [_base_object(name, base) for name, base in names.items() if name not in routes]
    data += [_fine_tuned_object(row, key) for row in rows]
    data += [_other_name(route) for route in routes.values()]
    return JSONResponse({"object": "list", "data": data})


@router.get("/v1/models/{model:path}", summary="Retrieve a model")
def retrieve_model(request: Request, key: CurrentKey, model: str) -> JSONResponse:
    """Return a model; a fine-tuned one with its base model, job and prompt format.

    `path` says how its base model is trained and served, once that has been proven. Another name
    of a model is shown with `target` and what is known of that, and with the stage of its route.
    """
    models = get_services(request).models
    name = unquote(model)
    route = get_services(request).routes.get(key.organization, name)
    if route is None:
        return JSONResponse(_model(models, name, key))
    shown = _other_name(route)
    if route.target is not None:
        shown = _model(models, route.target, key) | shown
    return JSONResponse(shown)


def _model(models: ModelRegistry, name: str, key: Identity) -> dict[str, Any]:
    """Return the object of a model by its own name."""
    row = models.usable(name, key.organization)
    if row is not None:
        path = _path_object(models, models.base(row.base_model))
        return _fine_tuned_object(row, key) | path
    base = models.base(name)
    return _base_object(name, base.id) | _path_object(models, base)


@router.delete("/v1/models/{model:path}", summary="Delete a fine-tuned model")
def delete_model(request: Request, key: OwnerKey, model: str) -> JSONResponse:
    """Delete a fine-tuned model and its weights."""
    services = get_services(request)
    name = unquote(model)
    with services.database.read() as connection:  # an unknown name does not wait for writers
        row = model_queries.get(connection, key.organization, name)
    if row is None:
        if services.routes.get(key.organization, name) is not None:
            raise invalid(
                f"{name!r} is another name of a model: DELETE /v1/model_routes/… deletes the name.",
                param="model",
            )
        services.models.base(name)
        raise invalid(f"{name!r} is a base model; only fine-tuned models can be deleted.")
    with services.database.write_for_request() as connection:
        job_id = model_queries.unfinished_job_continuing(connection, name)
        if job_id is not None:
            raise invalid(
                f"The job {public_id(job_id)}, which has not ended, continues the training of "
                f"{name}. Cancel the job or wait for its end.",
                param="model",
                code="model_in_use",
            )
        others = route_queries.names_of_target(connection, key.organization, name)
        if others:
            raise invalid(
                f"The model answers under the name {others[0]!r}, too. First point that at another "
                "model, or delete it.",
                param="model",
                code="model_in_use",
            )
        model_queries.remove(connection, name)
    backend: ServingBackend = request.app.state.backend
    folder = services.models.folder(row)
    anyio.from_thread.run(backend.unload, folder)
    freed = folder_bytes(folder) if folder.is_dir() else 0
    _remove_weights(services, row)
    return JSONResponse({"id": name, "object": "model", "deleted": True, "freed_bytes": freed})


@router.get("/v1/engines", summary="List models as engines", include_in_schema=False)
def list_engines(request: Request, key: CurrentKey) -> JSONResponse:
    """Return the same names as `/v1/models`, for very old clients."""
    names = get_services(request).models.installed_names()
    with get_services(request).database.read() as connection:
        rows = model_queries.list_usable(connection, key.organization)
    others = list(get_services(request).routes.of(key.organization))
    known = [*names, *(row.name for row in rows), *others]
    data = [_engine_object(name) for name in dict.fromkeys(known)]
    return JSONResponse({"object": "list", "data": data})


@router.get("/v1/engines/{model}", summary="Retrieve an engine", include_in_schema=False)
def retrieve_engine(request: Request, key: CurrentKey, model: str) -> JSONResponse:
    """Return one model as an engine object."""
    name = unquote(model)
    get_services(request).models.resolve(name, key.organization)
    return JSONResponse(_engine_object(name))


def _engine_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "engine", "owner": "tunesmith", "ready": True}


def _base_object(name: str, base_id: str) -> dict[str, Any]:
    payload = Model(id=name, created=0, owned_by="tunesmith").model_dump()
    return payload | {"base_model": base_id}


def _other_name(route: ModelRouteRow) -> dict[str, Any]:
    owner = organization_id(route.organization)
    payload = Model(id=route.name, created=int(route.created_at), owned_by=owner).model_dump()
    return payload | {"target": route.target, "upstream": route.upstream, "stage": route.stage}


def _path_object(models: ModelRegistry, base: BaseModel) -> dict[str, Any]:
    verdict = models.verdict(base)
    return {"path": None if verdict is None else asdict(verdict)}


def _fine_tuned_object(row: ModelRow, key: Identity) -> dict[str, Any]:
    is_own = row.organization == key.organization
    payload = Model(
        id=row.name, created=int(row.created_at), owned_by=organization_id(row.organization)
    ).model_dump()
    return payload | {
        "base_model": row.base_model,
        "job": public_id(row.job_id) if row.job_id and is_own else None,
        "step": row.step,
        "prompt_format": None if find_json_fault(row.prompt_format) else row.prompt_format,
    }


def _remove_weights(services: Services, row: ModelRow) -> None:
    try:
        aside = set_aside(services.models.folder(row))
    except OSError as error:
        message = f"The model is deleted, but its folder could not be removed: {error.strerror}."
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, code="folder_in_use") from None
    if aside is not None:
        remove(aside)
