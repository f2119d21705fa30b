"""Uploads: large files in parts, several at a time, cancelled when they cannot be finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Unpack

from tunesmith.core.flow import Flow, gather
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions, is_omitted, omit
from tunesmith.core.request import fill_path
from tunesmith.errors import APIError, TunesmithError
from tunesmith.transport.file_source import FileTypes, SourcePart, open_source, split_source
from tunesmith.transport.upload import Progress, multipart_upload
from tunesmith.types.uploads import Upload, UploadPart

from .base import APIResource, list_of_ids, split_extra_fields, split_options
from .operations import operation
from .training_files import format_beside
from .views import RawView, StreamingView

__all__ = [
    "DEFAULT_PART_SIZE",
    "UploadChunkedOptions",
    "UploadCompleteOptions",
    "UploadCreateOptions",
    "Uploads",
    "UploadsParts",
]

DEFAULT_PART_SIZE = 64 * 1024 * 1024
"""Bytes in a part: the most that the wire contract allows."""


class UploadCreateOptions(RequestOptions, total=False):
    """What `uploads.create` takes besides the file's name, size, type and purpose."""

    expires_after: Mapping[str, object] | Omit | NotGiven


class UploadCompleteOptions(RequestOptions, total=False):
    """What `uploads.complete` takes besides the parts."""

    md5: str | Omit | NotGiven
    prompt_format: Mapping[str, object] | Omit | NotGiven | None


class UploadChunkedOptions(RequestOptions, total=False):
    """What `uploads.upload_file_chunked` takes besides the file, its type and its purpose."""

    filename: str | None
    bytes: int | None
    part_size: int | None
    concurrency: int
    md5: str | Omit | NotGiven
    expires_after: Mapping[str, object] | Omit | NotGiven
    prompt_format: Mapping[str, object] | Omit | NotGiven | None
    upload_id: str | None
    part_ids: Sequence[str]
    on_progress: Progress | None


