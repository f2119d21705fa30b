"""Between this package and httpx: TLS, proxies, socket options, requests, error mapping.

Both httpx transports use it. It knows nothing of pools, threads or event loops.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from tunesmith.core.headers import HeaderFields
from tunesmith.core.request import deadline_exceeded
from tunesmith.errors import APIConnectionError, MissingExtraError

from .certificates import check_certificates, trusted_certificates
from .connection_errors import (
    broken,
    connect_error,
    connect_timeout,
    pool_timeout,
    read_timeout,
    shown_reason,
    write_timeout,
)
from .failure_table import library_class_names, passes
from .pool import KEEP_ALIVE_SECONDS, PROBE_SECONDS, PROBES
from .proxies import environment_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunesmith.core.request import Request

__all__ = [
    "async_connection_transport",
    "connection_error",
    "connection_transport",
    "http2_async_client",
    "http2_client",
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


def tls_context(*, trusting: bool) -> ssl.SSLContext:
    """Return a TLS context; loading the trusted authorities costs 20 ms, so it is kept.

    Connections without TLS use one that trusts no authority.

    Raises:
        ConfigurationError: SSL_CERT_FILE or SSL_CERT_DIR names no certificates.
    """
    return _tls_context(trusted_certificates()) if trusting else _untrusting_context()


@functools.lru_cache(maxsize=4)
def _tls_context(_: object) -> ssl.SSLContext:
    """Return the context for one state of the environment, which httpx reads itself."""
    check_certificates()
    return httpx.create_ssl_context()


@functools.cache
def _untrusting_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


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


def connection_transport(url: str) -> httpx.HTTPTransport:
    """Return httpx's transport for one connection to the server of `url`.

    Raises:
        ConfigurationError: A proxy or certificates that the environment names cannot be used.
        MissingExtraError: A SOCKS proxy needs the extra `socks`.
    """
    return _made(lambda: httpx.HTTPTransport(**transport_settings(url)))


def async_connection_transport(url: str) -> httpx.AsyncHTTPTransport:
    """Return the same for asyncio; see `connection_transport`."""
    return _made(lambda: httpx.AsyncHTTPTransport(**transport_settings(url)))


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except ImportError:
        pass
    raise MissingExtraError("A SOCKS proxy, which the environment names,", "socks")


class _ByProxy(Generic[T]):
    """Transports of httpx that offer HTTP/2: one for each proxy, and one for no proxy.

    Args:
        transport_class: `httpx.HTTPTransport` or `httpx.AsyncHTTPTransport`.
        max_connections: The most connections at one time.
    """

    def __init__(self, transport_class: Callable[..., T], max_connections: int) -> None:
        self._class = transport_class
        self._limits = httpx.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
        )
        self._transports: dict[tuple[str | None, object], T] = {}

    def of(self, url: str) -> T:
        """Return the transport for a URL."""
        proxy = environment_proxy(url)
        key = (proxy, trusted_certificates())
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = _made(
                lambda: self._class(
                    verify=tls_context(trusting=True),
                    http2=True,
                    limits=self._limits,
                    proxy=proxy,
                    socket_options=_socket_options(),
                )
            )
        return transport

    def all(self) -> list[T]:
        """Return all transports."""
        return list(self._transports.values())


class _Http2Transport(httpx.BaseTransport):
    """Offers HTTP/2 and follows the environment's proxies."""

    def __init__(self, max_connections: int) -> None:
        self._transports = _ByProxy(httpx.HTTPTransport, max_connections)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transports.of(str(request.url)).handle_request(request)

    def close(self) -> None:
        for transport in self._transports.all():
            transport.close()


class _AsyncHttp2Transport(httpx.AsyncBaseTransport):
    """The same for asyncio."""

    def __init__(self, max_connections: int) -> None:
        self._transports = _ByProxy(httpx.AsyncHTTPTransport, max_connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transports.of(str(request.url)).handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._transports.all():
            await transport.aclose()


def http2_client(max_connections: int) -> httpx.Client:
    """Return an httpx client that offers HTTP/2 during the TLS handshake.

    One HTTP/2 connection carries many requests, so httpx's own pool is used. Where
    the server does not agree, and without TLS, the client uses HTTP/1.1.

    Raises:
        MissingExtraError: The package h2 is not installed.
    """
    _require_h2()
    return httpx.Client(transport=_Http2Transport(max_connections), trust_env=False)


def http2_async_client(max_connections: int) -> httpx.AsyncClient:
    """Return the same client for asyncio; see `http2_client`."""
    _require_h2()
    return httpx.AsyncClient(transport=_AsyncHttp2Transport(max_connections), trust_env=False)


def _require_h2() -> None:
    try:
        import h2  # type: ignore[import-not-found,unused-ignore]  # noqa: F401 - httpx imports it when the first connection is made
    except ImportError as error:
        raise MissingExtraError("HTTP/2", "http2") from error


def connection_error(
    error: BaseException, request: Request, *, own_client: bool = False
) -> APIConnectionError:
    """Return the error of this package for an error that `is_library_failure`.

    Raise it outside the `except` block: the frames of the HTTP library would be chained to it
    otherwise, and their locals contain header fields and with them the credential.
    """
    if request.deadline is not None and time.monotonic() >= request.deadline:
        return deadline_exceeded(request)
    names = library_class_names(error)
    for name, timeout_error in _TIMEOUTS.items():
        if name in names:
            return timeout_error(request)
    reason = shown_reason(error, request)
    if "ConnectError" in names:
        return connect_error(reason, request, own_client=own_client)
    if "ProxyError" in names:
        return broken(reason, request, retryable=passes(error), what="The proxy refused")
    if passes(error):
        return broken(reason, request, retryable=True)
    return broken(reason, request, retryable=False, what="The request failed")


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
