"""Which values a tool's parameters may have, for call forms that do not mark text as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ParameterTypes", "resolve", "types_of"]

_ALL = frozenset({"string", "number", "boolean", "null", "object", "array"})
_MAX_REFERENCES = 16
_NAMES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}


class ParameterTypes:
    """The types of the parameters of one tool.

    Args:
        schema: The JSON schema of its arguments.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema

    def is_text(self, name: str) -> bool:
        """Return True if a parameter can be nothing but text."""
        return self._types(name) == {"string"}

    def value(self, name: str, text: str) -> Any:
        """Return the value that a text stands for: as JSON where the schema allows it, or text."""
        types = self._types(name)
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return text
        if _NAMES[type(value)] in types and not (isinstance(value, str) and "string" in types):
            return value
        return text

    def _types(self, name: str) -> frozenset[str]:
        properties = resolve(self._root, self._root).get("properties")
        schema: Any = properties.get(name) if isinstance(properties, dict) else None
        if schema is None:
            schema = resolve(self._root, self._root).get("additionalProperties")
        return types_of(schema, self._root)


def resolve(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema, or the one in `root` that it refers to; an empty one if there is none."""
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = root
        for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            schema = schema.get(key) if isinstance(schema, dict) else None
    return {}


def types_of(schema: Any, root: Mapping[str, Any], depth: int = 0) -> frozenset[str]:
    """Return the types that a schema allows: "number" for integers, too; all, if it is unclear."""
    schema = resolve(schema, root)
    if "const" in schema:
        return frozenset({_NAMES.get(type(schema["const"]), "string")})
    if isinstance(schema.get("enum"), list):
        return frozenset(_NAMES.get(type(value), "string") for value in schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, str | list):
        kinds = [kind] if isinstance(kind, str) else kind
        return frozenset("number" if one == "integer" else str(one) for one in kinds)
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list) and depth < _MAX_REFERENCES:
            found = (types_of(one, root, depth + 1) for one in schema[name])
            return frozenset[str]().union(*found)
    if "properties" in schema:
        return frozenset({"object"})
    return _ALL


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are no JSON
