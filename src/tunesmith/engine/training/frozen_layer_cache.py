"""What the frozen lower layers make of each example, computed once and kept on disk.

The `fast` recipe trains the upper layers alone, so what enters them never changes:
one pass through the lower layers serves all epochs. The file holds the examples from
the shortest to the longest, so it is written from front to end and read by mapping.
"""

from __future__ import annotations

import os
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from tunesmith.engine.training.batches import micro_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tunesmith.engine.training.examples import Example
    from tunesmith.engine.training.split_model import SplitModel

__all__ = ["FrozenLayerCache", "frozen_layer_cache_bytes", "pad", "write_frozen_layer_cache"]

_TOKENS_AT_ONCE = 1024


class FrozenLayerCache:
    """Reads what enters the first trained layer, example by example.

    Args:
        path: The file that `write_frozen_layer_cache` wrote.
        lengths: Tokens of each example.
        hidden_size: Numbers per token.
        dtype: Their precision.
    """

    def __init__(
        self, path: Path, lengths: Sequence[int], hidden_size: int, dtype: torch.dtype
    ) -> None:
        order = _order(lengths)
        starts = accumulate((lengths[number] for number in order), initial=0)
        self._start = dict(zip(order, starts, strict=False))
        self._lengths = lengths
        self._values = torch.from_file(
            str(path), shared=False, size=sum(lengths) * hidden_size, dtype=dtype
        ).view(-1, hidden_size)

    def __getitem__(self, number: int) -> torch.Tensor:
        """Return the example's rows, shape (length, hidden)."""
        start = self._start[number]
        return self._values[start : start + self._lengths[number]]


def write_frozen_layer_cache(
    network: SplitModel,
    layer: int,
    examples: Sequence[Example],
    path: Path,
    should_continue: Callable[[], bool],
) -> bool:
    """Write what enters layer `layer` for every example to `path`, unless it is there in full.

    Args:
        network: The base model.
        layer: Number of the first trained layer.
        examples: The rows.
        path: The file; it appears when it is complete.
        should_continue: Asked between batches.

    Returns:
        False if `should_continue` said no before the end.
    """
    if path.exists() and path.stat().st_size == frozen_layer_cache_bytes(network, examples):
        return True
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for batch in _batches([len(example) for example in examples]):
            if not should_continue():
                return False
            tokens, mask = pad([torch.from_numpy(examples[n].tokens) for n in batch])
            device = network.device
            hidden = network.hidden_before(
                layer, tokens.to(device), None if mask is None else mask.to(device)
            ).cpu()
            for row, number in enumerate(batch):
                values = hidden[row, : len(examples[number])].contiguous()
                file.write(values.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return True


def frozen_layer_cache_bytes(network: SplitModel, examples: Sequence[Example]) -> int:
    """Return the size of the file that `write_frozen_layer_cache` writes."""
    dtype: torch.dtype = next(network.model.parameters()).dtype
    return sum(map(len, examples)) * network.hidden_size * dtype.itemsize


def pad(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return rows of different length as one tensor, zeros behind the shorter, and the mask.

    The mask is 1 where there is a value, shape (rows, length); None if all rows are
    of one length.
    """
    lengths = [len(row) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    if min(lengths) == max(lengths):
        return padded, None
    return padded, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def _order(lengths: Sequence[int]) -> list[int]:
    return [number for batch in _batches(lengths) for number in batch]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    return micro_batches(range(len(lengths)), lengths, _TOKENS_AT_ONCE)
