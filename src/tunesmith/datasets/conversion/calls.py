"""Calls of tools, between OpenAI's messages and formats that write them in their own way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.json_types import is_array, is_object

from .example import NotConvertibleError

if TYPE_CHECKING:
    from .example import Message

__all__ = ["CallIds", "call_parts", "calls_of", "declarations", "new_call"]


class CallIds:
    """Numbers the calls of a conversation, and remembers which are still to be answered.

    Attributes:
        names: The function that each call names, by the id of the call.
        unanswered: The ids of the calls without an answer, in their order.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.unanswered: list[str] = []

    def add(self, name: str, identifier: str | None = None) -> str:
        """Return the id of a new call."""
        identifier = identifier or f"call_{len(self.names)}"
        self.names[identifier] = name
        self.unanswered.append(identifier)
        return identifier

    def answered(self, name: str | None = None, identifier: str | None = None) -> str:
        """Return the id of the next call without an answer.

        Args:
            name: The function that was called, where that is known.
            identifier: The id of the call, where that is known.

        Raises:
            NotConvertibleError: There is no such call.
        """
        if identifier in self.unanswered:
            self.unanswered.remove(identifier)
            return identifier
        matches = [one for one in self.unanswered if name is None or self.names[one] == name]
        if not matches:
            raise NotConvertibleError("the result of a tool answers no call before it")
        self.unanswered.remove(matches[0])
        return matches[0]


def new_call(ids: CallIds, name: Any, arguments: Any, identifier: str | None = None) -> Message:
    """Return a call as OpenAI writes it.

    Raises:
        NotConvertibleError: It names no function.
    """
    if not isinstance(name, str) or not name:
        raise NotConvertibleError("a call names no function")
    if arguments is None:
        arguments = {}
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    function = {"name": name, "arguments": text}
    return {"id": ids.add(name, identifier), "type": "function", "function": function}


def calls_of(message: Message) -> list[Message]:
    """Return the calls of a message that are objects."""
    calls = message.get("tool_calls")
    return [call for call in calls if is_object(call)] if is_array(calls) else []


def call_parts(call: Message) -> tuple[str, str, dict[str, Any]]:
    """Return id, name and arguments of a call.

    Raises:
        NotConvertibleError: It is no call of a function, or its arguments are no object.
    """
    function = call.get("function")
    if not is_object(function):
        raise NotConvertibleError(f"it has a call of type {call.get('type')!r}")
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (ValueError, TypeError, RecursionError):
        arguments = None
    if not is_object(arguments):
        raise NotConvertibleError(f"the arguments of {function.get('name')!r} are no JSON object")
    return str(call.get("id")), str(function.get("name")), arguments


def declarations(tools: list[Any] | None) -> list[dict[str, Any]]:
    """Return the functions that tools declare.

    Raises:
        NotConvertibleError: A tool is no function.
    """
    functions: list[dict[str, Any]] = []
    for position, tool in enumerate(tools or []):
        function = tool.get("function") if is_object(tool) else None
        if not is_object(function):
            raise NotConvertibleError("it is no function", f"$.tools[{position}]")
        functions.append(function)
    return functions
