"""What makes two rows the same: one text for what the model is given, one for what it says."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from tunesmith.datasets.optional import optional

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunesmith.datasets.checks.base import ValidRows
    from tunesmith.datasets.rows import RowFormat

__all__ = ["identities", "identity"]


def identities(rows: ValidRows) -> tuple[list[Any], list[Any]]:
    """Return for each row a hashable value for its input and one for its output."""
    if rows.shape == "prompt_completion":
        return rows.prompts, rows.completions
    if rows.shape == "chat" and rows.conversations is not None:
        encode = _encoder()
        given = [encode(row.messages[:-1]) for row in rows.conversations]
        return given, [encode(row.messages[-1]) for row in rows.conversations]
    pairs = [identity(value, rows.shape) for value in rows.values]
    return [given for given, _ in pairs], [said for _, said in pairs]


def identity(value: dict[str, Any], shape: RowFormat) -> tuple[Any, Any]:
    """Return a hashable value for a row's input and one for its output."""
    if shape == "prompt_completion":
        return value["prompt"], value["completion"]
    encode = _encoder()
    if shape == "preference":
        outputs = [value["preferred_output"], value["non_preferred_output"]]
        return encode(value["input"]), encode(outputs)
    if shape == "reinforcement":
        return encode(value), b""
    messages = value["messages"]
    if len(value) == 1:
        return encode(messages[:-1]), encode(messages[-1])
    rest = {key: item for key, item in value.items() if key != "messages"}
    return encode([rest, messages[:-1]]), encode(messages[-1])


@cache
def _encoder() -> Callable[[Any], Any]:
    msgspec = optional("msgspec")
    if msgspec is None:
        return json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
    encode: Callable[[Any], Any] = msgspec.json.Encoder(order="sorted").encode
    return encode
