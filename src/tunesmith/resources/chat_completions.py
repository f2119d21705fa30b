"""Chat completions: answers to conversations, and the stored ones."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack, overload

from tunesmith.core.flow import Flow
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionDeleted

from . import views
from .base import APIResource
from .declare import ClientT_co, expanded, listing, operation
from .fine_tuning_jobs import PageOptions

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tunesmith.client import AsyncClient, Client
    from tunesmith.transport.responses import (
        APIResponse,
        AsyncStreamedResponse,
        StreamedResponse,
    )
    from tunesmith.transport.streams import AsyncStream, Stream

__all__ = [
    "ChatCompletionListOptions",
    "ChatCompletionOptions",
    "ChatCompletions",
    "Messages",
]

_STORED = "/chat/completions/{completion_id}"


if TYPE_CHECKING:
    Messages: TypeAlias = Iterable[Mapping[str, Any] | BaseModel]
else:
    Messages = Iterable


class ChatCompletionOptions(RequestOptions, total=False):
    """What `chat.completions.create` takes besides model, messages and stream."""

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
    response_format: Mapping[str, Any] | Omit | NotGiven
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


class ChatCompletionListOptions(PageOptions, total=False):
    """What `chat.completions.list` takes."""

    metadata: Mapping[str, str] | Omit | NotGiven | None
    model: str | Omit | NotGiven
    order: Literal["asc", "desc"] | Omit | NotGiven


class ChatCompletions(APIResource[ClientT_co]):
    """`/chat/completions`: converse with a model."""

    with_raw_response = views.RawView[
        "ChatCompletions[views.RawClient]", "ChatCompletions[views.AsyncRawClient]"
    ]()
    with_streaming_response = views.StreamingView[
        "ChatCompletions[views.StreamingClient]", "ChatCompletions[views.AsyncStreamingClient]"
    ]()

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

    def _create(self, fields: Mapping[str, Any], *, stream: Any) -> Flow[Any]:
        if stream:
            return self._open(
                "POST", "/chat/completions", ChatCompletionChunk, {**fields, "stream": True}
            )
        if stream is False:
            fields = {**fields, "stream": False}
        return self._ask("POST", "/chat/completions", ChatCompletion, fields)


def _path(completion_id: str) -> str:
    return fill_path(_STORED, completion_id=completion_id)
