"""What a recording will take, before its first request: requests, tokens, money. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.datasets.tokens import (
    UnknownEncodingError,
    count,
    encoding_for_model,
    estimate_message_tokens,
)

from .answers import message_answer
from .archive import folder_name
from .prompts import twice_ids
from .recordings import Prompt, Recording

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

__all__ = [
    "BATCH_SHARE",
    "CostEstimate",
    "Prices",
    "asked_prompts",
    "encoding_of",
    "estimate_cost",
    "expected_tokens",
    "is_recorded",
]

BATCH_SHARE = 0.5
"""What the batch API takes of the price."""
_USUAL_ANSWER = 200  # tokens, where neither a reference nor a limit says how long answers are
_FALLBACK_ENCODING = "o200k_base"


@dataclass(frozen=True, slots=True)
class Prices:
    """What a service charges, in any currency, for a million tokens.

    Attributes:
        input: Of the prompts.
        output: Of the answers.
    """

    input: float
    output: float

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the price of so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a recording will take, before its first request.

    Attributes:
        requests: Requests to send; those whose answers are there already are not counted.
        reused: Answers that are there already.
        prompt_tokens: Counted, by the model's encoding or, where that is not known, a similar one.
        completion_tokens: Estimated: as long as the references, or a usual answer.
        cost: At the given prices, None without.
        is_batch: Whether the batch API's half price is meant.
    """

    requests: int
    reused: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None = None
    is_batch: bool = False


def estimate_cost(
    model: str,
    prompts: Sequence[Prompt],
    folder: str | os.PathLike[str] | None = None,
    *,
    twice: float = 0.0,
    prices: Prices | None = None,
    is_batch: bool = False,
) -> CostEstimate:
    """Return what recording these prompts will take; sends nothing.

    Args:
        model: The model to be asked.
        prompts: The prompts.
        folder: The folder of recordings, to leave out what is there already.
        twice: The share that is recorded twice.
        prices: What the service charges, None to estimate tokens alone.
        is_batch: Whether the batch API answers, at half the price.
    """
    recording = _existing(model, folder)
    requests = prompt_tokens = completion_tokens = reused = 0
    encoding = encoding_of(model)
    for prompt, repeat in asked_prompts(prompts, twice):
        if is_recorded(recording, prompt, repeat):
            reused += 1
            continue
        tokens = expected_tokens(prompt, encoding)
        requests += 1
        prompt_tokens += tokens[0]
        completion_tokens += tokens[1]
    cost = None if prices is None else prices.cost(prompt_tokens, completion_tokens)
    if cost is not None and is_batch:
        cost *= BATCH_SHARE
    return CostEstimate(requests, reused, prompt_tokens, completion_tokens, cost, is_batch)


def asked_prompts(prompts: Sequence[Prompt], twice: float) -> list[tuple[Prompt, int]]:
    """Return the prompts with the number of the repeat; a second time follows the first."""
    unique = list({prompt.id: prompt for prompt in prompts}.values())
    again = twice_ids(unique, twice)
    return [
        (prompt, repeat) for prompt in unique for repeat in range(2 if prompt.id in again else 1)
    ]


def _existing(model: str, folder: str | os.PathLike[str] | None) -> Recording:
    path = None if folder is None else Path(folder) / folder_name(model)
    if path is None or not (path / "recording.json").exists():
        return Recording(model)
    return Recording.read(path)


def is_recorded(recording: Recording, prompt: Prompt, repeat: int) -> bool:
    """Return whether asking would be of no use: there is an answer or a final refusal."""
    answer = recording.answer(prompt.id, repeat)
    return answer is not None and answer.is_final


def encoding_of(model: str) -> str:
    """Return the encoding in which a model's tokens are counted, or a similar one."""
    try:
        return encoding_for_model(model)
    except UnknownEncodingError:
        return _FALLBACK_ENCODING


def expected_tokens(prompt: Prompt, encoding: str) -> tuple[int, int]:
    """Return the tokens of a prompt, and those that its answer will have, as far as known."""
    if prompt.is_chat:
        tools = prompt.body.get("tools") or ()
        asked = estimate_message_tokens(prompt.body["messages"], encoding, tools=tools)
    else:
        asked = count(str(prompt.body.get("prompt")), encoding)
    reference = message_answer(prompt.reference)
    answered = _USUAL_ANSWER if reference is None else count(reference.shown, encoding) + 1
    limit = prompt.body.get("max_completion_tokens") or prompt.body.get("max_tokens")
    return asked, min(answered, limit) if isinstance(limit, int) else answered
