"""The options of the methods that request a chat completion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.core.options import NotGiven, Omit, RequestOptions

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "ChatCompletionHelperOptions",
    "ChatCompletionMapOptions",
    "ChatCompletionOptions",
    "Messages",
]

if TYPE_CHECKING:
    Messages: TypeAlias = Iterable[Mapping[str, Any] | BaseModel]
else:
    Messages = Iterable


class ChatCompletionHelperOptions(RequestOptions, total=False):
    """What every method takes besides model and messages. `create` describes each option."""

    max_completion_tokens: int | Omit | NotGiven | None
    max_tokens: int | Omit | NotGiven | None
    temperature: float | Omit | NotGiven | None
    top_p: float | Omit | NotGiven | None
    n: int | Omit | NotGiven | None
    stop: str | Sequence[str] | Omit | NotGiven | None
    seed: int | Omit | NotGiven | None
    presence_penalty: float | Omit | NotGiven | None
    frequency_penalty: float | Omit | NotGiven | None
    logit_bias: Mapping[str, int] | Omit | NotGiven | None
    logprobs: bool | Omit | NotGiven | None
    top_logprobs: int | Omit | NotGiven | None
    tools: Iterable[Mapping[str, Any]] | Omit | NotGiven
    tool_choice: str | Mapping[str, Any] | Omit | NotGiven
    parallel_tool_calls: bool | Omit | NotGiven
    functions: Iterable[Mapping[str, Any]] | Omit | NotGiven
    function_call: str | Mapping[str, Any] | Omit | NotGiven
    stream_options: Mapping[str, Any] | Omit | NotGiven | None
    store: bool | Omit | NotGiven | None
    metadata: Mapping[str, str] | Omit | NotGiven | None
    user: str | Omit | NotGiven
    safety_identifier: str | Omit | NotGiven
    reasoning_effort: str | Omit | NotGiven | None
    verbosity: str | Omit | NotGiven | None
    modalities: Sequence[str] | Omit | NotGiven | None
    audio: Mapping[str, Any] | Omit | NotGiven | None
    prediction: Mapping[str, Any] | Omit | NotGiven | None
    web_search_options: Mapping[str, Any] | Omit | NotGiven
    moderation: Mapping[str, Any] | Omit | NotGiven | None
    service_tier: str | Omit | NotGiven | None
    prompt_cache_key: str | Omit | NotGiven
    prompt_cache_options: Mapping[str, Any] | Omit | NotGiven
    prompt_cache_retention: str | Omit | NotGiven | None


class ChatCompletionOptions(ChatCompletionHelperOptions, total=False):
    """What `chat.completions.create` takes besides model, messages and stream."""

    response_format: Mapping[str, Any] | Omit | NotGiven


class ChatCompletionMapOptions(ChatCompletionOptions, total=False):
    """What `map` takes for all of its requests."""

    model: str
