"""Which proxy the environment names for a URL: the same answer on every transport.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in lower or upper case, as curl reads them. No HTTP
library is known here. Requests to this machine never use a proxy.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import sys
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tunesmith.core.urls import DEFAULT_PORTS, is_loopback_url, origin_of, without_userinfo
from tunesmith.errors import ConfigurationError

__all__ = ["environment_proxy", "shown_proxy"]

_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
_SCHEMES = ("http", "https", "socks5", "socks5h")


def environment_proxy(url: str) -> str | None:
    """Return the URL of the proxy for `url`, None if it is reached directly.

    Raises:
        ConfigurationError: The environment names a proxy of a kind that is not supported.
    """
    if is_loopback_url(url):
        return None
    if sys.platform in {"darwin", "win32"}:
        return _find(url)  # The system's settings may have changed.
    return _find_in_environment(origin_of(url), tuple(map(os.environ.get, _VARIABLES)))


@functools.lru_cache(maxsize=64)
def _find_in_environment(origin: str, _: tuple[str | None, ...]) -> str | None:
    """Return the proxy for a server in one state of the environment."""
    return _find(origin)


def _find(url: str) -> str | None:
    proxies = getproxies()
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme)
    if "no" in proxies:
        bypassed = _is_excepted(host, port, proxies["no"])
    else:
        # Windows and macOS keep their exceptions in the system's settings.
        bypassed = sys.platform in {"darwin", "win32"} and bool(proxy_bypass(host))
    return None if bypassed else _checked(proxy.strip())


def shown_proxy(proxy: str) -> str:
    """Return a proxy's URL for messages, without user name and password."""
    return without_userinfo(proxy)


def _checked(proxy: str) -> str:
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme, _, rest = proxy.partition("://")
    # Desktop settings write "socks" for SOCKS version 5.
    scheme = {"socks": "socks5"}.get(scheme.lower(), scheme.lower())
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        usable = scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"The proxy {shown_proxy(proxy)!r} that the environment names (HTTP_PROXY, HTTPS_PROXY "
            f"or ALL_PROXY) cannot be used: it must be like 'http://host:port', with one of the "
            f"schemes {', '.join(_SCHEMES)}."
        )
    return f"{scheme}://{rest}"


def _is_excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether NO_PROXY has an entry for a server.

    An entry is "*", a domain with its subdomains ("example.com", ".example.com" or
    "*.example.com"), an address or a network ("10.0.0.0/8"); each may end in a port.
    """
    entries = no_proxy.replace(",", " ").split()
    return any(_matches(entry.lower(), host.lower().rstrip("."), port) for entry in entries)


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split "host:8443", "10.0.0.1:80" or "[::1]:80" into host and port."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return (name, int(port)) if port.isdecimal() else (entry.strip("[]"), None)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
