"""Rules of one chat message: its role, its content, its calls, its weight."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.json_types import is_array, is_object

from . import content, tools
from .problem import Problem, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["problems"]

_COMMON: Final = frozenset({"role", "content", "name"})
_FIELDS: Final = {
    "system": _COMMON,
    "developer": _COMMON,
    "user": _COMMON,
    "assistant": _COMMON
    | {"refusal", "tool_calls", "function_call", "weight", "audio", "annotations"},
    "tool": frozenset({"role", "content", "tool_call_id"}),
    "function": _COMMON,
}


def problems(message: dict[str, Any], path: str, roles: frozenset[str]) -> Iterator[Problem]:
    """Yield every problem of one message.

    Args:
        message: The message.
        path: Its JSON path.
        roles: The roles that this kind of row allows.
    """
    role = message.get("role")
    if role is None:
        yield Problem("role-missing", f"{path}.role", "the message has no 'role'")
        return
    if not isinstance(role, str) or role not in roles:
        allowed = ", ".join(sorted(roles))
        shown = repr(role) if isinstance(role, str) else describe(role)
        yield Problem("role-unknown", f"{path}.role", f"role {shown}; it must be one of {allowed}")
        return
    if role == "assistant":
        yield from _assistant_problems(message, path)
    else:
        yield from content.problems(message, path, role)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield Problem(
            "tool-call-id-missing",
            f"{path}.tool_call_id",
            "a tool message needs the 'tool_call_id' that it answers, as a string",
        )
    if role == "function" and not isinstance(message.get("name"), str):
        yield Problem("missing-field", f"{path}.name", "a function message needs a 'name'")
    if role in {"system", "user", "developer", "assistant"}:
        yield from _optional_string(message, "name", path)
    for key in message:
        if key == "weight" and role != "assistant":
            yield Problem(
                "weight-ignored", f"{path}.weight", f"'weight' on a {role} message has no effect"
            )
        elif key not in _FIELDS[role]:
            yield Problem("unknown-field", f"{path}.{key}", f"unknown field {key!r} in a message")


def _optional_string(
    message: dict[str, Any], name: str, path: str, *, nullable: bool = False
) -> Iterator[Problem]:
    if name not in message or isinstance(message[name], str):
        return
    if nullable and message[name] is None:
        return
    yield Problem(
        "field-type", f"{path}.{name}", f"{name!r} must be a string, not {describe(message[name])}"
    )


def _assistant_problems(message: dict[str, Any], path: str) -> Iterator[Problem]:
    yield from _optional_string(message, "refusal", path, nullable=True)
    calls = message.get("tool_calls")
    if "tool_calls" in message:
        yield from _tool_calls(calls, f"{path}.tool_calls")
    if message.get("function_call") is not None:
        yield from _call(message["function_call"], f"{path}.function_call")
    content_optional = bool(calls) or any(
        message.get(name) for name in ("function_call", "refusal", "audio")
    )
    yield from content.problems(message, path, "assistant", optional=content_optional)
    if "weight" in message:
        weight = message["weight"]
        if isinstance(weight, bool) or weight not in (0, 1):
            yield Problem(
                "weight-value",
                f"{path}.weight",
                f"'weight' must be 0 or 1, not {json.dumps(weight)[:40]}",
            )


def _tool_calls(calls: Any, path: str) -> Iterator[Problem]:
    if not is_array(calls):
        yield Problem("field-type", path, f"'tool_calls' must be an array, not {describe(calls)}")
        return
    for position, call in enumerate(calls):
        call_path = f"{path}[{position}]"
        if not is_object(call):
            yield Problem(
                "field-type", call_path, f"a call must be an object, not {describe(call)}"
            )
            continue
        if not isinstance(call.get("id"), str):
            yield Problem(
                "tool-call-id-missing", f"{call_path}.id", "a tool call needs an 'id' string"
            )
        kind = call.get("type")
        if kind == "custom":
            yield from _custom_call(call.get("custom"), f"{call_path}.custom")
        elif kind == "function":
            yield from _call(call.get("function"), f"{call_path}.function")
        else:
            yield Problem(
                "tool-call-type",
                f"{call_path}.type",
                "the 'type' of a tool call must be 'function'",
            )


def _call(function: Any, path: str) -> Iterator[Problem]:
    if not is_object(function):
        yield Problem(
            "field-type", path, f"a function call must be an object, not {describe(function)}"
        )
        return
    if not isinstance(function.get("name"), str):
        yield Problem("missing-field", f"{path}.name", "a function call needs a 'name' string")
    yield from tools.name_problems(function.get("name"), f"{path}.name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        yield Problem(
            "tool-arguments-type",
            f"{path}.arguments",
            f"'arguments' must be a string that holds JSON, not {describe(arguments)}",
        )
        return
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        yield Problem(
            "tool-arguments-json",
            f"{path}.arguments",
            f"'arguments' does not hold valid JSON: {error}",
        )
        return
    if not is_object(value):
        twice = ": it was encoded twice" if isinstance(value, str) and _is_object(value) else ""
        yield Problem(
            "tool-arguments-object",
            f"{path}.arguments",
            f"'arguments' must hold a JSON object, not {describe(value)}{twice}",
        )


def _is_object(text: str) -> bool:
    try:
        return is_object(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _custom_call(custom: Any, path: str) -> Iterator[Problem]:
    if not is_object(custom):
        yield Problem(
            "field-type", path, f"a custom call must be an object, not {describe(custom)}"
        )
        return
    for name in ("name", "input"):
        if not isinstance(custom.get(name), str):
            yield Problem(
                "missing-field", f"{path}.{name}", f"a custom call needs a {name!r} string"
            )
