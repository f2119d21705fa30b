"""JSONL files, read in chunks of whole lines; any range of bytes can be read separately."""

from __future__ import annotations

import io
import re
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

from tunesmith.datasets.findings import Fault, Location, excerpt_of
from tunesmith.datasets.json_types import is_object

from .batch import Batch, ChunkLocations, FileSource, ListLocations
from .byte_scan import count_byte
from .json_chunks import ChunkDecoder, decoded_values
from .json_values import UNUSABLE, JsonFault, decode_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK_SIZE", "JsonLines", "read_chunks"]

CHUNK_SIZE: Final = 1 << 19

_BOM: Final = b"\xef\xbb\xbf"
_LINE_FEED: Final = 10
_FEW_LINES: Final = 32
_EXCERPT_BYTES: Final = 400
_BLANK_LINES: Final = re.compile(rb"^(?:[ \t\r]*\n){7}[ \t\r\n]*\n", re.MULTILINE)


class JsonLines(FileSource):
    """A JSONL file.

    Lines end with a line feed, with or without a carriage return before it. A byte order mark at
    the start is skipped.
    """

    format = "jsonl"
    rows_are_lines = True

    def batches(self, start: int = 0, end: int | None = None) -> Iterator[Batch]:
        """Yield the rows of the lines that start in the range of bytes.

        Line numbers count from 1 at the first of these lines.
        """
        line = 1
        decoder = ChunkDecoder()
        with self.path.open("rb") as stream:
            for offset, chunk in read_chunks(stream, start, end):
                first = len(_BOM) if offset == 0 and chunk.startswith(_BOM) else 0
                text = chunk[first:] if first else chunk
                lines = count_byte(text, _LINE_FEED) + (bool(text) and not text.endswith(b"\n"))
                yield from _decode_chunk(decoder, text, lines, line, offset + first)
                line += lines


def read_chunks(
    stream: IO[bytes], start: int = 0, end: int | None = None, size: int = CHUNK_SIZE
) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of chunks of whole lines that start in the range.

    A range takes the line that starts at its first byte or after, and the last line that starts
    before its end, to that line's end: adjoining ranges share no line and miss none.
    """
    offset = start
    if start:
        stream.seek(start - 1)
        offset = start - 1 + len(stream.readline())
    while end is None or offset < end:
        wanted = size if end is None else min(size, end - offset)
        chunk = stream.read(wanted)
        if not chunk:
            return
        if not chunk.endswith(b"\n"):
            chunk += stream.readline()
        yield offset, chunk
        offset += len(chunk)


def _decode_chunk(
    decoder: ChunkDecoder, chunk: bytes, lines: int, first_line: int, first_offset: int
) -> Iterator[Batch]:
    """Yield the rows of a chunk: all at once if nothing is wrong, else each half separately.

    So a few broken lines cost only the speed of the rows around them.
    """
    decoded = decoder.decode(chunk, lines) if lines else None
    if decoded is not None:
        locations = ChunkLocations(chunk, first_line, first_offset)
        yield Batch(
            partial(decoded_values, decoded, chunk),
            locations,
            lines,
            pairs=decoded.pairs,
            conversations=decoded.conversations,
        )
        return
    if _BLANK_LINES.search(chunk) is not None:
        yield from _decode_between_blanks(decoder, chunk, first_line, first_offset)
        return
    middle = chunk.find(b"\n", len(chunk) // 2) + 1
    if lines < _FEW_LINES or not 0 < middle < len(chunk):
        yield _decode_lines(chunk, first_line, first_offset, lines)
        return
    half = count_byte(chunk[:middle], _LINE_FEED)
    yield from _decode_chunk(decoder, chunk[:middle], half, first_line, first_offset)
    yield from _decode_chunk(
        decoder, chunk[middle:], lines - half, first_line + half, first_offset + middle
    )


def _decode_between_blanks(
    decoder: ChunkDecoder, chunk: bytes, first_line: int, first_offset: int
) -> Iterator[Batch]:
    """Yield the rows of a chunk; blank lines in a row are one fault, however many they are."""
    line, position = first_line, 0
    for blank in _BLANK_LINES.finditer(chunk):
        start, end = blank.span()
        if start > position:
            text = chunk[position:start]
            lines = count_byte(text, _LINE_FEED)
            yield from _decode_chunk(decoder, text, lines, line, first_offset + position)
            line += lines
        lines = count_byte(blank[0], _LINE_FEED)
        location = Location(line, first_offset + start, message="the line is blank")
        fault = Fault("blank-line", location, count=lines)
        yield Batch([], ListLocations(offsets=[]), lines, faults=[fault])
        line, position = line + lines, end
    if text := chunk[position:]:
        lines = count_byte(text, _LINE_FEED) + (not text.endswith(b"\n"))
        yield from _decode_chunk(decoder, text, lines, line, first_offset + position)


def _decode_lines(chunk: bytes, first_line: int, first_offset: int, lines: int) -> Batch:
    locations = ListLocations(offsets=[])
    batch = Batch([], locations, lines)
    offset = first_offset
    for number, line in enumerate(io.BytesIO(chunk), first_line):
        text = line.rstrip(b"\r\n")
        value, faults = _decode_row(text)
        for index, fault in enumerate(faults):
            lost = value is None and index == 0 and fault.id != "blank-line"
            batch.faults.append(_fault_at(fault, text, number, offset, lost=lost))
        if value is not None:
            batch.values.append(value)
            locations.append(number, offset, text[:_EXCERPT_BYTES].decode("utf-8", "replace"))
        offset += len(line)
    return batch


def _decode_row(text: bytes) -> tuple[dict[str, Any] | None, list[JsonFault]]:
    """Return the row that a line holds, if it is usable, and the faults of the line."""
    if not text.strip():
        return None, [JsonFault("blank-line", "the line is blank")]
    if text.startswith(_BOM):
        value, faults = _decode_row(text.removeprefix(_BOM))
        return value, [*faults, JsonFault("bom-inside", "a byte order mark")]
    value, faults = decode_line(text)
    if any(fault.id in UNUSABLE for fault in faults):
        return None, faults
    if value is None and faults:
        return None, faults
    if not is_object(value):
        kind = type(value).__name__
        words = {"list": "an array", "str": "a string", "NoneType": "null", "bool": "a boolean"}
        message = f"a row must be a JSON object, not {words.get(kind, 'a number')}"
        return None, [*faults, JsonFault("json-not-object", message)]
    return value, faults


def _fault_at(fault: JsonFault, text: bytes, line: int, offset: int, *, lost: bool) -> Fault:
    return Fault(
        fault.id,
        Location(
            line=line,
            byte_offset=offset + fault.position,
            path=fault.path,
            message=fault.message,
            excerpt=excerpt_of(text.decode("utf-8", "replace"), (fault.column or 1) - 1),
            column=fault.column,
        ),
        lost,
    )
