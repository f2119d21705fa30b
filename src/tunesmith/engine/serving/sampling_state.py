"""The sampling parameters and state of one sequence, and log probabilities: plain data.

No torch is imported here: sequences that another server generates use the same classes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LOWEST_LOGPROB", "Logprobs", "SamplingState"]

LOWEST_LOGPROB = -9999.0  # JSON has no infinity
_MIN_TEMPERATURE = 1e-5  # below it, as at 0, the most likely token is taken


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The log probability of a token, and the top log probabilities of its position.

    Attributes:
        top: The most likely token ids with their log probabilities, most likely first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class SamplingState:
    """How the tokens of one sequence are sampled.

    Attributes:
        temperature: 0 takes the most likely token.
        top_p: Least probability mass of the candidates kept.
        presence_penalty: Subtracted from the logit of every token generated before.
        frequency_penalty: Subtracted once for each time that a token was generated before.
        logit_bias: Token id → what is added to its logit.
        random: The sequence's own random numbers.
        counts: How often each token was generated, if penalties need it.
        allowed: Boolean mask (V,) of the tokens that the grammar allows next, if there is one.
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
    def is_greedy(self) -> bool:
        """True if the most likely token is taken."""
        return self.temperature < _MIN_TEMPERATURE

    @property
    def adjusts_logits(self) -> bool:
        """True if logits are changed before sampling."""
        return bool(
            self.logit_bias
            or self.allowed is not None
            or (self.counts and (self.presence_penalty or self.frequency_penalty))
        )

    def count(self, token: int) -> None:
        """Count a generated token for the penalties."""
        if self.presence_penalty or self.frequency_penalty:
            self.counts[token] = self.counts.get(token, 0) + 1
