"""Direct preference optimisation, DPO (https://arxiv.org/abs/2305.18290).

Each row is a conversation with a preferred and a non-preferred reply. The reference is the
model before the training. The reward of a reply is beta times the gain of its log
probability over the reference, and the loss is
-log sigmoid(reward of the preferred reply - reward of the other).

A difference between model and reference is a reward, so both are computed in the same way:
each pair goes through the layers alone, by the kernels of the training. Another batch or another
kernel rounds differently in bfloat16, by up to a nat for a reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import distributed
from .examples import tokenize_rows
from .metrics import PredictionCounts
from .objective import StepMetrics
from .rows import read_preference_texts
from .spec import ValidationRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tunesmith.engine.domain.errors import TrainingErrorCode
    from tunesmith.engine.models.chat_template import ChatTemplate

    from .examples import Example
    from .loss import Batch, ExampleSet, LossComputation, Predictions

__all__ = ["Pairs", "Preference", "read_pairs", "with_reference"]


def read_pairs(
    path: Path,
    tokenizer: Any,
    template: ChatTemplate,
    *,
    max_tokens: int,
    code: TrainingErrorCode,
) -> list[Example]:
    """Read and tokenise a file of preference rows.

    Returns:
        Two examples for each row, the preferred first.

    Raises:
        TrainingError: The file has no examples, or a line cannot be used; the message names it.
    """
    rows = read_preference_texts(path, template, code)
    return tokenize_rows(rows, tokenizer, prompt_loss_weight=0.0, max_tokens=max_tokens, code=code)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of replies with the log probability of each under the reference.

    Attributes:
        examples: Two for each pair, the preferred first.
        reference: Log probabilities, shape (examples,).
    """

    examples: ExampleSet
    reference: NDArray[np.float64]

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Tokens of both examples of each pair."""
        lengths = self.examples.lengths
        return list(zip(lengths[::2], lengths[1::2], strict=True))


def with_reference(
    computation: LossComputation,
    source: ExampleSet,
    path: Path,
    should_continue: Callable[[], bool],
) -> Pairs | None:
    """Return pairs with the log probability of each reply under the model as it is now.

    Args:
        computation: Computes the log probabilities.
        source: The pairs' examples.
        path: Keeps the reference for a resumed training, whose model has changed.
        should_continue: Called between batches.

    Returns:
        None if `should_continue` returned False before the end.
    """
    if distributed.broadcast(path.exists()):
        return Pairs(source, np.load(path, allow_pickle=False))
    reference = np.zeros(len(source.examples))
    is_complete = True
    for pair in distributed.even_shard(range(len(source.examples) // 2)):
        is_complete = distributed.run_on_leader(should_continue)
        if not is_complete:
            break
        both = _both(pair)
        batch = computation.collate(source, both)
        predictions = computation.evaluate(batch, as_in_training=True)
        reference[both] = _log_probabilities(batch, predictions)
    if not is_complete:
        return None
    distributed.sum_array(reference)
    if distributed.is_leader():
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, reference, allow_pickle=False)
        temporary.replace(path)
    return Pairs(source, reference)


def _both(pair: int | None) -> list[int]:
    """Return the indices of a pair's examples, the preferred first; none for no pair."""
    return [] if pair is None else [2 * pair, 2 * pair + 1]


def _log_probabilities(batch: Batch, predictions: Predictions) -> NDArray[np.float64]:
    """Return the log probability of each example's scored tokens, shape (examples,)."""
    losses = predictions.losses.astype(np.float64)
    return np.negative(np.bincount(batch.owner, weights=losses), dtype=np.float64)


@dataclass(slots=True)
class _PairCounts:
    """Sums over pairs, from which the metrics follow."""

    preferred: PredictionCounts
    loss: float = 0.0
    chosen: float = 0.0
    rejected: float = 0.0
    correct: int = 0
    pairs: int = 0

    def metrics(self) -> dict[str, float]:
        return {
            "rewards/chosen": self.chosen / self.pairs,
            "rewards/rejected": self.rejected / self.pairs,
            "rewards/margin": (self.chosen - self.rejected) / self.pairs,
            "rewards/accuracy": self.correct / self.pairs,
        }


