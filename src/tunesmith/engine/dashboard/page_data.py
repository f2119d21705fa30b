"""Data before training: what is wrong with a file, the fixes to accept, the rows as seen.

Nothing is written until the form is sent; then training and validation data become files of
their own, and the form of a new job opens with them.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.api.file_fields import base_name
from tunesmith.engine.api.http_errors import ApiError, invalid
from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.store import file_queries
from tunesmith.engine.store.records import FileRow, new_token

from .browser_session import SignedIn, Verified  # noqa: TC001 - FastAPI reads the annotations
from .data_checks import base_of, examiner, file_of
from .form_fields import form_lists
from .page_routes import page_router, see_other
from .rendering import render

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.engine.api.dependencies import Services
    from tunesmith.engine.security.keys import Identity

__all__ = ["router"]

router: APIRouter = page_router()

_SHARES = {"0": "none", "0.1": "10 %", "0.2": "20 %", "0.3": "30 %"}
_ROWS_FOR_VALIDATION = 20
_Ids = Annotated[list[str], Query(max_length=100)]
_Text = Annotated[str, Query(max_length=300)]


@router.get("/data/{file_id}")
def show(request: Request, key: SignedIn, file_id: str, model: _Text = "") -> Response:
    """Show the page; what is found in the file follows when it has been read."""
    row = file_of(request, key, file_id)
    return render(request, "data.html", file=row, model=model)


@router.get("/data/{file_id}/findings")
def findings(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    key: SignedIn,
    file_id: str,
    model: _Text = "",
    prompt: _Text = "",
    completion: _Text = "",
    proposed: _Ids = [],  # noqa: B006 - FastAPI copies it
    fix: _Ids = [],  # noqa: B006
    hold_out: _Text = "",
) -> Response:
    """Show findings, fixes, rows and the split; asked again whenever the form changes."""
    row = file_of(request, key, file_id)
    values = {"model": model, "prompt": prompt, "completion": completion}
    order = _order(get_services(request), key, row, values, proposed, fix)
    return _findings(request, row, order, values, hold_out, None)


@router.post("/data/{file_id}/prepare")
def prepare(
    request: Request,
    key: Verified,
    file_id: str,
    form: Annotated[dict[str, list[str]], Depends(form_lists)],
) -> Response:
    """Write training and validation data, and open the form of a new job with them."""
    services = get_services(request)
    row = file_of(request, key, file_id)
    values = {name: form.get(name, [""])[0] for name in ("model", "prompt", "completion")}
    order = _order(services, key, row, values, form.get("proposed", []), form.get("fix", []))
    hold_out = form.get("hold_out", ["0"])[0]
    if hold_out not in _SHARES:
        raise invalid("The share for validation is not one of those offered.", param="hold_out")
    content = services.blobs.path(row.sha256)
    found = examiner(request).examine(content, row.filename, order)
    if not found.get("ok"):
        return _findings(request, row, order, values, hold_out, "The rows cannot be trained on.")
    more = {**order, "hold_out": float(hold_out)}
    with examiner(request).prepared(content, row.filename, more) as (written, folder):
        if "problem" in written:
            return _findings(request, row, order, values, hold_out, written["problem"])
        files = [(folder / "training.jsonl", "train")]
        if written["validation"]:
            files.append((folder / "validation.jsonl", "valid"))
        ids = [
            _keep(services, key, path, f"{PurePath(row.filename).stem}_{kind}.jsonl", written)
            for path, kind in files
        ]
    address = f"/new-job?file={ids[0]}"
    address += f"&validation={ids[1]}" if len(ids) > 1 else ""
    if found["method"] == "dpo":
        address += "&method=dpo"
    return see_other(request, address + (f"&model={values['model']}" if values["model"] else ""))


def _order(  # noqa: PLR0917 - what an order is made of
    services: Services,
    key: Identity,
    row: FileRow,
    values: dict[str, str],
    proposed: list[str],
    accepted: list[str],
) -> dict[str, Any]:
    base = base_of(services, key, values["model"] or _default_model(services))
    return {
        "base_path": None if base is None else str(base[1]),
        "max_tokens": None if base is None else base[2],
        "prompt": values["prompt"] or None,
        "completion": values["completion"] or None,
        "refused": [name for name in proposed if name not in accepted],
        "accepted": accepted,
        "prompt_format": row.prompt_format,
    }


def _default_model(services: Services) -> str:
    return next(iter(services.models.installed_names()), "")


def _findings(  # noqa: PLR0917 - what the template needs
    request: Request,
    row: FileRow,
    order: dict[str, Any],
    values: dict[str, str],
    hold_out: str,
    problem: str | None,
) -> Response:
    services = get_services(request)
    found: dict[str, Any]
    try:
        found = examiner(request).examine(services.blobs.path(row.sha256), row.filename, order)
    except (ApiError, RequestError) as error:
        found = {"problem": error.message}
    rows = found.get("rows", 0)
    default = "0.2" if found.get("classes") and rows >= _ROWS_FOR_VALIDATION else "0"
    return render(
        request,
        "data_findings.html" if "hx-request" in request.headers else "data.html",
        status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
        file=row,
        found=found,
        values=values,
        model=values["model"],
        base_models=list(services.models.installed_names()),
        shares=_SHARES,
        hold_out=hold_out if hold_out in _SHARES else default,
        problem=problem or found.get("problem"),
    )


def _keep(services: Services, key: Identity, path: Path, name: str, written: dict[str, Any]) -> str:
    """Store a file that was written, for training, and return its id."""
    with services.blobs.add(path) as blob:
        row = FileRow(
            id=f"file-{new_token()}",
            organization=key.organization,
            created_at=time.time(),
            filename=base_name(name),
            purpose="fine-tune",
            bytes=blob.bytes,
            sha256=blob.sha256,
            prompt_format=written["prompt_format"],
        )
        with services.database.write_for_request() as connection:
            services.blobs.keep(blob)
            file_queries.insert_file(connection, row)
    return row.id
