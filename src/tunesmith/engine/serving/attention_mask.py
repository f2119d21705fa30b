"""Attention masks for rows of different lengths, and for layers that look back a limited way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .generation_errors import GenerationError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attention_mask", "check_attention"]

FULL, SLIDING = "full_attention", "sliding_attention"


def check_attention(model: Any, name: str) -> None:
    """Raise GenerationError if a model keeps other state than keys and values."""
    others = _layer_types(model.config.get_text_config()) - {FULL, SLIDING}
    if others or getattr(model, "_is_stateful", False):
        kinds = ", ".join(sorted(others)) or "recurrent"
        raise GenerationError(
            f"The model in {name} has layers of a kind that this engine cannot serve yet "
            f"({kinds}); models with full or sliding-window attention can be served.",
            status=501,
            code="unsupported_model",
        )


def attention_mask(
    config: Any, positions: Tensor, width: int, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """Return what is to be added to the attention scores: 0, or the lowest number of the type.

    Args:
        config: The model's configuration.
        positions: Position of each query, [rows, queries] or [1, queries].
        width: Number of keys; key k stands at position k.
        dtype: Type of the model's numbers.

    Returns:
        A mask [rows, 1, queries, width]; one for each kind of layer if the model mixes them.
    """
    distance = (
        positions[:, None, :, None] - torch.arange(width, device=positions.device)[None, None, None]
    )
    window = getattr(config, "sliding_window", None)
    kinds = _layer_types(config)
    past = distance >= 0
    if window is None or kinds == {FULL}:
        return _additive(past, dtype)
    near = _additive(past & (distance < window), dtype)
    return {FULL: _additive(past, dtype), SLIDING: near} if FULL in kinds else near


def _layer_types(config: Any) -> set[str]:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds)
    return {FULL} if getattr(config, "sliding_window", None) is None else {SLIDING}


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )
