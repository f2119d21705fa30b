"""Files: upload, list, read, wait for and delete them."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from tunesmith.core.flow import Flow, PollPause, Sleep
from tunesmith.core.modes import (
    Async,
    AsyncRaw,
    AsyncStreaming,
    ModeT_co,
    Sync,
    SyncRaw,
    SyncStreaming,
)
from tunesmith.core.options import (
    NotGiven,
    Omit,
    RequestOptions,
    check_seconds,
    omit,
    without_omitted,
)
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import RequestSpec, fill_path
from tunesmith.errors import FileProcessingError, TunesmithError
from tunesmith.transport.file_source import FileTypes, open_source
from tunesmith.transport.upload import Progress
from tunesmith.types.files import FileDeleted, FileObject, FilePurpose

from .base import APIResource, split_options
from .file_content import FileBytes
from .operations import deprecated, listing, operation, overloaded
from .training_files import find_uploaded, upload
from .views import RawView, StreamingView

if TYPE_CHECKING:
    from tunesmith.transport.responses import APIResponse, AsyncStreamedResponse, StreamedResponse

__all__ = ["FileCreateOptions", "FileListOptions", "Files", "read_content"]

_FINAL_STATUSES = ("processed", "error", "deleted")


class FileCreateOptions(RequestOptions, total=False):
    """What `files.create` takes besides the file and its purpose."""

    expires_after: Mapping[str, object] | Omit | NotGiven
    prompt_format: Mapping[str, object] | Omit | NotGiven | None
    on_progress: Progress | None


class FileListOptions(RequestOptions, total=False):
    """What `files.list` takes."""

    after: str | Omit | NotGiven
    limit: int | Omit | NotGiven
    order: Literal["asc", "desc"] | Omit | NotGiven
    purpose: str | Omit | NotGiven


class Files(APIResource[ModeT_co]):
    """`/files`: upload, list, read and delete files."""

    with_raw_response: RawView[Files[SyncRaw], Files[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Files[SyncStreaming], Files[AsyncStreaming]] = (
        StreamingView()
    )

    @operation
    def create(
        self, *, file: FileTypes, purpose: FilePurpose, **params: Unpack[FileCreateOptions]
    ) -> Flow[FileObject]:
        """Upload a file.

        A path is streamed from disk, so that the file's size does not matter to memory, and is
        read again from its start when the upload is retried.

        Args:
            file: A path (`str` or PathLike), bytes, an open handle (binary or text), an uploaded
                file of a web framework, or a tuple of name, content and optionally media type
                and header fields. In a tuple a `str` is the content. A handle is read from its
                position on.
            purpose: What the file is for: "fine-tune" for training data.
            expires_after: When the server may delete the file:
                `{"anchor": "created_at", "seconds": …}`.
            prompt_format: How prompts and completions are written, which the embedded engine
                stores with the file and the models trained on it. By default the format that
                `datasets` saved beside a training file; None sends none.
            on_progress: Called as `on_progress(sent, total)` with bytes as they are sent.
            params: The request options.

        Raises:
            TunesmithError: There is no such file, nothing of it is left to read, or the prompt
                format beside it is damaged.
            APIStatusError: The server refused it.
        """
        own, options = split_options(params)
        return upload(
            self,
            file,
            purpose,
            prompt_format=own.pop("prompt_format", omit),
            on_progress=own.pop("on_progress", None),
            fields=without_omitted(own),
            options=options,
        )

    @operation
    def retrieve(self, file_id: str, **params: Unpack[RequestOptions]) -> Flow[FileObject]:
        """Return a file object.

        Args:
            file_id: "file-…".
            params: The request options.

        Raises:
            NotFoundError: There is no such file.
        """
        return self._request(
            "GET", fill_path("/files/{file_id}", file_id=file_id), FileObject, params
        )

    @listing
    def list(self, **params: Unpack[FileListOptions]) -> PageFlow[FileObject]:
        """Return the files, newest first.

        Args:
            after: Id of the file after which the page starts.
            limit: Files per page.
            order: "asc" or "desc", by creation time.
            purpose: Only files with this purpose.
            params: The request options.
        """
        return self._pages("/files", FileObject, params)

    @operation
    def delete(self, file_id: str, **params: Unpack[RequestOptions]) -> Flow[FileDeleted]:
        """Delete a file.

        Args:
            file_id: "file-…".
            params: The request options.

        Raises:
            NotFoundError: There is no such file.
        """
        path = fill_path("/files/{file_id}", file_id=file_id)
        return self._request("DELETE", path, FileDeleted, params)

    @overload
    def content(self: Files[Sync], file_id: str, **params: Unpack[RequestOptions]) -> FileBytes: ...
    @overload
    def content(
        self: Files[Async], file_id: str, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, FileBytes]: ...
    @overload
    def content(
        self: Files[SyncRaw], file_id: str, **params: Unpack[RequestOptions]
    ) -> APIResponse[FileBytes]: ...
    @overload
    def content(
        self: Files[AsyncRaw], file_id: str, **params: Unpack[RequestOptions]
    ) -> Coroutine[Any, Any, APIResponse[FileBytes]]: ...
    @overload
    def content(
        self: Files[SyncStreaming], file_id: str, **params: Unpack[RequestOptions]
    ) -> StreamedResponse[bytes]: ...
    @overload
    def content(
        self: Files[AsyncStreaming], file_id: str, **params: Unpack[RequestOptions]
    ) -> AsyncStreamedResponse[bytes]: ...
    @overloaded
    def content(self, file_id: str, **params: Unpack[RequestOptions]) -> Any:
        """Return a file's content: `.text`, `.content`, `.json()`, `.write_to_file(path)`, ….

        The content is held in memory. For large files use
        `files.with_streaming_response.content(…)`, whose `parse()` returns the bytes.

        Args:
            file_id: "file-…".
            params: The request options.

        Raises:
            NotFoundError: There is no such file.
        """
        content = yield from read_content(self, file_id, params)
        return content.content if self._executor.streams else content

    @operation
    @deprecated("Use content(…).text.")
    def retrieve_content(self, file_id: str, **params: Unpack[RequestOptions]) -> Flow[str]:
        """Return a file's content as text. Deprecated: `content` does this and more.

        Args:
            file_id: "file-…".
            params: The request options.
        """
        return (yield from read_content(self, file_id, params)).text

    @operation
    def wait_for_processing(
        self, id: str, *, poll_interval: float = 5.0, max_wait_seconds: float = 1800
    ) -> Flow[FileObject]:
        """Wait until the server has processed a file.

        Args:
            id: "file-…".
            poll_interval: Seconds between two polls; the first few come sooner.
            max_wait_seconds: Seconds to wait at most.

        Raises:
            ConfigurationError: A number of seconds is negative or none.
            FileProcessingError: The file cannot be used, or was not ready in time.
        """
        self._refuse_streaming("files.wait_for_processing")
        check_seconds("poll_interval", poll_interval)
        check_seconds("max_wait_seconds", max_wait_seconds)
        deadline = time.monotonic() + max_wait_seconds
        pause = PollPause()
        while True:
            file = yield from Files.retrieve.flow(self, id)
            if file.status == "error":
                reason = f": {file.status_details}" if file.status_details else "."
                raise FileProcessingError(f"The server cannot use file {id}{reason}", file=file)
            if file.status in _FINAL_STATUSES:
                return file
            left = deadline - time.monotonic()
            if left <= 0:
                raise FileProcessingError(
                    f"File {id} was not processed within {max_wait_seconds:g} seconds; "
                    f"its status is {file.status!r}.",
                    file=file,
                )
            yield Sleep(min(pause.next(poll_interval), left))

    @operation
    def find_matching(
        self, file: FileTypes, *, purpose: FilePurpose = "fine-tune"
    ) -> Flow[FileObject | None]:
        """Return an uploaded file identical to a local one, or None.

        Identical means the same base name, size and purpose, and the same SHA-256 and prompt
        format on servers that report them.

        Args:
            file: As for `create`.
            purpose: The purpose that the uploaded file must have.

        Raises:
            TunesmithError: There is no such file, or it can be read only once.
        """
        self._refuse_streaming("files.find_matching")
        if not open_source(file).replayable:
            raise TunesmithError(
                "A handle that cannot seek would be used up by the comparison. Pass a path, bytes "
                "or a handle that can seek."
            )
        return (yield from find_uploaded(self, file, purpose))


def read_content(files: Files[Any], file_id: str, params: Mapping[str, Any]) -> Flow[FileBytes]:
    """Read a file's content, in whatever mode its resource has."""
    path = fill_path("/files/{file_id}/content", file_id=file_id)
    spec = RequestSpec("GET", path, options=split_options(params)[1])
    spec.headers = {"accept": "application/binary"}
    response = yield from files._exchange(spec)
    return FileBytes(response)
