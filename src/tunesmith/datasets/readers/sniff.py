"""Tell JSONL from other JSON by what the file holds, whatever its extension says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith.datasets.json_types import is_array, is_object

from .lines import byte_order_mark

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sniff_json"]

_SAMPLE: Final = 1 << 20


def sniff_json(path: Path) -> Literal["jsonl", "json"]:
    """Return "json" where the file is an array, or has values that span lines; else "jsonl".

    A file whose first line is broken stays JSONL, so that the line can be named.
    """
    with path.open("rb") as stream:
        start = stream.read(_SAMPLE)
    mark, encoding = byte_order_mark(start)
    if encoding != "utf-8":
        return "json"
    text = start[len(mark) :].decode("utf-8", "replace").lstrip()
    first, more, rest = text.partition("\n")
    if not first.strip():
        return "jsonl"
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return _sniff_lines(text, first, more)
    return "json" if _holds_rows(value) and not rest.strip() else "jsonl"


def _holds_rows(value: Any) -> bool:
    """Tell whether the only line of a file is not a row but holds all of them."""
    if is_array(value):
        return any(is_object(row) for row in value)
    if not is_object(value) or not value or value.keys() & {"messages", "input"}:
        return False
    return all(isinstance(column, list | dict) for column in value.values())


def _sniff_lines(text: str, first: str, more: str) -> Literal["jsonl", "json"]:
    """Decide by a first line that is not JSON by itself."""
    if first.startswith("["):
        return "json"
    if not more or not first.startswith("{"):
        return "jsonl"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # A value that is longer than the sample, or broken: only a bare brace tells them apart.
        return "json" if first.strip() == "{" else "jsonl"
    return "json" if "\n" in text[:end] else "jsonl"
