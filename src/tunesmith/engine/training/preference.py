"""Learning from preferences: direct preference optimisation (https://arxiv.org/abs/2305.18290).

Each row is a conversation with a preferred and a non-preferred reply. With the log
probabilities of both under the model as it starts (the reference), the reward of a
reply is beta times the gain of its log probability, and the loss is
-log sigmoid(reward of the preferred - reward of the other).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunesmith.engine.training import distributed
from tunesmith.engine.training.errors import ErrorCode, TrainingError
from tunesmith.engine.training.examples import read_rows, render_chat, tokenize_rows
from tunesmith.engine.training.metrics import PredictionCounts
from tunesmith.engine.training.objective import StepMetrics
from tunesmith.engine.training.spec import ValidationRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tunesmith.engine.training.examples import Example, Row
    from tunesmith.engine.training.loss import Batch, ExampleSet, LossComputation, Predicted

__all__ = ["Pairs", "Preference", "read_pairs", "with_reference"]


def read_pairs(path: Path, tokenizer: Any, *, max_tokens: int, code: ErrorCode) -> list[Example]:
    """Read and tokenise a file of preferences.

    Returns:
        Two examples for each row, the preferred first.

    Raises:
        TrainingError: The file has no examples, or a line cannot be used; it is named.
    """
    rows = (
        pair for line, row in read_rows(path, code) for pair in _pair(row, tokenizer, line, code)
    )
    return tokenize_rows(rows, tokenizer, prompt_loss_weight=0.0, max_tokens=max_tokens, code=code)


def _pair(row: dict[str, Any], tokenizer: Any, line: int, code: ErrorCode) -> Iterator[Row]:
    asked = row.get("input")
    replies = row.get("preferred_output"), row.get("non_preferred_output")
    if (
        not isinstance(asked, dict)
        or not isinstance(asked.get("messages"), list)
        or not all(isinstance(reply, list) and reply for reply in replies)
    ):
        msg = (
            f'Line {line} of the file needs "input" with "messages", and "preferred_output" and '
            '"non_preferred_output" as lists of messages.'
        )
        raise TrainingError(msg, code)
    before = [{**message, "weight": 0} for message in asked["messages"]]
    for reply in replies:
        messages = [*before, *({**message, "weight": 1} for message in reply or ())]
        yield render_chat(tokenizer, messages, asked.get("tools"), line, code)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of replies, the preferred first, with each one's reference log probability.

    Attributes:
        examples: Two for each pair, one after the other.
        reference: Shape (examples,).
    """

    examples: ExampleSet
    reference: NDArray[np.float64]

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Tokens of both examples of each pair."""
        lengths = self.examples.lengths
        return list(zip(lengths[::2], lengths[1::2], strict=True))


def with_reference(
    scorer: LossComputation, source: ExampleSet, path: Path, should_continue: Callable[[], bool]
) -> Pairs | None:
    """Return pairs with the log probability of each reply under the model as it is now.

    Args:
        scorer: Computes.
        source: The pairs' examples.
        path: Where to keep the reference for a resumed training, whose model has changed.
        should_continue: Asked between batches.

    Returns:
        None if `should_continue` said no before the end.
    """
    if distributed.agree(path.exists()):
        return Pairs(source, np.load(path, allow_pickle=False))
    reference = np.zeros(len(source.examples))
    goes_on = True
    for part in scorer.parts(range(len(source.examples)), source.lengths):
        goes_on = should_continue()
        if not goes_on:
            break
        batch = scorer.batch(source, part)
        reference[part] = _log_probabilities(batch, scorer.evaluate(batch))
    if not distributed.agree(goes_on):
        return None
    distributed.add_up(reference)
    if distributed.leads():
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, reference, allow_pickle=False)
        temporary.replace(path)
    return Pairs(source, reference)


def _log_probabilities(batch: Batch, predicted: Predicted) -> NDArray[np.float64]:
    losses = predicted.losses.astype(np.float64)
    return np.negative(np.bincount(batch.owner, weights=losses), dtype=np.float64)


@dataclass(slots=True)
class _Count:
    """Figures of pairs, added up."""

    preferred: PredictionCounts
    loss: float = 0.0
    chosen: float = 0.0
    rejected: float = 0.0
    right: int = 0
    pairs: int = 0

    def figures(self) -> dict[str, float]:
        return {
            "rewards/chosen": self.chosen / self.pairs,
            "rewards/rejected": self.rejected / self.pairs,
            "rewards/margin": (self.chosen - self.rejected) / self.pairs,
            "rewards/accuracy": self.right / self.pairs,
        }


class Preference:
    """Direct preference optimisation.

    Sequence and token accuracy are those of the preferred replies.

    Args:
        scorer: Computes.
        train: Pairs to learn from.
        validation: Pairs to be tested on, or None.
        beta: How strongly to stay near the reference; larger stays nearer.
    """

    _figures = ("rewards/chosen", "rewards/rejected", "rewards/margin", "rewards/accuracy")
    columns: tuple[str, ...] = (*_figures, *(f"validation_{name}" for name in _figures))

    def __init__(
        self, scorer: LossComputation, train: Pairs, validation: Pairs | None, beta: float
    ) -> None:
        self._scorer = scorer
        self._train = train
        self._validation = validation
        self._beta = beta
        self.lengths: list[int] = [sum(pair) for pair in train.lengths]

    @property
    def validation_count(self) -> int:
        """Validation pairs; 0 where there are none."""
        return len(self._validation.lengths) if self._validation else 0

    def backward(self, numbers: Sequence[int]) -> StepMetrics:
        """Add the gradients of a batch of pairs; return its figures."""
        count = _Count(PredictionCounts())
        for batch, reference in self._batches(self._train, numbers):
            hidden = self._scorer.hidden(batch)
            predicted = self._scorer.predict(batch, hidden)
            margin = self._add(count, batch, predicted, reference)
            # d loss / d log probability is -beta sigmoid(-margin) for the preferred reply and
            # the opposite for the other; a loss is a negative log probability.
            slope = self._beta / (1 + np.exp(margin)) / len(numbers)
            weights = np.stack([slope, -slope], axis=1).ravel()[batch.owner]
            self._scorer.backward(
                batch, hidden, torch.from_numpy(weights.astype(np.float32)).to(hidden.device)
            )
        distributed.add_counts(count)
        return StepMetrics(
            loss=count.loss / count.pairs,
            sequence_accuracy=count.preferred.sequence_accuracy,
            token_accuracy=count.preferred.token_accuracy,
            tokens=sum(self.lengths[number] for number in numbers),
            extra=count.figures(),
        )

    def validate(self, numbers: Sequence[int]) -> ValidationRecord:
        """Return the figures of some validation pairs."""
        return self._validated(numbers, full=False)

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the figures of all validation pairs; there are no classification metrics."""
        return self._validated(range(self.validation_count), full=True), {}

    def _validated(self, numbers: Sequence[int], *, full: bool) -> ValidationRecord:
        assert self._validation is not None  # noqa: S101 - asked for where there are examples
        count = _Count(PredictionCounts())
        for batch, reference in self._batches(self._validation, numbers):
            self._add(count, batch, self._scorer.evaluate(batch), reference)
        distributed.add_counts(count)
        return ValidationRecord(
            loss=count.loss / count.pairs,
            sequence_accuracy=count.preferred.sequence_accuracy,
            token_accuracy=count.preferred.token_accuracy,
            full=full,
            extra={f"validation_{name}": value for name, value in count.figures().items()},
        )

    def _batches(
        self, source: Pairs, numbers: Sequence[int]
    ) -> Iterator[tuple[Batch, NDArray[np.float64]]]:
        """Yield parts of a batch; the two of a pair are neighbours in one part."""
        widths = [2 * max(pair) for pair in source.lengths]
        for part in self._scorer.parts(numbers, widths):
            both = [example for number in part for example in (2 * number, 2 * number + 1)]
            yield self._scorer.batch(source.examples, both), source.reference[both]

    def _add(
        self, count: _Count, batch: Batch, predicted: Predicted, reference: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Count the pairs of a batch; return the margin of each, shape (pairs,)."""
        rewards = self._beta * (_log_probabilities(batch, predicted) - reference)
        chosen, rejected = rewards[::2], rewards[1::2]
        margin: NDArray[np.float64] = chosen - rejected
        preferred = batch.owner % 2 == 0
        count.preferred.add(
            predicted.losses[preferred], predicted.right[preferred], batch.owner[preferred]
        )
        count.loss += float(np.logaddexp(0.0, -margin).sum())
        count.chosen += float(chosen.sum())
        count.rejected += float(rejected.sum())
        count.right += int((margin > 0).sum())
        count.pairs += len(margin)
        return margin
