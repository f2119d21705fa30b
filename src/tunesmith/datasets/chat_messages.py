"""Chat messages in the one form in which they are counted, learned and served.

Rows and requests say the same thing in several ways: arguments as JSON text or as an object,
content as text, as parts or left out beside a call, calls in the older form of functions. Token
counts, training and serving all read messages in the form that is made here, so a model learns
what it will be asked. Knows no template and no tokenizer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from .json_types import is_array, is_object
from .message_roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MessageError", "normalize_messages", "normalize_tools"]

_TEXT_PARTS: Final = frozenset({"text", "refusal"})
# The names under which data sets, and servers of models that think, keep what was thought.
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")


class MessageError(ValueError):
    """A message says something that models which read and write text cannot take.

    Attributes:
        path: The place in the messages, such as `messages[2].content[0]`.
        reason: What is wrong there, as the rest of a sentence that begins with the place.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[MessageError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


def normalize_messages(
    messages: Sequence[Any], path: str = "messages", *, skip_other_parts: bool = False
) -> list[dict[str, Any]]:
    """Return messages in the form that chat templates read; the given ones are not changed.

    One message becomes one message. Each has `role` and `content`, a text; an assistant's
    message may have `reasoning_content` and `tool_calls`, whose arguments are objects; any may
    have a `name`, and a tool's message has the `tool_call_id` that it answers. Weights and
    fields that no template reads are left out.

    Args:
        messages: Messages as in a row or a request.
        path: Where they stand, for errors.
        skip_other_parts: Whether to leave out parts that are no text, such as images; else they
            are an error.

    Raises:
        MessageError: A message has no such form.
    """
    reader = _Reader(skip_other_parts=skip_other_parts)
    return [reader.message(one, f"{path}[{index}]") for index, one in enumerate(messages)]


def normalize_tools(tools: Any, functions: Any = None) -> list[dict[str, Any]] | None:
    """Return the declared tools in the form that chat templates read; None for no tools.

    Args:
        tools: The tools of a row or a request.
        functions: Functions declared in the older form.

    Raises:
        MessageError: A tool is no function, or has no name.
    """
    declared = [
        (tool.get("function") if is_object(tool) and tool.get("type") == "function" else None, name)
        for tool, name in _numbered(tools, "tools")
    ]
    declared += _numbered(functions, "functions")
    for function, path in declared:
        if not is_object(function) or not isinstance(function.get("name"), str):
            raise MessageError(path, "must be a function with a name.")
    return [{"type": "function", "function": function} for function, _ in declared] or None


def _numbered(values: Any, name: str) -> list[tuple[Any, str]]:
    if not is_array(values):
        if values is None:
            return []
        raise MessageError(name, "must be a list.")
    return [(value, f"{name}[{index}]") for index, value in enumerate(values)]


class _Reader:
    """Reads messages in order: a result in the older form belongs to the call before it."""

    def __init__(self, *, skip_other_parts: bool) -> None:
        self._skip_other_parts = skip_other_parts
        self._function_calls = 0

    def message(self, message: Any, path: str) -> dict[str, Any]:
        role = message.get("role") if is_object(message) else None
        if not is_object(message) or not isinstance(role, str) or role not in ROLES:
            raise MessageError(
                f"{path}.role", f"is {role!r}; it must be one of: {', '.join(sorted(ROLES))}."
            )
        calls = self._calls(message, path) if role == "assistant" else []
        result: dict[str, Any] = {
            "role": {"developer": "system", "function": "tool"}.get(role, role),
            "content": self._content(message, path, optional=bool(calls) or role == "function"),
        }
        reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
        if role == "assistant" and reasoning is not None:
            if not isinstance(reasoning, str):
                raise MessageError(f"{path}.reasoning_content", "must be a string.")
            result["reasoning_content"] = reasoning
        if calls:
            result["tool_calls"] = calls
        for name in ("name", "tool_call_id"):
            if isinstance(message.get(name), str):
                result[name] = message[name]
        if role == "function":
            result["tool_call_id"] = _function_call_id(self._function_calls)
        return result

    def _content(self, message: dict[str, Any], path: str, *, optional: bool) -> str:
        content = message.get("content")
        if isinstance(content, str):
            return content
        if content is None and (optional or message.get("refusal")):
            return str(message.get("refusal") or "")
        if not is_array(content) or not (content or optional):
            raise _wrong_content(f"{path}.content")
        texts = [self._part(part, f"{path}.content[{index}]") for index, part in enumerate(content)]
        return "".join(texts)

    def _part(self, part: Any, path: str) -> str:
        kind = part.get("type") if is_object(part) else None
        text = part.get(kind) if is_object(part) and kind in _TEXT_PARTS else None
        if isinstance(text, str):
            return text
        if self._skip_other_parts:
            return ""
        raise _wrong_content(path)

    def _calls(self, message: dict[str, Any], path: str) -> list[dict[str, Any]]:
        calls = message.get("tool_calls") or []
        if not is_array(calls):
            raise MessageError(f"{path}.tool_calls", "must be a list.")
        found = [
            _call(call, call.get("function"), f"{path}.tool_calls[{index}]")
            if is_object(call)
            else _call({}, None, f"{path}.tool_calls[{index}]")
            for index, call in enumerate(calls)
        ]
        if message.get("function_call"):
            self._function_calls += 1
            identity = {"id": _function_call_id(self._function_calls)}
            found.append(_call(identity, message["function_call"], f"{path}.function_call"))
        return found


def _call(call: dict[str, Any], function: Any, path: str) -> dict[str, Any]:
    """Return a call of a function, its arguments as an object."""
    if not is_object(function) or not isinstance(function.get("name"), str):
        raise MessageError(path, "must have a function with a name.")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = _decoded(arguments, path)
    if not is_object(arguments):
        raise MessageError(f"{path}.function.arguments", "must hold a JSON object.")
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _decoded(arguments: str, path: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        raise MessageError(f"{path}.function.arguments", "is not valid JSON.") from None


def _function_call_id(number: int) -> str:
    return f"function{number}"


def _wrong_content(path: str) -> MessageError:
    return MessageError(
        path,
        'must be a string, or a list of parts {"type": "text", "text": …}: the models here read '
        "text only.",
    )
