"""Under which names an engine without keys answers.

While no key has ever been made, whoever reaches the loopback address is let in, but only
under a name of this machine: a page of another site that resolves its own name to 127.0.0.1
(DNS rebinding) is not.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from tunesmith.engine.api.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

__all__ = ["check_host"]

_MISDIRECTED = 421


def check_host(connection: HTTPConnection, own: str) -> None:
    """Check that a request names this machine; `own` is the name that the engine is bound to.

    Raises:
        ApiError: 421 if it names another.
    """
    host = connection.url.hostname or ""
    if host in ("localhost", own) or host.endswith(".localhost") or _is_loopback(host):
        return
    raise ApiError(
        _MISDIRECTED,
        "As long as no API key exists, the engine answers only under this machine's own names, "
        "such as localhost. `tunesmith keys create` on the engine's machine makes a key.",
        code="unknown_host",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
