"""`/v1/fine_tuning/checkpoints/{model}/permissions`: who else may use a fine-tuned model.

What the hosted service calls a project is an organisation here, so a `project_id` is an
organisation's id: "org-NAME". A permission lets its keys send requests to the model; its
files, jobs and deletion stay with the organisation that trained it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.engine.jobs.wire_objects import organization_id, permission_object
from tunesmith.engine.models.model_errors import UnknownModelError
from tunesmith.engine.security.keys import is_organization_name
from tunesmith.engine.store import model_queries, permission_queries
from tunesmith.engine.store.records import CheckpointPermissionRow, new_token

from .dependencies import OwnerKey, get_services
from .http_errors import invalid, not_found
from .keyed_route import KeyedRoute
from .pagination import check_limit, cursor_of, list_object

__all__ = ["router"]

router: APIRouter = APIRouter(
    prefix="/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint:path}/permissions",
    tags=["checkpoint permissions"],
    route_class=KeyedRoute,
)

_PREFIX = organization_id("")
_MAX_PAGE_SIZE = 1000
_MAX_PERMISSIONS = 1000


class CreatePermissions(BaseModel):
    """The body of a request for permissions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    project_ids: Annotated[
        list[Annotated[str, Field(max_length=80)]],
        Field(min_length=1, max_length=_MAX_PERMISSIONS),
    ]


@router.post("", summary="Let organisations use a fine-tuned model")
def create_permissions(
    request: Request, key: OwnerKey, fine_tuned_model_checkpoint: str, body: CreatePermissions
) -> JSONResponse:
    """Give permissions; an organisation that has one already keeps it."""
    name = unquote(fine_tuned_model_checkpoint)
    wanted = [_organization(one, number) for number, one in enumerate(body.project_ids)]
    now = time.time()
    database = get_services(request).database
    with database.read() as connection:  # an unknown name does not wait for writers
        known = model_queries.get(connection, key.organization, name) is not None
    if not known:
        raise _unknown(name)
    with database.write_for_request() as connection:
        if not permission_queries.lock_model(connection, key.organization, name):
            raise _unknown(name)
        rows = permission_queries.permitted(connection, name)
        for organization in dict.fromkeys(wanted):
            if organization in rows:
                continue
            row = CheckpointPermissionRow(f"cp_{new_token()}", name, organization, now)
            permission_queries.insert_permission(connection, row)
            rows[organization] = row
        if len(rows) > _MAX_PERMISSIONS:
            raise invalid(
                f"A model has at most {_MAX_PERMISSIONS} permissions.", param="project_ids"
            )
    given = [rows[organization] for organization in dict.fromkeys(wanted)]
    return JSONResponse(_page(given, has_more=False))


@router.get("", summary="List who may use a fine-tuned model")
def list_permissions(
    request: Request,
    key: OwnerKey,
    fine_tuned_model_checkpoint: str,
    *,
    after: str | None = None,
    limit: int = 10,
    order: Literal["ascending", "descending"] = "descending",
    project_id: str | None = None,
) -> JSONResponse:
    """Return permissions, newest first unless `order` says otherwise."""
    size = check_limit(limit, _MAX_PAGE_SIZE)
    name = unquote(fine_tuned_model_checkpoint)
    with get_services(request).database.read() as connection:
        if model_queries.get(connection, key.organization, name) is None:
            raise _unknown(name)
        cursor = cursor_of(
            after, "permission", lambda id_: permission_queries.get(connection, name, id_)
        )
        organization = None
        if project_id is not None:
            organization = _organization_or_none(project_id)
            if organization is None:
                return JSONResponse(_page([], has_more=False))
        rows = permission_queries.list_permissions(
            connection,
            name,
            organization=organization,
            after=cursor,
            limit=size + 1,
            descending=order == "descending",
        )
    return JSONResponse(_page(rows[:size], has_more=len(rows) > size))


@router.delete("/{permission_id}", summary="Take a permission back")
def delete_permission(
    request: Request, key: OwnerKey, fine_tuned_model_checkpoint: str, permission_id: str
) -> JSONResponse:
    """Delete a permission; requests that are being answered end as they would have."""
    name = unquote(fine_tuned_model_checkpoint)
    database = get_services(request).database
    with database.read() as connection:  # an unknown id does not wait for writers
        if model_queries.get(connection, key.organization, name) is None:
            raise _unknown(name)
        if permission_queries.get(connection, name, permission_id) is None:
            raise not_found("permission", permission_id)
    with database.write_for_request() as connection:
        permission_queries.remove(connection, permission_id)
    return JSONResponse({"id": permission_id, "object": "checkpoint.permission", "deleted": True})


def _page(rows: Sequence[CheckpointPermissionRow], *, has_more: bool) -> dict[str, Any]:
    page = list_object([permission_object(row) for row in rows], has_more=has_more)
    return page | {"first_id": page["first_id"] or None, "last_id": page["last_id"] or None}


def _organization(project_id: str, number: int) -> str:
    organization = _organization_or_none(project_id)
    if organization is None:
        raise invalid(
            f"{project_id!r} is no id of an organisation: what the hosted service calls a project "
            f"is an organisation here, such as {organization_id('team-b')!r} for the keys of "
            "`tunesmith keys create --org team-b`.",
            param=f"project_ids[{number}]",
        )
    return organization


def _organization_or_none(project_id: str) -> str | None:
    name = project_id.removeprefix(_PREFIX)
    return name if project_id != name and is_organization_name(name) else None


def _unknown(name: str) -> UnknownModelError:
    return UnknownModelError(f"Your organisation has no fine-tuned model {name!r}.")
