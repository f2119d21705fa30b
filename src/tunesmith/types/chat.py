"""Chat completions, `/v1/chat/completions`: whole answers and streamed chunks."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel
from .completions import CompletionUsage

__all__ = [
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionChunk",
    "ChatCompletionChunkChoice",
    "ChatCompletionDeleted",
    "ChatCompletionDelta",
    "ChatCompletionFunctionCall",
    "ChatCompletionFunctionCallDelta",
    "ChatCompletionLogprobs",
    "ChatCompletionMessage",
    "ChatCompletionMessageToolCall",
    "ChatCompletionStoreMessage",
    "ChatCompletionTokenLogprob",
    "ChatCompletionToolCallDelta",
    "ChatCompletionTopLogprob",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"] | str


class ChatCompletionTopLogprob(WireModel):
    """A candidate for one position. `bytes` is its UTF-8 form, null where it has none."""

    token: str
    bytes: list[int] | None = None
    logprob: float


class ChatCompletionTokenLogprob(ChatCompletionTopLogprob):
    """The token generated at one position and its most likely alternatives."""

    top_logprobs: list[ChatCompletionTopLogprob]


class ChatCompletionLogprobs(WireModel):
    """Log probabilities of the answer's tokens, or of a refusal's."""

    content: list[ChatCompletionTokenLogprob] | None = None
    refusal: list[ChatCompletionTokenLogprob] | None = None


class ChatCompletionFunctionCall(WireModel):
    """A function and its arguments as JSON text; the model wrote it, so it may be invalid."""

    arguments: str
    name: str


class ChatCompletionMessageToolCall(WireModel):
    """A call that the model asks the application to make."""

    id: str
    function: ChatCompletionFunctionCall | None = None
    type: Literal["function", "custom"] | str = "function"


class ChatCompletionMessage(WireModel):
    """The model's answer."""

    content: str | None = None
    refusal: str | None = None
    role: Literal["assistant"] | str = "assistant"
    annotations: list[dict[str, Any]] | None = None
    audio: dict[str, Any] | None = None
    function_call: ChatCompletionFunctionCall | None = None
    tool_calls: list[ChatCompletionMessageToolCall] | None = None


class ChatCompletionStoreMessage(ChatCompletionMessage):
    """A message of a stored completion, whoever wrote it."""

    id: str
    content_parts: list[dict[str, Any]] | None = None


class ChatCompletionChoice(WireModel):
    """One answer of the request's `n`."""

    finish_reason: FinishReason
    index: int
    logprobs: ChatCompletionLogprobs | None = None
    message: ChatCompletionMessage


class ChatCompletion(WireModel):
    """A whole chat completion."""

    id: str
    choices: list[ChatCompletionChoice]
    created: int
    model: str
    object: Literal["chat.completion"] | str = "chat.completion"
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


class ChatCompletionFunctionCallDelta(WireModel):
    """A piece of a function call; `arguments` pieces are to be joined."""

    arguments: str | None = None
    name: str | None = None


class ChatCompletionToolCallDelta(WireModel):
    """A piece of the tool call at `index`."""

    index: int
    id: str | None = None
    function: ChatCompletionFunctionCallDelta | None = None
    type: Literal["function", "custom"] | str | None = None


class ChatCompletionDelta(WireModel):
    """What one chunk adds to the message."""

    content: str | None = None
    function_call: ChatCompletionFunctionCallDelta | None = None
    refusal: str | None = None
    role: Literal["developer", "system", "user", "assistant", "tool"] | str | None = None
    tool_calls: list[ChatCompletionToolCallDelta] | None = None


class ChatCompletionChunkChoice(WireModel):
    """One choice of a chunk; `finish_reason` is null in all but its last."""

    delta: ChatCompletionDelta
    finish_reason: FinishReason | None = None
    index: int
    logprobs: ChatCompletionLogprobs | None = None


class ChatCompletionChunk(WireModel):
    """One event of a streamed chat completion. A last chunk with usage has no choices."""

    id: str
    choices: list[ChatCompletionChunkChoice]
    created: int
    model: str
    object: Literal["chat.completion.chunk"] | str = "chat.completion.chunk"
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


class ChatCompletionDeleted(WireModel):
    """The answer to the deletion of a stored chat completion."""

    id: str
    deleted: bool
    object: Literal["chat.completion.deleted"] | str = "chat.completion.deleted"


set_public_module(globals(), "tunesmith.types")
