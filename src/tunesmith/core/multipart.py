r"""The frame of a multipart/form-data body (RFC 7578): everything but the file's own bytes.

File names are raw UTF-8 with `"`, CR and LF percent-encoded, as the HTML standard says.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["FileHead", "MultipartFrame", "form_fields", "multipart_frame"]


class FileHead(NamedTuple):
    """The headers of a file part."""

    field: str
    filename: str
    content_type: str = "application/octet-stream"


class MultipartFrame(NamedTuple):
    """The bytes around the one file of a form.

    Attributes:
        head: The bytes before the file's own.
        tail: The bytes after them.
        boundary: The delimiter of the parts; random, so that no file contains it.
    """

    head: bytes
    tail: bytes
    boundary: str

    @property
    def content_type(self) -> str:
        """The media type of the whole body."""
        return f"multipart/form-data; boundary={self.boundary}"


def multipart_frame(fields: Mapping[str, str], file: FileHead) -> MultipartFrame:
    """Return the frame of a form with text `fields`, followed by one `file`."""
    boundary = f"tunesmith-{secrets.token_hex(16)}"
    disposition = (
        f'Content-Disposition: form-data; name="{_quoted(file.field)}"; '
        f'filename="{_quoted(file.filename)}"'
    )
    lines: list[str] = []
    for name, value in fields.items():
        lines += [
            f"--{boundary}",
            f'Content-Disposition: form-data; name="{_quoted(name)}"',
            "",
            value,
        ]
    lines += [
        f"--{boundary}",
        disposition,
        f"Content-Type: {_quoted(file.content_type)}",
        "",
        "",
    ]
    return MultipartFrame(
        "\r\n".join(lines).encode("utf-8", "surrogateescape"),
        f"\r\n--{boundary}--\r\n".encode(),
        boundary,
    )


def form_fields(values: Mapping[str, object]) -> dict[str, str]:
    """Return values as text fields; a mapping becomes bracketed names, `expires_after[seconds]`."""
    fields: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            fields |= form_fields({f"{name}[{key}]": inner for key, inner in value.items()})
        elif value is not None:
            fields[name] = str(value)
    return fields


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
