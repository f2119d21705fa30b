"""Under which names an engine without keys answers.

While no key has ever been made, whoever reaches the loopback address is let in, but only
under a name of this machine: a page of another site that resolves its own name to 127.0.0.1
(DNS rebinding) is not.
"""

from __future__ import annotations

import ipaddress

from tunesmith.engine.domain.errors import UnknownHostError

__all__ = ["check_host"]


def check_host(host: str, own: str) -> None:
    """Check that a request names this machine.

    Args:
        host: The host name of the request's URL, without a port.
        own: The name that the engine is bound to.

    Raises:
        UnknownHostError: It names another machine.
    """
    if host in ("localhost", own) or host.endswith(".localhost") or _is_loopback(host):
        return
    raise UnknownHostError(
        "As long as no API key exists, the engine answers only under this machine's own names, "
        "such as localhost. `tunesmith keys create` on the engine's machine makes a key.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
