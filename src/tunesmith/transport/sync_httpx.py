"""The blocking transport on httpx: a pool of one-connection transports, called directly.

httpx's own pool walks all its connections at each request, and its `Client` layer is a
third of a request's cost. Both are avoided with public interfaces only: each connection
is an `httpx.HTTPTransport` limited to one connection; a request takes an idle one, the
most recently used first, and returns it when its response has been read. A client that
the user passes is used as it is, with all its settings.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import httpx

from tunesmith.core.response import Response
from tunesmith.core.urls import origin_of
from tunesmith.errors import APIConnectionError

from .connection_errors import pool_timeout
from .direct import DirectConnection
from .failure_table import is_library_failure
from .httpx_adapter import (
    connection_error,
    connection_transport,
    parsed_url,
    transport_settings,
    wire_content,
    wire_headers,
    wire_timeout,
)
from .pool import (
    DRAIN_SECONDS,
    MAX_CONNECTIONS,
    IdleConnections,
    Permits,
    ProcessLocal,
    UserOwned,
)
from .watchdog import Timer, watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunesmith.core.request import Request

__all__ = ["HttpxTransport", "UserClientTransport"]


class _Connection:
    """One connection, or a transport of httpx for one, and its socket once it is connected."""

    __slots__ = ("origin", "socket", "transport")

    def __init__(self, origin: str, transport: httpx.HTTPTransport | DirectConnection) -> None:
        self.origin = origin
        self.transport = transport
        self.socket: socket.socket | None = None

    def current_socket(self) -> socket.socket | None:
        """Return the socket if it is still open; an idle connection may have been replaced."""
        if self.socket is not None and self.socket.fileno() < 0:
            self.socket = None
        return self.socket

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """Record the socket when httpx connects, so that a deadline can cut it."""
        if name in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self.socket = info["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """Shut the socket down, which ends a read that waits on it; safe from any thread."""
        if self.socket is not None:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def _new_connection(url: str) -> httpx.HTTPTransport | DirectConnection:
    settings = transport_settings(url)
    if settings["proxy"] is not None:
        return connection_transport(url)
    return DirectConnection(url, settings)


class _Pool:
    """The connections of one process: idle ones by origin, and a permit for each request."""

    def __init__(self, limit: int) -> None:
        self.permits = Permits(limit)
        self._idle: IdleConnections[_Connection] = IdleConnections()

    def take(self, url: str) -> _Connection:
        """Return a connection to the server of `url`, an idle one if there is one."""
        idle = self._idle.take(url)
        return idle or _Connection(origin_of(url), _new_connection(url))

    def keep(self, connection: _Connection) -> None:
        """Keep a connection whose response has been read."""
        self._idle.add(connection)
        self.permits.release()

    def discard(self, connection: _Connection) -> None:
        """Close a connection in whatever state it is."""
        connection.transport.close()
        self.permits.release()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle.clear():
            connection.transport.close()


class HttpxTransport:
    """Sends requests over its own connections; safe to share between threads and after fork."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._pools = ProcessLocal(lambda: _Pool(max_connections))

    def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        pool = self._pools.get()
        connection = self._take(pool, request)
        try:
            return _exchange(pool, connection, request)
        except BaseException as error:
            pool.discard(connection)
            if not is_library_failure(error):
                raise
            failure = connection_error(error, request)
        raise failure

    def close(self) -> None:
        """Close the idle connections; those in use close when their response ends."""
        self._pools.get().close()

    def _take(self, pool: _Pool, request: Request) -> _Connection:
        if not pool.permits.acquire(request.limits().pool):
            raise pool_timeout(request, self._max_connections)
        try:
            return pool.take(request.url)
        except BaseException:
            pool.permits.release()
            raise


def _exchange(pool: _Pool, connection: _Connection, request: Request) -> Response:
    started = time.perf_counter()
    deadline = request.deadline
    timer = None if deadline is None else watchdog().start_timer(deadline, connection.cut)
    try:
        received = _send(request, connection)
        elapsed = time.perf_counter() - started
        if connection.current_socket() is None:
            connection.socket = _socket_of(received)
        response = Response(
            received.status_code, received.headers.raw, None, request.info, elapsed=elapsed
        )
        if request.stream and response.is_success:
            free = _release_callback(pool, connection, timer)
            response.stream = BodyStream(received, request, free, connection.cut)
            timer = None
            return response
        try:
            response.body = b"".join(_chunks(received))
        finally:
            received.close()
    finally:
        if timer is not None:
            timer.cancel()
    pool.keep(connection)
    return response


