"""Responses of the generation routes: whole answers and event streams.

A client that disconnects stops the generation, streamed or not.
"""

from __future__ import annotations

import contextlib
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tunesmith.engine.domain.errors import RequestError
from tunesmith.engine.serving.generation_errors import GenerationError
from tunesmith.engine.store.records import new_token

from .dependencies import get_services
from .http_errors import ApiError, as_api_error, error_body
from .keyed_route import KeyCheck, key_revoked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from tunesmith.engine.models.model_info import ServableModel
    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.serving.backend import ServingBackend
    from tunesmith.engine.serving.generation import GenerationDelta, GenerationRequest

__all__ = [
    "CLIENT_CLOSED_REQUEST",
    "cancel_on_disconnect",
    "chat_usage_object",
    "generate",
    "generation_failure",
    "resolve_model",
    "respond_streaming",
    "respond_whole",
    "response_head",
    "usage_object",
]

_LARGE_ANSWER = 1000  # scored tokens; their JSON is made beside the event loop

CLIENT_CLOSED_REQUEST = 499
"""Not in `http.HTTPStatus`: the client has disconnected and does not see this status."""


async def resolve_model(request: Request, name: str, organization: str) -> ServableModel:
    """Return the model of that name.

    Raises:
        UnknownModelError: The organisation has no model of this name.
        ModelNotInstalledError: The base model is not on this machine.
    """
    models = get_services(request).models
    return await anyio.to_thread.run_sync(models.resolve, name, organization)


def response_head(prefix: str, kind: str, model: ServableModel) -> dict[str, Any]:
    """Return the fields that a response and each of its chunks begin with."""
    return {
        "id": f"{prefix}-{new_token()}",
        "object": kind,
        "created": int(time.time()),
        "model": model.asked_name,
    }


def usage_object(delta: GenerationDelta) -> dict[str, int]:
    """Return the usage that a request's last delta carries."""
    usage = delta.usage
    prompt, completion = (0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def chat_usage_object(delta: GenerationDelta) -> dict[str, Any]:
    """Return the usage of a conversation: with the tokens of thoughts, which are part of it."""
    reasoning = 0 if delta.usage is None else delta.usage.reasoning_tokens
    return {
        **usage_object(delta),
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


async def respond_whole(
    request: Request,
    model: ServableModel,
    generation: GenerationRequest,
    build: Callable[[list[GenerationDelta]], dict[str, Any]],
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> Response:
    """Generate the whole answer, then respond with the object that `build` makes of it.

    `keep` gets the object before it is sent, in a thread.
    """

    def respond() -> Response:
        answer = build(deltas)
        if keep is not None:
            keep(answer)
        return JSONResponse(answer)

    deltas: list[GenerationDelta] = []
    failure: GenerationError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_on_disconnect, request, tasks.cancel_scope)
        # A task group wraps exceptions that leave it in a group: raise this one outside.
        try:
            async with contextlib.aclosing(generate(request, model, generation)) as stream:
                deltas = [delta async for delta in stream]
        except GenerationError as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise generation_failure(failure)
    if not deltas:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if keep is not None or sum(len(delta.tokens) for delta in deltas) > _LARGE_ANSWER:
        return await anyio.to_thread.run_sync(respond)
    return respond()


async def respond_streaming(
    request: Request,
    model: ServableModel,
    generation: GenerationRequest,
    chunks: Callable[[GenerationDelta], Iterator[dict[str, Any]]],
    finish: Callable[[], None] | None = None,
) -> Response:
    """Respond with an event stream of the chunks that `chunks` makes of each delta.

    The first delta is awaited before the response begins, so a request that cannot be
    answered gets its error status. `finish` is called in a thread once the answer is complete.
    """
    stream = generate(request, model, generation)
    first: GenerationDelta | None = None
    failure: GenerationError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_on_disconnect, request, tasks.cancel_scope)
        try:
            first = await anext(stream)
        except GenerationError as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise generation_failure(failure)
    if first is None:  # the client has gone while its request waited
        await stream.aclose()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return StreamingResponse(
        _events(first, stream, chunks, KeyCheck(request), finish),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


async def _events(
    first: GenerationDelta,
    rest: AsyncGenerator[GenerationDelta, None],
    chunks: Callable[[GenerationDelta], Iterator[dict[str, Any]]],
    key: KeyCheck,
    finish: Callable[[], None] | None,
) -> AsyncIterator[bytes]:
    """Yield the stream's events: one per chunk, then the end mark."""
    async with contextlib.aclosing(rest):
        try:
            for chunk in chunks(first):
                yield _event(chunk)
            async for delta in rest:
                if await key.is_revoked():
                    yield _event(error_body(key_revoked()))
                    return
                for chunk in chunks(delta):
                    yield _event(chunk)
            if finish is not None:
                await anyio.to_thread.run_sync(finish)
        except GenerationError as error:
            yield _event(error_body(generation_failure(error)))
            return
        except RequestError as error:  # of `finish`
            yield _event(error_body(as_api_error(error)))
            return
        yield b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    data = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"data: {data}\n\n".encode("utf-8", "replace")


def generate(
    request: Request, model: ServableModel, generation: GenerationRequest
) -> AsyncGenerator[GenerationDelta, None]:
    """Return the deltas of a generation, on behalf of the key behind the request."""
    backend: ServingBackend = request.app.state.backend
    key: Identity = request.scope["identity"]
    owner = {"organization": key.organization, "key": key.key_id or ""}
    return backend.generate(model, _with_syntaxes(generation.model_copy(update=owner), model))


def _with_syntaxes(generation: GenerationRequest, model: ServableModel) -> GenerationRequest:
    """Return a request that knows what `models.toml` says of the model's answers."""
    if generation.chat is None:
        return generation
    syntaxes = {"thinking_syntax": model.thinking_syntax, "call_syntax": model.call_syntax}
    return generation.model_copy(update={"chat": generation.chat.model_copy(update=syntaxes)})


async def cancel_on_disconnect(request: Request, scope: anyio.CancelScope) -> None:
    """Cancel the scope once the client has closed its connection."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return


def generation_failure(error: GenerationError) -> ApiError:
    """Return the answer to a request that the models could not answer."""
    if error.status is None:
        return as_api_error(error)
    is_temporary = error.status in {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
    return ApiError(
        error.status,
        error.message,
        param=error.param,
        code=error.code,
        headers={"retry-after": "1"} if is_temporary else None,
    )
