"""The asyncio transport on httpx: the same pool of one-connection transports.

Connections belong to the event loop that opened them, so each loop has its own pool; a
client may be used from several loops, one after the other or in several threads.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from tunesmith.core.request import deadline_exceeded
from tunesmith.core.response import Response
from tunesmith.core.urls import origin_of
from tunesmith.errors import APIConnectionError

from .async_pool import LoopLocal, acquire, read_in_threads
from .connection_errors import pool_timeout
from .direct import AsyncDirectConnection
from .failure_table import is_library_failure
from .httpx_adapter import (
    async_connection_transport,
    connection_error,
    parsed_url,
    transport_settings,
    wire_headers,
    wire_timeout,
)
from .pool import DRAIN_SECONDS, MAX_CONNECTIONS, IdleConnections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tunesmith.core.request import Request

    from .pool import UserOwned

__all__ = ["AsyncHttpxTransport", "AsyncUserClientTransport"]


class _Connection:
    """One connection, or a transport of httpx for one."""

    __slots__ = ("origin", "transport")

    def __init__(
        self, origin: str, transport: httpx.AsyncHTTPTransport | AsyncDirectConnection
    ) -> None:
        self.origin = origin
        self.transport = transport


def _new_connection(url: str) -> httpx.AsyncHTTPTransport | AsyncDirectConnection:
    settings = transport_settings(url)
    if settings["proxy"] is not None:
        return async_connection_transport(url)
    return AsyncDirectConnection(url, settings)


class _Pool:
    """The connections of one event loop: idle ones by origin, and a permit for each request."""

    def __init__(self, limit: int) -> None:
        self.permits = asyncio.Semaphore(limit)
        self._idle: IdleConnections[_Connection] = IdleConnections()

    def take(self, url: str) -> _Connection:
        """Return a connection to the server of `url`, an idle one if there is one."""
        idle = self._idle.take(url)
        if idle is not None:
            return idle
        return _Connection(origin_of(url), _new_connection(url))

    def keep(self, connection: _Connection) -> None:
        """Keep a connection whose response has been read."""
        self._idle.add(connection)
        self.permits.release()

    async def discard(self, connection: _Connection) -> None:
        """Close a connection in whatever state it is."""
        self.permits.release()
        await connection.transport.aclose()

    async def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle.clear():
            await connection.transport.aclose()


class AsyncHttpxTransport:
    """Sends requests over its own connections."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._pools = LoopLocal(lambda: _Pool(max_connections), _Pool.close)

    async def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        return await _before_deadline(request, self._send(request))

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; others are closed with their loop."""
        await self._pools.get().close()

    async def _send(self, request: Request) -> Response:
        pool = self._pools.get()
        connection = await self._take(pool, request)
        try:
            return await _exchange(pool, connection, request)
        except BaseException as error:
            await pool.discard(connection)
            if not is_library_failure(error):
                raise
            failure = connection_error(error, request)
        raise failure

    async def _take(self, pool: _Pool, request: Request) -> _Connection:
        if not await acquire(pool.permits, request.timeout.pool):
            raise pool_timeout(request, self._max_connections)
        try:
            return pool.take(request.url)
        except BaseException:
            pool.permits.release()
            raise


T = TypeVar("T")


async def _before_deadline(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, at most until the request's deadline."""
    if request.deadline is None:
        return await work
    try:
        async with asyncio.timeout(request.deadline - time.monotonic()):
            return await work
    except TimeoutError:
        pass
    raise deadline_exceeded(request)


async def _exchange(pool: _Pool, connection: _Connection, request: Request) -> Response:
    started = time.perf_counter()
    received = await _send(request, connection)
    elapsed = time.perf_counter() - started
    response = Response(
        received.status_code, received.headers.raw, None, request.info, elapsed=elapsed
    )
    if request.stream and response.is_success:

        async def release(complete: bool) -> None:  # noqa: FBT001 - called in one place
            if complete:
                pool.keep(connection)
            else:
                await pool.discard(connection)

        response.stream = AsyncBodyStream(received, request, release)
        return response
    try:
        response.body = b"".join([chunk async for chunk in _chunks(received)])
    finally:
        await received.aclose()
    pool.keep(connection)
    return response


