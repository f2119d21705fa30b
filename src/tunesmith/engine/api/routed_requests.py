"""The route class of completions and chat: requests to names with a route take their own way.

The name is looked up in memory, after the key and before the body is validated: what the other
service would take and this engine would refuse still reaches the other service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import anyio.to_thread

from tunesmith.engine.routing.upstream_client import ServiceCall

from .dependencies import get_services, take_place
from .keyed_route import KeyedRoute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request, Response

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.store.records import ModelRouteRow

    from .gateway import Gateway, Handle

__all__ = ["RoutedRoute"]


class RoutedRoute(KeyedRoute):
    """A route whose requests name a model in their body or in their path."""

    async def respond(self, request: Request, handle: Handle) -> Response:
        """Answer by the route of the model's name, if it has one."""
        if request.scope.get("is_beside"):
            return await handle(request)
        identity: Identity = request.scope["identity"]
        routes = await _routes(request, identity.organization)
        if not routes:
            return await handle(request)
        fields = await _fields(request)
        name = request.path_params.get("engine")
        name = fields.get("model") if name is None else unquote(name)
        route = routes.get(name) if isinstance(name, str) else None
        if route is None:
            return await handle(request)
        take_place(request)
        call = ServiceCall(
            "chat/completions" if self.path.endswith("/chat/completions") else "completions",
            route.name,
            await request.body(),
            fields,
            request.headers,
        )
        gateway: Gateway = request.app.state.gateway
        return await gateway.respond(request, handle, route, call)


async def _routes(request: Request, organization: str) -> Mapping[str, ModelRouteRow]:
    table = get_services(request).routes
    if table.is_fresh:
        return table.of(organization)
    return await anyio.to_thread.run_sync(table.of, organization)


async def _fields(request: Request) -> dict[str, Any]:
    """Return the body, which the request keeps for its handler; empty if it is no JSON object."""
    try:
        fields = await request.json()
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}
