"""Stored chat completions: those made with `store=True`, read, listed, changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, Unpack

from tunesmith.core.flow import Flow
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.chat import (
    ChatCompletion,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)

from .base import APIResource
from .bulk import CompletionResource
from .fine_tuning_jobs import PageOptions
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = [
    "ChatCompletionListOptions",
    "ChatCompletionMessageListOptions",
    "ChatCompletionsMessages",
    "StoredChatCompletions",
]

_STORED = "/chat/completions/{completion_id}"


class ChatCompletionListOptions(PageOptions, total=False):
    """What `chat.completions.list` takes."""

    metadata: Mapping[str, str] | Omit | NotGiven | None
    model: str | Omit | NotGiven
    order: Literal["asc", "desc"] | Omit | NotGiven


class StoredChatCompletions(CompletionResource[ModeT_co]):
    """The operations of `/chat/completions` on stored answers."""

    @operation
    def retrieve(
        self, completion_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[ChatCompletion]:
        """Return a stored completion.

        Args:
            completion_id: "chatcmpl-…".
            params: The request options.

        Raises:
            NotFoundError: There is none; only those made with `store=True` are kept.
        """
        return self._request("GET", _path(completion_id), ChatCompletion, params)

    @operation
    def update(
        self,
        completion_id: str,
        *,
        metadata: Mapping[str, str] | None,
        **params: Unpack[RequestOptions],
    ) -> Flow[ChatCompletion]:
        """Replace the metadata of a stored completion.

        Args:
            completion_id: "chatcmpl-…".
            metadata: Up to 16 pairs of strings; None removes them.
            params: The request options.
        """
        fields = {"metadata": metadata}
        return self._request("POST", _path(completion_id), ChatCompletion, params, fields=fields)

    @listing
    def list(self, **params: Unpack[ChatCompletionListOptions]) -> PageFlow[ChatCompletion]:
        """Return the stored completions.

        Args:
            after: Id of the completion after which the page starts.
            limit: Completions per page, 20 by default.
            metadata: Pairs that the completions must have.
            model: Only completions of this model.
            order: "asc" or "desc", by creation time.
            params: The request options.
        """
        return self._pages("/chat/completions", ChatCompletion, params)

    @operation
    def delete(
        self, completion_id: str, **params: Unpack[RequestOptions]
    ) -> Flow[ChatCompletionDeleted]:
        """Delete a stored completion.

        Args:
            completion_id: "chatcmpl-…".
            params: The request options.
        """
        return self._request("DELETE", _path(completion_id), ChatCompletionDeleted, params)

    @cached_property
    def messages(self) -> ChatCompletionsMessages[ModeT_co]:
        """The messages of stored completions."""
        return ChatCompletionsMessages(self._executor)


class ChatCompletionMessageListOptions(PageOptions, total=False):
    """What `chat.completions.messages.list` takes besides the completion."""

    order: Literal["asc", "desc"] | Omit | NotGiven


class ChatCompletionsMessages(APIResource[ModeT_co]):
    """`/chat/completions/{id}/messages`: the messages of a stored completion."""

    with_raw_response: RawView[
        ChatCompletionsMessages[SyncRaw], ChatCompletionsMessages[AsyncRaw]
    ] = RawView()
    with_streaming_response: StreamingView[
        ChatCompletionsMessages[SyncStreaming],
        ChatCompletionsMessages[AsyncStreaming],
    ] = StreamingView()

    @listing
    def list(
        self, completion_id: str, **params: Unpack[ChatCompletionMessageListOptions]
    ) -> PageFlow[ChatCompletionStoreMessage]:
        """Return the messages that a stored completion answered.

        Args:
            completion_id: "chatcmpl-…".
            after: Id of the message after which the page starts.
            limit: Messages per page, 20 by default.
            order: "asc" or "desc", by position.
            params: The request options.
        """
        return self._pages(_path(completion_id) + "/messages", ChatCompletionStoreMessage, params)


def _path(completion_id: str) -> str:
    return fill_path(_STORED, completion_id=completion_id)
