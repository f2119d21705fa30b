"""Idempotency keys: a create that is sent twice makes one object."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

from tunesmith.engine.store import idempotency_rows
from tunesmith.engine.store.idempotency_rows import Remembered

from .errors import invalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Repeat", "fingerprint_of"]

_LONGEST = 255


def fingerprint_of(parts: Any) -> str:
    """Return a hash of JSON-ready data that is the same for the same request."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Repeat:
    """The idempotency key of one create, if it has one."""

    organization: str
    operation: str
    key: str | None

    @classmethod
    def of(cls, request: Request, organization: str, operation: str) -> Repeat:
        """Read the request's `Idempotency-Key`.

        Raises:
            ApiError: The key is too long.
        """
        key = request.headers.get("idempotency-key")
        if key is not None and len(key) > _LONGEST:
            raise invalid(f"An Idempotency-Key has at most {_LONGEST} characters.")
        return cls(organization, operation, key or None)

    def earlier(self, connection: Connection, fingerprint: str) -> str | None:
        """Return the id of what an earlier request with this key has made.

        Raises:
            ApiError: The key was used for a different request.
        """
        if self.key is None:
            return None
        found = idempotency_rows.find(connection, self.organization, self.operation, self.key)
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise invalid(
                "This Idempotency-Key was used for a different request. Send a new key with each "
                "new request.",
                code="idempotency_key_reused",
            )
        return found.object_id

    def remember(self, connection: Connection, fingerprint: str, object_id: str) -> None:
        """Note what this request has made, in the transaction that makes it."""
        if self.key is None:
            return
        made = Remembered(object_id, fingerprint)
        idempotency_rows.remember(connection, self.organization, self.operation, self.key, made)
