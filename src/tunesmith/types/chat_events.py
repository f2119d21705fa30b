"""What `chat.completions.parse` and `chat.completions.stream` give: parsed answers and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from tunesmith._lazy import set_public_module

from .chat import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionFunctionCall,
    ChatCompletionMessage,
    ChatCompletionMessageToolCall,
    ChatCompletionTokenLogprob,
)

__all__ = [
    "ChatCompletionStreamEvent",
    "ChunkEvent",
    "ContentDeltaEvent",
    "ContentDoneEvent",
    "FunctionToolCallArgumentsDeltaEvent",
    "FunctionToolCallArgumentsDoneEvent",
    "LogprobsContentDeltaEvent",
    "LogprobsContentDoneEvent",
    "LogprobsRefusalDeltaEvent",
    "LogprobsRefusalDoneEvent",
    "ParsedChatCompletion",
    "ParsedChatCompletionMessage",
    "ParsedChoice",
    "ParsedFunction",
    "ParsedFunctionToolCall",
    "RefusalDeltaEvent",
    "RefusalDoneEvent",
]

FormatT = TypeVar("FormatT")


class ParsedFunction(ChatCompletionFunctionCall):
    """A function and its arguments, which were read as its tool says.

    Attributes:
        parsed_arguments: An instance of the tool's model, JSON data of a strict tool, else None.
    """

    added_here: ClassVar[dict[str, Any] | None] = {"parsed_arguments": True}

    parsed_arguments: Any = None


class ParsedFunctionToolCall(ChatCompletionMessageToolCall):
    """A call whose arguments were read as its tool says."""

    added_here: ClassVar[dict[str, Any] | None] = {"function": ParsedFunction.added_here}

    function: ParsedFunction | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


class _Event:
    """An event some of whose fields are computed when they are first read.

    A stream of n chunks has n texts "so far"; most programs read none of them.
    """

    __slots__ = ("_later",)

    @classmethod
    def later(cls, **fields: Any) -> Self:
        """Return an event; a field given as a function is computed by it when it is read."""
        event = object.__new__(cls)
        later = {name: value for name, value in fields.items() if callable(value)}
        object.__setattr__(event, "_later", later)
        object.__setattr__(event, "type", vars(cls)["__dataclass_fields__"]["type"].default)
        for name, value in fields.items():
            if name not in later:
                object.__setattr__(event, name, value)
        return event

    def __getattr__(self, name: str) -> Any:
        # Called for slots that have not been filled.
        if name != "_later" and name in (later := getattr(self, "_later", {})):
            value = later[name]()
            object.__setattr__(self, name, value)
            del later[name]
            return value
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class ParsedChatCompletionMessage(ChatCompletionMessage, Generic[FormatT]):
    """An answer whose content was parsed into the requested type; None after a refusal."""

    added_here: ClassVar[dict[str, Any] | None] = {
        "parsed": True,
        "tool_calls": {"__all__": ParsedFunctionToolCall.added_here},
    }

    parsed: FormatT | None = None
    tool_calls: list[ParsedFunctionToolCall] | None = None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChoice(ChatCompletionChoice, Generic[FormatT]):
    """A choice with a parsed message."""

    message: ParsedChatCompletionMessage[FormatT]  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletion(ChatCompletion, Generic[FormatT]):
    """A chat completion whose answers were parsed into the requested type."""

    choices: list[ParsedChoice[FormatT]]  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]


@dataclass(frozen=True, slots=True)
class ChunkEvent(_Event):
    """A chunk as it came, and the answer so far."""

    chunk: ChatCompletionChunk
    snapshot: ParsedChatCompletion[Any]
    type: Literal["chunk"] = "chunk"


@dataclass(frozen=True, slots=True)
class ContentDeltaEvent(_Event):
    """New text; `parsed` is what the incomplete JSON so far holds, if a type was requested."""

    delta: str
    snapshot: str
    parsed: object | None = None
    type: Literal["content.delta"] = "content.delta"


@dataclass(frozen=True, slots=True)
class ContentDoneEvent(Generic[FormatT]):
    """The whole text, and the value it holds if a type was requested."""

    content: str
    parsed: FormatT | None = None
    type: Literal["content.done"] = "content.done"


@dataclass(frozen=True, slots=True)
class RefusalDeltaEvent(_Event):
    """New text of a refusal."""

    delta: str
    snapshot: str
    type: Literal["refusal.delta"] = "refusal.delta"


@dataclass(frozen=True, slots=True)
class RefusalDoneEvent:
    """The whole refusal."""

    refusal: str
    type: Literal["refusal.done"] = "refusal.done"


@dataclass(frozen=True, slots=True)
class FunctionToolCallArgumentsDeltaEvent(_Event):
    """A piece of a tool call's arguments; `arguments` is the JSON text so far."""

    name: str
    index: int
    arguments: str
    arguments_delta: str
    parsed_arguments: object | None = None
    type: Literal["tool_calls.function.arguments.delta"] = "tool_calls.function.arguments.delta"


@dataclass(frozen=True, slots=True)
class FunctionToolCallArgumentsDoneEvent:
    """A tool call whose arguments are complete; parsed where they are JSON."""

    name: str
    index: int
    arguments: str
    parsed_arguments: object | None = None
    type: Literal["tool_calls.function.arguments.done"] = "tool_calls.function.arguments.done"


@dataclass(frozen=True, slots=True)
class LogprobsContentDeltaEvent(_Event):
    """Log probabilities of new tokens."""

    content: list[ChatCompletionTokenLogprob]
    snapshot: list[ChatCompletionTokenLogprob]
    type: Literal["logprobs.content.delta"] = "logprobs.content.delta"


@dataclass(frozen=True, slots=True)
class LogprobsContentDoneEvent:
    """Log probabilities of the whole text."""

    content: list[ChatCompletionTokenLogprob]
    type: Literal["logprobs.content.done"] = "logprobs.content.done"


@dataclass(frozen=True, slots=True)
class LogprobsRefusalDeltaEvent(_Event):
    """Log probabilities of new tokens of a refusal."""

    refusal: list[ChatCompletionTokenLogprob]
    snapshot: list[ChatCompletionTokenLogprob]
    type: Literal["logprobs.refusal.delta"] = "logprobs.refusal.delta"


@dataclass(frozen=True, slots=True)
class LogprobsRefusalDoneEvent:
    """Log probabilities of the whole refusal."""

    refusal: list[ChatCompletionTokenLogprob]
    type: Literal["logprobs.refusal.done"] = "logprobs.refusal.done"


ChatCompletionStreamEvent = (
    ChunkEvent
    | ContentDeltaEvent
    | ContentDoneEvent[FormatT]
    | RefusalDeltaEvent
    | RefusalDoneEvent
    | FunctionToolCallArgumentsDeltaEvent
    | FunctionToolCallArgumentsDoneEvent
    | LogprobsContentDeltaEvent
    | LogprobsContentDoneEvent
    | LogprobsRefusalDeltaEvent
    | LogprobsRefusalDoneEvent
)


set_public_module(globals(), "tunesmith.types")
