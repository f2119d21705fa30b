"""The connection errors that all transports share, and their messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.core.redact import scrubbed
from tunesmith.core.request import deadline_exceeded
from tunesmith.core.urls import is_loopback_url
from tunesmith.errors import (
    APIConnectionError,
    ConfigurationError,
    ConnectTimeoutError,
    PoolTimeoutError,
    ReadTimeoutError,
    WriteTimeoutError,
)

from .failure_table import library_class_names
from .proxies import environment_proxy, shown_proxy

if TYPE_CHECKING:
    from tunesmith.core.request import Request
    from tunesmith.errors import RequestInfo

__all__ = [
    "broken",
    "connect_error",
    "connect_timeout",
    "pool_timeout",
    "read_timeout",
    "shown_reason",
    "write_timeout",
]


# What a failed TLS handshake says, as OpenSSL and rustls word it, without spaces and underscores.
_CERTIFICATE = ("CERTIFICATEVERIFYFAILED", "INVALIDPEERCERTIFICATE")
_OTHER_NAME = ("HOSTNAMEMISMATCH", "IPADDRESSMISMATCH", "NOTVALIDFORNAME")
_NO_TLS = ("WRONGVERSIONNUMBER", "INVALIDCONTENTTYPE", "HTTPREQUEST", "RECORDLAYERFAILURE")
_DISAGREEMENT = (
    *("HANDSHAKEFAILURE", "PROTOCOLVERSION", "UNSUPPORTEDPROTOCOL", "NOSHAREDCIPHER"),
    *("NOPROTOCOLSAVAILABLE", "INSUFFICIENTSECURITY", "UNRECOGNIZEDNAME", "UNRECOGNISEDNAME"),
    *("CERTIFICATEREQUIRED", "BADCERTIFICATE", "UNKNOWNCA", "ACCESSDENIED", "CERTIFICATEEXPIRED"),
    *("CERTIFICATEREVOKED", "CERTIFICATEUNKNOWN", "UNSUPPORTEDCERTIFICATE"),
)


def connect_error(reason: str, request: Request, *, own_client: bool = False) -> APIConnectionError:
    """Return the error for a connection that failed, with what to do about it.

    A handshake that ends early passes; a certificate that is not trusted stays so.

    Args:
        reason: What the HTTP library says.
        request: The request.
        own_client: Whether a client of the user's sent it, which may use other proxies.
    """
    info = request.info
    final = _final_tls_error(reason, info)
    if final is not None:
        return APIConnectionError(final, request=info, retryable=False)
    proxy = None if own_client else _proxy_of(request)
    if proxy is not None:
        return APIConnectionError(
            f"No connection to {_server(info)} through the proxy {proxy}: {reason}. The "
            "environment names this proxy (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY); if the server "
            "is to be reached without it, add its name to NO_PROXY.",
            request=info,
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


def _final_tls_error(reason: str, info: RequestInfo) -> str | None:
    """Return the message for a TLS handshake that fails each time, None for all other reasons."""
    said = "".join(filter(str.isalnum, reason.upper()))
    server = _server(info)
    if any(mark in said for mark in _CERTIFICATE):
        if any(mark in said for mark in _OTHER_NAME):
            return (
                f"No secure connection to {server}: {reason}. base_url must have a name that is "
                "in the server's certificate."
            )
        return (
            f"No secure connection to {server}: {reason}. If the server's certificate is "
            "your own, set SSL_CERT_FILE to the certificate of its authority."
        )
    if any(mark in said for mark in _NO_TLS):
        return (
            f"No secure connection to {server}: {reason}. The server does not speak TLS at this "
            "port; if that is right, use http:// in base_url."
        )
    if any(mark in said for mark in _DISAGREEMENT):
        return f"No secure connection to {server}: {reason}. Server and client do not agree on TLS."
    return None


def _proxy_of(request: Request) -> str | None:
    """Return the proxy of a request as it may be shown."""
    try:
        proxy = environment_proxy(request.url)
    except ConfigurationError:
        return None
    return None if proxy is None else shown_proxy(proxy)


def connect_timeout(request: Request) -> ConnectTimeoutError:
    """Return the error for a connection that took too long."""
    proxy = _proxy_of(request)
    way = f" through the proxy {proxy}, which the environment names," if proxy else ""
    limit = _seconds(request.timeout.connect)
    return ConnectTimeoutError(
        f"No connection to {_server(request.info)}{way} within {limit}.",
        request=request.info,
    )


def broken(
    reason: str, request: Request, *, retryable: bool, what: str = "The connection broke"
) -> APIConnectionError:
    """Return the error for a failure that has no message of its own."""
    info = request.info
    return APIConnectionError(
        f"{what} during {info.method} {info.url}: {reason}.", request=info, retryable=retryable
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


def shown_reason(error: BaseException, request: Request, text: str = "") -> str:
    """Return what a library says of a failure, without the request's credentials."""
    said = text or str(error)
    # An encoding error shows the text that it failed on.
    if not said or isinstance(error, UnicodeError):
        return type(error).__name__
    said = said.replace(request.url, request.info.url)
    name = "" if library_class_names(error) else f"{type(error).__name__}: "
    return name + scrubbed(said, request.headers).rstrip(".")


def _server(info: RequestInfo) -> str:
    """Return scheme, host and port of a request's URL."""
    parts = urlsplit(info.url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _seconds(limit: float | None) -> str:
    return "the time allowed" if limit is None else f"{limit:g} s"
