"""Which transport a client gets: httpx by default, the fast engine, or one of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tunesmith.errors import ConfigurationError, MissingExtraError

from .limits import MAX_CONNECTIONS
from .local import ProcessLocal, UserOwned

if TYPE_CHECKING:
    from .async_driver import AsyncTransport
    from .sync_driver import Transport

__all__ = ["async_transport", "sync_transport"]


def sync_transport(
    chosen: Any,
    http_client: Any,
    max_connections: int | None,
    http2: bool,  # noqa: FBT001 - called in two places
) -> Transport:
    """Return the blocking transport.

    Raises:
        ConfigurationError: `http_client` cannot send requests, or the transport is unknown.
        MissingExtraError: What it needs is not installed.
    """
    limit = max_connections or MAX_CONNECTIONS
    if http_client is not None:
        from .sync_http import UserClientTransport

        _check(http_client, "close", "httpx.Client")
        return UserClientTransport(UserOwned(http_client))
    if chosen == "fast":
        engine = _fast_engine()
        return cast("Transport", engine.FastTransport(max_connections=limit, http2=http2))
    if chosen not in {None, "httpx"}:
        return cast("Transport", _own(chosen))
    if http2:
        from .http2 import make_client
        from .sync_http import UserClientTransport

        return UserClientTransport(ProcessLocal(lambda: make_client(limit)))
    from .sync_http import HttpxTransport

    return HttpxTransport(max_connections=limit)


def async_transport(
    chosen: Any,
    http_client: Any,
    max_connections: int | None,
    http2: bool,  # noqa: FBT001 - called in two places
) -> AsyncTransport:
    """Return the transport for asyncio.

    Raises:
        ConfigurationError: `http_client` cannot send requests, or the transport is unknown.
        MissingExtraError: What it needs is not installed.
    """
    limit = max_connections or MAX_CONNECTIONS
    if http_client is not None:
        from .async_http import AsyncUserClientTransport

        _check(http_client, "aclose", "httpx.AsyncClient")
        return AsyncUserClientTransport(UserOwned(http_client))
    if chosen == "fast":
        engine = _fast_engine()
        return cast("AsyncTransport", engine.AsyncFastTransport(max_connections=limit, http2=http2))
    if chosen not in {None, "httpx"}:
        return cast("AsyncTransport", _own(chosen))
    if http2:
        from .async_http import AsyncUserClientTransport
        from .http2 import make_async_client
        from .loop_local import LoopLocal

        return AsyncUserClientTransport(LoopLocal(lambda: make_async_client(limit)))
    from .async_http import AsyncHttpxTransport

    return AsyncHttpxTransport(max_connections=limit)


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
