"""Which examples make a step: a seeded order, with examples of similar length together.

A batch is padded to its longest example, so lengths that differ waste computation.
Shuffled examples are therefore sorted by length within windows of several batches, and
the batches are shuffled again. The order depends on seed and epoch alone, so a resumed
training sees the same batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["epoch_batches", "micro_batches"]

_WINDOW = 256  # examples sorted by length together


def epoch_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int
) -> list[list[int]]:
    """Return the batches of one epoch.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples per batch; one batch has fewer where they do not divide evenly.
        seed: The training's seed.
        epoch: 0 for the first.

    Returns:
        Lists of indices into `lengths`; each index occurs once.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    window = max(_WINDOW, batch_size)
    window -= window % batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        chunk = sorted(order[start : start + window].tolist(), key=lengths.__getitem__)
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def micro_batches(
    batch: Sequence[int], lengths: Sequence[int], max_tokens: int, *, packed: bool = False
) -> Iterator[list[int]]:
    """Split a batch, shortest example first, into parts that fit into memory.

    Args:
        batch: Indices into `lengths`.
        lengths: Tokens of each example.
        max_tokens: Most tokens of a part, padding included. A longer example is a part of
            its own.
        packed: Whether its examples are not padded to one length.
    """
    part: list[int] = []
    for index in sorted(batch, key=lengths.__getitem__):
        before = sum(map(lengths.__getitem__, part)) if packed else len(part) * lengths[index]
        if part and before + lengths[index] > max_tokens:
            yield part
            part = []
        part.append(index)
    if part:
        yield part
