"""From a Python type to the JSON schema of answers, as structured outputs take it.

The service wants an object at the root, every property required and no other allowed, and knows
a part of JSON Schema only. So a type that is no object (a list, a choice, an optional model)
travels as the property `value` of one; whatever the service refuses is rewritten; and a type that
cannot be written under the strict rules, such as a dict with free keys, is sent as not strict.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from tunesmith.core.options import is_omitted
from tunesmith.errors import TunesmithError

__all__ = ["WRAPPER", "AnswerType", "answer_type", "is_type", "response_format_of", "type_name"]

WRAPPER = "value"
"""The property that holds an answer whose type is no object."""

_NAME_LENGTH = 64
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
# One of these says what an answer can be; a schema with none of them allows everything.
_MEANINGS = frozenset({"type", "enum", "const", "anyOf", "$ref"})
_NO_KEYWORDS = frozenset({"default", "discriminator", "examples"})
_ALIASES = frozenset({"NewType", "TypeAliasType"})

Schema = dict[str, Any]


@dataclass(frozen=True)
class AnswerType:
    """A type that answers are read as.

    Attributes:
        name: A name that the service accepts.
        schema: The JSON schema to send.
        strict: Whether the schema keeps the strict rules.
        adapter: pydantic's TypeAdapter of the type.
        wrapper: The model of the object whose property `value` an answer is, None if the type
            is an object itself.
    """

    name: str
    schema: Schema
    strict: bool
    adapter: Any
    wrapper: Any


def is_type(kind: object) -> TypeGuard[Any]:
    """Return whether a `response_format` is a Python type to parse into."""
    return (
        isinstance(kind, type)
        or typing.get_origin(kind) is not None
        or type(kind).__name__ in _ALIASES
    )


def response_format_of(kind: Any) -> Any:
    """Return the `response_format` to send for a type; mappings pass as they are.

    Raises:
        TunesmithError: It is neither, or the type has no JSON schema.
    """
    if kind is None or isinstance(kind, Mapping) or is_omitted(kind):
        return kind  # pyright: ignore[reportUnknownVariableType]
    answer = answer_type(kind)
    described = {"name": answer.name, "schema": answer.schema, "strict": answer.strict}
    return {"type": "json_schema", "json_schema": described}


def answer_type(kind: Any) -> AnswerType:
    """Return what is to be known of a type.

    Raises:
        TunesmithError: It is no type, or has no JSON schema.
    """
    try:
        return _answer_type(kind)
    except TypeError:  # no hash: metadata of Annotated may have none
        return _answer_type.__wrapped__(kind)


@functools.lru_cache(maxsize=256)
def _answer_type(kind: Any) -> AnswerType:
    from pydantic import TypeAdapter, create_model
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    if not is_type(kind):
        raise TunesmithError(
            f"A response_format is a type or a mapping such as {{'type': 'json_object'}}, not "
            f"{kind!r:.80}."
        )
    try:
        adapter = TypeAdapter[Any](kind)
        plain = adapter.json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise TunesmithError(f"{kind!r} cannot be a response_format: {error}") from error
    rewriter = _Rewriter(plain.pop("$defs", {}))
    root = rewriter.rewritten(plain)
    if "$ref" in root:
        root = {**rewriter.definition(root.pop("$ref")), **root}
    wrapper = None
    if root.get("type") != "object":
        wrapper = create_model("Answer", value=(kind, ...))
        root = _closed_object({WRAPPER: root})
    if rewriter.definitions:
        root["$defs"] = rewriter.definitions
    return AnswerType(type_name(kind), root, not rewriter.is_open, adapter, wrapper)


def type_name(kind: Any) -> str:
    """Return a name of a type that the service accepts: up to 64 of A-Z, a-z, 0-9, _ and -."""
    name = _NOT_IN_NAMES.sub("_", _plain_name(kind)).strip("_")
    return name[:_NAME_LENGTH] or "answer"


def _plain_name(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is None:
        return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))
    if origin is typing.Annotated:
        return _plain_name(arguments[0])
    parts = [_plain_name(one) for one in arguments]
    if origin in (typing.Union, types.UnionType):
        return "_or_".join(parts)
    name = str(getattr(origin, "__name__", "")) or str(origin).removeprefix("typing.")
    return "_".join([name, *parts])


def _closed_object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class _Rewriter:
    """Rewrites the schemas of one type to what the service takes.

    Attributes:
        definitions: The rewritten schemas of `$defs`.
        is_open: Whether some part allows what the strict rules cannot describe.
    """

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._plain = definitions
        self._inlined: list[str] = []
        self.is_open = False
        self.definitions = {name: self.rewritten(one) for name, one in definitions.items()}

    def definition(self, reference: str) -> Schema:
        """Return a copy of the rewritten schema that a `$ref` means."""
        return dict(self.definitions[_target(reference)])

    def rewritten(self, schema: Schema) -> Schema:
        """Return a schema and those in it, rewritten."""
        if "$ref" in schema:
            return self._reference(schema)
        if len(schema.get("allOf", ())) == 1:
            schema = {**schema["allOf"][0], **_without(schema, {"allOf"})}
            return self.rewritten(schema)
        new = _without(schema, _NO_KEYWORDS)
        if "oneOf" in new:
            new["anyOf"] = new.pop("oneOf")
        for keyword, rewrite in (("items", self.rewritten), ("anyOf", self._all)):
            if keyword in new and new[keyword] is not True:
                new[keyword] = rewrite(new[keyword])
        if new.get("type") == "object":
            return self._object(new)
        if new.get("type") == "array":
            self.is_open |= not isinstance(new.get("items"), Mapping) or "prefixItems" in new
        self.is_open |= _MEANINGS.isdisjoint(new) or "allOf" in new
        return new

    def _all(self, schemas: list[Schema]) -> list[Schema]:
        return [self.rewritten(one) for one in schemas]

    def _object(self, schema: Schema) -> Schema:
        rest = schema.get("additionalProperties")
        if "properties" not in schema and (rest is not False or "patternProperties" in schema):
            self.is_open = True
            if isinstance(rest, Mapping):
                return {**schema, "additionalProperties": self.rewritten(cast("Schema", rest))}
            return schema
        properties: Schema = schema.get("properties", {})
        self.is_open |= isinstance(rest, Mapping)
        closed = _closed_object({name: self.rewritten(one) for name, one in properties.items()})
        return {**schema, **closed}

    def _reference(self, schema: Schema) -> Schema:
        """Return a reference; one with keywords beside it is replaced by what it refers to."""
        reference = schema["$ref"]
        beside = _without(schema, {"$ref", *_NO_KEYWORDS})
        if not beside or reference in self._inlined:
            return {"$ref": reference}
        self._inlined.append(reference)
        try:
            return self.rewritten({**self._plain[_target(reference)], **beside})
        finally:
            self._inlined.pop()


def _target(reference: str) -> str:
    return reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")


def _without(schema: Schema, names: typing.AbstractSet[str]) -> Schema:
    return {name: value for name, value in schema.items() if name not in names}
