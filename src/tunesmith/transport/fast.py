"""The fast transport, on pyreqwest (the extra `fast`), an HTTP client written in Rust.

A request costs about a tenth of what it costs on httpx. pyreqwest opens connections, speaks
TLS and keeps the pool; effects, errors, retries and decoding are the same as on httpx. In a
child forked from a process that has used pyreqwest, requests are sent with a fallback.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from pyreqwest.client import ClientBuilder, SyncClientBuilder

from tunesmith import errors

from .async_pool import LoopLocal, acquire, read_in_threads
from .connection_errors import pool_timeout
from .pool import DRAIN_SECONDS, MAX_CONNECTIONS, Permits
from .pyreqwest_clients import Clients, used_by_parent
from .pyreqwest_exchange import Exchange

if TYPE_CHECKING:
    from tunesmith.core.request import Request
    from tunesmith.core.response import Response

    from .async_driver import AsyncTransport
    from .pool import ProcessLocal
    from .pyreqwest_exchange import Steps
    from .sync_driver import Transport

__all__ = ["AsyncFastTransport", "FastTransport"]

T = TypeVar("T")


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
        self._clients = Clients(SyncClientBuilder, http2=http2)
        self._permits = Permits(max_connections)

    def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIConnectionError: No complete response arrived.
        """
        if used_by_parent():
            return self._fallback.get().send(request)
        permits, body = self._permits, request.body
        if not permits.acquire(request.limits().pool):
            raise pool_timeout(request, self._limit)
        exchange = Exchange(request, "__enter__", "__exit__", permits.release)
        chunks = None if body is None or isinstance(body, bytes) else body.chunks()
        return _perform(exchange.send(self._clients, chunks, _BodyStream))

    def close(self) -> None:
        """Close the connections."""
        if used_by_parent():
            self._fallback.get().close()
            return
        for client in self._clients.clear():
            client.close()


class _BodyStream:
    """The unread body of one response."""

    _draining = threading.Lock()

    def __init__(self, exchange: Exchange) -> None:
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
        if used_by_parent():
            return await self._fallback.get().send(request)
        pool = self._pools.get()
        if not await acquire(pool.permits, request.limits().pool):
            raise pool_timeout(request, self._limit)
        exchange = Exchange(request, "__aenter__", "__aexit__", pool.permits.release)
        body = request.body
        chunks = None if body is None or isinstance(body, bytes) else read_in_threads(body)
        return await _perform_async(exchange.send(pool.clients, chunks, _AsyncBodyStream))

    async def aclose(self) -> None:
        """Close the connections."""
        if used_by_parent():
            await self._fallback.get().aclose()
            return
        await self._pools.get().close()


class _AsyncPool:
    """The clients of one event loop, and a permit for each request."""

    def __init__(self, limit: int, *, http2: bool) -> None:
        self.clients = Clients(ClientBuilder, http2=http2)
        self.permits = asyncio.Semaphore(limit)

    async def close(self) -> None:
        """Close the connections."""
        for client in self.clients.clear():
            await client.close()


class _AsyncBodyStream:
    """The unread body of one response."""

    def __init__(self, exchange: Exchange) -> None:
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
