"""Stored chat completions: found by model and metadata, downloaded as a training file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from tunesmith.datasets.stored_completions import LeftOutError, training_rows
from tunesmith.engine.api.dependencies import get_services
from tunesmith.engine.store import stored_completion_queries

from .browser_session import SignedIn  # noqa: TC001 - FastAPI reads the annotations
from .page_routes import page_router
from .rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.store.records import StoredCompletionRow

__all__ = ["router"]

router: APIRouter = page_router()

_SHOWN = 100
_EXCERPT = 160
_Filter = Annotated[str, Query(max_length=512)]


@router.get("/stored")
def list_stored(
    request: Request, key: SignedIn, model: _Filter = "", name: _Filter = "", value: _Filter = ""
) -> Response:
    """Show stored completions, newest first, and why one would not be in a training file."""
    services = get_services(request)
    with services.database.read() as connection:
        found = stored_completion_queries.list_completions(
            connection,
            key.organization,
            limit=_SHOWN + 1,
            descending=True,
            **_filters(model, name, value),
        )
        metadata = stored_completion_queries.metadata_of(connection, [row.id for row in found])
    rows = [_shown(row, metadata[row.id]) for row in found[:_SHOWN]]
    return render(
        request,
        "stored.html",
        rows=rows,
        more=len(found) > _SHOWN,
        model=model,
        name=name,
        value=value,
        days=services.config.limits.stored_completion_days,
    )


@router.get("/stored/export")
def export(
    request: Request, key: SignedIn, model: _Filter = "", name: _Filter = "", value: _Filter = ""
) -> Response:
    """Download the completions that can be learned, oldest first, as JSON lines."""
    database = get_services(request).database

    def lines() -> Iterator[bytes]:
        after: StoredCompletionRow | None = None
        while True:
            with database.read() as connection:
                found = stored_completion_queries.list_completions(
                    connection,
                    key.organization,
                    after=after,
                    limit=_SHOWN,
                    **_filters(model, name, value),
                )
            for row in found:
                for one in _rows_of(row)[0]:
                    yield json.dumps(one, ensure_ascii=False).encode() + b"\n"
            if len(found) < _SHOWN:
                return
            after = found[-1]

    return StreamingResponse(
        lines(),
        media_type="application/jsonl",
        headers={"content-disposition": 'attachment; filename="stored-completions.jsonl"'},
    )


def _filters(model: str, name: str, value: str) -> dict[str, Any]:
    return {"model": model or None, "metadata": {name: value} if name else None}


def _rows_of(row: StoredCompletionRow) -> tuple[list[dict[str, Any]], str | None]:
    """Return the training rows of a completion, or the reason why it has none."""
    try:
        return list(training_rows(row.completion, row.messages)), None
    except LeftOutError as error:
        return [], str(error)


def _shown(row: StoredCompletionRow, metadata: dict[str, str]) -> dict[str, Any]:
    rows, reason = _rows_of(row)
    answer = rows[0]["messages"][-1] if rows else {}
    text = answer.get("content") or ", ".join(
        call["function"]["name"] for call in answer.get("tool_calls", ())
    )
    asked = rows[0]["messages"][-2]["content"] or "" if rows else ""
    return {
        "id": row.id,
        "created_at": row.created_at,
        "model": row.model,
        "metadata": metadata,
        "asked": asked[:_EXCERPT],
        "answer": text[:_EXCERPT],
        "reason": reason,
    }
