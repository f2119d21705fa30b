"""How well predictions match: tokens, whole completions, and classes.

Sequence accuracy is the share of completions whose predicted tokens all match,
token accuracy the share of tokens: for the completions [[1,2],[0,5],[4,2]] and the
predictions [[1,1],[0,5],[4,2]] they are 2/3 and 5/6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PredictionCounts", "binary_metrics", "multiclass_metrics"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Booleans: TypeAlias = NDArray[np.bool_]


@dataclass(slots=True)
class PredictionCounts:
    """Counts summed over batches, from which loss and accuracies follow."""

    loss: float = 0.0
    tokens: int = 0
    correct_tokens: int = 0
    sequences: int = 0
    correct_sequences: int = 0

    def add(self, losses: Floats, correct: Booleans, sequence: Integers) -> None:
        """Count scored tokens.

        Args:
            losses: Loss of each token, shape (tokens,).
            correct: Whether each was predicted, shape (tokens,).
            sequence: Index of the completion that each belongs to, shape (tokens,).
        """
        self.loss += float(losses.sum(dtype=np.float64))
        self.tokens += len(correct)
        self.correct_tokens += int(correct.sum())
        sequences = len(np.unique(sequence))
        self.sequences += sequences
        self.correct_sequences += sequences - len(np.unique(sequence[~correct]))

    @property
    def mean_loss(self) -> float:
        """Mean loss per token."""
        return self.loss / self.tokens

    @property
    def sequence_accuracy(self) -> float:
        """Share of the completions of which every token was predicted."""
        return self.correct_sequences / self.sequences

    @property
    def token_accuracy(self) -> float:
        """Share of the tokens that were predicted."""
        return self.correct_tokens / self.tokens


def multiclass_metrics(actual: Integers, predicted: Integers) -> dict[str, float]:
    """Return accuracy and the F1 score weighted by the classes' actual counts.

    Args:
        actual: Class indices, shape (examples,).
        predicted: Class indices, shape (examples,).
    """
    weighted = 0.0
    for label in np.unique(actual):
        f1 = _f_beta(actual == label, predicted == label, 1.0)
        weighted += f1 * float(np.mean(actual == label))
    return {"accuracy": float(np.mean(actual == predicted)), "weighted_f1_score": weighted}


def binary_metrics(
    actual: Booleans, probability: Floats, betas: Sequence[float] = (1.0,)
) -> dict[str, float]:
    """Return accuracy, precision, recall and F-beta at the threshold 0.5, AUROC and AUPRC.

    Precision and recall are 0 where nothing was predicted or nothing is positive. The
    areas are not defined, and left out, where only one class occurs.

    Args:
        actual: Whether each example is positive, shape (examples,).
        probability: Of being positive, shape (examples,).
        betas: One F score each, under the key `f{beta}`.
    """
    predicted = probability >= 0.5  # noqa: PLR2004 - the threshold of the definition
    true_positives = float(np.sum(actual & predicted))
    metrics = {
        "accuracy": float(np.mean(actual == predicted)),
        "precision": _ratio(true_positives, float(predicted.sum())),
        "recall": _ratio(true_positives, float(actual.sum())),
    }
    for beta in betas:
        metrics[f"f{beta}"] = _f_beta(actual, predicted, beta)
    if actual.any() and not actual.all():
        metrics["auroc"] = _auroc(actual, probability)
        metrics["auprc"] = _auprc(actual, probability)
    return metrics


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _f_beta(actual: Booleans, predicted: Booleans, beta: float) -> float:
    true_positives = float(np.sum(actual & predicted))
    square = beta * beta
    return _ratio(
        (1 + square) * true_positives, square * float(actual.sum()) + float(predicted.sum())
    )


def _cumulative_positives(actual: Booleans, score: Floats) -> tuple[Floats, Floats]:
    """Return true and false positives at each distinct threshold, highest threshold first."""
    order = np.argsort(-score, kind="stable")
    ranked, scores = actual[order], score[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true = np.cumsum(ranked)[last_of_ties].astype(float)
    return true, 1.0 + last_of_ties - true


def _auroc(actual: Booleans, score: Floats) -> float:
    """Area under the receiver operating characteristic, by the trapezoidal rule."""
    true, false = _cumulative_positives(actual, score)
    recall = np.concatenate([[0.0], true / true[-1]])
    fall_out = np.concatenate([[0.0], false / false[-1]])
    return float(np.sum(np.diff(fall_out) * (recall[1:] + recall[:-1]) / 2))


def _auprc(actual: Booleans, score: Floats) -> float:
    """Area under the precision-recall curve: mean precision weighted by the gain in recall."""
    true, false = _cumulative_positives(actual, score)
    gains = np.diff(np.concatenate([[0.0], true / true[-1]]))
    return float(np.sum(gains * true / (true + false)))
