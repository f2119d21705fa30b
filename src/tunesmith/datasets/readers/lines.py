"""Lines of a text file with their offsets, in the encoding that they turn out to have.

UTF-8 with or without a byte order mark, UTF-16 with one, and, line by line, Windows-1252 where a
line is not UTF-8: that is then a fault with its location, because a guess may be wrong.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final, NamedTuple

from tunesmith.datasets.findings import Fault, Location, excerpt_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BOMS", "TextLine", "byte_order_mark", "text_lines"]

BOMS: Final = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class TextLine(NamedTuple):
    """One line of the file.

    Attributes:
        text: The line with its line end.
        number: Counted from 1.
        offset: Byte of the file at which it starts.
        fault: What is wrong with its bytes, or None.
    """

    text: str
    number: int
    offset: int
    fault: Fault | None = None


def byte_order_mark(start: bytes) -> tuple[bytes, str]:
    """Return the byte order mark that `start` begins with (or nothing) and the encoding."""
    for mark, encoding in BOMS.items():
        if start.startswith(mark):
            return mark, encoding
    return b"", "utf-8"


def text_lines(path: Path) -> Iterator[TextLine]:
    """Yield the lines of a file."""
    with path.open("rb") as stream:
        mark, encoding = byte_order_mark(stream.read(4))
    if encoding == "utf-8":
        yield from _utf8_lines(path, len(mark))
    else:
        yield from _utf16_lines(path, encoding, len(mark))


def _utf8_lines(path: Path, offset: int) -> Iterator[TextLine]:
    with path.open("rb") as stream:
        stream.seek(offset)
        for number, line in enumerate(stream, 1):
            try:
                yield TextLine(line.decode("utf-8"), number, offset)
            except UnicodeDecodeError as error:
                yield _guessed(line, number, offset, error)
            offset += len(line)


def _guessed(line: bytes, number: int, offset: int, error: UnicodeDecodeError) -> TextLine:
    text = "".join(_CP1252[byte] for byte in line)
    byte = line[error.start]
    message = f"byte 0x{byte:02x} is not UTF-8; read as Windows-1252 it is {_CP1252[byte]!r}"
    location = Location(
        line=number,
        byte_offset=offset + error.start,
        message=message,
        excerpt=excerpt_of(text, error.start),
        column=error.start + 1,
    )
    return TextLine(text, number, offset, Fault("encoding-guessed", location))


def _cp1252_character(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:  # five bytes are undefined there, but not in Latin-1
        return chr(byte)


_CP1252: Final = [_cp1252_character(byte) for byte in range(256)]


def _utf16_lines(path: Path, encoding: str, offset: int) -> Iterator[TextLine]:
    with path.open("r", encoding=encoding, errors="replace", newline="\n") as stream:
        stream.read(1)  # the byte order mark
        for number, line in enumerate(stream, 1):
            fault = None
            if "\ufffd" in line:
                location = Location(number, offset, message="not valid UTF-16", excerpt=line[:40])
                fault = Fault("encoding-guessed", location)
            yield TextLine(line, number, offset, fault)
            offset += len(line.encode(encoding, "surrogatepass"))
