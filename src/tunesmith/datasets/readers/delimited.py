"""CSV and TSV tables, and plain text files: every cell is kept as a string, unchanged."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final, Literal

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location, excerpt_of

from .batch import Batch, FileSource, ListLocations
from .lines import text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .lines import TextLine

__all__ = ["Delimited", "PlainText"]

_BATCH_ROWS: Final = 4096
_SAMPLE_LINES: Final = 200
_CANDIDATES: Final = (",", ";", "\t", "|")
_EXCERPT_LENGTH: Final = 200
_FIELD_LIMIT: Final = 1 << 30


class Delimited(FileSource):
    """A table of separated values whose first record names the columns.

    The separator of a CSV file is detected (comma, semicolon, tab or bar). In a TSV file it is
    detected whether quotes delimit fields: in some files they are plain characters.
    """

    rows_are_lines = True

    def __init__(self, path: Path, format: Literal["csv", "tsv"]) -> None:  # noqa: A002 - the word
        super().__init__(path)
        self.format = format

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            UnreadableError: The file is no table that can be read.
        """
        csv.field_size_limit(_FIELD_LIMIT)
        delimiter, quoted = self._dialect()
        lines = _Lines(text_lines(self.path))
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        records = _readable(csv.reader(lines, delimiter=delimiter, quoting=quoting), lines)
        batch = _new_batch()
        header = _header(records, lines, batch)
        done = lines.number
        for record in records:
            line, offset, text = lines.take()
            batch.faults += lines.take_faults()
            if not record:
                continue
            fault = _width_fault(record, header)
            if fault:
                location = Location(line, offset, message=fault, excerpt=excerpt_of(text))
                batch.faults.append(Fault("table-columns", location))
                continue
            _append(batch, dict(zip(header, record, strict=False)), line, offset, text)
            if len(batch.values) >= _BATCH_ROWS:
                batch.lines, done = lines.number - done, lines.number
                yield batch
                batch = _new_batch()
        batch.faults += lines.take_faults()
        batch.lines = lines.number - done
        yield batch

    def _dialect(self) -> tuple[str, bool]:
        """Return the separator, and whether quotes delimit fields."""
        sample = [line.text for line, _ in zip(text_lines(self.path), range(_SAMPLE_LINES))]  # noqa: B905 - stops at the shorter
        if self.format == "tsv":
            return "\t", _regularity(sample, "\t", quoted=True) >= _regularity(
                sample, "\t", quoted=False
            )
        header = sample[0] if sample else ""
        delimiter = max(_CANDIDATES, key=lambda mark: (header.count(mark), mark == ","))
        return delimiter, True


def _readable(records: Iterator[list[str]], lines: _Lines) -> Iterator[list[str]]:
    """Yield the records.

    Raises:
        UnreadableError: A line cannot be parsed; the message names it.
    """
    try:
        yield from records
    except csv.Error as error:
        reason = str(error).partition(" - ")[0]
        raise UnreadableError(
            f"Line {lines.number:,} is not a line of a table: {reason}. If the lines end with "
            "carriage returns alone, save it again with line feeds; otherwise quote the field."
        ) from None


def _regularity(sample: list[str], delimiter: str, *, quoted: bool) -> tuple[float, int]:
    """Return the share of records that are as wide as the first one, and how many records."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(sample, delimiter=delimiter, quoting=quoting)
    try:
        widths = [len(record) for record in reader if record]
    except csv.Error:
        return 0.0, 0
    if not widths:
        return 0.0, 0
    return widths.count(widths[0]) / len(widths), len(widths)


class _Lines:
    """Passes lines to `csv.reader` and records where the current record started."""

    def __init__(self, lines: Iterator[TextLine]) -> None:
        self._lines = lines
        self._start: TextLine | None = None
        self._faults: list[Fault] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        if self._start is None:
            self._start = line
        if line.fault is not None:
            self._faults.append(line.fault)
        return line.text

    def take(self) -> tuple[int, int, str]:
        """Return line number, offset and text of the first line of the record just read."""
        start, self._start = self._start, None
        return (start.number, start.offset, start.text.rstrip("\r\n")) if start else (0, 0, "")

    def take_faults(self) -> list[Fault]:
        """Return the faults since the last call."""
        faults, self._faults = self._faults, []
        return faults


def _new_batch() -> Batch:
    return Batch([], ListLocations(offsets=[]), 0)


def _append(batch: Batch, value: dict[str, str], line: int, offset: int, text: str) -> None:
    locations = batch.locations
    assert isinstance(locations, ListLocations)  # noqa: S101 - made by _new_batch
    batch.values.append(value)
    locations.append(line, offset, text[:_EXCERPT_LENGTH])


def _header(records: Iterator[list[str]], lines: _Lines, batch: Batch) -> list[str]:
    header = next(records, list[str]())
    line, offset, text = lines.take()
    names = [name.strip() for name in header]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = f"the column {repeated[0]!r} is named more than once"
        location = Location(line, offset, message=message, excerpt=excerpt_of(text))
        batch.faults.append(Fault("table-header", location))
    return names


def _width_fault(record: list[str], header: list[str]) -> str:
    extra = record[len(header) :]
    if len(record) < len(header) or any(extra):
        return f"{len(record)} fields, but the header names {len(header)}"
    return ""


class PlainText(FileSource):
    """A text file: every line is a completion without a prompt, for open-ended generation."""

    format = "txt"
    rows_are_lines = True

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        batch, done = _new_batch(), 0
        for line in text_lines(self.path):
            if line.fault:
                batch.faults.append(line.fault)
            text = line.text.rstrip("\r\n")
            if text.strip():
                value = {"prompt": "", "completion": text}
                _append(batch, value, line.number, line.offset, text)
            batch.lines = line.number - done
            if len(batch.values) >= _BATCH_ROWS:
                done = line.number
                yield batch
                batch = _new_batch()
        yield batch
