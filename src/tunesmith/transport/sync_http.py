"""Blocking HTTP on httpx: a free list of one-connection transports, called directly.

httpx's own pool walks all its connections at each request, and its `Client` layer is
a third of a request's cost. Both are avoided on public interfaces only: each slot is
an `httpx.HTTPTransport` limited to one connection; a request takes a free slot, the
most recently used first, and gives it back when its answer has been read.
A client that the user passes is used as it is, with all its settings.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

from tunesmith.core.response import Response
from tunesmith.errors import APIConnectionError

from .failures import pool_timeout
from .free_list import FreeList
from .http_common import (
    is_transport_error,
    parsed_url,
    raise_error,
    transport_settings,
    wire_content,
    wire_headers,
    wire_timeout,
)
from .limits import DRAIN_SECONDS, MAX_CONNECTIONS, origin_of
from .local import ProcessLocal, UserOwned
from .watchdog import Guard, watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunesmith.core.request import Request

__all__ = ["HttpxTransport", "UserClientTransport"]


class _Slot:
    """One connection and the socket behind it, once there is one."""

    __slots__ = ("http", "origin", "socket")

    def __init__(self, origin: str, http: httpx.HTTPTransport) -> None:
        self.origin = origin
        self.http = http
        self.socket: socket.socket | None = None

    def current_socket(self) -> socket.socket | None:
        """Return the socket if it is still open; an idle connection may have been replaced."""
        if self.socket is not None and self.socket.fileno() < 0:
            self.socket = None
        return self.socket

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """Remember the socket when httpx connects, so that a deadline can cut it."""
        if name in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self.socket = info["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """Wake whoever waits on the socket; safe from any thread."""
        if self.socket is not None:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class _Pool:
    """The connections of one process: free ones by their server, and places for all."""

    def __init__(self, limit: int) -> None:
        self.places = threading.Semaphore(limit)
        self._free: FreeList[_Slot] = FreeList()

    def slot(self, url: str) -> _Slot:
        """Return a connection for an address, the most recently used one first."""
        free = self._free.take(url)
        return free or _Slot(origin_of(url), httpx.HTTPTransport(**transport_settings(url)))

    def give_back(self, slot: _Slot) -> None:
        """Keep a connection whose answer has been read."""
        self._free.keep(slot)
        self.places.release()

    def discard(self, slot: _Slot) -> None:
        """Close a connection in whatever state it is."""
        slot.http.close()
        self.places.release()

    def close(self) -> None:
        """Close the free connections."""
        for slot in self._free.empty():
            slot.http.close()


class HttpxTransport:
    """Sends requests over its own connections; safe to share between threads and after fork."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._pools = ProcessLocal(lambda: _Pool(max_connections))

    def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        pool = self._pools.get()
        slot = self._take(pool, request)
        try:
            return _exchange(pool, slot, request)
        except BaseException as error:
            pool.discard(slot)
            if is_transport_error(error):
                raise_error(error, request)
            raise

    def close(self) -> None:
        """Close the idle connections; those in use close when their answer ends."""
        self._pools.get().close()

    def _take(self, pool: _Pool, request: Request) -> _Slot:
        if not pool.places.acquire(timeout=request.limits().pool):
            raise pool_timeout(request, self._max_connections)
        try:
            return pool.slot(request.url)
        except BaseException:
            pool.places.release()
            raise


def _exchange(pool: _Pool, slot: _Slot, request: Request) -> Response:
    started = time.perf_counter()
    deadline = request.deadline
    guard = None if deadline is None else watchdog().watch(deadline, slot.cut)
    try:
        answer = slot.http.handle_request(_httpx_request(request, slot))
        elapsed = time.perf_counter() - started
        if slot.current_socket() is None:
            slot.socket = _socket_of(answer)
        status = answer.status_code
        if request.stream and 200 <= status < 300:  # noqa: PLR2004 - success
            stream = BodyStream(answer, request, _freer(pool, slot, guard), slot.cut)
            guard = None
            return Response(
                status, answer.headers.raw, None, request.info, stream=stream, elapsed=elapsed
            )
        try:
            body = b"".join(chunks_of(answer))
        finally:
            answer.close()
    finally:
        if guard is not None:
            guard.cancel()
    pool.give_back(slot)
    return Response(status, answer.headers.raw, body, request.info, elapsed=elapsed)


