"""Joins the chunks of a streamed chat completion and turns each into events.

Pure: chunks in, events out; the answer so far is available at any time. Each chunk costs the same,
however long the answer already is: the snapshots and parsed values that events carry are made
when they are read. Fields that are not known here are kept: texts in a delta are joined, lists
appended to, and of other fields the last value stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tunesmith.core.growing import GrowingText, frozen, joined_name, merge, moment, plain
from tunesmith.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionFunctionCallDelta,
    ChatCompletionTokenLogprob,
    ChatCompletionToolCallDelta,
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
from .formats import (
    UNFINISHED,
    check_finished,
    has_answer,
    parse_completion,
    parse_text,
    partial_value,
)

__all__ = ["ChatCompletionAccumulator"]

FormatT = TypeVar("FormatT")

# What stays as the first chunk has it, and what the last one decides.
_FIRST = ("id", "created", "model")
_LAST = ("service_tier", "system_fingerprint", "usage")
# What servers send while there is no finish reason yet.
_NO_REASON = frozenset({None, "", "null"})
# Padding against guesses from the lengths of chunks; no part of the answer.
_PADDING = "obfuscation"


@dataclass(slots=True)
class _Function:
    """A function's name and arguments, and fields that are not known here."""

    name: str = ""
    arguments: GrowingText = field(default_factory=GrowingText)
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def add(self, piece: ChatCompletionFunctionCallDelta) -> str:
        """Add a piece; return what it adds to the arguments."""
        self.name = joined_name(self.name, piece.name)
        for name, value in (piece.model_extra or {}).items():
            merge(self.extra, name, value)
        if piece.arguments:
            self.arguments.pieces.append(piece.arguments)
        return piece.arguments or ""

    def frozen(self) -> dict[str, Any]:
        """Return what the function holds now."""
        return {**frozen(self.extra), "name": self.name, "arguments": frozen(self.arguments)}


@dataclass(slots=True)
class _ToolCall:
    """A tool call so far."""

    index: int
    id: str = ""
    type: str = "function"
    function: _Function = field(default_factory=_Function)
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def frozen(self) -> dict[str, Any]:
        """Return what the call holds now."""
        return {
            **frozen(self.extra),
            # The answer to a call needs a name for it, also where the server sends none.
            "id": self.id or f"call_{self.index}",
            "type": self.type,
            "function": self.function.frozen(),
        }


