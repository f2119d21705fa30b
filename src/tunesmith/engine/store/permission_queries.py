"""Queries on the permissions of organisations to use another one's models."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from .creation_order import page
from .records import CheckpointPermissionRow, from_row
from .schema import checkpoint_permissions, models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

__all__ = ["get", "insert_permission", "list_permissions", "lock_model", "permitted", "remove"]

_table = checkpoint_permissions


def lock_model(connection: Connection, organization: str, name: str) -> bool:
    """Keep others from changing a model and its permissions; False if there is none."""
    query = select(models.c.name).where(
        models.c.name == name, models.c.organization == organization
    )
    return connection.execute(query.with_for_update()).first() is not None


def insert_permission(connection: Connection, row: CheckpointPermissionRow) -> None:
    """Add a permission to a locked model."""
    connection.execute(insert(_table).values(**asdict(row)))


def permitted(connection: Connection, model: str) -> dict[str, CheckpointPermissionRow]:
    """Return the permissions of a model by organisation."""
    rows = connection.execute(select(_table).where(_table.c.model == model))
    found = (from_row(CheckpointPermissionRow, row) for row in rows)
    return {row.organization: row for row in found}


def get(connection: Connection, model: str, permission_id: str) -> CheckpointPermissionRow | None:
    """Return a permission of a model."""
    query = select(_table).where(_table.c.model == model, _table.c.id == permission_id)
    row = connection.execute(query).first()
    return None if row is None else from_row(CheckpointPermissionRow, row)


def list_permissions(
    connection: Connection,
    model: str,
    *,
    organization: str | None = None,
    after: CheckpointPermissionRow | None = None,
    limit: int | None = None,
    descending: bool = True,
) -> Sequence[CheckpointPermissionRow]:
    """Return permissions of a model in order of creation, from the one after `after` on."""
    query = select(_table).where(_table.c.model == model)
    if organization is not None:
        query = query.where(_table.c.organization == organization)
    query = page(query, _table, after=after, limit=limit, descending=descending)
    return [from_row(CheckpointPermissionRow, row) for row in connection.execute(query)]


def remove(connection: Connection, permission_id: str) -> None:
    """Remove a permission."""
    connection.execute(delete(_table).where(_table.c.id == permission_id))
