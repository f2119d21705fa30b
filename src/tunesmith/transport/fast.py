"""The fast engine: the same exchanges on pyreqwest (the extra `fast`), an HTTP client in Rust.

A request costs about a tenth of what it costs on httpx. Connections, TLS and pooling are
the engine's; effects, errors, retries and decoding stay as they are. In a child forked
from a process that has used the engine, requests go over httpx.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import (
    BuilderError,
    ConnectError,
    ConnectTimeoutError,
    PyreqwestError,
    RequestTimeoutError,
    WriteTimeoutError,
)

from tunesmith import errors
from tunesmith.core.headers import Headers
from tunesmith.core.request import deadline_exceeded
from tunesmith.core.response import Response

from .choose import async_transport, sync_transport
from .failures import connect_failure, pool_timeout, seconds, server_of
from .limits import (
    DRAIN_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAX_CONNECTIONS,
    PROBE_SECONDS,
    PROBES,
    is_loopback,
)
from .local import ProcessLocal, forks
from .loop_local import LoopLocal, enter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tunesmith.core.request import Body, Request

__all__ = ["AsyncFastTransport", "FastTransport"]

T = TypeVar("T")

_SUCCESS = range(200, 300)
_MAX_CLIENTS = 16


_owner: list[int] = []


def _is_elsewhere() -> bool:
    """Return whether the engine runs in a parent: it cannot be started again after a fork."""
    return bool(_owner) and _owner[0] != forks()


class _Clients:
    """The engine's clients. Time limits belong to a client there, so each set has its own."""

    def __init__(self, builder: Any, *, http2: bool) -> None:
        self._builder = builder
        self._http2 = http2
        self._clients: dict[Any, Any] = {}

    def of(self, request: Request) -> Any:
        """Return the client for a request."""
        limits = request.timeout
        key = (is_loopback(request.url), limits.connect, limits.read)
        client = self._clients.get(key)
        if client is None:
            while len(self._clients) >= _MAX_CLIENTS:
                # What it still has to do goes on; its idle connections close.
                self._clients.pop(next(iter(list(self._clients))), None)
            client = self._clients[key] = self._build(*key)
        return client

    def all(self) -> list[Any]:
        """Return the clients, and forget them."""
        clients, self._clients = list(self._clients.values()), {}
        return clients

    def _build(self, local: bool, connect: float | None, read: float | None) -> Any:  # noqa: FBT001
        _owner[:] = [forks()]
        builder = (
            self._builder()
            .follow_redirects(False)  # noqa: FBT003 - the engine's interface
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
        return (builder.no_proxy() if local else builder).build()


def _built(client: Any, request: Request, chunks: Any) -> Any:
    """Return the engine's request builder, filled; `chunks` are those of a body that is read."""
    builder = client.request(request.method, request.url)
    headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
    if isinstance(request.body, bytes):
        builder = builder.body_bytes(request.body)
    elif request.body is not None:
        if request.body.length is not None:
            headers["content-length"] = str(request.body.length)
        builder = builder.body_stream(chunks)
    elif request.method == "POST":
        headers["content-length"] = "0"
    if request.deadline is not None:
        remaining = max(0.001, request.deadline - time.monotonic())
        builder = builder.timeout(timedelta(seconds=remaining))
    return builder.headers(headers)


Steps = Generator[Any, Any, T]
"""Calls of the engine, yielded and sent their outcomes: at once, or awaited first."""


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
            try:
                outcome = await step
            except BaseException as error:  # noqa: BLE001 - the steps decide, and see all
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as stop:
        value: T = stop.value
        return value


class _Exchange:
    """One exchange, in steps that both colours perform."""

    def __init__(self, request: Request, enter: str, leave: str, free: Callable[[], None]) -> None:
        self._request = request
        self._enter = enter
        self._leave = leave
        self._free = [free]
        self._opened: Any = None
        self._reader: Any = None
        self._finished = False

    def send(self, client: Any, chunks: Any, body_stream: Any) -> Steps[Response]:
        """Send the request; the answer's body is a `body_stream` where it is left unread."""
        request, started = self._request, time.perf_counter()
        try:
            builder = _built(client, request, chunks)
            if not request.stream:
                answer = yield builder.build().send()
                elapsed = time.perf_counter() - started
                return _response(answer, (yield answer.bytes()), request, elapsed)
            # Without the limit nothing is handed over before 64 KiB or the body's end are there.
            opened = builder.streamed_read_buffer_limit(0).build_streamed()
            answer = yield getattr(opened, self._enter)()
            elapsed = time.perf_counter() - started
            self._opened = opened
            if answer.status not in _SUCCESS:
                return _response(answer, (yield answer.bytes()), request, elapsed)
            self._reader = answer.body_reader
            return _response(answer, None, request, elapsed, body_stream(self))
        except PyreqwestError as error:
            _raise(error, request)
        finally:
            if self._reader is None:
                yield from self.finish()

    def read(self) -> Steps[bytes]:
        """Read the next piece of the body, `b""` at its end."""
        if self._finished:
            return b""
        try:
            chunk = yield self._reader.read_chunk()
        except PyreqwestError as error:
            yield from self.finish()
            _raise(error, self._request)
        except (Exception, KeyboardInterrupt, asyncio.CancelledError):
            yield from self.finish()
            raise
        if chunk is None:
            yield from self.finish()
            return b""
        return bytes(chunk)

    def finish(self) -> Steps[None]:
        """Free the place and the connection, which is closed unless its body was read whole."""
        if self._finished:
            return
        self._finished = True
        try:
            if self._opened is not None:
                yield getattr(self._opened, self._leave)(None, None, None)
        finally:
            self.release()

    def release(self) -> None:
        """Free the place, once."""
        while self._free:
            self._free.pop()()


def _response(
    answer: Any, body: Any, request: Request, elapsed: float, stream: Any = None
) -> Response:
    headers = Headers(answer.headers.items())
    content = None if body is None else body.to_bytes()
    return Response(answer.status, headers, content, request.info, stream=stream, elapsed=elapsed)


class FastTransport:
    """Blocking exchanges."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, http2: bool = False) -> None:
        self._limit = max_connections
        self._clients = _Clients(SyncClientBuilder, http2=http2)
        self._places = threading.Semaphore(max_connections)
        self._after_fork = ProcessLocal(lambda: sync_transport(None, None, max_connections, http2))

    def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        if _is_elsewhere():
            return self._after_fork.get().send(request)
        places, body = self._places, request.body
        if not places.acquire(timeout=request.limits().pool):
            raise pool_timeout(request, self._limit)
        exchange = _Exchange(request, "__enter__", "__exit__", places.release)
        chunks = None if body is None or isinstance(body, bytes) else body.chunks()
        return _perform(exchange.send(self._clients.of(request), chunks, _BodyStream))

    def close(self) -> None:
        """Close the connections."""
        if _is_elsewhere():
            self._after_fork.get().close()
            return
        for client in self._clients.all():
            client.close()


class _BodyStream:
    """The unread body of one answer."""

    _draining = threading.Lock()

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._given_away = False

    def read(self) -> bytes:
        """Return the next piece of the body, `b""` at its end."""
        return _perform(self._exchange.read())

    def drain(self) -> None:
        """Read what little follows a stream's end mark, so that the connection can be kept.

        The engine's reads cannot be interrupted, so one thread waits for a server that keeps
        the body open; while it does, the connections of other streams are closed.
        """
        if not self._draining.acquire(blocking=False):
            self.close()
            return
        self._given_away = True
        reader = threading.Thread(target=self._read_on, name="tunesmith-drain", daemon=True)
        reader.start()
        reader.join(DRAIN_SECONDS)
        self._exchange.release()

    def _read_on(self) -> None:
        try:
            while self.read():
                pass
        except errors.APIConnectionError:
            return
        finally:
            self._draining.release()

    def close(self) -> None:
        """Free the connection."""
        if not self._given_away:
            _perform(self._exchange.finish())


class AsyncFastTransport:
    """Exchanges on asyncio's event loop."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, http2: bool = False) -> None:
        self._limit = max_connections
        self._clients = LoopLocal(lambda: _Clients(ClientBuilder, http2=http2))
        self._places = LoopLocal(lambda: asyncio.Semaphore(max_connections))
        self._after_fork = ProcessLocal(lambda: async_transport(None, None, max_connections, http2))

    async def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        if _is_elsewhere():
            return await self._after_fork.get().send(request)
        places = self._places.get()
        if not await enter(places, request.limits().pool):
            raise pool_timeout(request, self._limit)
        exchange = _Exchange(request, "__aenter__", "__aexit__", places.release)
        client, body = self._clients.get().of(request), request.body
        chunks = None if body is None or isinstance(body, bytes) else _pieces(body)
        return await _perform_async(exchange.send(client, chunks, _AsyncBodyStream))

    async def aclose(self) -> None:
        """Close the connections."""
        if _is_elsewhere():
            await self._after_fork.get().aclose()
            return
        for client in self._clients.get().all():
            await client.close()


class _AsyncBodyStream:
    """The unread body of one answer."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def read(self) -> bytes:
        """Return the next piece of the body, `b""` at its end."""
        return await _perform_async(self._exchange.read())

    async def drain(self) -> None:
        """Read what little follows a stream's end mark, so that the connection can be kept."""
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


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    """Read a body in worker threads, so that a slow disk does not hold up the event loop."""
    chunks = body.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


def _raise(error: PyreqwestError, request: Request) -> NoReturn:
    """Raise this package's error for one of the engine's."""
    detached = error.with_traceback(None)
    detached.__cause__ = detached.__context__ = None
    raise _translated(error, request) from detached


def _translated(error: PyreqwestError, request: Request) -> errors.APIConnectionError:
    info = request.info
    if request.deadline is not None and time.monotonic() >= request.deadline - 0.005:
        return deadline_exceeded(request)
    if isinstance(error, RequestTimeoutError):
        return _timed_out(error, request)
    # The engine calls every failure of a connection a connect error; its causes tell.
    if isinstance(error, ConnectError) and "(Connect)" in (reasons := _reasons(error)):
        return connect_failure(reasons, info)
    return errors.APIConnectionError(
        f"The connection broke during {info.method} {info.url}: {_reasons(error)}",
        request=info,
        retryable=not isinstance(error, BuilderError),
    )


def _timed_out(error: PyreqwestError, request: Request) -> errors.APITimeoutError:
    info, limits = request.info, request.timeout
    place = server_of(info)
    if isinstance(error, ConnectTimeoutError) and "(Connect)" in _reasons(error):
        text = f"No connection to {place} within {seconds(limits.connect)}."
        return errors.ConnectTimeoutError(text, request=info)
    if isinstance(error, WriteTimeoutError):
        text = f"{place} took nothing for {seconds(limits.write)}."
        return errors.WriteTimeoutError(text, request=info)
    return errors.ReadTimeoutError(_silence(request), request=info)


def _silence(request: Request) -> str:
    info, silence = request.info, seconds(request.timeout.read)
    return f"{server_of(info)} sent nothing for {silence}, in answer to {info.method} {info.url}."


def _reasons(error: PyreqwestError) -> str:
    """Return what the engine says, causes included."""
    details: Any = error.args[1] if len(error.args) > 1 else {}
    causes = [str(cause.get("message")) for cause in (details or {}).get("causes") or ()]
    return ": ".join([str(error.args[0]) if error.args else type(error).__name__, *causes])
