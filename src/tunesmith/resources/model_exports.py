"""Exports of models: ask the engine for one, follow it, download its archive.

Only the embedded engine has them. A download is made of ranges, each of which is retried as any
request is; what an earlier one has left beside the file is continued, and the whole is compared
with the engine's hash before it has its name.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal, TypeAlias, Unpack

from tunesmith.core.flow import Call, Flow, PollPause, Sleep
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions, check_seconds
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import RequestSpec, fill_path
from tunesmith.errors import TunesmithError, WaitTimeoutError
from tunesmith.types.model_exports import (
    ExportFormat,
    ModelExport,
    ModelExportDeleted,
    Quantization,
)

from .base import APIResource
from .operations import listing, operation
from .views import RawView, StreamingView
from .waiting import RetryBudget, with_retries

__all__ = ["ExportCreateOptions", "ExportListOptions", "ModelExports", "check_succeeded"]

_RANGE_BYTES = 8 << 20
_PARTIAL_CONTENT = 206
DownloadProgress: TypeAlias = Callable[[int, int], object]
"""Called with the bytes that are there and those that there will be."""


class ExportCreateOptions(RequestOptions, total=False):
    """What `models.exports.create` takes besides the model and the format."""

    quantization: Quantization | Omit | NotGiven
    with_base: bool | Omit | NotGiven
    compare: bool | Omit | NotGiven


class ExportListOptions(RequestOptions, total=False):
    """What `models.exports.list` takes."""

    after: str | Omit | NotGiven
    limit: int | Omit | NotGiven
    order: Literal["asc", "desc"] | Omit | NotGiven


class ModelExports(APIResource[ModeT_co]):
    """`/exports`: models in the forms of other programs. The key needs the role of an owner."""

    with_raw_response: RawView[ModelExports[SyncRaw], ModelExports[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[
        ModelExports[SyncStreaming], ModelExports[AsyncStreaming]
    ] = StreamingView()

    @operation
    def create(
        self, *, model: str, format: ExportFormat, **params: Unpack[ExportCreateOptions]
    ) -> Flow[ModelExport]:
        """Begin to export a model; it goes on when this program ends.

        Args:
            model: The model's name.
            format: "peft" for the adapter, "merged" for whole weights, "gguf" for a file for
                llama.cpp, "ollama" for that and a Modelfile.
            quantization: The type of the weights, "bf16" by default; merged weights can be "f32",
                "f16" or "bf16" only, an adapter stays in 32 bits.
            with_base: Whether to put the base model's files beside an adapter.
            compare: Whether to compare the copy's answers with the served model's, and to refuse
                a copy that differs by more than rounding; by default it is.
            params: The request options.

        Raises:
            BadRequestError: The model has no such export.
            PermissionDeniedError: The key is not an owner's, or the model another organisation's.
            RateLimitError: The organisation has as many exports as the engine keeps.
        """
        fields = {"model": model, "format": format}
        return self._request("POST", "/exports", ModelExport, params, fields=fields)

    @operation
    def retrieve(self, export_id: str, **params: Unpack[RequestOptions]) -> Flow[ModelExport]:
        """Return an export: how far it is, or how it ended.

        Args:
            export_id: "export-…".
            params: The request options.

        Raises:
            NotFoundError: There is no such export, or no longer.
        """
        return self._request("GET", _path(export_id), ModelExport, params)

    @listing
    def list(self, **params: Unpack[ExportListOptions]) -> PageFlow[ModelExport]:
        """Return the organisation's exports, newest first.

        Args:
            after: Id of the export after which the page starts.
            limit: Exports per page.
            order: "asc" or "desc", by creation time.
            params: The request options.
        """
        return self._pages("/exports", ModelExport, params)

    @operation
    def cancel(self, export_id: str, **params: Unpack[RequestOptions]) -> Flow[ModelExport]:
        """End an export that waits or runs.

        Args:
            export_id: "export-…".
            params: The request options.

        Raises:
            BadRequestError: It has ended.
        """
        return self._request("POST", _path(export_id) + "/cancel", ModelExport, params)

    @operation
    def delete(self, export_id: str, **params: Unpack[RequestOptions]) -> Flow[ModelExportDeleted]:
        """Delete an export and its archive.

        Args:
            export_id: "export-…".
            params: The request options.
        """
        return self._request("DELETE", _path(export_id), ModelExportDeleted, params)

    @operation
    def wait(
        self,
        export_id: str,
        *,
        on_progress: Callable[[ModelExport], object] | None = None,
        poll_interval: float = 1.0,
        timeout: float | None = None,
    ) -> Flow[ModelExport]:
        """Return an export when it has ended, however it ended.

        Broken connections and restarts of the engine do not end the wait.

        Args:
            export_id: "export-…".
            on_progress: Called with the export each time that its `step` or `status` is new.
            poll_interval: Seconds between two polls; the first few come sooner.
            timeout: Seconds to wait at most; None for no limit.

        Raises:
            WaitTimeoutError: It did not end within `timeout`; it goes on.
        """
        self._refuse_streaming("models.exports.wait")
        check_seconds("poll_interval", poll_interval)
        seconds = check_seconds("timeout", timeout)
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        budget = RetryBudget(deadline=deadline)
        pause = PollPause()
        seen: object = None
        while True:
            export = yield from with_retries(
                budget, lambda: ModelExports.retrieve.flow(self, export_id)
            )
            if on_progress is not None and seen != (seen := (export.status, export.step)):
                yield Call(on_progress, (export,))
            if export.is_terminal:
                return export
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(
                    f"The export {export_id} did not end within {seconds:g} seconds. It is still "
                    f"{export.status}; wait again to follow it.",
                    job=None,
                )
            yield Sleep(min(pause.next(poll_interval), left))

    @operation
    def download(
        self,
        export_id: str,
        file: str | os.PathLike[str],
        *,
        on_progress: DownloadProgress | None = None,
    ) -> Flow[Path]:
        """Download an export's archive, a tar file; return its path.

        A download that was interrupted is continued by the next one to the same file.

        Args:
            export_id: "export-…".
            file: The file to write; a folder for a file of the export's own name in it.
            on_progress: Called as `on_progress(received, total)` with bytes.

        Raises:
            TunesmithError: The export has not succeeded, or what arrived is not what the engine
                has made.
            OSError: The file cannot be written.
        """
        self._refuse_streaming("models.exports.download")
        export = yield from ModelExports.retrieve.flow(self, export_id)
        check_succeeded(export)
        target = Path(file)
        if target.is_dir():
            target /= Path(export.filename or f"{export.id}.tar").name
        partial = target.with_name(f".{target.name}.{Path(export.id).name}.partial")
        with partial.open("a+b") as output:
            found = yield from self._append(export, output, on_progress)
        if found != export.sha256:
            partial.unlink()
            raise TunesmithError(
                f"The archive of {export.id} arrived damaged: its SHA-256 is {found}, that of the "
                f"engine's file {export.sha256}. Download it again."
            )
        partial.replace(target)
        return target

    def _append(
        self, export: ModelExport, output: IO[bytes], on_progress: DownloadProgress | None
    ) -> Flow[str]:
        """Append what is missing of an archive to a file; return the hash of the whole."""
        total = export.bytes or 0
        digest = hashlib.sha256()
        output.seek(0)
        while chunk := output.read(_RANGE_BYTES):
            digest.update(chunk)
        received = output.tell()
        budget = RetryBudget()
        while received < total:
            last = min(received + _RANGE_BYTES, total) - 1
            first = received
            body = yield from with_retries(budget, lambda: self._range(export.id, first, last))  # noqa: B023
            output.write(body)
            digest.update(body)
            received += len(body)
            if on_progress is not None:
                yield Call(on_progress, (received, total))
        return digest.hexdigest()

    def _range(self, export_id: str, first: int, last: int) -> Flow[bytes]:
        spec = RequestSpec("GET", _path(export_id) + "/content", options=RequestOptions())
        spec.headers = {"range": f"bytes={first}-{last}"}
        response = yield from self._exchange(spec)
        body = response.body or b""
        if response.status != _PARTIAL_CONTENT or len(body) != last - first + 1:
            raise TunesmithError(
                f"The server sent {len(body)} bytes with status {response.status} for the bytes "
                f"{first} to {last} of an archive. A proxy may have changed its answer."
            )
        return body


def check_succeeded(export: ModelExport) -> None:
    """Check that an export has an archive.

    Raises:
        TunesmithError: It has failed, was cancelled or has not ended.
    """
    if export.status != "succeeded":
        reason = f": {export.error.message}" if export.error is not None else "."
        raise TunesmithError(
            f"The export {export.id} of {export.model} has no archive, its status is "
            f"{export.status!r}{reason}"
        )


def _path(export_id: str) -> str:
    return fill_path("/exports/{export_id}", export_id=export_id)
