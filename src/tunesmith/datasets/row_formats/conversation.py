"""Rules that look at a whole conversation: who speaks last, which call has which answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.row_formats.problem import Problem
from tunesmith.datasets.row_formats.tools import declared_names

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["supervised_problems", "tool_call_problems"]


def supervised_problems(
    messages: list[dict[str, Any]], row: dict[str, Any], path: str
) -> Iterator[Problem]:
    """Yield what is wrong with a conversation that the model shall learn from."""
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        yield Problem(
            "assistant-missing", path, "no message is from the assistant: nothing to learn from"
        )
    elif all(message.get("weight", 1) == 0 for message in answers):
        yield Problem(
            "weights-all-zero", path, "every assistant message has weight 0: nothing to learn from"
        )
    if answers and messages[-1]["role"] != "assistant":
        yield Problem(
            "last-message",
            f"{path}[{len(messages) - 1}].role",
            f"the last message is from the {messages[-1]['role']}, not from the assistant",
        )
    yield from tool_call_problems(messages, row, path)


def tool_call_problems(
    messages: list[dict[str, Any]], row: dict[str, Any], path: str
) -> Iterator[Problem]:
    """Yield calls of undeclared tools, answers to no call, and calls without an answer."""
    declared = declared_names(row)
    waiting: dict[str, str] = {}
    for position, message in enumerate(messages):
        place = f"{path}[{position}]"
        if message["role"] == "tool":
            if waiting.pop(message.get("tool_call_id", ""), None) is None:
                yield Problem(
                    "tool-result-orphan", place, "this tool message answers no call before it"
                )
            continue
        yield from _unanswered(waiting)
        waiting = {}
        for number, call in enumerate(_calls(message)):
            call_place = f"{place}.tool_calls[{number}]"
            if isinstance(call.get("id"), str):
                waiting[call["id"]] = call_place
            name = _called_name(call)
            if name is not None and name not in declared:
                yield Problem(
                    "tool-undeclared", call_place, f"calls {name!r}, which 'tools' does not declare"
                )
    # A conversation may end with the call itself: that is what the model learns to say.


def _unanswered(waiting: dict[str, str]) -> Iterator[Problem]:
    for identifier, place in waiting.items():
        yield Problem(
            "tool-call-unanswered", place, f"the call {identifier!r} has no tool message after it"
        )


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    if not is_array(calls):
        return []
    return [call for call in calls if is_object(call)]


def _called_name(call: dict[str, Any]) -> str | None:
    for kind in ("function", "custom"):
        function = call.get(kind)
        if is_object(function) and isinstance(function.get("name"), str):
            return str(function["name"])
    return None
