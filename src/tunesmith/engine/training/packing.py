"""Examples one after the other in one row, without padding, each seeing itself alone.

Attention is then a kernel for sequences of various lengths: PyTorch's own (`varlen_attn`, flash
attention, on NVIDIA's and AMD's GPUs). Elsewhere the same is computed sequence by sequence, which
tests compare with padded batches. Where the sequences end travels as the attention mask, so it
reaches every layer, also one that is computed again. Knows no losses.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "PACKED_ATTENTION",
    "find_kernel",
    "is_packed",
    "pack",
    "positions",
    "register_attention",
]

PACKED_ATTENTION = "tunesmith_packed"
_LEAST_CAPABILITY = (8, 0)  # of flash attention: Ampere
_PACKED_DIMENSIONS = 4


def pack(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sequences in one row, and where they end.

    Args:
        rows: Token ids, shape (length,), or hidden states, shape (length, hidden).

    Returns:
        Inputs, shape (1, tokens) or (1, tokens, hidden), and a mask of shape
        (1, 1, longest, rows + 1) whose every line has the starts, and at last the number of all
        tokens.
    """
    lengths = [len(row) for row in rows]
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    mask = bounds[None, None, None].expand(1, 1, max(lengths), len(bounds))
    return torch.cat(list(rows))[None], mask


def is_packed(mask: torch.Tensor | None) -> bool:
    """Return whether a mask is one that `pack` made."""
    return mask is not None and mask.dim() == _PACKED_DIMENSIONS


def positions(mask: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return the position of each token in its own sequence, shape (1, tokens).

    Args:
        mask: The mask that `pack` made.
        tokens: How many there are.
    """
    bounds = mask[0, 0, 0].long()
    starts = torch.repeat_interleave(bounds[:-1], bounds.diff(), output_size=tokens)
    return (torch.arange(tokens, device=mask.device) - starts)[None]


def register_attention() -> None:
    """Make the attention known to transformers."""
    from transformers import AttentionInterface  # noqa: PLC0415 - slow to import

    AttentionInterface.register(PACKED_ATTENTION, _attention)


def _attention(  # noqa: PLR0917 - as transformers calls it
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each sequence, causally; return shape (1, tokens, heads, width).

    Query, key and value have shape (1, heads, tokens, width), the latter two perhaps fewer heads.
    """
    if softcap is not None or not is_packed(mask):
        raise ValueError("this attention is for packed sequences, without a cap of its scores")
    if query.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bounds = mask[0, 0, 0]
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    kernel = find_kernel(query.device, query.dtype)
    if kernel is None:
        return _one_by_one(query, key, value, bounds.tolist(), scaling, sliding_window), None
    q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    bounds, longest = bounds.contiguous(), mask.shape[2]
    options = {"scale": scaling, "window_size": window, "enable_gqa": q.shape[1] != k.shape[1]}
    output: torch.Tensor = kernel(q, k, v, bounds, bounds, longest, longest, **options)
    return output[None], None


def _one_by_one(  # noqa: PLR0917
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: list[int],
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    parts = []
    for start, end in pairwise(bounds):
        place = slice(start, end)
        length = end - start
        band = None
        if window is not None and window < length:
            ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
            band = ones.tril() & ones.triu(1 - window)
        parts.append(
            functional.scaled_dot_product_attention(
                query[:, :, place],
                key[:, :, place],
                value[:, :, place],
                attn_mask=band,
                is_causal=band is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def find_kernel(device: torch.device, dtype: torch.dtype) -> Callable[..., torch.Tensor] | None:
    """Return PyTorch's attention for sequences of various lengths; None where it cannot run."""
    if device.type != "cuda" or dtype not in {torch.bfloat16, torch.float16}:
        return None
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return None
    try:
        from torch.nn.attention import varlen  # noqa: PLC0415 - newer versions of PyTorch have it
    except ImportError:
        return None
    kernel: Any = varlen.varlen_attn
    wanted = {"scale", "window_size", "enable_gqa"}
    return kernel if wanted <= inspect.signature(kernel).parameters.keys() else None
