r"""The frame of a multipart/form-data body (RFC 7578): everything but the file's own bytes.

File names are raw UTF-8 with `"`, CR and LF percent-encoded, as the HTML standard says.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .request import text_of

__all__ = ["FileHead", "MultipartFrame", "form_fields", "multipart_frame"]


class FileHead(NamedTuple):
    """The headers of a file part. `headers` are more of them; those it has are not repeated."""

    field: str
    filename: str
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = {}


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


def multipart_frame(fields: Iterable[tuple[str, str]], file: FileHead) -> MultipartFrame:
    """Return the frame of a form with text `fields`, followed by one `file`."""
    boundary = f"tunesmith-{secrets.token_hex(16)}"
    disposition = (
        f'Content-Disposition: form-data; name="{_quoted(file.field)}"; '
        f'filename="{_quoted(file.filename)}"'
    )
    lines: list[str] = []
    for name, value in fields:
        lines += [
            f"--{boundary}",
            f'Content-Disposition: form-data; name="{_quoted(name)}"',
            "",
            value,
        ]
    own = {"Content-Disposition": disposition, "Content-Type": _quoted(file.content_type)}
    given = {name.lower() for name in file.headers}
    kept = {name: value for name, value in own.items() if name.lower() not in given}
    lines += [f"--{boundary}"]
    lines += [f"{name}: {value}" for name, value in {**kept, **file.headers}.items()]
    lines += ["", ""]
    return MultipartFrame(
        "\r\n".join(lines).encode("utf-8", "surrogateescape"),
        f"\r\n--{boundary}--\r\n".encode(),
        boundary,
    )


def form_fields(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield values as text fields: `expires_after[seconds]` of a mapping, `ids[]` of a list.

    Raises:
        TypeError: A value is neither text, a number, a bool, a list nor a mapping of such.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from form_fields({f"{name}[{key}]": inner for key, inner in value.items()})
        elif isinstance(value, list | tuple):
            for item in value:
                yield f"{name}[]", text_of(item, name)
        elif value is not None:
            yield name, text_of(value, name)


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
