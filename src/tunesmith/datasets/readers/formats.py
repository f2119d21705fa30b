"""The file formats that can be read, and how the format of a file is detected.

The content counts for more than the name: JSON under the name of a text or a table is read as
JSON, and a workbook, a Parquet file or an archive under another name is called what it is. Where
the content does not tell, the extension decides.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.recognition import holds_conversation

from .json_recovery import WRAPPED_ROWS
from .lines import MARK, encoding_of

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
_CONTAINERS: Final = {
    b"PK\x03\x04": "a ZIP archive: unpack it",
    b"\x1f\x8b": "compressed with gzip: let its name end in .gz, or unpack it",
    b"BZh": "compressed with bzip2: unpack it",
    b"\xfd7zXZ": "compressed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard: unpack it",
    b"\xd0\xcf\x11\xe0": "a workbook of old Excel, or one with a password: save it as .xlsx",
    b"%PDF": "a PDF document: save the examples as CSV or JSONL",
    b"SQLite format 3": "an SQLite database: export the examples as CSV or JSONL",
}
_PARQUET: Final = b"PAR1"

_SAMPLE: Final = 1 << 20
_LINES: Final = 5


def detect_format(path: Path, name: str | None = None, encoding: str | None = None) -> str:
    """Return the format of a file.

    Args:
        path: The file.
        name: What it is called, if that is not the name of its path.
        encoding: Its encoding; detected by default.

    Raises:
        UnreadableError: The extension is not that of a known format, or the content is that of
            another kind of file.
    """
    name = path.name if name is None else name
    suffix = _suffix(name)
    by_extension = _EXTENSIONS.get(suffix)
    with path.open("rb") as stream:
        start = stream.read(_SAMPLE)
    _refuse_containers(path, name, by_extension, start)
    if by_extension in {"xlsx", "parquet"}:
        return by_extension
    text = _text(path, start, encoding)
    if by_extension in {"jsonl", "json"}:
        return _detect_json(text, utf8=_is_utf8(path, encoding))
    if _lines_are_rows(text):
        return _detect_json(text, utf8=_is_utf8(path, encoding))
    if by_extension is None:
        known = ", ".join(sorted(_EXTENSIONS))
        fault = "has an unknown extension" if suffix else "has no extension"
        raise UnreadableError(
            f"{name!r} {fault}. Training data is read from {known} files; rename the file, or "
            "pass its format: format='jsonl', on the command line --input-format jsonl."
        )
    return by_extension


def _suffix(name: str) -> str:
    _, dot, suffix = name.lower().rpartition(".")
    return dot + suffix if dot else ""


def _refuse_containers(path: Path, name: str, by_extension: str | None, start: bytes) -> None:
    """Check that a workbook, a Parquet file or an archive is what its name says.

    Raises:
        UnreadableError: It is something else.
    """
    found = next((what for magic, what in _CONTAINERS.items() if start.startswith(magic)), None)
    if start.startswith(b"PK\x03\x04") and _is_workbook(path):
        if by_extension == "xlsx":
            return
        found = "an XLSX workbook: let its name end in .xlsx"
    elif start.startswith(_PARQUET):
        if by_extension == "parquet":
            return
        found = "a Parquet file: let its name end in .parquet"
    if found is not None:
        raise UnreadableError(f"{name!r} is {found}.")
    if by_extension == "xlsx":
        raise UnreadableError(f"{name!r} is not an XLSX workbook: {_words_for(start)}.")
    if by_extension == "parquet":
        raise UnreadableError(f"{name!r} cannot be read as Parquet: {_words_for(start)}.")


def _is_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except Exception:  # noqa: BLE001 - whatever a damaged archive makes zipfile raise
        return path.suffix.lower() == ".xlsx"  # reading it tells what is wrong


def _words_for(start: bytes) -> str:
    if not start:
        return "it is empty"
    if b"\0" in start[:1024]:
        return "it begins with other bytes, as where a download was cut or damaged"
    if start.lstrip()[:1] == b"<":
        return "it is HTML or XML, as where a download gave a web page"
    return "it is text, so name it .csv, .tsv, .json or .jsonl, or pass its format: format='csv'"


def _is_utf8(path: Path, encoding: str | None) -> bool:
    return encoding_of(path, encoding)[1] == "utf-8"


def _text(path: Path, start: bytes, encoding: str | None) -> str:
    mark, found = encoding_of(path, encoding)
    try:
        text = start[len(mark) :].decode(found, "replace")
    except (UnicodeError, LookupError) as error:
        raise UnreadableError(f"{path.name!r} cannot be read as {found}: {error}.") from None
    return text.lstrip().lstrip(MARK).lstrip()


def _lines_are_rows(text: str) -> bool:
    """Return whether a text that is not called JSON is JSON: objects line by line, or an array."""
    if not text.startswith(("{", "[")):
        return False
    values = [_decoded(line) for line in text.split("\n", _LINES)[:_LINES] if line.strip()]
    rows = sum(is_object(value) and bool(value) for value in values)
    return 2 * rows > len(values) or _holds_rows(values[0]) or _begins_with_row(text)


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _begins_with_row(text: str) -> bool:
    """Return whether a text begins with an object over several lines, or an array of objects."""
    body = text.removeprefix("[").lstrip() if text.startswith("[") else text
    try:
        value, _ = json.JSONDecoder().raw_decode(body)
    except (ValueError, RecursionError):
        return False
    return is_object(value) and bool(value)


def _detect_json(text: str, *, utf8: bool) -> Literal["jsonl", "json"]:
    """Return "json" where the file is an array, or has values that span lines; else "jsonl".

    A file whose first line is broken stays JSONL, so that the line can be named.
    """
    if not utf8:
        return "json"  # the reader of JSONL knows bytes of UTF-8 only
    first, more, rest = text.partition("\n")
    if not first.strip():
        return "jsonl"
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return _detect_by_first_line(text, first, more)
    return "json" if _holds_rows(value) and (is_array(value) or not rest.strip()) else "jsonl"


def _holds_rows(value: Any) -> bool:
    """Return whether the only line of a file is not a row but holds all rows."""
    if is_array(value):
        return any(is_object(row) for row in value)
    if not is_object(value) or not value or "input" in value or holds_conversation(value):
        return False
    return all(isinstance(column, list | dict) for column in value.values())


def _detect_by_first_line(text: str, first: str, more: str) -> Literal["jsonl", "json"]:
    """Decide by a first line that is not JSON by itself."""
    if first.startswith("[") or WRAPPED_ROWS.match(text):
        return "json"
    if not more or not first.startswith("{"):
        return "jsonl"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # A value that is longer than the sample, or broken: only a bare brace means JSON.
        return "json" if first.strip() == "{" else "jsonl"
    return "json" if "\n" in text[:end] else "jsonl"
