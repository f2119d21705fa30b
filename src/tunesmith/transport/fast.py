"""The fast transport, on pyreqwest (the extra `fast`), an HTTP client written in Rust.

A request costs about a tenth of what it costs on httpx. pyreqwest opens connections, speaks
TLS and keeps the pool; effects, errors, retries and decoding are the same as on httpx. In a
child forked from a process that has used pyreqwest, requests are sent with a fallback.
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
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import (
    ConnectError,
    ConnectTimeoutError,
    RequestTimeoutError,
    WriteTimeoutError,
)
from pyreqwest.proxy import ProxyBuilder

from tunesmith import errors
from tunesmith.core.headers import Headers
from tunesmith.core.request import deadline_exceeded
from tunesmith.core.response import Response

from .async_pool import LoopLocal, acquire, read_in_threads
from .certificates import check_certificates, trusted_certificates
from .connection_errors import (
    broken,
    connect_error,
    connect_timeout,
    pool_timeout,
    read_timeout,
    shown_reason,
    write_timeout,
)
from .failure_table import is_library_failure, passes
from .pool import (
    DRAIN_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAX_CONNECTIONS,
    PROBE_SECONDS,
    PROBES,
    Permits,
    fork_count,
)
from .proxies import environment_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.core.request import Request

    from .async_driver import AsyncTransport
    from .pool import ProcessLocal
    from .sync_driver import Transport

__all__ = ["AsyncFastTransport", "FastTransport"]

T = TypeVar("T")

_MAX_CLIENTS = 16

# At the interpreter's exit: how long to wait for pyreqwest's thread, and how often to look, a
# millisecond apart. After 3 looks 2 of 80 processes were still aborted, after 20 none of 150.
_EXIT_SECONDS = 2.0
_EXIT_LOOKS = 20

# All that may have connections, to close them at the interpreter's exit.
_open: weakref.WeakSet[_Clients] = weakref.WeakSet()

# The fork count of the process that uses pyreqwest; empty until a client is built.
_user: list[int] = []


def _used_by_parent() -> bool:
    """Return whether a parent process uses pyreqwest: it cannot be started again after a fork."""
    return bool(_user) and _user[0] != fork_count()


def _leave_python() -> None:
    """At the interpreter's exit, end all requests; wait until their thread runs no Python code.

    It wakes an event loop by calling into asyncio. Python up to 3.13 ends a thread that it finds
    there once finalization has begun, and ending a thread of Rust aborts the process
    ("PyGILState_Release: thread state must be current when releasing").
    """
    if not _user or _used_by_parent():
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


class _Clients:
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


def _request_builder(client: Any, request: Request, chunks: Any) -> Any:
    """Return pyreqwest's builder for a request; `chunks` iterates a body that is not bytes."""
    builder = client.request(request.method, request.url)
    headers: dict[str, str] = request.headers
    if isinstance(request.body, bytes):
        builder = builder.body_bytes(request.body)
    elif request.body is not None:
        if request.body.length is not None:
            headers = {**headers, "content-length": str(request.body.length)}
        builder = builder.body_stream(chunks)
    elif request.method == "POST":
        headers = {**headers, "content-length": "0"}
    if request.deadline is not None:
        remaining = max(0.001, request.deadline - time.monotonic())
        builder = builder.timeout(timedelta(seconds=remaining))
    return builder.headers(headers)


Steps = Generator[Any, Any, T]
"""Calls of pyreqwest, yielded and sent their outcomes: values, or awaitables awaited first."""


def _perform(steps: Steps[T]) -> T:
    outcome = None
    try:
        while True:
            outcome = steps.send(outcome)
    except StopIteration as stop:
        value: T = stop.value
        return value


async def _perform_async(steps: Steps[T]) -> T:
    try:
        step = steps.send(None)
        while True:
            outcome: Any = None
            failure: BaseException | None = None
            try:
                outcome = await step
            except BaseException as error:  # noqa: BLE001 - the steps decide, and see all
                failure = error
            # Outside the handler, or what the steps raise would be chained to pyreqwest's error.
            step = steps.send(outcome) if failure is None else steps.throw(failure)
    except StopIteration as stop:
        value: T = stop.value
        return value


