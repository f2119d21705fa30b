"""Choosing the next token: penalties, bias, temperature, nucleus, seed.

Each row has a `Sampler` of its own, with its own random numbers, so an answer does not
depend on which other requests it shares a batch with (up to the rounding of the
batch's matrix products). Log probabilities are those of the model itself, before
penalties, bias, temperature and nucleus, as in the first API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .sampling_state import LOWEST_LOGPROB, TokenScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .sampling_state import Sampler

__all__ = ["adjusted", "choose_tokens", "score_tokens"]

NUCLEUS_CANDIDATES = 256  # most nuclei are smaller; larger ones cost a full sort


def choose_tokens(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Return the next token of each row of `logits` (rows by vocabulary, float32)."""
    likeliest: list[int] = logits.argmax(dim=-1).tolist()
    chosen: list[int] = []
    for row, sampler in enumerate(samplers):
        if sampler.adjusts:
            chosen.append(_chosen(sampler, adjusted(sampler, logits[row])))
        elif sampler.temperature == 0:
            chosen.append(likeliest[row])
        else:
            chosen.append(_chosen(sampler, logits[row]))
    return chosen


def score_tokens(logits: Tensor, tokens: Sequence[int], rivals: int) -> list[TokenScore]:
    """Return the log probability of each row's token and of its `rivals` likeliest tokens."""
    logprobs = torch.log_softmax(logits, dim=-1)
    index = torch.tensor(tokens, device=logits.device).unsqueeze(1)
    own: list[float] = logprobs.gather(1, index).squeeze(1).clamp(min=LOWEST_LOGPROB).tolist()
    if not rivals:
        return [TokenScore(token, logprob) for token, logprob in zip(tokens, own, strict=True)]
    values, ids = logprobs.topk(min(rivals, logprobs.shape[-1]), dim=-1)
    rows = zip(tokens, own, ids.tolist(), values.clamp(min=LOWEST_LOGPROB).tolist(), strict=True)
    return [
        TokenScore(token, logprob, tuple(zip(top_ids, top_values, strict=True)))
        for token, logprob, top_ids, top_values in rows
    ]


def adjusted(sampler: Sampler, logits: Tensor) -> Tensor:
    """Return a row's logits with bias, penalties and the grammar's mask applied."""
    logits = logits.clone()
    if sampler.logit_bias:
        ids = torch.tensor(list(sampler.logit_bias), device=logits.device)
        logits[ids] += torch.tensor(list(sampler.logit_bias.values()), device=logits.device)
    if sampler.counts and (sampler.presence_penalty or sampler.frequency_penalty):
        ids = torch.tensor(list(sampler.counts), device=logits.device)
        times = torch.tensor(list(sampler.counts.values()), device=logits.device)
        logits[ids] -= sampler.presence_penalty + sampler.frequency_penalty * times
    if sampler.allowed is not None:
        logits.masked_fill_(~sampler.allowed, float("-inf"))
    return logits


def _chosen(sampler: Sampler, logits: Tensor) -> int:
    """Return the next token, given a row's adjusted logits in float32."""
    if sampler.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampler.temperature, dim=-1)
    if sampler.top_p >= 1:
        return _draw(probabilities, sampler.random.random())
    candidates, ids = probabilities.topk(min(NUCLEUS_CANDIDATES, probabilities.numel()))
    if float(candidates.sum()) < sampler.top_p:
        candidates, ids = probabilities.sort(descending=True)
    before = candidates.cumsum(0) - candidates
    candidates = candidates[before < max(sampler.top_p, torch.finfo(before.dtype).tiny)]
    return int(ids[_draw(candidates, sampler.random.random())])


def _draw(weights: Tensor, uniform: float) -> int:
    """Return an index with probability proportional to its weight; `uniform` lies in [0, 1)."""
    cumulative = weights.double().cumsum(0)
    drawn = torch.searchsorted(cumulative, cumulative[-1] * uniform, right=True)
    return min(int(drawn), len(weights) - 1)
