"""Uploads of files: a form that is read chunk by chunk while it is sent, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tunesmith.core.multipart import FileHead, MultipartFrame, form_fields, multipart_frame
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from .file_source import FileSource, SourcePart

__all__ = ["MultipartBody", "Progress", "multipart_upload"]

Progress = Callable[[int, int | None], object]
"""Called with the bytes sent so far and the total, None if that is not known."""


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
            sent += len(chunk)
            if self._size is not None and sent > self._size:
                raise self._changed(sent)
            yield chunk
            if self._on_progress is not None:
                self._on_progress(sent, self._size)
        if self._size is not None and sent != self._size:
            raise self._changed(sent)
        yield self._frame.tail

    def _changed(self, sent: int) -> TunesmithError:
        more = " or more" if self._size is not None and sent > self._size else ""
        return TunesmithError(
            f"{self._source.name} changed while it was uploaded: {self._size} bytes at the "
            f"start, {sent}{more} at the end. Upload it when nothing writes to it anymore."
        )


def multipart_upload(
    fields: Mapping[str, object],
    source: FileSource | SourcePart,
    *,
    field: str = "file",
    on_progress: Progress | None = None,
) -> MultipartBody:
    """Return the body of a form upload with text `fields` and one file."""
    head = FileHead(
        field, source.name, source.content_type or "application/octet-stream", source.headers
    )
    return MultipartBody(multipart_frame(form_fields(fields), head), source, on_progress)
