"""`/v1/chat/completions` of the past: answers that were asked for with `store`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from tunesmith.engine.store import stored_completion_queries

from .dependencies import CurrentKey, get_services
from .http_errors import invalid, not_found
from .keyed_route import KeyedRoute
from .pagination import check_limit, list_object
from .stored_answers import check_metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import StoredCompletionRow

__all__ = ["router"]

router: APIRouter = APIRouter(
    prefix="/v1/chat/completions", tags=["stored chat completions"], route_class=KeyedRoute
)

_MAX_PAGE_SIZE = 100
_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)


class UpdateCompletion(BaseModel):
    """The body of a request that changes a stored completion."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    metadata: dict[str, Any] | None


@router.get("", summary="List stored chat completions")
def list_completions(
    request: Request,
    key: CurrentKey,
    *,
    after: str | None = None,
    limit: int = 20,
    model: str | None = None,
    order: Literal["asc", "desc"] = "asc",
) -> JSONResponse:
    """Return completions, oldest first unless `order` says otherwise.

    `metadata[key]=value` keeps those that carry it, `model` those of a model.
    """
    size = check_limit(limit, _MAX_PAGE_SIZE)
    wanted = {
        match[1]: value
        for name, value in request.query_params.items()
        if (match := _METADATA.fullmatch(name))
    }
    for text in (model or "", *wanted, *wanted.values()):
        if "\0" in text:
            raise invalid("A filter cannot contain the character NUL.", param="metadata")
    with get_services(request).database.read() as connection:
        cursor = None if after is None else _find(connection, key, after)
        rows = stored_completion_queries.list_completions(
            connection,
            key.organization,
            after=cursor,
            limit=size + 1,
            model=model,
            metadata=wanted,
            descending=order == "desc",
        )
        data = _objects(connection, rows[:size])
    return JSONResponse(_page(data, has_more=len(rows) > size))


@router.get("/{completion_id}", summary="Retrieve a stored chat completion")
def retrieve_completion(request: Request, key: CurrentKey, completion_id: str) -> JSONResponse:
    """Return a completion that was made with `store`."""
    with get_services(request).database.read() as connection:
        row = _find(connection, key, completion_id)
        return JSONResponse(_objects(connection, [row])[0])


@router.post("/{completion_id}", summary="Change a stored chat completion")
def update_completion(
    request: Request, key: CurrentKey, completion_id: str, body: UpdateCompletion
) -> JSONResponse:
    """Replace the metadata of a completion; null removes them."""
    metadata = check_metadata(body.metadata)
    database = get_services(request).database
    with database.read() as connection:  # an unknown id does not wait for writers
        row = _find(connection, key, completion_id)
    with database.write_for_request() as connection:
        if not stored_completion_queries.replace_metadata(connection, row.id, metadata):
            raise not_found("completion", completion_id)
        return JSONResponse(_objects(connection, [row])[0])


@router.delete("/{completion_id}", summary="Delete a stored chat completion")
def delete_completion(request: Request, key: CurrentKey, completion_id: str) -> JSONResponse:
    """Delete a completion and the messages that it answers."""
    database = get_services(request).database
    with database.read() as connection:  # an unknown id does not wait for writers
        row = _find(connection, key, completion_id)
    with database.write_for_request() as connection:
        stored_completion_queries.remove(connection, row.id)
    return JSONResponse({"id": row.id, "object": "chat.completion.deleted", "deleted": True})


@router.get("/{completion_id}/messages", summary="List the messages that a completion answers")
def list_messages(
    request: Request,
    key: CurrentKey,
    completion_id: str,
    *,
    after: str | None = None,
    limit: int = 20,
    order: Literal["asc", "desc"] = "asc",
) -> JSONResponse:
    """Return the messages of the request, the first one first unless `order` says otherwise."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    with get_services(request).database.read() as connection:
        row = _find(connection, key, completion_id)
    messages = [
        _message_object(f"{row.id}-{number}", message)
        for number, message in enumerate(row.messages)
    ]
    if order == "desc":
        messages.reverse()
    if after is not None:
        ids = [message["id"] for message in messages]
        if after not in ids:
            raise invalid(f"No such message to list after: {after}", param="after")
        messages = messages[ids.index(after) + 1 :]
    return JSONResponse(_page(messages[:size], has_more=len(messages) > size))


def _find(connection: Connection, key: Identity, completion_id: str) -> StoredCompletionRow:
    row = None
    if "\0" not in completion_id:
        row = stored_completion_queries.get(connection, key.organization, completion_id)
    if row is None:
        raise not_found("completion", completion_id)
    return row


def _objects(connection: Connection, rows: list[StoredCompletionRow]) -> list[dict[str, Any]]:
    metadata = stored_completion_queries.metadata_of(connection, [row.id for row in rows])
    return [{**row.completion, "metadata": metadata[row.id]} for row in rows]


def _message_object(identity: str, message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = None
    if isinstance(content, list):
        parts = cast("list[dict[str, Any]]", content)
        content = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    return {
        "refusal": None,
        "name": None,
        **message,
        "id": identity,
        "content": content,
        "content_parts": parts,
    }


def _page(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    page = list_object(data, has_more=has_more)
    return page | {"first_id": page["first_id"] or None, "last_id": page["last_id"] or None}
