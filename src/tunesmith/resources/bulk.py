"""Many requests at once: how a fine-tuned model is asked about 100,000 prompts.

One flow decides what to start, what to hand out and when to slow down; it runs in threads
on a blocking client and in tasks on an asyncio one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tunesmith._lazy import set_public_module
from tunesmith.core.adaptive_concurrency import AdaptiveConcurrency
from tunesmith.core.flow import (
    Call,
    CloseGroup,
    Emit,
    Emitting,
    Flow,
    FlowResult,
    NextResult,
    OpenGroup,
    Sleep,
    Start,
)
from tunesmith.errors import APIStatusError, TunesmithError
from tunesmith.types.base import WireModel

from .journal import Journal

__all__ = ["MapResult", "map_requests"]

ModelT = TypeVar("ModelT", bound=WireModel)

_BUSY = frozenset({429, 503, 529})
_BUSY_ROUNDS = 8
_BUSY_PAUSE = 0.25
# Finished answers that may wait for an earlier one, for each place in flight.
_LOOKAHEAD = 8


@dataclass(frozen=True, slots=True)
class MapResult(Generic[ModelT]):
    """What became of one request.

    Attributes:
        index: Its place among the requests, from 0.
        request: What was asked, the common parameters included.
        response: The answer, None when it failed.
        error: Why it failed, None when it did not.
    """

    index: int
    request: Mapping[str, Any]
    response: ModelT | None
    error: Exception | None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def unwrap(self) -> ModelT:
        """Return the answer, or raise the error."""
        if self.response is None:
            raise self.error or TunesmithError("This request has no answer.")
        return self.response


@dataclass
class _State(Generic[ModelT]):
    """Where a run stands."""

    requests: Iterator[tuple[int, Mapping[str, Any]]]
    allowance: AdaptiveConcurrency
    again: deque[tuple[int, Mapping[str, Any], int]] = field(default_factory=deque)
    running: dict[int, tuple[Mapping[str, Any], int]] = field(default_factory=dict)
    ready: dict[int, MapResult[ModelT]] = field(default_factory=dict)
    emitted: int = 0
    exhausted: bool = False

    def next_request(self, window: int) -> tuple[int, Mapping[str, Any], int] | None:
        """Return the next request to start, None when there is none to start now."""
        if self.again:
            return self.again.popleft()
        if self.exhausted or len(self.ready) + len(self.running) >= window:
            return None
        try:
            index, request = next(self.requests)
        except StopIteration:
            self.exhausted = True
            return None
        return index, request, 0


def map_requests(
    ask: Callable[[Mapping[str, Any]], Flow[ModelT]],
    model: type[ModelT],
    requests: Iterable[Mapping[str, Any]],
    *,
    concurrency: int,
    ordered: bool,
    journal: str | os.PathLike[str] | None,
    on_progress: Callable[[int, int], object] | None,
) -> Emitting[MapResult[ModelT]]:
    """Carry out `requests` side by side and emit a result for each.

    Requests are taken from their iterable as they are needed. A server that is too busy is asked
    again later, with fewer requests at a time; other failures become the result's error.
    """
    if concurrency < 1:
        raise TunesmithError(f"concurrency must be 1 or more, not {concurrency}.")
    state: _State[ModelT] = _State(iter(enumerate(requests)), AdaptiveConcurrency(concurrency))
    book = Journal(journal) if journal is not None else None
    group = yield OpenGroup(concurrency)
    failed = 0
    try:
        while True:
            yield from _start_some(
                state, group, ask, model, book=book, window=concurrency * _LOOKAHEAD
            )
            for result in _deliverable(state, ordered=ordered):
                failed += not result.ok
                yield Emit(result)
                if on_progress is not None:
                    yield Call(on_progress, (state.emitted, failed))
            if state.running:
                ended: FlowResult = yield NextResult(group)
                yield from _settle(state, ended, book)
            elif state.exhausted and not state.again and not state.ready:
                return
    finally:
        yield CloseGroup(group)
        if book is not None:
            book.close()


def _start_some(
    state: _State[ModelT],
    group: Any,
    ask: Callable[[Mapping[str, Any]], Flow[ModelT]],
    model: type[ModelT],
    *,
    book: Journal | None,
    window: int,
) -> Flow[None]:
    """Start as many as are allowed; requests that the journal knows are ready at once."""
    while len(state.running) < state.allowance.allowed:
        following = state.next_request(window)
        if following is None:
            return
        index, request, rounds = following
        known = book.get(index, request) if book is not None else None
        if known is not None:
            answer = model.model_validate_json(known)
            state.ready[index] = MapResult(index, request, answer, None)
            continue
        state.running[index] = (request, rounds)
        yield Start(group, index, ask(request))


def _settle(state: _State[ModelT], ended: FlowResult, book: Journal | None) -> Flow[None]:
    """Take in how one request ended."""
    index: int = ended.tag
    request, rounds = state.running.pop(index)
    error = ended.error
    if error is None:
        state.allowance.record_success(ended.elapsed)
        state.ready[index] = MapResult(index, request, ended.value, None)
        if book is not None:
            book.put(index, request, ended.value.model_dump_json())
        return
    if not isinstance(error, TunesmithError):
        raise error
    if _is_busy(error) and rounds < _BUSY_ROUNDS:
        state.allowance.record_overload()
        state.again.append((index, request, rounds + 1))
        yield Sleep(_BUSY_PAUSE)
        return
    state.ready[index] = MapResult(index, request, None, error)


def _deliverable(state: _State[ModelT], *, ordered: bool) -> Iterator[MapResult[ModelT]]:
    """Yield the results that may be handed out now, dropping them from the state."""
    while state.ready:
        index = state.emitted if ordered else next(iter(state.ready))
        if index not in state.ready:
            return
        state.emitted += 1
        yield state.ready.pop(index)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, APIStatusError) and error.status_code in _BUSY


set_public_module(globals())
