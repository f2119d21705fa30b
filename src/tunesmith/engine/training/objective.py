"""What a training minimises, as the loop of steps sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunesmith.engine.training.spec import ValidationRecord

__all__ = ["Objective", "StepMetrics"]


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step's batch gave.

    Attributes:
        tokens: Tokens of its examples.
        extra: The objective's own figures, by their column's name.
    """

    loss: float
    sequence_accuracy: float
    token_accuracy: float
    tokens: int
    extra: dict[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """What is learned, and how well it goes.

    Attributes:
        columns: Names of its own figures in the result file.
        lengths: Tokens of each training example.
    """

    columns: tuple[str, ...]
    lengths: list[int]

    @property
    def validation_count(self) -> int:
        """Validation examples; 0 where there are none."""
        ...

    def backward(self, numbers: Sequence[int]) -> StepMetrics:
        """Add the gradients of a batch of training examples; return its figures."""
        ...

    def validate(self, numbers: Sequence[int]) -> ValidationRecord:
        """Return the figures of some validation examples."""
        ...

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the figures of all validation examples, and the classification metrics."""
        ...
