"""Validation of `tools`, `tool_choice` and `response_format` of a chat request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tunesmith.datasets.chat_messages import normalize_tools

from .http_errors import ApiError, invalid

__all__ = ["ToolUse", "response_schema", "tool_use"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_TOOLS = 128


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request.

    Attributes:
        tools: The tools' definitions, for the chat template; empty if none may be used.
        forced: The functions one of which must be called; empty if the model decides.
        parallel: Whether one answer may call several tools.
    """

    tools: list[dict[str, Any]]
    forced: list[dict[str, Any]]
    parallel: bool = True

    @property
    def names(self) -> frozenset[str]:
        """The names of the tools."""
        return frozenset(tool["function"]["name"] for tool in self.tools)


def tool_use(
    tools: list[dict[str, Any]] | None,
    choice: str | dict[str, Any] | None,
    *,
    parallel: bool | None,
) -> ToolUse:
    """Return how a request uses tools.

    Raises:
        ApiError: 400 for an invalid tool or tool choice.
    """
    functions = [_function(tool, index) for index, tool in enumerate(tools or [])]
    if len(functions) > MAX_TOOLS:
        raise invalid(f"At most {MAX_TOOLS} tools are accepted.", param="tools")
    if not functions:
        if choice not in {None, "none"} if isinstance(choice, str | None) else True:
            raise invalid("tool_choice needs tools to choose from.", param="tool_choice")
        return ToolUse([], [])
    forced = _forced(functions, choice)
    if choice == "none":
        return ToolUse([], [])
    return ToolUse(normalize_tools(tools) or [], forced, parallel is not False)


def response_schema(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the JSON schema that an answer must follow; None if it is free.

    Raises:
        ApiError: 400 for an unknown or incomplete format.
    """
    if response_format is None:
        return None
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise invalid(
            f"response_format.type is {kind!r}; it must be one of: text, json_object, json_schema.",
            param="response_format.type",
        )
    described = response_format.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise invalid(
            "response_format.json_schema.schema must be a JSON schema, an object.",
            param="response_format.json_schema.schema",
        )
    return schema


def _function(tool: dict[str, Any], index: int) -> dict[str, Any]:
    path = f"tools[{index}]"
    if tool.get("type") != "function":
        raise invalid(
            f"{path}.type is {tool.get('type')!r}; this engine knows the type 'function'.",
            param=f"{path}.type",
        )
    function = tool.get("function")
    if not isinstance(function, dict):
        raise _wrong(f"{path}.function", "an object with a name")
    name = function.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _wrong(f"{path}.function.name", "1 to 64 letters, digits, hyphens and underscores")
    if not isinstance(function.get("parameters"), dict | None):
        raise _wrong(f"{path}.function.parameters", "a JSON schema, an object")
    return function


def _forced(
    functions: list[dict[str, Any]], choice: str | dict[str, Any] | None
) -> list[dict[str, Any]]:
    if choice in {None, "auto", "none"} if isinstance(choice, str | None) else False:
        return []
    if choice == "required":
        return functions
    named = choice.get("function") if isinstance(choice, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    if name is None:
        raise _wrong(
            "tool_choice",
            '\'none\', \'auto\', \'required\', or {"type": "function", "function": {"name": …}}',
        )
    chosen = [function for function in functions if function["name"] == name]
    if not chosen:
        raise invalid(f"tool_choice names {name!r}, which is not in tools.", param="tool_choice")
    return chosen


def _wrong(param: str, expected: str) -> ApiError:
    return invalid(f"{param} must be {expected}.", param=param)
