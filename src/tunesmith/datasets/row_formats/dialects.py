"""What single destinations ask of a row beyond its format.

Sources: for `mistral-finetune` the code of github.com/mistralai/mistral-finetune
(`finetune/data/tokenize.py`, June 2026) with mistral-common 1.13.1 (the validator of version 3 in
fine-tuning mode); for `together` the `check_file` of together 2.5.0, the last to look into rows
before they are uploaded, since when the service applies its rules itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tunesmith.datasets.json_types import is_array, is_object

from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.datasets.rows import RowFormat

__all__ = ["Dialect", "dialect_problems"]

Dialect: TypeAlias = Literal["", "mistral-finetune", "together"]

_MISTRAL_FOLLOWING: Final = {
    "user": {"assistant", "user"},
    "assistant": {"assistant", "user", "tool"},
    "tool": {"assistant", "tool", "user"},
}
_MISTRAL_CALL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")
_TOGETHER_COLUMNS: Final[dict[str, frozenset[str]]] = {
    "prompt_completion": frozenset({"prompt", "completion"}),
    "chat": frozenset({"messages", "tools"}),
    "preference": frozenset({"input", "preferred_output", "non_preferred_output"}),
}


def dialect_problems(
    value: dict[str, Any], row_format: RowFormat, dialect: Dialect
) -> Iterator[Problem]:
    """Yield what a destination refuses in a row; the row need not follow its format."""
    if dialect == "mistral-finetune":
        yield from _mistral(value)
    elif dialect == "together":
        yield from _together(value, row_format)


def _messages(value: Any) -> list[dict[str, Any]]:
    found = value.get("messages") if is_object(value) else None
    return [message for message in found if is_object(message)] if is_array(found) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if is_object(item)] if is_array(value) else []


# mistral-finetune


def _mistral(value: dict[str, Any]) -> Iterator[Problem]:
    messages = _messages(value)
    yield from _mistral_order(messages)
    for position, message in enumerate(messages):
        last = position == len(messages) - 1
        yield from _mistral_message(message, f"$.messages[{position}]", last=last)
    for position, tool in enumerate(_objects(value.get("tools"))):
        function = tool.get("function")
        for name in ("description", "parameters"):
            if is_object(function) and name not in function:
                yield Problem(
                    "missing-field",
                    f"$.tools[{position}].function.{name}",
                    f"a function needs {name!r}",
                )


def _mistral_message(message: dict[str, Any], path: str, *, last: bool) -> Iterator[Problem]:
    calls = _objects(message.get("tool_calls"))
    content = message.get("content")
    if message.get("role") == "assistant" and calls and content:
        yield Problem("content-and-calls", path, "an assistant message has either content or calls")
    if message.get("role") == "assistant" and not calls and content == "":
        yield Problem("content-missing", path, "an assistant message has content or calls")
    for part in _objects(content):
        if part.get("type") not in {"text", "image_url"}:
            yield Problem("part-type", f"{path}.content", f"a part {part.get('type')!r}")
    for number, call in enumerate(calls):
        yield from _mistral_id(call.get("id"), f"{path}.tool_calls[{number}].id", last=last)
    if message.get("role") == "tool":
        yield from _mistral_id(message.get("tool_call_id"), f"{path}.tool_call_id")


def _mistral_order(messages: list[dict[str, Any]]) -> Iterator[Problem]:
    """Yield what is wrong with the order of roles; one system message is allowed, anywhere."""
    spoken = [(n, m.get("role")) for n, m in enumerate(messages) if m.get("role") != "system"]
    systems = [n for n, message in enumerate(messages) if message.get("role") == "system"]
    if len(systems) > 1:
        yield Problem("role-order", f"$.messages[{systems[1]}].role", "a second system message")
    if len(spoken) == 1:
        yield Problem("role-order", "$.messages", "a conversation begins with a user message")
    pending = 0
    for (_, before), (position, role) in zip([(0, None), *spoken], spoken, strict=False):
        path = f"$.messages[{position}]"
        if before in _MISTRAL_FOLLOWING and role not in _MISTRAL_FOLLOWING[str(before)]:
            yield Problem("role-order", f"{path}.role", f"{role!r} after {before!r}")
        if before is None:
            continue
        if role == "tool":
            pending -= 1
        elif role == "assistant":
            if pending:
                yield Problem("role-order", path, "not as many tool messages as calls before it")
            pending = len(_objects(messages[position].get("tool_calls")))


def _mistral_id(identifier: Any, path: str, *, last: bool = False) -> Iterator[Problem]:
    if not isinstance(identifier, str) or (last and identifier == "null"):
        return
    if not _MISTRAL_CALL_ID.fullmatch(identifier):
        yield Problem(
            "tool-call-id-form", path, f"the id {identifier!r} must be nine letters or digits"
        )


# together


def _together(value: dict[str, Any], row_format: RowFormat) -> Iterator[Problem]:
    columns = _TOGETHER_COLUMNS.get(row_format, frozenset(value))
    for name in value:
        if name not in columns:
            yield Problem("column-refused", f"$.{name}", f"the key {name!r} is not accepted")
    if row_format == "preference":
        yield from _together_preference(value)
    elif row_format == "chat":
        yield from _together_messages(_messages(value), "$.messages")


def _together_preference(value: dict[str, Any]) -> Iterator[Problem]:
    messages = _messages(value.get("input"))
    yield from _together_messages(messages, "$.input.messages")
    if messages and messages[-1].get("role") == "assistant":
        yield Problem(
            "role-order",
            f"$.input.messages[{len(messages) - 1}].role",
            "the input ends with the assistant, whose answer is to be compared",
        )
    for name in ("preferred_output", "non_preferred_output"):
        for output in _objects(value.get(name))[:1]:
            if output.get("role") != "assistant":
                yield Problem("role-order", f"$.{name}[0].role", "the output is the assistant's")
            if output.get("content") is None:
                yield Problem("content-missing", f"$.{name}[0].content", "an output has content")


def _together_messages(messages: list[dict[str, Any]], path: str) -> Iterator[Problem]:
    kinds: set[bool] = set()
    for position, message in enumerate(messages):
        yield from _together_message(message, f"{path}[{position}]")
        if content := message.get("content"):
            kinds.add(is_array(content))
    if len(kinds) > 1:
        yield Problem(
            "content-mixed", path, "contents must be all texts or all lists of parts, not both"
        )


def _together_message(message: dict[str, Any], path: str) -> Iterator[Problem]:
    role = message.get("role")
    if role == "function":
        yield Problem("role-unknown", f"{path}.role", "role 'function'")
    if "content" not in message and (role != "assistant" or "tool_calls" not in message):
        yield Problem("missing-field", f"{path}.content", "no key 'content'")
    if isinstance(message.get("weight"), float):
        yield Problem("weight-value", f"{path}.weight", "'weight' is no integer")
    parts = _objects(message.get("content"))
    images = [part for part in parts if part.get("type") == "image_url"]
    if images and message.get("weight") not in {None, 0}:
        yield Problem("weight-value", f"{path}.weight", "a message with images has weight 0")
    for part in parts:
        if part.get("type") not in {"text", "image_url"}:
            yield Problem("part-type", f"{path}.content", f"a part {part.get('type')!r}")
    for image in images:
        source = image.get("image_url")
        url = source.get("url") if is_object(source) else None
        if isinstance(url, str) and url.startswith("http"):
            yield Problem(
                "image-source",
                f"{path}.content",
                "images must be data (data:image/png;base64,…), not addresses",
            )
