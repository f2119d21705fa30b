"""CSV and TSV tables, and plain text files: every cell is kept as a string, unchanged.

Fields are parsed strictly. A line that opens a quote which never ends is named and left out, and
reading goes on with the next line, so such a quote swallows no other rows.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location, excerpt_of

from .batch import Batch, FileSource, ListLocations
from .lines import text_lines
from .names import distinct, header_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .lines import TextLine

__all__ = ["Delimited", "PlainText"]

_BATCH_ROWS: Final = 4096
_SAMPLE_LINES: Final = 200
_CANDIDATES: Final = (",", ";", "\t", "|")
_EXCERPT_LENGTH: Final = 200
_LONGEST_FIELD: Final = 1 << 26

_Quoting: TypeAlias = Literal[0, 3]


class Delimited(FileSource):
    """A table of separated values whose first record names the columns.

    The separator of a CSV file is detected (comma, semicolon, tab or bar). In a TSV file it is
    detected whether quotes delimit fields: in some files they are plain characters.
    """

    rows_are_lines = True

    def __init__(
        self,
        path: Path,
        format: Literal["csv", "tsv"],  # noqa: A002 - the word
        encoding: str | None = None,
    ) -> None:
        super().__init__(path)
        self.format = format
        self.encoding = encoding

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            UnreadableError: The file is no table that can be read.
        """
        csv.field_size_limit(_LONGEST_FIELD)
        lines = _Lines(text_lines(self.path, self.encoding))
        records = _Records(lines, self._dialect())
        batch = _new_batch()
        header = self._header(records, batch)
        done = lines.number
        for record in records:
            batch.faults += records.take_faults()
            start = lines.take()
            if not record:
                continue
            fault = _width_fault(record, header)
            if fault:
                location = _location(start, fault, lines.number)
                batch.faults.append(Fault("table-columns", location, lost=True))
            else:
                _append(batch, dict(zip(header, record, strict=False)), start)
            if len(batch.values) >= _BATCH_ROWS or len(batch.faults) >= _BATCH_ROWS:
                batch.lines, done = lines.number - done, lines.number
                yield batch
                batch = _new_batch()
        batch.faults += records.take_faults()
        batch.lines = lines.number - done
        yield batch

    def _header(self, records: _Records, batch: Batch) -> list[str]:
        """Return the names of the columns.

        Raises:
            UnreadableError: The first record cannot be read.
        """
        record = next(records, list[str]())
        broken = next((fault for fault in records.faults if fault.lost), None)
        if broken is not None:
            raise UnreadableError(
                f"{str(self.path)!r} is no table that can be read: line {broken.location.line:,}, "
                f"which should name the columns, is not a line of a table: "
                f"{broken.location.message}."
            )
        batch.faults += records.take_faults()
        start = records.lines.take()
        names = [name.strip() or f"column {at}" for at, name in enumerate(record, 1)]
        line, offset = (start.number, start.offset) if start else (1, 0)
        batch.faults += header_faults(names, line, offset, start.text if start else "")
        records.width = len(names)
        return distinct(names)

    def _dialect(self) -> _Dialect:
        """Return the separator, and how quotes and spaces count."""
        lines = text_lines(self.path, self.encoding)
        sample = [line.text for line, _ in zip(lines, range(_SAMPLE_LINES))]  # noqa: B905 - stops at the shorter
        if self.format == "tsv":
            quoted = _regularity(sample, _Dialect("\t"))
            plain = _regularity(sample, _Dialect("\t", csv.QUOTE_NONE))
            return _Dialect("\t") if quoted >= plain else _Dialect("\t", csv.QUOTE_NONE)
        header = sample[0] if sample else ""
        delimiter = max(_CANDIDATES, key=lambda mark: (header.count(mark), mark == ","))
        return _Dialect(delimiter, skip_space=_quotes_follow_spaces(sample, delimiter))


class _Dialect(csv.Dialect):
    """How fields are separated and quoted."""

    lineterminator = "\n"
    quotechar = '"'
    doublequote = True

    def __init__(
        self, delimiter: str, quoting: _Quoting = csv.QUOTE_MINIMAL, *, skip_space: bool = False
    ) -> None:
        self.delimiter = delimiter
        self.quoting = quoting
        self.skipinitialspace = skip_space
        super().__init__()


def _quotes_follow_spaces(sample: list[str], delimiter: str) -> bool:
    """Return whether fields are written as `"a", "b"`: a space after the separator, then a quote.

    Only then is the space none of the field: ` yes` after a comma is what somebody typed.
    """
    if not sample or f"{delimiter} " not in sample[0]:
        return False
    pattern = re.compile(re.escape(delimiter) + ' +"(?!")')
    return any(map(pattern.search, sample))


def _regularity(sample: list[str], dialect: _Dialect) -> tuple[float, int]:
    """Return the share of records that are as wide as the first one, and how many records."""
    try:
        widths = [len(record) for record in csv.reader(sample, dialect) if record]
    except csv.Error:
        return 0.0, 0
    if not widths:
        return 0.0, 0
    return widths.count(widths[0]) / len(widths), len(widths)


