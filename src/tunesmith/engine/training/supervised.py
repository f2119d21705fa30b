"""Supervised fine-tuning: cross-entropy on the completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import distributed
from .class_scores import ClassScores, ClassTree
from .examples import Example
from .loss import ExampleSet
from .metrics import PredictionCounts
from .objective import StepMetrics
from .spec import ValidationRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .classification import Classes
    from .loss import Batch, LossComputation, Predictions

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
        self._tree = ClassTree(classes.tokens if classes else [])
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
        counts, scores = self._evaluate(range(self.validation_count))
        record = ValidationRecord(
            counts.mean_loss, counts.sequence_accuracy, counts.token_accuracy, full=True
        )
        if self._classes is None:
            return record, {}
        while missing := scores.missing():
            self._add(scores, missing)
        return record, scores.metrics(self._classes)

    def _evaluate(self, indices: Sequence[int]) -> tuple[PredictionCounts, ClassScores]:
        """Return the counts, and what the right completions tell about the classes."""
        source = self._validation
        assert source is not None  # noqa: S101 - called only where there are examples
        counts = PredictionCounts()
        scores = ClassScores(self._tree, len(source.examples) if self._classes else 0)
        for part in self._computation.micro_batches(indices, source.lengths):
            batch = self._computation.collate(source, part)
            predictions = self._computation.evaluate(batch, self._tree.tokens)
            _count(counts, batch, predictions)
            if self._classes is None:
                continue
            for index, first in zip(part, _first_scored(batch), strict=True):
                for branch in self._tree.paths[self._classes.actual[index]]:
                    position = first + len(self._tree.branches[branch].prefix)
                    scores.add(index, branch, predictions.logits[position])
        distributed.sum_fields(counts)
        for array in scores.arrays:
            distributed.sum_array(array)
        return counts, scores

    def _add(self, scores: ClassScores, missing: Sequence[tuple[int, int]]) -> None:
        """Compute the logits at branches that no right completion passes."""
        examples = [self._at_branch(index, branch) for index, branch in missing]
        source = ExampleSet(examples)
        logits = np.zeros((len(missing), len(self._tree.tokens)), np.float32)
        for part in self._computation.micro_batches(range(len(missing)), source.lengths):
            batch = self._computation.collate(source, part)
            logits[part] = self._computation.evaluate(batch, self._tree.tokens).logits
        distributed.sum_array(logits)
        for (index, branch), row in zip(missing, logits, strict=True):
            scores.add(index, branch, row)

    def _at_branch(self, index: int, branch: int) -> Example:
        """Return the prompt of an example and the tokens up to a branch, and any token there."""
        assert self._validation is not None  # noqa: S101 - there are classes
        example = self._validation.examples[index]
        prompt = example.tokens[: int(np.flatnonzero(example.scored)[0])]
        tokens = np.concatenate([prompt, [*self._tree.branches[branch].prefix, 0]])
        scored = np.arange(len(tokens)) == len(tokens) - 1
        return Example(tokens, scored.astype(np.float32), scored)


def _count(counts: PredictionCounts, batch: Batch, predictions: Predictions) -> None:
    scored = batch.scored
    counts.add(predictions.losses[scored], predictions.correct[scored], batch.owner[scored])


def _first_scored(batch: Batch) -> NDArray[np.int64]:
    """Return the row, among the selected positions, of each example's first scored one."""
    scored = np.flatnonzero(batch.scored)
    _, first = np.unique(batch.owner[scored], return_index=True)
    return scored[first]
