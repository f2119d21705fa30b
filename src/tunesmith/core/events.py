"""Decoding the events of a stream: objects, an error, the end mark, or events to skip.

`[DONE]` ends a stream. An event of type "error", or data with an `error` object, is an error
that the server reports in mid-stream. Heartbeats, which are events without data, and events of
other named types that are not the expected object (pings) are skipped. A body that is no event
stream at all is told as what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from tunesmith.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    StreamTruncatedError,
)

from .decode import describe_body, describe_mismatch, error_text, parsed_or_none, reported_in
from .lenient import describe_ids, parse_json, read_again
from .sse import ServerSentEvent, ServerSentEventDecoder

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .response import Response

__all__ = ["END", "EventReader"]

END: Final = object()
_DONE = b"[DONE]"
_HEARTBEATS = frozenset({b"", b"{}", b"null"})
_PINGS = frozenset({"ping", "keepalive", "keep-alive", "heartbeat"})
_HEAD_BYTES = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FIELDS = (b"data", b"event", b"id", b"retry", b":")


class EventReader:
    """Decodes the bytes of one stream into objects of one model."""

    def __init__(
        self, response: Response, model: type[BaseModel], *, require_end: bool = True
    ) -> None:
        from pydantic import ValidationError

        self._response = response
        self._model = model
        self._validate = model.model_validate_json
        self._mismatch: type[ValidationError] = ValidationError
        self._decoder = ServerSentEventDecoder()
        self._require_end = require_end
        self._count = 0
        # The first bytes, until there is an event: what else the body may be is told from them.
        self._head: bytearray | None = bytearray()
        self._is_foreign: bool | None = None

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Yield the objects that `chunk` completes, and `END` at the end mark.

        Raises:
            APIError: The server reports an error in the stream.
            APIResponseValidationError: An event is not the expected object, or the body is not
                an event stream.
        """
        if self._head is not None and self._look_at(chunk):
            return
        for event in self._decoder.feed(chunk):
            self._head = None
            data = event.data
            if data == _DONE:
                self._check_stray_error()
                yield END
                return
            if event.event == "error":
                raise self._server_error(data)
            try:
                item: Any = self._validate(data)
            except self._mismatch:
                item = self._read_again(event)
                if item is None:
                    continue
                if item is END:
                    self._check_stray_error()
                    yield END
                    return
            if (extra := item.__pydantic_extra__) and extra.get("error"):
                raise self._server_error(data)
            self._count += 1
            yield item

    def finish(self) -> Iterator[Any]:
        """Yield what a body holds that ended without the end mark: its last event, or nothing.

        Servers that forget the blank line after the last event mean it all the same.

        Raises:
            APIResponseValidationError: The body is not an event stream.
            APIError: The server reports an error.
            StreamTruncatedError: The end mark is required, or the last event is incomplete.
        """
        self._check_stray_error()
        for event in self._decoder.finish():
            self._head = None
            if event.data.strip() == _DONE:
                yield END
                return
            if event.event == "error":
                raise self._server_error(event.data)
            try:
                item = None if event.data.strip() in _HEARTBEATS else self._validate(event.data)
            except self._mismatch:
                if parsed_or_none(event.data) is None:
                    raise self._truncated("The stream ended in the middle of an event") from None
                item = self._read_again(event)
            if item is not None:
                self._count += 1
                yield item
        if self._head and not self._head.lstrip().startswith(_FIELDS):
            raise self._no_stream()
        if self._require_end:
            raise self._truncated("The stream ended without its end mark, [DONE]")

    def interrupted(self, error: APIConnectionError) -> APIConnectionError:
        """Return the error for a connection that broke in mid-stream."""
        # Subclasses, such as those of time limits, stay: what users do about them differs.
        if type(error) is not APIConnectionError:
            return error
        return self._truncated(str(error).rstrip("."))

    def _truncated(self, reason: str) -> StreamTruncatedError:
        return StreamTruncatedError(
            f"{reason}, after {self._count} events. The received data may be incomplete.",
            request=self._response.request,
        )

    def _check_stray_error(self) -> None:
        """Raise for an error that was sent as a field, which dispatches no event."""
        if self._decoder.stray_error is not None:
            raise self._server_error(self._decoder.stray_error)

    def _look_at(self, chunk: bytes) -> bool:
        """Keep the first bytes; return whether they begin something other than an event stream.

        Raises:
            APIResponseValidationError: They do, and there are enough of them to tell.
        """
        head = cast("bytearray", self._head)
        head += chunk[: _HEAD_BYTES - len(head)]
        if self._is_foreign is None and (start := head.removeprefix(_BYTE_ORDER_MARK).lstrip()):
            self._is_foreign = start.startswith((b"<", b"{", b"["))
        if self._is_foreign and len(head) >= _HEAD_BYTES:
            raise self._no_stream()
        return bool(self._is_foreign)

    def _no_stream(self) -> APIResponseValidationError:
        """Return the error for a body that is something other than an event stream."""
        head = bytes(self._head or b"")
        content = parsed_or_none(head)
        reported = reported_in(content)
        request = self._response.request
        kind = "JSON" if content is not None else describe_body(head, self._response.headers)
        text = (
            f"The response to {request.method} {request.url} (status {self._response.status}) is "
            f"{kind or 'something else'} in place of an event stream"
        )
        if reported is not None:
            text += f", with an error: {error_text(reported)}."
        elif content is not None:
            ids = describe_ids(content)
            text += f"{', with ' + ids if ids else ''}. The server may not stream this request."
        else:
            text += "."
        excerpt = head.decode("utf-8", "replace")
        return APIResponseValidationError(
            f"{text} It begins: {excerpt[:200]!r}",
            response=replace(self._response.info(), text=excerpt[:4096]),
            body=excerpt[:4096] if reported is None else reported,
            decoded=content,
        )

    def _read_again(self, event: ServerSentEvent) -> Any:
        """Return an event that failed validation as an object, `END`, or None to skip it.

        Raises:
            APIError: It is an error.
            APIResponseValidationError: It is an unnamed event that is not the expected object.
        """
        data = event.data.strip()
        while data.startswith(b"data:"):
            # A server that frames its events twice.
            data = data[5:].lstrip()
        if data == _DONE:
            return END
        try:
            content = parse_json(data)
        except ValueError:
            content = None
        if _is_heartbeat(data, content):
            return None
        last_line = data.rpartition(b"\n")[2]
        for text in (data, last_line) if content is None else (data,):
            # A server that fails in the middle of an event reports it in the same event.
            if reported_in(parsed_or_none(text)) is not None:
                raise self._server_error(text)
        try:
            return read_again(self._model, _with_choices(content))
        except self._mismatch as error:
            if event.event != "message":
                return None
            raise self._unexpected(event, content, error) from None

    def _unexpected(
        self, event: ServerSentEvent, content: Any, error: Any
    ) -> APIResponseValidationError:
        text = event.data[:4096].decode("utf-8", "replace")
        fault = describe_mismatch(error) if content is not None else "it is not JSON"
        ids = describe_ids(content)
        return APIResponseValidationError(
            f"Event {self._count + 1} of the stream is not a {self._model.__name__}: {fault}."
            f"{f' It holds {ids}.' if ids else ''} It begins: {text[:200]!r}",
            response=self._response.info(),
            body=text,
            decoded=content,
        )

    def _server_error(self, data: bytes) -> APIError:
        content = parsed_or_none(data)
        reported = reported_in(content)
        body = content if reported is None else reported
        text = data[:200].decode("utf-8", "replace") if body is None else error_text(body)
        return APIError(
            f"The server reports an error in the stream: {text}",
            request=self._response.request,
            body=body,
        )


def _is_heartbeat(data: bytes, content: Any) -> bool:
    """Return whether an event only keeps the connection open."""
    if data in _HEARTBEATS or data.startswith(b":"):
        return True
    return isinstance(content, Mapping) and content.get("type") in _PINGS


def _with_choices(content: Any) -> Any:
    """Return a chunk with its choices; the last one, with the usage, has none on some servers."""
    if not isinstance(content, Mapping):
        return content
    chunk = cast("Mapping[str, Any]", content)
    if chunk.get("choices", ...) is None or (chunk.get("usage") and "choices" not in chunk):
        return {**chunk, "choices": []}
    return chunk
