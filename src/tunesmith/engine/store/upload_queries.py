"""Queries on uploads and their parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, update

from .records import UploadPartRow, UploadRow, from_row
from .schema import upload_parts, uploads

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "finish",
    "get",
    "insert_part",
    "insert_upload",
    "list_parts",
    "pending_ids",
    "received",
    "remove_expired",
]


def insert_upload(connection: Connection, row: UploadRow) -> None:
    """Add an upload."""
    connection.execute(insert(uploads).values(**asdict(row)))


def insert_part(connection: Connection, row: UploadPartRow) -> None:
    """Add a part whose content is stored."""
    connection.execute(insert(upload_parts).values(**asdict(row)))


def get(connection: Connection, organization: str, upload_id: str) -> UploadRow | None:
    """Return an upload of the organisation, also one that has expired."""
    query = select(uploads).where(uploads.c.id == upload_id, uploads.c.organization == organization)
    row = connection.execute(query).first()
    return None if row is None else from_row(UploadRow, row)


def list_parts(connection: Connection, upload_id: str) -> dict[str, UploadPartRow]:
    """Return the parts of an upload by id."""
    query = select(upload_parts).where(upload_parts.c.upload_id == upload_id)
    rows = (from_row(UploadPartRow, row) for row in connection.execute(query))
    return {row.id: row for row in rows}


def received(connection: Connection, upload_id: str) -> tuple[int, int]:
    """Return the number of an upload's parts and their bytes."""
    query = select(func.count(), func.coalesce(func.sum(upload_parts.c.bytes), 0)).where(
        upload_parts.c.upload_id == upload_id
    )
    count, size = connection.execute(query).one()
    return int(count), int(size)


def finish(connection: Connection, upload_id: str, status: str, file_id: str | None = None) -> None:
    """End an upload as "completed" or "cancelled"; its parts are forgotten."""
    connection.execute(
        update(uploads).where(uploads.c.id == upload_id).values(status=status, file_id=file_id)
    )
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))


def remove_expired(connection: Connection, now: float) -> None:
    """Remove uploads that have expired, and their parts."""
    expired = select(uploads.c.id).where(uploads.c.expires_at <= now)
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id.in_(expired)))
    connection.execute(delete(uploads).where(uploads.c.expires_at <= now))


def pending_ids(connection: Connection) -> set[str]:
    """Return the ids of the uploads that still accept parts."""
    query = select(uploads.c.id).where(uploads.c.status == "pending")
    return set(connection.execute(query).scalars())
