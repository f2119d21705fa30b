"""The fixes of single rows that a plan can apply, and the steps of a plan that wrap them.

A transform gets the value of a row and returns it: the same object where nothing is to be done,
a new one where something is, or None to drop the row. Applying a transform twice changes nothing
more. No row is found or dropped by its position. The transforms that write the prompt format are
in `format_fixes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from . import tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .prompt_format import PromptFormat
    from .tokens import Encoder

__all__ = [
    "FIELDS",
    "Field",
    "Step",
    "Transform",
    "Value",
    "drop_duplicates",
    "drop_empty_completions",
    "drop_long_rows",
    "fill_fields",
    "is_plain",
    "keep_fields",
    "lower_case",
    "rename_classes",
    "rename_fields",
    "replace_surrogates",
    "stateless",
    "strip_prefix",
    "values_to_text",
    "with_text",
    "with_texts",
]

Value: TypeAlias = dict[str, Any]
Transform: TypeAlias = Callable[[Value], Value | None]
Field: TypeAlias = Literal["prompt", "completion"]

FIELDS: Final[tuple[Field, Field]] = ("prompt", "completion")
_FIELD_SET: Final = frozenset(FIELDS)


@dataclass(slots=True)
class Step:
    """One step of a plan: a transform of rows, with its description.

    Attributes:
        id: Stable name.
        description: What it does, in the imperative.
        new_transform: Makes the transform for one pass over the rows; a transform that remembers
            rows starts each pass without any.
        evidence: Why it is proposed, as a sentence.
        enabled: Whether the plan applies it.
        necessary: Whether the rows are unusable without it.
        explain: Returns why the step changes this very row, for a sample; None where the row
            before and after says it.
        exempt: A fast test of rows that the step leaves as they are; None where there is none.
            All steps of a plan that have one have the same.
    """

    id: str
    description: str
    new_transform: Callable[[], Transform]
    evidence: str = ""
    enabled: bool = True
    necessary: bool = False
    explain: Callable[[Value], str] | None = None
    exempt: Callable[[Value], bool] | None = None


def stateless(transform: Transform) -> Callable[[], Transform]:
    """Return a `Step.new_transform` for a transform that remembers nothing."""
    return lambda: transform


def with_texts(value: Value, texts: dict[str, str]) -> Value:
    """Return the row with other texts; the same object where none differs."""
    for name, text in texts.items():
        if value[name] != text:
            return {**value, **texts}
    return value


def with_text(value: Value, name: Field, text: str) -> Value:
    """Return the row with another text; the same object where it does not differ."""
    return value if value[name] == text else {**value, name: text}


def is_plain(value: Value) -> bool:
    """Return whether a row is two texts that are ASCII and hold no backslash.

    True for most rows of English in practice. Such a row needs none of the fixes that make two
    texts of a row or mend their characters.
    """
    prompt, completion = value.get("prompt"), value.get("completion")
    return (
        len(value) == len(FIELDS)
        and isinstance(prompt, str)
        and isinstance(completion, str)
        and prompt.isascii()
        and completion.isascii()
        and "\\" not in prompt
        and "\\" not in completion
    )


def rename_fields(names: Mapping[str, str]) -> Transform:
    """Rename fields: {old name: new name}."""

    def transform(value: Value) -> Value:
        if names.keys().isdisjoint(value):
            return value
        return {names.get(name, name): content for name, content in value.items()}

    return transform


def keep_fields(value: Value) -> Value:
    """Keep only prompt and completion."""
    if all(name in _FIELD_SET for name in value):
        return value
    return {name: value[name] for name in FIELDS if name in value}


def fill_fields(value: Value) -> Value:
    """Write an empty text for a prompt or a completion that is missing or null."""
    if value.get("prompt") is not None and value.get("completion") is not None:
        return value
    texts: Value = {name: "" if value.get(name) is None else value[name] for name in FIELDS}
    return texts | {name: cell for name, cell in value.items() if name not in texts}


def values_to_text(value: Value) -> Value:
    """Write numbers and other values as JSON text: 0 becomes "0"."""
    if isinstance(value["prompt"], str) and isinstance(value["completion"], str):
        return value
    return {**value, **{name: _to_text(value[name]) for name in FIELDS}}


def _to_text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def replace_surrogates(value: Value) -> Value:
    """Replace lone surrogates, which cannot be encoded as UTF-8, with U+FFFD."""
    if value["prompt"].isascii() and value["completion"].isascii():
        return value
    return with_texts(value, {name: _encodable(value[name]) for name in FIELDS})


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def drop_empty_completions(prompt_format: PromptFormat) -> Transform:
    """Drop rows whose completion is only white space and a stop sequence."""
    stop = prompt_format.stop

    def transform(value: Value) -> Value | None:
        completion = value["completion"]
        if completion.strip() and not (stop and completion.endswith(stop)):
            return value
        return value if prompt_format.bare_completion(completion).strip() else None

    return transform


def strip_prefix(field: Field, prefix: str) -> Transform:
    """Remove a common prefix, unless nothing would be left."""

    def transform(value: Value) -> Value:
        text = value[field]
        body = text.lstrip()
        if not body.startswith(prefix) or not body.removeprefix(prefix).strip():
            return value
        whitespace = text[: len(text) - len(body)]
        return with_texts(value, {field: whitespace + body.removeprefix(prefix).lstrip()})

    return transform


def rename_classes(names: Mapping[str, str], prompt_format: PromptFormat) -> Transform:
    """Write other names for class labels: {label: name}."""

    def transform(value: Value) -> Value:
        completion = value["completion"]
        label = prompt_format.bare_completion(completion).strip()
        if label not in names:
            return value
        start = completion.index(label)
        ending = completion[start + len(label) :]
        return with_texts(value, {"completion": completion[:start] + names[label] + ending})

    return transform


def lower_case(field: Field) -> Transform:
    """Write a field in lower case."""
    return lambda value: with_texts(value, {field: value[field].lower()})


def drop_duplicates() -> Transform:
    """Drop rows that repeat an earlier one word for word."""
    seen: set[bytes] = set()

    def transform(value: Value) -> Value | None:
        digest = blake2b(_content(value).encode(), digest_size=16).digest()
        if digest in seen:
            return None
        seen.add(digest)
        return value

    return transform


def _content(value: Value) -> str:
    """Return a text that is the same only for equal rows."""
    prompt, completion = value.get("prompt"), value.get("completion")
    if len(value) == len(FIELDS) and isinstance(prompt, str) and isinstance(completion, str):
        return f"{len(prompt)}:{prompt}{completion}"
    return json.dumps(value, sort_keys=True)


def drop_long_rows(limit: int, encoding: str | Encoder) -> Transform:
    """Drop rows with more tokens than the limit, prompt and completion together."""

    def transform(value: Value) -> Value | None:
        text = value["prompt"] + value["completion"]
        return value if tokens.fits(text, limit, encoding) else None

    return transform