@dataclass(slots=True)
class _Choice:
    """One choice so far."""

    index: int
    role: str = "assistant"
    content: GrowingText | None = None
    reasoning: GrowingText | None = None
    refusal: GrowingText | None = None
    finish_reason: str | None = None
    # The calls in the order of their indices, and the latest one at each index on the wire.
    tool_calls: list[_ToolCall] = field(default_factory=list[_ToolCall])
    calls_by_index: dict[int, _ToolCall] = field(default_factory=dict[int, _ToolCall])
    function_call: _Function | None = None
    content_logprobs: list[ChatCompletionTokenLogprob] = field(
        default_factory=list[ChatCompletionTokenLogprob]
    )
    refusal_logprobs: list[ChatCompletionTokenLogprob] = field(
        default_factory=list[ChatCompletionTokenLogprob]
    )
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    message_extra: dict[str, Any] = field(default_factory=dict[str, Any])
    logprobs_extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def frozen(self) -> Any:
        """Return what the choice holds now."""
        message: dict[str, Any] = {
            **frozen(self.message_extra),
            "role": self.role,
            "content": frozen(self.content),
            "refusal": frozen(self.refusal),
        }
        if self.reasoning is not None:
            message["reasoning_content"] = frozen(self.reasoning)
        if self.tool_calls:
            message["tool_calls"] = [call.frozen() for call in self.tool_calls]
        if self.function_call is not None:
            message["function_call"] = self.function_call.frozen()
        return {
            **frozen(self.extra),
            "index": self.index,
            "finish_reason": self.finish_reason or "",
            "message": message,
            "logprobs": self._frozen_logprobs(),
        }

    def _frozen_logprobs(self) -> dict[str, Any] | None:
        if not (self.content_logprobs or self.refusal_logprobs or self.logprobs_extra):
            return None
        return {
            **frozen(self.logprobs_extra),
            "content": moment(self.content_logprobs) if self.content_logprobs else None,
            "refusal": moment(self.refusal_logprobs) if self.refusal_logprobs else None,
        }


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
        self._add_facts(chunk)
        events: list[ChatCompletionStreamEvent[FormatT]] = []
        for part in chunk.choices:
            events += self._add_choice(part)
        state = self._frozen()
        return [ChunkEvent.later(chunk=chunk, snapshot=lambda: _snapshot(state)), *events]

    def finish(self) -> list[ChatCompletionStreamEvent[FormatT]]:
        """Return the events of choices that the stream ended without a finish reason."""
        return [
            event
            for choice in self._choices.values()
            if choice.finish_reason is None
            for event in self._done(choice)
        ]

    @property
    def snapshot(self) -> ParsedChatCompletion[FormatT]:
        """The answer so far, as a whole completion."""
        return _snapshot(self._frozen())

    def final(self) -> ParsedChatCompletion[FormatT]:
        """Return the complete answer, parsed if a type was requested.

        Raises:
            LengthFinishReasonError: The answer was cut off and a type was requested.
            APIResponseValidationError: The answer is not of that type.
        """
        if self._format is None:
            return self.snapshot
        return parse_completion(ChatCompletion.model_validate(plain(self._frozen())), self._format)

    def _frozen(self) -> dict[str, Any]:
        return {
            **self._facts,
            "object": "chat.completion",
            "choices": [self._choices[index].frozen() for index in sorted(self._choices)],
        }

    def _add_facts(self, chunk: ChatCompletionChunk) -> None:
        facts = self._facts
        for name in _FIRST:
            if not facts.get(name):
                facts[name] = getattr(chunk, name)
        for name in _LAST:
            if (value := getattr(chunk, name)) is not None:
                facts[name] = value
        for name, value in (chunk.model_extra or {}).items():
            if name != _PADDING and (value or name not in facts):
                facts[name] = value

    def _add_choice(
        self, part: ChatCompletionChunkChoice
    ) -> list[ChatCompletionStreamEvent[FormatT]]:
        choice = self._choices.get(part.index)
        if choice is None:
            choice = self._choices[part.index] = _Choice(part.index)
        choice.role = part.delta.role or choice.role
        for name, value in (part.model_extra or {}).items():
            merge(choice.extra, name, value, grows=False)
        for name, value in (part.delta.model_extra or {}).items():
            merge(choice.message_extra, name, value)
        events = [
            *self._add_text(choice, part),
            *_add_tool_calls(choice, part),
            *_add_logprobs(choice, part),
        ]
        if part.finish_reason not in _NO_REASON and choice.finish_reason is None:
            choice.finish_reason = part.finish_reason
            events += self._done(choice)
        return events

    def _add_text(
        self, choice: _Choice, part: ChatCompletionChunkChoice
    ) -> list[ChatCompletionStreamEvent[FormatT]]:
        events: list[ChatCompletionStreamEvent[FormatT]] = []
        delta = part.delta
        if delta.content is not None:
            if choice.content is None:
                choice.content = GrowingText()
            if delta.content:
                choice.content.pieces.append(delta.content)
                events.append(self._content_delta(delta.content, choice.content))
        if delta.reasoning_content:
            choice.reasoning = choice.reasoning or GrowingText()
            choice.reasoning.pieces.append(delta.reasoning_content)
        if delta.refusal:
            refusal = choice.refusal = choice.refusal or GrowingText()
            refusal.pieces.append(delta.refusal)
            count = len(refusal.pieces)
            events.append(
                RefusalDeltaEvent.later(delta=delta.refusal, snapshot=lambda: refusal.until(count))
            )
        return events

    def _content_delta(self, added: str, text: GrowingText) -> ContentDeltaEvent:
        count = len(text.pieces)
        kind = self._format
        return ContentDeltaEvent.later(
            delta=added,
            snapshot=lambda: text.until(count),
            parsed=lambda: None if kind is None else partial_value(text.until(count), kind),
        )

    def _done(self, choice: _Choice) -> list[ChatCompletionStreamEvent[FormatT]]:
        """Return the events of a choice that has ended."""
        events: list[ChatCompletionStreamEvent[FormatT]] = []
        if choice.content:
            text = str(choice.content)
            parsed: Any = None
            calls = bool(choice.tool_calls or choice.function_call)
            if self._format is not None and has_answer(
                text, refused=bool(choice.refusal), calls=calls
            ):
                if choice.finish_reason in UNFINISHED:
                    check_finished(choice.finish_reason, self.snapshot)
                parsed = parse_text(text, self._format)
            events.append(ContentDoneEvent(text, parsed))
        if choice.refusal:
            events.append(RefusalDoneEvent(str(choice.refusal)))
        if choice.content_logprobs:
            events.append(LogprobsContentDoneEvent(list(choice.content_logprobs)))
        if choice.refusal_logprobs:
            events.append(LogprobsRefusalDoneEvent(list(choice.refusal_logprobs)))
        for call in choice.tool_calls:
            arguments = str(call.function.arguments)
            events.append(
                FunctionToolCallArgumentsDoneEvent(
                    call.function.name, call.index, arguments, partial_value(arguments)
                )
            )
        return events


