"""The errors that every transport raises alike, with their texts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.core.request import deadline_exceeded
from tunesmith.errors import APIConnectionError, PoolTimeoutError

from .limits import is_loopback

if TYPE_CHECKING:
    from tunesmith.core.request import Request
    from tunesmith.errors import RequestInfo

__all__ = ["connect_failure", "pool_timeout", "seconds", "server_of"]


def pool_timeout(request: Request, connections: int | None) -> APIConnectionError:
    """Return the error for a request that found no free connection in the time it had."""
    if request.deadline is not None and time.monotonic() >= request.deadline:
        return deadline_exceeded(request)
    limit = f" (limit {connections})" if connections else ""
    return PoolTimeoutError(
        f"No free connection in the pool{limit} within {seconds(request.timeout.pool)}; "
        "the server was not asked. Close streams you no longer read, send fewer requests at "
        "once, or raise max_connections.",
        request=request.info,
    )


def connect_failure(reason: str, info: RequestInfo) -> APIConnectionError:
    """Return the error for a connection that did not come about, with the way out."""
    if "CERTIFICATE" in reason.upper() or "SSL" in reason.upper():
        return APIConnectionError(
            f"No safe connection to {server_of(info)}: {reason}. Where the server's certificate is "
            "your own, name its authority in SSL_CERT_FILE.",
            request=info,
            retryable=False,
        )
    if is_loopback(info.url):
        port = urlsplit(info.url).port
        return APIConnectionError(
            f"No engine runs at {server_of(info)}: {reason}. Start one with "
            f"`tunesmith serve{f' --port {port}' if port else ''}`, or name another server with "
            "base_url or TUNESMITH_BASE_URL.",
            request=info,
        )
    return APIConnectionError(f"No connection to {server_of(info)}: {reason}.", request=info)


def server_of(info: RequestInfo) -> str:
    """Return scheme, host and port of a request's address."""
    parts = urlsplit(info.url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def seconds(limit: float | None) -> str:
    """Return a time limit for a message."""
    return "the time allowed" if limit is None else f"{limit:g} s"
