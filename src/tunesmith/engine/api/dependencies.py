"""What the routes depend on: the engine's services, and the key behind a request."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from tunesmith.engine.security.keys import Identity, check_host

from .http_errors import ApiError

if TYPE_CHECKING:
    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.jobs.dispatcher import Dispatcher
    from tunesmith.engine.jobs.watcher import EventWatcher
    from tunesmith.engine.model_registry import ModelRegistry
    from tunesmith.engine.security.keys import KeyRing
    from tunesmith.engine.security.rate_limit import RateLimiter
    from tunesmith.engine.store.blobs import BlobStore
    from tunesmith.engine.store.database import Database

    from .request_metrics import RequestMetrics

__all__ = ["CurrentKey", "OwnerKey", "Services", "get_services", "identify", "require_owner"]


@dataclass(frozen=True, slots=True)
class Services:
    """The engine's services, as `app.state.services` holds them."""

    config: EngineConfig
    database: Database
    blobs: BlobStore
    models: ModelRegistry
    keys: KeyRing
    dispatcher: Dispatcher
    watcher: EventWatcher
    limiter: RateLimiter
    request_metrics: RequestMetrics


def get_services(request: Request) -> Services:
    """Return the engine's services."""
    services: Services = request.app.state.services
    return services


def identify(request: Request) -> Identity:
    """Return the identity behind a request: that of its key, or of its dashboard session.

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
    services = get_services(request)
    identity = services.keys.identify(secret or None)
    if identity is not None:
        if identity.key_id is None:
            check_host(request.url.hostname or "", services.config.host)
        request.scope["identity"] = identity
        _check_rate_limit(services, request, identity)
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
    raise ApiError(
        HTTPStatus.UNAUTHORIZED, message, code=code, headers={"www-authenticate": "Bearer"}
    )


def _check_rate_limit(services: Services, request: Request, identity: Identity) -> None:
    """Raise ApiError if the key has sent too many requests within the last minute."""
    address = request.client.host if request.client is not None else ""
    seconds = services.limiter.take(identity.key_id or address)
    if seconds:
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"More than {services.config.limits.requests_per_minute} requests a minute. Try again "
            f"in {seconds} s.",
            code="rate_limit_exceeded",
            headers={"retry-after": str(seconds)},
        )


def require_owner(key: CurrentKey) -> Identity:
    """Return the identity behind a request.

    Raises:
        ApiError: 403 unless its role is owner.
    """
    if key.role != "owner":
        raise ApiError(
            HTTPStatus.FORBIDDEN,
            "This needs a key with the role 'owner' in the organisation; yours has the role "
            f"{key.role!r}.",
            code="insufficient_permissions",
        )
    return key


CurrentKey = Annotated[Identity, Depends(identify)]
"""Parameter of a route: the identity behind the request's key."""

OwnerKey = Annotated[Identity, Depends(require_owner)]
"""Parameter of a route that only an owner may use."""
