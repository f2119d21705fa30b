"""What the routes depend on: the engine's services, and the key behind a request."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from tunesmith.engine.security.keys import Identity

from .http_errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from tunesmith.engine.config import EngineConfig
    from tunesmith.engine.jobs.dispatcher import Dispatcher
    from tunesmith.engine.jobs.export_queue import ExportQueue
    from tunesmith.engine.jobs.watcher import EventWatcher
    from tunesmith.engine.model_registry import ModelRegistry
    from tunesmith.engine.routing.route_table import RouteTable
    from tunesmith.engine.routing.upstreams import Upstreams
    from tunesmith.engine.security.keys import KeyRing
    from tunesmith.engine.security.rate_limit import ConcurrencyLimiter, RateLimiter
    from tunesmith.engine.store.blobs import BlobStore
    from tunesmith.engine.store.database import Database

    from .request_metrics import RequestMetrics

__all__ = ["CurrentKey", "OwnerKey", "Services", "get_services", "require_owner", "take_place"]


@dataclass(frozen=True, slots=True)
class Services:
    """The engine's services, as `app.state.services` holds them."""

    config: EngineConfig
    database: Database
    blobs: BlobStore
    models: ModelRegistry
    routes: RouteTable
    upstreams: Upstreams
    keys: KeyRing
    dispatcher: Dispatcher
    watcher: EventWatcher
    exports: ExportQueue
    limiter: RateLimiter
    in_progress: ConcurrencyLimiter
    request_metrics: RequestMetrics


def get_services(request: HTTPConnection) -> Services:
    """Return the engine's services."""
    services: Services = request.app.state.services
    return services


async def _current_key(request: Request) -> Identity:
    """Return the identity behind a request, which counts as in progress until it is answered.

    Dependencies are called when the body has been read: those who send none hold no place.

    Raises:
        ApiError: 429: the organisation has too many requests in progress.
    """
    return take_place(request)


def take_place(request: Request) -> Identity:
    """Count a request as in progress, once, and return the identity behind it.

    Raises:
        ApiError: 429: the organisation has too many requests in progress.
    """
    identity: Identity = request.scope["identity"]
    if request.scope.get("has_place") or request.scope.get("is_beside"):
        return identity
    limiter = get_services(request).in_progress
    if not limiter.take(identity.organization):
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{limiter.most:.0f} requests of the organisation are in progress, which is the most "
            "at a time; open event streams are among them. Try again when one has ended, or raise "
            "`concurrent_requests` under [limits] in engine.toml.",
            code="too_many_concurrent_requests",
            headers={"retry-after": "1"},
        )
    request.scope["has_place"] = True
    request.scope["after_answer"].callback(limiter.release, identity.organization)
    return identity


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


CurrentKey = Annotated[Identity, Depends(_current_key)]
"""Parameter of a `KeyedRoute`: the identity behind the request's key."""

OwnerKey = Annotated[Identity, Depends(require_owner)]
"""Parameter of a `KeyedRoute` that only an owner may use."""
