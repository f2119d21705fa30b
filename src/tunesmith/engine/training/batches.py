"""Which examples make a step: a seeded order, with examples of like length together.

A batch is as wide as its longest example, so lengths that differ are computed for
nothing. Shuffled examples are therefore sorted by length within windows of some
batches, and the batches shuffled again. All of it follows from seed and epoch alone,
so a resumed training meets the same batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["epoch_batches", "micro_batches"]

_WINDOW = 256


def epoch_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int
) -> list[list[int]]:
    """Return the epoch's batches of example numbers; the last to be made may be smaller."""
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
    batch: Sequence[int], lengths: Sequence[int], most_tokens: int
) -> Iterator[list[int]]:
    """Split a batch, shortest first, so that no part has more than `most_tokens` with padding.

    A longer example stands alone.
    """
    part: list[int] = []
    for number in sorted(batch, key=lengths.__getitem__):
        if part and (len(part) + 1) * lengths[number] > most_tokens:
            yield part
            part = []
        part.append(number)
    if part:
        yield part
