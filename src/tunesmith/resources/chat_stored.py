"""Stored chat completions: those made with `store=True`, read, listed, changed and deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Unpack

from tunesmith._lazy import set_public_module
from tunesmith.core.flow import Flow, gather
from tunesmith.core.modes import AsyncRaw, AsyncStreaming, ModeT_co, SyncRaw, SyncStreaming
from tunesmith.core.options import NotGiven, Omit, RequestOptions
from tunesmith.core.paging import PageCursor, PageFlow
from tunesmith.core.request import fill_path
from tunesmith.types.chat import (
    ChatCompletion,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)

from .base import APIResource, split_options
from .bulk import CompletionResource
from .fine_tuning_jobs import PageOptions
from .operations import listing, operation
from .views import RawView, StreamingView

__all__ = [
    "ChatCompletionExportOptions",
    "ChatCompletionListOptions",
    "ChatCompletionMessageListOptions",
    "ChatCompletionsMessages",
    "ExportedCompletions",
    "StoredChatCompletions",
]

_STORED = "/chat/completions/{completion_id}"
_EXPORT_PAGE = 100
_EXPORT_AT_ONCE = 4


class ChatCompletionListOptions(PageOptions, total=False):
    """What `chat.completions.list` takes."""

    metadata: Mapping[str, str] | Omit | NotGiven | None
    model: str | Omit | NotGiven
    order: Literal["asc", "desc"] | Omit | NotGiven


class ChatCompletionExportOptions(RequestOptions, total=False):
    """What `chat.completions.export` takes besides the file."""

    metadata: Mapping[str, str] | Omit | NotGiven | None
    model: str | Omit | NotGiven


@dataclass(frozen=True, slots=True)
class ExportedCompletions:
    """A training file of stored completions.

    Attributes:
        path: The file.
        rows: Number of its rows: one for each choice of a completion.
        left_out: The reason for each completion that is not in it, by id.
    """

    path: Path
    rows: int
    left_out: dict[str, str] = field(default_factory=dict[str, str])


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
    def export(
        self, file: str | os.PathLike[str], **params: Unpack[ChatCompletionExportOptions]
    ) -> Flow[ExportedCompletions]:
        """Write the stored completions into a training file, oldest first.

        Each row has the messages that were asked, the answer, and the tools of the request. What
        cannot be learned as it stands is left out, and the result says why: images and audio,
        answers that were cut off, filtered, refused or empty. The file appears whole or not at all.

        Args:
            file: The path of the file, JSON lines.
            metadata: Only completions that have these pairs.
            model: Only completions of this model.
            params: The request options.

        Raises:
            OSError: The file cannot be written.
        """
        from tunesmith.atomic import write_atomically
        from tunesmith.datasets.stored_completions import LeftOutError, training_rows

        self._refuse_streaming("chat.completions.export")
        own, options = split_options(params)
        query = {"limit": _EXPORT_PAGE, "order": "asc", **own, **options}
        pages = self._pages("/chat/completions", ChatCompletion, query)
        target, rows, left_out = Path(file), 0, dict[str, str]()
        cursor: PageCursor | None = PageCursor()
        with write_atomically(target) as stream:
            while cursor is not None:
                page = yield from pages(cursor)
                found = yield from gather(
                    [self._messages_of(one.id, options) for one in page.data], _EXPORT_AT_ONCE
                )
                for completion, messages in zip(page.data, found, strict=True):
                    try:
                        made = list(training_rows(completion.to_dict(), messages))
                    except LeftOutError as error:
                        left_out[completion.id] = str(error)
                        continue
                    for row in made:
                        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                    rows += len(made)
                cursor = page.next
        return ExportedCompletions(target, rows, left_out)

    def _messages_of(
        self, completion_id: str, options: RequestOptions
    ) -> Flow[Sequence[dict[str, Any]]]:
        query = {"limit": _EXPORT_PAGE, **options}
        pages = self._pages(_path(completion_id) + "/messages", ChatCompletionStoreMessage, query)
        messages: list[dict[str, Any]] = []
        cursor: PageCursor | None = PageCursor()
        while cursor is not None:
            page = yield from pages(cursor)
            messages.extend(message.to_dict() for message in page.data)
            cursor = page.next
        return messages

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


set_public_module(globals(), "tunesmith")
