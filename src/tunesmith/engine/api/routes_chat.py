"""`/v1/chat/completions`: conversations, formatted by the chat template of the base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from .chat_requests import ChatBody, EngineChatBody
from .dependencies import CurrentKey
from .generation_responses import (
    chat_usage_object,
    resolve_model,
    respond_streaming,
    respond_whole,
    response_head,
)
from .routed_requests import RoutedRoute
from .stored_answers import AnswerStore, ChunkJoiner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.security.keys import Identity
    from tunesmith.engine.serving.generation import GenerationDelta, TokenLogprob
    from tunesmith.engine.serving.tool_call_parser import CallDelta

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1", tags=["chat"], route_class=RoutedRoute)


@router.post("/chat/completions", summary="Answer a conversation")
async def create_chat_completion(request: Request, body: ChatBody, key: CurrentKey) -> Response:
    """Write the assistant's next message; with `stream`, as server-sent events."""
    return await _respond(request, body, key, body.model)


@router.post(
    "/engines/{engine}/chat/completions",
    summary="Answer a conversation (Azure's older address)",
    include_in_schema=False,
)
async def create_engine_chat_completion(
    request: Request, engine: str, body: EngineChatBody, key: CurrentKey
) -> Response:
    """Do the same as `/v1/chat/completions`, with the model named in the path."""
    return await _respond(request, body, key, unquote(engine))


async def _respond(request: Request, body: ChatBody, key: Identity, name: str) -> Response:
    generation = body.to_generation()
    store = None
    if body.store:
        store = await anyio.to_thread.run_sync(AnswerStore.for_request, request, body, key)
    model = await resolve_model(request, name, key.organization)
    if body.stream:
        head = response_head("chatcmpl", "chat.completion.chunk", model)
        stream = _Stream(head, body)
        if store is None:
            return await respond_streaming(request, model, generation, stream.chunks)
        joiner = ChunkJoiner({**head, "object": "chat.completion"})

        def chunks(delta: GenerationDelta) -> Iterator[dict[str, Any]]:
            usage = None if delta.usage is None else chat_usage_object(delta)
            return joiner.passing(stream.chunks(delta), usage)

        return await respond_streaming(
            request, model, generation, chunks, lambda: store.keep(joiner.completion())
        )
    head = response_head("chatcmpl", "chat.completion", model)

    def whole(deltas: list[GenerationDelta]) -> dict[str, Any]:
        deltas.sort(key=lambda delta: delta.index)
        usage = next(delta for delta in deltas if delta.usage is not None)
        choices = [_choice(delta, body) for delta in deltas]
        return {**head, "choices": choices, "usage": chat_usage_object(usage)}

    keep = None if store is None else store.keep
    return await respond_whole(request, model, generation, whole, keep)


def _choice(delta: GenerationDelta, body: ChatBody) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": delta.text if delta.text or not delta.calls else None,
        "refusal": None,
        "annotations": [],
    }
    if delta.reasoning and body.wants_reasoning:
        message["reasoning_content"] = delta.reasoning
    if delta.calls:
        message["tool_calls"] = [_call(call) for call in delta.calls]
    return {
        "index": delta.index,
        "message": message,
        "logprobs": _logprobs(delta) if body.logprobs else None,
        "finish_reason": delta.finish_reason,
    }


def _call(call: CallDelta) -> dict[str, Any]:
    """Return a call, or a piece of one, which has an id and a name only if it is the first."""
    if call.name is None:
        return {"function": {"arguments": call.arguments}}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


class _Stream:
    """Turns deltas into chunks: the role first, then what is new, then an empty last delta.

    Of a tool call the first piece carries id and name, the others what is new of its arguments.

    Args:
        head: The fields that every chunk begins with.
        body: The request.
    """

    def __init__(self, head: dict[str, Any], body: ChatBody) -> None:
        self._head = head
        self._with_logprobs = bool(body.logprobs)
        self._with_usage = body.wants_usage
        self._with_reasoning = body.wants_reasoning
        self._begun: set[int] = set()

    def chunks(self, delta: GenerationDelta) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a delta."""
        index = delta.index
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": ""})
        if delta.reasoning and self._with_reasoning:
            yield self._chunk(index, {"reasoning_content": delta.reasoning})
        if delta.text or delta.tokens:
            logprobs = _logprobs(delta) if self._with_logprobs else None
            yield self._chunk(index, {"content": delta.text}, logprobs=logprobs)
        for call in delta.calls:
            yield self._chunk(index, {"tool_calls": [{"index": call.index, **_call(call)}]})
        if delta.finish_reason is not None:
            yield self._chunk(index, {}, finish_reason=delta.finish_reason)
        if delta.usage is not None and self._with_usage:
            yield {**self._head, "choices": [], "usage": chat_usage_object(delta)}

    def _chunk(
        self,
        index: int,
        content: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": content,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        extra = {"usage": None} if self._with_usage else {}
        return {**self._head, "choices": [choice], **extra}


def _logprobs(delta: GenerationDelta) -> dict[str, Any]:
    return {"content": [_token(token) for token in delta.tokens], "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.data),
        "top_logprobs": [
            {"token": top.text, "logprob": top.logprob, "bytes": list(top.data)}
            for top in token.top
        ],
    }
