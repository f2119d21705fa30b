"""What both httpx transports share: TLS, proxies, socket options, addresses, error mapping.

The modules of this package are the only ones that import httpx.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from tunesmith.core.headers import HeaderFields
from tunesmith.core.request import deadline_exceeded
from tunesmith.errors import (
    APIConnectionError,
    ConnectTimeoutError,
    ReadTimeoutError,
    WriteTimeoutError,
)

from .failures import connect_failure, pool_timeout, seconds, server_of
from .limits import KEEP_ALIVE_SECONDS, PROBE_SECONDS, PROBES, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunesmith.core.request import Body, Request

__all__ = [
    "environment_proxy",
    "is_transport_error",
    "parsed_url",
    "raise_error",
    "transport_settings",
    "wire_content",
    "wire_headers",
    "wire_timeout",
]

parsed_url: Callable[[str], httpx.URL] = functools.lru_cache(maxsize=512)(httpx.URL)


@functools.cache
def tls_context(*, trusting: bool) -> ssl.SSLContext:
    """Return the process's TLS context; loading the trusted authorities costs 20 ms.

    Connections that speak no TLS get one that trusts nobody.
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
        "socket_options": socket_options(),
    }


def socket_options() -> list[tuple[int, int, int]]:
    """Return the options of every socket: no delay, and keep-alive where the system has it."""
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
    parts = urlsplit(url)
    if is_loopback(url):
        return None
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or proxy_bypass(parts.hostname or ""):
        return None
    return address if "://" in address else f"http://{address}"


def raise_connection_error(error: BaseException, request: Request) -> NoReturn:
    """Raise the error of this package that stands for an error of httpx.

    The HTTP library's frames are cut from the traceback: their locals hold header
    fields, and with them the credential.
    """
    detached = error.with_traceback(None)
    detached.__cause__ = detached.__context__ = None
    raise _translated(error, request) from detached


def _translated(error: BaseException, request: Request) -> APIConnectionError:
    info, limits, kinds = request.info, request.timeout, _kinds(error)
    if "ConnectTimeout" in kinds:
        return ConnectTimeoutError(
            f"No connection to {server_of(info)} within {seconds(limits.connect)}.", request=info
        )
    if "ReadTimeout" in kinds:
        return ReadTimeoutError(
            f"{server_of(info)} sent nothing for {seconds(limits.read)}, in answer to "
            f"{info.method} {info.url}.",
            request=info,
        )
    if "WriteTimeout" in kinds:
        return WriteTimeoutError(
            f"{server_of(info)} took nothing for {seconds(limits.write)}, during "
            f"{info.method} {info.url}.",
            request=info,
        )
    if "PoolTimeout" in kinds:
        return pool_timeout(request, None)
    if "ConnectError" in kinds:
        return connect_failure(_reason(error), info)
    return APIConnectionError(
        f"The connection broke during {info.method} {info.url}: {_reason(error)}", request=info
    )


def _kinds(error: BaseException) -> set[str]:
    """Return the names of the error's classes in httpx, or in its continuation httpx2."""
    return {
        base.__name__
        for base in type(error).__mro__
        if base.__module__.partition(".")[0] in {"httpx", "httpx2"}
    }


def _reason(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def is_transport_error(error: BaseException) -> bool:
    """Return whether httpx or httpx2 raised this."""
    return not _kinds(error).isdisjoint({"RequestError", "StreamError", "InvalidURL"})


def raise_error(error: BaseException, request: Request) -> NoReturn:
    """Raise this package's error for `error`, or the deadline's if that has passed."""
    if request.deadline is not None and time.monotonic() >= request.deadline:
        raise deadline_exceeded(request) from None
    raise_connection_error(error, request)


def wire_headers(request: Request) -> HeaderFields:
    """Return the header fields with the length that the body needs."""
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
    body: bytes | Body | None = request.body
    return body.chunks() if body is not None and not isinstance(body, bytes) else body


def wire_timeout(request: Request) -> tuple[float | None, ...]:
    """Return the time limits as httpx and httpx2 take them: connect, read, write, pool."""
    return tuple(request.limits().phases().values())
