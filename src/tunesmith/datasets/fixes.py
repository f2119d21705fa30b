"""The fixes that a plan can apply: each looks at one row and returns it as it should be.

A transform gets a row and returns the row (the same object where nothing is to be done), a new
row, or None to drop it. Applying one twice changes nothing more. Nothing is found or dropped by
its position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tunesmith.datasets import tokens
from tunesmith.datasets.prompt_format import PromptFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.datasets.prompt_format import PromptFormat
    from tunesmith.datasets.tokens import Encoder

__all__ = [
    "Step",
    "Transform",
    "Value",
    "drop_duplicates",
    "drop_empty_completions",
    "drop_long_rows",
    "keep_fields",
    "lower_case",
    "rename_classes",
    "rename_fields",
    "replace_surrogates",
    "set_leading_whitespace",
    "set_separator",
    "set_stop",
    "strip_prefix",
    "take_out_separator",
    "take_out_stop",
    "values_to_text",
]

Value: TypeAlias = dict[str, Any]
Transform: TypeAlias = Callable[[Value], Value | None]
Field: TypeAlias = Literal["prompt", "completion"]

FIELDS: Final[tuple[Field, Field]] = ("prompt", "completion")


@dataclass(slots=True)
class Step:
    """One fix in a plan.

    Attributes:
        id: Stable name.
        description: What it does, in the imperative.
        start: Returns a fresh transform; one that remembers rows, remembers those of one run.
        evidence: Why it is proposed, as a sentence.
        enabled: Whether the plan applies it.
        necessary: Whether the rows are unusable without it.
    """

    id: str
    description: str
    start: Callable[[], Transform]
    evidence: str = ""
    enabled: bool = True
    necessary: bool = False


def always(transform: Transform) -> Callable[[], Transform]:
    """Return a start for a transform that remembers nothing."""
    return lambda: transform


def rename_fields(names: Mapping[str, str]) -> Transform:
    """Rename fields: {old name: new name}."""

    def transform(value: Value) -> Value:
        if names.keys().isdisjoint(value):
            return value
        return {names.get(name, name): content for name, content in value.items()}

    return transform


def keep_fields(value: Value) -> Value:
    """Keep prompt and completion only; a missing or null one becomes empty text."""
    whole = value.get("prompt") is not None and value.get("completion") is not None
    if whole and len(value) == len(FIELDS):
        return value
    return {name: "" if value.get(name) is None else value[name] for name in FIELDS}


def values_to_text(value: Value) -> Value:
    """Write numbers and other values as the JSON they stand for: 0 becomes "0"."""
    if isinstance(value["prompt"], str) and isinstance(value["completion"], str):
        return value
    return {name: _text(value[name]) for name in FIELDS}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def replace_surrogates(value: Value) -> Value:
    """Replace halves of surrogate pairs, which no UTF-8 file can hold, by U+FFFD."""
    if value["prompt"].isascii() and value["completion"].isascii():
        return value
    return _replaced(value, {name: _sound(value[name]) for name in FIELDS})


def _sound(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def drop_empty_completions(form: PromptFormat) -> Transform:
    """Drop rows whose completion is nothing but white space and a stop sequence."""

    def transform(value: Value) -> Value | None:
        return value if form.bare_completion(value["completion"]).strip() else None

    return transform


def strip_prefix(field: Field, prefix: str) -> Transform:
    """Take a common beginning away, unless nothing would be left."""

    def transform(value: Value) -> Value:
        text = value[field]
        body = text.lstrip()
        if not body.startswith(prefix) or not body.removeprefix(prefix).strip():
            return value
        lead = text[: len(text) - len(body)]
        return _replaced(value, {field: lead + body.removeprefix(prefix).lstrip()})

    return transform


def rename_classes(names: Mapping[str, str], form: PromptFormat) -> Transform:
    """Write other names for class labels: {label: name}."""

    def transform(value: Value) -> Value:
        completion = value["completion"]
        label = form.bare_completion(completion).strip()
        if label not in names:
            return value
        start = completion.index(label)
        ending = completion[start + len(label) :]
        return _replaced(value, {"completion": completion[:start] + names[label] + ending})

    return transform


def lower_case(field: Field) -> Transform:
    """Write a field in lower case."""
    return lambda value: _replaced(value, {field: value[field].lower()})


def take_out_separator(form: PromptFormat) -> Transform:
    """Take the separator out of texts, where it would end the prompt too early."""
    separator = form.separator

    def transform(value: Value) -> Value:
        prompt, completion = value["prompt"], value["completion"]
        if separator not in completion and _ends_once(prompt, separator):
            return value
        bare = form.parse_prompt(prompt)
        ending = separator if prompt.endswith(separator) else ""
        return _replaced(
            value,
            {
                "prompt": _without(bare, separator) + ending,
                "completion": _cleared(completion, separator),
            },
        )

    return transform


def take_out_stop(form: PromptFormat) -> Transform:
    """Take the stop sequence out of completions, where it would cut answers off."""

    def transform(value: Value) -> Value:
        completion = value["completion"]
        body = form.bare_completion(completion)
        # The whitespace counts: the answer "END" would itself become the stop sequence " END".
        said = form.leading_whitespace + body
        if (said + form.stop).find(form.stop) == len(said):
            return value
        start = len(completion) - len(completion.lstrip()) if form.leading_whitespace else 0
        ending = completion[start + len(body) :]
        clean = _without(said, form.stop)
        while form.separator and form.separator in clean:
            # What stood on both sides of the stop sequence has made a separator.
            clean = _without(_cleared(clean, form.separator), form.stop)
        if form.leading_whitespace:
            clean = clean.lstrip()
        return _replaced(value, {"completion": completion[:start] + clean + ending})

    return transform


def _ends_once(text: str, mark: str) -> bool:
    return (text.removesuffix(mark) + mark).find(mark) == len(text.removesuffix(mark))


def _without(text: str, mark: str) -> str:
    """Return a text that neither contains a mark nor completes one that follows it."""
    text = _cleared(text, mark)
    while text and (text + mark).find(mark) < len(text):
        text = text[:-1]
    return text


def _cleared(text: str, mark: str) -> str:
    """Return a text without a mark; words on both sides of it stay apart."""
    gap = "\n" if "\n" in mark and mark != "\n" else " " if mark != " " else ""

    def replacement(match: re.Match[str]) -> str:
        before, after = text[: match.start()], text[match.end() :]
        apart = not before or before[-1].isspace() or not after or after[0].isspace()
        return "" if apart else gap

    while mark in text:
        text = re.sub(re.escape(mark), replacement, text)
    return text


def set_separator(form: PromptFormat) -> Transform:
    """End every prompt with the separator."""

    def transform(value: Value) -> Value:
        try:
            return _replaced(value, {"prompt": form.format_prompt(value["prompt"])})
        except PromptFormatError:
            return value  # only where the fix that would have made room was refused

    return transform


def set_leading_whitespace(form: PromptFormat) -> Transform:
    """Start every completion with the whitespace of the format."""

    def transform(value: Value) -> Value:
        completion = value["completion"]
        return _replaced(value, {"completion": form.leading_whitespace + completion.lstrip()})

    return transform


def set_stop(form: PromptFormat) -> Transform:
    """End every completion with one stop sequence."""

    def transform(value: Value) -> Value:
        completion = value["completion"]
        while completion.endswith(form.stop):
            completion = completion.removesuffix(form.stop)
        return _replaced(value, {"completion": completion + form.stop})

    return transform


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
    """Return a text that is the same for the same row only."""
    prompt, completion = value.get("prompt"), value.get("completion")
    if len(value) == len(FIELDS) and isinstance(prompt, str) and isinstance(completion, str):
        return f"{len(prompt)}:{prompt}{completion}"
    return json.dumps(value, sort_keys=True)


def drop_long_rows(limit: int, encoding: str | Encoder) -> Transform:
    """Drop rows of more tokens than the limit, prompt and completion together."""

    def transform(value: Value) -> Value | None:
        text = value["prompt"] + value["completion"]
        return value if tokens.fits(text, limit, encoding) else None

    return transform


def _replaced(value: Value, texts: dict[str, str]) -> Value:
    """Return the row with other texts; the same row where nothing differs."""
    for name, text in texts.items():
        if value[name] != text:
            return {**value, **texts}
    return value
