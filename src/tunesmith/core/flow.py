"""Flows: operations described as generators that do no I/O themselves.

A flow yields effects and is sent their outcomes; what an effect raises is thrown
into the flow. It returns the operation's value. The same flow is performed by a
blocking driver and by an asyncio driver, and flows compose with `yield from`.
Tests feed a flow by hand and need no transport at all.
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
    "FlowResult",
    "NextResult",
    "OpenGroup",
    "OpenStream",
    "Read",
    "Send",
    "SharedWait",
    "Sleep",
    "Start",
    "gather",
]

T = TypeVar("T")


class Send(NamedTuple):
    """Perform one HTTP exchange; the outcome is a `Response`, or a connection error is raised.

    The body of the response has been read, unless the request asks for a stream and
    the status is 2xx.
    """

    request: Request


class Sleep(NamedTuple):
    """Pause for `seconds`."""

    seconds: float


class Call(NamedTuple):
    """Call the user's function; in the asyncio driver it may return an awaitable."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


class Emit(NamedTuple, Generic[T]):
    """Hand one item to whoever iterates over this flow."""

    item: T


class Read(NamedTuple):
    """Read the next bytes of a streamed response; the outcome is `b""` at its end."""

    response: Response


class Close(NamedTuple):
    """Give up a streamed response and free its connection."""

    response: Response


class OpenStream(NamedTuple):
    """Turn a streamed response into the driver's kind of stream of `model` objects."""

    response: Response
    model: Any
    require_end: bool = True


class OpenGroup(NamedTuple):
    """Make a group in which up to `limit` flows run side by side; the outcome is the group."""

    limit: int


class Start(NamedTuple):
    """Begin a flow in a group, under a tag to know it again by."""

    group: Any
    tag: Any
    flow: Flow[Any]


class NextResult(NamedTuple):
    """Wait until a flow of the group has ended; the outcome is a `FlowResult`."""

    group: Any


class CloseGroup(NamedTuple):
    """Give up what still runs in a group, and wait until it has stopped."""

    group: Any


class FlowResult(NamedTuple):
    """How a flow of a group ended.

    Attributes:
        value: What it returned, None when it failed.
        error: What it raised, None when it did not.
        elapsed: Seconds it took.
    """

    tag: Any
    value: Any
    error: BaseException | None
    elapsed: float


class SharedWait(NamedTuple):
    """Wait until something has ended, sharing the looks with all who wait on the same list.

    `look` takes the names that are waited for and returns those that have ended. It is run every
    `poll` seconds by one of the waiters for all of them. The outcome is the value for `name`, or
    None when `seconds` have passed first.
    """

    key: str
    name: str
    look: Callable[[frozenset[str]], Flow[dict[str, Any]]]
    poll: float
    seconds: float | None


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
    """Run flows side by side, at most `limit` at a time, and return their values in order.

    The first failure stops the others and is raised.
    """
    group = yield OpenGroup(limit)
    values: dict[int, T] = {}
    waiting = enumerate(flows)
    running = 0
    try:
        while True:
            for index, flow in itertools.islice(waiting, limit - running):
                yield Start(group, index, flow)
                running += 1
            if running == 0:
                return [values[index] for index in range(len(values))]
            ended: FlowResult = yield NextResult(group)
            running -= 1
            if ended.error is not None:
                raise ended.error
            values[ended.tag] = ended.value
    finally:
        yield CloseGroup(group)
