"""Facts about URLs: which server one leads to, and whether that server is this machine."""

from __future__ import annotations

import functools
import ipaddress
import re
from urllib.parse import parse_qsl, quote_plus, urlsplit

from .redact import MASK, is_secret_name

__all__ = [
    "DEFAULT_PORTS",
    "is_loopback_host",
    "is_loopback_url",
    "origin_of",
    "same_origin",
    "shown_url",
    "with_query",
    "without_userinfo",
]

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback_host(host: str) -> bool:
    """Return whether a host name or address without brackets always means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=512)
def is_loopback_url(url: str) -> bool:
    """Return whether the URL's host is this machine."""
    return is_loopback_host(urlsplit(url).hostname or "")


@functools.lru_cache(maxsize=512)
def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL: all requests of one origin can share connections."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def same_origin(first: str, second: str) -> bool:
    """Return whether two URLs share scheme, host and port."""
    return _server(first) == _server(second)


def with_query(url: str, base: str, query: str) -> str:
    """Return `url` with two queries; `query` replaces the parameters of `base` of the same name."""
    if base and query:
        names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
        kept = parse_qsl(base, keep_blank_values=True)
        if not names.isdisjoint(name for name, _ in kept):
            base = "&".join(
                f"{quote_plus(name)}={quote_plus(value)}"
                for name, value in kept
                if name not in names
            )
    whole = "&".join(part for part in (base, query) if part)
    return f"{url}{'&' if '?' in url else '?'}{whole}" if whole else url


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def without_userinfo(url: str) -> str:
    """Return a URL without user name and password."""
    scheme, separator, rest = url.partition("://")
    end = min((rest.find(mark) % (len(rest) + 1) for mark in "/?#"), default=len(rest))
    authority = rest[:end].rpartition("@")[2]
    return f"{scheme}{separator}{authority}{rest[end:]}" if separator else url


def shown_url(url: str) -> str:
    """Return a URL for messages and logs: without password, secret query parameters masked."""
    if "@" in url:
        url = without_userinfo(url)
    if "?" not in url:
        return url
    return re.sub(r"([?&;])([^=&;#]*)=([^&;#]*)", _shown_parameter, url)


def _shown_parameter(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    return f"{mark}{name}={MASK if value and is_secret_name(name) else value}"
