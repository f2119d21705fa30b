"""One row of a result file. What it was read from is not known here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ResultRow", "classification_metrics", "measured"]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One training step.

    Attributes:
        step: 1 for the first.
        elapsed_tokens: Tokens seen so far, over all epochs.
        elapsed_examples: Examples seen so far, over all epochs.
        training_loss: Loss on the step's batch.
        training_sequence_accuracy: Share of the batch's completions that were predicted exactly.
        training_token_accuracy: Share of the batch's completion tokens that were predicted.
        validation_loss: Loss on a batch of validation data; measured at intervals. The two
            validation accuracies belong to the same batch.
        classification: Metric name, such as "accuracy" or "f1.0", → its value on the
            whole validation set; filled at the end of an epoch.
        other: Every further column that has a number in this row.
    """

    step: int
    elapsed_tokens: int | None = None
    elapsed_examples: int | None = None
    training_loss: float | None = None
    training_sequence_accuracy: float | None = None
    training_token_accuracy: float | None = None
    validation_loss: float | None = None
    validation_sequence_accuracy: float | None = None
    validation_token_accuracy: float | None = None
    classification: Mapping[str, float] = field(default_factory=dict[str, float])
    other: Mapping[str, float] = field(default_factory=dict[str, float])


def measured(rows: Iterable[ResultRow], metric: str) -> list[tuple[int, float]]:
    """Return the (step, value) pairs of a metric where it was measured.

    Args:
        rows: The rows of a result file.
        metric: Name of an attribute of `ResultRow`, or of a classification metric.
    """
    values = ((row.step, _value(row, metric)) for row in rows)
    return [(step, value) for step, value in values if value is not None]


def _value(row: ResultRow, metric: str) -> float | None:
    if metric in ResultRow.__dataclass_fields__:
        value: float | None = getattr(row, metric)
        return value
    return row.classification.get(metric)


def classification_metrics(rows: Iterable[ResultRow]) -> list[str]:
    """Return the names of the classification metrics that were measured."""
    return list(dict.fromkeys(name for row in rows for name in row.classification))
