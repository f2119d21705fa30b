"""API keys: shown once when they are created, stored as a hash.

A key is 32 random letters and digits, so a plain SHA-256 cannot be reversed by search.

As long as no key has ever been created, the engine is open to everyone who reaches it.
It then listens on loopback only, and answers only under a name of this machine: a page of
another site that resolves its own name to 127.0.0.1 (DNS rebinding) is refused.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, insert, select, update

from tunesmith.core.urls import is_loopback_host
from tunesmith.engine.domain.errors import EngineError, UnknownHostError
from tunesmith.engine.store.records import new_token
from tunesmith.engine.store.schema import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.engine.store.database import Database

__all__ = [
    "Identity",
    "KeyRing",
    "KeyRow",
    "Role",
    "check_host",
    "create_key",
    "is_organization_name",
    "list_keys",
    "revoke_key",
]

Role = Literal["owner", "member"]

_ORGANIZATION = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_REFRESH_SECONDS = 1.0
_FRESH_SECONDS = 0.9  # less, so that no query becomes due before the answer is used


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request comes from. `key_id` is None while no key has been created."""

    organization: str
    role: Role
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key without its secret. `hint` is the last four characters."""

    id: str
    name: str
    hint: str
    organization: str
    role: Role
    created_at: float
    revoked_at: float | None


def create_key(
    database: Database, *, name: str, role: Role = "member", organization: str = "local"
) -> tuple[KeyRow, str]:
    """Create a key and return it with its secret, which is not stored.

    Raises:
        EngineError: The role or the organisation's name is not a valid one.
    """
    if role not in ("owner", "member"):
        raise EngineError(f"{role!r} is not a role. The roles are: owner, member.")
    if not is_organization_name(organization):
        raise EngineError(
            f"{organization!r} cannot name an organisation: use 1 to 40 lower-case letters, digits "
            "and hyphens, because the name becomes a part of model names."
        )
    secret = f"sk-tunesmith-{new_token(32)}"
    row = KeyRow(f"key-{new_token()}", name, secret[-4:], organization, role, time.time(), None)
    values = {field: getattr(row, field) for field in KeyRow.__slots__}
    with database.write() as connection:
        connection.execute(insert(keys).values(**values, sha256=_digest(secret)))
    return row, secret


def is_organization_name(text: str) -> bool:
    """Return whether an organisation can have this name."""
    return _ORGANIZATION.fullmatch(text) is not None


def list_keys(database: Database) -> Sequence[KeyRow]:
    """Return all keys, revoked ones included, oldest first."""
    query = select(*(keys.c[field] for field in KeyRow.__slots__)).order_by(keys.c.created_at)
    with database.read() as connection:
        return [KeyRow(*row) for row in connection.execute(query)]


def revoke_key(database: Database, key_id: str) -> None:
    """Revoke a key; servers stop accepting it within a second.

    Raises:
        EngineError: There is no such key, or it is revoked already.
    """
    query = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
    with database.write() as connection:
        changed = connection.execute(query.values(revoked_at=time.time())).rowcount
    if not changed:
        raise EngineError(f"There is no key {key_id!r} in use. `tunesmith keys list` shows them.")


class KeyRing:
    """The keys of a running server, re-read at most once a second.

    Args:
        database: Where the keys are.
        organization: Owner of what is created while there are no keys.
    """

    def __init__(self, database: Database, organization: str) -> None:
        self._database = database
        self._open = Identity(organization, "owner")
        self._known: dict[str, Identity] = {}
        self._exist = False
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    @property
    def is_fresh(self) -> bool:
        """Whether `identify` answers from memory, for a moment at least."""
        return time.monotonic() - self._read_at < _FRESH_SECONDS

    @property
    def exist(self) -> bool:
        """True once any key has been created, even if all have been revoked since."""
        self._refresh()
        return self._exist

    def identify(self, secret: str | None) -> Identity | None:
        """Return the identity of a key; None if the key is missing, wrong or revoked."""
        self._refresh()
        if not self._exist:
            return self._open
        return None if secret is None else self._known.get(_digest(secret))

    def holder(self, key_id: str) -> Identity | None:
        """Return the identity of the key with this id; None if the key is revoked."""
        self._refresh()
        return next((one for one in self._known.values() if one.key_id == key_id), None)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at < _REFRESH_SECONDS:
                return
            columns = (keys.c.sha256, keys.c.organization, keys.c.role, keys.c.id)
            query = select(*columns).where(keys.c.revoked_at.is_(None))
            with self._database.read() as connection:
                rows = connection.execute(query).all()
                count = connection.execute(select(func.count()).select_from(keys)).scalar_one()
            self._known = {row.sha256: Identity(row.organization, row.role, row.id) for row in rows}
            self._exist = count > 0
            self._read_at = time.monotonic()


def check_host(host: str, bound: str) -> None:
    """Check that a request names this machine. Needed only while no key has been created.

    Args:
        host: The host name of the request's URL, without a port.
        bound: The name that the engine is bound to.

    Raises:
        UnknownHostError: It names another machine.
    """
    if host != bound and not is_loopback_host(host):
        raise UnknownHostError(
            "As long as no API key exists, the engine answers only under this machine's own "
            "names, such as localhost. `tunesmith keys create` on the engine's machine makes a "
            "key."
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