class Uploads(APIResource[ModeT_co]):
    """`/uploads`: send a file in parts, then make a file object of it."""

    with_raw_response: RawView[Uploads[SyncRaw], Uploads[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Uploads[SyncStreaming], Uploads[AsyncStreaming]] = (
        StreamingView()
    )

    @operation
    def create(
        self,
        *,
        bytes: int,
        filename: str,
        mime_type: str,
        purpose: str,
        **params: Unpack[UploadCreateOptions],
    ) -> Flow[Upload]:
        """Create an upload, whose parts have to arrive within an hour.

        Args:
            filename: The name of the file to be.
            bytes: Its size in bytes.
            mime_type: Its media type.
            purpose: What the file is for: "fine-tune" for training data.
            expires_after: When the server may delete the file:
                `{"anchor": "created_at", "seconds": …}`.
            params: The request options.
        """
        fields = {
            "bytes": bytes,
            "filename": filename,
            "mime_type": mime_type,
            "purpose": purpose,
        }
        return self._request("POST", "/uploads", Upload, params, fields=fields)

    @operation
    def complete(
        self, upload_id: str, *, part_ids: Sequence[str], **params: Unpack[UploadCompleteOptions]
    ) -> Flow[Upload]:
        """Join the parts, in the order given, into a file object: the upload's `file`.

        Args:
            upload_id: "upload_…".
            part_ids: Ids of the parts, in the order of the file.
            md5: The MD5 of the whole file in hexadecimal, for the server to check.
            prompt_format: The prompt format of the file's rows; models trained on them carry it.
            params: The request options.
        """
        fields = {"part_ids": list_of_ids("part_ids", part_ids)}
        return self._request("POST", _path(upload_id, "/complete"), Upload, params, fields=fields)

    @operation
    def cancel(self, upload_id: str, **params: Unpack[RequestOptions]) -> Flow[Upload]:
        """Cancel an upload; its parts are deleted.

        Args:
            upload_id: "upload_…".
            params: The request options.
        """
        return self._request("POST", _path(upload_id, "/cancel"), Upload, params)

    @operation
    def upload_file_chunked(
        self,
        *,
        file: FileTypes,
        mime_type: str,
        purpose: str,
        **params: Unpack[UploadChunkedOptions],
    ) -> Flow[Upload]:
        """Upload a file in parts, several at a time, and complete it.

        An upload that this call created and cannot finish is cancelled; one that was resumed is
        left as it is.

        Args:
            file: A path, bytes, an open handle that can seek, or a tuple of name and content.
            mime_type: The file's media type.
            purpose: What the file is for: "fine-tune" for training data.
            filename: The name to store, by default the file's own.
            bytes: The file's size; an error if it differs.
            part_size: Bytes per part, 64 MiB by default.
            concurrency: Parts sent at a time, 4 by default.
            md5: The MD5 of the whole file in hexadecimal, for the server to check.
            expires_after: When the server may delete the file:
                `{"anchor": "created_at", "seconds": …}`.
            prompt_format: As for `files.create`: omitted, the one saved beside a training file
                is sent; None for none.
            upload_id: An earlier upload of this file with the same part size, to resume.
            part_ids: Ids of the parts that arrived, in order.
            on_progress: Called as `on_progress(sent, total)` after each part.
            params: The request options.
        """
        self._refuse_streaming("uploads.upload_file_chunked")
        own, options = split_options(params)
        source = open_source(file)
        size = source.length
        if size is None or not source.replayable:
            raise TunesmithError(
                "A file sent in parts must have a known size: give a path, bytes, or a handle "
                "that can seek."
            )
        part_ids = list_of_ids("part_ids", own.get("part_ids") or ())
        given_size = own.get("part_size")
        part_size = _count("part_size", DEFAULT_PART_SIZE if given_size is None else given_size)
        concurrency = _count("concurrency", own.get("concurrency", 4))
        announced = own.get("bytes")
        if announced is not None and announced != size:
            raise TunesmithError(f"{source.name} has {size} bytes, not {announced}.")
        resumed = own.get("upload_id")
        if part_ids and resumed is None:
            raise TunesmithError("part_ids belong to an upload. Pass its upload_id with them.")
        upload_id = (
            resumed
            or (
                yield from self._request(
                    "POST",
                    "/uploads",
                    Upload,
                    {
                        "bytes": size,
                        "filename": own.get("filename") or source.name,
                        "mime_type": mime_type,
                        "purpose": purpose,
                        "expires_after": own.get("expires_after", Omit()),
                        **options,
                    },
                )
            ).id
        )
        pieces = split_source(source, part_size)
        if len(part_ids) > len(pieces):
            raise TunesmithError(
                f"{source.name} has {len(pieces)} parts of {part_size} bytes, but part_ids has "
                f"{len(part_ids)}. Pass the part_size of the earlier upload."
            )
        prompt_format = own.get("prompt_format", omit)
        if is_omitted(prompt_format):
            prompt_format = format_beside(source, purpose)
        on_progress: Any = own.get("on_progress")
        tracker = _Tracker(size, pieces[: len(part_ids)], on_progress)
        try:
            part_ids += yield from gather(
                [
                    _part_flow(self, upload_id, piece, options, tracker)
                    for piece in pieces[len(part_ids) :]
                ],
                concurrency,
            )
            fields = {"part_ids": part_ids, "md5": own.get("md5", Omit())}
            if prompt_format is not None:
                fields["prompt_format"] = prompt_format
            return (
                yield from self._request(
                    "POST", _path(upload_id, "/complete"), Upload, {**fields, **options}
                )
            )
        except BaseException:
            if resumed is None:
                yield from self._cancel_quietly(upload_id)
            raise

    @cached_property
    def parts(self) -> UploadsParts[ModeT_co]:
        """The parts of uploads."""
        return UploadsParts(self._executor)

    def _cancel_quietly(self, upload_id: str) -> Flow[None]:
        """Cancel an upload whose error is about to be raised."""
        try:
            yield from self._request("POST", _path(upload_id, "/cancel"), Upload, {})
        except APIError:
            return


class UploadsParts(APIResource[ModeT_co]):
    """`/uploads/{id}/parts`."""

    with_raw_response: RawView[UploadsParts[SyncRaw], UploadsParts[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        UploadsParts[SyncStreaming], UploadsParts[AsyncStreaming]
    ] = StreamingView()

    @operation
    def create(
        self, upload_id: str, *, data: FileTypes, **params: Unpack[RequestOptions]
    ) -> Flow[UploadPart]:
        """Add a part of at most 64 MB; parts may be sent in any order and at the same time.

        Args:
            upload_id: "upload_…".
            data: The part's content, as for `files.create`.
            params: The request options.
        """
        extra, options = split_extra_fields(params)
        body = multipart_upload(extra, open_source(data), field="data")
        return self._request("POST", _path(upload_id, "/parts"), UploadPart, options, body=body)


class _Tracker:
    """Counts the bytes of the parts that have arrived."""

    def __init__(
        self, total: int, done: Sequence[SourcePart], on_progress: Progress | None
    ) -> None:
        self._sent = sum(part.size for part in done)
        self._total = total
        self._on_progress = on_progress

    def arrived(self, part: SourcePart) -> None:
        """Count a part and report progress."""
        self._sent += part.size
        if self._on_progress is not None:
            self._on_progress(self._sent, self._total)


def _part_flow(
    resource: APIResource[Any],
    upload_id: str,
    part: SourcePart,
    options: RequestOptions,
    tracker: _Tracker,
) -> Flow[str]:
    body = multipart_upload({}, part, field="data")
    sent = yield from resource._request(
        "POST", _path(upload_id, "/parts"), UploadPart, options, body=body
    )
    tracker.arrived(part)
    return sent.id


def _count(name: str, value: int) -> int:
    given: Any = value
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise TunesmithError(f"{name} is a whole number of 1 or more, not {given!r:.80}.")
    return value


def _path(upload_id: str, rest: str) -> str:
    return fill_path("/uploads/{upload_id}", upload_id=upload_id) + rest
