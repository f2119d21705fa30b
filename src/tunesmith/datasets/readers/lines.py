"""Lines of a text file with their offsets, in the encoding that they turn out to have.

UTF-8, UTF-16 and UTF-32 with or without a byte order mark, any encoding that was named, and, line
by line, Windows-1252 where a line is not UTF-8: that is then a fault with its location, because a
guess may be wrong. A byte order mark within the file, where files were joined, is no text.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from tunesmith.datasets.dataset_errors import UnreadableError
from tunesmith.datasets.findings import Fault, Location, excerpt_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "BOMS",
    "MARK",
    "UNDECODABLE",
    "TextLine",
    "byte_order_mark",
    "checked_encoding",
    "encoding_of",
    "keep_undecodable",
    "other_guess",
    "text_lines",
]

BOMS: Final = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
MARK: Final = "\ufeff"
UNDECODABLE: Final = "\udcff"
"""Stands for bytes that could not be decoded; no decoder returns it."""

_SAMPLE: Final = 4096
_READ_SIZE: Final = 1 << 16
_CJK_RUN: Final = re.compile("[\u4e00-\u9fff]{2}")
_GUESSED: Final = "encoding-guessed"


def keep_undecodable(error: UnicodeError) -> tuple[str, int]:
    """Handle errors of decoding: `UNDECODABLE` for the bytes."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODABLE, error.end


codecs.register_error("tunesmith.undecodable", keep_undecodable)


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


def checked_encoding(name: str) -> str:
    """Return the name of an encoding as Python has it.

    Raises:
        UnreadableError: There is no such encoding of text.
    """
    try:
        b"\n".decode(name)
        return codecs.lookup(name).name
    except UnicodeError:  # one of several bytes a character
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise UnreadableError(
            f"There is no encoding {name!r}; usual ones are utf-8, utf-16, gbk, big5, shift_jis, "
            "cp1252."
        ) from None


def encoding_of(path: Path, named: str | None = None) -> tuple[bytes, str]:
    """Return the byte order mark of a file (or nothing) and its encoding.

    Args:
        path: The file.
        named: The encoding that the user named; a byte order mark counts for more.
    """
    with path.open("rb") as stream:
        start = stream.read(_SAMPLE)
    mark, encoding = byte_order_mark(start)
    if mark:
        return mark, encoding
    if named is not None:
        known = checked_encoding(named)
        return b"", {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(
            known, known
        )
    return b"", _encoding_by_zeros(start)


def _encoding_by_zeros(start: bytes) -> str:
    """Return UTF-16 or UTF-32 where every other byte, or three of four, are nearly all zero."""
    whole = start[: len(start) // 4 * 4]
    zeros = [whole[place::4].count(0) * 10 > len(whole) * 2 for place in range(4)]
    return {
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
    }.get((zeros[0], zeros[1], zeros[2], zeros[3]), "utf-8")


def text_lines(path: Path, encoding: str | None = None) -> Iterator[TextLine]:
    """Yield the lines of a file.

    Args:
        path: The file.
        encoding: Its encoding; detected by default.

    Raises:
        UnreadableError: There is no such encoding.
    """
    mark, found = encoding_of(path, encoding)
    if found == "utf-8":
        lines = _utf8_lines(path, len(mark), guess=encoding is None)
    else:
        lines = _decoded_lines(path, found, len(mark))
    for line in lines:
        if line.text.startswith(MARK):
            yield _without_mark(line)
        else:
            yield line


def _without_mark(line: TextLine) -> TextLine:
    message = "a byte order mark, which is left out"
    location = Location(line.number, line.offset, message=message, excerpt=excerpt_of(line.text))
    fault = line.fault or Fault("bom-inside", location)
    return line._replace(text=line.text.removeprefix(MARK), fault=fault)


def _utf8_lines(path: Path, offset: int, *, guess: bool) -> Iterator[TextLine]:
    with path.open("rb") as stream:
        stream.seek(offset)
        for number, line in enumerate(stream, 1):
            try:
                yield TextLine(line.decode("utf-8"), number, offset)
            except UnicodeDecodeError as error:
                if guess:
                    yield _guessed(line, number, offset, error)
                else:
                    text = line.decode("utf-8", "tunesmith.undecodable")
                    yield _checked(TextLine(text, number, offset), "utf-8")
            offset += len(line)


def _guessed(line: bytes, number: int, offset: int, error: UnicodeDecodeError) -> TextLine:
    text = "".join(_CP1252[byte] for byte in line)
    byte = line[error.start]
    message = f"byte 0x{byte:02x} is not UTF-8; read as Windows-1252 it is {_CP1252[byte]!r}"
    location = Location(
        line=number,
        byte_offset=offset + error.start,
        message=message + other_guess(line),
        excerpt=excerpt_of(text, error.start),
        column=error.start + 1,
    )
    return TextLine(text, number, offset, Fault(_GUESSED, location))


def other_guess(line: bytes) -> str:
    """Return the advice to name GBK where the line, read so, holds Chinese words."""
    try:
        text = line.decode("gbk")
    except UnicodeDecodeError:
        return ""
    return "; it may be GBK: encoding='gbk'" if _CJK_RUN.search(text) else ""


def _cp1252_character(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:  # five bytes are undefined there, but not in Latin-1
        return chr(byte)


_CP1252: Final = [_cp1252_character(byte) for byte in range(256)]


def _decoded_lines(path: Path, encoding: str, offset: int) -> Iterator[TextLine]:
    """Yield the lines of a file in any encoding.

    Raises:
        UnreadableError: The encoding cannot decode bytes one part after another.
    """
    number = 0
    rest: list[str] = []
    try:
        for piece in _pieces(path, encoding, offset):
            *lines, last = piece.split("\n")
            for line in lines:
                number += 1
                whole = "".join([*rest, line, "\n"])
                yield _checked(TextLine(whole, number, offset), encoding)
                offset += len(whole.encode(encoding, "replace"))
                rest = []
            rest.append(last)
    except (UnicodeError, LookupError) as error:
        raise UnreadableError(f"{str(path)!r} cannot be read as {encoding}: {error}.") from None
    if tail := "".join(rest):
        yield _checked(TextLine(tail, number + 1, offset), encoding)


def _pieces(path: Path, encoding: str, offset: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)("tunesmith.undecodable")
    with path.open("rb") as stream:
        stream.seek(offset)
        while data := stream.read(_READ_SIZE):
            yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


def _checked(line: TextLine, encoding: str) -> TextLine:
    return _replaced(line, encoding) if UNDECODABLE in line.text else line


def _replaced(line: TextLine, encoding: str) -> TextLine:
    position = line.text.index(UNDECODABLE)
    text = line.text.replace(UNDECODABLE, "\ufffd")
    location = Location(
        line.number,
        line.offset,
        message=f"bytes that are not valid {encoding.upper()} at column {position + 1}",
        excerpt=excerpt_of(text, position),
        column=position + 1,
    )
    return line._replace(text=text, fault=Fault("encoding-replaced", location))
