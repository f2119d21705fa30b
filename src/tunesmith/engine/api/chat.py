"""`/v1/chat/completions`: conversations, written out by the chat template of the base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from .chat_requests import ChatBody
from .context import Asker
from .generating import (
    answer_head,
    resolve_model,
    respond_streaming,
    respond_whole,
    usage_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.engine.serving.messages import GenerationDelta, ScoredToken

__all__ = ["router"]

router = APIRouter(prefix="/v1/chat", tags=["chat"])


@router.post("/completions", summary="Answer a conversation")
async def create_chat_completion(request: Request, body: ChatBody, asker: Asker) -> Response:
    """Write the assistant's next message; with `stream`, as server-sent events."""
    generation = body.to_generation()
    model = await resolve_model(request, body.model, asker.organization)
    if body.stream:
        head = answer_head("chatcmpl", "chat.completion.chunk", model)
        stream = _Stream(head, with_logprobs=bool(body.logprobs), with_usage=body.wants_usage)
        return await respond_streaming(request, model, generation, stream.chunks)
    head = answer_head("chatcmpl", "chat.completion", model)

    def whole(deltas: list[GenerationDelta]) -> dict[str, Any]:
        choices: list[dict[str, Any]] = [
            {
                "index": delta.index,
                "message": {
                    "role": "assistant",
                    "content": delta.text,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": _logprobs(delta) if body.logprobs else None,
                "finish_reason": delta.finish_reason,
            }
            for delta in sorted(deltas, key=lambda delta: delta.index)
        ]
        return {**head, "choices": choices, "usage": usage_object(deltas[-1])}

    return await respond_whole(request, model, generation, whole)


class _Stream:
    """Turns deltas into chunks: the role first, then content, then an empty last delta.

    Args:
        head: What every chunk begins with.
        with_logprobs: Whether chunks carry log probabilities.
        with_usage: Whether a last chunk carries the usage.
    """

    def __init__(self, head: dict[str, Any], *, with_logprobs: bool, with_usage: bool) -> None:
        self._head = head
        self._with_logprobs = with_logprobs
        self._with_usage = with_usage
        self._begun: set[int] = set()

    def chunks(self, delta: GenerationDelta) -> Iterator[dict[str, Any]]:
        """Yield the chunks that tell of a delta."""
        if delta.index not in self._begun:
            self._begun.add(delta.index)
            yield self._chunk(delta.index, {"role": "assistant", "content": ""})
        if delta.text or delta.tokens:
            logprobs = _logprobs(delta) if self._with_logprobs else None
            yield self._chunk(delta.index, {"content": delta.text}, logprobs=logprobs)
        if delta.finish_reason is not None:
            yield self._chunk(delta.index, {}, finish_reason=delta.finish_reason)
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


def _token(token: ScoredToken) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.data),
        "top_logprobs": [
            {"token": rival.text, "logprob": rival.logprob, "bytes": list(rival.data)}
            for rival in token.top
        ],
    }
