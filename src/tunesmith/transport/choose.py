"""Which transport a client gets: the user's own httpx client, or the built-in connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.errors import ConfigurationError

if TYPE_CHECKING:
    from .async_driver import AsyncTransport
    from .sync_driver import Transport

__all__ = ["async_transport", "sync_transport"]


def sync_transport(http_client: Any, max_connections: int | None) -> Transport:
    """Return the blocking transport.

    Raises:
        ConfigurationError: `http_client` cannot send requests.
    """
    from .http_common import MAX_CONNECTIONS
    from .sync_http import HttpxTransport, UserClientTransport

    if http_client is None:
        return HttpxTransport(max_connections=max_connections or MAX_CONNECTIONS)
    _check(http_client, "close", "httpx.Client")
    return UserClientTransport(http_client)


def async_transport(http_client: Any, max_connections: int | None) -> AsyncTransport:
    """Return the transport for asyncio.

    Raises:
        ConfigurationError: `http_client` cannot send requests.
    """
    from .async_http import AsyncHttpxTransport, AsyncUserClientTransport
    from .http_common import MAX_CONNECTIONS

    if http_client is None:
        return AsyncHttpxTransport(max_connections=max_connections or MAX_CONNECTIONS)
    _check(http_client, "aclose", "httpx.AsyncClient")
    return AsyncUserClientTransport(http_client)


def _check(http_client: Any, closing: str, wanted: str) -> None:
    if not (hasattr(http_client, "build_request") and hasattr(http_client, closing)):
        raise ConfigurationError(
            f"http_client must be an {wanted}, not {type(http_client).__name__}."
        )
