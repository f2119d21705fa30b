"""One request at a time on a processor: a token through a fused decoder's layers in one call.

It needs numba (extra `compiled`), which compiles `compiled_kernels` once and keeps the result on
disk, and a second copy of the layers' weights, in the order in which that code reads them; so it
is for small models, where what surrounds a token's products costs as much as these. Where numba
is missing, or does not compute what the decoder does, the decoder runs as it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from .lora import join_adapter
from .packed_linear import LANES, pack_lanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .kv_cache import KVCache
    from .lora import LoraAdapter, MultiLora
    from .packed_linear import PackedLinear

__all__ = ["MOST_ROWS", "CompiledDecoder", "find_kernel"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

MOST_ROWS = 2  # sequences that run one after the other: more are faster in products of all
MOST_BYTES = 1 << 30  # of weights times threads: one thread reads them, where PyTorch's use all
_SCRATCH = 4096


def find_kernel(parameters: int) -> Any:
    """Return the compiled function, or None where numba is missing or it would not help.

    Args:
        parameters: Number of weights in the layers.
    """
    if 2 * parameters * torch.get_num_threads() > MOST_BYTES:
        return None
    try:
        from .compiled_kernels import run_layers  # noqa: PLC0415 - slow, and an extra
    except ImportError:
        return None
    except Exception:
        logger.exception("compiled code is not used: numba does not work here")
        return None
    return run_layers


class CompiledDecoder:
    """A decoder's layers and its last norm, for one token of each sequence.

    Args:
        kernel: What `find_kernel` returned.
        products: Of each layer, those of qkv, output, gate-up and down, which have `lanes`.
        names: Of each product, its modules.
        norms: Each layer's two norms, and the last one, (D) each.
        head_norms: Those of queries and keys of each layer, (2, d) each, or none.
        eps: That of the norms.
        scaling: Of the attention's scores.
        shape: Key-value heads, queries for each of them, size of a head.
    """

    def __init__(
        self,
        kernel: Any,
        products: Sequence[Sequence[PackedLinear]],
        names: Sequence[Sequence[tuple[str, ...]]],
        *,
        norms: Sequence[Tensor],
        head_norms: Sequence[Tensor],
        eps: float,
        scaling: float,
        shape: tuple[int, int, int],
    ) -> None:
        layers = len(products)
        self._kernel = kernel
        self._is_int4 = products[0][0].is_int4
        # One product at a time, so that few weights are in memory twice.
        self._weights: tuple[Any, ...] = tuple(
            torch.stack([layer[place].take_lanes() for layer in products]).numpy()
            for place in range(len(products[0]))
        )
        biases = [layer[0].bias for layer in products]
        self._bias = _stacked([bias for bias in biases if bias is not None], (0, 0))
        self._norms = _stacked(norms, (0, 0))
        self._head_norms = _stacked(head_norms, (0, 2, shape[2]))
        self._names = names
        self._sizes = [[product.outputs for product in layer] for layer in products]
        self._eps, self._scaling = np.float32(eps), np.float32(scaling)
        self._shape = shape
        widest = max(sum(outputs) for outputs in self._sizes[0])
        self._scratch: Any = np.zeros((4, max(widest, _SCRATCH)), np.float32)
        self._addresses: Any = np.zeros((layers, 2), np.int64)
        self._no_adapter: Any = np.zeros((layers, 4, 3), np.int64)
        self._adapters: WeakKeyDictionary[LoraAdapter, tuple[Any, list[Tensor]]] = (
            WeakKeyDictionary()
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(int(part.nbytes) for part in self._weights)

    def can_run(self, cache: KVCache, rows: int) -> bool:
        """Return whether this pass, with one token of each of `rows` sequences, is run here."""
        return rows <= MOST_ROWS and cache.decodes(torch.bfloat16)

    def run(self, hidden: Tensor, rotation: Tensor, cache: KVCache, lora: MultiLora) -> Tensor:
        """Return what the last norm returns, (B, D), and fill the cache.

        Args:
            hidden: The token of each sequence, embedded, (B, D).
            rotation: Cosines and signed sines of its position, (B, 2, d).
            cache: Prepared for this pass.
            lora: With the adapters of this pass.
        """
        changed = hidden.float()  # a copy
        angles = rotation.float()
        positions = cache.positions()
        for slot, position in enumerate(positions):
            cache.write_addresses(slot, self._addresses)
            adapter = lora.adapters[slot] if lora.adapters else None
            self._kernel(
                changed[slot].numpy(),
                position,
                self._is_int4,
                self._weights,
                self._bias,
                self._norms,
                self._head_norms,
                self._eps,
                self._scaling,
                angles[slot].numpy(),
                self._addresses,
                cache.length,
                self._no_adapter if adapter is None else self._table(adapter),
                self._shape,
                self._scratch,
            )
        return changed.to(hidden.dtype)

    def _table(self, adapter: LoraAdapter) -> Any:
        """Return the addresses and ranks of an adapter's matrices, which are packed and kept."""
        if adapter not in self._adapters:
            table: Any = self._no_adapter.copy()
            kept: list[Tensor] = []
            for number, (names, sizes) in enumerate(zip(self._names, self._sizes, strict=True)):
                for place, (modules, outputs) in enumerate(zip(names, sizes, strict=True)):
                    joined = join_adapter(adapter, modules, outputs)
                    if joined is None:
                        continue
                    a, b = joined
                    missing = -a.shape[0] % LANES  # ranks
                    a = pack_lanes(torch.nn.functional.pad(a, (0, 0, 0, missing)))
                    b = pack_lanes(torch.nn.functional.pad(b, (0, missing)))
                    kept += [a, b]
                    table[number, place] = a.data_ptr(), b.data_ptr(), a.shape[0] * LANES
            self._adapters[adapter] = table, kept
        return self._adapters[adapter][0]


def _stacked(tensors: Sequence[Tensor], empty: tuple[int, ...]) -> Any:
    """Return tensors as one array, or an empty one of that shape."""
    if not tensors:
        return np.zeros(empty, np.float32)
    return torch.stack([tensor.detach().float() for tensor in tensors]).numpy()