class _Exchange:
    """One request and its response, in steps that both transports perform.

    Args:
        request: The request.
        enter: The method that opens a streamed response: `__enter__` or `__aenter__`.
        leave: The method that closes it.
        release: Called once at the end, to free the request's permit.
    """

    def __init__(
        self, request: Request, enter: str, leave: str, release: Callable[[], None]
    ) -> None:
        self._request = request
        self._enter = enter
        self._leave = leave
        self._release = [release]
        self._opened: Any = None
        self._reader: Any = None
        self.finished = False

    def send(self, clients: _Clients, chunks: Any, body_stream: Any) -> Steps[Response]:
        """Send the request and return its response; a streamed body is a `body_stream`."""
        request, started = self._request, time.perf_counter()
        try:
            builder = _request_builder(clients.of(request), request, chunks)
            if not request.stream:
                received = yield builder.build().send()
                response = _response(received, request, started)
                response.body = (yield received.bytes()).to_bytes()
                return response
            # Without the limit nothing is returned before 64 KiB or the whole body have arrived.
            opened = builder.streamed_read_buffer_limit(0).build_streamed()
            received = yield getattr(opened, self._enter)()
            self._opened = opened
            response = _response(received, request, started)
            if response.is_success:
                self._reader = received.body_reader
                response.stream = body_stream(self)
            else:
                response.body = (yield received.bytes()).to_bytes()
        except Exception as error:
            if not is_library_failure(error):
                raise
            failure = _connection_error(error, request)
        else:
            return response
        finally:
            if self._opened is None:
                self.release()
            elif self._reader is None:
                yield from self.finish()
        raise failure

    def read(self) -> Steps[bytes]:
        """Read the next chunk of the body, `b""` at its end."""
        if self.finished:
            return b""
        try:
            chunk = yield self._reader.read_chunk()
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            yield from self.finish()
            if not is_library_failure(error):
                raise
            failure = _connection_error(error, self._request)
        else:
            if chunk is None:
                yield from self.finish()
                return b""
            return bytes(chunk)
        raise failure

    def finish(self) -> Steps[None]:
        """Release the permit and the connection, which is closed unless its body was read."""
        if self.finished:
            return
        self.finished = True
        try:
            if self._opened is not None:
                yield getattr(self._opened, self._leave)(None, None, None)
        finally:
            self.release()

    def release(self) -> None:
        """Release the permit, once."""
        while self._release:
            self._release.pop()()


def _response(received: Any, request: Request, started: float) -> Response:
    """Return the response without its body."""
    elapsed = time.perf_counter() - started
    return Response(received.status, _Fields(received.headers), None, request.info, elapsed=elapsed)


class _Fields:
    """The header fields of a response, read when they are first needed."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def decoded(self) -> Headers:
        """Return all fields."""
        try:
            return Headers(self._raw.items())
        except ValueError:
            return Headers(self._readable())

    def get(self, name: str) -> str | None:
        """Return one field."""
        try:
            values = self._raw.getall(name)
        except ValueError:
            return self.decoded().get(name)
        return ", ".join(values) if values else None

    def _readable(self) -> Iterator[tuple[str, str]]:
        """Yield fields; pyreqwest reads ASCII alone, so another value is a replacement sign."""
        for name in self._raw.keys():  # noqa: SIM118 - no mapping
            try:
                yield name, ", ".join(self._raw.getall(name))
            except ValueError:
                yield name, "\N{REPLACEMENT CHARACTER}"


class FastTransport:
    """Sends requests and blocks until their responses have arrived.

    Args:
        fallback: The transport of children forked after the first request.
        max_connections: Requests at most at one time.
        http2: Whether to offer HTTP/2 to servers.
    """

    def __init__(
        self,
        fallback: ProcessLocal[Transport],
        *,
        max_connections: int = MAX_CONNECTIONS,
        http2: bool = False,
    ) -> None:
        self._fallback = fallback
        self._limit = max_connections
        self._clients = _Clients(SyncClientBuilder, http2=http2)
        self._permits = Permits(max_connections)

    def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        if _used_by_parent():
            return self._fallback.get().send(request)
        permits, body = self._permits, request.body
        if not permits.acquire(request.limits().pool):
            raise pool_timeout(request, self._limit)
        exchange = _Exchange(request, "__enter__", "__exit__", permits.release)
        chunks = None if body is None or isinstance(body, bytes) else body.chunks()
        return _perform(exchange.send(self._clients, chunks, _BodyStream))

    def close(self) -> None:
        """Close the connections."""
        if _used_by_parent():
            self._fallback.get().close()
            return
        for client in self._clients.clear():
            client.close()


class _BodyStream:
    """The unread body of one response."""

    _draining = threading.Lock()

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._draining_in_thread = False

    @property
    def is_closed(self) -> bool:
        """Whether the body was read to its end or given up."""
        return self._exchange.finished or self._draining_in_thread

    def read(self) -> bytes:
        """Return the next chunk of the body, `b""` at its end."""
        return _perform(self._exchange.read())

    def drain(self) -> None:
        """Read the few bytes after a stream's end mark, so that the connection can be kept.

        pyreqwest's reads cannot be interrupted, so one thread waits for a server that keeps
        the body open; meanwhile the connections of other streams are closed.
        """
        if not self._draining.acquire(blocking=False):
            self.close()
            return
        self._draining_in_thread = True
        thread = threading.Thread(target=self._read_to_end, name="tunesmith-drain", daemon=True)
        thread.start()
        thread.join(DRAIN_SECONDS)
        self._exchange.release()

    def _read_to_end(self) -> None:
        try:
            while self.read():
                pass
        except errors.APIConnectionError:
            return
        finally:
            self._draining.release()

    def close(self) -> None:
        """Free the connection."""
        if not self._draining_in_thread:
            _perform(self._exchange.finish())


class AsyncFastTransport:
    """Sends requests on asyncio's event loop; see `FastTransport`."""

    def __init__(
        self,
        fallback: ProcessLocal[AsyncTransport],
        *,
        max_connections: int = MAX_CONNECTIONS,
        http2: bool = False,
    ) -> None:
        self._fallback = fallback
        self._limit = max_connections
        self._pools = LoopLocal(lambda: _AsyncPool(max_connections, http2=http2), _AsyncPool.close)

    async def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        if _used_by_parent():
            return await self._fallback.get().send(request)
        pool = self._pools.get()
        if not await acquire(pool.permits, request.limits().pool):
            raise pool_timeout(request, self._limit)
        exchange = _Exchange(request, "__aenter__", "__aexit__", pool.permits.release)
        body = request.body
        chunks = None if body is None or isinstance(body, bytes) else read_in_threads(body)
        return await _perform_async(exchange.send(pool.clients, chunks, _AsyncBodyStream))

    async def aclose(self) -> None:
        """Close the connections."""
        if _used_by_parent():
            await self._fallback.get().aclose()
            return
        await self._pools.get().close()


