"""Products with weights in oneDNN's own layout, reordered once and not at each use.

PyTorch passes bf16 weights to oneDNN in row-major order, and oneDNN reorders them for every
matrix product, which takes a third of a small product's time. Inductor's operators for
prepacked weights avoid it. They are not public, so a test product decides whether they are
used: where they are missing or differ from the plain product, the caller keeps that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["can_prepack", "prepack", "prepacked_linear"]

_BATCH_SIZE_HINT = 32
_TOLERANCE = 2e-2  # relative; bf16 rounding


def can_prepack(weight: Tensor, bias: Tensor | None = None) -> bool:
    """Return whether the product with a prepacked weight exists here and equals the plain one."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        return False
    width = weight.shape[1]
    inputs = torch.linspace(-1, 1, 3 * width).reshape(3, -1).to(weight.dtype)
    with torch.inference_mode():
        try:
            packed = prepacked_linear(inputs, prepack(weight), bias)
        except (AttributeError, RuntimeError):  # NotImplementedError is a RuntimeError
            return False
        plain = nn.functional.linear(inputs, weight, bias)
    scale = float(plain.abs().max())
    return float((packed - plain).abs().max()) <= _TOLERANCE * max(scale, 1e-6)


def prepack(weight: Tensor) -> Tensor:
    """Return a weight, shape (out, in), in the layout of `prepacked_linear`."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001 - see above
        weight.detach(), _BATCH_SIZE_HINT
    )
    return packed


def prepacked_linear(
    inputs: Tensor, packed: Tensor, bias: Tensor | None = None, add: Tensor | None = None
) -> Tensor:
    """Return what `nn.functional.linear` does, up to rounding, by a weight from `prepack`.

    `add` (..., out), where it is given, is added to it.
    """
    if add is not None:
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(  # noqa: SLF001 - see above
            inputs, add, packed, bias, "add"
        )
        return total
    result: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - see above
        inputs, packed, bias, "none", [], ""
    )
    return result
