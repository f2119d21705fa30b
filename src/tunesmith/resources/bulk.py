"""What completions and chat completions share: one answer, a stream, or many requests at once.

One flow decides which requests to start, which results to yield and when to slow down; it runs
in threads on a blocking client and in tasks on an asyncio one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, Generic, TypeVar

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
from tunesmith.core.lenient import read_json
from tunesmith.core.modes import ModeT_co
from tunesmith.core.signatures import keywords_of, unknown_keyword
from tunesmith.errors import APIStatusError, TunesmithError
from tunesmith.types.base import WireModel

from .base import APIResource
from .journal import Journal

__all__ = ["CompletionResource", "MapResult"]

ModelT = TypeVar("ModelT", bound=WireModel)

# 529 is what some gateways send for an overloaded server.
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, 529})
_BUSY_ROUNDS = 8
_BUSY_PAUSE = 0.25
# Finished results that may wait for an earlier one, per request in flight.
_LOOKAHEAD = 8


@dataclass(frozen=True, slots=True)
class MapResult(Generic[ModelT]):
    """The outcome of one request.

    Attributes:
        index: Its position among the requests, from 0.
        request: Its parameters, the common ones included.
        response: The answer, None when it failed.
        error: Why it failed, None when it did not.
        elapsed: Seconds from its start to its end, retries included; None for an answer that the
            journal had.
    """

    index: int
    request: Mapping[str, Any]
    response: ModelT | None
    error: Exception | None
    elapsed: float | None = None

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
    """The progress of a run."""

    requests: Iterator[tuple[int, Mapping[str, Any]]]
    allowance: AdaptiveConcurrency
    again: deque[tuple[int, Mapping[str, Any], int]] = field(default_factory=deque)
    running: dict[int, tuple[Mapping[str, Any], int]] = field(default_factory=dict)
    ready: dict[int, MapResult[ModelT]] = field(default_factory=dict)
    emitted: int = 0
    failed: int = 0
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
    request_one: Callable[[Mapping[str, Any]], Flow[ModelT]],
    model: type[ModelT],
    requests: Iterable[Mapping[str, Any]],
    *,
    concurrency: int,
    ordered: bool,
    journal: str | os.PathLike[str] | None,
    on_progress: Callable[[int, int], object] | None,
) -> Emitting[MapResult[ModelT]]:
    """Send `requests` concurrently and emit a result for each.

    Requests are read from their iterable as they are needed. When the server is overloaded,
    refused requests are repeated later, fewer at a time; other failures become the result's error.
    """
    if concurrency < 1:
        raise TunesmithError(f"concurrency must be 1 or more, not {concurrency}.")
    state: _State[ModelT] = _State(iter(enumerate(requests)), AdaptiveConcurrency(concurrency))
    book = Journal(journal) if journal is not None else None
    group = yield OpenGroup(concurrency)
    try:
        while True:
            if not ordered:
                # Before others start: who writes results down loses none but those in flight.
                yield from _emit_results(state, on_progress, ordered=False)
            yield from _start_requests(
                state, group, request_one, model, book=book, window=concurrency * _LOOKAHEAD
            )
            yield from _emit_results(state, on_progress, ordered=ordered)
            if state.running:
                ended: FlowResult = yield NextResult(group)
                yield from _record_result(state, ended, book)
            elif state.exhausted and not state.again and not state.ready:
                return
    finally:
        yield CloseGroup(group)
        if book is not None:
            book.close()


def _start_requests(
    state: _State[ModelT],
    group: Any,
    request_one: Callable[[Mapping[str, Any]], Flow[ModelT]],
    model: type[ModelT],
    *,
    book: Journal | None,
    window: int,
) -> Flow[None]:
    """Start as many as are allowed; requests that the journal knows are ready at once."""
    while len(state.running) < state.allowance.allowed:
        upcoming = state.next_request(window)
        if upcoming is None:
            return
        index, request, rounds = upcoming
        saved = book.get(index, request) if book is not None else None
        if saved is not None:
            answer = read_json(model, saved.encode())
            state.ready[index] = MapResult(index, request, answer, None)
            continue
        state.running[index] = (request, rounds)
        yield Start(group, index, request_one(request))


def _record_result(state: _State[ModelT], ended: FlowResult, book: Journal | None) -> Flow[None]:
    """Record the result of one request, or repeat it later."""
    index: int = ended.tag
    request, rounds = state.running.pop(index)
    error = ended.error
    if error is None:
        state.allowance.record_success(ended.elapsed)
        state.ready[index] = MapResult(index, request, ended.value, None, ended.elapsed)
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
    state.ready[index] = MapResult(index, request, None, error, ended.elapsed)


def _emit_results(
    state: _State[ModelT], on_progress: Callable[[int, int], object] | None, *, ordered: bool
) -> Emitting[MapResult[ModelT]]:
    for result in _next_results(state, ordered=ordered):
        state.failed += not result.ok
        yield Emit(result)
        if on_progress is not None:
            yield Call(on_progress, (state.emitted, state.failed))


def _next_results(state: _State[ModelT], *, ordered: bool) -> Iterator[MapResult[ModelT]]:
    """Yield the results that are due now and remove them from the state."""
    while state.ready:
        index = state.emitted if ordered else next(iter(state.ready))
        if index not in state.ready:
            return
        state.emitted += 1
        yield state.ready.pop(index)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, APIStatusError) and error.status_code in _BUSY


set_public_module(globals())


class CompletionResource(APIResource[ModeT_co]):
    """Requests answers of a model at one path."""

    _path: ClassVar[str]
    # The parameter that holds a request of `map` that is not a mapping.
    _input: ClassVar[str]
    # The types of an answer, whole and streamed.
    _answer: ClassVar[type[WireModel]]
    _piece: ClassVar[type[WireModel]]

    def _create(self, fields: Mapping[str, Any], *, stream: Any) -> Flow[Any]:
        if stream:
            return self._open_stream("POST", self._path, self._piece, {**fields, "stream": True})
        if stream is False:
            fields = {**fields, "stream": False}
        return self._request("POST", self._path, self._answer, fields)

    def _map(
        self,
        requests: Iterable[Any],
        common: Mapping[str, Any],
        *,
        concurrency: int,
        ordered: bool,
        journal: str | os.PathLike[str] | None,
        on_progress: Callable[[int, int], object] | None,
    ) -> Emitting[MapResult[Any]]:
        """Send many requests, each with the common parameters and its own, which override them."""
        create: Any = getattr(type(self), "create")  # noqa: B009 - subclasses declare it
        known = keywords_of(create.flow)

        def parameters(one: Any) -> Mapping[str, Any]:
            own = one if isinstance(one, Mapping) else {self._input: one}
            if not own.keys() <= known:
                raise unknown_keyword(self, "create", own, known)
            return {**common, **own}

        return map_requests(
            lambda request: self._create(request, stream=None),
            self._answer,
            map(parameters, requests),
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )
