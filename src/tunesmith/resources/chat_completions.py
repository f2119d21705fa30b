"""Chat completions: answers to conversations, and the stored ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
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

from .answer_schemas import is_type, response_format_of, type_name
from .bulk import MapResult
from .chat_accumulator import ChatCompletionAccumulator
from .chat_options import (
    ChatCompletionHelperOptions,
    ChatCompletionMapOptions,
    ChatCompletionOptions,
    Messages,
)
from .chat_stored import StoredChatCompletions
from .formats import parse_completion
from .function_tools import tool_list
from .operations import Resource, helper, iteration, overloaded
from .views import RawView, StreamingView

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )
    from tunesmith.transport.streams import AsyncStream, Stream
    from tunesmith.types.base import WireModel

    from .chat_streams import (
        AsyncChatCompletionStreamManager,
        ChatCompletionStreamManager,
    )

__all__ = ["Beta", "Chat", "ChatCompletions"]

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
        model: str,
        messages: Messages,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion: ...
    @overload
    def create(
        self: ChatCompletions[Sync],
        *,
        model: str,
        messages: Messages,
        stream: Literal[True],
        **params: Unpack[ChatCompletionOptions],
    ) -> Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self: ChatCompletions[Sync],
        *,
        model: str,
        messages: Messages,
        stream: bool,
        **params: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion | Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self: ChatCompletions[Async],
        *,
        model: str,
        messages: Messages,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, ChatCompletion]: ...
    @overload
    def create(
        self: ChatCompletions[Async],
        *,
        model: str,
        messages: Messages,
        stream: Literal[True],
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, AsyncStream[ChatCompletionChunk]]: ...
    @overload
    def create(
        self: ChatCompletions[Async],
        *,
        model: str,
        messages: Messages,
        stream: bool,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, ChatCompletion | AsyncStream[ChatCompletionChunk]]: ...
    @overload
    def create(
        self: ChatCompletions[SyncRaw],
        *,
        model: str,
        messages: Messages,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> APIResponse[Any]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncRaw],
        *,
        model: str,
        messages: Messages,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, APIResponse[Any]]: ...
    @overload
    def create(
        self: ChatCompletions[SyncStreaming],
        *,
        model: str,
        messages: Messages,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> StreamedResponse[Any]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncStreaming],
        *,
        model: str,
        messages: Messages,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> AsyncStreamedResponse[Any]: ...
    @overloaded
    def create(
        self,
        *,
        model: str,
        messages: Messages,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Any:
        """Answer a conversation.

        Args:
            model: The model's name.
            messages: `{"role": …, "content": …}` objects, or messages of earlier answers.
            stream: True to receive the answer in chunks as it is generated.
            max_completion_tokens: Tokens to generate at most.
            max_tokens: The older name of `max_completion_tokens`.
            temperature: Sampling temperature, 0 to 2; 1 by default, 0 for greedy decoding.
            top_p: Nucleus sampling: only the most likely tokens with this total probability.
            n: Answers to generate, 1 by default.
            stop: Up to 4 texts at which generation stops; they are not part of the answer.
            seed: Makes sampling repeatable.
            presence_penalty: Penalty for tokens that occur in the text, -2 to 2.
            frequency_penalty: Penalty for tokens by how often they occur in the text, -2 to 2.
            logit_bias: Numbers from -100 to 100 by token id, added to the logits.
            logprobs: Return the log probability of each generated token.
            top_logprobs: Return this many most likely tokens at each position, 0 to 20.
            tools: The tools that the model may call, each with a JSON schema.
            tool_choice: "auto", "none", "required", or the tool to call.
            parallel_tool_calls: Whether one answer may call several tools.
            functions: The older form of `tools`.
            function_call: The older form of `tool_choice`.
            stream_options: `{"include_usage": True}` adds a last chunk with the usage.
            store: Keep the answer on the server; see `retrieve` and `list`.
            metadata: Up to 16 pairs of strings to keep with a stored answer.
            user: An id of the end user.
            safety_identifier: A stable id of the end user, for the server's abuse checks.
            reasoning_effort: How long a reasoning model thinks, such as "low"; "none" for not at
                all, where the model can be told so.
            verbosity: How detailed the answer is: "low", "medium" or "high".
            modalities: Kinds of output, such as `["text", "audio"]`.
            audio: Voice and format of audio output.
            prediction: Text that the answer will largely repeat.
            web_search_options: Options of the server's web search.
            moderation: Options of the server's moderation.
            service_tier: The server's processing tier.
            prompt_cache_key: Groups requests whose prompts begin alike.
            prompt_cache_options: Options of the server's prompt cache.
            prompt_cache_retention: How long the server caches the prompt.
            response_format: `{"type": "json_object"}` or `{"type": "json_schema", …}`.
            params: The request options.

        Returns:
            A ChatCompletion, or a stream of ChatCompletionChunk with `stream=True`. Awaited on
            an AsyncClient.
        """
        fields = {"model": model, "messages": messages, **params}
        return self._create(fields, stream=stream)

    @overload
    def parse(
        self: ChatCompletions[Sync],
        *,
        model: str,
        messages: Messages,
        response_format: TypeForm[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ParsedChatCompletion[FormatT]: ...
    @overload
    def parse(
        self: ChatCompletions[Async],
        *,
        model: str,
        messages: Messages,
        response_format: TypeForm[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Coroutine[Any, Any, ParsedChatCompletion[FormatT]]: ...
    @overload
    def parse(
        self: ChatCompletions[SyncRaw],
        *,
        model: str,
        messages: Messages,
        response_format: TypeForm[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> APIResponse[ParsedChatCompletion[FormatT]]: ...
    @overload
    def parse(
        self: ChatCompletions[AsyncRaw],
        *,
        model: str,
        messages: Messages,
        response_format: TypeForm[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Coroutine[Any, Any, APIResponse[ParsedChatCompletion[FormatT]]]: ...
    @overloaded
    def parse(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: Any = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Any:
        """Answer a conversation with a value of a given type.

        Args:
            response_format: A pydantic model or another type with a JSON schema, such as
                `list[Model]`, `Model | None` or `Literal["yes", "no"]`; each message's `parsed` is
                a value of it.
            messages: As for `create`.
            model: As for `create`.
            params: As for `create`.

        Raises:
            LengthFinishReasonError: The answer was cut off at the token limit.
            ContentFilterFinishReasonError: The answer was stopped by a filter.
            APIResponseValidationError: The answer is not of the type, or the arguments of a call
                are not what its tool says.
        """
        fields = {"model": model, "messages": messages, **params}
        return self._parse(fields, response_format)

    @overload
    def stream(
        self: ChatCompletions[Sync],
        *,
        model: str,
        messages: Messages,
        response_format: TypeForm[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ChatCompletionStreamManager[FormatT]: ...
    @overload
    def stream(
        self: ChatCompletions[Sync],
        *,
        model: str,
        messages: Messages,
        response_format: Mapping[str, Any] | Omit | NotGiven = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ChatCompletionStreamManager[None]: ...
    @overload
    def stream(
        self: ChatCompletions[Async],
        *,
        model: str,
        messages: Messages,
        response_format: TypeForm[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> AsyncChatCompletionStreamManager[FormatT]: ...
    @overload
    def stream(
        self: ChatCompletions[Async],
        *,
        model: str,
        messages: Messages,
        response_format: Mapping[str, Any] | Omit | NotGiven = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> AsyncChatCompletionStreamManager[None]: ...
    @helper
    def stream(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: Any = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Any:
        """Answer a conversation as a stream of events; use it with `with` or `async with`.

        Events have a `type`: "chunk", "content.delta", "content.done", "refusal.delta", … . The
        whole answer is `stream.get_final_completion()`.

        Args:
            response_format: A type to parse the answer into, or a mapping as for `create`.
            messages: As for `create`.
            model: As for `create`.
            params: As for `create`.
        """
        from .chat_streams import (
            AsyncChatCompletionStreamManager,
            ChatCompletionStreamManager,
        )

        fields = {"model": model, "messages": messages, **params}
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

        Requests are read as they are needed and results returned as they arrive, so memory does
        not grow with their number. When the server is overloaded, fewer requests are sent at a
        time and refused ones are repeated.

        Args:
            requests: Lists of messages, or mappings of parameters that override the common ones.
            concurrency: Requests at one time at most.
            ordered: Results in the order of the requests; False for the order of completion.
            journal: A file of finished answers, from which an interrupted run is continued.
            on_progress: Called with the number of results so far and of failures among them.
            params: Parameters common to all requests, as for `create`.
        """
        return self._map(
            requests,
            params,
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )

    def _create(self, fields: Mapping[str, Any], *, stream: Any) -> Flow[Any]:
        kind = fields.get("response_format")
        if is_type(kind):
            raise TypeError(
                f"response_format is a mapping here; to get a {type_name(kind)}, call "
                "chat.completions.parse or chat.completions.stream with the same arguments."
            )
        return super()._create(fields, stream=stream)

    def _parse(self, fields: Mapping[str, Any], kind: Any) -> Flow[ParsedChatCompletion[Any]]:
        tools = tool_list(fields.get("tools"))
        fields = {**fields, "response_format": response_format_of(kind)}
        if tools:
            fields["tools"] = tools
        completion = yield from self._create(fields, stream=None)
        return parse_completion(completion, kind, tools)


class Beta(Resource[ModeT_co]):
    """`client.beta`, where openai's client had `chat.completions.parse` and `stream` first."""

    @cached_property
    def chat(self) -> Chat[ModeT_co]:
        """Chat completions, the same as `client.chat`."""
        return Chat(self._executor)


class Chat(Resource[ModeT_co]):
    """`client.chat`."""

    @cached_property
    def completions(self) -> ChatCompletions[ModeT_co]:
        """Chat completions."""
        return ChatCompletions(self._executor)
