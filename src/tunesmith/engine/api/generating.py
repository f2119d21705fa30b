"""From an accepted request to bytes: whole answers, event streams, and clients that leave.

A client that goes away stops the generation, streamed or not.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.engine.store.records import new_token

from .context import parts_of
from .errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from tunesmith.engine.models.servable_model import ServableModel
    from tunesmith.engine.serving.backend import ServingBackend
    from tunesmith.engine.serving.generation import GenerationDelta, GenerationRequest

__all__ = ["answer_head", "resolve_model", "respond_streaming", "respond_whole", "usage_object"]

CLIENT_LEFT = 499


async def resolve_model(request: Request, name: str, organization: str) -> ServableModel:
    """Return the model of that name.

    Raises:
        ApiError: 404 if the organisation has no such model.
    """
    models = parts_of(request).models
    return await anyio.to_thread.run_sync(models.resolve, name, organization)


def answer_head(prefix: str, kind: str, model: ServableModel) -> dict[str, Any]:
    """Return what every answer and every chunk of it begins with."""
    return {
        "id": f"{prefix}-{new_token()}",
        "object": kind,
        "created": int(time.time()),
        "model": model.name,
    }


def usage_object(delta: GenerationDelta) -> dict[str, int]:
    """Return the usage that a request's last delta carries."""
    usage = delta.usage
    read, written = (0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


async def respond_whole(
    request: Request,
    model: ServableModel,
    generation: GenerationRequest,
    build: Callable[[list[GenerationDelta]], dict[str, Any]],
) -> Response:
    """Generate everything, then answer with what `build` makes of it."""
    deltas: list[GenerationDelta] = []
    failure: GenerationError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_left, request, tasks.cancel_scope)
        # An exception that crosses a task group arrives wrapped: carry it out by hand.
        try:
            async with contextlib.aclosing(_deltas(request, model, generation)) as stream:
                deltas = [delta async for delta in stream]
        except GenerationError as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise _api_error(failure)
    if not deltas:
        return Response(status_code=CLIENT_LEFT)
    return JSONResponse(build(deltas))


async def respond_streaming(
    request: Request,
    model: ServableModel,
    generation: GenerationRequest,
    chunks: Callable[[GenerationDelta], Iterator[dict[str, Any]]],
) -> Response:
    """Answer with an event stream; `chunks` says what each delta becomes.

    The first delta is awaited before the response begins, so a request that cannot be
    answered gets its proper status.
    """
    stream = _deltas(request, model, generation)
    try:
        first = await anext(stream)
    except GenerationError as error:
        raise _api_error(error) from None
    return StreamingResponse(
        _frames(first, stream, chunks),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


async def _frames(
    first: GenerationDelta,
    rest: AsyncGenerator[GenerationDelta, None],
    chunks: Callable[[GenerationDelta], Iterator[dict[str, Any]]],
) -> AsyncIterator[bytes]:
    """Yield the frames of a stream: a chunk each, then the end mark."""
    async with contextlib.aclosing(rest):
        try:
            for chunk in chunks(first):
                yield _frame(chunk)
            async for delta in rest:
                for chunk in chunks(delta):
                    yield _frame(chunk)
        except GenerationError as error:
            failure = _api_error(error)
            yield _frame(
                {
                    "error": {
                        "message": failure.message,
                        "type": failure.type,
                        "param": failure.param,
                        "code": failure.code,
                    }
                }
            )
            return
        yield b"data: [DONE]\n\n"


def _frame(chunk: dict[str, Any]) -> bytes:
    data = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"data: {data}\n\n".encode("utf-8", "replace")


def _deltas(
    request: Request, model: ServableModel, generation: GenerationRequest
) -> AsyncGenerator[GenerationDelta, None]:
    backend: ServingBackend = request.app.state.backend
    return backend.generate(model, generation)


async def _cancel_when_left(request: Request, scope: anyio.CancelScope) -> None:
    """Cancel the scope once the client has closed its connection."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return


def _api_error(error: GenerationError) -> ApiError:
    passing = error.status in {429, 503}
    return ApiError(
        error.status,
        error.message,
        param=error.param,
        code=error.code,
        headers={"retry-after": "1"} if passing else None,
    )
