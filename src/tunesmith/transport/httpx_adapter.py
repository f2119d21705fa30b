"""Between this package and httpx: TLS, proxies, socket options, requests, error mapping.

Both httpx transports use it. It knows nothing of pools, threads or event loops.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from tunesmith.core.headers import HeaderFields
from tunesmith.core.request import deadline_exceeded
from tunesmith.core.urls import is_loopback_url
from tunesmith.errors import APIConnectionError, MissingExtraError

from .connection_errors import (
    connect_error,
    connect_timeout,
    pool_timeout,
    read_timeout,
    write_timeout,
)
from .pool import KEEP_ALIVE_SECONDS, PROBE_SECONDS, PROBES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunesmith.core.request import Request

__all__ = [
    "connection_error",
    "environment_proxy",
    "http2_async_client",
    "http2_client",
    "is_transport_error",
    "parsed_url",
    "transport_settings",
    "wire_content",
    "wire_headers",
    "wire_timeout",
]

T = TypeVar("T")

_TIMEOUTS: dict[str, Callable[[Request], APIConnectionError]] = {
    "ConnectTimeout": connect_timeout,
    "ReadTimeout": read_timeout,
    "WriteTimeout": write_timeout,
    "PoolTimeout": pool_timeout,
}

parsed_url: Callable[[str], httpx.URL] = functools.lru_cache(maxsize=512)(httpx.URL)


@functools.cache
def tls_context(*, trusting: bool) -> ssl.SSLContext:
    """Return the process's TLS context; loading the trusted authorities costs 20 ms.

    Connections without TLS use one that trusts no authority.
    """
    return httpx.create_ssl_context() if trusting else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def transport_settings(url: str) -> dict[str, Any]:
    """Return the arguments of an httpx transport for one connection to the server of `url`."""
    proxy = environment_proxy(url)
    return {
        "verify": tls_context(trusting=proxy is not None or not url.startswith("http:")),
        "proxy": proxy,
        "limits": httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE_SECONDS
        ),
        "socket_options": _socket_options(),
    }


def _socket_options() -> list[tuple[int, int, int]]:
    """Return the options of every socket: no delay, and keep-alive if the system supports it."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", PROBES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options


def environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for `url`; never one for loopback."""
    if is_loopback_url(url):
        return None
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def http2_client(max_connections: int) -> httpx.Client:
    """Return an httpx client that offers HTTP/2 during the TLS handshake.

    One HTTP/2 connection carries many requests, so httpx's own client and pool are used. Where
    the server does not agree, and without TLS, the client uses HTTP/1.1.

    Raises:
        MissingExtraError: The package h2 is not installed.
    """
    return _http2(httpx.Client, max_connections)


def http2_async_client(max_connections: int) -> httpx.AsyncClient:
    """Return the same client for asyncio; see `http2_client`."""
    return _http2(httpx.AsyncClient, max_connections)


def _http2(client_class: Callable[..., T], max_connections: int) -> T:
    limits = httpx.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
    )
    try:
        return client_class(http2=True, limits=limits)
    except ImportError as error:
        raise MissingExtraError("HTTP/2", "http2") from error


def is_transport_error(error: BaseException) -> bool:
    """Return whether httpx or httpx2 raised this."""
    return not _class_names(error).isdisjoint({"RequestError", "StreamError", "InvalidURL"})


def connection_error(error: BaseException, request: Request) -> APIConnectionError:
    """Return the error of this package for an error of httpx.

    Raise it outside the `except` block: the frames of the HTTP library would be chained to it
    otherwise, and their locals contain header fields and with them the credential.
    """
    if request.deadline is not None and time.monotonic() >= request.deadline:
        return deadline_exceeded(request)
    names, reason = _class_names(error), str(error).rstrip(".") or type(error).__name__
    for name, timeout_error in _TIMEOUTS.items():
        if name in names:
            return timeout_error(request)
    if "ConnectError" in names:
        return connect_error(reason, request)
    info = request.info
    return APIConnectionError(
        f"The connection broke during {info.method} {info.url}: {reason}", request=info
    )


def _class_names(error: BaseException) -> set[str]:
    """Return the names of the error's classes in httpx, or in its continuation httpx2."""
    return {
        base.__name__
        for base in type(error).__mro__
        if base.__module__.partition(".")[0] in {"httpx", "httpx2"}
    }


def wire_headers(request: Request) -> HeaderFields:
    """Return the header fields with the content length that the body needs."""
    body = request.body
    if body is None:
        # A POST without a body says so; some servers wait for one otherwise.
        return (
            HeaderFields({**request.headers, "content-length": "0"})
            if request.method == "POST"
            else request.headers
        )
    if isinstance(body, bytes) or body.length is None:
        return request.headers
    return HeaderFields({**request.headers, "content-length": str(body.length)})


def wire_content(request: Request) -> bytes | Iterator[bytes] | None:
    """Return the body as httpx takes it, read from its beginning."""
    body = request.body
    return body if body is None or isinstance(body, bytes) else body.chunks()


def wire_timeout(request: Request) -> tuple[float | None, ...]:
    """Return the time limits as httpx and httpx2 take them: connect, read, write, pool."""
    return tuple(request.limits().phases().values())
