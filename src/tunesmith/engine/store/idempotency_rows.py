"""What was made under which idempotency key, remembered for a day.

The row is written in the transaction that makes the object, so a repeated request
finds either both or neither.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, insert, select

from .schema import idempotency

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Remembered", "find", "remember"]

_DAY = 86_400.0


class Remembered(NamedTuple):
    """The object made before, and the hash of the request that made it."""

    object_id: str
    fingerprint: str


def find(connection: Connection, organization: str, operation: str, key: str) -> Remembered | None:
    """Return what the key stands for; None if it is new or older than a day."""
    table = idempotency.c
    query = select(table.object_id, table.fingerprint).where(
        table.organization == organization,
        table.operation == operation,
        table.key == key,
        table.created_at > time.time() - _DAY,
    )
    row = connection.execute(query).first()
    return None if row is None else Remembered(*row)


def remember(
    connection: Connection, organization: str, operation: str, key: str, made: Remembered
) -> None:
    """Note what was made under the key, and forget what is older than a day."""
    now = time.time()
    connection.execute(delete(idempotency).where(idempotency.c.created_at <= now - _DAY))
    connection.execute(
        insert(idempotency).values(
            organization=organization,
            operation=operation,
            key=key,
            fingerprint=made.fingerprint,
            object_id=made.object_id,
            created_at=now,
        )
    )
