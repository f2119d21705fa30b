"""Typed answers: from the text of an answer to a value of the type that was requested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tunesmith.errors import (
    APIResponseValidationError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
)
from tunesmith.types.chat import ChatCompletion
from tunesmith.types.chat_events import ParsedChatCompletion

from .answer_schemas import WRAPPER, AnswerType, answer_type, is_type, type_name
from .function_tools import parse_arguments

if TYPE_CHECKING:
    from typing_extensions import TypeForm

__all__ = [
    "UNFINISHED",
    "check_finished",
    "has_answer",
    "parse_completion",
    "parse_text",
    "partial_value",
]

UNFINISHED = frozenset({"length", "content_filter"})
"""The finish reasons of answers that were cut off, so that they cannot be parsed."""

T = TypeVar("T")


def parse_completion(
    completion: ChatCompletion, kind: TypeForm[T], tools: Sequence[Any] = ()
) -> ParsedChatCompletion[T]:
    """Return the completion with each answer read as `kind`, and arguments as their tools say.

    Raises:
        LengthFinishReasonError: An answer was cut off.
        ContentFilterFinishReasonError: An answer was stopped.
        APIResponseValidationError: An answer is not a `kind`, or arguments do not fit their tool.
    """
    data = completion.model_dump(exclude_unset=True)
    for choice, plain in zip(completion.choices, data["choices"], strict=True):
        check_finished(choice.finish_reason, completion)
        said = choice.message
        calls = bool(said.tool_calls or said.function_call)
        if is_type(kind) and has_answer(said.content, refused=bool(said.refusal), calls=calls):
            plain["message"]["parsed"] = parse_text(said.content or "", kind)
        for call, plain_call in zip(
            said.tool_calls or (), plain["message"].get("tool_calls") or (), strict=True
        ):
            if call.function is not None and tools:
                plain_call["function"]["parsed_arguments"] = parse_arguments(
                    tools, call.function.name, call.function.arguments
                )
    # Without a parameter, as pickle finds no class of the name `ParsedChatCompletion[…]`.
    parsed: ParsedChatCompletion[Any] = ParsedChatCompletion.model_validate(data)
    parsed._set_request_id(completion._request_id)
    return cast("ParsedChatCompletion[T]", parsed)


def has_answer(text: str | None, *, refused: bool, calls: bool) -> bool:
    """Return whether a message has a text to parse.

    Args:
        text: The text; beside a call of a tool it may be blank.
        refused: Whether the message is a refusal.
        calls: Whether it calls tools.
    """
    return text is not None and not refused and (bool(text.strip()) or not calls)


def check_finished(reason: str | None, completion: ChatCompletion) -> None:
    """Raise for an answer that was cut off or filtered."""
    if reason == "length":
        raise LengthFinishReasonError(
            "The answer was cut off at the token limit, so it cannot be parsed. Allow more with "
            "max_completion_tokens.",
            completion=completion,
        )
    if reason == "content_filter":
        raise ContentFilterFinishReasonError(
            "The answer was stopped by the server's content filter, so it cannot be parsed.",
            completion=completion,
        )


def parse_text(text: str, kind: Any) -> Any:
    """Return JSON text as `kind`; a type that is no object is the property `value` of one.

    A server that does not keep to schemas may send the value alone, which is taken as well.

    Raises:
        APIResponseValidationError: It is not one.
    """
    from pydantic import ValidationError

    from tunesmith.core.decode import describe_mismatch

    try:
        return _read(text, answer_type(kind))
    except ValidationError as error:
        mismatch = describe_mismatch(error)
    raise APIResponseValidationError(
        f"The answer is not a {type_name(kind)}: {mismatch}. It begins: {text[:200]!r}", body=text
    )


def _read(text: str, answer: AnswerType) -> Any:
    from pydantic import ValidationError

    if answer.wrapper is None:
        return answer.adapter.validate_json(text)
    try:
        return answer.wrapper.model_validate_json(text).value
    except ValidationError as error:
        try:
            return answer.adapter.validate_json(text)
        except ValidationError as bare_error:
            raise (error if text.lstrip().startswith("{") else bare_error) from None


def partial_value(text: str, kind: Any = None) -> object | None:
    """Return what incomplete JSON holds so far, None if nothing.

    Args:
        text: The text so far.
        kind: The type that it will be; one that is no object is taken out of its property.
    """
    from pydantic_core import from_json

    try:
        value: object = from_json(text.encode(), allow_partial=True)
    except ValueError:
        return None
    if kind is not None and answer_type(kind).wrapper is not None and isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).get(WRAPPER)
    return value
