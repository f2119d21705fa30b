"""Weight prepacking for CPUs: the linear layers of a model that generates; see `prepacked`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from tunesmith.engine.models.prepacked import can_prepack, prepack, prepacked_linear

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["prepack_linear_layers"]


def prepack_linear_layers(model: nn.Module, keep: nn.Module | None = None) -> None:
    """Prepack the weights of a model's linear layers, on processors where that helps.

    The plain weights of prepacked layers are freed, except that of `keep`.

    Args:
        model: A model in evaluation mode.
        keep: A layer whose plain weight is needed as well.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    suitable = [
        layer
        for layer in layers
        if layer.weight.numel()  # the fused decoder leaves none
        and layer.weight.dtype == torch.bfloat16
        and layer.weight.device.type == "cpu"
    ]
    if not suitable or not can_prepack(suitable[0].weight, suitable[0].bias):
        return
    for layer in suitable:
        _prepack(layer)
        if layer is not keep:
            # An empty placeholder, which keeps the type and the device.
            layer.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)


def _prepack(layer: nn.Linear) -> None:
    with torch.inference_mode():
        packed = prepack(layer.weight)
    bias = layer.bias

    def forward(inputs: Tensor) -> Tensor:
        return prepacked_linear(inputs, packed, bias)

    # The layer and its hooks stay; only its matrix product is replaced.
    layer.forward = forward  # type: ignore[method-assign,assignment]
