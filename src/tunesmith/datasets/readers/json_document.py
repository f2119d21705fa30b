"""JSON files that are not JSONL: an array of rows, or rows one after another over many lines.

Read value by value, so a file may be larger than memory as long as no single row is.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Final

from tunesmith.datasets.findings import Fault, Location, excerpt_of
from tunesmith.datasets.json_types import is_array, is_object

from .batch import Batch, FileSource, ListLocations
from .json_values import JsonFault, character_faults, strict_decoder
from .lines import byte_order_mark

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JsonDocument"]

_BATCH_ROWS: Final = 4096
_READ_SIZE: Final = 1 << 18
_SPACE: Final = " \t\r\n"


class JsonDocument(FileSource):
    """A JSON file: `[row, row, …]`, or rows that follow each other with or without commas.

    A file that is one object whose fields are columns (`{"prompt": [...], …}`) or that holds its
    rows in one array field (`{"data": [...]}`) is read, too.
    """

    format = "json"

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`."""
        with self.path.open("rb") as stream:
            mark, encoding = byte_order_mark(stream.read(4))
            stream.seek(len(mark))
            reader = _Values(_Text(stream, encoding, len(mark)))
            batch, done = _new_batch(), 0
            for value, location in reader.values():
                _add(batch, value, location, alone=reader.in_array)
                if len(batch.values) >= _BATCH_ROWS:
                    batch.lines, done = location.line - done, location.line
                    yield batch
                    batch = _new_batch()
            batch.faults += reader.faults
            batch.lines = reader.text.line - done
            yield batch


def _new_batch() -> Batch:
    return Batch([], ListLocations(offsets=[]), 0)


def _add(batch: Batch, value: Any, location: Location, *, alone: bool) -> None:
    locations = batch.locations
    assert isinstance(locations, ListLocations)  # noqa: S101 - made by _new_batch
    for row in [value] if alone else _rows_of(value):
        if is_object(row):
            batch.values.append(row)
            locations.append(location.line, location.byte_offset or 0, location.excerpt)
        else:
            message = "a row must be a JSON object"
            with_message = Location(
                location.line, location.byte_offset, message=message, excerpt=location.excerpt
            )
            batch.faults.append(Fault("json-not-object", with_message))


def _rows_of(value: Any) -> list[Any]:
    """Return the rows that one value of the document stands for: nearly always itself."""
    if not is_object(value) or "messages" in value or not value:
        return [value]
    columns = list(value.values())
    if all(is_array(column) for column in columns):
        if len(columns) == 1 and all(is_object(row) for row in columns[0]):
            return list(columns[0])
        if len({len(column) for column in columns}) == 1 and "input" not in value:
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if all(is_object(column) for column in columns) and "input" not in value:
        keys = list(columns[0])
        if all(list(column) == keys for column in columns):
            return [{name: value[name][key] for name in value} for key in keys]
    return [value]


class _Text:
    """The text of a stream, read on demand; knows line and byte of its first character."""

    def __init__(self, stream: IO[bytes], encoding: str, offset: int) -> None:
        self._stream = stream
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self.rest = ""
        self.line = 1
        self.column = 1
        self.offset = offset
        self.ended = False

    def more(self) -> None:
        """Read at least as much again as is buffered."""
        data = self._stream.read(max(_READ_SIZE, len(self.rest)))
        self.ended = not data
        self.rest += self._decoder.decode(data, final=self.ended)

    def drop(self, length: int) -> None:
        """Skip `length` characters."""
        gone, self.rest = self.rest[:length], self.rest[length:]
        breaks = gone.count("\n")
        self.line += breaks
        self.column = length - gone.rfind("\n") if breaks else self.column + length
        self.offset += length if gone.isascii() else len(gone.encode(self._encoding))

    def drop_space(self, marks: str = "") -> None:
        """Skip whitespace and the given characters."""
        while True:
            kept = self.rest.lstrip(_SPACE + marks)
            self.drop(len(self.rest) - len(kept))
            if kept or self.ended:
                return
            self.more()


class _Values:
    """The values of a JSON document, one by one; `faults` lists what is wrong with it."""

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.in_array = False
        self.faults: list[Fault] = []

    def values(self) -> Iterator[tuple[Any, Location]]:
        """Yield each value with its location."""
        text = self.text
        text.drop_space()
        self.in_array = in_array = text.rest.startswith("[")
        if in_array:
            text.drop(1)
        while True:
            text.drop_space(",")
            if not text.rest:
                if in_array:
                    self._stop("the array is not closed: ']' is missing at the end of the file")
                return
            if in_array and text.rest.startswith("]"):
                text.drop(1)
                text.drop_space()
                if text.rest:
                    self._stop("more text after the end of the array")
                return
            found = self._next()
            if found is None:
                return
            yield found

    def _next(self) -> tuple[Any, Location] | None:
        text = self.text
        while True:
            found: list[JsonFault] = []
            try:
                value, end = strict_decoder(found).raw_decode(text.rest)
            except json.JSONDecodeError as error:
                if text.ended:
                    self._stop(f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}", error.pos)
                    return None
                text.more()
                continue
            except RecursionError:
                self._stop("the value is nested too deeply")
                return None
            if end == len(text.rest) and not text.ended:
                text.more()
                continue
            excerpt = excerpt_of(text.rest[: min(end, 200)])
            location = Location(text.line, text.offset, excerpt=excerpt)
            found += character_faults(value)
            self.faults += [
                Fault(fault.id, replace(location, path=fault.path, message=fault.message))
                for fault in found
            ]
            text.drop(end)
            return value, location

    def _stop(self, message: str, position: int = 0) -> None:
        text = self.text
        text.drop(position)
        location = Location(
            text.line,
            text.offset,
            message=f"{message} at column {text.column}" if position else message,
            excerpt=excerpt_of(text.rest[:200]),
            column=text.column,
        )
        self.faults.append(Fault("json-syntax", location))
