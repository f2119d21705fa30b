"""The two drivers: they perform the effects of a flow, blocking or on asyncio's event loop.

With the streams and the pages they are all that is written once per colour.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tunesmith.core.flow import (
    Call,
    Close,
    Effect,
    Emit,
    Emitting,
    Flow,
    Gather,
    OpenStream,
    Read,
    Send,
    Share,
    Sleep,
)

from .streams import AsyncStream, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

    from tunesmith.core.request import Request
    from tunesmith.core.response import Response

__all__ = ["AsyncDriver", "AsyncTransport", "SyncDriver", "Transport"]

T = TypeVar("T")


class Transport(Protocol):
    """What sends requests and blocks until they are answered."""

    def send(self, request: Request) -> Response:
        """Perform one exchange, or raise an APIConnectionError."""
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


class AsyncTransport(Protocol):
    """What sends requests on asyncio's event loop."""

    async def send(self, request: Request) -> Response:
        """Perform one exchange, or raise an APIConnectionError."""
        ...

    async def aclose(self) -> None:
        """Close idle connections."""
        ...


class SyncDriver:
    """Runs flows by blocking the calling thread. Threads may share one driver."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._shared = SharedValues()
        self._performers: dict[type[Any], Callable[[Any], Any]] = {
            Send: self._send,
            Sleep: self._sleep,
            Call: self._call,
            Read: self._read,
            Close: self._close,
            OpenStream: self._open,
            Gather: self._gather,
            Share: self._share,
        }

    def run(self, flow: Flow[T]) -> T:
        """Perform `flow` to its end and return its value."""
        return self.resume(flow, None)

    def resume(self, flow: Generator[Any, Any, T], outcome: Any) -> T:
        """Send a flow the outcome of its last effect and perform it to its end."""
        try:
            effect = flow.send(outcome)
            while True:
                try:
                    outcome = self.perform(effect)
                except BaseException as error:  # noqa: BLE001 - the flow decides, and sees all
                    effect = flow.throw(error)
                else:
                    effect = flow.send(outcome)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def iterate(self, flow: Emitting[T]) -> Iterator[T]:
        """Perform `flow` as it is iterated, yielding what it emits."""
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = next(flow)
                    continue
                try:
                    outcome = self.perform(effect)
                except BaseException as error:  # noqa: BLE001
                    effect = flow.throw(error)
                else:
                    effect = flow.send(outcome)
        except StopIteration:
            return
        finally:
            self._abandon(flow)

    def _abandon(self, flow: Emitting[Any]) -> None:
        """Let a flow that is given up perform its last effects: closing what it opened."""
        try:
            effect = flow.throw(GeneratorExit())
            while True:
                effect = flow.send(self.perform(effect))
        except (StopIteration, GeneratorExit):
            return

    def perform(self, effect: Effect | Emit[Any]) -> Any:
        """Perform one effect and return its outcome."""
        return self._performers[type(effect)](effect)

    def _send(self, effect: Send) -> Response:
        return self.transport.send(effect.request)

    def _sleep(self, effect: Sleep) -> None:
        time.sleep(effect.seconds)

    def _call(self, effect: Call) -> Any:
        return effect.function(*effect.arguments)

    def _read(self, effect: Read) -> Any:
        return effect.response.stream.read()

    def _close(self, effect: Close) -> None:
        effect.response.stream.close()

    def _open(self, effect: OpenStream) -> Stream[Any]:
        return Stream(effect.response, effect.model, require_end=effect.require_end)

    def _share(self, effect: Share) -> Any:
        return self._shared.get(effect, self.run)

    def _gather(self, gather: Gather) -> list[Any]:
        """Run flows in threads of their own."""
        from concurrent.futures import ThreadPoolExecutor

        failed = threading.Event()

        def one(flow: Flow[Any]) -> Any:
            if failed.is_set():
                return None
            try:
                return self.run(flow)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(max(1, gather.limit), "tunesmith-gather") as pool:
            return list(pool.map(one, gather.flows))


class SharedValues:
    """Values that one thread fetches for all that ask for the same key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[Any, ...], tuple[threading.Lock, list[Any]]] = {}

    def get(self, share: Share, run: Any) -> Any:
        """Return the value of `share`, running its flow unless it is fresh enough."""
        with self._lock:
            lock, entry = self._entries.setdefault(share.key, (threading.Lock(), []))
        asked = time.monotonic()
        with lock:
            if entry and entry[0] > asked - share.seconds:
                return entry[1]
            value = run(share.flow())
            entry[:] = [time.monotonic(), value]
            return value


