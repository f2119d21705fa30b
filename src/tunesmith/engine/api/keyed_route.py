"""The route class of the API: decides whether a request may come in, before its body is read.

The key, the page that a browser sends from, and the rate limit are checked here, in this
order; what the key may do is up to the routes.

Without keys everything on this machine is trusted, but not the web pages that a browser
on this machine shows: browsers let any page send requests to 127.0.0.1. They name the page's
origin in `Origin` and `Sec-Fetch-Site` (Fetch Standard; W3C Fetch Metadata), which scripts
cannot forge, so requests of foreign pages are told apart and refused.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute

from tunesmith.core.urls import DEFAULT_PORTS
from tunesmith.engine.security.keys import Identity, check_host

from .dependencies import get_services
from .http_errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.requests import HTTPConnection

__all__ = ["KeyCheck", "KeyedRoute", "check_rate_limit", "key_revoked"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_TYPES = ("application/json", "multipart/form-data")
_CHECK_SECONDS = 1.0
_LARGE_BODY = 1 << 20
_MAX_VALUES = 400_000


class KeyedRoute(APIRoute):
    """A route that needs a key, once any key has been made.

    `scope["identity"]` of the requests that it lets through is the `Identity` behind the key.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if get_services(request).keys.is_fresh:
                _check(request)  # from memory: a thread would take longer than the check
            else:
                await anyio.to_thread.run_sync(_check, request)
            if _is_large_json(request):
                _check_values(await request.body())
            return await self.respond(request, handle)

        return checked

    async def respond(
        self, request: Request, handle: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer a request that may come in. `handle` reads its body and calls the handler."""
        return await handle(request)


def _is_large_json(request: Request) -> bool:
    """Return whether a request may have a large body that is read as JSON."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        return False
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        return int(length) > _LARGE_BODY
    return "transfer-encoding" in request.headers


def _check_values(body: bytes) -> None:
    """Raise ApiError for a body of so many values that to read them would delay everybody.

    Eight megabytes of token ids are a second's work for the event loop.
    """
    if body.count(b",") > _MAX_VALUES:
        raise invalid(
            f"The request body has more than {_MAX_VALUES:,} values. Send fewer token ids, or "
            "text, in one request.",
            code="too_many_values",
        )


def _check(request: Request) -> None:
    """Put the identity behind a request into its scope.

    Raises:
        ApiError: 401 without a key that is in use, once any key has been made; 403 and 415 for
            requests that a foreign page may have sent; 429 for too many requests.
        UnknownHostError: No key has been made and the request names another machine.
    """
    identity: Identity = request.scope.get("identity") or _identify(request)
    request.scope["identity"] = identity
    if request.method not in _SAFE_METHODS:
        _check_origin(request, identity)
    check_rate_limit(request, identity)


def _identify(request: Request) -> Identity:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    secret = secret.strip() if scheme.lower() == "bearer" else ""
    secret = secret or request.headers.get("api-key", "").strip()  # as Azure's clients send it
    services = get_services(request)
    identity = services.keys.identify(secret or None)
    if identity is not None:
        if identity.key_id is None:
            check_host(request.url.hostname or "", services.config.host)
        return identity
    if secret:
        raise key_revoked()
    message = (
        "No API key was sent. Send one as `Authorization: Bearer KEY`; `tunesmith keys create` "
        "on the engine's machine makes one."
    )
    raise _unauthorized(message, "missing_api_key")


def key_revoked() -> ApiError:
    """Return the error for a key that is not, or no longer, in use."""
    message = (
        "The API key is wrong or has been revoked. `tunesmith keys list` on the engine's "
        "machine shows the keys in use, `tunesmith keys create` makes a new one."
    )
    return _unauthorized(message, "invalid_api_key")


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(
        HTTPStatus.UNAUTHORIZED, message, code=code, headers={"www-authenticate": "Bearer"}
    )


def _check_origin(request: Request, identity: Identity) -> None:
    """Raise ApiError if a page of another site may have sent a request that changes something."""
    if identity.key_id is None and _is_foreign_page(request):
        raise ApiError(
            HTTPStatus.FORBIDDEN,
            "A web page of another site sent this request. As long as no API key exists, the "
            "engine takes requests from programs on this machine and from its own pages only. "
            "Create a key with `tunesmith keys create`, and let the page send it.",
            code="foreign_origin",
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if "origin" in request.headers and _has_body(request) and kind not in _BODY_TYPES:
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "A web page has to send JSON as `Content-Type: application/json`, and files as "
            f"`multipart/form-data`; this request has {kind or 'no content type'}.",
            code="unsupported_media_type",
        )


def _is_foreign_page(request: HTTPConnection) -> bool:
    """Return whether a web page sent the request that is not a page of this engine."""
    site = request.headers.get("sec-fetch-site", "none").lower()
    if site not in {"same-origin", "none"}:
        return True
    origin = request.headers.get("origin")
    return origin is not None and _host_and_port(origin) != _host_and_port(
        f"{request.url.scheme}://{request.headers.get('host', '')}"
    )


def _host_and_port(origin: str) -> tuple[str | None, int | None]:
    """Return what identifies a server; the scheme may differ behind a proxy that ends TLS."""
    try:
        parts = urlsplit(origin)
        return parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None, None


def _has_body(request: Request) -> bool:
    length = request.headers.get("content-length", "0").strip()
    return length != "0" or "transfer-encoding" in request.headers


def check_rate_limit(request: HTTPConnection, identity: Identity) -> None:
    """Count a request for its key, or for its address if it has none.

    Raises:
        ApiError: 429: the key has sent too many requests within the last minute.
    """
    if request.scope.get("is_beside"):
        return
    services = get_services(request)
    address = request.client.host if request.client is not None else ""
    seconds = services.limiter.take(identity.key_id or address)
    if seconds:
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"More than {services.config.limits.requests_per_minute} requests a minute. Try again "
            f"in {seconds} s.",
            code="rate_limit_exceeded",
            headers={"retry-after": str(seconds)},
        )


class KeyCheck:
    """Tells a long answer whether the key behind its request is still in use.

    Args:
        request: The request that is being answered.
    """

    def __init__(self, request: Request) -> None:
        identity: Identity = request.scope["identity"]
        self._key_id = identity.key_id
        self._keys = get_services(request).keys
        self._next = time.monotonic() + _CHECK_SECONDS

    async def is_revoked(self) -> bool:
        """Return whether the key has been revoked; looked up at most once a second."""
        if self._key_id is None or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _CHECK_SECONDS
        return await anyio.to_thread.run_sync(self._keys.holder, self._key_id) is None
