"""The content of a file, as `files.content` returns it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunesmith.atomic import write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

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
        size = chunk_size or _CHUNK
        for start in range(0, len(self.content), size):
            yield self.content[start : start + size]

    def iter_raw(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the bytes in chunks; the same as `iter_bytes`."""
        return self.iter_bytes(chunk_size)

    def iter_text(self, chunk_size: int | None = None) -> Iterator[str]:
        """Yield the text in chunks of `chunk_size` characters."""
        size, text = chunk_size or _CHUNK, self.text
        for start in range(0, len(text), size):
            yield text[start : start + size]

    def iter_lines(self) -> Iterator[str]:
        """Yield the lines of the text without their ends."""
        yield from self.text.splitlines()

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

    def __repr__(self) -> str:
        return f"<FileBytes of {len(self.content)} bytes>"
