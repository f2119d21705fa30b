"""Linear layers joined into one product, with weights in the form that a processor reads best.

Several layers with the same input become one matrix. It is kept in oneDNN's layout where that
helps (`models.prepacked`), and where 4-bit weights are asked for also as 4-bit numbers in groups
of 32, each with its own scale and offset. At a few rows a product takes as long as reading the
weights does, so there the 4-bit ones are used. They need more arithmetic, so from some rows on
the others are, which then have the 4-bit ones' values: an answer does not depend on its company.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.models.prepacked import prepack, prepacked_linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "LANES",
    "PackedLinear",
    "WeightFormat",
    "can_quantize",
    "pack_lanes",
    "quantization_error",
]

WeightFormat: TypeAlias = Literal["unquantized", "int4"]

LANES = 16  # outputs that compiled code computes side by side
_GROUP = 32
_LEVELS = 15
_OUTPUTS = 16  # PyTorch's kernel takes a multiple of it
_INT4_ROWS = 6  # up to here the 4-bit product is the faster one


class PackedLinear:
    """One product in place of several linear layers that have the same input.

    The layers keep their type, but lose their weights.

    Args:
        parts: The layers; their outputs follow each other.
        weights: The form in which to keep the weights.
        prepacked: Whether to keep them in oneDNN's layout.
        lanes: Whether to keep them, too, in the order that compiled code reads.

    Attributes:
        outputs: Those of each layer.
        bias: (out); None where no layer has one.
        is_int4: Whether the weights are 4-bit numbers.
    """

    def __init__(
        self,
        parts: Sequence[nn.Linear],
        weights: WeightFormat,
        *,
        prepacked: bool,
        lanes: bool = False,
    ) -> None:
        self.outputs: list[int] = [part.out_features for part in parts]
        self.bias: Tensor | None = None
        self.is_int4: bool = weights == "int4"
        self._lanes: Tensor | None = None
        self._int4: tuple[Tensor, Tensor] | None = None
        self._packed: Tensor | None = None
        self._plain: Tensor | None = None
        with torch.inference_mode():
            weight = torch.cat([part.weight for part in parts])
            if any(part.bias is not None for part in parts):
                self.bias = torch.cat([_bias(part) for part in parts])
            for part in parts:
                # An empty placeholder, which keeps the type and the device.
                part.weight = nn.Parameter(part.weight.new_empty(0), requires_grad=False)
            if weights == "int4":
                numbers, scales, weight = _quantized(weight)
                packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)  # noqa: SLF001
                self._int4 = (packed, scales)
                if lanes:
                    self._lanes = _pack_int4(numbers, scales)
            elif lanes:
                self._lanes = pack_lanes(weight)
            if prepacked:
                self._packed = prepack(weight)
            else:
                self._plain = weight

    def __call__(self, inputs: Tensor, add: Tensor | None = None) -> Tensor:
        """Return the product with `inputs` (N, in), and `add` (N, out) added to it."""
        if self._int4 is not None and inputs.shape[0] <= _INT4_ROWS:
            packed, scales = self._int4
            output: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(  # noqa: SLF001
                inputs, packed, _GROUP, scales
            )
            if self.bias is not None:
                output += self.bias
            return output if add is None else output.add_(add)
        if self._packed is not None:
            return prepacked_linear(inputs, self._packed, self.bias, add)
        assert self._plain is not None  # noqa: S101 - for the type checker
        output = functional.linear(inputs, self._plain, self.bias)
        return output if add is None else output.add_(add)

    def take_lanes(self) -> Tensor:
        """Return the weights in the order that compiled code reads, which are not kept here."""
        lanes, self._lanes = self._lanes, None
        assert lanes is not None  # noqa: S101 - for the type checker
        return lanes


def pack_lanes(weight: Tensor) -> Tensor:
    """Return a bfloat16 weight (out, in) as (out / 16, in / 2, 16): two inputs of 16 outputs."""
    outputs, inputs = weight.shape
    pairs = weight.detach().reshape(outputs // LANES, LANES, inputs // 2, 2).permute(0, 2, 1, 3)
    return pairs.contiguous().view(torch.int32).squeeze(-1)


def _pack_int4(numbers: Tensor, scales: Tensor) -> Tensor:
    """Return 4-bit weights as (out / 16, 5 * in / 32, 16): four times 8 inputs, then the scales.

    Args:
        numbers: From 0 to 15, (out, in).
        scales: Scale and offset of each group, (in / 32, out, 2).
    """
    outputs, inputs = numbers.shape
    blocks, groups = outputs // LANES, inputs // _GROUP
    eights = numbers.view(blocks, LANES, groups, 4, 8).permute(0, 2, 3, 1, 4).to(torch.int64)
    packed = (eights << torch.arange(0, 32, 4)).sum(-1)  # (blocks, groups, 4, 16)
    bits = scales.view(torch.int16).to(torch.int64) & 0xFFFF
    pairs = ((bits[..., 0] << 16) | bits[..., 1]).view(groups, blocks, 1, LANES).transpose(0, 1)
    steps = torch.cat([packed, pairs], dim=2).view(blocks, 5 * groups, LANES)
    return torch.where(steps >= 1 << 31, steps - (1 << 32), steps).to(torch.int32)


def can_quantize(layers: Sequence[nn.Linear]) -> bool:
    """Return whether 4-bit products of these layers exist here and are right."""
    fit = all(
        layer.in_features % _GROUP == 0
        and layer.out_features % _OUTPUTS == 0
        and layer.weight.dtype == torch.bfloat16
        and layer.weight.device.type == "cpu"
        for layer in layers
    )
    return fit and bool(layers) and _is_exact(layers[0])


def quantization_error(layers: Sequence[nn.Linear]) -> float:
    """Return by how much 4 bits change weights, relative to their norm.

    The largest of the first, the middle and the last layer is taken: a model's weights are 4-bit
    numbers everywhere or nowhere.
    """
    layers = [layers[0], layers[len(layers) // 2], layers[-1]]
    with torch.inference_mode():
        return max(
            float((_quantized(layer.weight)[2] - layer.weight).float().norm())
            / max(float(layer.weight.float().norm()), 1e-12)
            for layer in layers
        )


def _quantized(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise a weight (out, in), each group between its least and its greatest number.

    Returns:
        Numbers from 0 to 15, (out, in); scale and offset of each group, (in / 32, out, 2); and the
        weight that they stand for, (number - 8) * scale + offset.
    """
    outputs, inputs = weight.shape
    groups = weight.float().view(outputs, inputs // _GROUP, _GROUP)
    least, greatest = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = ((greatest - least) / _LEVELS).clamp(min=1e-9)
    offset = least + 8 * scale
    scale, offset = scale.to(weight.dtype), offset.to(weight.dtype)
    numbers = ((groups - offset.float()) / scale.float() + 8).round().clamp(0, _LEVELS)
    stands_for = ((numbers - 8) * scale.float() + offset.float()).to(weight.dtype)
    scales = torch.cat([scale, offset], dim=-1).transpose(0, 1).contiguous()
    return (
        numbers.to(torch.int32).view(outputs, inputs),
        scales,
        stands_for.view(outputs, inputs),
    )


def _is_exact(layer: nn.Linear) -> bool:
    """Return whether the 4-bit product exists and equals the one of the numbers it stands for."""
    inputs = torch.linspace(-1, 1, 2 * layer.in_features).reshape(2, -1).to(layer.weight.dtype)
    with torch.inference_mode():
        numbers, scales, weight = _quantized(layer.weight)
        try:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)  # noqa: SLF001
            result = torch.ops.aten._weight_int4pack_mm_for_cpu(  # noqa: SLF001
                inputs, packed, _GROUP, scales
            )
        except (AttributeError, RuntimeError):  # NotImplementedError is a RuntimeError
            return False
        plain = functional.linear(inputs.float(), weight.float())
    return float((result - plain).abs().max()) <= 2e-2 * max(float(plain.abs().max()), 1e-6)


def _bias(layer: nn.Linear) -> Tensor:
    bias: Tensor | None = layer.bias
    return layer.weight.new_zeros(layer.out_features) if bias is None else bias