class AsyncUserClientTransport:
    """Sends requests through an httpx.AsyncClient, most often one that the user made and owns."""

    def __init__(self, clients: LoopLocal[Any] | UserOwned[Any]) -> None:
        self._clients = clients

    async def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        return await _before_deadline(request, self._send(request))

    async def aclose(self) -> None:
        """Close the client."""
        client = self._clients.drop()
        if client is not None:
            await client.aclose()

    async def _send(self, request: Request) -> Response:
        client, started = self._clients.get(), time.perf_counter()
        try:
            message = client.build_request(
                request.method,
                request.url,
                headers=wire_headers(request),
                content=_content(request),
                timeout=wire_timeout(request),
            )
            received = await client.send(message, stream=True, follow_redirects=False)
            elapsed = time.perf_counter() - started
            response = Response(
                received.status_code, received.headers.raw, None, request.info, elapsed=elapsed
            )
            if request.stream and response.is_success:
                response.stream = AsyncBodyStream(received, request, _release_nothing)
                return response
            try:
                response.body = await received.aread()
            finally:
                await received.aclose()
        except Exception as error:
            if not is_library_failure(error):
                raise
            failure = connection_error(error, request)
        else:
            return response
        raise failure


async def _release_nothing(complete: bool) -> None:  # noqa: FBT001 - the signature of a callback
    del complete


class AsyncBodyStream:
    """The unread body of one response. Its connection is released exactly once, on every path.

    Args:
        received: The response of httpx.
        request: The request that it belongs to.
        release: Called at the end, with whether the body was read completely.
    """

    __slots__ = ("_chunks", "_done", "_received", "_release", "_request")

    def __init__(
        self,
        received: httpx.Response,
        request: Request,
        release: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._received = received
        self._request = request
        self._release = release
        self._chunks = _chunks(received)
        self._done = False

    @property
    def is_closed(self) -> bool:
        """Whether the body was read to its end or given up."""
        return self._done

    async def read(self) -> bytes:
        """Return the next chunk of the body, `b""` at its end.

        Raises:
            APIConnectionError: The connection broke first.
        """
        if self._done:
            return b""
        try:
            while not (chunk := await _before_deadline(self._request, anext(self._chunks))):
                pass
        except StopAsyncIteration:
            await self._end(complete=True)
            return b""
        except BaseException as error:
            await self.aclose()
            if not is_library_failure(error):
                raise
            failure = connection_error(error, self._request)
        else:
            return chunk
        raise failure

    async def drain(self) -> None:
        """Read the few bytes after a stream's end mark, so that the connection can be kept.

        If the server keeps the body open, the connection is closed instead.
        """
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self.read():
                    pass
        except (APIConnectionError, TimeoutError):
            return
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Abandon the body; its connection is closed unless the body was read completely."""
        await self._end(complete=False)

    async def _end(self, *, complete: bool) -> None:
        if self._done:
            return
        self._done = True
        try:
            await self._received.aclose()
        finally:
            await self._release(complete)


async def _send(request: Request, connection: _Connection) -> Any:
    """Return the response, its body unread."""
    extensions = {"timeout": request.timeout.phases()}
    transport, content = connection.transport, _content(request)
    if isinstance(transport, AsyncDirectConnection):
        return await transport.send(request, content, extensions)
    return await transport.handle_async_request(
        httpx.Request(
            request.method,
            parsed_url(request.url),
            headers=wire_headers(request),
            content=content,
            extensions=extensions,
        )
    )


def _content(request: Request) -> bytes | AsyncIterator[bytes] | None:
    """Return the body as httpx takes it, read from its beginning."""
    body = request.body
    return body if body is None or isinstance(body, bytes) else read_in_threads(body)


def _chunks(received: httpx.Response) -> AsyncIterator[bytes]:
    """Return the chunks of the body, decompressed if need be."""
    stream = received.stream
    if "content-encoding" in received.headers or not isinstance(stream, httpx.AsyncByteStream):
        return received.aiter_bytes()
    return aiter(stream)
