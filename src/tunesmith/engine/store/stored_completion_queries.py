"""Queries on stored chat completions and their metadata."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, func, insert, select

from .creation_order import page
from .records import StoredCompletionRow, from_row
from .schema import stored_completion_metadata, stored_completions

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Connection

__all__ = [
    "count",
    "get",
    "insert_completion",
    "list_completions",
    "metadata_of",
    "remove",
    "remove_expired",
    "replace_metadata",
]

_table = stored_completions
_pairs = stored_completion_metadata


def insert_completion(
    connection: Connection, row: StoredCompletionRow, metadata: Mapping[str, str]
) -> None:
    """Add a completion."""
    connection.execute(insert(_table).values(**asdict(row)))
    _insert_metadata(connection, row.id, metadata)


def count(connection: Connection, organization: str) -> int:
    """Return the number of an organisation's completions that have not expired."""
    query = select(func.count()).where(
        _table.c.organization == organization, _table.c.expires_at > time.time()
    )
    return int(connection.execute(query).scalar_one())


def get(
    connection: Connection, organization: str, completion_id: str
) -> StoredCompletionRow | None:
    """Return a completion of the organisation that has not expired."""
    query = select(_table).where(
        _table.c.id == completion_id,
        _table.c.organization == organization,
        _table.c.expires_at > time.time(),
    )
    row = connection.execute(query).first()
    return None if row is None else from_row(StoredCompletionRow, row)


def list_completions(
    connection: Connection,
    organization: str,
    *,
    after: StoredCompletionRow | None = None,
    limit: int | None = None,
    model: str | None = None,
    metadata: Mapping[str, str] | None = None,
    descending: bool = False,
) -> list[StoredCompletionRow]:
    """Return completions in order of creation, from the one after `after` on."""
    query = select(_table).where(
        _table.c.organization == organization, _table.c.expires_at > time.time()
    )
    if model is not None:
        query = query.where(_table.c.model == model)
    for key, value in (metadata or {}).items():
        query = query.where(
            exists().where(
                _pairs.c.completion_id == _table.c.id,
                _pairs.c.key == key,
                _pairs.c.value == value,
            )
        )
    query = page(query, _table, after=after, limit=limit, descending=descending)
    return [from_row(StoredCompletionRow, row) for row in connection.execute(query)]


def metadata_of(
    connection: Connection, completion_ids: Collection[str]
) -> dict[str, dict[str, str]]:
    """Return the metadata of each of these completions."""
    found: dict[str, dict[str, str]] = {identity: {} for identity in completion_ids}
    query = select(_pairs).where(_pairs.c.completion_id.in_(found)).order_by(_pairs.c.key)
    for identity, key, value in connection.execute(query):
        found[identity][key] = value
    return found


def replace_metadata(
    connection: Connection, completion_id: str, metadata: Mapping[str, str]
) -> bool:
    """Give a completion other metadata; False if it is gone."""
    known = select(_table.c.id).where(_table.c.id == completion_id).with_for_update()
    if connection.execute(known).first() is None:
        return False
    connection.execute(delete(_pairs).where(_pairs.c.completion_id == completion_id))
    _insert_metadata(connection, completion_id, metadata)
    return True


def remove(connection: Connection, completion_id: str) -> None:
    """Remove a completion and its metadata."""
    connection.execute(delete(_table).where(_table.c.id == completion_id))


def remove_expired(connection: Connection, now: float) -> None:
    """Remove the completions that have expired, of all organisations."""
    connection.execute(delete(_table).where(_table.c.expires_at <= now))


def _insert_metadata(
    connection: Connection, completion_id: str, metadata: Mapping[str, str]
) -> None:
    rows = [
        {"completion_id": completion_id, "key": key, "value": value}
        for key, value in metadata.items()
    ]
    if rows:
        connection.execute(insert(_pairs), rows)
