"""Chat completions, `/v1/chat/completions`: whole answers and streamed chunks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from tunesmith._lazy import set_public_module

from .base import WireModel, with_index
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

# Kinds of content parts that are the answer's text; others are thoughts, images, citations.
_TEXT_PARTS = frozenset({"text", "output_text"})


def _with_argument_text(content: Any) -> Any:
    """Return a function call whose arguments are JSON text."""
    if isinstance(content, Mapping) and isinstance(content.get("arguments"), Mapping | list):
        call = cast("Mapping[str, Any]", content)
        return {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
    return content


def _with_text(content: Any) -> Any:
    """Return a message whose content is text, the parts that it was sent in beside it."""
    if not isinstance(content, Mapping) or not isinstance(content.get("content"), list):
        return content
    message = cast("Mapping[str, Any]", content)
    texts = [
        part if isinstance(part, str) else part.get("text") or ""
        for part in message["content"]
        if isinstance(part, str)
        or (isinstance(part, Mapping) and part.get("type", "text") in _TEXT_PARTS)
    ]
    joined = "".join(map(str, texts)) if texts else None
    return {**message, "content": joined, "content_parts": message["content"]}


def _with_reasoning(content: Any) -> Any:
    """Return a message whose thoughts have the name that most servers give them."""
    if not isinstance(content, Mapping) or content.get("reasoning_content") is not None:
        return content
    message = cast("Mapping[str, Any]", content)
    thoughts = message.get("reasoning")
    return {**message, "reasoning_content": thoughts} if isinstance(thoughts, str) else message


def _with_call_list(content: Any) -> Any:
    """Return a message whose tool calls are a list."""
    calls = content.get("tool_calls") if isinstance(content, Mapping) else None
    if isinstance(calls, Mapping) and "function" in calls:
        return {**cast("Mapping[str, Any]", content), "tool_calls": [calls]}
    return content


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"] | str


class ChatCompletionTopLogprob(WireModel):
    """A candidate for one position. `bytes` is its UTF-8 form, null where it has none."""

    token: str
    bytes: list[int] | None = None
    logprob: float = math.nan


class ChatCompletionTokenLogprob(ChatCompletionTopLogprob):
    """The token generated at one position and its most likely alternatives."""

    top_logprobs: list[ChatCompletionTopLogprob] = Field(
        default_factory=list[ChatCompletionTopLogprob]
    )


class ChatCompletionLogprobs(WireModel):
    """Log probabilities of the answer's tokens, or of a refusal's."""

    content: list[ChatCompletionTokenLogprob] | None = None
    refusal: list[ChatCompletionTokenLogprob] | None = None


class ChatCompletionFunctionCall(WireModel):
    """A function and its arguments as JSON text; the model wrote it, so it may be invalid."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"name", "arguments"})

    arguments: str = ""
    name: str

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """Arguments may be an object in place of its JSON text."""
        return _with_argument_text(content)


class ChatCompletionMessageToolCall(WireModel):
    """A call that the model asks the application to make."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "function"})

    id: str
    function: ChatCompletionFunctionCall | None = None
    type: Literal["function", "custom"] | str = "function"

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """A call without an id is named by its position: the answer to it needs a name."""
        if not isinstance(content, Mapping) or content.get("id") is not None:
            return content
        return {**content, "id": f"call_{position}"}


class ChatCompletionMessage(WireModel):
    """The model's answer. `reasoning_content` is what it thought before, where it is told."""

    _essential: ClassVar[frozenset[str] | None] = frozenset(
        {"content", "refusal", "audio", "function_call", "tool_calls"}
    )

    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    role: Literal["assistant"] | str = "assistant"
    annotations: list[dict[str, Any]] | None = None
    audio: dict[str, Any] | None = None
    function_call: ChatCompletionFunctionCall | None = None
    tool_calls: list[ChatCompletionMessageToolCall] | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """Content may be a list of parts, a single call without its list, thoughts `reasoning`."""
        return _with_call_list(_with_reasoning(_with_text(content)))

    def _completed(self, sent: dict[str, Any]) -> dict[str, Any]:
        """Return the message as a request needs it, which the answer may not have been.

        What a server left out has been assumed here, and the next request refers to it; parts
        of content go back as they came.
        """
        if parts := sent.pop("content_parts", None):
            sent["content"] = parts
        sent.setdefault("role", self.role)
        for plain, call in zip(sent.get("tool_calls") or (), self.tool_calls or (), strict=True):
            plain.update(id=call.id, type=call.type)
        return sent


