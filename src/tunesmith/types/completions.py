"""Text completions, `/v1/completions`. A streamed chunk has the shape of the whole answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from tunesmith._lazy import set_public_module

from .base import WireModel, with_index

__all__ = [
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionTokensDetails",
    "CompletionUsage",
    "PromptTokensDetails",
]


class PromptTokensDetails(WireModel):
    """How the prompt's tokens break down."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    audio_tokens: int | None = None
    cached_tokens: int | None = None


class CompletionTokensDetails(WireModel):
    """How the answer's tokens break down."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    accepted_prediction_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class CompletionUsage(WireModel):
    """Tokens read and written by one request."""

    _essential: ClassVar[frozenset[str] | None] = frozenset()

    completion_tokens: int = 0
    prompt_tokens: int = 0
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails | None = None
    prompt_tokens_details: PromptTokensDetails | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """A total that is not sent is the sum."""
        if not isinstance(content, Mapping) or content.get("total_tokens") is not None:
            return content
        counts = (content.get("prompt_tokens"), content.get("completion_tokens"))
        return {**content, "total_tokens": sum(n for n in counts if isinstance(n, int | float))}


class CompletionLogprobs(WireModel):
    """Log probabilities of each token, parallel lists.

    With `echo` the first token has no probability: its entries are null.
    """

    text_offset: list[int] | None = None
    token_logprobs: list[float | None] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """A probability that is null among the most likely ones is not a number."""
        if not isinstance(content, Mapping) or not isinstance(content.get("top_logprobs"), list):
            return content
        return {
            **content,
            "top_logprobs": [
                {token: math.nan if value is None else value for token, value in top.items()}
                if isinstance(top, Mapping)
                else top
                for top in content["top_logprobs"]
            ],
        }


class CompletionChoice(WireModel):
    """One answer; `finish_reason` is null in all but a stream's last chunk."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"text", "logprobs"})

    finish_reason: Literal["stop", "length", "content_filter"] | str | None = None
    index: int
    logprobs: CompletionLogprobs | None = None
    text: str

    @classmethod
    def _mended(cls, content: Any, position: int) -> Any:
        """The index is the position, and an end without a text has an empty one."""
        if not isinstance(content, Mapping):
            return content
        mended = with_index(content, position)
        ended = mended.get("finish_reason") and not mended.keys() & {"message", "delta"}
        if mended.get("text", None if ended else ...) is None:
            mended["text"] = ""
        return mended


class Completion(WireModel):
    """A completion, whole or one chunk of a stream."""

    _essential: ClassVar[frozenset[str] | None] = frozenset({"choices"})

    id: str = ""
    choices: list[CompletionChoice]
    created: int = 0
    model: str = ""
    object: Literal["text_completion"] | str = "text_completion"
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


set_public_module(globals(), "tunesmith.types")
