"""The defaults of a fine-tune that depend on its data: epochs, batch size and token limit.

Estimates are made with them, and the engine trains with them. There are two rules for epochs. The
legacy API (`/v1/fine-tunes`) trains for four. The fine-tuning jobs API (`/v1/fine_tuning/jobs`)
trains for three, but for more where the examples are few and for fewer where they are many
(OpenAI cookbook, "Data preparation and analysis for chat model fine-tuning").
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_TOKEN_LIMIT", "LEGACY_EPOCHS", "default_batch_size", "default_epochs"]

DEFAULT_TOKEN_LIMIT: Final = 2_048
"""Most tokens of a training example where neither the model nor the job says otherwise: the limit
of the legacy base models, and the default of the engine."""

LEGACY_EPOCHS: Final = 4
"""Epochs of the legacy API, for any number of examples."""

_TARGET_EPOCHS: Final = 3
_MAX_EPOCHS: Final = 25
_MIN_EXAMPLES_SEEN: Final = 100
_MAX_EXAMPLES_SEEN: Final = 25_000

_BATCH_SHARE: Final = 0.002
_MAX_BATCH_SIZE: Final = 256


def default_epochs(examples: int) -> int:
    """Return the epochs of the jobs API: 3, or as many as keep the examples seen in 100..25,000."""
    if examples * _TARGET_EPOCHS < _MIN_EXAMPLES_SEEN:
        return min(_MAX_EPOCHS, _MIN_EXAMPLES_SEEN // max(1, examples))
    if examples * _TARGET_EPOCHS > _MAX_EXAMPLES_SEEN:
        return max(1, _MAX_EXAMPLES_SEEN // examples)
    return _TARGET_EPOCHS


def default_batch_size(examples: int) -> int:
    """Return the batch size of both APIs: 0.2 % of the examples, at least 1 and at most 256."""
    return min(_MAX_BATCH_SIZE, max(1, round(examples * _BATCH_SHARE)))
