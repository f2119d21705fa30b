"""The connection errors that all transports share, and their messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.core.request import deadline_exceeded
from tunesmith.core.urls import is_loopback_url
from tunesmith.errors import (
    APIConnectionError,
    ConnectTimeoutError,
    PoolTimeoutError,
    ReadTimeoutError,
    WriteTimeoutError,
)

if TYPE_CHECKING:
    from tunesmith.core.request import Request
    from tunesmith.errors import RequestInfo

__all__ = ["connect_error", "connect_timeout", "pool_timeout", "read_timeout", "write_timeout"]


def connect_error(reason: str, request: Request) -> APIConnectionError:
    """Return the error for a connection that failed, with what to do about it."""
    info = request.info
    if "CERTIFICATE" in reason.upper() or "SSL" in reason.upper():
        return APIConnectionError(
            f"No secure connection to {_server(info)}: {reason}. If the server's certificate is "
            "your own, set SSL_CERT_FILE to the certificate of its authority.",
            request=info,
            retryable=False,
        )
    if is_loopback_url(info.url):
        port = urlsplit(info.url).port
        return APIConnectionError(
            f"No engine runs at {_server(info)}: {reason}. Start one with "
            f"`tunesmith serve{f' --port {port}' if port else ''}`, or name another server with "
            "base_url or TUNESMITH_BASE_URL.",
            request=info,
        )
    return APIConnectionError(f"No connection to {_server(info)}: {reason}.", request=info)


def connect_timeout(request: Request) -> ConnectTimeoutError:
    """Return the error for a connection that took too long."""
    return ConnectTimeoutError(
        f"No connection to {_server(request.info)} within {_seconds(request.timeout.connect)}.",
        request=request.info,
    )


def read_timeout(request: Request) -> ReadTimeoutError:
    """Return the error for a response that stopped arriving."""
    info = request.info
    return ReadTimeoutError(
        f"{_server(info)} sent nothing for {_seconds(request.timeout.read)}, in response to "
        f"{info.method} {info.url}.",
        request=info,
    )


def write_timeout(request: Request) -> WriteTimeoutError:
    """Return the error for a request that the server stopped reading."""
    info = request.info
    return WriteTimeoutError(
        f"{_server(info)} read nothing for {_seconds(request.timeout.write)}, during "
        f"{info.method} {info.url}.",
        request=info,
    )


def pool_timeout(request: Request, connections: int | None = None) -> APIConnectionError:
    """Return the error for a request that got none of `connections` in time."""
    if request.deadline is not None and time.monotonic() >= request.deadline:
        return deadline_exceeded(request)
    limit = f" (limit {connections})" if connections else ""
    return PoolTimeoutError(
        f"No free connection in the pool{limit} within {_seconds(request.timeout.pool)}; the "
        "request was not sent. Close streams that you no longer read, send fewer requests at "
        "once, or raise max_connections.",
        request=request.info,
    )


def _server(info: RequestInfo) -> str:
    """Return scheme, host and port of a request's URL."""
    parts = urlsplit(info.url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _seconds(limit: float | None) -> str:
    return "the time allowed" if limit is None else f"{limit:g} s"
