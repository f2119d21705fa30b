"""Chat completions: answers to conversations, and the stored ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Unpack, overload

from tunesmith.core.flow import Emitting, Flow
from tunesmith.core.modes import (
    Async,
    AsyncRaw,
    AsyncStreaming,
    ModeT_co,
    Sync,
    SyncRaw,
    SyncStreaming,
)
from tunesmith.core.options import NotGiven, Omit, omit
from tunesmith.types.chat import ChatCompletion, ChatCompletionChunk
from tunesmith.types.chat_events import ParsedChatCompletion

from .bulk import MapResult
from .chat_accumulator import ChatCompletionAccumulator
from .chat_options import (
    ChatCompletionHelperOptions,
    ChatCompletionMapOptions,
    ChatCompletionOptions,
    Messages,
)
from .chat_stored import StoredChatCompletions
from .formats import parse_completion, response_format_of
from .operations import helper, iteration, overloaded
from .views import RawView, StreamingView

if TYPE_CHECKING:
    from tunesmith.transport.chat_streams import (
        AsyncChatCompletionStreamManager,
        ChatCompletionStreamManager,
    )
    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )
    from tunesmith.transport.streams import AsyncStream, Stream
    from tunesmith.types.base import WireModel

__all__ = ["ChatCompletions"]

FormatT = TypeVar("FormatT")


class ChatCompletions(StoredChatCompletions[ModeT_co]):
    """`/chat/completions`: converse with a model."""

    _path: ClassVar[str] = "/chat/completions"
    _input: ClassVar[str] = "messages"
    _answer: ClassVar[type[WireModel]] = ChatCompletion
    _piece: ClassVar[type[WireModel]] = ChatCompletionChunk

    with_raw_response: RawView[ChatCompletions[SyncRaw], ChatCompletions[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        ChatCompletions[SyncStreaming], ChatCompletions[AsyncStreaming]
    ] = StreamingView()

    @overload
    def create(
        self: ChatCompletions[Sync],
        *,
        messages: Messages,
        model: str,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion: ...
    @overload
    def create(
        self: ChatCompletions[Sync],
        *,
        messages: Messages,
        model: str,
        stream: Literal[True],
        **params: Unpack[ChatCompletionOptions],
    ) -> Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self: ChatCompletions[Sync],
        *,
        messages: Messages,
        model: str,
        stream: bool,
        **params: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion | Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self: ChatCompletions[Async],
        *,
        messages: Messages,
        model: str,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, ChatCompletion]: ...
    @overload
    def create(
        self: ChatCompletions[Async],
        *,
        messages: Messages,
        model: str,
        stream: Literal[True],
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, AsyncStream[ChatCompletionChunk]]: ...
    @overload
    def create(
        self: ChatCompletions[Async],
        *,
        messages: Messages,
        model: str,
        stream: bool,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, ChatCompletion | AsyncStream[ChatCompletionChunk]]: ...
    @overload
    def create(
        self: ChatCompletions[SyncRaw],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> APIResponse[Any]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncRaw],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, APIResponse[Any]]: ...
    @overload
    def create(
        self: ChatCompletions[SyncStreaming],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> StreamedResponse[Any]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncStreaming],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> AsyncStreamedResponse[Any]: ...
    @overloaded
    def create(
        self,
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Any:
        """Answer a conversation.

        Args:
            messages: `{"role": …, "content": …}` objects, or messages of earlier answers.
            model: The model's name.
            stream: True to receive the answer in chunks as it is written.
            params: `max_tokens` or `max_completion_tokens`, `temperature` (1), `top_p` (1),
                `n` (1), `stop` (up to 4), `logprobs`, `top_logprobs` (0 to 20),
                `presence_penalty`, `frequency_penalty`, `logit_bias`, `seed`, `tools`,
                `response_format`, …, and the request options.

        Returns:
            A ChatCompletion, or a stream of ChatCompletionChunk with `stream=True`. Awaited on
            an AsyncClient.
        """
        fields = {"messages": messages, "model": model, **params}
        return self._create(fields, stream=stream)

    @overload
    def parse(
        self: ChatCompletions[Sync],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ParsedChatCompletion[FormatT]: ...
    @overload
    def parse(
        self: ChatCompletions[Async],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Coroutine[Any, Any, ParsedChatCompletion[FormatT]]: ...
    @overload
    def parse(
        self: ChatCompletions[SyncRaw],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> APIResponse[ParsedChatCompletion[FormatT]]: ...
    @overload
    def parse(
        self: ChatCompletions[AsyncRaw],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Coroutine[Any, Any, APIResponse[ParsedChatCompletion[FormatT]]]: ...
    @overloaded
    def parse(
        self,
        *,
        messages: Messages,
        model: str,
        response_format: Any = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Any:
        """Answer a conversation with a value of a given type.

        Args:
            messages: As for `create`.
            model: The model's name.
            response_format: A pydantic model or another type with a JSON schema; each message's
                `parsed` is one of them.
            params: As for `create`.

        Raises:
            LengthFinishReasonError: The answer was cut off at the token limit.
            ContentFilterFinishReasonError: The answer was stopped by a filter.
            APIResponseValidationError: The answer is not of the type.
        """
        fields = {"messages": messages, "model": model, **params}
        return self._parse(fields, response_format)

    @overload
    def stream(
        self: ChatCompletions[Sync],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT] | Mapping[str, Any] | Omit | NotGiven = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ChatCompletionStreamManager[FormatT]: ...
    @overload
    def stream(
        self: ChatCompletions[Async],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT] | Mapping[str, Any] | Omit | NotGiven = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> AsyncChatCompletionStreamManager[FormatT]: ...
    @helper
    def stream(
        self,
        *,
        messages: Messages,
        model: str,
        response_format: Any = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Any:
        """Answer a conversation in events; use it with `with` or `async with`.

        Events have a `type`: "chunk", "content.delta", "content.done", "refusal.delta", … . The
        whole answer is `stream.get_final_completion()`.

        Args:
            messages: As for `create`.
            model: The model's name.
            response_format: A type to parse the answer into, or a mapping as for `create`.
            params: As for `create`.
        """
        from tunesmith.transport.chat_streams import (
            AsyncChatCompletionStreamManager,
            ChatCompletionStreamManager,
        )

        fields = {"messages": messages, "model": model, **params}
        fields["response_format"] = response_format_of(response_format)
        manager: Any = (
            AsyncChatCompletionStreamManager
            if self._executor.is_async
            else ChatCompletionStreamManager
        )
        return manager(
            lambda: self._executor.run(self._create(fields, stream=True)),
            ChatCompletionAccumulator[Any](response_format),
        )

    @iteration
    def map(
        self,
        requests: Iterable[Sequence[Mapping[str, Any]] | Mapping[str, Any]],
        *,
        concurrency: int = 16,
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        on_progress: Callable[[int, int], object] | None = None,
        **params: Unpack[ChatCompletionMapOptions],
    ) -> Emitting[MapResult[ChatCompletion]]:
        """Carry out many requests at once and yield a result for each.

        Requests are taken as they are needed and results handed out as they come, so the number
        of requests does not matter to memory. A server that is too busy is asked with fewer
        requests at a time, and again later.

        Args:
            requests: A list of messages, or a mapping of parameters that outweigh the common ones.
            concurrency: Requests at one time at most.
            ordered: Results in the order of the requests; False gives them as they come.
            journal: A file of finished answers. A run that was broken off goes on from there.
            on_progress: Called with the results so far and the failures among them.
            params: Parameters common to all requests, `model` among them.
        """
        return self._map(
            requests,
            params,
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )

    def _parse(self, fields: Mapping[str, Any], kind: Any) -> Flow[ParsedChatCompletion[Any]]:
        completion = yield from self._create(
            {**fields, "response_format": response_format_of(kind)}, stream=None
        )
        return parse_completion(completion, kind)
