"""The content of a file, as `files.content` returns it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import write_atomically
from tunesmith.core.pieces import LineReader, Pieces

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator

    from tunesmith.core.headers import Headers
    from tunesmith.core.response import Response

__all__ = ["FileBytes"]

_CHUNK = 1 << 16


class FileBytes:
    """A file's bytes, and common ways to read them.

    Attributes:
        content: The bytes.
        response: The response that carried them.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        self.content: bytes = response.body or b""

    @property
    def text(self) -> str:
        """The content as UTF-8 text, undecodable bytes replaced."""
        return self.content.decode("utf-8", "replace")

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def headers(self) -> Headers:
        """The header fields of the response."""
        return self.response.headers

    @property
    def encoding(self) -> str:
        """How `text` decodes the bytes."""
        return "utf-8"

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content

    async def aread(self) -> bytes:
        """Return the bytes; for code written for openai's async client."""
        return self.content

    def json(self) -> Any:
        """Return the content parsed as JSON.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.content)

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the bytes in chunks of `chunk_size`, 64 KiB by default."""
        pieces: Pieces[bytes] = Pieces(_CHUNK if chunk_size is None else chunk_size)
        yield from pieces.feed(self.content)
        yield from pieces.finish()

    def iter_raw(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the bytes in chunks; the same as `iter_bytes`."""
        return self.iter_bytes(chunk_size)

    def iter_text(self, chunk_size: int | None = None) -> Iterator[str]:
        """Yield the text in chunks of `chunk_size` characters."""
        pieces: Pieces[str] = Pieces(_CHUNK if chunk_size is None else chunk_size)
        yield from pieces.feed(self.text)
        yield from pieces.finish()

    def iter_lines(self) -> Iterator[str]:
        r"""Yield the lines of the text without their ends: "\n", "\r\n" or "\r"."""
        reader = LineReader()
        for chunk in self.iter_bytes():
            yield from reader.feed(chunk)
        yield from reader.finish()

    def write_to_file(self, file: str | os.PathLike[str]) -> None:
        """Write the bytes to `file`, completely or not at all."""
        with write_atomically(file) as output:
            output.write(self.content)

    def stream_to_file(
        self, file: str | os.PathLike[str], *, chunk_size: int | None = None
    ) -> None:
        """Write the bytes to `file`; for code written for openai's client."""
        del chunk_size
        self.write_to_file(file)

    def close(self) -> None:
        """Do nothing: the content has been read, and its connection is free."""

    # The same for code written for openai's async client, which awaits what is in memory.

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Yield what `iter_bytes` yields."""
        for chunk in self.iter_bytes(chunk_size):
            yield chunk

    async def aiter_raw(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Yield what `iter_raw` yields."""
        for chunk in self.iter_raw(chunk_size):
            yield chunk

    async def aiter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """Yield what `iter_text` yields."""
        for text in self.iter_text(chunk_size):
            yield text

    async def aiter_lines(self) -> AsyncIterator[str]:
        """Yield what `iter_lines` yields."""
        for line in self.iter_lines():
            yield line

    async def astream_to_file(
        self, file: str | os.PathLike[str], *, chunk_size: int | None = None
    ) -> None:
        """Write the bytes to `file`."""
        self.stream_to_file(file, chunk_size=chunk_size)

    async def aclose(self) -> None:
        """Do nothing, as `close`."""

    def __repr__(self) -> str:
        return f"<FileBytes of {len(self.content)} bytes>"
