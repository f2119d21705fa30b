"""What the events of a stream mean: objects, an error, the end mark, or nothing.

`[DONE]` ends a stream. An event of type "error", or data with an `error` object in
place of the expected one, is an error that the server reports in mid-stream. Events
of other named types that are not the expected object (pings) are skipped.
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
    """Turns the bytes of one stream into objects of one model."""

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
        """Yield the objects that `chunk` completes, and `END` when the end mark is met.

        Raises:
            APIError: The server reports an error in the stream.
            APIResponseValidationError: An event is not what the contract says.
        """
        for event in self._decoder.feed(chunk):
            data = event.data
            if data == _DONE:
                yield END
                return
            if event.event == "error":
                raise self._reported(data)
            try:
                item = self._validate(data)
            except self._mismatch as error:
                self._judge(event, error)
                continue
            self._count += 1
            yield item

    def finish(self) -> None:
        """Judge a body that ended without the end mark.

        Raises:
            StreamTruncatedError: The end mark is required.
        """
        if self._require_end:
            raise self._truncated("The stream ended without its end mark, [DONE]")

    def interrupted(self, error: APIConnectionError) -> APIConnectionError:
        """Return the error for a connection that broke in mid-stream."""
        if isinstance(error, StreamTruncatedError) or not self._broke(error):
            return error
        return self._truncated(str(error).rstrip("."))

    @staticmethod
    def _broke(error: APIConnectionError) -> bool:
        # Time limits keep their own classes: what the user does about them differs.
        return type(error) is APIConnectionError

    def _truncated(self, reason: str) -> StreamTruncatedError:
        return StreamTruncatedError(
            f"{reason}, after {self._count} events. What was received may be incomplete.",
            request=self._response.request,
        )

    def _judge(self, event: ServerSentEvent, error: Any) -> None:
        """Raise for an event that does not fit, unless it is of a kind that is not for us."""
        try:
            content = json.loads(event.data)
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, Mapping) and content.get("error"):
            raise self._reported(event.data)
        if event.event != "message":
            return
        text = event.data[:4096].decode("utf-8", "replace")
        raise APIResponseValidationError(
            f"Event {self._count + 1} of the stream is not a {self._model.__name__}: "
            f"{describe_mismatch(error)}. It begins: {text[:200]!r}",
            response=self._response.info(),
            body=text,
        )

    def _reported(self, data: bytes) -> APIError:
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
