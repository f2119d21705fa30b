"""Compares the logits of two forms of one model, position by position.

Both are computed in float32 by transformers, one model in memory at a time. The measure is the
Kullback-Leibler divergence of the next-token distributions, in nats a token: 0 for equal models,
and not distorted by logits that no answer depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Difference", "difference", "logits_of"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the logits of one model are from those of another.

    Attributes:
        divergence: Mean of KL(reference || other), in nats a token.
        largest: Largest difference of two logits.
        same_top: Share of the positions at which both prefer the same token.
        positions: Number of the positions compared.
    """

    divergence: float
    largest: float
    same_top: float
    positions: int


def logits_of(model: Any, samples: Sequence[Sequence[int]]) -> Tensor:
    """Return the logits (positions, vocabulary) of a causal model for all samples, in float32.

    Args:
        model: A model of transformers, or of PEFT.
        samples: Token ids, each sample of at least one token.
    """
    model.eval()
    with torch.inference_mode():
        return torch.cat(
            [
                model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()
                for tokens in samples
            ]
        )


def difference(reference: Tensor, other: Tensor) -> Difference:
    """Return how far `other` is from `reference`; both have the shape (positions, vocabulary).

    A vocabulary that one of them has padded is compared as far as the shorter one reaches.
    """
    width = min(reference.shape[1], other.shape[1])
    reference, other = reference[:, :width], other[:, :width]
    expected, found = reference.log_softmax(-1), other.log_softmax(-1)
    divergence = (expected.exp() * (expected - found)).sum(-1).mean()
    return Difference(
        divergence=max(float(divergence), 0.0),
        largest=float((reference - other).abs().max()),
        same_top=float((reference.argmax(-1) == other.argmax(-1)).float().mean()),
        positions=reference.shape[0],
    )
