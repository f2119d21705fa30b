"""Blocking HTTP on httpx: a free list of one-connection transports, called directly.

httpx's own pool walks all its connections at each request, and its `Client` layer is
a third of a request's cost. Both are avoided on public interfaces only: each slot is
an `httpx.HTTPTransport` limited to one connection; a request takes a free slot, the
most recently used first, and gives it back when its answer has been read.
A client that the user passes is used as it is, with all its settings.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

from tunesmith.core.response import Response
from tunesmith.errors import APIConnectionError

from .failures import pool_timeout
from .http_common import (
    environment_proxy,
    is_transport_error,
    parsed_url,
    raise_error,
    shared_tls_context,
    socket_options,
    wire_content,
    wire_headers,
    wire_timeout,
)
from .limits import DRAIN_SECONDS, KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, origin_of
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


class HttpxTransport:
    """Sends requests over its own connections; safe to share between threads and after fork."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._free: dict[str, list[_Slot]] = {}
        self._places = threading.Semaphore(self._max_connections)
        self._inherited: list[Any] = getattr(self, "_inherited", [])

    def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        if os.getpid() != self._process:
            self._leave_to_parent()
        slot = self._take(request)
        try:
            return self._exchange(slot, request)
        except BaseException as error:
            self._discard(slot)
            if is_transport_error(error):
                raise_error(error, request)
            raise

    def close(self) -> None:
        """Close the idle connections; those in use close when their answer ends."""
        free, self._free = self._free, {}
        for slots in free.values():
            for slot in slots:
                slot.http.close()

    def _exchange(self, slot: _Slot, request: Request) -> Response:
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
                free = self._freer(slot, guard)
                stream = BodyStream(answer, request, free, slot.cut)
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
        self._give_back(slot)
        return Response(status, answer.headers.raw, body, request.info, elapsed=elapsed)

    def _freer(self, slot: _Slot, guard: Guard | None) -> Callable[[bool], None]:
        """Return what a stream calls at its end, with whether it was read whole."""

        def free(whole: bool) -> None:  # noqa: FBT001 - called in one place
            if guard is not None:
                guard.cancel()
            if whole:
                self._give_back(slot)
            else:
                self._discard(slot)

        return free

    def _take(self, request: Request) -> _Slot:
        if not self._places.acquire(timeout=request.timeout.pool):
            raise pool_timeout(request, self._max_connections)
        origin = origin_of(request.url)
        try:
            return self._free[origin].pop()
        except (KeyError, IndexError):
            pass
        try:
            return _Slot(origin, self._new_transport(request.url))
        except BaseException:
            self._places.release()
            raise

    def _give_back(self, slot: _Slot) -> None:
        self._free.setdefault(slot.origin, []).append(slot)
        self._places.release()

    def _discard(self, slot: _Slot) -> None:
        slot.http.close()
        self._places.release()

    def _new_transport(self, url: str) -> httpx.HTTPTransport:
        return httpx.HTTPTransport(
            verify=shared_tls_context(),
            proxy=environment_proxy(url),
            limits=httpx.Limits(
                max_connections=1,
                max_keepalive_connections=1,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
            ),
            socket_options=socket_options(),
        )

    def _leave_to_parent(self) -> None:
        # After a fork the connections belong to the parent. They are kept, not closed:
        # closing would end the parent's TLS sessions.
        self._inherited.append(self._free)
        self._reset()


class UserClientTransport:
    """Sends requests through an httpx client that the user made and owns."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        started = time.perf_counter()
        try:
            message = self._client.build_request(
                request.method,
                request.url,
                headers=request.headers,
                content=wire_content(request),
                timeout=wire_timeout(request),
            )
            answer = self._client.send(message, stream=True, follow_redirects=False)
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
        """Close the user's client."""
        self._client.close()


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
    extensions: dict[str, Any] = {"timeout": request.timeout.phases()}
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
