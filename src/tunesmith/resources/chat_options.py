"""What the ways to ask for a chat completion take besides model and messages."""

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


class ChatCompletionMapOptions(ChatCompletionOptions, total=False):
    """What `map` takes for all of its requests."""

    model: str
