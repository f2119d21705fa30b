"""Queries on how requests to names with a route were answered."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, delete, func, insert, select

from .creation_order import page
from .records import RouteDecisionRow, from_row
from .schema import route_decisions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = ["curves", "get", "insert_decisions", "list_decisions", "remove_old"]

_table = route_decisions
_SECONDS = 60


def insert_decisions(connection: Connection, rows: Sequence[RouteDecisionRow]) -> None:
    """Add decisions."""
    connection.execute(insert(_table), [asdict(row) for row in rows])


def get(connection: Connection, organization: str, identity: str) -> RouteDecisionRow | None:
    """Return a decision of the organisation."""
    query = select(_table).where(_table.c.id == identity, _table.c.organization == organization)
    row = connection.execute(query).first()
    return None if row is None else from_row(RouteDecisionRow, row)


def list_decisions(
    connection: Connection,
    organization: str,
    name: str,
    *,
    after: RouteDecisionRow | None = None,
    limit: int | None = None,
) -> Sequence[RouteDecisionRow]:
    """Return the decisions on a name, newest first, from the one after `after` on."""
    query = select(_table).where(_table.c.organization == organization, _table.c.name == name)
    query = page(query, _table, after=after, limit=limit, descending=True)
    return [from_row(RouteDecisionRow, row) for row in connection.execute(query)]


def curves(
    connection: Connection, organization: str, name: str, *, since: float, minutes: int
) -> Sequence[dict[str, Any]]:
    """Return sums over spans of so many minutes, from the one of `since` on, without empty ones.

    Each has `created_at` and the columns of `types.model_routes.RouteCurvePoint`.
    """
    first = int(since // _SECONDS)
    first -= first % minutes
    begin = (_table.c.minute - _table.c.minute % minutes).label("begin")
    compared = _table.c.mirror == "compared"
    query = (
        select(
            begin,
            func.count().label("requests"),
            _count(_table.c.side == "upstream").label("upstream"),
            _count(_table.c.side == "local").label("local"),
            _count(_table.c.side == "none").label("failures"),
            _count(_table.c.fallback.is_(True)).label("fallbacks"),
            _count(compared).label("compared"),
            _count(_table.c.mirror == "dropped").label("dropped"),
            _count(_table.c.same_text.is_(True)).label("same_text"),
            _count(_table.c.same_normalized.is_(True)).label("same_normalized"),
            _count(_table.c.same_calls.is_(True)).label("same_calls"),
            _count(_table.c.same_calls.is_not(None)).label("with_calls"),
            _count(_table.c.same_class.is_(True)).label("same_label"),
            _count(_table.c.same_class.is_not(None)).label("with_label"),
            func.avg(_table.c.upstream_seconds).label("upstream_seconds"),
            func.avg(_table.c.local_seconds).label("local_seconds"),
        )
        .where(
            _table.c.organization == organization,
            _table.c.name == name,
            _table.c.created_at >= first * _SECONDS,
        )
        .group_by(begin)
        .order_by(begin)
    )
    points: list[dict[str, Any]] = []
    for row in connection.execute(query):
        point = dict(row._mapping)  # noqa: SLF001 - the documented way to a mapping
        begun = point.pop("begin") * _SECONDS
        points.append({"created_at": begun, "seconds": minutes * _SECONDS} | point)
    return points


def remove_old(connection: Connection, *, before: float, most: int) -> None:
    """Remove decisions that are older than `before`, and the oldest of more than `most`."""
    connection.execute(delete(_table).where(_table.c.created_at < before))
    order = (_table.c.created_at.desc(), _table.c.id.desc())
    newest = select(_table.c.created_at, _table.c.id).order_by(*order).offset(most).limit(1)
    first = connection.execute(newest).first()
    if first is not None:
        older = _table.c.created_at < first.created_at
        same = and_(_table.c.created_at == first.created_at, _table.c.id <= first.id)
        connection.execute(delete(_table).where(older | same))


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