class AsyncDriver:
    """Runs flows on the running event loop."""

    def __init__(self, transport: AsyncTransport) -> None:
        self.transport = transport
        self._shared: dict[tuple[Any, ...], tuple[float, asyncio.Future[Any]]] = {}
        self._performers: dict[type[Any], Callable[[Any], Awaitable[Any]]] = {
            Send: self._send,
            Sleep: self._sleep,
            Call: self._call,
            Read: self._read,
            Close: self._close,
            OpenStream: self._open,
            Gather: self._gather,
            Share: self._share,
        }

    async def run(self, flow: Flow[T]) -> T:
        """Perform `flow` to its end and return its value."""
        return await self.resume(flow, None)

    async def resume(self, flow: Generator[Any, Any, T], outcome: Any) -> T:
        """Send a flow the outcome of its last effect and perform it to its end."""
        try:
            effect = flow.send(outcome)
            while True:
                try:
                    outcome = await self.perform(effect)
                except BaseException as error:  # noqa: BLE001 - the flow decides, and sees all
                    effect = flow.throw(error)
                else:
                    effect = flow.send(outcome)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def iterate(self, flow: Emitting[T]) -> AsyncIterator[T]:
        """Perform `flow` as it is iterated, yielding what it emits."""
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = next(flow)
                    continue
                try:
                    outcome = await self.perform(effect)
                except BaseException as error:  # noqa: BLE001
                    effect = flow.throw(error)
                else:
                    effect = flow.send(outcome)
        except StopIteration:
            return
        finally:
            await self._abandon(flow)

    async def _abandon(self, flow: Emitting[Any]) -> None:
        """Let a flow that is given up perform its last effects: closing what it opened."""
        try:
            effect = flow.throw(GeneratorExit())
            while True:
                effect = flow.send(await self.perform(effect))
        except (StopIteration, GeneratorExit):
            return

    async def perform(self, effect: Effect | Emit[Any]) -> Any:
        """Perform one effect and return its outcome."""
        return await self._performers[type(effect)](effect)

    async def _send(self, effect: Send) -> Response:
        return await self.transport.send(effect.request)

    async def _sleep(self, effect: Sleep) -> None:
        await asyncio.sleep(effect.seconds)

    async def _call(self, effect: Call) -> Any:
        value = effect.function(*effect.arguments)
        return await value if inspect.isawaitable(value) else value

    async def _read(self, effect: Read) -> Any:
        return await effect.response.stream.read()

    async def _close(self, effect: Close) -> None:
        await effect.response.stream.aclose()

    async def _open(self, effect: OpenStream) -> AsyncStream[Any]:
        return AsyncStream(effect.response, effect.model, require_end=effect.require_end)

    async def _gather(self, gather: Gather) -> list[Any]:
        """Run flows in tasks of their own; a failure cancels the others."""
        places = asyncio.Semaphore(max(1, gather.limit))

        async def one(flow: Flow[Any]) -> Any:
            async with places:
                return await self.run(flow)

        tasks = [asyncio.ensure_future(one(flow)) for flow in gather.flows]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _share(self, share: Share) -> Any:
        """Return the value of `share`, asked for once by all who want it at the same time."""
        loop = asyncio.get_running_loop()
        key = (id(loop), *share.key)
        entry = self._shared.get(key)
        if entry is not None and (
            not entry[1].done() or entry[0] > time.monotonic() - share.seconds
        ):
            return await asyncio.shield(entry[1])
        # A task of its own: whoever asked first may be cancelled, the others still wait for it.
        task = asyncio.ensure_future(self.run(share.flow()))
        self._shared[key] = (time.monotonic(), task)
        return await asyncio.shield(task)
