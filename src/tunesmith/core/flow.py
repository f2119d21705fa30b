"""Flows: operations described as generators that do no I/O themselves.

A flow yields effects and is sent their outcomes; what an effect raises is thrown
into the flow. It returns the operation's value. The same flow is performed by a
blocking driver and by an asyncio driver, and flows compose with `yield from`.
Tests feed a flow by hand and need no transport at all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from .request import Request
    from .response import Response

__all__ = [
    "Call",
    "Close",
    "Effect",
    "Emit",
    "Emitting",
    "Flow",
    "Gather",
    "OpenStream",
    "Read",
    "Send",
    "Share",
    "Sleep",
]

T = TypeVar("T")


@dataclass(slots=True)
class Send:
    """Perform one HTTP exchange; the outcome is a `Response`, or a connection error is raised.

    The body of the response has been read, unless the request asks for a stream and
    the status is 2xx.
    """

    request: Request


@dataclass(slots=True)
class Sleep:
    """Pause for `seconds`."""

    seconds: float


@dataclass(slots=True)
class Call:
    """Call the user's function; in the asyncio driver it may return an awaitable."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(slots=True)
class Emit(Generic[T]):
    """Hand one item to whoever iterates over this flow."""

    item: T


@dataclass(slots=True)
class Read:
    """Read the next bytes of a streamed response; the outcome is `b""` at its end."""

    response: Response


@dataclass(slots=True)
class Close:
    """Give up a streamed response and free its connection."""

    response: Response


@dataclass(slots=True)
class OpenStream:
    """Turn a streamed response into the driver's kind of stream of `model` objects."""

    response: Response
    model: Any
    require_end: bool = True


@dataclass(slots=True)
class Gather:
    """Run flows side by side, at most `limit` at a time; the outcome is their values in order.

    The first failure stops those not yet begun and is raised when the others have ended.
    """

    flows: Sequence[Flow[Any]]
    limit: int


@dataclass(slots=True)
class Share:
    """Run a flow once for all who ask for `key` within `seconds`; the outcome is its value."""

    key: tuple[Any, ...]
    flow: Callable[[], Flow[Any]]
    seconds: float


Effect = Send | Sleep | Call | Read | Close | OpenStream | Gather | Share
Flow = Generator[Effect, Any, T]
Emitting = Generator[Effect | Emit[T], Any, None]
"""A flow that is iterated: it emits items of type T between its effects."""
