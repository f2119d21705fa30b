"""Queries on files. Expired files are treated as deleted; garbage collection removes them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, or_, select

from tunesmith.engine.domain.job import TERMINAL_STATUSES

from .creation_order import page
from .records import FileRow, from_row
from .schema import files, jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = [
    "expired",
    "get",
    "insert_file",
    "list_files",
    "remove",
    "unfinished_job_using",
    "unused",
]


def insert_file(connection: Connection, row: FileRow) -> None:
    """Add a file whose content is stored."""
    connection.execute(insert(files).values(**_values(row)))


def get(connection: Connection, organization: str, file_id: str) -> FileRow | None:
    """Return a file of the organisation; None if there is none that has not expired."""
    query = select(files).where(
        files.c.id == file_id, files.c.organization == organization, _not_expired(time.time())
    )
    row = connection.execute(query).first()
    return None if row is None else from_row(FileRow, row)


def list_files(
    connection: Connection,
    organization: str,
    *,
    purpose: str | None = None,
    after: FileRow | None = None,
    limit: int = 10_000,
    descending: bool = True,
) -> Sequence[FileRow]:
    """Return files in order of creation, from the one after `after` on."""
    query = select(files).where(files.c.organization == organization, _not_expired(time.time()))
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    query = page(query, files, after=after, limit=limit, descending=descending)
    return [from_row(FileRow, row) for row in connection.execute(query)]


def remove(connection: Connection, file_id: str) -> None:
    """Remove the row. The content stays as long as `unused` is false for it."""
    connection.execute(delete(files).where(files.c.id == file_id))


def unused(connection: Connection, sha256: str) -> bool:
    """Return True if no file has this content."""
    query = select(func.count()).select_from(files).where(files.c.sha256 == sha256)
    return connection.execute(query).scalar_one() == 0


def expired(connection: Connection, now: float) -> Sequence[FileRow]:
    """Return the files that have expired."""
    query = select(files).where(files.c.expires_at <= now)
    return [from_row(FileRow, row) for row in connection.execute(query)]


def unfinished_job_using(connection: Connection, file_id: str) -> str | None:
    """Return the id of a job that still needs the file."""
    query = select(jobs.c.id).where(
        or_(jobs.c.training_file == file_id, jobs.c.validation_file == file_id),
        jobs.c.status.not_in(TERMINAL_STATUSES),
    )
    return connection.execute(query.limit(1)).scalar()


def _not_expired(now: float) -> ColumnElement[bool]:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > now)


def _values(row: FileRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in FileRow.__slots__}
