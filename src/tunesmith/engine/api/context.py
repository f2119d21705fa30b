"""What each request needs: the engine's parts, and who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from tunesmith.engine.security.hosts import check_host
from tunesmith.engine.security.keys import Identity

from .errors import ApiError

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.jobs.dispatcher import Dispatcher
    from tunesmith.engine.jobs.watcher import EventWatcher
    from tunesmith.engine.metrics import RequestFigures
    from tunesmith.engine.models_registry import ModelRegistry
    from tunesmith.engine.security.keys import KeyRing
    from tunesmith.engine.security.limits import RateLimiter
    from tunesmith.engine.store.blobs import BlobStore
    from tunesmith.engine.store.database import Database

__all__ = ["Asker", "Owner", "Parts", "identify", "parts_of", "require_owner"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The engine's parts, as `app.state.parts` holds them."""

    config: EngineConfig
    database: Database
    blobs: BlobStore
    models: ModelRegistry
    keys: KeyRing
    dispatcher: Dispatcher
    watcher: EventWatcher
    limiter: RateLimiter
    figures: RequestFigures


def parts_of(request: Request) -> Parts:
    """Return the engine's parts."""
    parts: Parts = request.app.state.parts
    return parts


def identify(request: Request) -> Identity:
    """Return who is asking: by key, or by the dashboard's session that has let the request in.

    Raises:
        ApiError: 401 without a key that is in use, once any key has been made; 429 for too many
            requests.
        UnknownHostError: No key has been made and the request names another machine.
    """
    known: Identity | None = request.scope.get("identity")
    if known is not None:
        return known
    header = request.headers.get("authorization", "")
    scheme, _, secret = header.partition(" ")
    secret = secret.strip() if scheme.lower() == "bearer" else ""
    parts = parts_of(request)
    identity = parts.keys.identify(secret or None)
    if identity is not None:
        if identity.key_id is None:
            check_host(request.url.hostname or "", parts.config.host)
        request.scope["identity"] = identity
        _spare(parts, request, identity)
        return identity
    if not secret:
        message = (
            "No API key was sent. Send one as `Authorization: Bearer KEY`; `tunesmith keys create` "
            "on the engine's machine makes one."
        )
        code = "missing_api_key"
    else:
        message = (
            "The API key is wrong or has been revoked. `tunesmith keys list` on the engine's "
            "machine shows the keys in use, `tunesmith keys create` makes a new one."
        )
        code = "invalid_api_key"
    raise ApiError(401, message, code=code, headers={"www-authenticate": "Bearer"})


def _spare(parts: Parts, request: Request, identity: Identity) -> None:
    """Refuse the request if there were too many of late."""
    address = request.client.host if request.client is not None else ""
    seconds = parts.limiter.take(identity.key_id or address)
    if seconds:
        raise ApiError(
            429,
            f"More than {parts.config.limits.requests_per_minute} requests a minute. Try again in "
            f"{seconds} s.",
            code="rate_limit_exceeded",
            headers={"retry-after": str(seconds)},
        )


def require_owner(asker: Asker) -> Identity:
    """Return who is asking.

    Raises:
        ApiError: 403 unless it is an owner.
    """
    if asker.role != "owner":
        raise ApiError(
            403,
            "This needs a key with the role 'owner' in the organisation; yours has the role "
            f"{asker.role!r}.",
            code="insufficient_permissions",
        )
    return asker


Asker = Annotated[Identity, Depends(identify)]
"""Parameter of an endpoint: who is asking."""

Owner = Annotated[Identity, Depends(require_owner)]
"""Parameter of an endpoint that only an owner may use."""
