"""JSON schemas for answers that are generated: closed, with types, laid out in one way."""

from __future__ import annotations

from typing import Any

__all__ = ["closed", "laid_out", "of_object"]

# With free whitespace a small model may write blanks until max_tokens.
_LAYOUT: dict[str, Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}

# Keywords whose values are data, not schemas.
_VALUES = frozenset({"const", "default", "enum", "example", "examples", "x-guidance"})
# Keywords whose values map names to schemas.
_MAPPINGS = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
# Keywords one of which says what type a value has.
_TYPED = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "type"})
# Keywords that say what other properties there may be.
_OPEN = frozenset({"additionalProperties", "patternProperties", "unevaluatedProperties"})


def laid_out(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a closed schema that also says how its JSON is laid out."""
    return {**closed(schema), "x-guidance": _LAYOUT}


def of_object(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object: one that says no type gets it."""
    return schema if _TYPED & schema.keys() else {**schema, "type": "object"}


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no properties but those that it lists.

    Where a schema leaves open whether there may be more, a small model invents properties until
    its tokens run out; an answer without them follows the schema as well. Schemas that are put
    together with `allOf` stay as they are: one part may list what another one lacks.
    """
    return schema if "allOf" in _keywords(schema) else _closed(schema)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {name: _closed_keyword(name, value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not _OPEN & schema.keys():
        result["additionalProperties"] = False
    return result


def _closed_keyword(name: str, value: Any) -> Any:
    if name in _VALUES:
        return value
    if name in _MAPPINGS and isinstance(value, dict):
        return {key: _closed(part) for key, part in value.items()}
    return _closed(value)


def _keywords(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set[str]().union(*map(_keywords, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema).union(*map(_keywords, schema.values()))
