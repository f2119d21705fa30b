"""Readers: from a path, a file object, a frame or an iterable to batches of rows with locations."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.datasets.dataset_errors import UnreadableError

from .batch import Batch, ListLocations, RowLocations, Source
from .formats import FORMATS, Format, detect_format

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FORMATS",
    "Batch",
    "Format",
    "ListLocations",
    "RowLocations",
    "Source",
    "open_path",
    "open_source",
]

_COPIED_AT_ONCE: Final = 1 << 20


def open_source(source: Any, format: str | None = None) -> Source:  # noqa: A002 - the word
    """Return a source of rows.

    Args:
        source: A path, a binary or text file object, a frame, a table or an iterable of mappings.
            A file object is copied to a temporary file, so it is read only once.
        format: One of `FORMATS`; detected from name and content by default.

    Raises:
        UnreadableError: There is no such file, or its format is not known.
    """
    if isinstance(source, str | os.PathLike):
        path: str = os.fspath(source)
        return open_path(Path(path), format)
    if hasattr(source, "read"):
        return _source_of_stream(source, format)
    from .memory import rows_of  # noqa: PLC0415 - as needed

    return rows_of(source)


def open_path(path: Path, format: str | None = None) -> Source:  # noqa: A002 - the word
    """Return the source that reads a file; see `open_source`."""
    _check_readable(path)
    chosen = format or detect_format(path)
    if chosen not in FORMATS:
        known = ", ".join(FORMATS)
        raise UnreadableError(f"Unknown format {chosen!r}: choose one of {known}.")
    return _reader(chosen)(path)


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise UnreadableError(f"There is no file {str(path)!r}.") from None
    except IsADirectoryError:
        raise UnreadableError(f"{str(path)!r} is a folder: give a file.") from None
    except OSError as error:
        raise UnreadableError(f"{str(path)!r} cannot be read: {error.strerror}.") from None


def _reader(format: str) -> Callable[[Path], Source]:  # noqa: A002 - the word
    """Return the reader of a format; only the one that is needed is imported."""
    if format == "jsonl":
        from .json_lines import JsonLines  # noqa: PLC0415 - as needed

        return JsonLines
    if format == "json":
        from .json_document import JsonDocument  # noqa: PLC0415

        return JsonDocument
    if format == "xlsx":
        from .spreadsheet import Spreadsheet  # noqa: PLC0415

        return Spreadsheet
    if format == "parquet":
        from .parquet import Parquet  # noqa: PLC0415

        return Parquet
    from .delimited import Delimited, PlainText  # noqa: PLC0415

    if format == "txt":
        return PlainText
    return lambda path: Delimited(path, "tsv" if format == "tsv" else "csv")


def _source_of_stream(stream: Any, format: str | None) -> Source:  # noqa: A002 - the word
    named: Any = getattr(stream, "name", None)
    name = str(named) if isinstance(named, str | Path) else None
    suffix = Path(name).suffix if name else ""
    import tempfile  # noqa: PLC0415 - only streams need it

    descriptor, copied = tempfile.mkstemp(suffix=suffix or ".jsonl")
    with open(descriptor, "wb") as copy:  # noqa: PTH123 - a descriptor, not a path
        while part := stream.read(_COPIED_AT_ONCE):
            copy.write(part.encode("utf-8") if isinstance(part, str) else part)
    try:
        source = open_path(Path(copied), format)
    except UnreadableError:
        Path(copied).unlink()
        raise
    source.name = name
    weakref.finalize(source, Path(copied).unlink, missing_ok=True)
    return source
