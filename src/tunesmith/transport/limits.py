"""What all transports keep to: connection limits, and which addresses are this machine's."""

from __future__ import annotations

import functools
import ipaddress
from urllib.parse import urlsplit

__all__ = [
    "DRAIN_SECONDS",
    "KEEP_ALIVE_SECONDS",
    "MAX_CONNECTIONS",
    "PROBES",
    "PROBE_SECONDS",
    "is_loopback",
    "origin_of",
]

MAX_CONNECTIONS = 1000
# How long an idle connection is trusted to be open still.
KEEP_ALIVE_SECONDS = 15.0
# How long the end of a body may take to follow a stream's end mark.
DRAIN_SECONDS = 0.25
# Idle connections die silently behind address translation; probes keep them alive
# and find the dead ones. The values are those that long-running API clients use.
PROBE_SECONDS = 60
PROBES = 5


@functools.lru_cache(maxsize=512)
def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL: what a connection can be shared for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@functools.lru_cache(maxsize=512)
def is_loopback(url: str) -> bool:
    """Return whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
