"""From examples to the losses of their tokens, and back to gradients.

The transformer layers see padded batches. The output layer sees only the positions that
matter, a few at a time, because their logits are the largest tensor of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from . import distributed
from .batches import micro_batches
from .frozen_layer_cache import pad
from .packing import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .examples import Example
    from .frozen_layer_cache import FrozenLayerCache
    from .memory_limit import MemoryLimit
    from .split_model import SplitModel

__all__ = ["Batch", "ExampleSet", "LossComputation", "Predictions"]

_LOGIT_ROWS = 256  # positions whose logits exist at the same time


class ExampleSet:
    """Examples, with the outputs of the frozen layers where those are cached."""

    def __init__(self, examples: Sequence[Example], cache: FrozenLayerCache | None = None) -> None:
        self.examples = examples
        self.cache = cache
        self.lengths: list[int] = [len(example) for example in examples]


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as tensors, and their positions that predict something.

    Attributes:
        inputs: For the layers, shape (examples, length) or (examples, length, hidden); all
            examples in one row where they are packed.
        mask: 1 at tokens and 0 at padding, shape (examples, length); None without padding; where
            they are packed, what `packing.pack` makes.
        selection: The positions that predict, in the flattened batch, shape (positions,).
        targets: The token ids to be predicted there, shape (positions,).
        weights: Their weights in the loss, shape (positions,).
        scored: Whether they count for accuracy, shape (positions,).
        owner: Index within the batch of the example of each, shape (positions,).
    """

    inputs: torch.Tensor
    mask: torch.Tensor | None
    selection: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    scored: NDArray[np.bool_]
    owner: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """How the positions of a batch were predicted.

    Attributes:
        losses: Cross-entropy at each position, shape (positions,).
        correct: Whether the target was the most likely token, shape (positions,).
        logits: Logits of the requested tokens, shape (positions, tokens).
    """

    losses: NDArray[np.float32]
    correct: NDArray[np.bool_]
    logits: NDArray[np.float32]


