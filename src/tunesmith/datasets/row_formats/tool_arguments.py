"""Whether the arguments of a call fit the schema that the row declares for the tool.

The part of JSON Schema that tools use is checked here: types, required and additional properties,
enumerations, items, alternatives and local references. Other keywords are taken to be fulfilled,
so no right call is ever reported. A library is not used, because the core install must find the
same as any other, and because patterns in a schema can take a matcher exponential time.
"""

from __future__ import annotations

from typing import Any, Final

from tunesmith.datasets.json_types import is_array, is_object

from .problem import describe

__all__ = ["first_misfit"]

_MAX_DEPTH: Final = 32
_MAX_STEPS: Final = 10_000
_TYPES: Final = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "null": "null",
}


def first_misfit(value: Any, schema: Any) -> str:
    """Return the first way in which a value does not fit a JSON schema, or ""."""
    return _Matcher(schema).misfit(value, schema, "$", 0)


class _Matcher:
    """Compares values with a schema, in a limited number of steps: alternatives multiply.

    Args:
        root: The whole schema, to which local references refer.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def misfit(self, value: Any, schema: Any, path: str, depth: int) -> str:
        """Return the first way in which a value does not fit a part of the schema, or ""."""
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return ""
        if schema is False:
            return f"{path} is not allowed"
        if not is_object(schema):
            return ""
        if "$ref" in schema:
            return self.misfit(value, _referred(self._root, schema["$ref"]), path, depth + 1)
        return (
            _type_misfit(value, schema, path)
            or _value_misfit(value, schema, path)
            or self._combination_misfit(value, schema, path, depth)
            or self._object_misfit(value, schema, path, depth)
            or self._array_misfit(value, schema, path, depth)
        )

    def _combination_misfit(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        for part in _list(schema.get("allOf")):
            if misfit := self.misfit(value, part, path, depth + 1):
                return misfit
        for name in ("anyOf", "oneOf"):
            misfits = [
                self.misfit(value, part, path, depth + 1) for part in _list(schema.get(name))
            ]
            if misfits and all(misfits):
                return misfits[0]
        return ""

    def _object_misfit(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        if not is_object(value):
            return ""
        for name in _list(schema.get("required")):
            if isinstance(name, str) and name not in value:
                return f"{path} has no {name!r}, which is required"
        properties = schema.get("properties")
        known = properties if is_object(properties) else {}
        for name, item in value.items():
            rest = (
                True if "patternProperties" in schema else schema.get("additionalProperties", True)
            )
            if rest is False and name not in known:
                return f"{path} has {name!r}, which the schema does not know"
            part = known.get(name, rest)
            if misfit := self.misfit(item, part, f"{path}.{name}", depth + 1):
                return misfit
        return ""

    def _array_misfit(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str:
        items = schema.get("items")
        if not is_array(value) or not is_object(items) or "prefixItems" in schema:
            return ""
        for position, item in enumerate(value):
            if misfit := self.misfit(item, items, f"{path}[{position}]", depth + 1):
                return misfit
        return ""


def _referred(root: Any, reference: Any) -> Any:
    """Return the part of the schema that a local reference names; True where it names none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not is_object(found) or key not in found:
            return True
        found = found[key]
    return found


def _type_misfit(value: Any, schema: dict[str, Any], path: str) -> str:
    declared = schema.get("type")
    kinds = declared if is_array(declared) else [declared]
    names = [kind for kind in kinds if isinstance(kind, str)]
    if not names or not set(names) <= _TYPES.keys() or any(_has_type(value, n) for n in names):
        return ""
    if value is None and schema.get("nullable") is True:
        return ""
    wanted = " or ".join(_TYPES[name] for name in names)
    return f"{path} must be {wanted}, not {describe(value)}"


def _has_type(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind == "number":
        return isinstance(value, int | float)
    if kind == "string":
        return isinstance(value, str)
    if kind == "null":
        return value is None
    return is_array(value) if kind == "array" else is_object(value)


def _value_misfit(value: Any, schema: dict[str, Any], path: str) -> str:
    allowed = schema.get("enum")
    if is_array(allowed) and not any(_equal(value, item) for item in allowed):
        if value is None and schema.get("nullable") is True:
            return ""
        return f"{path} must be one of {', '.join(repr(item) for item in allowed)[:120]}"
    if "const" in schema and not _equal(value, schema["const"]):
        return f"{path} must be {schema['const']!r}"
    return ""


def _equal(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _list(value: Any) -> list[Any]:
    return value if is_array(value) else []
