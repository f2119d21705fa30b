"""File arguments: what a caller passes as a file, as a source of bytes that can be read again.

Nothing is guessed: text is a path where it stands alone and content where it has a name, and what
cannot be sent as it is meant is refused here, before anything is requested. Forms and HTTP are not
known here.
"""

from __future__ import annotations

import codecs
import inspect
import io
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from tunesmith.errors import TunesmithError

__all__ = [
    "FileContent",
    "FileSource",
    "FileTypes",
    "SourcePart",
    "open_source",
    "split_source",
]

FileContent = IO[bytes] | IO[str] | bytes | os.PathLike[str] | str
FileTypes = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
)
"""A file argument: a path (`str` or PathLike), bytes, an open file, an uploaded file of a web
framework, or a tuple of name, content and optionally media type and header fields. In a tuple a
`str` is content, which is sent as UTF-8. What a text handle holds is sent as UTF-8, too."""

# Large enough to make the cost per chunk negligible, small enough not to matter in memory.
_CHUNK = 1 << 18
# Longer texts than this cannot be paths on any system.
_LONGEST_PATH = 4096
_EXCERPT = 60
_TUPLE_LENGTHS = (2, 3, 4)


class FileSource(NamedTuple):
    """One file to send.

    Attributes:
        name: Base name that the server will store.
        content_type: Its media type, None for the default.
        content: Bytes, a path, or an open binary file.
        start: The initial position of an open file, so that a retry sends the same bytes.
        headers: Further header fields of its part in a form.
    """

    name: str
    content_type: str | None
    content: bytes | Path | IO[bytes]
    start: int | None
    headers: Mapping[str, str] = {}

    @property
    def length(self) -> int | None:
        """Size in bytes; None for a file that cannot seek."""
        if isinstance(self.content, bytes):
            return len(self.content)
        if isinstance(self.content, Path):
            facts = self.content.stat()
            return facts.st_size if stat.S_ISREG(facts.st_mode) else None
        if self.start is None:
            return None
        return _end(self.content, self.start) - self.start

    @property
    def replayable(self) -> bool:
        """Whether the bytes can be read again."""
        if isinstance(self.content, Path):
            return self.content.is_file()
        return isinstance(self.content, bytes) or self.start is not None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start.

        Raises:
            TunesmithError: They cannot be read.
        """
        if isinstance(self.content, bytes):
            yield self.content
            return
        try:
            if isinstance(self.content, Path):
                with self.content.open("rb") as file:
                    yield from _read_chunks(file, self.name)
            else:
                if self.start is not None:
                    self.content.seek(self.start)
                yield from _read_chunks(self.content, self.name)
        except OSError as error:
            raise TunesmithError(f"{self.name} cannot be read: {_reason(error)}.") from error

    def rewind(self) -> None:
        """Put an open file back to its initial position."""
        if self.start is not None and not isinstance(self.content, bytes | Path):
            self.content.seek(self.start)


class SourcePart(NamedTuple):
    """A part of a file that is sent separately; several may be read at the same time.

    Attributes:
        offset: Where it starts, in bytes from the start of the source.
        size: Its size in bytes.
    """

    source: FileSource
    offset: int
    size: int
    lock: threading.Lock

    @property
    def name(self) -> str:
        """The file's name."""
        return self.source.name

    @property
    def content_type(self) -> str | None:
        """The file's media type."""
        return self.source.content_type

    @property
    def headers(self) -> Mapping[str, str]:
        """Further header fields of the part in a form."""
        return self.source.headers

    @property
    def length(self) -> int:
        """Size in bytes."""
        return self.size

    @property
    def replayable(self) -> bool:
        """Parts can be read again."""
        return True

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the part.

        Raises:
            TunesmithError: They cannot be read.
        """
        content = self.source.content
        try:
            if isinstance(content, bytes):
                yield content[self.offset : self.offset + self.size]
            elif isinstance(content, Path):
                with content.open("rb") as file:
                    yield from self._read(file)
            else:
                yield from self._read(content)
        except OSError as error:
            raise TunesmithError(f"{self.name} cannot be read: {_reason(error)}.") from error

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        position = (self.source.start or 0) + self.offset
        end = position + self.size
        while position < end:
            # Parts of one file are read in turns, each from its own position.
            with self.lock:
                file.seek(position)
                chunk = file.read(min(_CHUNK, end - position))
            if not chunk:
                return
            position += len(chunk)
            yield chunk


def split_source(source: FileSource, size: int) -> list[SourcePart]:
    """Split a source of known length into parts of `size` bytes."""
    total = source.length or 0
    lock = threading.Lock()
    return [
        SourcePart(source, offset, min(size, total - offset), lock)
        for offset in range(0, total, size)
    ]


def open_source(file: FileTypes, *, default_name: str = "upload") -> FileSource:
    """Return the source for a file argument.

    Raises:
        TunesmithError: There is no such file, it cannot be read, it is a handle with nothing left
            to read, or the argument is of an unsupported type.
    """
    name: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = {}
    content: Any = file
    if isinstance(file, tuple) and not _is_form_file(file):
        name, content, content_type, headers = _checked_tuple(file)
    if _is_form_file(content):
        # Uploaded files of Starlette and FastAPI, Werkzeug and Flask, aiohttp.
        name = name or _base_name(content.filename)
        content_type = content_type or getattr(content, "content_type", None)
        content = content.file if hasattr(content, "file") else content.stream
    if isinstance(content, str) and isinstance(file, tuple):
        content = _text_content(content)
    if isinstance(content, str | os.PathLike):
        path = _existing_path(content)
        return FileSource(name or path.name, content_type, path, None, headers)
    if isinstance(content, bytes | bytearray | memoryview):
        return FileSource(name or default_name, content_type, bytes(content), None, headers)
    if hasattr(content, "read"):
        name = name or _handle_name(content) or default_name
        binary = _binary_content(content, name)
        start = None if isinstance(binary, bytes) else _start(binary, name)
        return FileSource(name, content_type, binary, start, headers)
    raise TunesmithError(
        f"A file is a path, bytes, an open file or a (name, content) tuple, "
        f"not {type(content).__name__}."
    )


def _is_form_file(content: object) -> bool:
    """Return whether this is an uploaded file of a web framework, which wraps an open file."""
    return isinstance(getattr(content, "filename", None), str) and (
        hasattr(getattr(content, "file", None), "read")
        or hasattr(getattr(content, "stream", None), "read")
    )


def _checked_tuple(file: tuple[Any, ...]) -> tuple[Any, Any, Any, Mapping[str, str]]:
    if len(file) not in _TUPLE_LENGTHS:
        raise TunesmithError(
            "A file given as a tuple is (name, content), (name, content, media type) or "
            f"(name, content, media type, header fields), not a tuple of {len(file)}."
        )
    name, content, content_type, headers = (*file, None, None)[:4]
    for what, value in (("name", name), ("media type", content_type)):
        if value is not None and not isinstance(value, str):
            raise TunesmithError(
                f"The {what} of a file in a tuple is text or None, not {type(value).__name__}."
            )
    if headers is not None and not isinstance(headers, Mapping):
        raise TunesmithError(
            f"The header fields of a file are a mapping, not {type(headers).__name__}."
        )
    for field, value in (headers or {}).items():
        if not isinstance(field, str) or not isinstance(value, str):
            raise TunesmithError(f"The header field {field!r} of a file is not text.")
        if any(sign in field + value for sign in "\r\n\0"):
            raise TunesmithError(f"The header field {field!r} of a file contains a line break.")
    return name, content, content_type, headers or {}


def _text_content(text: str) -> bytes:
    """Return the text of a (name, text) tuple as bytes.

    Raises:
        TunesmithError: It may be meant as a path, since there is such a file.
    """
    if _names_a_file(text):
        raise TunesmithError(
            f"In a (name, text) tuple the text is the content, but {text!r} is also a file here. "
            "Pass pathlib.Path(…) to send that file, or text.encode() to send the text."
        )
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TunesmithError(
            f"The text of the file cannot be sent as UTF-8: character {error.start} is "
            f"{text[error.start]!a}, half of a surrogate pair."
        ) from None


def _names_a_file(text: str) -> bool:
    if not text or len(text) > _LONGEST_PATH or any(sign in text for sign in "\n\r\0"):
        return False
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError):
        return False


def _existing_path(given: str | os.PathLike[str]) -> Path:
    text = os.fsdecode(os.fspath(given))
    shown = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
    if isinstance(given, str) and _looks_like_content(text):
        raise TunesmithError(
            f"{shown!r} is no path. Pass content with its name, as in "
            '("train.jsonl", text), or as bytes.'
        )
    try:
        path = Path(text).expanduser()
        facts = path.stat()
    except FileNotFoundError:
        raise TunesmithError(f"There is no file {shown}.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise TunesmithError(f"{shown!r} cannot be opened: {_reason(error)}.") from None
    if stat.S_ISDIR(facts.st_mode):
        raise TunesmithError(f"{path} is a folder. Pass a file in it.")
    if not os.access(path, os.R_OK):
        raise TunesmithError(f"{path} may not be read: its permissions do not allow it.")
    return path


def _looks_like_content(text: str) -> bool:
    """Return whether text is so unlike a path that its author meant content or an address."""
    return (
        not text
        or len(text) > _LONGEST_PATH
        or any(sign in text for sign in "\n\r\0")
        or (text.lstrip().startswith(("{", "[")) and not _names_a_file(text))
        or text.lower().startswith(("http://", "https://", "data:"))
    )


def _binary_content(handle: Any, name: str) -> bytes | IO[bytes]:
    """Return a handle that reads bytes, or what an open text file holds as bytes.

    Raises:
        TunesmithError: The handle cannot be read.
    """
    if getattr(handle, "closed", False) is True:
        raise TunesmithError(f"The handle of {name} is closed.")
    if inspect.iscoroutinefunction(handle.read):
        raise TunesmithError(
            f"{type(handle).__name__} is read asynchronously. Pass the file's path, its bytes, or "
            "a handle of open(…)."
        )
    readable = getattr(handle, "readable", None)
    if callable(readable) and not readable():
        raise TunesmithError(
            f'{name} is open for writing only. Open it with mode "rb", or pass its path.'
        )
    # Wrappers such as temporary files are no TextIOBase, but have the encoding of what they wrap.
    if isinstance(handle, io.TextIOBase) or isinstance(getattr(handle, "encoding", None), str):
        return _text_handle_content(handle, name)
    binary: IO[bytes] = handle
    return binary


def _text_handle_content(handle: Any, name: str) -> bytes | IO[bytes]:
    """Return the bytes that a text handle has before it.

    A UTF-8 file at its beginning is read by its binary handle, so that it is neither held in
    memory nor changed; anything else is read as text and sent as UTF-8.
    """
    position = _position(handle)
    if position == 0 and hasattr(handle, "buffer") and _is_utf8(handle.encoding):
        if handle.writable():
            handle.flush()
        buffer: IO[bytes] = handle.buffer
        return buffer
    try:
        content: bytes = handle.read().encode()
    except (OSError, UnicodeError) as error:
        raise TunesmithError(
            f"{name} cannot be read as text: {_reason(error)}. Open it with mode "
            '"rb", to send its bytes unchanged.'
        ) from None
    if not content and position:
        raise _at_end(name)
    if position is not None:
        handle.seek(position)
    return content


def _is_utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name in {"utf-8", "ascii"}
    except LookupError:
        return False


def _start(handle: IO[bytes], name: str) -> int | None:
    """Return the position that reading starts at, None for a handle that cannot seek.

    Raises:
        TunesmithError: Nothing is left to read from there.
    """
    position = _position(handle)
    if position is None:
        return None
    try:
        end = _end(handle, position)
    except (AttributeError, OSError, ValueError):
        return None
    if position and position >= end:
        raise _at_end(name)
    return position


def _position(handle: Any) -> int | None:
    try:
        seekable = getattr(handle, "seekable", None)
        return int(handle.tell()) if seekable is None or seekable() else None
    except (AttributeError, OSError, TypeError, ValueError):
        return None


def _end(handle: IO[bytes], position: int) -> int:
    handle.seek(0, os.SEEK_END)
    end = handle.tell()
    handle.seek(position)
    return end


def _at_end(name: str) -> TunesmithError:
    return TunesmithError(
        f"The handle of {name} is at its end, so nothing would be sent. Call its seek(0) first "
        "to send the file from its beginning."
    )


def _handle_name(handle: Any) -> str | None:
    return _base_name(getattr(handle, "filename", None)) or _base_name(
        getattr(handle, "name", None)
    )


def _base_name(name: object) -> str | None:
    """Return the last part of a name; None for none, and for one such as "<stdin>"."""
    if not isinstance(name, str) or name.startswith("<"):
        return None
    return Path(name).name or None


def _read_chunks(file: IO[bytes], name: str) -> Iterator[bytes]:
    while True:
        chunk: Any = file.read(_CHUNK)
        if not isinstance(chunk, bytes):
            # None is what a handle returns that does not wait: the rest would be left out.
            raise TunesmithError(
                f"The handle of {name} returned {type(chunk).__name__}, not bytes. Open it with "
                'mode "rb", and so that it waits for data.'
            )
        if not chunk:
            return
        yield chunk


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
