"""The asyncio driver: it runs flows and performs their effects on the running event loop."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tunesmith.core.flow import (
    Call,
    Close,
    CloseGroup,
    Effect,
    Emit,
    Emitting,
    FlowAbandoned,
    NextResult,
    OpenGroup,
    OpenStream,
    Read,
    Send,
    SharedWait,
    Sleep,
    Start,
    shorten_traceback,
)
from tunesmith.errors import TunesmithError

from .streams import AsyncStream
from .tasks import SharedTaskWaits, TaskGroup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from tunesmith.core.request import Request
    from tunesmith.core.response import Response

__all__ = ["AsyncDriver", "AsyncTransport"]

T = TypeVar("T")


class AsyncTransport(Protocol):
    """Sends requests on asyncio's event loop."""

    async def send(self, request: Request) -> Response:
        """Send a request and return its response, or raise an APIConnectionError."""
        ...

    async def aclose(self) -> None:
        """Close idle connections."""
        ...


class AsyncDriver:
    """Runs flows on the running event loop."""

    def __init__(self, transport: AsyncTransport) -> None:
        self.transport = transport
        self._shared_waits = SharedTaskWaits(self.run)
        self._performers: dict[type[Any], Callable[[Any], Awaitable[Any]]] = {
            Send: self._send,
            Sleep: self._sleep,
            Call: self._call,
            Read: self._read,
            Close: self._close,
            OpenStream: self._open,
            OpenGroup: self._open_group,
            Start: self._start,
            NextResult: self._next_result,
            CloseGroup: self._close_group,
            SharedWait: self._shared_wait,
        }

    async def run(self, flow: Generator[Any, Any, T], outcome: Any = None) -> T:
        """Run `flow` to its end and return its value.

        Args:
            flow: A flow, not started or suspended at an effect.
            outcome: The outcome of that effect.
        """
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
        except TunesmithError as error:
            failure = error
        outcome = None  # It may be a key; this frame stays in the traceback.
        raise shorten_traceback(failure)

    async def iterate(self, flow: Emitting[T]) -> AsyncIterator[T]:
        """Run `flow` while it is iterated, and yield the items that it emits."""
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
        except TunesmithError as error:
            failure = error
        finally:
            await self._abandon(flow)
        raise shorten_traceback(failure)

    async def _abandon(self, flow: Emitting[Any]) -> None:
        """Run the last effects of an abandoned flow: closing what it opened."""
        try:
            effect = flow.throw(FlowAbandoned())
            while True:
                effect = flow.send(await self.perform(effect))
        except (StopIteration, FlowAbandoned):
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

    async def _open_group(self, effect: OpenGroup) -> TaskGroup:
        del effect  # the number of tasks is not limited; the flow limits what it starts
        return TaskGroup(self.run)

    async def _start(self, effect: Start) -> None:
        effect.group.start(effect.tag, effect.flow)

    async def _next_result(self, effect: NextResult) -> Any:
        return await effect.group.next_result()

    async def _close_group(self, effect: CloseGroup) -> None:
        await effect.group.close()

    async def _shared_wait(self, effect: SharedWait) -> Any:
        return await self._shared_waits.wait(effect)
