"""The fixes of rows that hold messages: chat, preference and reinforcement rows.

The transforms keep the rules of `fixes`: the same object where nothing is to be done, a new one
where something is, None to drop the row, and nothing more on a second application. Rows need not
be valid: what a transform does not understand stays as it is, for the checks to report.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .json_text import decoded
from .json_types import is_array, is_object
from .message_roles import standard_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fixes import Transform, Value

__all__ = [
    "complete_tool_calls",
    "cut_unanswered_turns",
    "developer_to_system",
    "drop_null_keys",
    "drop_unanswered",
    "encode_arguments",
    "function_calls_to_tool_calls",
    "map_roles",
    "rename_message_keys",
    "standard_messages",
    "unwrap_arguments",
    "unwrap_texts",
]

Message: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Message], Message]

_MESSAGE_LISTS: Final = ("messages", "preferred_output", "non_preferred_output")
_NESTED: Final = (*_MESSAGE_LISTS, "tools", "functions", "input")
_OPTIONAL_KEYS: Final = ("tools", "functions", "parallel_tool_calls")
_MESSAGE_KEYS: Final = {"from": "role", "value": "content"}
# Where null is a value of a JSON schema and no gap.
_NULLABLE_SCHEMA_KEYS: Final = frozenset({"default", "const", "enum", "examples", "example"})


# Helpers: the same object where nothing changes


def _set(value: Message, **changes: Any) -> Message:
    """Return the object with other fields; the same object where none differs."""
    if all(name in value and value[name] is new for name, new in changes.items()):
        return value
    return {**value, **changes}


def _each(items: Any, change: Change) -> Any:
    """Return an array with its objects changed; the same array where none is."""
    if not is_array(items):
        return items
    changed = [change(item) if is_object(item) else item for item in items]
    if all(new is old for new, old in zip(changed, items, strict=True)):
        return items
    return changed


def _change_field(value: Message, name: str, change: Callable[[Any], Any]) -> Message:
    return _set(value, **{name: change(value[name])}) if name in value else value


def _conversations(value: Value, change: Change) -> Value:
    """Apply a change to the row, and to the `input` of a preference row."""
    value = change(value)
    if is_object(value.get("input")):
        value = _change_field(value, "input", change)
    return value


def _messages(value: Value, change: Change) -> Value:
    """Apply a change to every message of a row."""

    def lists(holder: Message) -> Message:
        for name in _MESSAGE_LISTS:
            holder = _change_field(holder, name, lambda items: _each(items, change))
        return holder

    return _conversations(value, lists)


def _without(value: Message, *names: str) -> Message:
    return {key: item for key, item in value.items() if key not in names}


# Shapes of values


def unwrap_texts(value: Value) -> Value:
    """Read messages, tools and calls that are held as text."""

    def items(found: Any) -> Any:
        found = decoded(found)
        if not is_array(found):
            return found
        read = [decoded(item) for item in found]
        return found if all(new is old for new, old in zip(read, found, strict=True)) else read

    def row(holder: Message) -> Message:
        for name in _NESTED:
            holder = _change_field(holder, name, items)
        return holder

    value = _conversations(row(value), row)
    return _messages(value, lambda message: _change_field(message, "tool_calls", items))


def rename_message_keys(value: Value) -> Value:
    """Rename `from` and `value` of messages to `role` and `content`, `value` of texts to `text`."""

    def message(found: Message) -> Message:
        if "from" in found and "role" not in found and "content" not in found:
            found = {_MESSAGE_KEYS.get(name, name): item for name, item in found.items()}
        return _change_field(found, "content", lambda parts: _each(parts, _text_part))

    return _messages(value, message)


def _text_part(part: Message) -> Message:
    if part.get("type") != "text" or "text" in part or not isinstance(part.get("value"), str):
        return part
    return {("text" if name == "value" else name): item for name, item in part.items()}


def map_roles(value: Value) -> Value:
    """Write the standard role for another name of it, such as `human` for `user`."""
    return _messages(value, lambda message: _change_field(message, "role", standard_role))


def developer_to_system(value: Value) -> Value:
    """Write `system` for `developer`, a role that supervised fine-tuning does not know."""

    def role(name: Any) -> Any:
        return "system" if name == "developer" else name

    return _messages(value, lambda message: _change_field(message, "role", role))


def drop_null_keys(value: Value) -> Value:
    """Leave out keys that are null: readers of tables fill structures up with them.

    The content of an assistant message and values in JSON schemas that may be null stay.
    """

    def row(holder: Message) -> Message:
        empty = [name for name in _OPTIONAL_KEYS if name in holder and holder[name] is None]
        holder = _without(holder, *empty) if empty else holder
        for name in ("tools", "functions"):
            holder = _change_field(holder, name, _schema_without_nulls)
        declared = _declared_properties(holder)

        def message(found: Message) -> Message:
            return _message_without_nulls(found, declared)

        for name in _MESSAGE_LISTS:
            holder = _change_field(holder, name, lambda items: _each(items, message))
        return holder

    return _conversations(value, row)


def _without_nulls(value: Message) -> Message:
    empty = [name for name, item in value.items() if item is None]
    return _without(value, *empty) if empty else value


def _message_without_nulls(message: Message, declared: dict[str, set[str]]) -> Message:
    empty = [name for name, item in message.items() if item is None and name != "content"]
    message = _without(message, *empty) if empty else message

    def call(found: Message) -> Message:
        found = _without_nulls(found)
        return _change_field(found, "function", lambda it: _call_without_nulls(it, declared))

    message = _change_field(message, "tool_calls", lambda calls: _each(calls, call))
    return _change_field(message, "content", lambda parts: _each(parts, _without_nulls))


def _call_without_nulls(function: Any, declared: dict[str, set[str]]) -> Any:
    """Leave out null arguments that the tool does not have: they belong to other tools."""
    if not is_object(function) or not is_object(function.get("arguments")):
        return function
    properties = declared.get(str(function.get("name")))
    if properties is None:
        return function
    arguments = function["arguments"]
    foreign = [key for key, item in arguments.items() if item is None and key not in properties]
    return _set(function, arguments=_without(arguments, *foreign)) if foreign else function


def _declared_properties(row: Message) -> dict[str, set[str]]:
    """Return the parameters of each declared tool."""
    found: dict[str, set[str]] = {}
    tools = row.get("tools")
    for tool in tools if is_array(tools) else []:
        function = tool.get("function") if is_object(tool) else None
        parameters = function.get("parameters") if is_object(function) else None
        properties = parameters.get("properties") if is_object(parameters) else None
        if is_object(function) and is_object(properties):
            found[str(function.get("name"))] = set(properties)
    return found


def _schema_without_nulls(value: Any) -> Any:
    """Leave out nulls of tools and their schemas, at any depth."""
    if is_array(value):
        items = [_schema_without_nulls(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if not is_object(value):
        return value
    kept = {
        name: item if name in _NULLABLE_SCHEMA_KEYS else _schema_without_nulls(item)
        for name, item in value.items()
        if item is not None or name in _NULLABLE_SCHEMA_KEYS
    }
    same = len(kept) == len(value) and all(kept[name] is value[name] for name in kept)
    return value if same else kept


# Calls


def function_calls_to_tool_calls(value: Value) -> Value:
    """Write `function_call`, its answers and `functions` in the form that has replaced them."""

    def row(holder: Message) -> Message:
        if is_array(holder.get("functions")) and "tools" not in holder:
            tools = [{"type": "function", "function": one} for one in holder["functions"]]
            holder = {
                ("tools" if name == "functions" else name): (tools if name == "functions" else item)
                for name, item in holder.items()
            }
        for name in _MESSAGE_LISTS:
            holder = _change_field(holder, name, _tool_calls_of_functions)
        return holder

    return _conversations(value, row)


def _tool_calls_of_functions(items: Any) -> Any:
    if not is_array(items):
        return items
    numbers, called = count(), ""

    def message(found: Message) -> Message:
        nonlocal called
        function = found.get("function_call")
        if is_object(function) and "tool_calls" not in found:
            called = f"call_{next(numbers)}"
            call = {"id": called, "type": "function", "function": function}
            return {**_without(found, "function_call"), "tool_calls": [call]}
        if found.get("role") == "function" and called:
            return {**_without(found, "name"), "role": "tool", "tool_call_id": called}
        return found

    return _each(items, message)


def complete_tool_calls(value: Value) -> Value:
    """Write type, id and `function` of calls and tools that lack them, and whom a tool answers.

    A tool message without an id answers the first call before it that has no answer yet.
    """

    def row(holder: Message) -> Message:
        holder = _change_field(holder, "tools", lambda tools: _each(tools, _complete_tool))
        for name in _MESSAGE_LISTS:
            holder = _change_field(holder, name, _complete_calls)
        return holder

    return _conversations(value, row)


def _complete_tool(tool: Message) -> Message:
    if isinstance(tool.get("name"), str) and "function" not in tool and "custom" not in tool:
        return {"type": "function", "function": _without(tool, "type")}
    if is_object(tool.get("function")) and "type" not in tool:
        return {"type": "function", **tool}
    return tool


def _complete_calls(items: Any) -> Any:
    if not is_array(items):
        return items
    new_ids = _unused_ids(items)
    unanswered: list[str] = []

    def call(found: Message) -> Message:
        found = _complete_call(found, new_ids)
        unanswered.append(found["id"])
        return found

    def message(found: Message) -> Message:
        if is_array(found.get("tool_calls")):
            unanswered.clear()
            return _change_field(found, "tool_calls", lambda calls: _each(calls, call))
        return _answer(found, unanswered) if found.get("role") == "tool" else found

    return _each(items, message)


def _complete_call(call: Message, new_ids: Iterator[str]) -> Message:
    if isinstance(call.get("name"), str) and "function" not in call and "custom" not in call:
        function = {name: call[name] for name in ("name", "arguments") if name in call}
        call = {**_without(call, "name", "arguments"), "function": function}
    if not isinstance(call.get("id"), str) or not call["id"]:
        call = {"id": next(new_ids), **_without(call, "id")}
    if "type" not in call and is_object(call.get("function")):
        call = {"id": call["id"], "type": "function", **_without(call, "id")}
    return call


def _answer(message: Message, unanswered: list[str]) -> Message:
    """Return a tool message with the id of a call; the call is then answered."""
    identifier = message.get("tool_call_id")
    if isinstance(identifier, str) and identifier:
        if identifier in unanswered:
            unanswered.remove(identifier)
        return message
    return {**message, "tool_call_id": unanswered.pop(0)} if unanswered else message


def _unused_ids(messages: list[Any]) -> Iterator[str]:
    ids = (call.get("id") for message in messages for call in _calls(message))
    used = {name for name in ids if isinstance(name, str)}
    return (name for number in count() if (name := f"call_{number}") not in used)


def _calls(message: Any) -> list[Message]:
    calls = message.get("tool_calls") if is_object(message) else None
    return [call for call in calls if is_object(call)] if is_array(calls) else []


def _functions(value: Value, change: Change) -> Value:
    """Apply a change to the function of every call."""

    def call(found: Message) -> Message:
        function = found.get("function")
        return _set(found, function=change(function)) if is_object(function) else found

    def message(found: Message) -> Message:
        found = _change_field(found, "tool_calls", lambda calls: _each(calls, call))
        if is_object(found.get("function_call")):
            found = _change_field(found, "function_call", change)
        return found

    return _messages(value, message)


def encode_arguments(value: Value) -> Value:
    """Write the arguments of calls as JSON text; none at all become an empty object."""

    def function(found: Message) -> Message:
        arguments = found.get("arguments")
        if is_object(arguments) or is_array(arguments):
            return {**found, "arguments": json.dumps(arguments, ensure_ascii=False)}
        if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
            return {**found, "arguments": "{}"}
        return found

    return _functions(value, function)


def unwrap_arguments(value: Value) -> Value:
    """Decode arguments that are JSON of a JSON text, or an object as Python prints it."""

    def function(found: Message) -> Message:
        arguments = found.get("arguments")
        if not isinstance(arguments, str) or _is_json_object(arguments):
            return found
        inner = decoded(arguments)
        if not is_object(inner):
            return found
        return {**found, "arguments": json.dumps(inner, ensure_ascii=False)}

    return _functions(value, function)


def _is_json_object(text: str) -> bool:
    try:
        return is_object(json.loads(text))
    except (ValueError, RecursionError):
        return False


# Turns


def cut_unanswered_turns(value: Value) -> Value:
    """Cut what follows the last assistant message: nothing is learned from it."""
    messages = value.get("messages")
    if not is_array(messages):
        return value
    end = _end_of_answers(messages)
    return value if end in {0, len(messages)} else {**value, "messages": messages[:end]}


def drop_unanswered(value: Value) -> Value | None:
    """Drop rows in which the assistant says nothing at all."""
    messages = value.get("messages")
    if not is_array(messages) or not messages or not all(map(is_object, messages)):
        return value
    return value if _end_of_answers(messages) else None


def _end_of_answers(messages: list[Any]) -> int:
    """Return how many messages there are up to the last one of the assistant."""
    for position in range(len(messages), 0, -1):
        message = messages[position - 1]
        if is_object(message) and message.get("role") == "assistant":
            return position
    return 0


_STANDARD: Final[tuple[Transform, ...]] = (
    unwrap_texts,
    rename_message_keys,
    map_roles,
    drop_null_keys,
    function_calls_to_tool_calls,
    complete_tool_calls,
    encode_arguments,
    unwrap_arguments,
)


def standard_messages(value: Value) -> Value:
    """Apply all transforms that write the same conversation in its standard form."""
    for transform in _STANDARD:
        value = transform(value) or value
    return value
