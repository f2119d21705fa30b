"""Queries on names that lead to models, and on how requests to them were answered."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from .records import ModelRouteRow, from_row
from .schema import model_routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = ["all_routes", "get", "names_of_target", "put", "remove"]


def all_routes(connection: Connection) -> Sequence[ModelRouteRow]:
    """Return the routes of all organisations, by name."""
    query = select(model_routes).order_by(model_routes.c.organization, model_routes.c.name)
    return [from_row(ModelRouteRow, row) for row in connection.execute(query)]


def get(connection: Connection, organization: str, name: str) -> ModelRouteRow | None:
    """Return a route of the organisation."""
    row = connection.execute(select(model_routes).where(*_is(organization, name))).first()
    return None if row is None else from_row(ModelRouteRow, row)


def put(connection: Connection, row: ModelRouteRow) -> None:
    """Add a route, or replace the one of the same name."""
    replaced = connection.execute(
        update(model_routes).where(*_is(row.organization, row.name)).values(**asdict(row))
    )
    if not replaced.rowcount:
        connection.execute(insert(model_routes).values(**asdict(row)))


def remove(connection: Connection, organization: str, name: str) -> bool:
    """Remove a route; return whether there was one."""
    done = connection.execute(delete(model_routes).where(*_is(organization, name)))
    return bool(done.rowcount)


def names_of_target(connection: Connection, organization: str, target: str) -> Sequence[str]:
    """Return the names of the organisation that lead to a model."""
    query = select(model_routes.c.name).where(
        model_routes.c.organization == organization, model_routes.c.target == target
    )
    return connection.execute(query.order_by(model_routes.c.name)).scalars().all()


def _is(organization: str, name: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return model_routes.c.organization == organization, model_routes.c.name == name