class Preference:
    """Direct preference optimisation.

    Sequence and token accuracy are those of the preferred replies.

    Args:
        computation: Computes the losses.
        train: Pairs to learn from.
        validation: Pairs to validate on, or None.
        beta: How strongly to stay near the reference; larger stays nearer.
    """

    _metrics = ("rewards/chosen", "rewards/rejected", "rewards/margin", "rewards/accuracy")
    columns: tuple[str, ...] = (*_metrics, *(f"validation_{name}" for name in _metrics))

    def __init__(
        self, computation: LossComputation, train: Pairs, validation: Pairs | None, beta: float
    ) -> None:
        self._computation = computation
        self._train = train
        self._validation = validation
        self._beta = beta
        self.lengths: list[int] = [sum(pair) for pair in train.lengths]

    @property
    def validation_count(self) -> int:
        """Number of validation pairs; 0 if there are none."""
        return len(self._validation.lengths) if self._validation else 0

    def backward(self, indices: Sequence[int]) -> StepMetrics:
        """Add the gradients of a batch of pairs and return its metrics."""
        counts = _PairCounts(PredictionCounts())
        for batch, reference in self._batches(self._train, indices):
            hidden = self._computation.hidden(batch)
            predictions = self._computation.predict(batch, hidden)
            margin = self._add(counts, batch, predictions, reference)
            # d loss / d log probability is -beta sigmoid(-margin) for the preferred reply and
            # the opposite for the other; a loss is a negative log probability.
            slope = self._beta / (1 + np.exp(margin)) / len(indices)
            weights = np.stack([slope, -slope], axis=1).ravel()[batch.owner]
            self._computation.backward(
                batch, hidden, torch.from_numpy(weights.astype(np.float32)).to(hidden.device)
            )
        distributed.sum_fields(counts)
        return StepMetrics(
            loss=counts.loss / counts.pairs,
            sequence_accuracy=counts.preferred.sequence_accuracy,
            token_accuracy=counts.preferred.token_accuracy,
            tokens=sum(self.lengths[index] for index in indices),
            extra=counts.metrics(),
        )

    def validate(self, indices: Sequence[int]) -> ValidationRecord:
        """Return the metrics of some validation pairs."""
        return self._validate(indices, full=False)

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the metrics of all validation pairs; there are no classification metrics."""
        return self._validate(range(self.validation_count), full=True), {}

    def _validate(self, indices: Sequence[int], *, full: bool) -> ValidationRecord:
        assert self._validation is not None  # noqa: S101 - called only where there are pairs
        counts = _PairCounts(PredictionCounts())
        for batch, reference in self._batches(self._validation, indices):
            predictions = self._computation.evaluate(batch, as_in_training=True)
            self._add(counts, batch, predictions, reference)
        distributed.sum_fields(counts)
        return ValidationRecord(
            loss=counts.loss / counts.pairs,
            sequence_accuracy=counts.preferred.sequence_accuracy,
            token_accuracy=counts.preferred.token_accuracy,
            full=full,
            extra={f"validation_{name}": value for name, value in counts.metrics().items()},
        )

    def _batches(
        self, source: Pairs, indices: Sequence[int]
    ) -> Iterator[tuple[Batch, NDArray[np.float64]]]:
        """Yield each pair of a batch, with its reference, shape (2,)."""
        for pair in distributed.even_shard(indices):
            both = _both(pair)
            yield self._computation.collate(source.examples, both), source.reference[both]

    def _add(
        self,
        counts: _PairCounts,
        batch: Batch,
        predictions: Predictions,
        reference: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Count the pairs of a batch; return the margin of each, shape (pairs,)."""
        rewards = self._beta * (_log_probabilities(batch, predictions) - reference)
        chosen, rejected = rewards[::2], rewards[1::2]
        margin: NDArray[np.float64] = chosen - rejected
        preferred = batch.owner % 2 == 0
        counts.preferred.add(
            predictions.losses[preferred], predictions.correct[preferred], batch.owner[preferred]
        )
        counts.loss += float(np.logaddexp(0.0, -margin).sum())
        counts.chosen += float(chosen.sum())
        counts.rejected += float(rejected.sum())
        counts.correct += int((margin > 0).sum())
        counts.pairs += len(margin)
        return margin
