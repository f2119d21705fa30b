"""Supervised fine-tuning: cross-entropy on the completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import distributed
from .metrics import PredictionCounts
from .objective import StepMetrics
from .spec import ValidationRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .classification import Classes
    from .loss import Batch, ExampleSet, LossComputation, Predictions

__all__ = ["Supervised"]


class Supervised:
    """Cross-entropy on the completions, and on the prompts by their weight.

    Args:
        computation: Computes the losses.
        train: Examples to learn from.
        validation: Examples to validate on, or None.
        classes: How to read classes from predictions, or None.
    """

    columns: tuple[str, ...] = ()

    def __init__(
        self,
        computation: LossComputation,
        train: ExampleSet,
        validation: ExampleSet | None = None,
        classes: Classes | None = None,
    ) -> None:
        self._computation = computation
        self._train = train
        self._validation = validation
        self._classes = classes
        self.lengths: list[int] = train.lengths

    @property
    def validation_count(self) -> int:
        """Number of validation examples; 0 if there are none."""
        return len(self._validation.examples) if self._validation else 0

    def backward(self, indices: Sequence[int]) -> StepMetrics:
        """Add the gradients of a batch and return its metrics.

        The loss that is minimised is the weighted mean over all positions with a weight;
        the loss that is reported is the mean over the completions' tokens.
        """
        examples = self._train.examples
        total = float(sum(examples[index].weights.sum(dtype=float) for index in indices))
        counts = PredictionCounts()
        for part in self._computation.micro_batches(indices, self.lengths):
            batch = self._computation.collate(self._train, part)
            hidden = self._computation.hidden(batch)
            _count(counts, batch, self._computation.backward(batch, hidden, batch.weights / total))
        distributed.sum_fields(counts)
        return StepMetrics(
            loss=counts.mean_loss,
            sequence_accuracy=counts.sequence_accuracy,
            token_accuracy=counts.token_accuracy,
            tokens=sum(self.lengths[index] for index in indices),
        )

    def validate(self, indices: Sequence[int]) -> ValidationRecord:
        """Return the metrics of some validation examples."""
        counts, _ = self._evaluate(indices)
        return ValidationRecord(counts.mean_loss, counts.sequence_accuracy, counts.token_accuracy)

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the metrics of all validation examples, and the classification metrics."""
        counts, logits = self._evaluate(range(self.validation_count))
        record = ValidationRecord(
            counts.mean_loss, counts.sequence_accuracy, counts.token_accuracy, full=True
        )
        return record, self._classes.metrics(logits) if self._classes else {}

    def _evaluate(self, indices: Sequence[int]) -> tuple[PredictionCounts, NDArray[np.float32]]:
        """Return the counts, and the classes' logits at the start of each completion.

        Returns:
            Counts, and logits of shape (validation examples, classes).
        """
        source = self._validation
        assert source is not None  # noqa: S101 - called only where there are examples
        tokens = self._classes.tokens if self._classes else []
        counts = PredictionCounts()
        logits = np.zeros((len(source.examples), len(tokens)), np.float32)
        for part in self._computation.micro_batches(indices, source.lengths):
            batch = self._computation.collate(source, part)
            predictions = self._computation.evaluate(batch, tokens)
            _count(counts, batch, predictions)
            logits[part] = predictions.logits[_first_scored(batch)]
        distributed.sum_fields(counts)
        distributed.sum_array(logits)
        return counts, logits


def _count(counts: PredictionCounts, batch: Batch, predictions: Predictions) -> None:
    scored = batch.scored
    counts.add(predictions.losses[scored], predictions.correct[scored], batch.owner[scored])


def _first_scored(batch: Batch) -> NDArray[np.int64]:
    """Return the row, among the selected positions, of each example's first scored one."""
    scored = np.flatnonzero(batch.scored)
    _, first = np.unique(batch.owner[scored], return_index=True)
    return scored[first]
