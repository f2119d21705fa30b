"""The blocking driver: it runs flows and performs their effects in the calling thread."""

from __future__ import annotations

import time
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

from .streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tunesmith.core.request import Request
    from tunesmith.core.response import Response

    from .threads import ThreadGroup

__all__ = ["SyncDriver", "Transport"]

T = TypeVar("T")


class Transport(Protocol):
    """Sends requests and blocks until their responses have arrived."""

    def send(self, request: Request) -> Response:
        """Send a request and return its response, or raise an APIConnectionError."""
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


class SyncDriver:
    """Runs flows by blocking the calling thread. Threads may share one driver."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._shared_waits: Any = None
        self._performers: dict[type[Any], Callable[[Any], Any]] = {
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

    def run(self, flow: Generator[Any, Any, T], outcome: Any = None) -> T:
        """Run `flow` to its end and return its value.

        Args:
            flow: A flow, not started or suspended at an effect.
            outcome: The outcome of that effect.
        """
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
        except TunesmithError as error:
            failure = error
        outcome = None  # It may be a key; this frame stays in the traceback.
        raise shorten_traceback(failure)

    def iterate(self, flow: Emitting[T]) -> Iterator[T]:
        """Run `flow` while it is iterated, and yield the items that it emits."""
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
        except TunesmithError as error:
            failure = error
        finally:
            self._abandon(flow)
        raise shorten_traceback(failure)

    def _abandon(self, flow: Emitting[Any]) -> None:
        """Run the last effects of an abandoned flow: closing what it opened."""
        try:
            effect = flow.throw(FlowAbandoned())
            while True:
                effect = flow.send(self.perform(effect))
        except (StopIteration, FlowAbandoned):
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

    def _open_group(self, effect: OpenGroup) -> ThreadGroup:
        from .threads import ThreadGroup

        return ThreadGroup(self.run, effect.limit)

    def _start(self, effect: Start) -> None:
        effect.group.start(effect.tag, effect.flow)

    def _next_result(self, effect: NextResult) -> Any:
        return effect.group.next_result()

    def _close_group(self, effect: CloseGroup) -> None:
        effect.group.close()

    def _shared_wait(self, effect: SharedWait) -> Any:
        if self._shared_waits is None:
            from .threads import SharedThreadWaits

            # If two threads arrive here at once, one wins: setdefault is atomic.
            self._shared_waits = self.__dict__.setdefault(
                "_thread_waits", SharedThreadWaits(self.run)
            )
        return self._shared_waits.wait(effect)