class ChatCompletionStoreMessage(ChatCompletionMessage):
    """A message of a stored completion, whoever wrote it."""

    id: str = ""
    content_parts: list[dict[str, Any]] | None = None


class ChatCompletionChoice(WireModel):
    """One answer of the request's `n`."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"message", "logprobs"})

    finish_reason: FinishReason = ""
    index: int
    logprobs: ChatCompletionLogprobs | None = None
    message: ChatCompletionMessage

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """The index is the position; of what a filter stopped there may be no message."""
        if not isinstance(content, Mapping):
            return content
        mended = with_index(content, position)
        if mended.get("finish_reason") == "content_filter" and mended.get("message") is None:
            mended["message"] = {}
        return mended


class ChatCompletion(WireModel):
    """A whole chat completion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"choices"})

    id: str = ""
    choices: list[ChatCompletionChoice]
    created: int = 0
    model: str = ""
    object: Literal["chat.completion"] | str = "chat.completion"
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


class ChatCompletionFunctionCallDelta(WireModel):
    """A piece of a function call; `arguments` pieces are to be joined."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"name", "arguments"})

    arguments: str | None = None
    name: str | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """Arguments may be an object in place of its JSON text."""
        return _with_argument_text(content)


class ChatCompletionToolCallDelta(WireModel):
    """A piece of the tool call at `index`."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "function"})

    index: int
    id: str | None = None
    function: ChatCompletionFunctionCallDelta | None = None
    type: Literal["function", "custom"] | str | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """The index is the position in the chunk; `model_fields_set` tells that it was not sent."""
        return with_index(content, position) if isinstance(content, Mapping) else content


class ChatCompletionDelta(WireModel):
    """What one chunk adds to the message."""

    _essential: ClassVar[frozenset[str] | None] = frozenset(
        {"content", "refusal", "function_call", "tool_calls"}
    )

    content: str | None = None
    reasoning_content: str | None = None
    function_call: ChatCompletionFunctionCallDelta | None = None
    refusal: str | None = None
    role: Literal["developer", "system", "user", "assistant", "tool"] | str | None = None
    tool_calls: list[ChatCompletionToolCallDelta] | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """Content may be a list of parts, a single call without its list, thoughts `reasoning`."""
        return _with_call_list(_with_reasoning(_with_text(content)))


class ChatCompletionChunkChoice(WireModel):
    """One choice of a chunk; `finish_reason` is null in all but its last."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"delta", "logprobs"})

    delta: ChatCompletionDelta = Field(default_factory=ChatCompletionDelta)
    finish_reason: FinishReason | None = None
    index: int
    logprobs: ChatCompletionLogprobs | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """The index is the position."""
        return with_index(content, position) if isinstance(content, Mapping) else content


class ChatCompletionChunk(WireModel):
    """One event of a streamed chat completion. A last chunk with usage has no choices."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"choices"})

    id: str = ""
    choices: list[ChatCompletionChunkChoice]
    created: int = 0
    model: str = ""
    object: Literal["chat.completion.chunk"] | str = "chat.completion.chunk"
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


class ChatCompletionDeleted(WireModel):
    """The answer to the deletion of a stored chat completion."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"id", "deleted"})

    id: str
    deleted: bool = True
    object: Literal["chat.completion.deleted"] | str = "chat.completion.deleted"


set_public_module(globals(), "tunesmith.types")
