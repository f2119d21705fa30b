"""Sends a file: whole, or the ranges that a client asks for to continue a download."""

from __future__ import annotations

import errno
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.responses import FileResponse

from .http_errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fastapi import Request
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["send_file"]

_RANGES = re.compile(
    r"bytes=\s*(\d{1,18}-\d{0,18}|-\d{1,18})(\s*,\s*(\d{1,18}-\d{0,18}|-\d{1,18}))*"
)


def send_file(
    request: Request,
    path: Path,
    size: int,
    *,
    media_type: str,
    filename: str,
    headers: Mapping[str, str] | None = None,
) -> FileResponse:
    """Return the response with a file's bytes, or with the ranges of them that the request names.

    Args:
        request: The request.
        path: The file.
        size: Its size in bytes.
        media_type: Its media type.
        filename: The name to save it under.
        headers: Further headers.

    Raises:
        ApiError: 416: the file has no such range.
    """
    _check_range(request, size)
    return _OpenedFile(path, media_type=media_type, filename=filename, headers=headers)


class _OpenedFile(FileResponse):
    """A file's bytes; the response begins once the file is open, so it is complete or an error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        start: list[Message] = []
        has_begun = False

        async def send_when_open(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                start.append(message)
                return
            has_begun = True
            while start:
                await send(start.pop())
            await send(message)

        try:
            await super().__call__(scope, receive, send_when_open)
        except (OSError, RuntimeError) as error:  # a RuntimeError where it is gone already
            if has_begun or (isinstance(error, OSError) and error.errno != errno.ENOENT):
                raise
            message = "The file was deleted while it was to be sent."
            raise ApiError(HTTPStatus.NOT_FOUND, message, code="file_not_found") from error


def _check_range(request: Request, size: int) -> None:
    """Let an invalid `Range` count as none, as RFC 9110 has it; refuse one past the end."""
    text = request.headers.get("range", "").strip()
    parts = [one.strip().split("-") for one in text.partition("=")[2].split(",")]
    if not _RANGES.fullmatch(text) or any(b and a and int(b) < int(a) for a, b in parts):
        headers = request.scope["headers"]
        request.scope["headers"] = [one for one in headers if one[0] != b"range"]
    elif any((int(first) if first else size - int(last)) >= size for first, last in parts):
        raise ApiError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes, so it has no range {text!r}.",
            code="range_not_satisfiable",
            headers={"content-range": f"bytes */{size}"},
        )
