"""Rules of the tools and functions that a chat row declares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.json_types import is_array, is_object

from .problem import Problem, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["declared_schemas", "name_problems", "problems"]

_MAX_FUNCTIONS: Final = 128
_MAX_DEPTH: Final = 32
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


def problems(value: dict[str, Any], path: str) -> Iterator[Problem]:
    """Yield the problems of `tools`, `functions` and `parallel_tool_calls`."""
    if "tools" in value:
        yield from _tools(value["tools"], f"{path}.tools")
    if "functions" in value:
        yield from _functions(value["functions"], f"{path}.functions")
    parallel = value.get("parallel_tool_calls", True)
    if not isinstance(parallel, bool):
        yield Problem(
            "field-type",
            f"{path}.parallel_tool_calls",
            f"'parallel_tool_calls' must be true or false, not {describe(parallel)}",
        )


def declared_schemas(value: dict[str, Any]) -> dict[str, Any]:
    """Return the names of the declared tools and functions, each with the schema of its arguments.

    Rows need not be valid. A tool without a schema, such as a custom one, takes anything: True.
    """
    schemas: dict[str, Any] = {}
    for tool in _objects(value.get("tools")):
        for kind in ("function", "custom"):
            function = tool.get(kind)
            if is_object(function) and isinstance(function.get("name"), str):
                schemas[function["name"]] = function.get("parameters", True)
    for function in _objects(value.get("functions")):
        if isinstance(function.get("name"), str):
            schemas[function["name"]] = function.get("parameters", True)
    return schemas


def _objects(values: Any) -> list[dict[str, Any]]:
    if not is_array(values):
        return []
    return [value for value in values if is_object(value)]


def _tools(tools: Any, path: str) -> Iterator[Problem]:
    if not is_array(tools):
        yield Problem("field-type", path, f"'tools' must be an array, not {describe(tools)}")
        return
    for position, tool in enumerate(tools):
        tool_path = f"{path}[{position}]"
        if not is_object(tool):
            yield Problem(
                "field-type", tool_path, f"a tool must be an object, not {describe(tool)}"
            )
            continue
        kind = tool.get("type")
        if kind not in {"function", "custom"}:
            yield Problem(
                "tool-type", f"{tool_path}.type", "the 'type' of a tool must be 'function'"
            )
            continue
        yield from _function(tool.get(kind), f"{tool_path}.{kind}")


def _functions(functions: Any, path: str) -> Iterator[Problem]:
    if not is_array(functions) or not 1 <= len(functions) <= _MAX_FUNCTIONS:
        yield Problem("field-type", path, f"'functions' must be an array of 1 to {_MAX_FUNCTIONS}")
        return
    for position, function in enumerate(functions):
        yield from _function(function, f"{path}[{position}]")


def _function(function: Any, path: str) -> Iterator[Problem]:
    if not is_object(function):
        yield Problem("field-type", path, f"a function must be an object, not {describe(function)}")
        return
    if not isinstance(function.get("name"), str):
        yield Problem("missing-field", f"{path}.name", "a function needs a 'name' string")
    yield from name_problems(function.get("name"), f"{path}.name")
    if not is_object(function.get("parameters", {})):
        yield Problem(
            "field-type",
            f"{path}.parameters",
            "'parameters' must be an object (a JSON schema)",
        )
    elif kind := _unknown_type(function.get("parameters"), 0):
        yield Problem("tool-schema", f"{path}.parameters", f"{kind!r} is no type of a JSON schema")


def name_problems(name: Any, path: str) -> Iterator[Problem]:
    """Yield the problem of a function's name that no service accepts."""
    if isinstance(name, str) and not _NAME.fullmatch(name):
        yield Problem(
            "tool-name",
            path,
            f"{name[:80]!r} must be up to 64 letters, digits, underscores and dashes",
        )


def _unknown_type(schema: Any, depth: int) -> str:
    """Return a type in a schema, or in one of its parts, that JSON Schema does not know, or ""."""
    if not is_object(schema) or depth > _MAX_DEPTH:
        return ""
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in _TYPES:
        return kind
    properties = schema.get("properties")
    parts = [*properties.values()] if is_object(properties) else []
    found = (_unknown_type(part, depth + 1) for part in [*parts, schema.get("items")])
    return next(filter(None, found), "")
