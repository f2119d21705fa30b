"""Following a redirection without carrying a credential to a stranger (RFC 9110, section 15.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from tunesmith.errors import TooManyRedirectsError

from .headers import HeaderFields
from .redact import SECRET_HEADERS

if TYPE_CHECKING:
    from .request import Request
    from .response import Response

__all__ = ["MAX_REDIRECTS", "is_redirect", "redirected", "same_origin"]

MAX_REDIRECTS = 20
_STATUSES = frozenset({301, 302, 303, 307, 308})
_BODY_FIELDS = frozenset({"content-type", "content-length", "idempotency-key"})
_PORTS = {"http": 80, "https": 443}


def is_redirect(response: Response) -> bool:
    """Return whether the answer sends the client elsewhere."""
    return response.status in _STATUSES and "location" in response.headers


def redirected(request: Request, response: Response) -> Request:
    """Return the request that follows `response`.

    A POST becomes a GET under 301, 302 and 303, as browsers have made the rule. Credentials are
    dropped when scheme, host or port change.

    Raises:
        TooManyRedirectsError: The target is not HTTP, leaves TLS, or wants a body again
            that can be read only once.
    """
    target = urljoin(request.url, response.headers["location"])
    old, new = urlsplit(request.url).scheme, urlsplit(target).scheme
    if new not in _PORTS or (old, new) == ("https", "http"):
        raise TooManyRedirectsError(
            f"The server redirects to {target}, which is not followed: "
            "only HTTP addresses are, and never from https to http.",
            request=request.info,
            retryable=False,
        )
    headers = request.headers
    if not same_origin(request.url, target):
        headers = _without(headers, SECRET_HEADERS)
    if response.status == 303 or (response.status in {301, 302} and request.method == "POST"):  # noqa: PLR2004
        kept = _without(headers, _BODY_FIELDS)
        method = "HEAD" if request.method == "HEAD" else "GET"
        return replace(request, method=method, url=target, headers=kept, body=None)
    body = request.body
    if body is not None and not isinstance(body, bytes) and not body.replayable:
        raise TooManyRedirectsError(
            f"The server redirects an upload to {target}, but its source is read only once.",
            request=request.info,
            retryable=False,
        )
    return replace(request, url=target, headers=headers)


def same_origin(first: str, second: str) -> bool:
    """Return whether two URLs share scheme, host and port."""
    return _origin(first) == _origin(second)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _without(headers: HeaderFields, names: frozenset[str]) -> HeaderFields:
    return HeaderFields({name: value for name, value in headers.items() if name not in names})