def _release_callback(
    pool: _Pool, connection: _Connection, timer: Timer | None
) -> Callable[[bool], None]:
    """Return what a stream calls at its end, with whether it was read completely."""

    def release(complete: bool) -> None:  # noqa: FBT001 - called in one place
        if timer is not None:
            timer.cancel()
        if complete:
            pool.keep(connection)
        else:
            pool.discard(connection)

    return release


class UserClientTransport:
    """Sends requests through an httpx.Client, most often one that the user made and owns."""

    def __init__(self, clients: ProcessLocal[Any] | UserOwned[Any]) -> None:
        self._clients = clients

    def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        client, started = self._clients.get(), time.perf_counter()
        try:
            message = client.build_request(
                request.method,
                request.url,
                headers=wire_headers(request),
                content=wire_content(request),
                timeout=wire_timeout(request),
            )
            received = client.send(message, stream=True, follow_redirects=False)
            elapsed = time.perf_counter() - started
            response = Response(
                received.status_code, received.headers.raw, None, request.info, elapsed=elapsed
            )
            if request.stream and response.is_success:
                response.stream = BodyStream(received, request, lambda _: None, None)
                return response
            try:
                response.body = b"".join(_chunks(received))
            finally:
                received.close()
        except Exception as error:
            if not is_library_failure(error):
                raise
            failure = connection_error(error, request)
        else:
            return response
        raise failure

    def close(self) -> None:
        """Close the client."""
        client = self._clients.drop()
        if client is not None:
            client.close()


class BodyStream:
    """The unread body of one response. Its connection is released exactly once, on every path.

    Args:
        received: The response of httpx.
        request: The request that it belongs to.
        release: Called at the end, with whether the body was read completely.
        cut: Ends a read that takes too long, from another thread; None if nothing can.
    """

    __slots__ = ("_chunks", "_cut", "_done", "_received", "_release", "_request")

    def __init__(
        self,
        received: httpx.Response,
        request: Request,
        release: Callable[[bool], None],
        cut: Callable[[], None] | None,
    ) -> None:
        self._received = received
        self._request = request
        self._release = release
        self._cut = cut
        self._chunks = _chunks(received)
        self._done = False

    @property
    def is_closed(self) -> bool:
        """Whether the body was read to its end or given up."""
        return self._done

    def read(self) -> bytes:
        """Return the next chunk of the body, `b""` at its end.

        Raises:
            APIConnectionError: The connection broke first.
        """
        if self._done:
            return b""
        try:
            for chunk in self._chunks:
                if chunk:
                    return chunk
        except BaseException as error:
            self.close()
            if not is_library_failure(error):
                raise
            failure = connection_error(error, self._request)
        else:
            self._end(complete=True)
            return b""
        raise failure

    def drain(self) -> None:
        """Read the few bytes after a stream's end mark, so that the connection can be kept.

        If the server keeps the body open, the connection is closed instead.
        """
        if self._cut is None or self._done:
            self.close()
            return
        timer = watchdog().start_timer(time.monotonic() + DRAIN_SECONDS, self._cut)
        try:
            while self.read():
                pass
        except APIConnectionError:
            return
        finally:
            timer.cancel()
            self.close()

    def close(self) -> None:
        """Abandon the body; its connection is closed unless the body was read completely."""
        self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        if self._done:
            return
        self._done = True
        try:
            self._received.close()
        finally:
            self._release(complete)


def _send(request: Request, connection: _Connection) -> Any:
    """Return the response, its body unread."""
    extensions: dict[str, Any] = {"timeout": request.limits().phases()}
    if connection.socket is None or request.deadline is not None:
        extensions["trace"] = connection.trace
    transport, content = connection.transport, wire_content(request)
    if isinstance(transport, DirectConnection):
        return transport.send(request, content, extensions)
    return transport.handle_request(
        httpx.Request(
            request.method,
            parsed_url(request.url),
            headers=wire_headers(request),
            content=content,
            extensions=extensions,
        )
    )


def _socket_of(received: httpx.Response) -> socket.socket | None:
    stream = received.extensions.get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")


def _chunks(received: httpx.Response) -> Iterator[bytes]:
    """Return the chunks of the body, decompressed if need be."""
    stream = received.stream
    if "content-encoding" in received.headers or not isinstance(stream, httpx.SyncByteStream):
        return received.iter_bytes()
    return iter(stream)
