"""Keeps a running training within its memory: layers whose activations are computed again.

Knows nothing of steps and files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from torch import nn

__all__ = ["recompute_layers"]


def recompute_layers(layers: nn.ModuleList, count: int) -> None:
    """Compute the activations of the first layers again in the backward pass, not keep them.

    Args:
        layers: The transformer layers of a model of transformers.
        count: How many of them.
    """
    for layer in list(layers)[:count]:
        forward = layer.forward

        def checkpointed(*args: Any, _forward: Any = forward, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return _forward(*args, **kwargs)
            return checkpoint(_forward, *args, use_reentrant=False, **kwargs)

        layer.forward = checkpointed
