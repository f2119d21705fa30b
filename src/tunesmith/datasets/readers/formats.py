"""The file formats that can be read, and how the format of a file is detected.

The extension decides, except between JSONL and other JSON: there the content does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.json_types import is_array, is_object

from .lines import byte_order_mark

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMATS", "Format", "detect_format"]

Format: TypeAlias = Literal["jsonl", "json", "csv", "tsv", "txt", "xlsx", "parquet"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)

_EXTENSIONS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "txt",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".pq": "parquet",
}

_SAMPLE: Final = 1 << 20


def detect_format(path: Path) -> str:
    """Return the format of a file.

    Raises:
        UnreadableError: The extension is not that of a known format.
    """
    by_extension = _EXTENSIONS.get(path.suffix.lower())
    if by_extension is None:
        known = ", ".join(sorted(_EXTENSIONS))
        fault = "has an unknown extension" if path.suffix else "has no extension"
        raise UnreadableError(
            f"{path.name!r} {fault}. Training data is read from {known} files; rename the file, or "
            "pass its format: format='jsonl'."
        )
    return _detect_json(path) if by_extension in {"jsonl", "json"} else by_extension


def _detect_json(path: Path) -> Literal["jsonl", "json"]:
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
        return _detect_by_first_line(text, first, more)
    return "json" if _holds_rows(value) and not rest.strip() else "jsonl"


def _holds_rows(value: Any) -> bool:
    """Return whether the only line of a file is not a row but holds all rows."""
    if is_array(value):
        return any(is_object(row) for row in value)
    if not is_object(value) or not value or value.keys() & {"messages", "input"}:
        return False
    return all(isinstance(column, list | dict) for column in value.values())


def _detect_by_first_line(text: str, first: str, more: str) -> Literal["jsonl", "json"]:
    """Decide by a first line that is not JSON by itself."""
    if first.startswith("["):
        return "json"
    if not more or not first.startswith("{"):
        return "jsonl"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # A value that is longer than the sample, or broken: only a bare brace means JSON.
        return "json" if first.strip() == "{" else "jsonl"
    return "json" if "\n" in text[:end] else "jsonl"
