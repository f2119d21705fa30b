"""Typed answers: from a Python type to the schema to send, and from the answer to the type.

The schema follows the strict rules of structured outputs: every property is required and no
other is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from tunesmith.errors import (
    APIResponseValidationError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    TunesmithError,
)
from tunesmith.types.chat import ChatCompletion
from tunesmith.types.chat_events import ParsedChatCompletion

__all__ = ["parse_completion", "parse_text", "response_format_of"]

T = TypeVar("T")


def response_format_of(kind: Any) -> Any:
    """Return the `response_format` to send for a type; mappings pass as they are.

    Raises:
        TunesmithError: The type has no JSON schema.
    """
    if not is_type(kind):
        return kind
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        schema = TypeAdapter[Any](kind).json_schema()
    except PydanticUserError as error:
        raise TunesmithError(f"{kind!r} cannot be a response_format: {error}") from error
    return {
        "type": "json_schema",
        "json_schema": {
            "name": getattr(kind, "__name__", "answer"),
            "schema": _strict(schema),
            "strict": True,
        },
    }


def is_type(kind: Any) -> bool:
    """Return whether a `response_format` is a Python type to parse into."""
    return isinstance(kind, type)


def parse_completion(completion: ChatCompletion, kind: type[T]) -> ParsedChatCompletion[T]:
    """Return the completion with each answer read as `kind`.

    Raises:
        LengthFinishReasonError: An answer was cut off.
        ContentFilterFinishReasonError: An answer was stopped.
        APIResponseValidationError: An answer is not a `kind`.
    """
    data = completion.model_dump()
    for choice, plain in zip(completion.choices, data["choices"], strict=True):
        check_finished(choice.finish_reason, completion)
        text = choice.message.content
        if text is not None and not choice.message.refusal and is_type(kind):
            plain["message"]["parsed"] = parse_text(text, kind)
    parsed = ParsedChatCompletion[Any].model_validate(data)
    parsed._set_request_id(completion._request_id)
    return cast("ParsedChatCompletion[T]", parsed)


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
    """Return JSON text as `kind`.

    Raises:
        APIResponseValidationError: It is not one.
    """
    from pydantic import TypeAdapter, ValidationError

    from tunesmith.core.decode import describe_mismatch

    try:
        return TypeAdapter[Any](kind).validate_json(text)
    except ValidationError as error:
        name = getattr(kind, "__name__", str(kind))
        raise APIResponseValidationError(
            f"The answer is not a {name}: {describe_mismatch(error)}. It begins: {text[:200]!r}",
            body=text,
        ) from None


def _strict(schema: Any) -> Any:
    """Return a JSON schema in which objects have exactly the properties they name."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, Mapping):
        return schema
    strict = {name: _strict(value) for name, value in cast("Mapping[str, Any]", schema).items()}
    if strict.get("type") == "object":
        strict.setdefault("additionalProperties", False)
        properties = strict.get("properties")
        if isinstance(properties, Mapping):
            strict["required"] = list(cast("Mapping[str, Any]", properties))
    if strict.get("default", ...) is None:
        del strict["default"]
    return strict
