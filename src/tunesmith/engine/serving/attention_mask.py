"""Causal attention masks for sequences of different lengths, sliding windows included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attention_fault", "attention_mask"]

FULL, SLIDING = "full_attention", "sliding_attention"


def attention_fault(model: Any) -> str:
    """Return what else than keys and values a model's layers keep; empty if nothing."""
    others = _layer_types(model.config.get_text_config(decoder=True)) - {FULL, SLIDING}
    if not others and not getattr(model, "_is_stateful", False):
        return ""
    return (
        f"it has layers of another kind than attention ({', '.join(sorted(others)) or 'recurrent'})"
    )


def attention_mask(
    config: Any, positions: Tensor, width: int, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """Return the additive attention mask: 0, or the lowest number of the type where masked.

    Args:
        config: The configuration of the text model.
        positions: Position of each query, (B, T) or (1, T).
        width: Number of keys; key k is at position k.
        dtype: The model's type.

    Returns:
        A mask (B, 1, T, width); one for each kind of layer if the model mixes them.
    """
    distance = (  # (B, 1, T, width)
        positions[:, None, :, None] - torch.arange(width, device=positions.device)[None, None, None]
    )
    window = getattr(config, "sliding_window", None)
    kinds = _layer_types(config)
    past = distance >= 0
    if window is None or kinds == {FULL}:
        return _additive(past, dtype)
    sliding = _additive(past & (distance < window), dtype)
    return {FULL: _additive(past, dtype), SLIDING: sliding} if FULL in kinds else sliding


def _layer_types(config: Any) -> set[str]:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds)
    return {FULL} if getattr(config, "sliding_window", None) is None else {SLIDING}


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )
