"""Default hyperparameters, by the rules of the API that created the job.

Epochs and batch sizes are those of `datasets.training_defaults`. The learning rate multiplier of
the legacy API (`/v1/fine-tunes`) is 0.05, 0.1 or 0.2, larger for larger batches; that of the
fine-tuning jobs API (`/v1/fine_tuning/jobs`) is 2.

A multiplier is relative to a base rate, never a rate itself. The two APIs use different
scales, so each recipe has a base rate for each:

    recipe       legacy API   jobs API   learning rate at a usual multiplier
    fast, lora   1e-2         5e-4       0.1 or 2: 1e-3
    full         5e-4         2.5e-5     0.1 or 2: 5e-5

and a tenth of these for preferences ("dpo").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.datasets.training_defaults import (
    LEGACY_EPOCHS,
    default_batch_size,
    default_epochs,
)

from .spec import ResolvedHyperparameters

if TYPE_CHECKING:
    from .spec import TrainingSpec

__all__ = [
    "base_learning_rate",
    "default_multiplier",
    "learning_rate_at",
    "resolve_hyperparameters",
]

_WARMUP_SHARE = 0.06
_WARMUP_STEPS = 100


def resolve_hyperparameters(spec: TrainingSpec, examples: int) -> ResolvedHyperparameters:
    """Return the job's values, or defaults by the number of examples where it has none."""
    batch_size = min(spec.batch_size or default_batch_size(examples), examples)
    is_legacy = spec.api == "fine-tunes"
    n_epochs = spec.n_epochs or (LEGACY_EPOCHS if is_legacy else default_epochs(examples))
    multiplier = spec.learning_rate_multiplier or (
        default_multiplier(batch_size) if is_legacy else 2.0
    )
    return ResolvedHyperparameters(n_epochs, batch_size, multiplier)


def default_multiplier(batch_size: int) -> float:
    """Return 0.05, 0.1 or 0.2: larger for larger batches."""
    if batch_size < 8:  # noqa: PLR2004 - the bounds of the rule
        return 0.05
    return 0.1 if batch_size < 64 else 0.2  # noqa: PLR2004 - the bounds of the rule


def base_learning_rate(spec: TrainingSpec, recipe: str) -> float:
    """Return the learning rate at a multiplier of 1, from the table above."""
    rate = 2.5e-5 if recipe == "full" else 5e-4
    if spec.api == "fine-tunes":
        rate *= 20
    return rate / 10 if spec.method == "dpo" else rate


def learning_rate_at(step: int, total_steps: int, peak: float) -> float:
    """Return the learning rate of a step: linear warm-up, then linear decay to zero.

    Args:
        step: 1 for the first.
        total_steps: Steps of the whole training. The warm-up takes 6 % of them, at most 100.
        peak: The highest learning rate.
    """
    warmup = max(1, min(_WARMUP_STEPS, round(total_steps * _WARMUP_SHARE)))
    if step <= warmup:
        return peak * step / warmup
    return peak * (total_steps - step + 1) / (total_steps - warmup + 1)
