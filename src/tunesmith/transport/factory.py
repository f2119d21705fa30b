"""Creates the transport of a client: httpx by default, pyreqwest, or one of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tunesmith.errors import ConfigurationError, MissingExtraError

from .pool import MAX_CONNECTIONS, ProcessLocal, UserOwned

if TYPE_CHECKING:
    from .async_driver import AsyncTransport
    from .sync_driver import Transport

__all__ = ["make_async_transport", "make_sync_transport"]


def make_sync_transport(
    transport: Any = None,
    *,
    http_client: Any = None,
    max_connections: int | None = None,
    http2: bool = False,
) -> Transport:
    """Return the transport of a blocking client.

    Args:
        transport: "httpx", "fast", an object with a `send` method, or None for httpx.
        http_client: A client of httpx to send with, which takes precedence.
        max_connections: Connections at most at one time, 1000 by default.
        http2: Whether to offer HTTP/2 to servers.

    Raises:
        ConfigurationError: `http_client` cannot send requests, or the transport is unknown.
        MissingExtraError: The transport requires an extra that is not installed.
    """
    limit = max_connections or MAX_CONNECTIONS
    if http_client is not None:
        from .sync_httpx import UserClientTransport

        _check_client(http_client, "close", "httpx.Client")
        return UserClientTransport(UserOwned(http_client))
    if transport == "fast":
        fast = _fast_module()
        fallback = ProcessLocal(lambda: make_sync_transport(max_connections=limit, http2=http2))
        return cast("Transport", fast.FastTransport(fallback, max_connections=limit, http2=http2))
    if transport not in {None, "httpx"}:
        return cast("Transport", _checked_transport(transport))
    if http2:
        from .httpx_adapter import http2_client
        from .sync_httpx import UserClientTransport

        return UserClientTransport(ProcessLocal(lambda: http2_client(limit)))
    from .sync_httpx import HttpxTransport

    return HttpxTransport(max_connections=limit)


def make_async_transport(
    transport: Any = None,
    *,
    http_client: Any = None,
    max_connections: int | None = None,
    http2: bool = False,
) -> AsyncTransport:
    """Return the transport of an asyncio client; see `make_sync_transport`.

    Raises:
        ConfigurationError: `http_client` cannot send requests, or the transport is unknown.
        MissingExtraError: The transport requires an extra that is not installed.
    """
    limit = max_connections or MAX_CONNECTIONS
    if http_client is not None:
        from .async_httpx import AsyncUserClientTransport

        _check_client(http_client, "aclose", "httpx.AsyncClient")
        return AsyncUserClientTransport(UserOwned(http_client))
    if transport == "fast":
        fast = _fast_module()
        fallback = ProcessLocal(lambda: make_async_transport(max_connections=limit, http2=http2))
        return cast(
            "AsyncTransport", fast.AsyncFastTransport(fallback, max_connections=limit, http2=http2)
        )
    if transport not in {None, "httpx"}:
        return cast("AsyncTransport", _checked_transport(transport))
    if http2:
        from .async_httpx import AsyncUserClientTransport
        from .async_pool import LoopLocal
        from .httpx_adapter import http2_async_client

        return AsyncUserClientTransport(
            LoopLocal(lambda: http2_async_client(limit), lambda client: client.aclose())
        )
    from .async_httpx import AsyncHttpxTransport

    return AsyncHttpxTransport(max_connections=limit)


def _checked_transport(transport: Any) -> Any:
    """Return a transport of the user's own."""
    if hasattr(transport, "send"):
        return transport
    raise ConfigurationError(
        f'transport must be "httpx", "fast" or an object with a `send` method, not {transport!r}.'
    )


def _fast_module() -> Any:
    try:
        from . import fast
    except ImportError as error:
        raise MissingExtraError("The fast transport", "fast") from error
    return fast


def _check_client(http_client: Any, close_method: str, expected: str) -> None:
    if not (hasattr(http_client, "build_request") and hasattr(http_client, close_method)):
        raise ConfigurationError(
            f"http_client must be an {expected}, not {type(http_client).__name__}."
        )
