"""The values that a job leaves open, by the rules of the API that it came through.

The first API (`/v1/fine-tunes`): four epochs; batches of 0.2 % of the examples, at
most 256; a learning rate multiplier of 0.05, 0.1 or 0.2, larger for larger batches.
The second (`/v1/fine_tuning/jobs`): three epochs, but more for few examples and
fewer for many; the same batches; a multiplier of 2.

A multiplier is relative to a base rate, never a rate itself. The two APIs count it
on two scales, so each recipe has a base rate for each:

    recipe       first API   second API   a usual multiplier gives
    fast, lora   1e-2        5e-4         0.1 or 2: 1e-3
    full         5e-4        2.5e-5       0.1 or 2: 5e-5

and preferences ("dpo") a tenth of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.engine.training.spec import ResolvedHyperparameters

if TYPE_CHECKING:
    from tunesmith.engine.training.spec import TrainingSpec

__all__ = ["base_learning_rate", "learning_rate_at", "resolve_hyperparameters"]

_MOST_EXAMPLES = 256
_EPOCHS = 3
_FEWEST_EXAMPLES_SEEN = 100
_MOST_EXAMPLES_SEEN = 25_000
_MOST_EPOCHS = 25
_WARMUP_SHARE = 0.06
_WARMUP_STEPS = 100


def resolve_hyperparameters(spec: TrainingSpec, examples: int) -> ResolvedHyperparameters:
    """Return the job's values, with those it leaves open derived from the count of examples."""
    batch_size = spec.batch_size or default_batch_size(examples)
    first_api = spec.api == "fine-tunes"
    n_epochs = spec.n_epochs or (4 if first_api else default_epochs(examples))
    multiplier = spec.learning_rate_multiplier or (
        default_multiplier(batch_size) if first_api else 2.0
    )
    return ResolvedHyperparameters(n_epochs, min(batch_size, examples), multiplier)


def default_batch_size(examples: int) -> int:
    """Return 0.2 % of the examples, between 1 and 256."""
    return min(max(round(examples * 0.002), 1), _MOST_EXAMPLES)


def default_epochs(examples: int) -> int:
    """Return three, or what brings the examples seen between 100 and 25,000."""
    if examples * _EPOCHS < _FEWEST_EXAMPLES_SEEN:
        return min(_MOST_EPOCHS, _FEWEST_EXAMPLES_SEEN // examples)
    if examples * _EPOCHS > _MOST_EXAMPLES_SEEN:
        return max(1, _MOST_EXAMPLES_SEEN // examples)
    return _EPOCHS


def default_multiplier(batch_size: int) -> float:
    """Return 0.05, 0.1 or 0.2: larger learning rates suit larger batches."""
    if batch_size < 8:  # noqa: PLR2004 - the rule's own bounds
        return 0.05
    return 0.1 if batch_size < 64 else 0.2  # noqa: PLR2004 - the rule's own bounds


def base_learning_rate(spec: TrainingSpec, recipe: str) -> float:
    """Return the rate that a multiplier of 1 stands for; the table is in the module's text."""
    rate = 2.5e-5 if recipe == "full" else 5e-4
    if spec.api == "fine-tunes":
        rate *= 20
    return rate / 10 if spec.method == "dpo" else rate


def learning_rate_at(step: int, total_steps: int, peak: float) -> float:
    """Return the rate of a step, 1 for the first: a short linear rise, then a linear fall to zero.

    The rise takes 6 % of the steps, at most 100.
    """
    warmup = max(1, min(_WARMUP_STEPS, round(total_steps * _WARMUP_SHARE)))
    if step <= warmup:
        return peak * step / warmup
    return peak * (total_steps - step + 1) / (total_steps - warmup + 1)
