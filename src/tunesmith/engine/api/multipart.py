"""Streaming parser of uploads: the file goes to the disk as it arrives, fields to memory.

Starlette's own form parser would write the file twice, once to the system's temporary
folder; this one passes each chunk to the store, which hashes it on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from .http_errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from python_multipart.multipart import MultipartCallbacks

    from tunesmith.engine.store.blobs import IncomingBlob

__all__ = ["Upload", "read_upload"]

_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 64 << 10
_MAX_BYTES_BESIDE_FILE = 1 << 20


@dataclass(slots=True)
class Upload:
    """A parsed form: its text fields, and the name of its file."""

    fields: dict[str, str] = field(default_factory=dict[str, str])
    filename: str | None = None
    has_file: bool = False


async def read_upload(
    body: AsyncIterator[bytes],
    content_type: str,
    blob: IncomingBlob,
    *,
    max_bytes: int,
    field_name: str = "file",
) -> Upload:
    """Read a multipart form with one file into `blob`.

    Args:
        body: The request's body in chunks.
        content_type: The request's content type, which holds the boundary.
        blob: Receives the file.
        max_bytes: Largest file, in bytes.
        field_name: Name of the file's field.

    Raises:
        ApiError: The form is malformed or too large.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise invalid(
            f"Send the file as multipart/form-data, in the field `{field_name}`.",
            param=field_name,
        )
    reader = _Reader(blob, max_bytes, field_name)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        received = 0
        async for chunk in body:
            parser.write(chunk)
            received += len(chunk)
            if received - blob.bytes > _MAX_BYTES_BESIDE_FILE:
                raise ApiError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"The form holds more than {_MAX_BYTES_BESIDE_FILE} bytes beside its file.",
                    code="body_too_large",
                )
        parser.finalize()
    except FormParserError as error:
        raise invalid(f"The multipart body is broken: {error}.") from error
    if not reader.ended:
        raise invalid("The multipart body ends before its closing boundary.")
    return reader.upload


class _Reader:
    """The parser's callbacks and the state between them."""

    def __init__(self, blob: IncomingBlob, max_bytes: int, file_field: str) -> None:
        self.upload = Upload()
        self.ended = False
        self._blob = blob
        self._file_field = file_field
        self._max_bytes = max_bytes
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name: str | None = None
        self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value_part,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._disposition = b""
        self._header_name = self._header_value = b""
        self._name = None
        self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_part(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name != self._file_field:
            return
        if self.upload.has_file:
            raise invalid("Send one file in a request.", param=self._file_field)
        self.upload.has_file = True
        self.upload.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file_field:
            if self._blob.bytes + end - start > self._max_bytes:
                raise ApiError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"The file is larger than this engine accepts ({self._max_bytes} bytes).",
                    param=self._file_field,
                    code="file_too_large",
                )
            self._blob.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise invalid(f"The field {self._name!r} is too long.", param=self._name)

    def _part_end(self) -> None:
        if self._name is None or self._name == self._file_field:
            return
        if len(self.upload.fields) >= _MAX_FIELDS:
            raise invalid(f"The form has more than {_MAX_FIELDS} fields.")
        try:
            self.upload.fields[self._name] = self._value.decode()
        except UnicodeDecodeError as error:
            message = f"The field {self._name!r} is not UTF-8 text."
            raise invalid(message, param=self._name) from error

    def _end(self) -> None:
        self.ended = True
