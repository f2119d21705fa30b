"""Flows: operations written as generators that do no I/O themselves.

A flow yields effects and is sent their outcomes; what an effect raises is thrown into
the flow. It returns the operation's value. The same flow runs in a blocking driver and
in an asyncio driver, and flows compose with `yield from`. Tests can drive a flow by
hand, without a transport.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from .request import Request
    from .response import Response

__all__ = [
    "Call",
    "Close",
    "CloseGroup",
    "Effect",
    "Emit",
    "Emitting",
    "Flow",
    "FlowAbandoned",
    "FlowResult",
    "NextResult",
    "OpenGroup",
    "OpenStream",
    "PollPause",
    "Read",
    "Send",
    "SharedWait",
    "Sleep",
    "Start",
    "ending_by",
    "gather",
    "shorten_traceback",
]

_POLL_PAUSE_GROWTH = 1.5

T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=Exception)


class Send(NamedTuple):
    """Perform one HTTP exchange; the outcome is a `Response`, or a connection error is raised.

    The body of the response has been read, unless the request is for a stream and
    the status is 2xx.
    """

    request: Request


class Sleep(NamedTuple):
    """Pause for `seconds`."""

    seconds: float


class PollPause:
    """The pauses between polls: short ones at first, each half as long again, up to an interval.

    What ends at once is noticed at once, for five requests more to what takes hours.

    Args:
        first: Seconds of the first pause.
    """

    def __init__(self, first: float = 0.2) -> None:
        self._seconds = first

    def next(self, interval: float) -> float:
        """Return the seconds to pause now, `interval` at most."""
        pause = min(self._seconds, interval)
        self._seconds *= _POLL_PAUSE_GROWTH
        return pause


class Call(NamedTuple):
    """Call a function of the user; in the asyncio driver it may return an awaitable."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


class Emit(NamedTuple, Generic[T]):
    """Yield one item to the caller that iterates over this flow."""

    item: T


class Read(NamedTuple):
    """Read the next bytes of a streamed response; the outcome is `b""` at the end."""

    response: Response


class Close(NamedTuple):
    """Close a streamed response and free its connection."""

    response: Response


class OpenStream(NamedTuple):
    """Turn a streamed response into the driver's stream class, with items of type `model`."""

    response: Response
    model: Any
    require_end: bool = True


class OpenGroup(NamedTuple):
    """Open a group in which up to `limit` flows run concurrently; the outcome is the group."""

    limit: int


class Start(NamedTuple):
    """Start a flow in a group; its `FlowResult` has the same tag."""

    group: Any
    tag: Any
    flow: Flow[Any]


class NextResult(NamedTuple):
    """Wait until a flow of the group has ended; the outcome is its `FlowResult`."""

    group: Any


class CloseGroup(NamedTuple):
    """Cancel the flows that still run in a group, and wait until they have stopped."""

    group: Any


class FlowResult(NamedTuple):
    """How one flow of a group ended.

    Attributes:
        tag: The tag that it was started with.
        value: What it returned, None if it failed.
        error: What it raised, None if it succeeded.
        elapsed: Seconds from start to end.
    """

    tag: Any
    value: Any
    error: BaseException | None
    elapsed: float


class SharedWait(NamedTuple):
    """Wait until something has ended, by polling on behalf of all waiters with the same key.

    The outcome is the value that `poll` returned for `name`, or None after `timeout` seconds.

    Attributes:
        key: Identifies the waiters that share their polls.
        name: What is waited for.
        poll: Takes the names that are waited for and returns the values of those that have ended.
            Run every `interval` seconds, at first sooner, by one waiter for all.
        interval: Seconds between two polls at most.
        timeout: Seconds to wait at most, None for no limit.
    """

    key: str
    name: str
    poll: Callable[[frozenset[str]], Flow[dict[str, Any]]]
    interval: float
    timeout: float | None


Effect = (
    Send
    | Sleep
    | Call
    | Read
    | Close
    | OpenStream
    | OpenGroup
    | Start
    | NextResult
    | CloseGroup
    | SharedWait
)
Flow = Generator[Effect, Any, T]
Emitting = Generator[Effect | Emit[T], Any, None]
"""A flow that is iterated: it emits items of type T between its effects."""


def gather(flows: Iterable[Flow[T]], limit: int) -> Flow[list[T]]:
    """Run flows concurrently, at most `limit` at a time, and return their values in order.

    The first failure stops the others and is raised.
    """
    group = yield OpenGroup(limit)
    values: dict[int, T] = {}
    remaining = enumerate(flows)
    running = 0
    try:
        while True:
            for index, flow in itertools.islice(remaining, limit - running):
                yield Start(group, index, flow)
                running += 1
            if running == 0:
                return [values[index] for index in range(len(values))]
            result: FlowResult = yield NextResult(group)
            running -= 1
            if result.error is not None:
                raise result.error
            values[result.tag] = result.value
    finally:
        yield CloseGroup(group)


def ending_by(flow: Flow[T], deadline: float) -> Flow[T]:
    """Run a flow whose requests, retries included, end by `deadline`: a `time.monotonic()` value.

    A request that has not ended by then raises a DeadlineExceededError.
    """
    resume: Callable[[Any], Effect] = flow.send
    outcome: Any = None
    while True:
        try:
            effect = resume(outcome)
        except StopIteration as stop:
            value: T = stop.value
            return value
        if isinstance(effect, Send):
            effect.request.end_by(deadline)
        try:
            resume, outcome = flow.send, (yield effect)
        except BaseException as error:  # noqa: BLE001 - passed on to the flow, which decides
            resume, outcome = flow.throw, error


def shorten_traceback(error: ErrorT) -> ErrorT:
    """Return `error` without the frames of flows and transports, which mean nothing to users.

    Drivers call this before they raise a failure to the caller. An error that passed through
    code outside this package, such as a hook, keeps its whole traceback.
    """
    package = __name__.partition(".")[0]
    trace = error.__traceback__
    while trace is not None:
        module: str = trace.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] != package:
            return error
        trace = trace.tb_next
    return error.with_traceback(None)


class FlowAbandoned(BaseException):
    """Raised inside a flow that nobody iterates any more, so that it closes what it has opened.

    Not `GeneratorExit`: Python would close flows that the flow delegates to, and those may not
    yield the effects that closing needs.
    """
