"""The server's connections: how many, how long one may keep it waiting, and which has to go.

A process may open so many files and sockets and no more. Connections take them all but a
reserve, which database, uploads and workers need. When that is used up, connections whose
clients have sent no whole request are closed for new ones; requests that are being answered
are never ended. Of what requests mean this module knows nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from .api.http_errors import ApiError, error_body
from .file_limit import connections_allowed

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

__all__ = ["Connection", "ConnectionTable", "keep_alive"]

_log = logging.getLogger("tunesmith.engine")

_HEAD_SECONDS = 20.0
_BODY_SECONDS = 60.0

_ACCEPT_FAILED = "socket.accept() out of system resource"
_QUIET_SECONDS = 60.0
_FRESH_SECONDS = 1.0


def keep_alive(listener: socket.socket) -> None:
    """Let the system look after quiet connections, whose peers may have gone without a word.

    Connections inherit this from their listener. A peer that does not answer for two minutes is
    gone.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class ConnectionTable:
    """All connections of a server, and which of them wait for their client.

    Args:
        most: Number of connections at which those that wait are closed; None for what the limit of
            open files allows.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most: float = connections_allowed() if most is None else most
        self._open = 0
        # Those that wait for a request, or for the rest of one, in the order of when they began.
        self._idle: dict[Connection, float] = {}
        self._reading: dict[Connection, float] = {}
        self._is_full = False
        self._reported_at = float("-inf")
        self._accept_failed_at = float("-inf")

    def protocol(self, **options: Any) -> Connection:
        """Return a new connection, as Uvicorn's setting `http` makes them."""
        return Connection(self, **options)

    def opened(self, connection: Connection) -> None:
        """Count a new connection, which makes another one close if there are too many."""
        self._open += 1
        if self._open <= self.most:
            if self._is_full and self._open < self.most * 3 / 4:
                self._is_full = False
                _log.info("connections are few enough again")
            return
        self._report(
            f"as many connections are open as the limit of open files allows ({self.most:.0f})"
        )
        self._close(self._victim() or connection)

    def _victim(self) -> Connection | None:
        """Return the connection that has to go: one that waits, and not since a moment ago."""
        oldest = [next(iter(waiting.items()), None) for waiting in (self._idle, self._reading)]
        found = [one for one in oldest if one is not None]
        now = asyncio.get_running_loop().time()
        patient = [one for one in found if now - one[1] > _FRESH_SECONDS]
        return next((connection for connection, _ in patient or found), None)

    def sort(self, connection: Connection) -> None:
        """Note what a connection waits for now."""
        for waiting, is_one in (
            (self._idle, connection.is_idle),
            (self._reading, connection.is_reading),
        ):
            if not is_one:
                waiting.pop(connection, None)
            elif connection not in waiting:
                waiting[connection] = connection.loop.time()

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open -= 1
        self._idle.pop(connection, None)
        self._reading.pop(connection, None)

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error of the event loop: it may be that no connection could be accepted.

        The loop tries again after a second. (Before Python 3.13 it reports one error as often as
        it may accept connections at a time.)
        """
        if context.get("message") != _ACCEPT_FAILED:
            loop.default_exception_handler(context)
            return
        if loop.time() - self._accept_failed_at < 0.5:  # noqa: PLR2004 - of the same second
            return
        self._accept_failed_at = loop.time()
        self._report("the limit of open files is reached, so no connection can be accepted")
        old = [one for one, began in self._idle.items() if loop.time() - began > _FRESH_SECONDS]
        for victim in old[: max(1, len(old) // 2)]:
            self._close(victim)

    def _close(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._reading.pop(connection, None)
        connection.give_way()

    def _report(self, what: str) -> None:
        """Log once that the table is full, not each time that this is noticed."""
        now = asyncio.get_running_loop().time()
        if not self._is_full and now - self._reported_at > _QUIET_SECONDS:
            self._reported_at = now
            _log.warning(
                "%s: those that wait for a request are closed for new ones; raise the limit with "
                "`ulimit -n` if these are clients of yours",
                what,
            )
        self._is_full = True


class Connection(H11Protocol):
    """HTTP/1.1 with time limits: for the head of a request, and for silence within its body.

    Without them a client that sends a byte a minute keeps a connection for ever.

    Args:
        table: Knows all connections.
        options: Those of Uvicorn's protocol.
    """

    def __init__(self, table: ConnectionTable, **options: Any) -> None:
        super().__init__(**options)
        self._table = table
        self._timer: asyncio.TimerHandle | None = None
        self._waited_for = ""
        self._received_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the client has sent no whole head of a request that is not answered yet."""
        return not self.transport.is_closing() and self._has_no_request

    @property
    def is_reading(self) -> bool:
        """Whether the rest of a request's body is missing, and nothing has been answered."""
        if self.transport.is_closing() or self._has_no_request:
            return False
        return self.cycle.more_body and not self.cycle.response_started

    @property
    def _has_no_request(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; the time limit of the first request begins."""
        super().connection_made(transport)
        self._table.opened(self)
        self._sort()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        self._received_at = self.loop.time()
        super().data_received(data)
        self._sort()

    def on_response_complete(self) -> None:
        """Wait for the next request, if it is not here already."""
        super().on_response_complete()
        self._sort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel()
        self._table.closed(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg, "invalid_http_request")

    def give_way(self) -> None:
        """Close the connection, which has no request that is being answered."""
        self._refuse(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The engine can take no more connections. Try again shortly.",
            "too_many_connections",
        )

    def _sort(self) -> None:
        """Tell the table what the connection waits for now, and limit the time that it may."""
        self._table.sort(self)
        waited_for = "head" if self.is_idle else "body" if self.is_reading else ""
        if waited_for != self._waited_for or self._timer is None:
            self._cancel()
            self._waited_for = waited_for
            if waited_for == "head":
                self._timer = self.loop.call_later(_HEAD_SECONDS, self._time_out)
            elif waited_for == "body":
                self._timer = self.loop.call_later(_BODY_SECONDS, self._check_body)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_body(self) -> None:
        self._timer = None
        if not self.is_reading:
            return
        silent = self.loop.time() - self._received_at
        if silent < _BODY_SECONDS or self.flow.read_paused:  # paused: the client may not send
            wait = max(_BODY_SECONDS - silent, 1.0)
            self._timer = self.loop.call_later(wait, self._check_body)
            return
        self._time_out()

    def _time_out(self) -> None:
        self._timer = None
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The {self._waited_for} of the request did not arrive in time.",
            "request_timeout",
        )

    def _refuse(self, status: HTTPStatus, message: str, code: str) -> None:
        """Answer with an error, past the application, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps(error_body(ApiError(status, message, code=code))).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        if self.transport.get_write_buffer_size():  # the client does not even read its answers
            self.transport.abort()
            return
        self.transport.write(head.encode() + body)
        self.transport.close()
