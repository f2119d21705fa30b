"""Following redirects without leaking credentials to another server (RFC 9110, section 15.4)."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from tunesmith.errors import TooManyRedirectsError

from .headers import HeaderFields
from .redact import is_secret_name
from .urls import DEFAULT_PORTS, same_origin, shown_url, without_userinfo

if TYPE_CHECKING:
    from .request import Request
    from .response import Response

__all__ = ["MAX_REDIRECTS", "is_redirect", "redirected"]

MAX_REDIRECTS = 20
_STATUSES = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)
# Statuses under which a POST becomes a GET, as in browsers.
_POST_BECOMES_GET = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND})
_BODY_FIELDS = frozenset({"content-type", "content-length", "idempotency-key"})


def is_redirect(response: Response) -> bool:
    """Return whether the response redirects the client."""
    return response.status in _STATUSES and "location" in response.headers


def redirected(request: Request, response: Response) -> Request:
    """Return the request that follows the redirect in `response`.

    A POST becomes a GET under 301, 302 and 303, as in browsers. Credentials are dropped when
    scheme, host or port change.

    Raises:
        TooManyRedirectsError: The target is not HTTP, goes from https to http, or requires a
            body again that can be read only once.
    """
    # A password in the target is the server's, not the user's: it is neither used nor shown.
    target = without_userinfo(urljoin(request.url, response.headers["location"]))
    old, new = urlsplit(request.url).scheme, urlsplit(target).scheme
    if new not in DEFAULT_PORTS or (old, new) == ("https", "http"):
        raise TooManyRedirectsError(
            f"The server redirects to {shown_url(target)}, which is not followed: only HTTP URLs "
            "are, and never from https to http.",
            request=request.info,
            retryable=False,
        )
    headers = request.headers
    if not same_origin(request.url, target):
        headers = HeaderFields(
            {name: value for name, value in headers.items() if not is_secret_name(name)}
        )
    if response.status == HTTPStatus.SEE_OTHER or (
        response.status in _POST_BECOMES_GET and request.method == "POST"
    ):
        kept = _without(headers, _BODY_FIELDS)
        method = "HEAD" if request.method == "HEAD" else "GET"
        return replace(request, method=method, url=target, headers=kept, body=None)
    body = request.body
    if body is not None and not isinstance(body, bytes) and not body.replayable:
        raise TooManyRedirectsError(
            f"The server redirects an upload to {shown_url(target)}, but its source can be read "
            "only once.",
            request=request.info,
            retryable=False,
        )
    return replace(request, url=target, headers=headers)


def _without(headers: HeaderFields, names: frozenset[str]) -> HeaderFields:
    return HeaderFields({name: value for name, value in headers.items() if name not in names})
