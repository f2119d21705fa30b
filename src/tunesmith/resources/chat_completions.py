"""Chat completions: answers to conversations, and the stored ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Unpack, overload

from tunesmith.core.flow import Emitting, Flow
from tunesmith.core.options import NotGiven, Omit, RequestOptions, omit
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)
from tunesmith.types.chat_events import ParsedChatCompletion

from . import views
from .base import APIResource
from .bulk import MapResult, map_requests
from .chat_accumulator import ChatCompletionAccumulator
from .declare import ClientT_co, expanded, iteration, listing, operation
from .fine_tuning_jobs import PageOptions
from .formats import parse_completion, response_format_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tunesmith.client import AsyncClient, Client
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

__all__ = [
    "ChatCompletionHelperOptions",
    "ChatCompletionListOptions",
    "ChatCompletionMessageListOptions",
    "ChatCompletionOptions",
    "ChatCompletions",
    "ChatCompletionsMessages",
    "Messages",
]

FormatT = TypeVar("FormatT")
_STORED = "/chat/completions/{completion_id}"


if TYPE_CHECKING:
    Messages: TypeAlias = Iterable[Mapping[str, Any] | BaseModel]
else:
    Messages = Iterable


class ChatCompletionHelperOptions(RequestOptions, total=False):
    """What every way to ask for a chat completion takes besides model and messages."""

    audio: Mapping[str, Any] | Omit | NotGiven | None
    frequency_penalty: float | Omit | NotGiven | None
    function_call: str | Mapping[str, Any] | Omit | NotGiven
    functions: Iterable[Mapping[str, Any]] | Omit | NotGiven
    logit_bias: Mapping[str, int] | Omit | NotGiven | None
    logprobs: bool | Omit | NotGiven | None
    max_completion_tokens: int | Omit | NotGiven | None
    max_tokens: int | Omit | NotGiven | None
    metadata: Mapping[str, str] | Omit | NotGiven | None
    modalities: Sequence[str] | Omit | NotGiven | None
    moderation: Mapping[str, Any] | Omit | NotGiven | None
    n: int | Omit | NotGiven | None
    parallel_tool_calls: bool | Omit | NotGiven
    prediction: Mapping[str, Any] | Omit | NotGiven | None
    presence_penalty: float | Omit | NotGiven | None
    prompt_cache_key: str | Omit | NotGiven
    prompt_cache_options: Mapping[str, Any] | Omit | NotGiven
    prompt_cache_retention: str | Omit | NotGiven | None
    reasoning_effort: str | Omit | NotGiven | None
    safety_identifier: str | Omit | NotGiven
    seed: int | Omit | NotGiven | None
    service_tier: str | Omit | NotGiven | None
    stop: str | Sequence[str] | Omit | NotGiven | None
    store: bool | Omit | NotGiven | None
    stream_options: Mapping[str, Any] | Omit | NotGiven | None
    temperature: float | Omit | NotGiven | None
    tool_choice: str | Mapping[str, Any] | Omit | NotGiven
    tools: Iterable[Mapping[str, Any]] | Omit | NotGiven
    top_logprobs: int | Omit | NotGiven | None
    top_p: float | Omit | NotGiven | None
    user: str | Omit | NotGiven
    verbosity: str | Omit | NotGiven | None
    web_search_options: Mapping[str, Any] | Omit | NotGiven


class ChatCompletionOptions(ChatCompletionHelperOptions, total=False):
    """What `chat.completions.create` takes besides model, messages and stream."""

    response_format: Mapping[str, Any] | Omit | NotGiven


class ChatCompletionListOptions(PageOptions, total=False):
    """What `chat.completions.list` takes."""

    metadata: Mapping[str, str] | Omit | NotGiven | None
    model: str | Omit | NotGiven
    order: Literal["asc", "desc"] | Omit | NotGiven


class ChatCompletionMapOptions(ChatCompletionOptions, total=False):
    """What `map` takes for all of its requests."""

    model: str


def _request(
    one: Sequence[Mapping[str, Any]] | Mapping[str, Any], common: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the parameters of one request: the common ones, outweighed by its own."""
    own = one if isinstance(one, Mapping) else {"messages": one}
    return {**common, **own}