class LossComputation:
    """Runs batches through a model, forward and backward.

    Args:
        model: The model, within `only_layers` where the examples are cached.
        limit: How many tokens go through the layers together.
        autocast: Compute in bfloat16 although the weights are in 32 bits.
        packed: Put the examples one after the other, without padding.
    """

    def __init__(
        self,
        model: SplitModel,
        limit: MemoryLimit,
        *,
        autocast: bool = False,
        packed: bool = False,
    ) -> None:
        self._model = model
        self._packed = packed
        self._limit = limit
        self._precision = torch.autocast(model.device.type, torch.bfloat16, autocast)

    def micro_batches(self, indices: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Split this process's shard of a batch into parts that go through the layers at once.

        All processes run the layers equally often, as a sharded model requires: those with
        fewer parts get empty ones.
        """
        most, packed = self._limit.tokens, self._packed
        parts = [
            list(micro_batches(shard, lengths, most, packed=packed))
            for shard in distributed.shards(indices)
        ]
        own = parts[distributed.rank()]
        for part in own:
            each = [lengths[index] for index in part]
            self._limit.note(len(part), sum(each) if packed else len(part) * max(each))
            yield part
        yield from ([] for _ in range(max(map(len, parts)) - len(own)))

    def collate(self, source: ExampleSet, indices: Sequence[int]) -> Batch:
        """Return examples of `source` as tensors on the model's device.

        Without examples it is a batch that runs through the layers and predicts nothing.
        """
        if not indices:
            return _nothing(self._model.device)
        examples = [source.examples[index] for index in indices]
        if source.cache is None:
            rows = [torch.from_numpy(example.tokens) for example in examples]
        else:
            rows = [source.cache[index] for index in indices]
        mask: torch.Tensor | None
        if self._packed:
            inputs, mask = pack(rows)
            starts = np.cumsum([0, *map(len, rows)])
        else:
            inputs, mask = pad(rows)
            starts = np.arange(len(rows)) * inputs.shape[1]
        used = [np.flatnonzero(example.scored | (example.weights > 0)) for example in examples]
        # The position before a token predicts it.
        selection = np.concatenate([starts[i] + p - 1 for i, p in enumerate(used)])
        device = self._model.device
        return Batch(
            inputs=inputs.to(device),
            mask=None if mask is None else mask.to(device),
            selection=torch.from_numpy(selection).to(device),
            targets=torch.from_numpy(_gather(examples, used, "tokens")).to(device),
            weights=torch.from_numpy(_gather(examples, used, "weights")).to(device),
            scored=_gather(examples, used, "scored"),
            owner=np.repeat(np.arange(len(used)), [len(positions) for positions in used]),
        )

    def hidden(self, batch: Batch, *, as_in_training: bool = False) -> torch.Tensor:
        """Return what enters the output layer, shape (positions, hidden).

        Args:
            batch: The batch.
            as_in_training: Compute without gradients exactly what is computed with them.
        """
        with self._precision:
            return self._model.last_hidden(
                batch.inputs, batch.mask, batch.selection, as_in_training=as_in_training
            )

    def predict(
        self, batch: Batch, hidden: torch.Tensor, tokens: Sequence[int] = ()
    ) -> Predictions:
        """Return how a batch is predicted, without gradients.

        Args:
            batch: The batch.
            hidden: The result of `hidden` for it, shape (positions, hidden).
            tokens: Token ids whose logits to return.
        """
        parts = []
        with torch.no_grad():
            for rows in _slices(batch):
                logits, losses = self._losses(hidden[rows], batch, rows)
                parts.append(_predictions(logits, losses, batch.targets[rows], tokens))
        return _join(parts)

    def evaluate(
        self, batch: Batch, tokens: Sequence[int] = (), *, as_in_training: bool = False
    ) -> Predictions:
        """Run a batch through the whole model and return `predict` of it, without gradients."""
        with torch.no_grad():
            hidden = self.hidden(batch, as_in_training=as_in_training)
            return self.predict(batch, hidden, tokens)

    def backward(self, batch: Batch, hidden: torch.Tensor, weights: torch.Tensor) -> Predictions:
        """Add the gradients of the weighted sum of a batch's losses.

        Args:
            batch: The batch.
            hidden: The result of `hidden` for it, shape (positions, hidden).
            weights: Weight of each loss, shape (positions,).

        Returns:
            How the batch was predicted.
        """
        parts, gradients = [], []
        for rows in _slices(batch):
            # The graph of the logits is cut here, so that only one slice of them exists.
            leaf = hidden[rows].detach().requires_grad_()
            logits, losses = self._losses(leaf, batch, rows)
            torch.autograd.backward(torch.dot(losses, weights[rows]))
            assert leaf.grad is not None  # noqa: S101 - backward() has just set it
            gradients.append(leaf.grad)
            parts.append(_predictions(logits, losses, batch.targets[rows], ()))
        torch.autograd.backward(hidden, torch.cat(gradients))
        return _join(parts)

    def _losses(
        self, hidden: torch.Tensor, batch: Batch, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, shape (rows, vocabulary), and losses, shape (rows,)."""
        with self._precision:
            logits = self._model.logits(hidden)
        losses = functional.cross_entropy(logits.float(), batch.targets[rows], reduction="none")
        return logits, losses


def _gather(
    examples: Sequence[Example], used: Sequence[NDArray[np.int64]], name: str
) -> NDArray[Any]:
    return np.concatenate(
        [
            getattr(example, name)[positions]
            for example, positions in zip(examples, used, strict=True)
        ]
    )


def _nothing(device: torch.device) -> Batch:
    none = torch.zeros(0, dtype=torch.long, device=device)
    return Batch(
        inputs=torch.zeros((1, 2), dtype=torch.long, device=device),
        mask=None,
        selection=none,
        targets=none,
        weights=none.float(),
        scored=np.zeros(0, np.bool_),
        owner=np.zeros(0, np.int64),
    )


def _slices(batch: Batch) -> Iterator[slice]:
    for start in range(0, max(1, len(batch.targets)), _LOGIT_ROWS):
        yield slice(start, start + _LOGIT_ROWS)


def _predictions(
    logits: torch.Tensor, losses: torch.Tensor, targets: torch.Tensor, tokens: Sequence[int]
) -> Predictions:
    logits = logits.detach()
    return Predictions(
        losses=losses.detach().cpu().numpy(),
        correct=(logits.argmax(dim=-1) == targets).cpu().numpy(),
        logits=logits[:, list(tokens)].float().cpu().numpy(),
    )


def _join(parts: Sequence[Predictions]) -> Predictions:
    return Predictions(
        losses=np.concatenate([part.losses for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
    )
