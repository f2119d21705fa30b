"""How one row chooses its tokens, and what is known of a token that was chosen: plain data.

No torch here: an answer that another server generates is accounted for in the same way.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LOWEST_LOGPROB", "Sampler", "TokenScore"]

LOWEST_LOGPROB = -9999.0  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token's log probability and the likeliest tokens of its position."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Sampler:
    """How one row chooses its tokens.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: Least probability mass of the candidates kept.
        presence_penalty: Taken from the logit of every token generated before.
        frequency_penalty: Taken once for each time that a token was generated before.
        logit_bias: Token id → what is added to its logit.
        random: The row's random numbers.
        counts: How often each token was generated, as far as penalties need it.
        allowed: Mask over the vocabulary, where a grammar holds the answer.
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

    def saw(self, token: int) -> None:
        """Count a generated token for the penalties."""
        if self.presence_penalty or self.frequency_penalty:
            self.counts[token] = self.counts.get(token, 0) + 1
