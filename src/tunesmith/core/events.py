"""Decoding the events of a stream: objects, an error, the end mark, or events to skip.

`[DONE]` ends a stream. An event of type "error", or data with an `error` object instead
of the expected one, is an error that the server reports in mid-stream. Events of other
named types that are not the expected object (pings) are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    StreamTruncatedError,
)

from .decode import describe_mismatch
from .sse import ServerSentEvent, ServerSentEventDecoder

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .response import Response

__all__ = ["END", "EventReader"]

END: Final = object()
_DONE = b"[DONE]"


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

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Yield the objects that `chunk` completes, and `END` at the end mark.

        Raises:
            APIError: The server reports an error in the stream.
            APIResponseValidationError: An event is not the expected object.
        """
        for event in self._decoder.feed(chunk):
            data = event.data
            if data == _DONE:
                yield END
                return
            if event.event == "error":
                raise self._server_error(data)
            try:
                item = self._validate(data)
            except self._mismatch as error:
                self._check_skippable(event, error)
                continue
            self._count += 1
            yield item

    def finish(self) -> None:
        """Check a body that ended without the end mark.

        Raises:
            StreamTruncatedError: The end mark is required.
        """
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

    def _check_skippable(self, event: ServerSentEvent, error: Any) -> None:
        """Raise for an event that is not the expected object, unless it is of another type."""
        try:
            content = json.loads(event.data)
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, Mapping) and content.get("error"):
            raise self._server_error(event.data)
        if event.event != "message":
            return
        text = event.data[:4096].decode("utf-8", "replace")
        raise APIResponseValidationError(
            f"Event {self._count + 1} of the stream is not a {self._model.__name__}: "
            f"{describe_mismatch(error)}. It begins: {text[:200]!r}",
            response=self._response.info(),
            body=text,
        )

    def _server_error(self, data: bytes) -> APIError:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = None
        body = content.get("error", content) if isinstance(content, Mapping) else content
        message = body.get("message") if isinstance(body, Mapping) else body
        text = str(message) if message else data[:200].decode("utf-8", "replace")
        return APIError(
            f"The server reports an error in the stream: {text}",
            request=self._response.request,
            body=body,
        )
