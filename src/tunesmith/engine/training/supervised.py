"""Learning to write completions: the loss, and the figures that go with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from tunesmith.engine.training.batches import micro_batches
from tunesmith.engine.training.metrics import Tally
from tunesmith.engine.training.spec import ValidationRecord
from tunesmith.engine.training.trunk import pad

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tunesmith.engine.training.classification import Classes
    from tunesmith.engine.training.examples import Example
    from tunesmith.engine.training.network import Network
    from tunesmith.engine.training.trunk import TrunkCache

__all__ = ["ExampleSet", "StepFigures", "Supervised"]

_ROWS_AT_ONCE = 256

_Predicted: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.bool_]]"
"""Of each row: its loss, and whether its target was the likeliest token."""


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What one step's batch gave."""

    loss: float
    sequence_accuracy: float
    token_accuracy: float
    tokens: int
    extra: dict[str, float] = field(default_factory=dict)


class ExampleSet:
    """Examples, with what the frozen layers make of them where that is cached."""

    def __init__(self, examples: Sequence[Example], trunk: TrunkCache | None = None) -> None:
        self.examples = examples
        self.trunk = trunk
        self.lengths = [len(example) for example in examples]


@dataclass(frozen=True, slots=True)
class _Batch:
    inputs: torch.Tensor
    mask: torch.Tensor | None
    selection: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    scored: NDArray[np.bool_]
    owner: NDArray[np.int64]


class Supervised:
    """Cross-entropy on the completions, and on the prompts by their weight.

    Args:
        network: The model, its upper layers alone in use where the sets are cached.
        train: What to learn from.
        validation: What to be tested on, or None.
        classes: How to read classes from predictions, or None.
        tokens_at_once: Tokens, padding included, that go through the layers together.
        autocast: Compute in bfloat16 although the weights are in 32 bits.
    """

    columns: tuple[str, ...] = ()

    def __init__(
        self,
        network: Network,
        train: ExampleSet,
        validation: ExampleSet | None,
        classes: Classes | None,
        *,
        tokens_at_once: int,
        autocast: bool,
    ) -> None:
        self._network = network
        self._train = train
        self._validation = validation
        self._classes = classes
        self._tokens_at_once = tokens_at_once
        self._precision = torch.autocast(network.device.type, torch.bfloat16, autocast)
        self.lengths = train.lengths

    @property
    def validation_count(self) -> int:
        """Validation examples; 0 where there are none."""
        return len(self._validation.examples) if self._validation else 0

    def backward(self, numbers: Sequence[int]) -> StepFigures:
        """Add the gradients of a batch; return its figures.

        The loss that is minimised is the weighted mean over all positions with a
        weight; the loss that is reported is the mean over the completions' tokens.
        """
        examples = self._train.examples
        total = float(sum(examples[number].weights.sum(dtype=float) for number in numbers))
        tally = Tally()
        for part in self._parts(self._train, numbers):
            batch = self._collate(self._train, part)
            with self._precision:
                hidden = self._network.hidden(batch.inputs, batch.mask, batch.selection)
            done = [self._backward_rows(hidden, batch, rows, total) for rows in _slices(batch)]
            torch.autograd.backward(hidden, torch.cat([gradient for gradient, _ in done]))
            _count(tally, batch, [predicted for _, predicted in done])
        return StepFigures(
            loss=tally.mean_loss,
            sequence_accuracy=tally.sequence_accuracy,
            token_accuracy=tally.token_accuracy,
            tokens=sum(self.lengths[number] for number in numbers),
        )

    def _backward_rows(
        self, hidden: torch.Tensor, batch: _Batch, rows: slice, total: float
    ) -> tuple[torch.Tensor, _Predicted]:
        """Return the gradient of some rows that enter the output layer, and how they did.

        A few rows at a time: their logits are the largest thing that there is.
        """
        leaf = hidden[rows].detach().requires_grad_()
        with self._precision:
            logits = self._network.logits(leaf)
        losses = functional.cross_entropy(logits.float(), batch.targets[rows], reduction="none")
        torch.dot(losses, batch.weights[rows] / total).backward()  # type: ignore[no-untyped-call]  # in torch
        assert leaf.grad is not None  # noqa: S101 - backward() has just made it
        return leaf.grad, _predicted(logits, losses, batch.targets[rows])

    def validate(self, numbers: Sequence[int]) -> ValidationRecord:
        """Return the figures of some validation examples."""
        assert self._validation is not None  # noqa: S101 - asked for where there are examples
        tally = Tally()
        for part in self._parts(self._validation, numbers):
            self._evaluate(self._validation, part, tally)
        return ValidationRecord(tally.mean_loss, tally.sequence_accuracy, tally.token_accuracy)

    def validate_all(self) -> tuple[ValidationRecord, dict[str, float]]:
        """Return the figures of all validation examples, and the classification metrics."""
        assert self._validation is not None  # noqa: S101 - asked for where there are examples
        tally = Tally()
        scores = np.zeros((self.validation_count, len(self._classes or ())), np.float32)
        for part in self._parts(self._validation, range(self.validation_count)):
            scores[part] = self._evaluate(self._validation, part, tally)
        record = ValidationRecord(
            tally.mean_loss, tally.sequence_accuracy, tally.token_accuracy, full=True
        )
        return record, self._classes.metrics(scores) if self._classes else {}

    def _evaluate(
        self, source: ExampleSet, part: Sequence[int], tally: Tally
    ) -> NDArray[np.float32]:
        """Count some examples; return the logits of the classes at each one's first position."""
        batch = self._collate(source, part)
        classes = self._classes.tokens if self._classes else []
        scores, done = [], []
        with torch.no_grad(), self._precision:
            hidden = self._network.hidden(batch.inputs, batch.mask, batch.selection)
            for rows in _slices(batch):
                logits, targets = self._network.logits(hidden[rows]), batch.targets[rows]
                losses = functional.cross_entropy(logits.float(), targets, reduction="none")
                done.append(_predicted(logits, losses, targets))
                scores.append(logits[:, classes].float().cpu().numpy())
        _count(tally, batch, done)
        return np.concatenate(scores)[_first_scored(batch)]

    def _parts(self, source: ExampleSet, numbers: Sequence[int]) -> Iterator[list[int]]:
        return micro_batches(numbers, source.lengths, self._tokens_at_once)

    def _collate(self, source: ExampleSet, numbers: Sequence[int]) -> _Batch:
        examples = [source.examples[number] for number in numbers]
        rows: Iterable[torch.Tensor]
        if source.trunk is None:
            rows = [torch.from_numpy(example.tokens) for example in examples]
        else:
            rows = [source.trunk[number] for number in numbers]
        inputs, mask = pad(list(rows))
        width = inputs.shape[1]
        places = [np.flatnonzero(_wanted(example)) for example in examples]
        # The position before a token predicts it.
        selection = np.concatenate([i * width + p - 1 for i, p in enumerate(places)])
        device = self._network.device
        return _Batch(
            inputs=inputs.to(device),
            mask=None if mask is None else mask.to(device),
            selection=torch.from_numpy(selection).to(device),
            targets=torch.from_numpy(_gather(examples, places, "tokens")).to(device),
            weights=torch.from_numpy(_gather(examples, places, "weights")).to(device),
            scored=_gather(examples, places, "scored"),
            owner=np.repeat(np.arange(len(places)), [len(place) for place in places]),
        )


