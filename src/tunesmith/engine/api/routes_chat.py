"""`/v1/chat/completions`: conversations, formatted by the chat template of the base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunesmith.engine.serving.tool_call_parser import ToolCall, ToolCallParser
from tunesmith.engine.store.records import new_token

from .chat_requests import ChatBody
from .chat_tools import ToolUse
from .dependencies import CurrentKey
from .generation_responses import (
    resolve_model,
    respond_streaming,
    respond_whole,
    response_head,
    usage_object,
)
from .keyed_route import KeyedRoute
from .stored_answers import AnswerStore, ChunkJoiner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.serving.generation import GenerationDelta, TokenLogprob

__all__ = ["router"]

router: APIRouter = APIRouter(prefix="/v1/chat", tags=["chat"], route_class=KeyedRoute)


@router.post("/completions", summary="Answer a conversation")
async def create_chat_completion(request: Request, body: ChatBody, key: CurrentKey) -> Response:
    """Write the assistant's next message; with `stream`, as server-sent events."""
    generation = body.to_generation()
    use = body.tool_use()
    store = None
    if body.store:
        store = await anyio.to_thread.run_sync(AnswerStore.for_request, request, body, key)
    model = await resolve_model(request, body.model, key.organization)
    if body.stream:
        head = response_head("chatcmpl", "chat.completion.chunk", model)
        stream = _Stream(head, body, use)
        if store is None:
            return await respond_streaming(request, model, generation, stream.chunks)
        joiner = ChunkJoiner({**head, "object": "chat.completion"})

        def chunks(delta: GenerationDelta) -> Iterator[dict[str, Any]]:
            usage = None if delta.usage is None else usage_object(delta)
            return joiner.passing(stream.chunks(delta), usage)

        return await respond_streaming(
            request, model, generation, chunks, lambda: store.keep(joiner.completion())
        )
    head = response_head("chatcmpl", "chat.completion", model)

    def whole(deltas: list[GenerationDelta]) -> dict[str, Any]:
        deltas.sort(key=lambda delta: delta.index)
        usage = next(delta for delta in deltas if delta.usage is not None)
        choices = [_choice(delta, use, with_logprobs=bool(body.logprobs)) for delta in deltas]
        return {**head, "choices": choices, "usage": usage_object(usage)}

    keep = None if store is None else store.keep
    return await respond_whole(request, model, generation, whole, keep)


def _choice(delta: GenerationDelta, use: ToolUse, *, with_logprobs: bool) -> dict[str, Any]:
    content, calls = delta.text, list[dict[str, Any]]()
    if use.tools:
        text = ToolCallParser(use.names)
        plain = text.push(delta.text)
        rest, found = text.finish()
        content, calls = plain + rest, _call_objects(found, use)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content if content or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = calls
    return {
        "index": delta.index,
        "message": message,
        "logprobs": _logprobs(delta) if with_logprobs else None,
        "finish_reason": "tool_calls" if calls else delta.finish_reason,
    }


def _call_objects(calls: list[ToolCall], use: ToolUse) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{new_token()}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in (calls if use.parallel else calls[:1])
    ]


class _Stream:
    """Turns deltas into chunks: the role first, then content, then an empty last delta.

    A tool call is sent in one chunk, when it is complete.

    Args:
        head: The fields that every chunk begins with.
        body: The request.
        use: Its tools.
    """

    def __init__(self, head: dict[str, Any], body: ChatBody, use: ToolUse) -> None:
        self._head = head
        self._with_logprobs = bool(body.logprobs)
        self._with_usage = body.wants_usage
        self._use = use
        self._texts: dict[int, ToolCallParser] = {}

    def chunks(self, delta: GenerationDelta) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a delta."""
        index = delta.index
        if index not in self._texts:
            self._texts[index] = ToolCallParser(self._use.names)
            yield self._chunk(index, {"role": "assistant", "content": ""})
        content, finish_reason = delta.text, delta.finish_reason
        calls: list[dict[str, Any]] = []
        if self._use.tools:
            content = self._texts[index].push(delta.text)
            if finish_reason is not None:
                rest, found = self._texts[index].finish()
                content += rest
                calls = _call_objects(found, self._use)
        if content or delta.tokens:
            logprobs = _logprobs(delta) if self._with_logprobs else None
            yield self._chunk(index, {"content": content}, logprobs=logprobs)
        if calls:
            numbered = [{"index": number, **call} for number, call in enumerate(calls)]
            yield self._chunk(index, {"tool_calls": numbered})
        if finish_reason is not None:
            reason = "tool_calls" if calls else finish_reason
            yield self._chunk(index, {}, finish_reason=reason)
        if delta.usage is not None and self._with_usage:
            yield {**self._head, "choices": [], "usage": usage_object(delta)}

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
