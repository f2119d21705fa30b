"""Models: list, read and delete them."""

from __future__ import annotations

from typing import Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.models import Model, ModelDeleted

from .base import APIResource
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = ["Models"]


class Models(APIResource[ModeT_co]):
    """`/models`: base models and fine-tuned ones."""

    with_raw_response: RawView[Models[SyncRaw], Models[AsyncRaw]] = RawView()
    with_streaming_response: StreamingView[Models[SyncStreaming], Models[AsyncStreaming]] = (
        StreamingView()
    )

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
