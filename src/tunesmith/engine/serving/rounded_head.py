"""An output layer in 8 bits, which says how far each logit may be from the exact one.

Reading the output layer is a quarter of what a token of a small model costs. Where only the most
likely token is wanted, a layer of half the bytes finds the few tokens that it can be, and these
are computed again with the exact weights; so the token is the same. The hidden state is taken as
the sum of two 8-bit vectors, which leaves the weights' rounding as the only error that counts.

oneDNN's operator is not public, so a test product decides whether it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RoundedHead", "round_head"]

_LEVELS = 127
_SLACK = 1.01  # for the rounding of float32


class RoundedHead:
    """Logits of one hidden state, and how far they may be off.

    Args:
        weight: The output layer's weight (V, D), on a processor.
    """

    def __init__(self, weight: Tensor) -> None:
        with torch.inference_mode():
            exact = weight.detach().float()
            scales = (exact.abs().amax(dim=1) / _LEVELS).clamp(min=1e-12)
            numbers = (exact / scales.unsqueeze(1)).round()
            rounded = numbers * scales.unsqueeze(1)
            self._error = float((exact - rounded).norm(dim=1).max())
            self._norm = float(rounded.norm(dim=1).max())
            self._scales = scales
            self._zeros = torch.zeros(len(scales), dtype=torch.int32)
            self._packed: Tensor = torch.ops.onednn.qlinear_prepack(numbers.to(torch.int8), None)

    def logits(self, hidden: Tensor) -> tuple[Tensor, float]:
        """Return the logits (V) after a hidden state (D), and the most by which one is off."""
        exact = hidden.float()
        size = float(exact.abs().max())
        coarse = max(size / _LEVELS, 1e-30)
        fine = coarse / (2 * _LEVELS)
        first = (exact / coarse).round()
        rest = exact - first * coarse
        second = (rest / fine).round()
        parts = torch.stack([first, second]).to(torch.int8)
        products: Tensor = torch.ops.onednn.qlinear_pointwise(
            parts,
            1.0,
            0,
            self._packed,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        logits = (products[0] * coarse).add_(products[1], alpha=fine)
        left = float((rest - second * fine).norm())
        bound = float(exact.norm()) * self._error + left * self._norm
        return logits, _SLACK * bound


def round_head(layer: nn.Linear) -> RoundedHead | None:
    """Return an output layer in 8 bits, or None where the product does not exist or is wrong."""
    weight: Tensor = layer.weight
    bias: Tensor | None = layer.bias
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or bias is not None:
        return None
    hidden = weight[: min(8, len(weight))].float().sum(dim=0)
    try:
        head = RoundedHead(weight)
        logits, bound = head.logits(hidden)
    except (AttributeError, RuntimeError):  # NotImplementedError is a RuntimeError
        return None
    is_bounded = float((logits - weight.float() @ hidden).abs().max()) <= bound
    return head if is_bounded and bound > 0 else None
