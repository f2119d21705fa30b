"""Learning to write completions: the loss, and the figures that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tunesmith.engine.training import distributed
from tunesmith.engine.training.metrics import PredictionCounts
from tunesmith.engine.training.objective import StepMetrics
from tunesmith.engine.training.spec import ValidationRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tunesmith.engine.training.classification import Classes
    from tunesmith.engine.training.loss import Batch, ExampleSet, LossComputation, Predicted

__all__ = ["Supervised"]


class Supervised:
    """Cross-entropy on the completions, and on the prompts by their weight.

    Args:
        scorer: Computes.
        train: What to learn from.
        validation: What to be tested on, or None.
        classes: How to read classes from predictions, or None.
    """

    columns: tuple[str, ...] = ()

    def __init__(
        self,
        scorer: LossComputation,
        train: ExampleSet,
        validation: ExampleSet | None,
        classes: Classes | None,
    ) -> None:
        self._scorer = scorer
        self._train = train
        self._validation = validation
        self._classes = classes
        self.lengths: list[int] = train.lengths

    @property
    def validation_count(self) -> int:
        """Validation examples; 0 where there are none."""
        return len(self._validation.examples) if self._validation else 0

    def backward(self, numbers: Sequence[int]) -> StepMetrics:
        """Add the gradients of a batch; return its figures.

        The loss that is minimised is the weighted mean over all positions with a
        weight; the loss that is reported is the mean over the completions' tokens.
        """
        examples = self._train.examples
        total = float(sum(examples[number].weights.sum(dtype=float) for number in numbers))
        counts = PredictionCounts()
        for part in self._scorer.parts(numbers, self.lengths):
            batch = self._scorer.batch(self._train, part)
            hidden = self._scorer.hidden(batch)
            _count(counts, batch, self._scorer.backward(batch, hidden, batch.weights / total))
        distributed.add_counts(counts)
        return StepMetrics(
            loss=counts.mean_loss,
            sequence_accuracy=counts.sequence_accuracy,
            token_accuracy=counts.token_accuracy,
            tokens=sum(self.lengths[number] for number in numbers),
        )

    def validate(self, numbers: Sequence[int]) -> ValidationRecord:
        """Return the figures of some validation examples."""
        counts, _ = self._evaluate(numbers)
        return ValidationRecord(counts.mean_loss, counts.sequence_accuracy, counts.token_accuracy)

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the figures of all validation examples, and the classification metrics."""
        counts, scores = self._evaluate(range(self.validation_count))
        record = ValidationRecord(
            counts.mean_loss, counts.sequence_accuracy, counts.token_accuracy, full=True
        )
        return record, self._classes.metrics(scores) if self._classes else {}

    def _evaluate(self, numbers: Sequence[int]) -> tuple[PredictionCounts, NDArray[np.float32]]:
        """Return the counts, and the classes' logits where each completion begins."""
        source = self._validation
        assert source is not None  # noqa: S101 - asked for where there are examples
        tokens = self._classes.tokens if self._classes else []
        counts = PredictionCounts()
        scores = np.zeros((len(source.examples), len(tokens)), np.float32)
        for part in self._scorer.parts(numbers, source.lengths):
            batch = self._scorer.batch(source, part)
            predicted = self._scorer.evaluate(batch, tokens)
            _count(counts, batch, predicted)
            scores[part] = predicted.logits[_first_scored(batch)]
        distributed.add_counts(counts)
        distributed.add_up(scores)
        return counts, scores


def _count(counts: PredictionCounts, batch: Batch, predicted: Predicted) -> None:
    scored = batch.scored
    counts.add(predicted.losses[scored], predicted.right[scored], batch.owner[scored])


def _first_scored(batch: Batch) -> NDArray[np.int64]:
    """Return where each example's first scored position stands among the selected ones."""
    scored = np.flatnonzero(batch.scored)
    _, first = np.unique(batch.owner[scored], return_index=True)
    return scored[first]
