"""HTTP/2 on httpx: one connection carries many requests, so httpx's own client and pool serve.

Servers agree to HTTP/2 during the TLS handshake; where they do not, and without TLS, it is
HTTP/1.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import httpx

from tunesmith.errors import MissingExtraError

from .limits import KEEP_ALIVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_async_client", "make_client"]

T = TypeVar("T")


def make_client(limit: int) -> httpx.Client:
    """Return a client with at most `limit` connections.

    Raises:
        MissingExtraError: The package h2 is not installed.
    """
    return _made(httpx.Client, limit)


def make_async_client(limit: int) -> httpx.AsyncClient:
    """Return a client for asyncio; see `make_client`."""
    return _made(httpx.AsyncClient, limit)


def _made(kind: Callable[..., T], limit: int) -> T:
    limits = httpx.Limits(
        max_connections=limit,
        max_keepalive_connections=limit,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
    )
    try:
        return kind(http2=True, limits=limits)
    except ImportError as error:
        raise MissingExtraError("HTTP/2", "http2") from error
