"""The fast engine: the same exchanges on pyreqwest (the extra `fast`), an HTTP client in Rust.

A request costs about a tenth of what it costs on httpx. Connections, TLS and pooling are
the engine's; effects, errors, retries and decoding stay as they are.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import (
    BuilderError,
    ConnectError,
    ConnectTimeoutError,
    PoolTimeoutError,
    PyreqwestError,
    RequestTimeoutError,
    WriteTimeoutError,
)

from tunesmith import errors
from tunesmith.core.request import deadline_exceeded
from tunesmith.core.response import Response

from .failures import connect_failure, pool_timeout, seconds, server_of
from .limits import KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tunesmith.core.request import Request

__all__ = ["AsyncFastTransport", "FastTransport"]

_SUCCESS = range(200, 300)


class _Clients:
    """The engine's clients, one for each set of time limits, made again after a fork."""

    def __init__(self, builder: Any, max_connections: int) -> None:
        self._builder = builder
        self._limit = max_connections
        self._process = os.getpid()
        self._clients: dict[Any, Any] = {}
        self._inherited: list[Any] = []

    def of(self, request: Request) -> Any:
        """Return the client for a request."""
        if self._process != os.getpid():
            # Its threads stayed with the parent, and closing would wait for them.
            self._inherited.append(self._clients)
            self._clients = {}
            self._process = os.getpid()
        limits = request.timeout
        local = is_loopback(request.url)
        key = (local, limits.connect, limits.read, limits.pool)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._build(request, local=local)
        return client

    def all(self) -> list[Any]:
        """Return the clients, and forget them."""
        clients, self._clients = list(self._clients.values()), {}
        return clients

    def _build(self, request: Request, *, local: bool) -> Any:
        limits = request.timeout
        builder = (
            self._builder()
            .follow_redirects(False)  # noqa: FBT003 - the engine's interface
            .max_connections(self._limit)
            .pool_idle_timeout(timedelta(seconds=KEEP_ALIVE_SECONDS))
            .pool_max_idle_per_host(self._limit)
            .tcp_nodelay(True)  # noqa: FBT003
        )
        if limits.connect is not None:
            builder = builder.connect_timeout(timedelta(seconds=limits.connect))
        if limits.read is not None:
            builder = builder.read_timeout(timedelta(seconds=limits.read))
        if limits.pool is not None:
            builder = builder.pool_timeout(timedelta(seconds=limits.pool))
        return (builder.no_proxy() if local else builder).build()


def _built(client: Any, request: Request, body: Any) -> Any:
    """Return the engine's request builder, filled."""
    builder = client.request(request.method, request.url)
    headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
    if isinstance(request.body, bytes):
        builder = builder.body_bytes(request.body)
    elif request.body is not None:
        if request.body.length is not None:
            headers["content-length"] = str(request.body.length)
        builder = builder.body_stream(body)
    elif request.method == "POST":
        headers["content-length"] = "0"
    if request.deadline is not None:
        remaining = max(0.001, request.deadline - time.monotonic())
        builder = builder.timeout(timedelta(seconds=remaining))
    return builder.headers(headers)


