"""Queries on exports of models. An export that has expired is no longer there for anybody."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, or_, select, update

from .creation_order import page
from .records import ExportRow, from_row
from .schema import exports

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "cancel",
    "claim",
    "count",
    "end",
    "get",
    "ids",
    "insert_export",
    "list_exports",
    "queued",
    "remove",
    "remove_expired",
    "report",
    "requeue_running",
]

_UNFINISHED = ("queued", "running")


def insert_export(connection: Connection, row: ExportRow) -> None:
    """Add an export."""
    connection.execute(insert(exports).values(**asdict(row)))


def get(connection: Connection, organization: str, export_id: str) -> ExportRow | None:
    """Return an export of the organisation."""
    query = select(exports).where(
        exports.c.id == export_id, exports.c.organization == organization, _is_kept()
    )
    row = connection.execute(query).first()
    return None if row is None else from_row(ExportRow, row)


def list_exports(
    connection: Connection,
    organization: str,
    *,
    after: ExportRow | None = None,
    limit: int,
    descending: bool = True,
) -> list[ExportRow]:
    """Return exports of the organisation after `after`, in the order of their creation."""
    query = select(exports).where(exports.c.organization == organization, _is_kept())
    query = page(query, exports, after=after, limit=limit, descending=descending)
    return [from_row(ExportRow, row) for row in connection.execute(query)]


def count(connection: Connection, organization: str) -> int:
    """Return the number of an organisation's exports."""
    query = select(func.count()).where(exports.c.organization == organization, _is_kept())
    return int(connection.execute(query).scalar_one())


def queued(connection: Connection) -> list[ExportRow]:
    """Return the exports that wait, oldest first."""
    query = select(exports).where(exports.c.status == "queued")
    query = query.order_by(exports.c.created_at, exports.c.id)
    return [from_row(ExportRow, row) for row in connection.execute(query)]


def claim(connection: Connection, export_id: str) -> ExportRow | None:
    """Mark an export that waits as running, once more; return it, None if it no longer waits."""
    where = (exports.c.id == export_id) & (exports.c.status == "queued")
    values = {"status": "running", "attempts": exports.c.attempts + 1, "progress": 0.0}
    if not connection.execute(update(exports).where(where).values(**values)).rowcount:
        return None
    row = connection.execute(select(exports).where(exports.c.id == export_id)).one()
    return from_row(ExportRow, row)


def report(connection: Connection, row: ExportRow, step: str, progress: float) -> bool:
    """Store how far a running export is; return False if it has been taken from its process."""
    values = {"step": step, "progress": progress}
    return bool(connection.execute(update(exports).where(_is_run(row)).values(**values)).rowcount)


def cancel(connection: Connection, export_id: str, expires_at: float) -> bool:
    """Cancel an export, which is listed until `expires_at`; return False if it has ended."""
    where = (exports.c.id == export_id) & exports.c.status.in_(_UNFINISHED)
    values = {"status": "cancelled", "step": "", "finished_at": time.time()}
    statement = update(exports).where(where).values(**values, expires_at=expires_at)
    return bool(connection.execute(statement).rowcount)


def end(
    connection: Connection, row: ExportRow, status: str, expires_at: float, **values: Any
) -> bool:
    """End a running export, which is kept until `expires_at`.

    Returns:
        False if it has been taken from its process, or has ended.
    """
    ended = {"status": status, "step": "", "finished_at": time.time(), "expires_at": expires_at}
    statement = update(exports).where(_is_run(row)).values(**ended, **values)
    return bool(connection.execute(statement).rowcount)


def requeue_running(connection: Connection) -> None:
    """Let the exports wait again whose processes ended with the server that started them."""
    statement = update(exports).where(exports.c.status == "running")
    connection.execute(statement.values(status="queued", step="", progress=0.0))


def remove(connection: Connection, export_id: str) -> None:
    """Remove an export."""
    connection.execute(delete(exports).where(exports.c.id == export_id))


def remove_expired(connection: Connection, now: float) -> None:
    """Remove the exports that have expired."""
    connection.execute(delete(exports).where(exports.c.expires_at <= now))


def ids(connection: Connection) -> set[str]:
    """Return the ids of all exports."""
    return set(connection.execute(select(exports.c.id)).scalars())


def _is_kept() -> Any:
    return or_(exports.c.expires_at.is_(None), exports.c.expires_at > time.time())


def _is_run(row: ExportRow) -> Any:
    same_attempt = exports.c.attempts == row.attempts
    return (exports.c.id == row.id) & (exports.c.status == "running") & same_attempt