def _freer(pool: _Pool, slot: _Slot, guard: Guard | None) -> Callable[[bool], None]:
    """Return what a stream calls at its end, with whether it was read whole."""

    def free(whole: bool) -> None:  # noqa: FBT001 - called in one place
        if guard is not None:
            guard.cancel()
        if whole:
            pool.give_back(slot)
        else:
            pool.discard(slot)

    return free


class UserClientTransport:
    """Sends requests through an httpx.Client, most often one that the user made and owns."""

    def __init__(self, clients: ProcessLocal[Any] | UserOwned[Any]) -> None:
        self._clients = clients

    def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        client, started = self._clients.get(), time.perf_counter()
        try:
            message = client.build_request(
                request.method,
                request.url,
                headers=request.headers,
                content=wire_content(request),
                timeout=wire_timeout(request),
            )
            answer = client.send(message, stream=True, follow_redirects=False)
            elapsed = time.perf_counter() - started
            if request.stream and answer.is_success:
                stream = BodyStream(answer, request, lambda _: None, None)
                return Response(
                    answer.status_code,
                    answer.headers.raw,
                    None,
                    request.info,
                    stream=stream,
                    elapsed=elapsed,
                )
            try:
                body = b"".join(chunks_of(answer))
            finally:
                answer.close()
        except Exception as error:
            if is_transport_error(error):
                raise_error(error, request)
            raise
        return Response(answer.status_code, answer.headers.raw, body, request.info, elapsed=elapsed)

    def close(self) -> None:
        """Close the client."""
        client = self._clients.drop()
        if client is not None:
            client.close()


class BodyStream:
    """The unread body of one answer. Its connection is freed exactly once, on every path."""

    __slots__ = ("_answer", "_chunks", "_cut", "_done", "_free", "_request")

    def __init__(
        self,
        answer: httpx.Response,
        request: Request,
        free: Callable[[bool], None],
        cut: Callable[[], None] | None,
    ) -> None:
        """Hold the answer; `free` is called at the end, `cut` wakes a read that must not last."""
        self._cut = cut
        self._answer = answer
        self._request = request
        self._free = free
        self._chunks = chunks_of(answer)
        self._done = False

    def read(self) -> bytes:
        """Return the next piece of the body, `b""` at its end.

        Raises:
            APIConnectionError: The connection broke first.
        """
        if self._done:
            return b""
        try:
            for chunk in self._chunks:
                return chunk
        except Exception as error:
            self.close()
            if is_transport_error(error):
                raise_error(error, self._request)
            raise
        except BaseException:
            self.close()
            raise
        self._end(whole=True)
        return b""

    def drain(self) -> None:
        """Read what little follows a stream's end mark, so that the connection can be kept.

        A server that keeps the body open is not waited for.
        """
        if self._cut is None or self._done:
            self.close()
            return
        guard = watchdog().watch(time.monotonic() + DRAIN_SECONDS, self._cut)
        try:
            while self.read():
                pass
        except APIConnectionError:
            return
        finally:
            guard.cancel()
            self.close()

    def close(self) -> None:
        """Give the body up; its connection is closed unless it was read to its end."""
        self._end(whole=False)

    def _end(self, *, whole: bool) -> None:
        if self._done:
            return
        self._done = True
        try:
            self._answer.close()
        finally:
            self._free(whole)


def _httpx_request(request: Request, slot: _Slot) -> httpx.Request:
    extensions: dict[str, Any] = {"timeout": request.limits().phases()}
    if slot.socket is None or request.deadline is not None:
        extensions["trace"] = slot.trace
    return httpx.Request(
        request.method,
        parsed_url(request.url),
        headers=wire_headers(request),
        content=wire_content(request),
        extensions=extensions,
    )


def _socket_of(answer: httpx.Response) -> socket.socket | None:
    stream = answer.extensions.get("network_stream")
    return None if stream is None else stream.get_extra_info("socket")


def chunks_of(answer: httpx.Response) -> Iterator[bytes]:
    """Return the body's pieces, content encodings undone where there are any."""
    if "content-encoding" in answer.headers or not isinstance(answer.stream, httpx.SyncByteStream):
        return answer.iter_bytes()
    return iter(answer.stream)
