"""The KV cache: keys and values of a batch of sequences, one slot each, written in place.

transformers' own dynamic cache appends, which copies everything at each step and keeps all
sequences at one length. Here each sequence has a slot and a length of its own. The model
runner says before each forward pass which slots it covers (`prepare_prefill` for prompts,
`prepare_decode` for one token a sequence) and passes the attention mask that belongs to it.
Which sequence has which slot is known to the scheduler alone.

Tensors are (S, H, L, D): slots, key-value heads, positions, dimension of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KVCache", "create_kv_cache", "position_bytes"]

LENGTH_STEP = 256
SLOT_STEP = 4


@dataclass(slots=True)
class _PassLayout:
    """The slots and positions that the current forward pass writes and attends to.

    Attributes:
        first: The first slot.
        count: Number of slots.
        start: Position of the first token of a prefill.
        width: Number of positions that the pass attends to.
        slots: The slot of each token of a decode, (B,).
        positions: The position of each token of a decode, (B,); None for a prefill.
    """

    first: int = 0
    count: int = 0
    start: int = 0
    width: int = 0
    slots: Tensor | None = None
    positions: Tensor | None = None


class _KVCacheLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers' hook
    """One layer's keys and values, (S, H, L, D) each."""

    def __init__(self, cache: KVCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers' own is untyped
        self._cache = cache
        self.keys: Tensor | None
        self.values: Tensor | None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the first keys and values that arrive."""
        self.keys = _allocate(key_states, self._cache.slots, self._cache.length)
        self.values = _allocate(value_states, self._cache.slots, self._cache.length)
        self.is_initialized = True

    def resize(self, slots: int, length: int) -> None:
        """Change the size, keeping what lies within the new one."""
        if self.keys is not None and self.values is not None:
            self.keys = _resized(self.keys, slots, length)
            self.values = _resized(self.values, slots, length)

    def release(self) -> None:
        """Free the memory."""
        self.keys = self.values = None
        self.is_initialized = False

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another."""
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
        """Store new keys and values; return all that the pass attends to.

        Args:
            key_states: (B, H, T, D).
            value_states: (B, H, T, D).
            args: Ignored.
            kwargs: Ignored.

        Returns:
            Keys and values, (B, H, width, D) each.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        layout = self._cache.layout
        if layout.positions is None:
            return self._store(key_states, value_states)
        return self._store(key_states[:, :, 0], value_states[:, :, 0])

    def store(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Store keys and values that lie token by token; return all that the pass attends to.

        Args:
            keys: (B * T, H, D).
            values: (B * T, H, D).
            length: T.

        Returns:
            Keys and values, (B, H, width, D) each.
        """
        if self._cache.layout.positions is None:
            _, heads, size = keys.shape
            keys = keys.view(-1, length, heads, size).transpose(1, 2)
            values = values.reshape(-1, length, heads, size).transpose(1, 2)
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        return self._store(keys, values)

    def _store(self, new_keys: Tensor, new_values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values, (B, H, T, D) each in a prefill, (B, H, D) in a decode."""
        keys, values = self.keys, self.values
        assert keys is not None  # noqa: S101 - for the type checker
        assert values is not None  # noqa: S101
        layout = self._cache.layout
        last = layout.first + layout.count
        if layout.positions is None:
            end = layout.start + new_keys.shape[2]
            keys[layout.first : last, :, layout.start : end] = new_keys
            values[layout.first : last, :, layout.start : end] = new_values
        elif layout.count == 1:  # a slice costs less than an index
            keys[:1, :, layout.width - 1] = new_keys
            values[:1, :, layout.width - 1] = new_values
        else:
            keys[layout.slots, :, layout.positions] = new_keys
            values[layout.slots, :, layout.positions] = new_values
        return (
            keys[layout.first : last, :, : layout.width],
            values[layout.first : last, :, : layout.width],
        )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and the offset of what a mask covers."""
        return self._cache.layout.start + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of positions before the current pass."""
        return self._cache.layout.start

    def get_max_length(self) -> int:
        """Return -1: the length is not limited."""
        return -1


class KVCache(Cache):
    """The keys and values of a batch of sequences.

    Args:
        layers: Number of layers of the model.
        budget: Most positions in all slots together; a single reservation may exceed it.
    """

    def __init__(self, layers: int, budget: int) -> None:
        self.budget = budget
        self.slots: int = 0
        self.length: int = 0
        self.layout: _PassLayout = _PassLayout()
        self._kv_layers = [_KVCacheLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._kv_layers))

    def can_allocate(self, slots: int, length: int) -> bool:
        """Return True if that many slots of that length are within the budget."""
        slots, length = _rounded(slots, length)
        return slots * length <= self.budget

    def reserve(self, slots: int, length: int) -> None:
        """Allocate `slots` slots of up to `length` positions, for all sequences together.

        What is stored is kept as far as it lies within that. The size grows in steps and
        does not shrink unless it would exceed the budget.
        """
        needed = _rounded(slots, length)
        size = max(self.slots, needed[0]), max(self.length, needed[1])
        if size[0] * size[1] > self.budget:
            size = needed
        if size != (self.slots, self.length):
            # Where memory runs out in between, all layers can hold the smaller of both sizes.
            self.slots, self.length = min(self.slots, size[0]), min(self.length, size[1])
            for layer in self._kv_layers:
                layer.resize(*size)
            self.slots, self.length = size

    def release(self) -> None:
        """Free all memory; what was stored is lost."""
        self.slots = self.length = 0
        for layer in self._kv_layers:
            layer.release()

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy a slot's first `length` positions to another slot."""
        for layer in self._kv_layers:
            layer.copy_slot(source, target, length)

    def store(self, layer: int, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values; return all that the pass attends to.

        Args:
            layer: Number of the layer.
            keys: (B * T, H, D), token by token.
            values: (B * T, H, D).
            length: T.

        Returns:
            Keys and values, (B, H, width, D) each.
        """
        return self._kv_layers[layer].store(keys, values, length)

    def decodes(self, dtype: torch.dtype) -> bool:
        """Return whether the next pass is a decode, and all layers hold numbers of that type."""
        return self.layout.positions is not None and all(
            layer.keys is not None and layer.keys.dtype == dtype for layer in self._kv_layers
        )

    def positions(self) -> list[int]:
        """Return the position of each sequence's token in a decode."""
        positions = self.layout.positions
        return [] if positions is None else [int(position) for position in positions.tolist()]

    def write_addresses(self, slot: int, addresses: Any) -> None:
        """Write where a slot's keys and values begin into an array (layers, 2)."""
        for number, layer in enumerate(self._kv_layers):
            keys, values = layer.keys, layer.values
            assert keys is not None  # noqa: S101 - see `decodes`
            assert values is not None  # noqa: S101
            offset = slot * keys.stride(0) * keys.element_size()
            addresses[number] = keys.data_ptr() + offset, values.data_ptr() + offset

    def prepare_prefill(self, first: int, count: int, start: int, length: int) -> None:
        """Set the next pass: `length` tokens from position `start` in `count` slots."""
        self.layout = _PassLayout(first, count, start, start + length)

    def prepare_decode(self, positions: Tensor, width: int) -> None:
        """Set the next pass: one token in each of the first slots, at its position (B,)."""
        count = positions.shape[0]
        slots = torch.arange(count, device=positions.device)
        self.layout = _PassLayout(0, count, width - 1, width, slots, positions)


def create_kv_cache(config: Any, dtype: torch.dtype, cache_bytes: int) -> KVCache:
    """Return an empty cache for a model.

    Args:
        config: The configuration of the text model.
        dtype: Type of the keys and values.
        cache_bytes: Most bytes to take.
    """
    budget = cache_bytes // position_bytes(config, dtype)
    return KVCache(config.num_hidden_layers, budget=budget)


def position_bytes(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes of keys and values of one token in all layers, at most.

    Args:
        config: The configuration of the text model.
        dtype: Type of the keys and values.
    """
    queries = getattr(config, "num_attention_heads", 1)
    heads = getattr(config, "num_key_value_heads", None) or queries
    # `to_dict`, because the attribute cannot be read where it differs from layer to layer.
    values = config.to_dict()
    sizes = [values.get(name) for name in ("head_dim", "global_head_dim")]
    known = [size for size in sizes if isinstance(size, int)]
    head_dim = max(known, default=config.hidden_size // queries)
    return int(2 * config.num_hidden_layers * heads * head_dim * dtype.itemsize)


def _rounded(slots: int, length: int) -> tuple[int, int]:
    if slots > SLOT_STEP:
        slots = -(-slots // SLOT_STEP) * SLOT_STEP
    return slots, -(-length // LENGTH_STEP) * LENGTH_STEP


def _allocate(like: Tensor, slots: int, length: int) -> Tensor:
    # Zeros, not garbage: a masked position has weight 0, but 0 times NaN is NaN.
    return like.new_zeros((slots, like.shape[1], length, like.shape[3]))


def _resized(tensor: Tensor, slots: int, length: int) -> Tensor:
    resized = _allocate(tensor, slots, length)
    slots, length = min(slots, tensor.shape[0]), min(length, tensor.shape[2])
    resized[:slots, :, :length] = tensor[:slots, :, :length]
    return resized
