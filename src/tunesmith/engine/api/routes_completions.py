"""`/v1/completions`, and its older address `/v1/engines/{engine}/completions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunesmith.engine.security.keys import Identity

from .dependencies import CurrentKey, get_services
from .generation_requests import CompletionBody
from .generation_responses import (
    resolve_model,
    respond_streaming,
    respond_whole,
    response_head,
    usage_object,
)
from .http_errors import invalid
from .routed_requests import RoutedRoute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tunesmith.engine.serving.generation import GenerationDelta, TokenLogprob

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1", tags=["completions"], route_class=RoutedRoute)


@router.post("/completions", summary="Complete a prompt")
async def create_completion(request: Request, body: CompletionBody, key: CurrentKey) -> Response:
    """Complete one or more prompts; with `stream`, as server-sent events."""
    if body.model is None:
        raise invalid("Missing required parameter: 'model'.", param="model")
    return await _complete(request, body, key, body.model)


@router.post("/engines/{engine}/completions", summary="Complete a prompt (older address)")
async def create_engine_completion(
    request: Request, engine: str, body: CompletionBody, key: CurrentKey
) -> Response:
    """Do the same as `/v1/completions`, with the model named in the path."""
    return await _complete(request, body, key, unquote(engine))


async def _complete(request: Request, body: CompletionBody, key: Identity, name: str) -> Response:
    generation = body.to_generation(get_services(request).config.limits.prompts)
    model = await resolve_model(request, name, key.organization)
    head = response_head("cmpl", "text_completion", model)
    with_logprobs = body.logprobs is not None

    def whole(deltas: list[GenerationDelta]) -> dict[str, Any]:
        choices = [_choice(delta, with_logprobs=with_logprobs) for delta in deltas]
        choices.sort(key=lambda choice: choice["index"])
        return {**head, "choices": choices, "usage": usage_object(deltas[-1])}

    def chunks(delta: GenerationDelta) -> Iterator[dict[str, Any]]:
        choice = _choice(
            delta,
            with_logprobs=with_logprobs and bool(delta.tokens),
        )
        extra = {"usage": None} if body.wants_usage else {}
        yield {**head, "choices": [choice], **extra}
        if delta.usage is not None and body.wants_usage:
            yield {**head, "choices": [], "usage": usage_object(delta)}

    if body.stream:
        return await respond_streaming(request, model, generation, chunks)
    return await respond_whole(request, model, generation, whole)


def _choice(delta: GenerationDelta, *, with_logprobs: bool) -> dict[str, Any]:
    return {
        "text": delta.text,
        "index": delta.index,
        "logprobs": _logprobs(delta.tokens) if with_logprobs else None,
        "finish_reason": delta.finish_reason,
    }


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_top_logprobs(token) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _top_logprobs(token: TokenLogprob) -> dict[str, float] | None:
    """Return the most likely tokens, and the chosen one if it is not among them."""
    if token.logprob is None:
        return None
    return {token.text: token.logprob} | {top.text: top.logprob for top in token.top}
