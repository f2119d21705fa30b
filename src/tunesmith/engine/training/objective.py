"""What a training minimises, as the training loop sees it.

An objective holds its examples, and knows nothing of optimizers, epochs or files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import ValidationRecord

__all__ = ["Objective", "StepMetrics"]


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Metrics of one step's batch.

    Attributes:
        loss: Mean loss, as reported.
        sequence_accuracy: Share of the completions of which every token was predicted.
        token_accuracy: Share of the completions' tokens that were predicted.
        tokens: Tokens of the batch's examples.
        extra: Metrics of this objective alone, by the names of their columns.
    """

    loss: float
    sequence_accuracy: float
    token_accuracy: float
    tokens: int
    extra: dict[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """A loss over training examples, and how to validate what was learned.

    Attributes:
        columns: Names of its own metrics in the result file.
        lengths: Tokens of each training example.
    """

    columns: tuple[str, ...]
    lengths: list[int]

    @property
    def validation_count(self) -> int:
        """Number of validation examples; 0 if there are none."""
        ...

    def backward(self, indices: Sequence[int]) -> StepMetrics:
        """Add the gradients of a batch of training examples and return its metrics."""
        ...

    def validate(self, indices: Sequence[int]) -> ValidationRecord:
        """Return the metrics of some validation examples."""
        ...

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the metrics of all validation examples, and the classification metrics."""
        ...
