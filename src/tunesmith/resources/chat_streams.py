"""Streamed chat completions as events, sync and async.

with client.chat.completions.stream(model=…, messages=…) as stream:
for event in stream:
if event.type == "content.delta":
print(event.delta, end="")
completion = stream.get_final_completion()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from tunesmith.core.response import Response
    from tunesmith.transport.streams import AsyncStream, Stream
    from tunesmith.types.chat import ChatCompletionChunk
    from tunesmith.types.chat_events import ChatCompletionStreamEvent, ParsedChatCompletion

__all__ = [
    "AsyncChatCompletionStream",
    "AsyncChatCompletionStreamManager",
    "ChatCompletionStream",
    "ChatCompletionStreamManager",
]

FormatT = TypeVar("FormatT")


class ChatCompletionStream(Generic[FormatT]):
    """Events of one streamed completion. Iterate once."""

    def __init__(self, stream: Stream[ChatCompletionChunk], accumulator: Any) -> None:
        self._stream = stream
        self._accumulator = accumulator
        self._events: Iterator[Any] = self._read()

    @property
    def response(self) -> Response:
        """The response that carries the stream."""
        return self._stream.response

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[FormatT]:
        """The completion so far."""
        snapshot: ParsedChatCompletion[FormatT] = self._accumulator.snapshot
        return snapshot

    def __iter__(self) -> Iterator[ChatCompletionStreamEvent[FormatT]]:
        return self._events

    def __next__(self) -> ChatCompletionStreamEvent[FormatT]:
        event: ChatCompletionStreamEvent[FormatT] = next(self._events)
        return event

    def until_done(self) -> Self:
        """Read the rest of the stream."""
        for _ in self._events:
            pass
        return self

    def get_final_completion(self) -> ParsedChatCompletion[FormatT]:
        """Read the rest of the stream and return the whole completion.

        Raises:
            LengthFinishReasonError: The completion was cut off, but a type was requested.
        """
        self.until_done()
        completion: ParsedChatCompletion[FormatT] = self._accumulator.final()
        completion._set_request_id(self.response.request_id)
        return completion

    def close(self) -> None:
        """Stop reading and free the connection."""
        self._stream.close()

    def _read(self) -> Iterator[Any]:
        for chunk in self._stream:
            yield from self._accumulator.add(chunk)
        yield from self._accumulator.finish()


class ChatCompletionStreamManager(Generic[FormatT]):
    """Opens the stream when the `with` block begins and closes it at its end."""

    def __init__(self, open_stream: Callable[[], Any], accumulator: Any) -> None:
        self._open = open_stream
        self._accumulator = accumulator
        self._stream: ChatCompletionStream[FormatT] | None = None

    def __enter__(self) -> ChatCompletionStream[FormatT]:
        if self._stream is not None:
            raise TunesmithError("This stream has been opened before. Request a new one.")
        self._stream = ChatCompletionStream(self._open(), self._accumulator)
        return self._stream

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.close()


class AsyncChatCompletionStream(Generic[FormatT]):
    """The async form of `ChatCompletionStream`."""

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], accumulator: Any) -> None:
        self._stream = stream
        self._accumulator = accumulator
        self._events: AsyncIterator[Any] = self._read()

    @property
    def response(self) -> Response:
        """The response that carries the stream."""
        return self._stream.response

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[FormatT]:
        """The completion so far."""
        snapshot: ParsedChatCompletion[FormatT] = self._accumulator.snapshot
        return snapshot

    def __aiter__(self) -> AsyncIterator[ChatCompletionStreamEvent[FormatT]]:
        return self._events

    async def __anext__(self) -> ChatCompletionStreamEvent[FormatT]:
        event: ChatCompletionStreamEvent[FormatT] = await anext(self._events)
        return event

    async def until_done(self) -> Self:
        """Read the rest of the stream."""
        async for _ in self._events:
            pass
        return self

    async def get_final_completion(self) -> ParsedChatCompletion[FormatT]:
        """Read the rest of the stream and return the whole completion.

        Raises:
            LengthFinishReasonError: The completion was cut off, but a type was requested.
        """
        await self.until_done()
        completion: ParsedChatCompletion[FormatT] = self._accumulator.final()
        completion._set_request_id(self.response.request_id)
        return completion

    async def close(self) -> None:
        """Stop reading and free the connection."""
        await self._stream.close()

    async def aclose(self) -> None:
        """Stop reading and free the connection; the same as `close`."""
        await self.close()

    async def _read(self) -> AsyncIterator[Any]:
        async for chunk in self._stream:
            for event in self._accumulator.add(chunk):
                yield event
        for event in self._accumulator.finish():
            yield event


class AsyncChatCompletionStreamManager(Generic[FormatT]):
    """Opens the stream when the `async with` block begins and closes it at its end."""

    def __init__(self, open_stream: Callable[[], Awaitable[Any]], accumulator: Any) -> None:
        self._open = open_stream
        self._accumulator = accumulator
        self._stream: AsyncChatCompletionStream[FormatT] | None = None

    async def __aenter__(self) -> AsyncChatCompletionStream[FormatT]:
        if self._stream is not None:
            raise TunesmithError("This stream has been opened before. Request a new one.")
        self._stream = AsyncChatCompletionStream(await self._open(), self._accumulator)
        return self._stream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            await self._stream.close()
