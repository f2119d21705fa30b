"""Text completions, `/v1/completions`. A streamed chunk has the shape of the whole answer."""

from __future__ import annotations

from typing import Literal

from tunesmith._lazy import set_public_module

from .base import WireModel

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

    audio_tokens: int | None = None
    cached_tokens: int | None = None


class CompletionTokensDetails(WireModel):
    """How the answer's tokens break down."""

    accepted_prediction_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class CompletionUsage(WireModel):
    """Tokens read and written by one request."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


class CompletionLogprobs(WireModel):
    """Log probabilities of each token, parallel lists.

    With `echo` the first token has no probability: its entries are null.
    """

    text_offset: list[int] | None = None
    token_logprobs: list[float | None] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class CompletionChoice(WireModel):
    """One answer; `finish_reason` is null in all but a stream's last chunk."""

    finish_reason: Literal["stop", "length", "content_filter"] | str | None = None
    index: int
    logprobs: CompletionLogprobs | None = None
    text: str


class Completion(WireModel):
    """A completion, whole or one chunk of a stream."""

    id: str
    choices: list[CompletionChoice]
    created: int
    model: str
    object: Literal["text_completion"] | str = "text_completion"
    system_fingerprint: str | None = None
    usage: CompletionUsage | None = None


set_public_module(globals(), "tunesmith.types")
