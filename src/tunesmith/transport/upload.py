"""Uploads of files: read chunk by chunk, with progress, rewound on retry."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from tunesmith.core.multipart import FileHead, MultipartFrame, form_fields, multipart_frame
from tunesmith.errors import TunesmithError

__all__ = [
    "FileContent",
    "FileSource",
    "FileTypes",
    "MultipartBody",
    "Progress",
    "SourcePart",
    "multipart_upload",
    "open_source",
    "split_source",
]

FileContent = IO[bytes] | bytes | os.PathLike[str] | str
FileTypes = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
)
"""A file argument: a path (`str` or PathLike), bytes, an open binary file, or a tuple of name,
content and optionally media type and header fields."""

Progress = Callable[[int, int | None], object]
"""Called with the bytes sent so far and the total, None if that is not known."""

# Large enough to make the cost per chunk negligible, small enough not to matter in memory.
_CHUNK = 1 << 18


class FileSource(NamedTuple):
    """One file to send.

    Attributes:
        name: Base name that the server will store.
        content_type: Its media type, None for the default.
        content: Bytes, a path, or an open file.
        start: The initial position of an open file, so that a retry sends the same bytes.
    """

    name: str
    content_type: str | None
    content: bytes | Path | IO[bytes]
    start: int | None

    @property
    def length(self) -> int | None:
        """Size in bytes; None for a file that cannot seek."""
        if isinstance(self.content, bytes):
            return len(self.content)
        if isinstance(self.content, Path):
            return self.content.stat().st_size
        if self.start is None:
            return None
        size = self.content.seek(0, os.SEEK_END) - self.start
        self.content.seek(self.start)
        return size

    @property
    def replayable(self) -> bool:
        """Whether the bytes can be read again."""
        return isinstance(self.content, bytes | Path) or self.start is not None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start."""
        if isinstance(self.content, bytes):
            yield self.content
        elif isinstance(self.content, Path):
            with self.content.open("rb") as file:
                yield from _read_chunks(file)
        else:
            if self.start is not None:
                self.content.seek(self.start)
            yield from _read_chunks(self.content)


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
    def length(self) -> int:
        """Size in bytes."""
        return self.size

    @property
    def replayable(self) -> bool:
        """Parts can be read again."""
        return True

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the part."""
        content = self.source.content
        if isinstance(content, bytes):
            yield content[self.offset : self.offset + self.size]
        elif isinstance(content, Path):
            with content.open("rb") as file:
                yield from self._read(file)
        else:
            yield from self._read(content)

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
        TunesmithError: There is no such file, or the argument is of an unsupported type.
    """
    name: str | None = None
    content_type: str | None = None
    content: Any = file
    if isinstance(file, tuple):
        name, content = file[0], file[1]
        content_type = file[2] if len(file) > 2 else None  # noqa: PLR2004 - (name, content, type)
    if isinstance(content, str | os.PathLike):
        path = _existing(Path(content))
        return FileSource(name or path.name, content_type, path, None)
    if isinstance(content, bytes | bytearray | memoryview):
        return FileSource(name or default_name, content_type, bytes(content), None)
    if hasattr(content, "read"):
        return FileSource(name or _file_name(content), content_type, content, _position(content))
    raise TunesmithError(
        f"A file is a path, bytes, an open binary file or a (name, content) tuple, "
        f"not {type(content).__name__}."
    )


class MultipartBody:
    """A form with one file, which is read while it is sent."""

    def __init__(
        self,
        frame: MultipartFrame,
        source: FileSource | SourcePart,
        on_progress: Progress | None = None,
    ) -> None:
        self._frame = frame
        self._source = source
        self._on_progress = on_progress
        size = source.length
        self.length: int | None = None if size is None else len(frame.head) + size + len(frame.tail)
        self._size = size

    @property
    def content_type(self) -> str:
        """The media type with its boundary."""
        return self._frame.content_type

    @property
    def replayable(self) -> bool:
        """Whether the form can be sent again."""
        return self._source.replayable

    def chunks(self) -> Iterator[bytes]:
        """Yield the form from its beginning.

        Raises:
            TunesmithError: The file's size changed while it was sent.
        """
        yield self._frame.head
        sent = 0
        for chunk in self._source.chunks():
            yield chunk
            sent += len(chunk)
            if self._on_progress is not None:
                self._on_progress(sent, self._size)
        if self._size is not None and sent != self._size:
            raise TunesmithError(
                f"{self._source.name} changed while it was uploaded: {self._size} bytes at the "
                f"start, {sent} at the end. Upload it when nothing writes to it anymore."
            )
        yield self._frame.tail


def multipart_upload(
    fields: Mapping[str, object],
    source: FileSource | SourcePart,
    *,
    field: str = "file",
    on_progress: Progress | None = None,
) -> MultipartBody:
    """Return the body of a form upload with text `fields` and one file."""
    head = FileHead(field, source.name, source.content_type or "application/octet-stream")
    return MultipartBody(multipart_frame(form_fields(fields), head), source, on_progress)


def _existing(path: Path) -> Path:
    path = path.expanduser()
    if path.is_dir():
        raise TunesmithError(f"{path} is a folder. Pass a file in it.")
    if not path.exists():
        raise TunesmithError(f"There is no file {path}.")
    return path


def _file_name(file: Any) -> str:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) and name else "upload"


def _position(file: Any) -> int | None:
    if isinstance(file, io.TextIOBase):
        raise TunesmithError(
            'The file is open in text mode. Open it with mode "rb", to send its bytes unchanged.'
        )
    try:
        return int(file.tell()) if file.seekable() else None
    except (AttributeError, OSError):
        return None


def _read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
