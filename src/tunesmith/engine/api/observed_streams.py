"""Streams of answers that are noted while they pass: as they come, however they end."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
from fastapi.responses import StreamingResponse

from tunesmith.errors import APIConnectionError

from .http_errors import ApiError, error_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable

    from starlette.types import Receive, Scope, Send

    from tunesmith.engine.routing.decisions import Observation
    from tunesmith.engine.routing.upstream_client import ServiceAnswer
    from tunesmith.engine.store.records import ModelRouteRow

__all__ = ["ObservedStream", "observed", "passed_on"]


class ObservedStream(StreamingResponse):
    """A stream whose source is closed, and whose end is noted, however it ends."""

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        status: int,
        headers: dict[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(content, status, headers)
        self._source = content
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._source.aclose()
            self._on_end()


async def passed_on(
    answer: ServiceAnswer, observation: Observation, route: ModelRouteRow
) -> AsyncGenerator[bytes, None]:
    """Yield an event stream of the other service as it comes."""
    is_whole = False
    try:
        yield answer.body
        while piece := await answer.stream.read():
            observation.add(piece)
            yield piece
        is_whole = True
    except APIConnectionError:
        observation.error = "its stream broke off"
        broken = ApiError(
            HTTPStatus.BAD_GATEWAY,
            f"The stream of the other service {route.upstream!r} broke off.",
            code="upstream_failed",
        )
        yield b"data: " + json.dumps(error_body(broken)).encode() + b"\n\n"
    finally:
        observation.end(is_whole=is_whole)
        with anyio.CancelScope(shield=True):
            await answer.stream.aclose()


async def observed(
    pieces: AsyncIterable[Any], observation: Observation
) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a stream of the model here as they come."""
    is_whole = False
    try:
        async for piece in pieces:
            data = piece.encode() if isinstance(piece, str) else bytes(piece)
            observation.add(data)
            yield data
        is_whole = True
    finally:
        observation.end(is_whole=is_whole)
        close = getattr(pieces, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()
