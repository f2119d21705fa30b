"""JSON files that are not JSONL: an array of rows, or rows one after another over many lines.

Read value by value, so a file may be larger than memory as long as no single row is. A value that
is broken is named and left out, and reading goes on with the next one: see `json_recovery`.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Final

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location, excerpt_of
from tunesmith.datasets.json_types import is_array, is_object
from tunesmith.datasets.recognition import holds_conversation

from .batch import Batch, FileSource, ListLocations
from .json_recovery import LONGEST_SEARCH, WRAPPED_ROWS, RowStart, find_next_value
from .json_values import UNUSABLE, JsonFault, character_faults, strict_decoder
from .lines import MARK, UNDECODABLE, encoding_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["JsonDocument"]

_BATCH_ROWS: Final = 4096
_READ_SIZE: Final = 1 << 18
_NOT_SPACE: Final = re.compile(f"[^ \t\r\n{MARK}]")
_NOT_SPACE_OR_COMMA: Final = re.compile(f"[^ \t\r\n,{MARK}]")
_LONGEST_TOKEN: Final = 16


class JsonDocument(FileSource):
    """A JSON file: `[row, row, …]`, or rows that follow each other with or without commas.

    A file that is one object whose fields are columns (`{"prompt": [...], …}`) or that holds its
    rows in one array field (`{"data": [...]}`) is read, too.
    """

    format = "json"

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path)
        self.encoding = encoding

    def batches(self) -> Iterator[Batch]:
        """See `Source.batches`.

        Raises:
            UnreadableError: There is no such encoding.
        """
        mark, encoding = encoding_of(self.path, self.encoding)
        with self.path.open("rb") as stream:
            stream.seek(len(mark))
            reader = _Values(_Text(stream, encoding, len(mark)))
            batch, done = _new_batch(), 0
            try:
                for value, location in reader.values():
                    _add(batch, value, location, alone=reader.in_array)
                    if len(batch.values) >= _BATCH_ROWS or len(reader.faults) >= _BATCH_ROWS:
                        batch.faults += reader.take_faults()
                        batch.lines, done = location.line - done, location.line
                        yield batch
                        batch = _new_batch()
            except (UnicodeError, LookupError) as error:
                message = f"{str(self.path)!r} cannot be read as {encoding}: {error}."
                raise UnreadableError(message) from None
            batch.faults += reader.take_faults()
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
            fault = Fault("json-not-object", replace(location, message=message), lost=True)
            batch.faults.append(fault)


def _rows_of(value: Any) -> list[Any]:
    """Return the rows that one value of the document stands for: nearly always itself."""
    if not is_object(value) or not value or holds_conversation(value):
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
    """The text of a stream, read on demand; knows line, column and byte of its position.

    Attributes:
        buffer: What has been read and not yet dropped.
        position: Where reading goes on, in `buffer`.
        line: Line of the position, counted from 1.
        column: Column of the position, counted from 1.
        offset: Byte of the position.
        ended: Whether the whole stream has been read.
        undecodable: Whether any bytes could not be decoded; they are `UNDECODABLE`.
    """

    def __init__(self, stream: IO[bytes], encoding: str, offset: int) -> None:
        self._stream = stream
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("tunesmith.undecodable")
        self._byte_each = len("aa\n".encode(encoding)) == len("aa\n")
        self.buffer = ""
        self.position = 0
        self.line = 1
        self.column = 1
        self.offset = offset
        self.ended = False
        self.undecodable = False

    @property
    def buffered(self) -> int:
        """Characters that are buffered from the position on."""
        return len(self.buffer) - self.position

    def more(self) -> None:
        """Read at least as much again as is buffered."""
        data = self._stream.read(max(_READ_SIZE, self.buffered))
        self.ended = not data
        piece = self._decoder.decode(data, final=self.ended)
        self.undecodable = self.undecodable or UNDECODABLE in piece
        self.buffer = self.buffer[self.position :] + piece
        self.position = 0

    def place(self, at: int) -> tuple[int, int, int]:
        """Return line, column and byte of a later position in the buffer."""
        gone = self.buffer[self.position : at]
        breaks = gone.count("\n")
        column = len(gone) - gone.rfind("\n") if breaks else self.column + len(gone)
        plain = self._byte_each and gone.isascii()
        size = len(gone) if plain else len(gone.encode(self.encoding, "replace"))
        return self.line + breaks, column, self.offset + size

    def skip_to(self, end: int) -> None:
        """Go on at `end` of the buffer."""
        self.line, self.column, self.offset = self.place(end)
        self.position = end

    def skip_space(self, *, commas: bool = False) -> str:
        """Skip white space, and commas if so asked; return the next character, or ""."""
        pattern = _NOT_SPACE_OR_COMMA if commas else _NOT_SPACE
        while True:
            found = pattern.search(self.buffer, self.position)
            self.skip_to(found.start() if found else len(self.buffer))
            if found:
                return found[0]
            if self.ended:
                return ""
            self.more()


class _Values:
    """The values of a JSON document, one by one; `take_faults` tells what is wrong with it."""

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.in_array = False
        self.faults: list[Fault] = []
        self._wrapped = False
        self._row_start: RowStart | None = None

    def take_faults(self) -> list[Fault]:
        """Return the faults since the last call."""
        faults, self.faults = self.faults, []
        return faults

    def values(self) -> Iterator[tuple[Any, Location]]:
        """Yield each value with its location."""
        text = self.text
        while True:
            if text.skip_space() == "[" and not self.in_array:
                self.in_array = True
                text.skip_to(text.position + 1)
            yield from self._values_of_array() if self.in_array else self._values_in_a_row()
            if not text.skip_space():
                return
            # Arrays one after another, as where files were joined.
            self.in_array = False
            self._note("more text after the end of the array")

    def _values_in_a_row(self) -> Iterator[tuple[Any, Location]]:
        while not self.in_array and self.text.skip_space(commas=True):
            if found := self._next():
                yield found
        if self.in_array:
            yield from self._values_of_array()

    def _values_of_array(self) -> Iterator[tuple[Any, Location]]:
        text = self.text
        while (mark := text.skip_space(commas=True)) != "]":
            if not mark:
                self._note("the array is not closed: ']' is missing at the end of the file")
                return
            if found := self._next():
                yield found
        text.skip_to(text.position + 1)
        if self._wrapped and text.skip_space() == "}":
            text.skip_to(text.position + 1)

    def _next(self) -> tuple[Any, Location] | None:
        """Read one value; None where it is left out, or was the beginning of an array of rows."""
        text = self.text
        while True:
            found: list[JsonFault] = []
            try:
                value, end = strict_decoder(found).raw_decode(text.buffer, text.position)
            except json.JSONDecodeError as error:
                if not text.ended and _may_go_on(error, text.buffer):
                    text.more()
                    continue
                if not self.in_array and self._enter_rows(error.pos):
                    return None
                reason = f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}".removesuffix(
                    " at"
                )
                self._leave_out("json-syntax", reason, error.pos)
                return None
            except RecursionError:
                self._leave_out("json-too-deep", "the value is nested too deeply")
                return None
            except ValueError as error:  # an integer of thousands of digits
                self._leave_out("json-syntax", f"not readable: {error}")
                return None
            if end == len(text.buffer) and not text.ended:
                text.more()
                continue
            if found and len(value) == 1 and not self.in_array and self._enter_rows(end):
                return None
            return self._located(value, end, found)

    def _located(self, value: Any, end: int, found: list[JsonFault]) -> tuple[Any, Location] | None:
        """Return a value that was read with its location; None where a fault makes it unusable."""
        text = self.text
        start = text.position
        excerpt = excerpt_of(text.buffer[start : min(end, start + 200)])
        location = Location(text.line, text.offset, excerpt=excerpt)
        if text.undecodable and UNDECODABLE in text.buffer[start:end]:
            encoding = text.encoding.upper()
            found = [JsonFault("encoding", f"the row holds bytes that are not valid {encoding}")]
        else:
            found += character_faults(value)
        lost = any(fault.id in UNUSABLE for fault in found)
        for number, fault in enumerate(found):
            place = replace(location, path=fault.path, message=fault.message)
            self.faults.append(Fault(fault.id, place, lost=lost and number == 0))
        if is_object(value):
            self._row_start = RowStart.of(text.buffer, start, value) or self._row_start
        text.skip_to(end)
        return None if lost else (value, location)

    def _enter_rows(self, fault: int) -> bool:
        """Begin to read the array in an object such as `{"data": [`, of which one row is broken.

        Args:
            fault: A position that is not before the fault.
        """
        found = WRAPPED_ROWS.match(self.text.buffer, self.text.position)
        if found is None or fault < found.end():
            return False
        self.in_array = self._wrapped = True
        self.text.skip_to(found.end())
        return True

    def _note(self, message: str) -> None:
        text = self.text
        excerpt = excerpt_of(text.buffer[text.position : text.position + 200])
        location = Location(
            text.line, text.offset, message=message, excerpt=excerpt, column=text.column
        )
        self.faults.append(Fault("json-syntax", location))

    def _leave_out(self, rule: str, message: str, position: int | None = None) -> None:
        """Name the value that begins here, and go on at the next one."""
        text = self.text
        reach = 0 if position is None else position - text.position
        end = find_next_value(text.buffer, text.position, self._row_start, ended=text.ended)
        while end is None and not text.ended and text.buffered < LONGEST_SEARCH:
            text.more()
            end = find_next_value(text.buffer, text.position, self._row_start, ended=text.ended)
        at = text.position + reach
        line, column, offset = text.place(at)
        if position is not None:
            message += f" at column {column}"
        if end is None:
            message += "; no row can be read from there to the end of the file"
        excerpt = excerpt_of(text.buffer[at : at + 200])
        location = Location(line, offset, message=message, excerpt=excerpt, column=column)
        self.faults.append(Fault(rule, location, lost=True))
        if end is None:
            self._skip_all()
        else:
            text.skip_to(end)

    def _skip_all(self) -> None:
        text = self.text
        text.skip_to(len(text.buffer))
        while not text.ended:
            text.more()
            text.skip_to(len(text.buffer))


def _may_go_on(error: json.JSONDecodeError, buffer: str) -> bool:
    """Return whether more text could make the value whole."""
    return error.msg.startswith("Unterminated string") or error.pos + _LONGEST_TOKEN > len(buffer)
