"""Queries on fine-tuned models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, or_, select

from tunesmith.engine.domain.job import TERMINAL_STATUSES

from .records import ModelRow, from_row
from .schema import checkpoint_permissions, jobs, models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = [
    "find",
    "get",
    "get_usable",
    "insert_model",
    "is_taken",
    "list_models",
    "list_usable",
    "names",
    "names_on_base",
    "remove",
    "unfinished_job_continuing",
]


def insert_model(connection: Connection, row: ModelRow) -> None:
    """Add a model whose folder exists."""
    connection.execute(
        insert(models).values({name: getattr(row, name) for name in ModelRow.__slots__})
    )


def find(connection: Connection, name: str) -> ModelRow | None:
    """Return the fine-tuned model of this name, whichever organisation has it."""
    row = connection.execute(select(models).where(models.c.name == name)).first()
    return None if row is None else from_row(ModelRow, row)


def names(connection: Connection) -> Sequence[str]:
    """Return the names of all fine-tuned models, oldest first."""
    query = select(models.c.name).order_by(models.c.created_at, models.c.name)
    return connection.execute(query).scalars().all()


def names_on_base(connection: Connection, base_model: str) -> Sequence[str]:
    """Return the names of the fine-tuned models that need a base model, oldest first."""
    query = select(models.c.name).where(models.c.base_model == base_model)
    return connection.execute(query.order_by(models.c.created_at, models.c.name)).scalars().all()


def get(connection: Connection, organization: str, name: str) -> ModelRow | None:
    """Return a fine-tuned model of the organisation."""
    query = select(models).where(models.c.name == name, models.c.organization == organization)
    row = connection.execute(query).first()
    return None if row is None else from_row(ModelRow, row)


def get_usable(connection: Connection, organization: str, name: str) -> ModelRow | None:
    """Return a fine-tuned model that the organisation has, or has the permission to use."""
    query = select(models).where(models.c.name == name, _usable_by(organization))
    row = connection.execute(query).first()
    return None if row is None else from_row(ModelRow, row)


def is_taken(connection: Connection, name: str) -> bool:
    """Return True if any organisation has a model of this name."""
    return (
        connection.execute(select(models.c.name).where(models.c.name == name)).first() is not None
    )


def list_models(connection: Connection, organization: str) -> Sequence[ModelRow]:
    """Return the organisation's models, oldest first."""
    query = select(models).where(models.c.organization == organization)
    query = query.order_by(models.c.created_at, models.c.name)
    return [from_row(ModelRow, row) for row in connection.execute(query)]


def list_usable(connection: Connection, organization: str) -> Sequence[ModelRow]:
    """Return the models that the organisation has, or has the permission to use, oldest first."""
    query = select(models).where(_usable_by(organization))
    query = query.order_by(models.c.created_at, models.c.name)
    return [from_row(ModelRow, row) for row in connection.execute(query)]


def _usable_by(organization: str) -> ColumnElement[bool]:
    permitted = select(checkpoint_permissions.c.model).where(
        checkpoint_permissions.c.organization == organization
    )
    return or_(models.c.organization == organization, models.c.name.in_(permitted))


def remove(connection: Connection, name: str) -> None:
    """Remove a model's row, and the permissions to use it."""
    connection.execute(delete(models).where(models.c.name == name))


def unfinished_job_continuing(connection: Connection, name: str) -> str | None:
    """Return the id of a job that still needs the model, because it trains it further."""
    query = select(jobs.c.id).where(
        jobs.c.parent_model == name, jobs.c.status.not_in(TERMINAL_STATUSES)
    )
    return connection.execute(query.limit(1)).scalar()
