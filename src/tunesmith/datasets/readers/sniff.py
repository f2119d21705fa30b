"""Tell JSONL from other JSON by what the file holds, whatever its extension says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

from tunesmith.datasets.readers.lines import byte_order_mark

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
    first, more, _ = text.partition("\n")
    if not first.strip() or _is_json(first):
        # `[{…}, {…}]` on one line is an array of rows, not a line of JSONL.
        return "json" if first.startswith("[") and "{" in first else "jsonl"
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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
