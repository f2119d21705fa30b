"""Rules of a preference row: one input, the answer that is preferred and the one that is not.

Source: FineTunePreferenceRequestInput of the OpenAI OpenAPI description: text only, each output
an array of at most one assistant message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.json_types import is_array, is_object

from . import conversation, messages, tools
from .problem import Problem, describe, unknown_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["problems"]

_FIELDS: Final = frozenset({"input", "preferred_output", "non_preferred_output"})
_INPUT_FIELDS: Final = frozenset({"messages", "tools", "parallel_tool_calls"})
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_OUTPUT_ROLES: Final = frozenset({"assistant", "tool"})


def problems(value: dict[str, Any]) -> Iterator[Problem]:
    """Yield every problem of a preference row."""
    for name in ("input", "preferred_output", "non_preferred_output"):
        if name not in value:
            yield Problem("missing-field", f"$.{name}", f"no field {name!r}")
    if "input" in value:
        yield from _input(value["input"])
    for name in ("preferred_output", "non_preferred_output"):
        if name in value:
            yield from _output(value[name], name)
    preferred = value.get("preferred_output")
    if preferred and preferred == value.get("non_preferred_output"):
        yield Problem(
            "outputs-identical",
            "$.non_preferred_output",
            "both outputs are the same: no preference",
        )
    yield from unknown_fields(value, _FIELDS, "$")


def _input(value: Any) -> Iterator[Problem]:
    if not is_object(value):
        yield Problem("field-type", "$.input", f"'input' must be an object, not {describe(value)}")
        return
    found = value.get("messages")
    if not is_array(found):
        yield Problem("missing-field", "$.input.messages", "'input' needs an array 'messages'")
    elif not found:
        yield Problem("messages-empty", "$.input.messages", "'messages' is empty")
    else:
        valid = True
        for position, message in enumerate(found):
            message_path = f"$.input.messages[{position}]"
            for problem in _message(message, message_path, _ROLES):
                valid = False
                yield problem
        if valid:
            yield from conversation.tool_call_problems(found, value, "$.input.messages")
    yield from tools.problems(value, "$.input")
    yield from unknown_fields(value, _INPUT_FIELDS, "$.input")


def _output(value: Any, name: str) -> Iterator[Problem]:
    path = f"$.{name}"
    if not is_array(value):
        yield Problem("field-type", path, f"{name!r} must be an array, not {describe(value)}")
        return
    if len(value) != 1:
        yield Problem("output-count", path, f"{name!r} must hold one message, not {len(value)}")
    for position, message in enumerate(value):
        yield from _message(message, f"{path}[{position}]", _OUTPUT_ROLES)


def _message(message: Any, message_path: str, roles: frozenset[str]) -> Iterator[Problem]:
    if not is_object(message):
        yield Problem(
            "field-type", message_path, f"a message must be an object, not {describe(message)}"
        )
        return
    yield from messages.problems(message, message_path, roles)
    content = message.get("content")
    if is_array(content) and any(
        is_object(part) and part.get("type") == "image_url" for part in content
    ):
        yield Problem(
            "part-untrainable", f"{message_path}.content", "preference rows hold text only"
        )
