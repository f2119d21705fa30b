"""Keys and values of many rows in one rectangle: a slot a row, written in place.

transformers' own dynamic cache appends, which copies everything at each step and
keeps all rows at one length. Here each row has a slot and a length of its own. The
scheduler says before each forward pass which slots it covers (`fill` for prompts,
`advance` for one token a row) and passes the mask that belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SlotCache"]

LENGTH_STEP = 256
SLOT_STEP = 4


@dataclass(slots=True)
class _Window:
    """What part of the rectangle the current forward pass reads and writes."""

    first: int = 0
    count: int = 0
    start: int = 0
    width: int = 0
    slots: Tensor | None = None
    positions: Tensor | None = None


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers' hook
    """One layer's keys and values: [slots, heads, length, dimension]."""

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers' own is untyped
        self._owner = owner
        self.keys: Tensor | None
        self.values: Tensor | None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the first keys and values that arrive."""
        owner = self._owner
        self.keys = _allocate(key_states, owner.slots, owner.length)
        self.values = _allocate(value_states, owner.slots, owner.length)
        self.is_initialized = True

    def resize(self, slots: int, length: int) -> None:
        """Take another size, keeping what lies within it."""
        if self.keys is not None and self.values is not None:
            self.keys = _resized(self.keys, slots, length)
            self.values = _resized(self.values, slots, length)

    def release(self) -> None:
        """Give the memory back."""
        self.keys = self.values = None
        self.is_initialized = False

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cells of a slot to another."""
        if self.keys is not None and self.values is not None:
            self.keys[target, :, :length] = self.keys[source, :, :length]
            self.values[target, :, :length] = self.values[source, :, :length]

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ARG002 - the interface of transformers' caches
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values; return all that the pass may attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.keys, self.values
        assert keys is not None  # noqa: S101 - for the type checker
        assert values is not None  # noqa: S101
        window = self._owner.window
        last = window.first + window.count
        if window.positions is None:
            end = window.start + key_states.shape[2]
            keys[window.first : last, :, window.start : end] = key_states
            values[window.first : last, :, window.start : end] = value_states
        else:
            keys[window.slots, :, window.positions] = key_states[:, :, 0]
            values[window.slots, :, window.positions] = value_states[:, :, 0]
        return (
            keys[window.first : last, :, : window.width],
            values[window.first : last, :, : window.width],
        )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and the offset of what a mask covers."""
        return self._owner.window.start + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of cells before the current pass."""
        return self._owner.window.start

    def get_max_length(self) -> int:
        """Return -1: it grows."""
        return -1


class SlotCache(Cache):
    """The keys and values of a batch.

    Args:
        layers: Number of layers of the model.
        budget: Most cells (slots times length); what is needed now may exceed it.
    """

    def __init__(self, layers: int, budget: int) -> None:
        self.budget = budget
        self.slots: int = 0
        self.length: int = 0
        self.window: _Window = _Window()
        self._slot_layers = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._slot_layers))

    def fits(self, slots: int, length: int) -> bool:
        """Return True if that many rows of that length are within the budget."""
        slots, length = _rounded(slots, length)
        return slots * length <= self.budget

    def reserve(self, slots: int, length: int) -> None:
        """Make room for `slots` rows of up to `length` cells: all the rows there are.

        What is there already is kept, as far as it lies within that. Room grows in
        steps and does not shrink, unless it would exceed the budget.
        """
        needed = _rounded(slots, length)
        size = max(self.slots, needed[0]), max(self.length, needed[1])
        if size[0] * size[1] > self.budget:
            size = needed
        if size != (self.slots, self.length):
            self.slots, self.length = size
            for layer in self._slot_layers:
                layer.resize(*size)

    def release(self) -> None:
        """Give all memory back; what was stored is lost."""
        self.slots = self.length = 0
        for layer in self._slot_layers:
            layer.release()

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy a row's first `length` cells to another slot."""
        for layer in self._slot_layers:
            layer.copy_slot(source, target, length)

    def fill(self, first: int, count: int, start: int, tokens: int) -> None:
        """Announce a pass over `tokens` tokens of slots `first`…, all at position `start`."""
        self.window = _Window(first, count, start, start + tokens)

    def advance(self, positions: Tensor, width: int) -> None:
        """Announce a pass over one token of each of the first slots, at its position."""
        count = positions.shape[0]
        slots = torch.arange(count, device=positions.device)
        self.window = _Window(0, count, width - 1, width, slots, positions)


def _rounded(slots: int, length: int) -> tuple[int, int]:
    if slots > SLOT_STEP:
        slots = -(-slots // SLOT_STEP) * SLOT_STEP
    return slots, -(-length // LENGTH_STEP) * LENGTH_STEP


def _allocate(like: Tensor, slots: int, length: int) -> Tensor:
    # Zeros, not garbage: a masked cell weighs nothing, but nothing times NaN is NaN.
    return like.new_zeros((slots, like.shape[1], length, like.shape[3]))


def _resized(tensor: Tensor, slots: int, length: int) -> Tensor:
    resized = _allocate(tensor, slots, length)
    slots, length = min(slots, tensor.shape[0]), min(length, tensor.shape[2])
    resized[:slots, :, :length] = tensor[:slots, :, :length]
    return resized
