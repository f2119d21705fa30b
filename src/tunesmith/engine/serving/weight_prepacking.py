"""Weight prepacking for CPUs: weights in oneDNN's own layout, reordered once and not at each use.

PyTorch passes bf16 weights to oneDNN in row-major order, and oneDNN reorders them for every
matrix product; at batch size 32 that takes a third of the time. Inductor's operators for
prepacked weights avoid it. They are not public, so a test product decides whether they are
used: where they are missing or their result differs from the plain one, nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["prepack_linear_layers"]

BATCH_SIZE_HINT = 32
TOLERANCE = 2e-2  # relative; bf16 rounding


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
        if layer.weight.dtype == torch.bfloat16 and layer.weight.device.type == "cpu"
    ]
    if not suitable or not _is_exact(suitable[0]):
        return
    for layer in suitable:
        _prepack(layer)
        if layer is not keep:
            # An empty placeholder, which keeps the type and the device.
            layer.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)


def _prepack(layer: nn.Linear) -> None:
    with torch.inference_mode():
        packed = _reorder(layer.weight)
    bias = layer.bias

    def forward(inputs: Tensor) -> Tensor:
        return _linear(inputs, packed, bias)

    # The layer and its hooks stay; only its matrix product is replaced.
    layer.forward = forward  # type: ignore[method-assign,assignment]


def _is_exact(layer: nn.Linear) -> bool:
    """Return True if the prepacked product exists and equals the plain one up to rounding."""
    inputs = torch.linspace(-1, 1, 3 * layer.in_features).reshape(3, -1).to(layer.weight.dtype)
    with torch.inference_mode():
        try:
            packed = _linear(inputs, _reorder(layer.weight), layer.bias)
        except (AttributeError, RuntimeError):  # NotImplementedError is a RuntimeError
            return False
        plain = nn.functional.linear(inputs, layer.weight, layer.bias)
    scale = float(plain.abs().max())
    return float((packed - plain).abs().max()) <= TOLERANCE * max(scale, 1e-6)


def _reorder(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, BATCH_SIZE_HINT)  # noqa: SLF001
    return packed


def _linear(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
        inputs, packed, bias, "none", [], ""
    )
    return result
