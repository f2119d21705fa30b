"""Weights in the layout that the processor multiplies in, reordered once instead of at each use.

PyTorch hands bf16 weights to oneDNN in rows, and oneDNN reorders them at every product;
with 32 rows in a batch that is a third of the time. Inductor's own operators for packed
weights do without. They are not public, so a probe decides whether they are used: where
they are missing or say something else than the plain product, nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["pack_linear_layers"]

ROWS_HINT = 32
TOLERANCE = 2e-2  # of bf16's rounding, relative


def pack_linear_layers(model: nn.Module, keep: nn.Module | None = None) -> None:
    """Pack the weights of a model's linear layers, on processors where that helps.

    The plain weights of packed layers are let go, but for those of `keep`.

    Args:
        model: A model in evaluation mode.
        keep: A layer whose plain weight is needed besides.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    fit = [
        layer
        for layer in layers
        if layer.weight.dtype == torch.bfloat16 and layer.weight.device.type == "cpu"
    ]
    if not fit or not _probe(fit[0]):
        return
    for layer in fit:
        _pack(layer)
        if layer is not keep:
            # An empty stand-in: it still tells type and device.
            layer.weight = nn.Parameter(layer.weight.new_empty(0), requires_grad=False)


def _pack(layer: nn.Linear) -> None:
    with torch.inference_mode():
        packed = _reordered(layer.weight)
    bias = layer.bias

    def forward(inputs: Tensor) -> Tensor:
        return _product(inputs, packed, bias)

    # The layer itself stays, and the hooks on it: only how it multiplies is replaced.
    layer.forward = forward  # type: ignore[method-assign,assignment]


def _probe(layer: nn.Linear) -> bool:
    """Return True if the packed product exists and says what the plain one does."""
    inputs = torch.linspace(-1, 1, 3 * layer.in_features).reshape(3, -1).to(layer.weight.dtype)
    with torch.inference_mode():
        try:
            packed = _product(inputs, _reordered(layer.weight), layer.bias)
        except (AttributeError, RuntimeError):  # NotImplementedError is a RuntimeError
            return False
        plain = nn.functional.linear(inputs, layer.weight, layer.bias)
    scale = float(plain.abs().max())
    return float((packed - plain).abs().max()) <= TOLERANCE * max(scale, 1e-6)


def _reordered(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_HINT)  # noqa: SLF001
    return packed


def _product(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
        inputs, packed, bias, "none", [], ""
    )
    return result
