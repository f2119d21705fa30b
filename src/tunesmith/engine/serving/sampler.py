"""Samples the next tokens: penalties, bias, temperature, top_p, seed.

Each sequence has a `SamplingState` with its own random numbers, so an answer does not depend
on the requests that it shares a batch with (up to the rounding of the batch's matrix
products). Log probabilities are those of the model itself, before penalties, bias,
temperature and top_p, as in the legacy completions API.

Shapes: B sequences, V tokens in the vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .sampling_state import LOWEST_LOGPROB, Logprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .sampling_state import SamplingState

__all__ = ["adjust_logits", "compute_logprobs", "sample_tokens"]

TOP_P_CANDIDATES = 256  # enough for most values of top_p; more cost a full sort


def sample_tokens(logits: Tensor, states: Sequence[SamplingState]) -> list[int]:
    """Return the next token of each of B sequences from its row of `logits` (B, V), float32."""
    most_likely: list[int] = logits.argmax(dim=-1).tolist()
    tokens: list[int] = []
    for row, state in enumerate(states):
        if state.adjusts_logits:
            tokens.append(_sample(state, adjust_logits(state, logits[row])))
        elif state.temperature == 0:
            tokens.append(most_likely[row])
        else:
            tokens.append(_sample(state, logits[row]))
    return tokens


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


def _sample(state: SamplingState, logits: Tensor) -> int:
    """Return the next token of one sequence from its adjusted logits (V,), float32."""
    if state.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / state.temperature, dim=-1)
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
