"""Models: list, read, export and delete them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Unpack

from tunesmith.core.flow import Call, Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.errors import TunesmithError
from tunesmith.types.model_exports import ExportFormat, ModelExport
from tunesmith.types.models import Model, ModelDeleted

from .base import APIResource
from .model_exports import ExportCreateOptions, ModelExports, check_succeeded
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = ["Models"]


class Models(APIResource[ModeT_co]):
    """`/models`: base models and fine-tuned ones."""

    with_raw_response: RawView[Models[SyncRaw], Models[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Models[SyncStreaming], Models[AsyncStreaming]] = (
        StreamingView()
    )

    @cached_property
    def exports(self) -> ModelExports[ModeT_co]:
        """Models in the forms of other programs."""
        return ModelExports(self._executor)

    @operation
    def export(
        self,
        model: str,
        folder: str | os.PathLike[str],
        *,
        format: ExportFormat,
        on_progress: Callable[[str, float], object] | None = None,
        **params: Unpack[ExportCreateOptions],
    ) -> Flow[ModelExport]:
        """Have the engine export a model, download it, and unpack it into a new folder.

        The archive is removed from the engine at the end. If this program ends before, the export
        goes on: `exports.list` finds it, and `exports.download` gets it.

        Args:
            model: The model's name.
            folder: The folder to write, which must not exist.
            format: "peft", "merged", "gguf" or "ollama"; see `exports.create`.
            on_progress: Called as `on_progress(what, share)`: what is done now, and the share of
                it that is done, 0 to 1.
            quantization: The type of the weights, as for `exports.create`.
            with_base: Whether to put the base model's files beside an adapter.
            compare: Whether to compare the copy's answers with the served model's.
            params: The request options.

        Raises:
            TunesmithError: The folder exists, or the export has failed; the message says why.
            APIStatusError: The engine refused it.
        """
        from .export_archive import unpack

        self._refuse_streaming("models.export")
        target = Path(folder).absolute()
        if target.exists():
            raise TunesmithError(
                f"{target} exists already. Name a folder that does not, or remove it."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        exports = self.exports
        created = yield from ModelExports.create.flow(exports, model=model, format=format, **params)

        def report(export: ModelExport) -> object:
            return (
                None
                if on_progress is None
                else on_progress(export.step or export.status, export.progress)
            )

        def received(done: int, total: int) -> object:
            return None if on_progress is None else on_progress("downloading", done / total)

        export = yield from ModelExports.wait.flow(exports, created.id, on_progress=report)
        check_succeeded(export)
        archive = target.with_name(f"{target.name}.tar")
        yield from ModelExports.download.flow(exports, export.id, archive, on_progress=received)
        yield Call(unpack, (archive, target))
        archive.unlink()
        yield from ModelExports.delete.flow(exports, export.id)
        return export

    @operation
    def retrieve(self, model: str, **params: Unpack[RequestOptions]) -> Flow[Model]:
        """Return a model object.

        Args:
            model: The model's name.
            params: The request options.

        Raises:
            NotFoundError: There is no such model.
        """
        return self._request("GET", fill_path("/models/{model}", model=model), Model, params)

    @listing
    def list(self, **params: Unpack[RequestOptions]) -> PageFlow[Model]:
        """Return the models, all on one page.

        Args:
            params: The request options.
        """
        return self._pages("/models", Model, params, paged=False)

    @operation
    def delete(self, model: str, **params: Unpack[RequestOptions]) -> Flow[ModelDeleted]:
        """Delete a fine-tuned model; the key needs the role of an owner.

        Args:
            model: The model's name.
            params: The request options.

        Raises:
            NotFoundError: There is no such model.
            PermissionDeniedError: The key may not delete models.
        """
        return self._request(
            "DELETE", fill_path("/models/{model}", model=model), ModelDeleted, params
        )