def _wanted(example: Example) -> NDArray[np.bool_]:
    wanted: NDArray[np.bool_] = example.scored | (example.weights > 0)
    return wanted


def _gather(
    examples: Sequence[Example], places: Sequence[NDArray[np.int64]], name: str
) -> NDArray[Any]:
    return np.concatenate(
        [getattr(example, name)[place] for example, place in zip(examples, places, strict=True)]
    )


def _slices(batch: _Batch) -> Iterator[slice]:
    for start in range(0, len(batch.targets), _ROWS_AT_ONCE):
        yield slice(start, start + _ROWS_AT_ONCE)


def _predicted(logits: torch.Tensor, losses: torch.Tensor, targets: torch.Tensor) -> _Predicted:
    right = logits.detach().argmax(dim=-1) == targets
    return losses.detach().cpu().numpy(), right.cpu().numpy()


def _count(tally: Tally, batch: _Batch, done: Sequence[_Predicted]) -> None:
    losses = np.concatenate([losses for losses, _ in done])
    right = np.concatenate([right for _, right in done])
    tally.add(losses[batch.scored], right[batch.scored], batch.owner[batch.scored])


def _first_scored(batch: _Batch) -> NDArray[np.int64]:
    """Return where each example's first scored position stands among the selected ones."""
    scored = np.flatnonzero(batch.scored)
    _, first = np.unique(batch.owner[scored], return_index=True)
    return scored[first]
