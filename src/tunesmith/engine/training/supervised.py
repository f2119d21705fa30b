"""Learning to write completions: the loss, and the figures that go with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from tunesmith.engine.training.batches import by_length, micro_batches
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


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What one step's batch gave."""

    loss: float
    sequence_accuracy: float
    token_accuracy: float
    tokens: int
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is computed at once: tokens with padding, and positions with logits."""

    tokens: int
    selected: int


class ExampleSet:
    """Examples, with what the frozen layers make of them where that is cached.

    Attributes:
        lengths: Tokens of each example.
        selected: Positions of each example that need logits.
    """

    def __init__(self, examples: Sequence[Example], trunk: TrunkCache | None = None) -> None:
        self.examples = examples
        self.trunk = trunk
        self.lengths = [len(example) for example in examples]
        self.selected = [int(_wanted(example).sum()) for example in examples]


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
        limits: How much to compute at once.
        autocast: Compute in bfloat16 although the weights are in 32 bits.
    """

    columns: tuple[str, ...] = ()

    def __init__(
        self,
        network: Network,
        train: ExampleSet,
        validation: ExampleSet | None,
        classes: Classes | None,
        limits: Limits,
        *,
        autocast: bool,
    ) -> None:
        self._network = network
        self._train = train
        self._validation = validation
        self._classes = classes
        self._limits = limits
        self._autocast = autocast
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
            with torch.autocast(self._network.device.type, torch.bfloat16, self._autocast):
                logits = self._network.logits(batch.inputs, batch.mask, batch.selection)
            losses = functional.cross_entropy(logits.float(), batch.targets, reduction="none")
            torch.dot(losses, batch.weights / total).backward()  # type: ignore[no-untyped-call]  # in torch
            _count(tally, batch, losses, logits)
        return StepFigures(
            loss=tally.mean_loss,
            sequence_accuracy=tally.sequence_accuracy,
            token_accuracy=tally.token_accuracy,
            tokens=sum(self.lengths[number] for number in numbers),
        )

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
        for part in by_length(self._validation.lengths, self._limits.tokens):
            for piece in self._parts(self._validation, part):
                batch, logits = self._evaluate(self._validation, piece, tally)
                if self._classes is not None:
                    first = _first_scored(batch)
                    scores[piece] = logits[first][:, self._classes.tokens].float().cpu().numpy()
        record = ValidationRecord(
            tally.mean_loss, tally.sequence_accuracy, tally.token_accuracy, full=True
        )
        return record, self._classes.metrics(scores) if self._classes else {}

    def _evaluate(
        self, source: ExampleSet, part: Sequence[int], tally: Tally
    ) -> tuple[_Batch, torch.Tensor]:
        batch = self._collate(source, part)
        autocast = torch.autocast(self._network.device.type, torch.bfloat16, self._autocast)
        with torch.no_grad(), autocast:
            logits = self._network.logits(batch.inputs, batch.mask, batch.selection)
            losses = functional.cross_entropy(logits.float(), batch.targets, reduction="none")
        _count(tally, batch, losses, logits)
        return batch, logits

    def _parts(self, source: ExampleSet, numbers: Sequence[int]) -> Iterator[list[int]]:
        return micro_batches(
            numbers,
            source.lengths,
            source.selected,
            most_tokens=self._limits.tokens,
            most_selected=self._limits.selected,
        )

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


def _count(tally: Tally, batch: _Batch, losses: torch.Tensor, logits: torch.Tensor) -> None:
    right = (logits.detach().argmax(dim=-1) == batch.targets).cpu().numpy()
    values = losses.detach().cpu().numpy()
    tally.add(values[batch.scored], right[batch.scored], batch.owner[batch.scored])


def _first_scored(batch: _Batch) -> NDArray[np.int64]:
    """Return where each example's first scored position stands among the selected ones."""
    scored = np.flatnonzero(batch.scored)
    _, first = np.unique(batch.owner[scored], return_index=True)
    return scored[first]