class _Lines:
    """Passes lines to `csv.reader`, and keeps those of the current record to pass them again."""

    def __init__(self, lines: Iterator[TextLine]) -> None:
        self._lines = lines
        self._again: list[TextLine] = []
        self.record: list[TextLine] = []
        self.faults: list[Fault] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.pop()
        else:
            line = next(self._lines)
            if line.fault is not None:
                self.faults.append(line.fault)
        self.record.append(line)
        self.number = line.number
        return line.text

    def take(self) -> TextLine | None:
        """Return the first line of the record just read; the next line begins another record."""
        start = self.record[0] if self.record else None
        self.record = []
        return start

    def only_first(self) -> TextLine:
        """Return the first line of the current record; the others will be passed again."""
        first, *others = self.record
        self._again += reversed(others)
        self.record = []
        self.number = first.number
        return first


class _Records:
    """The records of a table; a line that cannot belong to one is a fault.

    Attributes:
        lines: Where they come from.
        width: How many fields a record has, as soon as that is known.
        faults: What is wrong with the lines that were read since the last `take_faults`.
    """

    def __init__(self, lines: _Lines, dialect: _Dialect) -> None:
        self.lines = lines
        self.width = 0
        self.faults: list[Fault] = []
        self._dialect = dialect
        self._strict = csv.reader(lines, dialect, strict=True)

    def take_faults(self) -> list[Fault]:
        """Return the faults since the last call."""
        faults, self.faults, self.lines.faults = self.faults + self.lines.faults, [], []
        return faults

    def __iter__(self) -> _Records:
        return self

    def __next__(self) -> list[str]:
        while True:
            try:
                record = next(self._strict)
            except csv.Error as error:
                read = self._read_otherwise(str(error).partition(" - ")[0])
                if read is not None:
                    return read
            else:
                if len(record) == self.width or not self._are_rows():
                    return record
                self._leave_out_first()

    def _read_otherwise(self, reason: str) -> list[str] | None:
        """Read the lines of a record that is not strictly right; None where its first is named."""
        if not self.lines.record:  # the last line of the file, passed again, was empty
            return []
        unclosed = "unexpected end" in reason or "field larger" in reason
        if len(self.lines.record) == 1 and not unclosed:
            fields = _with_inner_quotes(self.lines.record[0].text, self._dialect.delimiter)
            if len(fields) == self.width:
                return fields
        if not unclosed and not self._are_rows():
            try:
                texts = [line.text for line in self.lines.record]
                (record,) = csv.reader(texts, self._dialect)
            except (csv.Error, ValueError):
                if len(self.lines.record) == 1:
                    start = self.lines.take()
                    location = _location(start, reason[:1].lower() + reason[1:])
                    self.faults.append(Fault("table-line", location, lost=True))
                    return None
            else:
                return record
        self._leave_out_first()
        return None

    def _are_rows(self) -> bool:
        """Return whether each line of a record is a row by itself, were it not for the quotes."""
        lines = self.lines.record
        if len(lines) < 2 or self.width < 2:  # noqa: PLR2004 - a record of several fields and lines
            return False
        plain = _Dialect(self._dialect.delimiter, csv.QUOTE_NONE)
        try:
            records = csv.reader([line.text for line in lines], plain)
            return all(len(record) == self.width for record in records)
        except csv.Error:
            return False

    def _leave_out_first(self) -> None:
        start = self.lines.only_first()
        message = "a quote opens a field here and does not end as a field does"
        self.faults.append(Fault("table-quote", _location(start, message), lost=True))


def _with_inner_quotes(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line in which quotes within quoted fields are not doubled.

    A quoted field then ends at the first quote before a separator or the end of the line.
    """
    rest = line.rstrip("\r\n") + delimiter
    fields: list[str] = []
    while rest:
        mark = '"' + delimiter if rest.startswith('"') else delimiter
        field, found, rest = rest.removeprefix('"' if len(mark) > 1 else "").partition(mark)
        if not found:
            return []
        fields.append(field.replace('""', '"') if len(mark) > 1 else field)
    return fields


def _location(start: TextLine | None, message: str, last: int = 0) -> Location:
    if start is None:
        return Location(last, message=message)
    if last > start.number:
        message += f" (lines {start.number:,} to {last:,})"
    excerpt = excerpt_of(start.text[:_EXCERPT_LENGTH].rstrip("\r\n"))
    return Location(start.number, start.offset, message=message, excerpt=excerpt)


def _new_batch() -> Batch:
    return Batch([], ListLocations(offsets=[]), 0)


def _append(batch: Batch, value: dict[str, str], start: TextLine | None) -> None:
    locations = batch.locations
    assert isinstance(locations, ListLocations)  # noqa: S101 - made by _new_batch
    batch.values.append(value)
    if start is None:
        locations.append(0, 0, "")
    else:
        locations.append(start.number, start.offset, start.text[:_EXCERPT_LENGTH].rstrip("\r\n"))


def _width_fault(record: list[str], header: list[str]) -> str:
    if len(record) == len(header):
        return ""
    if len(record) < len(header) or any(record[len(header) :]):
        return f"{len(record)} fields, but the header names {len(header)}"
    return ""


class PlainText(FileSource):
    """A text file: every line is a completion without a prompt, for open-ended generation."""

    format = "txt"
    rows_are_lines = True

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path)
        self.encoding = encoding

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        batch, done = _new_batch(), 0
        for line in text_lines(self.path, self.encoding):
            if line.fault:
                batch.faults.append(line.fault)
            text = line.text.rstrip("\r\n")
            if text.strip():
                _append(batch, {"prompt": "", "completion": text}, line)
            batch.lines = line.number - done
            if len(batch.values) >= _BATCH_ROWS:
                done = line.number
                yield batch
                batch = _new_batch()
        yield batch
