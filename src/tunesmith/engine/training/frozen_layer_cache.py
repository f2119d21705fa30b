"""The outputs of the frozen lower layers for each example, computed once and kept on disk.

The recipe `fast` trains only the upper layers, so what enters them never changes: one pass
through the lower layers serves all epochs. The file holds the examples from the shortest
to the longest, so that it can be written front to back in batches of similar length; it is
read through a memory map.
"""

from __future__ import annotations

import os
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from .batches import micro_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .examples import Example
    from .split_model import SplitModel

__all__ = ["FrozenLayerCache", "frozen_layer_cache_bytes", "pad", "write_frozen_layer_cache"]

_MAX_TOKENS = 1024  # of a batch, padding included


class FrozenLayerCache:
    """Reads what enters the first trained layer, example by example.

    Args:
        path: The file that `write_frozen_layer_cache` wrote.
        lengths: Tokens of each example.
        hidden_size: Size of the hidden state of one token.
        dtype: Precision of the hidden states.
    """

    def __init__(
        self, path: Path, lengths: Sequence[int], hidden_size: int, dtype: torch.dtype
    ) -> None:
        order = [index for batch in _batches(lengths) for index in batch]
        starts = accumulate((lengths[index] for index in order), initial=0)
        self._start = dict(zip(order, starts, strict=False))
        self._lengths = lengths
        self._values = torch.from_file(
            str(path), shared=False, size=sum(lengths) * hidden_size, dtype=dtype
        ).view(-1, hidden_size)  # (tokens of all examples, hidden)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return the hidden states of an example, shape (length, hidden)."""
        start = self._start[index]
        return self._values[start : start + self._lengths[index]]


def write_frozen_layer_cache(
    model: SplitModel,
    layer: int,
    examples: Sequence[Example],
    path: Path,
    should_continue: Callable[[], bool] = lambda: True,
) -> bool:
    """Write what enters layer `layer` for every example, unless the file is there in full.

    Args:
        model: The base model.
        layer: Index of the first trained layer.
        examples: The examples.
        path: The file; it appears when it is complete.
        should_continue: Called between batches.

    Returns:
        False if `should_continue` returned False before the end.
    """
    if path.exists() and path.stat().st_size == frozen_layer_cache_bytes(model, examples):
        return True
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for batch in _batches([len(example) for example in examples]):
            if not should_continue():
                return False
            tokens, mask = pad([torch.from_numpy(examples[index].tokens) for index in batch])
            hidden = model.hidden_before(
                layer, tokens.to(model.device), None if mask is None else mask.to(model.device)
            ).cpu()  # (batch, length, hidden)
            for row, index in enumerate(batch):
                values = hidden[row, : len(examples[index])].contiguous()
                file.write(values.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return True


def frozen_layer_cache_bytes(model: SplitModel, examples: Sequence[Example]) -> int:
    """Return the size of the file that `write_frozen_layer_cache` writes."""
    return sum(map(len, examples)) * model.hidden_size * model.dtype.itemsize


def pad(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return rows of different lengths as one tensor, padded with zeros, and its mask.

    Args:
        rows: Shape (length, …) each.

    Returns:
        Shape (rows, longest, …), and a mask that is 1 at values, shape (rows, longest);
        None if all rows have one length.
    """
    lengths = [len(row) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    if min(lengths) == max(lengths):
        return padded, None
    return padded, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    return micro_batches(range(len(lengths)), lengths, _MAX_TOKENS)
