"""Pages of rows in order of creation: what lies behind a row, by time and then by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import and_, or_

if TYPE_CHECKING:
    from sqlalchemy import Select, Table

__all__ = ["CreatedRow", "page"]

_Columns = TypeVar("_Columns", bound="tuple[Any, ...]")


class CreatedRow(Protocol):
    """A row of a table with the columns `created_at` and `id`."""

    @property
    def created_at(self) -> float:
        """When it was created, in seconds since 1970."""
        ...

    @property
    def id(self) -> str:
        """Its id, which decides between rows of the same time."""
        ...


def page(
    query: Select[_Columns],
    table: Table,
    *,
    after: CreatedRow | None,
    limit: int | None,
    descending: bool,
) -> Select[_Columns]:
    """Return a query for one page of its rows.

    Args:
        query: Selects rows of the table.
        table: Has the columns `created_at` and `id`.
        after: The last row of the page before; None for the first page.
        limit: Most rows of the page; None for all.
        descending: Newest rows first.
    """
    created, identity = table.c.created_at, table.c.id
    if after is not None and descending:
        same = and_(created == after.created_at, identity < after.id)
        query = query.where(or_(created < after.created_at, same))
    elif after is not None:
        same = and_(created == after.created_at, identity > after.id)
        query = query.where(or_(created > after.created_at, same))
    order = (created.desc(), identity.desc()) if descending else (created.asc(), identity.asc())
    return query.order_by(*order).limit(limit)
