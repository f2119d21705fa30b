"""Joins the chunks of a streamed chat completion and turns each into events.

Pure: chunks in, events out; the answer so far is available at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tunesmith.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionTokenLogprob,
)
from tunesmith.types.chat_events import (
    ChatCompletionStreamEvent,
    ChunkEvent,
    ContentDeltaEvent,
    ContentDoneEvent,
    FunctionToolCallArgumentsDeltaEvent,
    FunctionToolCallArgumentsDoneEvent,
    LogprobsContentDeltaEvent,
    LogprobsContentDoneEvent,
    LogprobsRefusalDeltaEvent,
    LogprobsRefusalDoneEvent,
    ParsedChatCompletion,
    RefusalDeltaEvent,
    RefusalDoneEvent,
)

from .answer_schemas import is_type
from .formats import check_finished, has_answer, parse_completion, parse_text, partial_value

__all__ = ["ChatCompletionAccumulator"]

FormatT = TypeVar("FormatT")


@dataclass
class _ToolCall:
    id: str = ""
    type: str = "function"
    name: str = ""
    arguments: str = ""


@dataclass
class _Choice:
    index: int
    role: str = "assistant"
    content: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    tool_calls: dict[int, _ToolCall] = field(default_factory=dict)
    function_call: _ToolCall | None = None
    content_logprobs: list[ChatCompletionTokenLogprob] = field(default_factory=list)
    refusal_logprobs: list[ChatCompletionTokenLogprob] = field(default_factory=list)


class ChatCompletionAccumulator(Generic[FormatT]):
    """The state of one streamed answer.

    Args:
        response_format: The type to parse the text into, or anything else for plain text.
    """

    def __init__(self, response_format: Any = None) -> None:
        self._format = response_format if is_type(response_format) else None
        self._choices: dict[int, _Choice] = {}
        self._facts: dict[str, Any] = {}

    def add(self, chunk: ChatCompletionChunk) -> list[ChatCompletionStreamEvent[FormatT]]:
        """Take one chunk and return its events, the chunk itself first."""
        facts = chunk.model_dump(exclude={"choices", "object"}, exclude_none=True)
        self._facts = {**facts, **self._facts, **({"usage": facts["usage"]} if chunk.usage else {})}
        events: list[ChatCompletionStreamEvent[FormatT]] = []
        for part in chunk.choices:
            events += self._add_choice(part)
        return [ChunkEvent(chunk, self.snapshot), *events]

    @property
    def snapshot(self) -> ParsedChatCompletion[FormatT]:
        """The answer so far, as a whole completion."""
        return ParsedChatCompletion[Any].model_validate(self._data())

    def final(self) -> ParsedChatCompletion[FormatT]:
        """Return the complete answer, parsed if a type was requested.

        Raises:
            LengthFinishReasonError: The answer was cut off and a type was requested.
            APIResponseValidationError: The answer is not of that type.
        """
        if self._format is None:
            return self.snapshot
        return parse_completion(ChatCompletion.model_validate(self._data()), self._format)

    def _data(self) -> dict[str, Any]:
        return {
            **self._facts,
            "object": "chat.completion",
            "choices": [_plain_choice(self._choices[index]) for index in sorted(self._choices)],
        }

    def _add_choice(
        self, part: ChatCompletionChunkChoice
    ) -> list[ChatCompletionStreamEvent[FormatT]]:
        choice = self._choices.setdefault(part.index, _Choice(part.index))
        choice.role = part.delta.role or choice.role
        events = [
            *self._add_text(choice, part),
            *_add_tool_calls(choice, part),
            *_add_logprobs(choice, part),
        ]
        if part.finish_reason is not None and choice.finish_reason is None:
            choice.finish_reason = part.finish_reason
            events += self._done(choice)
        return events

    def _add_text(
        self, choice: _Choice, part: ChatCompletionChunkChoice
    ) -> list[ChatCompletionStreamEvent[FormatT]]:
        events: list[ChatCompletionStreamEvent[FormatT]] = []
        delta = part.delta
        if delta.content is not None:
            choice.content = (choice.content or "") + delta.content
            if delta.content:
                parsed = (
                    None if self._format is None else partial_value(choice.content, self._format)
                )
                events.append(ContentDeltaEvent(delta.content, choice.content, parsed))
        if delta.refusal:
            choice.refusal = (choice.refusal or "") + delta.refusal
            events.append(RefusalDeltaEvent(delta.refusal, choice.refusal))
        return events

    def _done(self, choice: _Choice) -> list[ChatCompletionStreamEvent[FormatT]]:
        """Return the events of a choice that has ended."""
        events: list[ChatCompletionStreamEvent[FormatT]] = []
        if choice.content:
            parsed: Any = None
            calls = bool(choice.tool_calls or choice.function_call)
            if self._format is not None and has_answer(
                choice.content, refused=bool(choice.refusal), calls=calls
            ):
                check_finished(choice.finish_reason, self.snapshot)
                parsed = parse_text(choice.content, self._format)
            events.append(ContentDoneEvent(choice.content, parsed))
        if choice.refusal:
            events.append(RefusalDoneEvent(choice.refusal))
        if choice.content_logprobs:
            events.append(LogprobsContentDoneEvent(choice.content_logprobs))
        if choice.refusal_logprobs:
            events.append(LogprobsRefusalDoneEvent(choice.refusal_logprobs))
        events += [
            FunctionToolCallArgumentsDoneEvent(
                call.name, index, call.arguments, partial_value(call.arguments)
            )
            for index, call in sorted(choice.tool_calls.items())
        ]
        return events


def _add_tool_calls(
    choice: _Choice, part: ChatCompletionChunkChoice
) -> list[ChatCompletionStreamEvent[Any]]:
    events: list[ChatCompletionStreamEvent[Any]] = []
    for piece in part.delta.tool_calls or ():
        call = choice.tool_calls.setdefault(piece.index, _ToolCall())
        call.id = piece.id or call.id
        call.type = piece.type or call.type
        if piece.function is None:
            continue
        call.name += piece.function.name or ""
        added = piece.function.arguments or ""
        call.arguments += added
        if added:
            events.append(
                FunctionToolCallArgumentsDeltaEvent(
                    call.name, piece.index, call.arguments, added, partial_value(call.arguments)
                )
            )
    function_call = part.delta.function_call
    if function_call is not None:
        choice.function_call = choice.function_call or _ToolCall()
        choice.function_call.name += function_call.name or ""
        choice.function_call.arguments += function_call.arguments or ""
    return events


def _add_logprobs(
    choice: _Choice, part: ChatCompletionChunkChoice
) -> list[ChatCompletionStreamEvent[Any]]:
    events: list[ChatCompletionStreamEvent[Any]] = []
    if part.logprobs is None:
        return events
    if part.logprobs.content:
        choice.content_logprobs += part.logprobs.content
        events.append(
            LogprobsContentDeltaEvent(part.logprobs.content, list(choice.content_logprobs))
        )
    if part.logprobs.refusal:
        choice.refusal_logprobs += part.logprobs.refusal
        events.append(
            LogprobsRefusalDeltaEvent(part.logprobs.refusal, list(choice.refusal_logprobs))
        )
    return events


def _plain_choice(choice: _Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": choice.role,
        "content": choice.content,
        "refusal": choice.refusal,
    }
    if choice.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": call.type,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for _, call in sorted(choice.tool_calls.items())
        ]
    if choice.function_call is not None:
        call = choice.function_call
        message["function_call"] = {"name": call.name, "arguments": call.arguments}
    logprobs = None
    if choice.content_logprobs or choice.refusal_logprobs:
        logprobs = {
            "content": [item.model_dump() for item in choice.content_logprobs] or None,
            "refusal": [item.model_dump() for item in choice.refusal_logprobs] or None,
        }
    return {
        "index": choice.index,
        "finish_reason": choice.finish_reason or "",
        "message": message,
        "logprobs": logprobs,
    }
