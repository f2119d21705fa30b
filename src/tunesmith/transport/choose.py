"""Which transport a client gets: httpx by default, the fast engine, or one of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tunesmith.errors import ConfigurationError, MissingExtraError

from .limits import MAX_CONNECTIONS

if TYPE_CHECKING:
    from .async_driver import AsyncTransport
    from .sync_driver import Transport

__all__ = ["async_transport", "sync_transport"]


def sync_transport(chosen: Any, http_client: Any, max_connections: int | None) -> Transport:
    """Return the blocking transport.

    Raises:
        ConfigurationError: `http_client` cannot send requests, or the transport is unknown.
    """
    limit = max_connections or MAX_CONNECTIONS
    if http_client is not None:
        from .sync_http import UserClientTransport

        _check(http_client, "close", "httpx.Client")
        return UserClientTransport(http_client)
    if chosen == "fast":
        return cast("Transport", _fast_engine().FastTransport(max_connections=limit))
    if chosen in {None, "httpx"}:
        from .sync_http import HttpxTransport

        return HttpxTransport(max_connections=limit)
    return cast("Transport", _own(chosen))


def async_transport(chosen: Any, http_client: Any, max_connections: int | None) -> AsyncTransport:
    """Return the transport for asyncio.

    Raises:
        ConfigurationError: `http_client` cannot send requests, or the transport is unknown.
    """
    limit = max_connections or MAX_CONNECTIONS
    if http_client is not None:
        from .async_http import AsyncUserClientTransport

        _check(http_client, "aclose", "httpx.AsyncClient")
        return AsyncUserClientTransport(http_client)
    if chosen == "fast":
        return cast("AsyncTransport", _fast_engine().AsyncFastTransport(max_connections=limit))
    if chosen in {None, "httpx"}:
        from .async_http import AsyncHttpxTransport

        return AsyncHttpxTransport(max_connections=limit)
    return cast("AsyncTransport", _own(chosen))


def _own(chosen: Any) -> Any:
    """Return a transport of the user's making."""
    if hasattr(chosen, "send"):
        return chosen
    raise ConfigurationError(
        f'transport must be "httpx", "fast" or an object with a `send` method, not {chosen!r}.'
    )


def _fast_engine() -> Any:
    try:
        from . import fast
    except ImportError as error:
        raise MissingExtraError("The fast transport", "fast") from error
    return fast


def _check(http_client: Any, closing: str, wanted: str) -> None:
    if not (hasattr(http_client, "build_request") and hasattr(http_client, closing)):
        raise ConfigurationError(
            f"http_client must be an {wanted}, not {type(http_client).__name__}."
        )
