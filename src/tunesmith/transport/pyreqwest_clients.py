"""The clients of pyreqwest that requests share, and their end: after a fork and at the exit.

Of requests they know what chooses a client, and nothing of answers.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import sys
import threading
import time
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyreqwest.proxy import ProxyBuilder

from .certificates import check_certificates, trusted_certificates
from .pool import KEEP_ALIVE_SECONDS, PROBE_SECONDS, PROBES, fork_count
from .proxies import environment_proxy

if TYPE_CHECKING:
    from tunesmith.core.request import Request

__all__ = ["Clients", "used_by_parent"]

_MAX_CLIENTS = 16

# At the interpreter's exit: how long to wait for pyreqwest's thread, and how often to look, a
# millisecond apart. After 3 looks 2 of 80 processes were still aborted, after 20 none of 150.
_EXIT_SECONDS = 2.0
_EXIT_LOOKS = 20

# All that may have connections, to close them at the interpreter's exit.
_open: weakref.WeakSet[Clients] = weakref.WeakSet()

# The fork count of the process that uses pyreqwest; empty until a client is built.
_user: list[int] = []


def used_by_parent() -> bool:
    """Return whether a parent process uses pyreqwest: it cannot be started again after a fork."""
    return bool(_user) and _user[0] != fork_count()


def _leave_python() -> None:
    """At the interpreter's exit, end all requests; wait until their thread runs no Python code.

    It wakes an event loop by calling into asyncio. Python up to 3.13 ends a thread that it finds
    there once finalization has begun, and ending a thread of Rust aborts the process
    ("PyGILState_Release: thread state must be current when releasing").
    """
    if not _user or used_by_parent():
        return
    until = time.monotonic() + _EXIT_SECONDS
    # Requests of a loop that was not closed would go on waking it.
    closing = [client.close() for clients in list(_open) for client in clients.clear()]
    waiting = [step for step in closing if inspect.isawaitable(step)]
    if waiting:
        with contextlib.suppress(Exception):
            asyncio.run(_close_all(waiting))
    quiet = 0
    while quiet < _EXIT_LOOKS and time.monotonic() < until:
        quiet = 0 if _runs_python() else quiet + 1
        # Sleeping releases the interpreter to the thread that waits for it.
        time.sleep(0.001)


async def _close_all(closing: list[Any]) -> None:
    async with asyncio.timeout(_EXIT_SECONDS / 2):
        for step in closing:
            await step


def _runs_python() -> bool:
    """Return whether a thread that Python did not start is in asyncio or in this package."""
    own = {thread.ident for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():  # noqa: SLF001 - documented, CPython's
        outermost = frame
        while outermost.f_back is not None:
            outermost = outermost.f_back
        module: str = outermost.f_globals.get("__name__", "")
        if number not in own and module.partition(".")[0] in {"asyncio", "tunesmith"}:
            return True
    return False


# What is registered first runs last, so this is done when the module is loaded.
atexit.register(_leave_python)


class Clients:
    """Clients of pyreqwest. There, time limits belong to a client, so each set has its own."""

    def __init__(self, builder: Any, *, http2: bool) -> None:
        self._builder = builder
        self._http2 = http2
        self._clients: dict[Any, Any] = {}
        _open.add(self)

    def of(self, request: Request) -> Any:
        """Return the client for a request."""
        limits, secure = request.timeout, request.url.startswith("https:")
        key = (
            environment_proxy(request.url),
            limits.connect,
            limits.read,
            trusted_certificates() if secure else None,
        )
        client = self._clients.get(key)
        if client is None:
            while len(self._clients) >= _MAX_CLIENTS:
                # Its requests in progress go on; its idle connections close.
                self._clients.pop(next(iter(list(self._clients))), None)
            if secure:
                check_certificates()  # pyreqwest ignores what it cannot read.
            client = self._clients[key] = self._build(*key[:3])
        return client

    def clear(self) -> list[Any]:
        """Remove and return all clients."""
        clients, self._clients = list(self._clients.values()), {}
        return clients

    def _build(self, proxy: str | None, connect: float | None, read: float | None) -> Any:
        _user[:] = [fork_count()]
        builder = (
            self._builder()
            .follow_redirects(False)  # noqa: FBT003 - pyreqwest's interface
            .http2(self._http2)
            .pool_idle_timeout(timedelta(seconds=KEEP_ALIVE_SECONDS))
            .tcp_nodelay(True)  # noqa: FBT003
            .tcp_keepalive(timedelta(seconds=PROBE_SECONDS))
            .tcp_keepalive_interval(timedelta(seconds=PROBE_SECONDS))
            .tcp_keepalive_retries(PROBES)
        )
        if connect is not None:
            builder = builder.connect_timeout(timedelta(seconds=connect))
        if read is not None:
            builder = builder.read_timeout(timedelta(seconds=read))
        # The environment is read here, so that its exceptions hold on every transport.
        builder = builder.no_proxy() if proxy is None else builder.proxy(ProxyBuilder.all(proxy))
        return builder.build()