class _AsyncPool:
    """The clients of one event loop, and a permit for each request."""

    def __init__(self, limit: int, *, http2: bool) -> None:
        self.clients = _Clients(ClientBuilder, http2=http2)
        self.permits = asyncio.Semaphore(limit)

    async def close(self) -> None:
        """Close the connections."""
        for client in self.clients.clear():
            await client.close()


class _AsyncBodyStream:
    """The unread body of one response."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    @property
    def is_closed(self) -> bool:
        """Whether the body was read to its end or given up."""
        return self._exchange.finished

    async def read(self) -> bytes:
        """Return the next chunk of the body, `b""` at its end."""
        return await _perform_async(self._exchange.read())

    async def drain(self) -> None:
        """Read the few bytes after a stream's end mark, so that the connection can be kept."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self.read():
                    pass
        except (errors.APIConnectionError, TimeoutError):
            return
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Free the connection."""
        await _perform_async(self._exchange.finish())


def _connection_error(error: BaseException, request: Request) -> errors.APIConnectionError:
    """Return this package's error for one of pyreqwest's, to be raised outside the handler."""
    if request.deadline is not None and time.monotonic() >= request.deadline - 0.005:
        return deadline_exceeded(request)
    if isinstance(error, RequestTimeoutError):
        return _timeout_error(error, request)
    causes = _causes(error)
    reason = shown_reason(error, request, causes)
    # pyreqwest calls every failure of a connection a connect error; its causes differ.
    if "proxy authorization required" in causes:
        return broken(reason, request, retryable=False, what="The proxy refused")
    if isinstance(error, ConnectError) and "(Connect)" in causes:
        return connect_error(reason, request)
    # What arrived incomplete or garbled is a decoding error there, too.
    lost = any(mark in causes for mark in ("(SendRequest)", "reading a body from connection"))
    if lost or passes(error):
        return broken(reason, request, retryable=True)
    return broken(reason, request, retryable=False, what="The request failed")


def _timeout_error(error: RequestTimeoutError, request: Request) -> errors.APITimeoutError:
    if isinstance(error, ConnectTimeoutError) and "(Connect)" in _causes(error):
        return connect_timeout(request)
    if isinstance(error, WriteTimeoutError):
        return write_timeout(request)
    return read_timeout(request)


def _causes(error: BaseException) -> str:
    """Return pyreqwest's message, causes included."""
    details: Any = error.args[1] if len(error.args) > 1 else {}
    listed = details.get("causes") if isinstance(details, dict) else None
    causes = [str(cause.get("message")) for cause in listed or ()]
    return ": ".join([str(error.args[0]) if error.args else "", *causes])
