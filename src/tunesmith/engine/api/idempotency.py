"""Idempotency keys: a create request that is sent twice creates one object."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

from tunesmith.engine.store import idempotency_queries
from tunesmith.engine.store.idempotency_queries import IdempotentResult

from .http_errors import invalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["IdempotencyKey", "fingerprint_of"]

_MAX_LENGTH = 255


def fingerprint_of(data: Any) -> str:
    """Return a hash of JSON-ready data that is the same for the same request."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The idempotency key of a create request; `key` is None if it has none."""

    organization: str
    operation: str
    key: str | None

    @classmethod
    def from_request(cls, request: Request, organization: str, operation: str) -> IdempotencyKey:
        """Read the request's `Idempotency-Key`.

        Raises:
            ApiError: The key is too long.
        """
        key = request.headers.get("idempotency-key")
        if key is not None and len(key) > _MAX_LENGTH:
            raise invalid(f"An Idempotency-Key has at most {_MAX_LENGTH} characters.")
        return cls(organization, operation, key or None)

    def find_previous(self, connection: Connection, fingerprint: str) -> str | None:
        """Return the id of the object that a previous request with this key created.

        Raises:
            ApiError: The key was used for a different request.
        """
        if self.key is None:
            return None
        found = idempotency_queries.find(connection, self.organization, self.operation, self.key)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise invalid(
                "This Idempotency-Key was used for a different request. Send a new key with each "
                "new request.",
                code="idempotency_key_reused",
            )
        return found.object_id

    def record(self, connection: Connection, fingerprint: str, object_id: str) -> None:
        """Record the object that this request creates, in the transaction that creates it."""
        if self.key is None:
            return
        result = IdempotentResult(object_id, fingerprint)
        idempotency_queries.record(connection, self.organization, self.operation, self.key, result)