def _snapshot(state: Any) -> ParsedChatCompletion[Any]:
    # Without a parameter, as pickle finds no class of the name `ParsedChatCompletion[…]`.
    return ParsedChatCompletion.model_validate(plain(state))


def _add_tool_calls(
    choice: _Choice, part: ChatCompletionChunkChoice
) -> list[ChatCompletionStreamEvent[Any]]:
    events: list[ChatCompletionStreamEvent[Any]] = []
    for piece in part.delta.tool_calls or ():
        call = _call_of(choice, piece)
        call.id = call.id or piece.id or ""
        call.type = piece.type or call.type
        for name, value in (piece.model_extra or {}).items():
            merge(call.extra, name, value)
        if piece.function is None:
            continue
        added = call.function.add(piece.function)
        if added:
            events.append(_arguments_delta(call, added))
    if part.delta.function_call is not None:
        choice.function_call = choice.function_call or _Function()
        choice.function_call.add(part.delta.function_call)
    return events


def _arguments_delta(call: _ToolCall, added: str) -> FunctionToolCallArgumentsDeltaEvent:
    text = call.function.arguments
    count = len(text.pieces)
    return FunctionToolCallArgumentsDeltaEvent.later(
        name=call.function.name,
        index=call.index,
        arguments=lambda: text.until(count),
        arguments_delta=added,
        parsed_arguments=lambda: partial_value(text.until(count)),
    )


def _call_of(choice: _Choice, piece: ChatCompletionToolCallDelta) -> _ToolCall:
    """Return the call that a piece belongs to, a new one where it begins one.

    The index tells where the server sends one. Some send none, or the same for all calls.
    """
    if "index" in piece.model_fields_set:
        known = choice.calls_by_index.get(piece.index)
    else:
        same = [call for call in choice.tool_calls if piece.id and call.id == piece.id]
        known = same[0] if same else choice.tool_calls[-1] if choice.tool_calls else None
    if known is None or _begins_another(known, piece):
        taken = {call.index for call in choice.tool_calls}
        own = "index" in piece.model_fields_set and piece.index not in taken
        known = _ToolCall(piece.index if own else max(taken, default=-1) + 1)
        choice.tool_calls.append(known)
        choice.tool_calls.sort(key=lambda call: call.index)
    choice.calls_by_index[piece.index] = known
    return known


def _begins_another(call: _ToolCall, piece: ChatCompletionToolCallDelta) -> bool:
    """Return whether a piece is the start of a call after `call`, not its continuation.

    Only a piece with a name can be one. Servers also send the name, or a new id, with every
    piece, so that neither is enough: the call before must have had another name, or be whole.
    """
    function = piece.function
    if function is None or not function.name or not call.function.name:
        return False
    if piece.id and piece.id == call.id:
        return False
    new_id = bool(piece.id and call.id)
    if function.name != call.function.name and (new_id or call.function.arguments):
        return True
    begins_anew = (function.arguments or "").lstrip().startswith("{")
    return (new_id or begins_anew) and _is_whole(call.function.arguments)


def _is_whole(arguments: GrowingText) -> bool:
    """Return whether arguments are a complete JSON object."""
    if not arguments.pieces or not arguments.pieces[-1].rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(str(arguments)), dict)
    except (ValueError, RecursionError):
        return False


def _add_logprobs(
    choice: _Choice, part: ChatCompletionChunkChoice
) -> list[ChatCompletionStreamEvent[Any]]:
    events: list[ChatCompletionStreamEvent[Any]] = []
    if part.logprobs is None:
        return events
    for name, value in (part.logprobs.model_extra or {}).items():
        merge(choice.logprobs_extra, name, value)
    content, refusal = choice.content_logprobs, choice.refusal_logprobs
    if added := part.logprobs.content:
        content += added
        count = len(content)
        events.append(
            LogprobsContentDeltaEvent.later(content=added, snapshot=lambda: content[:count])
        )
    if added := part.logprobs.refusal:
        refusal += added
        refusals = len(refusal)
        events.append(
            LogprobsRefusalDeltaEvent.later(refusal=added, snapshot=lambda: refusal[:refusals])
        )
    return events
