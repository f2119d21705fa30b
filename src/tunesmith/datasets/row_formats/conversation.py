"""Rules that look at a whole conversation: who speaks last, which call has a tool message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.json_types import is_array, is_object

from .problem import Problem
from .tool_arguments import first_misfit
from .tools import declared_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["supervised_problems", "tool_call_problems"]


def supervised_problems(
    messages: list[dict[str, Any]], row: dict[str, Any], path: str
) -> Iterator[Problem]:
    """Yield what is wrong with a conversation for supervised fine-tuning."""
    assistant_messages = [message for message in messages if message["role"] == "assistant"]
    if not assistant_messages:
        yield Problem(
            "assistant-missing", path, "no message is from the assistant: nothing to learn from"
        )
    elif all(message.get("weight", 1) == 0 for message in assistant_messages):
        yield Problem(
            "weights-all-zero", path, "every assistant message has weight 0: nothing to learn from"
        )
    if assistant_messages and messages[-1]["role"] != "assistant":
        yield Problem(
            "last-message",
            f"{path}[{len(messages) - 1}].role",
            f"the last message is from the {messages[-1]['role']}, not from the assistant",
        )
    yield from tool_call_problems(messages, row, path)


def tool_call_problems(
    messages: list[dict[str, Any]], row: dict[str, Any], path: str
) -> Iterator[Problem]:
    """Yield calls that no tool allows, answers to no call, and calls without an answer."""
    declared = declared_schemas(row)
    unanswered: dict[str, str] = {}
    for position, message in enumerate(messages):
        message_path = f"{path}[{position}]"
        if message["role"] == "tool":
            if unanswered.pop(message.get("tool_call_id", ""), None) is None:
                yield Problem(
                    "tool-result-orphan",
                    message_path,
                    "this tool message answers no call before it",
                )
            continue
        yield from _unanswered_problems(unanswered)
        unanswered = {}
        yield from _function_call_problems(message, declared, message_path)
        for number, call in enumerate(_calls(message)):
            call_path = f"{message_path}.tool_calls[{number}]"
            if isinstance(call.get("id"), str):
                unanswered[call["id"]] = call_path
            name = _called_name(call)
            if name is not None and name not in declared:
                yield Problem(
                    "tool-undeclared", call_path, f"calls {name!r}, which 'tools' does not declare"
                )
            elif name is not None:
                yield from _argument_problems(
                    call.get("function"), name, declared[name], f"{call_path}.function"
                )
    # A conversation may end with the call itself: the call is then what the model learns.


def _function_call_problems(
    message: dict[str, Any], declared: dict[str, Any], message_path: str
) -> Iterator[Problem]:
    """Yield what is wrong with the older form of a call."""
    call = message.get("function_call")
    name = call.get("name") if is_object(call) else None
    if not isinstance(name, str):
        return
    path = f"{message_path}.function_call"
    if name in declared:
        yield from _argument_problems(call, name, declared[name], path)
    else:
        yield Problem(
            "tool-undeclared", path, f"calls {name!r}, which 'functions' does not declare"
        )


def _argument_problems(function: Any, name: str, schema: Any, path: str) -> Iterator[Problem]:
    arguments = function.get("arguments") if is_object(function) else None
    if not isinstance(arguments, str):
        return
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return
    if is_object(value) and (misfit := first_misfit(value, schema)):
        yield Problem(
            "tool-arguments-schema",
            f"{path}.arguments",
            f"the arguments of {name!r} do not fit its schema: {misfit}",
        )


def _unanswered_problems(unanswered: dict[str, str]) -> Iterator[Problem]:
    for identifier, call_path in unanswered.items():
        yield Problem(
            "tool-call-unanswered",
            call_path,
            f"the call {identifier!r} has no tool message after it",
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
