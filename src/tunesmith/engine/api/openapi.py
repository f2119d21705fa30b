"""The OpenAPI document: FastAPI's, with the response bodies and errors that are sent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tunesmith.types.chat import (
    ChatCompletion,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)
from tunesmith.types.completions import Completion
from tunesmith.types.files import FileDeleted, FileObject
from tunesmith.types.fine_tuning import (
    FineTuningJob,
    FineTuningJobCheckpoint,
    FineTuningJobEvent,
)
from tunesmith.types.graders import CheckpointPermission, CheckpointPermissionDeleted
from tunesmith.types.legacy_fine_tunes import FineTune, FineTuneEvent
from tunesmith.types.model_exports import ModelExport, ModelExportDeleted
from tunesmith.types.model_routes import (
    ModelRoute,
    ModelRouteDeleted,
    RouteCurvePoint,
    RouteDecision,
)
from tunesmith.types.models import Model, ModelDeleted
from tunesmith.types.uploads import Upload, UploadPart

from .file_fields import PURPOSES

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["install"]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail


_JOB = "/v1/fine_tuning/jobs/{fine_tuning_job_id}"
_PERMISSIONS = "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"
_STORED = "/v1/chat/completions"
_EXPORT = "/v1/exports/{export_id}"
_FINE_TUNE = "/v1/fine-tunes/{fine_tune_id}"

_RESPONSES: dict[tuple[str, str], type[BaseModel]] = {
    ("post", "/v1/files"): FileObject,
    ("get", "/v1/files/{file_id}"): FileObject,
    ("delete", "/v1/files/{file_id}"): FileDeleted,
    ("post", "/v1/uploads"): Upload,
    ("post", "/v1/uploads/{upload_id}/parts"): UploadPart,
    ("post", "/v1/uploads/{upload_id}/complete"): Upload,
    ("post", "/v1/uploads/{upload_id}/cancel"): Upload,
    ("post", "/v1/fine-tunes"): FineTune,
    ("get", _FINE_TUNE): FineTune,
    ("post", f"{_FINE_TUNE}/cancel"): FineTune,
    ("post", "/v1/fine_tuning/jobs"): FineTuningJob,
    ("get", _JOB): FineTuningJob,
    ("post", f"{_JOB}/cancel"): FineTuningJob,
    ("post", f"{_JOB}/pause"): FineTuningJob,
    ("post", f"{_JOB}/resume"): FineTuningJob,
    ("delete", f"{_PERMISSIONS}/{{permission_id}}"): CheckpointPermissionDeleted,
    ("get", "/v1/models/{model}"): Model,
    ("delete", "/v1/models/{model}"): ModelDeleted,
    ("post", "/v1/model_routes"): ModelRoute,
    ("get", "/v1/model_routes/{name}"): ModelRoute,
    ("delete", "/v1/model_routes/{name}"): ModelRouteDeleted,
    ("post", "/v1/exports"): ModelExport,
    ("get", _EXPORT): ModelExport,
    ("post", f"{_EXPORT}/cancel"): ModelExport,
    ("delete", _EXPORT): ModelExportDeleted,
    ("post", "/v1/completions"): Completion,
    ("post", "/v1/engines/{engine}/completions"): Completion,
    ("post", "/v1/chat/completions"): ChatCompletion,
    ("get", f"{_STORED}/{{completion_id}}"): ChatCompletion,
    ("post", f"{_STORED}/{{completion_id}}"): ChatCompletion,
    ("delete", f"{_STORED}/{{completion_id}}"): ChatCompletionDeleted,
}

_LISTS: dict[tuple[str, str], type[BaseModel]] = {
    ("get", "/v1/files"): FileObject,
    ("get", "/v1/fine-tunes"): FineTune,
    ("get", f"{_FINE_TUNE}/events"): FineTuneEvent,
    ("get", "/v1/fine_tuning/jobs"): FineTuningJob,
    ("get", f"{_JOB}/events"): FineTuningJobEvent,
    ("get", f"{_JOB}/checkpoints"): FineTuningJobCheckpoint,
    ("post", _PERMISSIONS): CheckpointPermission,
    ("get", _PERMISSIONS): CheckpointPermission,
    ("get", _STORED): ChatCompletion,
    ("get", f"{_STORED}/{{completion_id}}/messages"): ChatCompletionStoreMessage,
    ("get", "/v1/models"): Model,
    ("get", "/v1/model_routes"): ModelRoute,
    ("get", "/v1/model_routes/{name}/decisions"): RouteDecision,
    ("get", "/v1/model_routes/{name}/curves"): RouteCurvePoint,
    ("get", "/v1/exports"): ModelExport,
}

_STREAMS = frozenset(
    {
        ("get", f"{_FINE_TUNE}/events"),
        ("get", f"{_JOB}/events"),
        ("post", "/v1/completions"),
        ("post", "/v1/engines/{engine}/completions"),
        ("post", "/v1/chat/completions"),
    }
)

_UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {
                        "type": "string",
                        "enum": list(PURPOSES),
                    },
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {
                        "type": "integer",
                        "minimum": 3600,
                        "maximum": 2_592_000,
                    },
                    "prompt_format": {"type": "string", "description": "JSON object"},
                },
            }
        }
    },
}

_PART = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["data"],
                "properties": {"data": {"type": "string", "format": "binary"}},
            }
        }
    },
}


def install(app: FastAPI) -> None:
    """Make the application serve this document."""
    cached: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not cached:
            cached.update(_document(app))
        return cached

    app.openapi = document  # type: ignore[method-assign] # as FastAPI documents it


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    types: set[type[BaseModel]] = {Error, *_RESPONSES.values(), *_LISTS.values()}
    kinds = [(kind, "serialization") for kind in sorted(types, key=lambda kind: kind.__name__)]
    _, definitions = models_json_schema(
        kinds,  # type: ignore[arg-type] # a list of pairs, read only
        ref_template="#/components/schemas/{model}",
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(_without_client_defaults(definitions["$defs"]))
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"] = _responses(method, path)
    document["paths"]["/v1/files"]["post"]["requestBody"] = _UPLOAD
    document["paths"]["/v1/uploads/{upload_id}/parts"]["post"]["requestBody"] = _PART
    return document


def _without_client_defaults(schema: Any) -> Any:
    """Return schemas without numbers that JSON lacks.

    The types say NaN for a number that another server left out; this one sends all of them.
    """
    if isinstance(schema, dict):
        return {
            name: _without_client_defaults(value)
            for name, value in schema.items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
    if isinstance(schema, list):
        return [_without_client_defaults(part) for part in schema]
    return schema


def _responses(method: str, path: str) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if (method, path) in _RESPONSES:
        content["application/json"] = {"schema": _reference(_RESPONSES[method, path])}
    elif (method, path) in _LISTS:
        content["application/json"] = {"schema": _list_of(_LISTS[method, path])}
    else:
        content["*/*"] = {"schema": {}}
    if (method, path) in _STREAMS:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": _reference(Error)}}
    return {
        "200": {"description": "Success", "content": content},
        "4XX": {"description": "The request cannot be served as it is", "content": error},
        "5XX": {"description": "The engine failed", "content": error},
    }


def _reference(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _list_of(kind: type[BaseModel]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"type": "string", "const": "list"},
            "data": {"type": "array", "items": _reference(kind)},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        },
    }
