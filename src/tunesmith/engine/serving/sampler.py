"""Samples the next tokens: penalties, bias, temperature, top_p, seed.

Each sequence has a `SamplingState` with its own random numbers, so an answer does not depend
on the requests that it shares a batch with (up to the rounding of the batch's matrix
products), nor, at temperature 0, on whether log probabilities are asked for. Log
probabilities are those of the model itself, before penalties, bias, temperature and top_p, as
in the legacy completions API.

Shapes: B sequences, V tokens in the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

from .sampling_state import LOWEST_LOGPROB, Logprobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .sampling_state import SamplingState

__all__ = [
    "Candidates",
    "Rescore",
    "adjust_logits",
    "compute_logprobs",
    "most_likely",
    "sample_token",
]

Rescore: TypeAlias = "Callable[[Tensor], Tensor]"
"""Returns the logits (K,) of some tokens (K,), computed in float32."""

_BF16_BITS = 8
TOP_P_CANDIDATES = 256  # enough for most values of top_p; more cost a full sort


@dataclass(frozen=True, slots=True)
class Candidates:
    """The most likely token of a row of logits, and whether rounding may have hidden another.

    Attributes:
        token: The most likely token.
        is_close: True if another logit lies within the rounding of bfloat16.
        tolerance: The widest distance at which two logits may have changed places.
    """

    token: int
    is_close: bool
    tolerance: float


def most_likely(logits: Tensor, bound: float | None = None) -> list[Candidates]:
    """Return the most likely token of each row of `logits` (B, V), float32, which stay as they are.

    With `bound`, each logit may be off by so much. Without it, they are rounded to bfloat16.

    bfloat16 has 8 significant bits, so each of two logits may be off by half a unit of the last
    of them: 2^-8 of the largest logit's power of two. Twice that is taken.
    """
    if bound is not None:
        best: list[int] = logits.argmax(dim=-1).tolist()
        return [Candidates(token, is_close=True, tolerance=2 * bound) for token in best]
    logits = logits.contiguous()  # a copy, where rows share memory
    top, tokens = logits.max(dim=-1)
    largest = torch.maximum(top.abs(), logits.amin(dim=-1).abs())
    _, exponents = torch.frexp(largest)  # the largest is below 2^exponent
    tolerance = torch.ldexp(torch.ones_like(top), exponents - _BF16_BITS + 1)
    # The second largest, without a copy or a comparison of all logits, which costs more.
    place = tokens.unsqueeze(-1)
    logits.scatter_(-1, place, float("-inf"))
    close = logits.amax(dim=-1) >= top - tolerance
    logits.scatter_(-1, place, top.unsqueeze(-1))
    columns = zip(tokens.tolist(), close.tolist(), tolerance.tolist(), strict=True)
    return [Candidates(*column) for column in columns]


def sample_token(
    logits: Tensor, state: SamplingState, likeliest: Candidates, rescore: Rescore | None = None
) -> int:
    """Return the next token of one sequence.

    Args:
        logits: The sequence's logits (V,), float32.
        state: How to sample.
        likeliest: What `most_likely` returns for these logits.
        rescore: Returns the logits of some tokens without rounding, if these were rounded. With it
            the most likely token is the same as that of logits computed in float32.
    """
    adjusted = adjust_logits(state, logits) if state.adjusts_logits else logits
    if not state.is_greedy:
        return _draw_token(state, adjusted)
    if adjusted is logits and not (rescore and likeliest.is_close):
        return likeliest.token
    best = adjusted.max()
    tokens = (adjusted >= best - likeliest.tolerance).nonzero().squeeze(1)
    if rescore is None or len(tokens) == 1 or not torch.isfinite(best):
        return int(adjusted.argmax())
    changed_by = adjusted[tokens] - logits[tokens]
    return int(tokens[(rescore(tokens) + changed_by).argmax()])


def compute_logprobs(logits: Tensor, tokens: Sequence[int], top_logprobs: int) -> list[Logprobs]:
    """Return the log probability of one token of each row of `logits`.

    Args:
        logits: (B, V), float32.
        tokens: B token ids.
        top_logprobs: How many of the most likely tokens of each row to return besides.
    """
    logprobs = torch.log_softmax(logits, dim=-1)
    index = torch.tensor(tokens, device=logits.device).unsqueeze(1)
    own: list[float] = logprobs.gather(1, index).squeeze(1).clamp(min=LOWEST_LOGPROB).tolist()
    if not top_logprobs:
        return [Logprobs(token, logprob) for token, logprob in zip(tokens, own, strict=True)]
    values, ids = logprobs.topk(min(top_logprobs, logprobs.shape[-1]), dim=-1)
    rows = zip(tokens, own, ids.tolist(), values.clamp(min=LOWEST_LOGPROB).tolist(), strict=True)
    return [
        Logprobs(token, logprob, tuple(zip(top_ids, top_values, strict=True)))
        for token, logprob, top_ids, top_values in rows
    ]


def adjust_logits(state: SamplingState, logits: Tensor) -> Tensor:
    """Return one sequence's logits (V,) with bias, penalties and the grammar's mask applied."""
    logits = logits.clone()
    if state.logit_bias:
        ids = torch.tensor(list(state.logit_bias), device=logits.device)
        logits[ids] += torch.tensor(list(state.logit_bias.values()), device=logits.device)
    if state.counts and (state.presence_penalty or state.frequency_penalty):
        ids = torch.tensor(list(state.counts), device=logits.device)
        times = torch.tensor(list(state.counts.values()), device=logits.device)
        logits[ids] -= state.presence_penalty + state.frequency_penalty * times
    if state.allowed is not None:
        logits.masked_fill_(~state.allowed, float("-inf"))
    return logits


def _draw_token(state: SamplingState, logits: Tensor) -> int:
    """Return a token drawn from one sequence's adjusted logits (V,), float32."""
    # Without the largest one, a low temperature would make them overflow.
    probabilities = torch.softmax((logits - logits.max()) / state.temperature, dim=-1)
    if state.top_p >= 1:
        return _draw(probabilities, state.random.random())
    candidates, ids = probabilities.topk(min(TOP_P_CANDIDATES, probabilities.numel()))
    if float(candidates.sum()) < state.top_p:
        candidates, ids = probabilities.sort(descending=True)
    before = candidates.cumsum(0) - candidates
    candidates = candidates[before < max(state.top_p, torch.finfo(before.dtype).tiny)]
    return int(ids[_draw(candidates, state.random.random())])


def _draw(weights: Tensor, uniform: float) -> int:
    """Return an index with probability proportional to its weight; `uniform` lies in [0, 1)."""
    cumulative = weights.double().cumsum(0)
    drawn = torch.searchsorted(cumulative, cumulative[-1] * uniform, right=True)
    return min(int(drawn), len(weights) - 1)
