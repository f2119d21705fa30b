"""Readers: from a path, a file object, a frame or an iterable to batches of rows with locations."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any, Final, NamedTuple

from tunesmith.datasets.dataset_errors import UnreadableError

from .batch import Batch, ListLocations, RowLocations, Source
from .formats import FORMATS, Format, detect_format
from .lines import checked_encoding, encoding_of

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


def open_source(
    source: Any,
    format: str | None = None,  # noqa: A002 - the word
    *,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Source:
    """Return a source of rows.

    Args:
        source: A path, a binary or text file object, a frame, a table or an iterable of mappings.
            A file object is copied to a temporary file, so it is read only once.
        format: One of `FORMATS`; detected from name and content by default.
        encoding: Encoding of a text file; detected by default.
        sheet: Name of the sheet of a workbook; default: the first that is not hidden.

    Raises:
        UnreadableError: There is no such file, or its format or encoding is not known.
    """
    options = _Options(format, encoding, sheet)
    if isinstance(source, str | os.PathLike):
        path: str = os.fspath(source)
        return _source_of_path(Path(path), options)
    if hasattr(source, "read"):
        return _source_of_stream(source, options)
    from .memory import rows_of  # noqa: PLC0415 - as needed

    return rows_of(source)


def open_path(
    path: Path,
    format: str | None = None,  # noqa: A002 - the word
    *,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Source:
    """Return the source that reads a file; see `open_source`."""
    return _source_of_path(path, _Options(format, encoding, sheet))


class _Options(NamedTuple):
    """How a file is to be read; see `open_source`."""

    format: str | None
    encoding: str | None
    sheet: str | None


def _source_of_path(path: Path, options: _Options) -> Source:
    _check_readable(path)
    if path.suffix.lower() == ".gz":
        return _source_of_gzip(path, path.stem, options)
    return _reader(path, path.name, options)


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
    except ValueError as error:  # a NUL in the name
        raise UnreadableError(f"{str(path)!r} cannot be read: {error}.") from None


def _reader(path: Path, name: str, options: _Options) -> Source:
    """Return the reader of a file; only the one that is needed is imported."""
    if options.encoding is not None:
        checked_encoding(options.encoding)
    chosen = options.format or detect_format(path, name, options.encoding)
    if chosen not in FORMATS:
        known = ", ".join(FORMATS)
        raise UnreadableError(f"Unknown format {chosen!r}: choose one of {known}.")
    if options.sheet is not None and chosen != "xlsx":
        raise UnreadableError(f"{name!r} has no sheets: it is {chosen.upper()}, not a workbook.")
    if chosen == "xlsx":
        from .spreadsheet import Spreadsheet  # noqa: PLC0415 - as needed

        return Spreadsheet(path, options.sheet)
    if chosen == "parquet":
        from .parquet import Parquet  # noqa: PLC0415

        return Parquet(path)
    if chosen == "jsonl" and encoding_of(path, options.encoding)[1] == "utf-8":
        from .json_lines import JsonLines  # noqa: PLC0415

        return JsonLines(path)
    if chosen in {"jsonl", "json"}:
        from .json_document import JsonDocument  # noqa: PLC0415

        return JsonDocument(path, options.encoding)
    from .delimited import Delimited, PlainText  # noqa: PLC0415

    if chosen == "txt":
        return PlainText(path, options.encoding)
    return Delimited(path, "tsv" if chosen == "tsv" else "csv", options.encoding)


def _source_of_gzip(path: Path, kind: str, options: _Options) -> Source:
    """Return the source that reads an unpacked copy, which is removed with it.

    Byte offsets count in the unpacked content; `kind` is the name that says its format.
    """
    import gzip  # noqa: PLC0415 - few files are packed
    import zlib  # noqa: PLC0415

    copied = _temporary(kind)
    written = 0
    try:
        with gzip.open(path, "rb") as packed, copied.open("wb") as copy:
            while part := packed.read(_COPIED_AT_ONCE):
                written += copy.write(part)
        return _named_copy(copied, kind, str(path), options)
    except (EOFError, OSError, zlib.error) as error:
        copied.unlink(missing_ok=True)
        raise UnreadableError(
            f"{str(path)!r} cannot be unpacked: it is damaged or cut after {written:,} bytes of "
            f"its content ({error})."
        ) from None


def _source_of_stream(stream: Any, options: _Options) -> Source:
    named: Any = getattr(stream, "name", None)
    name = str(named) if isinstance(named, str | Path) else None
    copied = _temporary(Path(name).name if name else "data.jsonl")
    try:
        with copied.open("wb") as copy:
            while part := stream.read(_COPIED_AT_ONCE):
                copy.write(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
        _refuse_end(stream, copied)
        if copied.suffix.lower() == ".gz":
            source = _source_of_gzip(copied, Path(name or "").stem, options)
            copied.unlink()
            source.name = name
            return source
        return _named_copy(copied, copied.name, name, options)
    except UnreadableError:
        copied.unlink(missing_ok=True)
        raise
    except (OSError, ValueError, TypeError) as error:  # closed, or not open for reading
        copied.unlink(missing_ok=True)
        raise UnreadableError(f"The file object cannot be read: {error}.") from None


def _refuse_end(stream: Any, copied: Path) -> None:
    """Check that a file object without content is not merely at its end.

    Raises:
        UnreadableError: It is.
    """
    if copied.stat().st_size:
        return
    try:
        position = stream.tell()
    except (OSError, AttributeError, ValueError):
        return
    if position:
        raise UnreadableError("The file object is at its end: call seek(0) first.")


def _temporary(name: str) -> Path:
    """Return a new empty file with the extension of a name."""
    import tempfile  # noqa: PLC0415 - only streams and packed files need it

    suffix = Path(name).suffix or ".jsonl"
    descriptor, copied = tempfile.mkstemp(suffix=suffix)
    os.close(descriptor)
    return Path(copied)


def _named_copy(copied: Path, kind: str, name: str | None, options: _Options) -> Source:
    """Return the source that reads a temporary copy, which is removed with it."""
    try:
        source = _reader(copied, kind if Path(kind).suffix else copied.name, options)
    except UnreadableError:
        copied.unlink(missing_ok=True)
        raise
    source.name = name
    weakref.finalize(source, copied.unlink, missing_ok=True)
    return source