class ChatCompletions(APIResource[ClientT_co]):
    """`/chat/completions`: converse with a model."""

    with_raw_response: views.RawView[
        ChatCompletions[views.RawClient], ChatCompletions[views.AsyncRawClient]
    ] = views.RawView()
    with_streaming_response: views.StreamingView[
        ChatCompletions[views.StreamingClient], ChatCompletions[views.AsyncStreamingClient]
    ] = views.StreamingView()

    @overload
    def create(
        self: ChatCompletions[Client],
        *,
        messages: Messages,
        model: str,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion: ...
    @overload
    def create(
        self: ChatCompletions[Client],
        *,
        messages: Messages,
        model: str,
        stream: Literal[True],
        **params: Unpack[ChatCompletionOptions],
    ) -> Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self: ChatCompletions[Client],
        *,
        messages: Messages,
        model: str,
        stream: bool,
        **params: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion | Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncClient],
        *,
        messages: Messages,
        model: str,
        stream: Literal[False] | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, ChatCompletion]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncClient],
        *,
        messages: Messages,
        model: str,
        stream: Literal[True],
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, AsyncStream[ChatCompletionChunk]]: ...
    @overload
    def create(
        self: ChatCompletions[AsyncClient],
        *,
        messages: Messages,
        model: str,
        stream: bool,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, ChatCompletion | AsyncStream[ChatCompletionChunk]]: ...
    @overload
    def create(
        self: ChatCompletions[views.RawClient],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> APIResponse[Any]: ...
    @overload
    def create(
        self: ChatCompletions[views.AsyncRawClient],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, APIResponse[Any]]: ...
    @overload
    def create(
        self: ChatCompletions[views.StreamingClient],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> StreamedResponse[Any]: ...
    @overload
    def create(
        self: ChatCompletions[views.AsyncStreamingClient],
        *,
        messages: Messages,
        model: str,
        stream: bool | Omit | NotGiven | None = None,
        **params: Unpack[ChatCompletionOptions],
    ) -> AsyncStreamedResponse[Any]: ...
    @expanded
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
        return self._client._run(self._create(fields, stream=stream))

    @overload
    def parse(
        self: ChatCompletions[Client],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ParsedChatCompletion[FormatT]: ...
    @overload
    def parse(
        self: ChatCompletions[AsyncClient],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Coroutine[Any, Any, ParsedChatCompletion[FormatT]]: ...
    @overload
    def parse(
        self: ChatCompletions[views.RawClient],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> APIResponse[ParsedChatCompletion[FormatT]]: ...
    @overload
    def parse(
        self: ChatCompletions[views.AsyncRawClient],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT],
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> Coroutine[Any, Any, APIResponse[ParsedChatCompletion[FormatT]]]: ...
    @expanded
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
        return self._client._run(self._parse(fields, response_format))

    @overload
    def stream(
        self: ChatCompletions[Client],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT] | Mapping[str, Any] | Omit | NotGiven = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> ChatCompletionStreamManager[FormatT]: ...
    @overload
    def stream(
        self: ChatCompletions[AsyncClient],
        *,
        messages: Messages,
        model: str,
        response_format: type[FormatT] | Mapping[str, Any] | Omit | NotGiven = omit,
        **params: Unpack[ChatCompletionHelperOptions],
    ) -> AsyncChatCompletionStreamManager[FormatT]: ...
    @expanded
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
            if self._client._is_async
            else ChatCompletionStreamManager
        )
        return manager(
            lambda: self._client._run(self._create(fields, stream=True)),
            ChatCompletionAccumulator[Any](response_format),
        )

    @operation
    def retrieve(
        self, completion_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[ChatCompletion]:
        """Return a stored completion.

        Raises:
            NotFoundError: There is none; only those made with `store=True` are kept.
        """
        return self._ask("GET", _path(completion_id), ChatCompletion, params)

    @operation
    def update(
        self,
        completion_id: str,
        *,
        metadata: Mapping[str, str] | None,
        **params: Unpack[RequestOptions],
    ) -> Flow[ChatCompletion]:
        """Replace the metadata of a stored completion."""
        fields = {"metadata": metadata}
        return self._ask("POST", _path(completion_id), ChatCompletion, params, fields=fields)

    @listing
    def list(self, **params: Unpack[ChatCompletionListOptions]) -> PageFlow[ChatCompletion]:
        """Return the stored completions.

        Args:
            params: `after`, `limit`, `metadata`, `model`, `order`, and the request options.
        """
        return self._pages("/chat/completions", ChatCompletion, params)

    @operation
    def delete(
        self, completion_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[ChatCompletionDeleted]:
        """Delete a stored completion."""
        return self._ask("DELETE", _path(completion_id), ChatCompletionDeleted, params)

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
        return map_requests(
            lambda request: self._create(request, stream=None),
            ChatCompletion,
            (_request(one, params) for one in requests),
            concurrency=concurrency,
            ordered=ordered,
            journal=journal,
            on_progress=on_progress,
        )

    @cached_property
    def messages(self) -> ChatCompletionsMessages[ClientT_co]:
        """The messages of stored completions."""
        return ChatCompletionsMessages(self._client)

    def _parse(self, fields: Mapping[str, Any], kind: Any) -> Flow[ParsedChatCompletion[Any]]:
        completion = yield from self._create(
            {**fields, "response_format": response_format_of(kind)}, stream=None
        )
        return parse_completion(completion, kind)

    def _create(self, fields: Mapping[str, Any], *, stream: Any) -> Flow[Any]:
        if stream:
            return self._open(
                "POST", "/chat/completions", ChatCompletionChunk, {**fields, "stream": True}
            )
        if stream is False:
            fields = {**fields, "stream": False}
        return self._ask("POST", "/chat/completions", ChatCompletion, fields)


class ChatCompletionMessageListOptions(PageOptions, total=False):
    """What `chat.completions.messages.list` takes besides the completion."""

    order: Literal["asc", "desc"] | Omit | NotGiven


class ChatCompletionsMessages(APIResource[ClientT_co]):
    """`/chat/completions/{id}/messages`: the messages of a stored completion."""

    with_raw_response: views.RawView[
        ChatCompletionsMessages[views.RawClient], ChatCompletionsMessages[views.AsyncRawClient]
    ] = views.RawView()
    with_streaming_response: views.StreamingView[
        ChatCompletionsMessages[views.StreamingClient],
        ChatCompletionsMessages[views.AsyncStreamingClient],
    ] = views.StreamingView()

    @listing
    def list(
        self, completion_id: str, **params: Unpack[ChatCompletionMessageListOptions]
    ) -> PageFlow[ChatCompletionStoreMessage]:
        """Return the messages that a stored completion answered.

        Args:
            completion_id: "chatcmpl-…".
            params: `after`, `limit`, `order`, and the request options.
        """
        return self._pages(_path(completion_id) + "/messages", ChatCompletionStoreMessage, params)


def _path(completion_id: str) -> str:
    return fill_path(_STORED, completion_id=completion_id)
