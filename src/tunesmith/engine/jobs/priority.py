"""Work that takes hours gives way to what somebody waits for."""

from __future__ import annotations

import os

__all__ = ["yield_to_server"]

_NICENESS = 5


def yield_to_server() -> None:
    """Let this process and its children come after the server, which answers people.

    Does nothing where the system knows no priorities, or this process comes later already.
    """
    if hasattr(os, "setpriority"):
        niceness = max(os.getpriority(os.PRIO_PROCESS, 0), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
