"""HTTP for asyncio on httpx: the same free list of one-connection transports.

Connections belong to the event loop that opened them, so each loop has a pool of its
own; a client may be used from several loops, one after the other or in several threads.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx

from tunesmith.core.request import deadline_exceeded
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
from .loop_local import LoopLocal, enter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tunesmith.core.request import Body, Request

    from .local import UserOwned

__all__ = ["AsyncHttpxTransport", "AsyncUserClientTransport"]


class _Slot:
    """One connection."""

    __slots__ = ("http", "origin")

    def __init__(self, origin: str, http: httpx.AsyncHTTPTransport) -> None:
        self.origin = origin
        self.http = http


class _Pool:
    """The connections of one event loop: free ones by their server, and places for all."""

    def __init__(self, limit: int) -> None:
        self.places = asyncio.Semaphore(limit)
        self._free: FreeList[_Slot] = FreeList()

    def slot(self, url: str) -> _Slot:
        """Return a connection for an address, the most recently used one first."""
        free = self._free.take(url)
        return free or _Slot(origin_of(url), httpx.AsyncHTTPTransport(**transport_settings(url)))

    def give_back(self, slot: _Slot) -> None:
        """Keep a connection whose answer has been read."""
        self._free.keep(slot)
        self.places.release()

    async def discard(self, slot: _Slot) -> None:
        """Close a connection in whatever state it is."""
        self.places.release()
        await slot.http.aclose()

    async def close(self) -> None:
        """Close the free connections."""
        for slot in self._free.empty():
            await slot.http.aclose()


class AsyncHttpxTransport:
    """Sends requests over its own connections."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._pools = LoopLocal(lambda: _Pool(max_connections))

    async def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        if request.deadline is None:
            return await self._send(request)
        try:
            async with asyncio.timeout(request.deadline - time.monotonic()):
                return await self._send(request)
        except TimeoutError:
            raise deadline_exceeded(request) from None

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; others are closed with their loop."""
        await self._pools.get().close()

    async def _send(self, request: Request) -> Response:
        pool = self._pools.get()
        slot = await self._take(pool, request)
        try:
            return await _exchange(pool, slot, request)
        except BaseException as error:
            await pool.discard(slot)
            if is_transport_error(error):
                raise_error(error, request)
            raise

    async def _take(self, pool: _Pool, request: Request) -> _Slot:
        if not await enter(pool.places, request.timeout.pool):
            raise pool_timeout(request, self._max_connections)
        try:
            return pool.slot(request.url)
        except BaseException:
            pool.places.release()
            raise


async def _exchange(pool: _Pool, slot: _Slot, request: Request) -> Response:
    started = time.perf_counter()
    answer = await slot.http.handle_async_request(
        httpx.Request(
            request.method,
            parsed_url(request.url),
            headers=wire_headers(request),
            content=_content(request),
            extensions={"timeout": request.timeout.phases()},
        )
    )
    elapsed = time.perf_counter() - started
    status = answer.status_code
    if request.stream and 200 <= status < 300:  # noqa: PLR2004 - success

        async def free(whole: bool) -> None:  # noqa: FBT001 - called in one place
            if whole:
                pool.give_back(slot)
            else:
                await pool.discard(slot)

        stream = AsyncBodyStream(answer, request, free)
        return Response(
            status, answer.headers.raw, None, request.info, stream=stream, elapsed=elapsed
        )
    try:
        body = b"".join([chunk async for chunk in chunks_of(answer)])
    finally:
        await answer.aclose()
    pool.give_back(slot)
    return Response(status, answer.headers.raw, body, request.info, elapsed=elapsed)


class AsyncUserClientTransport:
    """Sends requests through an httpx.AsyncClient, most often one that the user made and owns."""

    def __init__(self, clients: LoopLocal[Any] | UserOwned[Any]) -> None:
        self._clients = clients

    async def send(self, request: Request) -> Response:
        """Perform one exchange.

        Raises:
            APIConnectionError: No whole answer arrived.
        """
        if request.deadline is None:
            return await self._send(request)
        try:
            async with asyncio.timeout(request.deadline - time.monotonic()):
                return await self._send(request)
        except TimeoutError:
            raise deadline_exceeded(request) from None

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
            answer = await client.send(message, stream=True, follow_redirects=False)
            elapsed = time.perf_counter() - started
            if request.stream and answer.is_success:
                stream = AsyncBodyStream(answer, request, _nothing_to_free)
                return Response(
                    answer.status_code,
                    answer.headers.raw,
                    None,
                    request.info,
                    stream=stream,
                    elapsed=elapsed,
                )
            try:
                body = await answer.aread()
            finally:
                await answer.aclose()
        except Exception as error:
            if is_transport_error(error):
                raise_error(error, request)
            raise
        return Response(answer.status_code, answer.headers.raw, body, request.info, elapsed=elapsed)


async def _nothing_to_free(whole: bool) -> None:  # noqa: FBT001 - the signature of a callback
    del whole


class AsyncBodyStream:
    """The unread body of one answer. Its connection is freed exactly once, on every path."""

    __slots__ = ("_answer", "_chunks", "_done", "_free", "_request")

    def __init__(
        self, answer: httpx.Response, request: Request, free: Callable[[bool], Awaitable[None]]
    ) -> None:
        self._answer = answer
        self._request = request
        self._free = free
        self._chunks = chunks_of(answer)
        self._done = False

    async def read(self) -> bytes:
        """Return the next piece of the body, `b""` at its end.

        Raises:
            APIConnectionError: The connection broke first.
        """
        if self._done:
            return b""
        deadline = self._request.deadline
        try:
            if deadline is None:
                return await anext(self._chunks)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await anext(self._chunks)
            except TimeoutError:
                raise deadline_exceeded(self._request) from None
        except StopAsyncIteration:
            await self._end(whole=True)
            return b""
        except BaseException as error:
            await self.aclose()
            if is_transport_error(error):
                raise_error(error, self._request)
            raise

    async def drain(self) -> None:
        """Read what little follows a stream's end mark, so that the connection can be kept.

        A server that keeps the body open is not waited for.
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
        """Give the body up; its connection is closed unless it was read to its end."""
        await self._end(whole=False)

    async def _end(self, *, whole: bool) -> None:
        if self._done:
            return
        self._done = True
        try:
            await self._answer.aclose()
        finally:
            await self._free(whole)


def _content(request: Request) -> bytes | AsyncIterator[bytes] | None:
    content = wire_content(request)
    return content if content is None or isinstance(content, bytes) else _pieces(request.body)


async def _pieces(body: bytes | Body | None) -> AsyncIterator[bytes]:
    """Read a body in worker threads, so that a slow disk does not hold up the event loop."""
    if body is None or isinstance(body, bytes):
        return
    chunks = body.chunks()
    while True:
        chunk = await asyncio.to_thread(next, chunks, None)
        if chunk is None:
            return
        yield chunk


def chunks_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Return the body's pieces, content encodings undone where there are any."""
    if "content-encoding" in answer.headers or not isinstance(answer.stream, httpx.AsyncByteStream):
        return answer.aiter_bytes()
    return aiter(answer.stream)
