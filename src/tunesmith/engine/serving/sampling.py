"""Choosing the next token: penalties, bias, temperature, nucleus, seed.

Each row has a `Sampler` of its own, with its own random numbers, so an answer does not
depend on which other requests it shares a batch with (up to the rounding of the
batch's matrix products). Log probabilities are those of the model itself, before
penalties, bias, temperature and nucleus, as in the first API.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Sampler", "TokenScore", "choose_tokens", "score_tokens"]

LOWEST_LOGPROB = -9999.0  # JSON has no infinity
NUCLEUS_CANDIDATES = 256  # most nuclei are smaller; larger ones cost a full sort


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token's log probability and the likeliest tokens of its position."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Sampler:
    """How one row chooses its tokens.

    Args:
        temperature: 0 takes the likeliest token.
        top_p: Least probability mass of the candidates kept.
        presence_penalty: Taken from the logit of every token generated before.
        frequency_penalty: Taken once for each time that a token was generated before.
        logit_bias: Token id → what is added to its logit.
        random: The row's random numbers.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    random: random.Random = field(default_factory=random.Random)
    counts: dict[int, int] = field(default_factory=dict)
    allowed: Tensor | None = None

    @property
    def adjusts(self) -> bool:
        """True if logits are changed before the choice."""
        return bool(
            self.logit_bias
            or self.allowed is not None
            or (self.counts and (self.presence_penalty or self.frequency_penalty))
        )

    def adjust(self, logits: Tensor) -> Tensor:
        """Return a row's logits with bias, penalties and the grammar's mask applied."""
        logits = logits.clone()
        if self.logit_bias:
            ids = torch.tensor(list(self.logit_bias), device=logits.device)
            logits[ids] += torch.tensor(list(self.logit_bias.values()), device=logits.device)
        if self.counts and (self.presence_penalty or self.frequency_penalty):
            ids = torch.tensor(list(self.counts), device=logits.device)
            times = torch.tensor(list(self.counts.values()), device=logits.device)
            logits[ids] -= self.presence_penalty + self.frequency_penalty * times
        if self.allowed is not None:
            logits.masked_fill_(~self.allowed, float("-inf"))
        return logits

    def choose(self, logits: Tensor) -> int:
        """Return the next token, given a row's adjusted logits in float32."""
        if self.temperature == 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self.temperature, dim=-1)
        if self.top_p >= 1:
            return _draw(probabilities, self.random.random())
        candidates, ids = probabilities.topk(min(NUCLEUS_CANDIDATES, probabilities.numel()))
        if float(candidates.sum()) < self.top_p:
            candidates, ids = probabilities.sort(descending=True)
        before = candidates.cumsum(0) - candidates
        candidates = candidates[before < max(self.top_p, torch.finfo(before.dtype).tiny)]
        return int(ids[_draw(candidates, self.random.random())])

    def saw(self, token: int) -> None:
        """Count a generated token for the penalties."""
        if self.presence_penalty or self.frequency_penalty:
            self.counts[token] = self.counts.get(token, 0) + 1


def _draw(weights: Tensor, uniform: float) -> int:
    """Return an index with probability proportional to its weight; `uniform` lies in [0, 1)."""
    cumulative = weights.double().cumsum(0)
    drawn = torch.searchsorted(cumulative, cumulative[-1] * uniform, right=True)
    return min(int(drawn), len(weights) - 1)


def choose_tokens(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Return the next token of each row of `logits` (rows by vocabulary, float32)."""
    likeliest: list[int] = logits.argmax(dim=-1).tolist()
    chosen: list[int] = []
    for row, sampler in enumerate(samplers):
        if sampler.adjusts:
            chosen.append(sampler.choose(sampler.adjust(logits[row])))
        elif sampler.temperature == 0:
            chosen.append(likeliest[row])
        else:
            chosen.append(sampler.choose(logits[row]))
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