class FastTransport:
    """Blocking exchanges."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._limit = max_connections
        self._clients = _Clients(SyncClientBuilder, max_connections)

    def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        started = time.perf_counter()
        try:
            body = request.body
            chunks = None if body is None or isinstance(body, bytes) else body.chunks()
            builder = _built(self._clients.of(request), request, chunks)
            if request.stream:
                return self._open(builder.build_streamed(), request, started)
            answer = builder.build().send()
            return Response(
                answer.status,
                _raw_headers(answer),
                answer.bytes().to_bytes(),
                request.info,
                elapsed=time.perf_counter() - started,
            )
        except PyreqwestError as error:
            _raise(error, request, self._limit)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.all():
            client.close()

    def _open(self, opened: Any, request: Request, started: float) -> Response:
        answer = opened.__enter__()
        elapsed = time.perf_counter() - started
        stream = _BodyStream(opened, answer, request, self._limit)
        body = None
        if answer.status not in _SUCCESS:
            try:
                body = answer.bytes().to_bytes()
            finally:
                stream.close()
        return Response(
            answer.status,
            _raw_headers(answer),
            body,
            request.info,
            stream=None if body is not None else stream,
            elapsed=elapsed,
        )


class _BodyStream:
    """The unread body of one answer."""

    def __init__(self, opened: Any, answer: Any, request: Request, limit: int) -> None:
        self._opened = opened
        self._reader = answer.body_reader
        self._request = request
        self._limit = limit
        self._done = False

    def read(self) -> bytes:
        """Return the next piece of the body, `b""` at its end."""
        if self._done:
            return b""
        try:
            chunk = self._reader.read_chunk()
        except PyreqwestError as error:
            self.close()
            _raise(error, self._request, self._limit)
        if chunk is None:
            self.close()
            return b""
        return bytes(chunk)

    def drain(self) -> None:
        """Give up what follows a stream's end mark."""
        self.close()

    def close(self) -> None:
        """Free the connection."""
        if not self._done:
            self._done = True
            self._opened.__exit__(None, None, None)


class AsyncFastTransport:
    """Exchanges on asyncio's event loop."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._limit = max_connections
        self._clients = _Clients(ClientBuilder, max_connections)

    async def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        started = time.perf_counter()
        try:
            builder = _built(self._clients.of(request), request, _pieces(request))
            if request.stream:
                return await self._open(builder.build_streamed(), request, started)
            answer = await builder.build().send()
            return Response(
                answer.status,
                _raw_headers(answer),
                (await answer.bytes()).to_bytes(),
                request.info,
                elapsed=time.perf_counter() - started,
            )
        except PyreqwestError as error:
            _raise(error, request, self._limit)

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._clients.all():
            await client.close()

    async def _open(self, opened: Any, request: Request, started: float) -> Response:
        answer = await opened.__aenter__()
        elapsed = time.perf_counter() - started
        stream = _AsyncBodyStream(opened, answer, request, self._limit)
        body = None
        if answer.status not in _SUCCESS:
            try:
                body = (await answer.bytes()).to_bytes()
            finally:
                await stream.aclose()
        return Response(
            answer.status,
            _raw_headers(answer),
            body,
            request.info,
            stream=None if body is not None else stream,
            elapsed=elapsed,
        )


class _AsyncBodyStream:
    """The unread body of one answer."""

    def __init__(self, opened: Any, answer: Any, request: Request, limit: int) -> None:
        self._opened = opened
        self._reader = answer.body_reader
        self._request = request
        self._limit = limit
        self._done = False

    async def read(self) -> bytes:
        """Return the next piece of the body, `b""` at its end."""
        if self._done:
            return b""
        try:
            chunk = await self._reader.read_chunk()
        except PyreqwestError as error:
            await self.aclose()
            _raise(error, self._request, self._limit)
        if chunk is None:
            await self.aclose()
            return b""
        return bytes(chunk)

    async def drain(self) -> None:
        """Give up what follows a stream's end mark."""
        await self.aclose()

    async def aclose(self) -> None:
        """Free the connection."""
        if not self._done:
            self._done = True
            await self._opened.__aexit__(None, None, None)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Read a body in worker threads, so that a slow disk does not hold up the event loop."""
    body = request.body
    if body is None or isinstance(body, bytes):
        return
    chunks = body.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


def _raw_headers(answer: Any) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in answer.headers.items()
    ]


def _raise(error: PyreqwestError, request: Request, limit: int) -> NoReturn:
    """Raise this package's error for one of the engine's."""
    detached = error.with_traceback(None)
    detached.__cause__ = detached.__context__ = None
    raise _translated(error, request, limit) from detached


def _translated(error: PyreqwestError, request: Request, limit: int) -> errors.APIConnectionError:
    info = request.info
    if request.deadline is not None and time.monotonic() >= request.deadline - 0.005:
        return deadline_exceeded(request)
    if isinstance(error, PoolTimeoutError):
        return pool_timeout(request, limit)
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
