"""What the models of a recorded organisation answer: completions, with log probabilities.

An answer is a function of model and prompt. A few are wrong, as those of a trained model are, and
for a few prompts the model wavers between two answers from call to call. Knows no HTTP.
"""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .tasks import Task, draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Answers", "chat_chunks"]

WRONG, WAVERING = 0.06, 0.04
_Message = dict[str, Any]


@dataclass
class Answers:
    """Answers prompts.

    Args:
        seed: Equal seeds answer equally.
        wrong: The fraction of prompts that a model answers wrongly.
        wavering: The fraction of prompts that a model answers now so, now otherwise.
    """

    seed: int
    wrong: float = WRONG
    wavering: float = WAVERING
    _calls: dict[str, int] = field(default_factory=dict[str, int])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def message(
        self,
        model: str,
        task: Task | None,
        messages: Sequence[_Message],
        learned: Mapping[str, _Message],
        *,
        kept: bool = False,
    ) -> _Message:
        """Return the message that a model answers with.

        Args:
            model: Its name.
            task: What it was trained for, None for a base model or one trained here.
            messages: The conversation.
            learned: For a model trained here: its answers by the last message of the user.
            kept: Whether this is an answer that was kept long ago: it does not change.
        """
        text = _last_text(messages)
        if text in learned:
            return dict(learned[text])
        if task is None:
            return {"role": "assistant", "content": f"You said: {text[:200]}"}
        right, others = task.solve(text), task.alternatives(text)
        drawn = draw(1_000_000, self.seed, "right", model, text) / 1_000_000
        if drawn < self.wrong:
            return dict(others[draw(len(others), model, text)])
        wavers = drawn < self.wrong + self.wavering and not kept
        if wavers and self._call(f"{model}/{text}") % 2:
            return dict(others[0])
        return dict(right)

    def _call(self, key: str) -> int:
        """Return how often a wavering prompt has been answered before."""
        with self._lock:
            count = self._calls.get(key, 0)
            self._calls[key] = count + 1
        return count

    def completion(
        self, body: Mapping[str, Any], identity: str, now: int, message: _Message
    ) -> dict[str, Any]:
        """Return a chat completion object with the message as each of its choices."""
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        text = message.get("content")
        tokens = pieces(text or "")
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        if limit and len(tokens) > int(limit):
            tokens, reason = tokens[: int(limit)], "length"
            message = {**message, "content": "".join(tokens)}
        logprobs = None
        if body.get("logprobs"):
            top = int(body.get("top_logprobs") or 0)
            logprobs = {
                "content": [self.logprob(body["model"], token, at, top) for at, token in
                            enumerate(tokens)],
                "refusal": None,
            }  # fmt: skip
        count = int(body.get("n") or 1)
        prompt_tokens = sum(len(pieces(_text(one))) + 4 for one in body.get("messages") or [])
        spoken = len(tokens) + 12 * len(message.get("tool_calls") or [])
        whole: dict[str, Any] = {"role": "assistant", "content": None}
        whole |= {"refusal": None, "annotations": []}
        return {
            "id": identity,
            "object": "chat.completion",
            "created": now,
            "model": body["model"],
            "choices": [
                {
                    "index": index,
                    "message": {**whole, **message},
                    "logprobs": logprobs,
                    "finish_reason": reason,
                }
                for index in range(count)
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": spoken * count,
                "total_tokens": prompt_tokens + spoken * count,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": f"fp_{draw(16**10, self.seed, body['model']):010x}",
        }

    def logprob(self, model: str, token: str, at: int, top: int) -> dict[str, Any]:
        """Return one token's entry of `logprobs.content`."""
        chance = 0.55 + draw(4400, self.seed, model, token, at) / 10_000
        found: dict[str, Any] = _logprob(token, chance)
        others = [_logprob(f"{token[:1]}{rank}", (1 - chance) / 2**rank) for rank in range(1, top)]
        found["top_logprobs"] = [_logprob(token, chance), *others] if top else []
        return found


def _logprob(token: str, chance: float) -> dict[str, Any]:
    return {"token": token, "logprob": round(math.log(chance), 6), "bytes": list(token.encode())}


def pieces(text: str) -> list[str]:
    """Return a text in tokens: words with the space before them, and signs."""
    return re.findall(r"\s?\w+|\s?[^\w\s]|\s", text)


def chat_chunks(completion: Mapping[str, Any], *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a streamed chat completion."""
    head = {name: completion[name] for name in ("id", "created", "model", "system_fingerprint")}
    head |= {"object": "chat.completion.chunk", "service_tier": "default"}

    def chunk(index: int, delta: dict[str, Any], **rest: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        usage = {"usage": None} if with_usage else {}
        return {**head, "choices": [{**choice, **rest}], **usage}

    for choice in completion["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
        entries = (choice["logprobs"] or {}).get("content") or []
        for at, token in enumerate(pieces(message["content"] or "")):
            spoken = {"content": [entries[at]], "refusal": None} if entries else None
            yield chunk(index, {"content": token}, logprobs=spoken)
        for at, call in enumerate(message.get("tool_calls") or []):
            yield chunk(index, {"tool_calls": [{"index": at, **call}]})
        yield chunk(index, {}, finish_reason=choice["finish_reason"])
    if with_usage:
        yield {**head, "choices": [], "usage": completion["usage"]}


def text_completion(
    body: Mapping[str, Any], identity: str, now: int, texts: Sequence[str]
) -> dict[str, Any]:
    """Return a completion object of the endpoint without roles; the texts in order."""
    limit = int(body.get("max_tokens") or 16)
    choices: list[dict[str, Any]] = []
    spoken = 0
    for index, text in enumerate(texts):
        tokens = pieces(text)[:limit]
        spoken += len(tokens)
        stopped = "length" if len(pieces(text)) > limit else "stop"
        logprobs = None
        if body.get("logprobs") is not None:
            offsets = [sum(map(len, tokens[:at])) for at in range(len(tokens))]
            chances = [round(math.log(0.9), 6)] * len(tokens)
            logprobs = {"tokens": tokens, "token_logprobs": chances, "text_offset": offsets}
            logprobs["top_logprobs"] = [
                {token: chance} for token, chance in zip(tokens, chances, strict=True)
            ]
        choices.append(
            {
                "index": index,
                "text": "".join(tokens),
                "logprobs": logprobs,
                "finish_reason": stopped,
            }
        )
    prompts = body.get("prompt") or ""
    asked = sum(len(pieces(one)) for one in ([prompts] if isinstance(prompts, str) else prompts))
    usage = {"prompt_tokens": asked, "completion_tokens": spoken, "total_tokens": asked + spoken}
    return {
        "id": identity,
        "object": "text_completion",
        "created": now,
        "model": body["model"],
        "choices": choices,
        "usage": usage,
    }


def _last_text(messages: Sequence[_Message]) -> str:
    users = [one for one in messages if one.get("role") == "user"]
    return _text(users[-1]) if users else ""


def _text(message: _Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else json.dumps(message.get("tool_calls") or "")
