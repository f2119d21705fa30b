"""From examples to the losses of their tokens, and back to gradients.

The layers see padded batches; the output layer sees only the positions that matter, a
few at a time, since their logits are the largest thing that there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from tunesmith.engine.training import distributed
from tunesmith.engine.training.batches import micro_batches
from tunesmith.engine.training.frozen_layer_cache import pad

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tunesmith.engine.training.examples import Example
    from tunesmith.engine.training.frozen_layer_cache import FrozenLayerCache
    from tunesmith.engine.training.split_model import SplitModel

__all__ = ["Batch", "ExampleSet", "LossComputation", "Predicted"]

_ROWS_AT_ONCE = 256


class ExampleSet:
    """Examples, with what the frozen layers make of them where that is cached."""

    def __init__(self, examples: Sequence[Example], trunk: FrozenLayerCache | None = None) -> None:
        self.examples = examples
        self.trunk = trunk
        self.lengths: list[int] = [len(example) for example in examples]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples, and the positions of theirs that matter, one after the other.

    Attributes:
        inputs: For the layers, shape (examples, length) or (examples, length, hidden).
        mask: 1 where there is a token, shape (examples, length); None where all are.
        selection: The positions that predict, in the flattened batch, shape (positions,).
        targets: The tokens to be predicted there, shape (positions,).
        weights: Their weights in the loss, shape (positions,).
        scored: Whether they count for accuracy, shape (positions,).
        owner: The example of each, counted within the batch, shape (positions,).
    """

    inputs: torch.Tensor
    mask: torch.Tensor | None
    selection: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    scored: NDArray[np.bool_]
    owner: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predicted:
    """How a batch was predicted.

    Attributes:
        losses: Cross-entropy at each position, shape (positions,).
        right: Whether the target was the likeliest token, shape (positions,).
        logits: Logits of the tokens asked for, shape (positions, tokens).
    """

    losses: NDArray[np.float32]
    right: NDArray[np.bool_]
    logits: NDArray[np.float32]


class LossComputation:
    """Runs batches through the network.

    Args:
        network: The model, its upper layers alone in use where the examples are cached.
        tokens_at_once: Tokens, padding included, that go through the layers together.
        autocast: Compute in bfloat16 although the weights are in 32 bits.
    """

    def __init__(self, network: SplitModel, *, tokens_at_once: int, autocast: bool) -> None:
        self._network = network
        self._tokens_at_once = tokens_at_once
        self._precision = torch.autocast(network.device.type, torch.bfloat16, autocast)

    def parts(self, numbers: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Split this process's share of a batch into parts that go through the layers at once."""
        return micro_batches(distributed.share(numbers), lengths, self._tokens_at_once)

    def batch(self, source: ExampleSet, numbers: Sequence[int]) -> Batch:
        """Return examples of `source` as tensors."""
        examples = [source.examples[number] for number in numbers]
        if source.trunk is None:
            rows = [torch.from_numpy(example.tokens) for example in examples]
        else:
            rows = [source.trunk[number] for number in numbers]
        inputs, mask = pad(rows)
        width = inputs.shape[1]
        places = [np.flatnonzero(example.scored | (example.weights > 0)) for example in examples]
        # The position before a token predicts it.
        selection = np.concatenate([i * width + p - 1 for i, p in enumerate(places)])
        device = self._network.device
        return Batch(
            inputs=inputs.to(device),
            mask=None if mask is None else mask.to(device),
            selection=torch.from_numpy(selection).to(device),
            targets=torch.from_numpy(_gather(examples, places, "tokens")).to(device),
            weights=torch.from_numpy(_gather(examples, places, "weights")).to(device),
            scored=_gather(examples, places, "scored"),
            owner=np.repeat(np.arange(len(places)), [len(place) for place in places]),
        )

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Return what enters the output layer, shape (positions, hidden)."""
        with self._precision:
            return self._network.hidden(batch.inputs, batch.mask, batch.selection)

    def predict(self, batch: Batch, hidden: torch.Tensor, tokens: Sequence[int] = ()) -> Predicted:
        """Return how the batch is predicted, and the logits of `tokens`."""
        done = []
        with torch.no_grad():
            for rows in _slices(batch):
                logits, losses = self._losses(hidden[rows], batch, rows)
                done.append(_predicted(logits, losses, batch.targets[rows], tokens))
        return _joined(done)

    def evaluate(self, batch: Batch, tokens: Sequence[int] = ()) -> Predicted:
        """Return how the batch is predicted, from its inputs on, without gradients."""
        with torch.no_grad():
            return self.predict(batch, self.hidden(batch), tokens)

    def backward(self, batch: Batch, hidden: torch.Tensor, weights: torch.Tensor) -> Predicted:
        """Add the gradients of the losses' weighted sum; return how the batch was predicted.

        Args:
            batch: The batch.
            hidden: What `hidden` gave for it.
            weights: Shape (positions,).
        """
        done, gradients = [], []
        for rows in _slices(batch):
            leaf = hidden[rows].detach().requires_grad_()
            logits, losses = self._losses(leaf, batch, rows)
            torch.autograd.backward(torch.dot(losses, weights[rows]))
            assert leaf.grad is not None  # noqa: S101 - backward() has just made it
            gradients.append(leaf.grad)
            done.append(_predicted(logits, losses, batch.targets[rows], ()))
        torch.autograd.backward(hidden, torch.cat(gradients))
        return _joined(done)

    def _losses(
        self, hidden: torch.Tensor, batch: Batch, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with self._precision:
            logits = self._network.logits(hidden)
        losses = functional.cross_entropy(logits.float(), batch.targets[rows], reduction="none")
        return logits, losses


def _gather(
    examples: Sequence[Example], places: Sequence[NDArray[np.int64]], name: str
) -> NDArray[Any]:
    return np.concatenate(
        [getattr(example, name)[place] for example, place in zip(examples, places, strict=True)]
    )


def _slices(batch: Batch) -> Iterator[slice]:
    for start in range(0, len(batch.targets), _ROWS_AT_ONCE):
        yield slice(start, start + _ROWS_AT_ONCE)


def _predicted(
    logits: torch.Tensor, losses: torch.Tensor, targets: torch.Tensor, tokens: Sequence[int]
) -> Predicted:
    logits = logits.detach()
    return Predicted(
        losses=losses.detach().cpu().numpy(),
        right=(logits.argmax(dim=-1) == targets).cpu().numpy(),
        logits=logits[:, list(tokens)].float().cpu().numpy(),
    )


def _joined(parts: Sequence[Predicted]) -> Predicted:
    return Predicted(
        losses=np.concatenate([part.losses for part in parts]),
        right=np.concatenate([part.right for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
    )
