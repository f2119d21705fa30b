"""Queries on idempotency keys, which are kept for a day.

The row is written in the transaction that creates the object, so a repeated request
finds either both or neither.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, insert, select

from .schema import idempotency

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["IdempotentResult", "find", "record"]

_LIFETIME_SECONDS = 86_400.0


class IdempotentResult(NamedTuple):
    """The object that was created, and the hash of the request that created it."""

    object_id: str
    fingerprint: str


def find(
    connection: Connection, organization: str, operation: str, key: str
) -> IdempotentResult | None:
    """Return what was created under the key; None if the key is new or older than a day."""
    table = idempotency.c
    query = select(table.object_id, table.fingerprint).where(
        table.organization == organization,
        table.operation == operation,
        table.key == key,
        table.created_at > time.time() - _LIFETIME_SECONDS,
    )
    row = connection.execute(query).first()
    return None if row is None else IdempotentResult(*row)


def record(
    connection: Connection, organization: str, operation: str, key: str, result: IdempotentResult
) -> None:
    """Record what was created under the key, and delete keys older than a day."""
    now = time.time()
    connection.execute(
        delete(idempotency).where(idempotency.c.created_at <= now - _LIFETIME_SECONDS)
    )
    connection.execute(
        insert(idempotency).values(
            organization=organization,
            operation=operation,
            key=key,
            fingerprint=result.fingerprint,
            object_id=result.object_id,
            created_at=now,
        )
    )
