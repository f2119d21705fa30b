"""Linear layers with a trained low-rank term: y = W x + scale B A x, W frozen.

The arithmetic of an adapter's layers alone; `lora` says where they go and how they are saved.
What surrounds the products costs more than the products where a step has few tokens, so layers
that read the same input (query, key and value; gate and up) are computed together.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.engine.models.prepacked import can_prepack, prepack, prepacked_linear

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LoraGroup", "LoraLinear", "group_layers"]

# Siblings that read the same input in the models of transformers. A guess: see LoraGroup.
_SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
# Up to which the adapter's products are faster in 32 bits on a processor: in bfloat16 each
# takes some 60 microseconds, however small it is, and the matrices would have to be cast.
_SMALL_TOKENS = 128


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank term."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight: torch.Tensor = base.weight
        self.bias: torch.Tensor | None = base.bias
        device = base.weight.device
        # A: (rank, in), B: (out, rank)
        self.lora_a: nn.Parameter = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.lora_b: nn.Parameter = nn.Parameter(
            torch.zeros(base.out_features, rank, device=device)
        )
        # A random and B zero, as in the reference code, so that training starts from the base.
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.scale: float = alpha / rank
        self._groups: list[LoraGroup] = [LoraGroup([self])]  # in a list: it is no submodule

    def join(self, group: LoraGroup) -> None:
        """Compute this layer with others from now on."""
        self._groups = [group]

    def prepack(self) -> None:
        """Keep the frozen weights in the layouts that small products use."""
        self._groups[0].prepack()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        return self._groups[0].output(self, x)


class LoraGroup:
    """Layers that probably read the same input, computed together when the first is called.

    Whether they do is seen at each call: a layer that is called with another tensor than the
    first was is computed alone, and so are all of them from then on.

    Args:
        layers: In the order in which the model calls them; all have one rank and scale.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers: tuple[LoraLinear, ...] = tuple(layers)
        self.scale: float = layers[0].scale
        self.rank: int = layers[0].lora_a.shape[0]
        self.widths: tuple[int, ...] = tuple(layer.weight.shape[0] for layer in layers)
        self._packed: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None
        self._input: torch.Tensor | None = None
        self._waiting: dict[LoraLinear, torch.Tensor] = {}
        self._joint_a: tuple[tuple[int, ...], torch.Tensor, torch.Tensor] | None = None

    def prepack(self) -> None:
        """Keep the frozen weights in the layouts of their products, forward and backward."""
        if self._packed is not None or not can_prepack(self.layers[0].weight):
            return
        weight = torch.cat([layer.weight.detach() for layer in self.layers])
        biases = [layer.bias for layer in self.layers]
        bias = None if None in biases else torch.cat([b for b in biases if b is not None])
        if bias is None and any(b is not None for b in biases):
            return
        self._packed = prepack(weight), prepack(weight.T.contiguous()), bias

    def output(self, layer: LoraLinear, x: torch.Tensor) -> torch.Tensor:
        """Return the output of one of the layers, shape (..., out)."""
        if len(self.layers) == 1:
            return self._outputs(x)[0]
        if layer is not self.layers[0] and x is self._input and layer in self._waiting:
            output = self._waiting.pop(layer)
            if not self._waiting:
                self._input = None
            return output
        if layer is not self.layers[0]:
            self._separate()
            alone: torch.Tensor = layer(x)
            return alone
        outputs = self._outputs(x)
        self._input = x
        self._waiting = dict(zip(self.layers[1:], outputs[1:], strict=True))
        return outputs[0]

    def frozen(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (tokens, in) to the frozen layers' outputs, (tokens, out) each."""
        if self._packed is not None:
            weight, _, bias = self._packed
            y = prepacked_linear(x, weight, bias)
            return [y] if len(self.widths) == 1 else list(y.split_with_sizes(self.widths, dim=1))
        return [nn.functional.linear(x, layer.weight, layer.bias) for layer in self.layers]

    def frozen_backward(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the gradients of the frozen layers' outputs to that of their input."""
        if self._packed is not None:
            joint = gradients[0] if len(gradients) == 1 else torch.cat(tuple(gradients), dim=1)
            return prepacked_linear(joint, self._packed[1])
        total = gradients[0] @ self.layers[0].weight
        for gradient, layer in zip(gradients[1:], self.layers[1:], strict=True):
            total.addmm_(gradient, layer.weight)
        return total

    def joint_a(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return all A as one matrix, (layers * rank, in), and their gradient or None.

        Without a copy where the optimizer keeps them side by side in one buffer.
        """
        first = self.layers[0].lora_a
        if len(self.layers) == 1:
            return first, first.grad
        places = tuple(layer.lora_a.data_ptr() for layer in self.layers)
        if self._joint_a is not None and self._joint_a[0] == places:
            return self._joint_a[1], self._joint_a[2]
        matrices = [layer.lora_a.detach() for layer in self.layers]
        gradients = [g for layer in self.layers if (g := layer.lora_a.grad) is not None]
        are_joined = len(gradients) == len(matrices) and _are_adjacent(gradients)
        if not (are_joined and _are_adjacent(matrices)):
            return torch.cat(matrices), None
        shape = len(matrices) * self.rank, first.shape[1]
        joint = matrices[0].as_strided(shape, matrices[0].stride())
        joint_gradient = gradients[0].as_strided(shape, gradients[0].stride())
        self._joint_a = places, joint, joint_gradient
        return joint, joint_gradient

    def _outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        matrices = [layer.lora_a for layer in self.layers] + [layer.lora_b for layer in self.layers]
        result: tuple[torch.Tensor, ...] = _LoraFunction.apply(  # type: ignore[no-untyped-call]  # in torch
            x, self, *matrices
        )
        return result

    def _separate(self) -> None:
        is_packed = self._packed is not None
        self._waiting, self._input, self._packed = {}, None, None
        for layer in self.layers:
            alone = LoraGroup([layer])
            if is_packed:
                alone.prepack()
            layer.join(alone)


def group_layers(model: nn.Module) -> None:
    """Group the adapted layers of a model that read the same input."""
    for parent in list(model.modules()):
        for names in _SAME_INPUT:
            layers = [getattr(parent, name, None) for name in names]
            found = [layer for layer in layers if isinstance(layer, LoraLinear)]
            shapes = {(layer.lora_a.shape, layer.scale, layer.bias is None) for layer in found}
            if len(found) > 1 and len(shapes) == 1:
                group = LoraGroup(found)
                for layer in found:
                    layer.join(group)


class _LoraFunction(torch.autograd.Function):
    """The outputs of a group, saving only x and A x for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, group: LoraGroup, *matrices: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])  # (tokens, in)
        outputs = group.frozen(flat)  # (tokens, out) each
        bs = matrices[len(outputs) :]
        a, _ = group.joint_a()
        if _is_small(flat):
            inner = flat.float() @ a.T  # (tokens, layers * rank)
            parts = _ranks(inner, group)
            outputs = [
                torch.addmm(y.float(), part, b.T, alpha=group.scale).to(x.dtype)
                for y, part, b in zip(outputs, parts, bs, strict=True)
            ]
        else:
            inner = flat @ a.to(x.dtype).T
            outputs = [
                y.addmm_(part, (b * group.scale).to(x.dtype).T)
                for y, part, b in zip(outputs, _ranks(inner, group), bs, strict=True)
            ]
        ctx.save_for_backward(flat, inner, *matrices)
        ctx.group = group
        ctx.shape = x.shape
        return tuple(y.view(*x.shape[:-1], y.shape[-1]) for y in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        flat, inner, *matrices = ctx.saved_tensors
        group: LoraGroup = ctx.group
        grad_ys = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        bs = matrices[len(grad_ys) :]
        a, a_grad = group.joint_a()
        parts = _ranks(inner, group)
        grad_x = group.frozen_backward(grad_ys) if ctx.needs_input_grad[0] else None
        if _is_small(flat):
            wide = [gradient.float() for gradient in grad_ys]
            grad_inner = _beside([gradient @ b for gradient, b in zip(wide, bs, strict=True)])
            grad_inner.mul_(group.scale)
            grad_bs = [
                _add_product(b.grad, gradient.T, part, group.scale)
                for b, gradient, part in zip(bs, wide, parts, strict=True)
            ]
            grad_a = _add_product(a_grad, grad_inner.T, flat.float(), 1.0)
            if grad_x is not None:
                grad_x = grad_x.float().addmm_(grad_inner, a).to(flat.dtype)
        else:
            grad_inner = _beside(
                [g @ (b * group.scale).to(flat.dtype) for g, b in zip(grad_ys, bs, strict=True)]
            )
            grad_bs = [
                (gradient.T @ part).float().mul_(group.scale)
                for gradient, part in zip(grad_ys, parts, strict=True)
            ]
            grad_a = (grad_inner.T @ flat).float()
            if grad_x is not None:
                grad_x.addmm_(grad_inner, a.to(flat.dtype))
        count = len(grad_ys)
        grad_as = (
            [None] * count if grad_a is None else grad_a.split_with_sizes([group.rank] * count)
        )
        return None if grad_x is None else grad_x.view(ctx.shape), None, *grad_as, *grad_bs


def _is_small(flat: torch.Tensor) -> bool:
    return flat.shape[0] <= _SMALL_TOKENS and flat.device.type == "cpu"


def _ranks(inner: torch.Tensor, group: LoraGroup) -> list[torch.Tensor]:
    """Return each layer's part of A x, shape (tokens, rank)."""
    if len(group.layers) == 1:
        return [inner]
    return list(inner.split_with_sizes([group.rank] * len(group.layers), dim=1))


def _beside(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=1)


def _add_product(
    gradient: torch.Tensor | None, left: torch.Tensor, right: torch.Tensor, scale: float
) -> torch.Tensor | None:
    """Add a product to a parameter's gradient where that exists already, else return it."""
    if gradient is None:
        return (left @ right).mul_(scale)
    gradient.addmm_(left, right, alpha=scale)
    return None


def _are_adjacent(tensors: Sequence[Any]) -> bool:
    """Return whether contiguous tensors lie one after the other in one buffer."""
    return (
        all(
            left.is_contiguous()
            and right.data_ptr() == left.data_ptr() + left.nbytes
            and right.untyped_storage().data_ptr() == left.untyped_storage().data_ptr()
            for left, right in pairwise(tensors)
        )
        and tensors[-1].is_contiguous()
    )
