"""Exports of models: the form that asks for one, and the table with their progress."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, get_args

import pydantic
from fastapi import APIRouter, Form, Request, Response

from tunesmith.engine.api.dependencies import get_services, require_owner
from tunesmith.engine.api.http_errors import ApiError
from tunesmith.engine.api.routes_exports import (
    ExportBody,
    cancel_export,
    create_export,
    delete_export,
)
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.store import export_queries
from tunesmith.types.model_exports import Quantization

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from tunesmith.engine.security.keys import Identity

__all__ = ["router"]

router: APIRouter = page_router()

_MAX_EXPORTS = 100
_FORMATS = {
    "peft": "the adapter, for transformers with PEFT, vLLM, SGLang",
    "merged": "whole weights, for transformers, vLLM and every converter",
    "gguf": "one file for llama.cpp and LM Studio",
    "ollama": "the same with a Modelfile for Ollama",
}


@router.get("/exports")
def list_exports(request: Request, key: SignedIn) -> Response:
    """Show the organisation's exports: the table alone, which htmx asks for again and again."""
    with get_services(request).database.read() as connection:
        rows = export_queries.list_exports(
            connection, require_owner(key).organization, limit=_MAX_EXPORTS
        )
    return render(
        request, "exports_table.html", exports=rows, busy=any(not row.finished_at for row in rows)
    )


@router.get("/exports/new")
def show_form(request: Request, key: SignedIn, model: str = "") -> Response:
    """Show the form for an export of a model."""
    require_owner(key)
    return _form(request, {"model": model}, None)


@router.post("/exports")
def create(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    key: Verified,
    model: Annotated[str, Form()],
    format: Annotated[str, Form()],  # noqa: A002 - the name on the wire
    quantization: Annotated[str, Form()] = "bf16",
    with_base: Annotated[str, Form()] = "",
) -> Response:
    """Begin the export, or show the form again with what is wrong."""
    owner: Identity = require_owner(key)
    values: dict[str, Any] = {
        "model": model,
        "format": format,
        "quantization": quantization,
        "with_base": bool(with_base),
    }
    try:
        create_export(request, owner, ExportBody.model_validate(values))
    except pydantic.ValidationError as error:
        return _form(request, values, f"{error.errors()[0]['msg']}.")
    except (ApiError, RequestError) as error:
        return _form(request, values, error.message)
    return see_other(request, "/models#exports")


@router.post("/exports/{export_id}/cancel")
def cancel(request: Request, key: Verified, export_id: str) -> Response:
    """Cancel an export, by the API's rules."""
    cancel_export(request, require_owner(key), export_id)
    return see_other(request, "/models#exports")


@router.post("/exports/{export_id}/delete")
def delete(request: Request, key: Verified, export_id: str) -> Response:
    """Delete an export, by the API's rules."""
    delete_export(request, require_owner(key), export_id)
    return see_other(request, "/models#exports")


def _form(request: Request, values: dict[str, Any], problem: str | None) -> Response:
    return render(
        request,
        "new_export.html",
        status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
        formats=_FORMATS,
        quantizations=get_args(Quantization),
        values=values,
        problem=problem,
    )
