"""Steps of few tokens on a processor: fewer and cheaper small operations around the products.

Below some hundred tokens an attention and a norm cost what the number of their operations
costs. Both are done here in 32 bits with their gradients written out, which are a third of the
operations that automatic differentiation records. Each replaces the model's own only where
it was seen to compute the same. The norms are used in larger steps, too: they keep less memory.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.engine.models.prepacked import can_prepack, prepack, prepacked_linear

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SHORT_ATTENTION", "FrozenOutput", "register_short_attention", "replace_norms"]

SHORT_ATTENTION = "tunesmith_short"
_TOLERANCE = 1e-2  # of the largest value; bf16 rounding


def register_short_attention() -> None:
    """Make `SHORT_ATTENTION` an attention implementation of transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface  # noqa: PLC0415 - slow
    from transformers.masking_utils import eager_mask  # noqa: PLC0415

    AttentionInterface.register(SHORT_ATTENTION, _attention)
    AttentionMaskInterface.register(SHORT_ATTENTION, eager_mask)


def _attention(
    _module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention's output, shape (batch, length, heads, width).

    Args:
        query: Shape (batch, heads, length, width).
        key: Shape (batch, key heads, length, width); each serves several heads.
        value: Like `key`.
        attention_mask: Added to the scores, shape (batch or 1, 1, length, length), or None.
        scaling: Of the scores.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output: torch.Tensor = _Attention.apply(  # type: ignore[no-untyped-call]  # in torch
        query, key, value, attention_mask, scale
    )
    return output.transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - apply() passes by position
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        batch, heads, length, width = query.shape
        groups = key.shape[1]
        # The heads of a key side by side, so that no key is repeated.
        q = query.float().reshape(batch * groups, -1, width)
        k, v = key.float().flatten(0, 1), value.float().flatten(0, 1)  # (·, length, width)
        scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
        scores = scores.view(batch, heads, length, length)
        if mask is not None:
            scores += mask
        weights = scores.softmax(-1).view(batch * groups, -1, length)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shapes, ctx.dtype = scale, (query.shape, key.shape), query.dtype
        return torch.bmm(weights, v).view(batch, heads, length, -1).to(query.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        q, k, v, weights = ctx.saved_tensors
        query_shape, key_shape = ctx.shapes
        grad = gradients[0].float().reshape(q.shape[0], q.shape[1], -1)
        grad_v = torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, v.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(  # noqa: SLF001 - of softmax
            grad_weights, weights, -1, torch.float32
        ).mul_(ctx.scale)
        grad_q = torch.bmm(grad_scores, k).view(query_shape).to(ctx.dtype)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q).view(key_shape).to(ctx.dtype)
        return grad_q, grad_k, grad_v.view(*key_shape[:-1], -1).to(ctx.dtype), None, None


def replace_norms(model: nn.Module) -> int:
    """Replace the frozen RMS norms of a model on a processor; return how many were replaced."""
    count = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        eps = getattr(module, "variance_epsilon", None)
        if (
            isinstance(weight, nn.Parameter)
            and isinstance(eps, float)
            and not weight.requires_grad
            and weight.device.type == "cpu"
            and _is_plain_norm(module, weight, eps)
        ):
            module.forward = _norm_forward(weight, eps)
            count += 1
    return count


def _norm_forward(weight: torch.Tensor, eps: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Norm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return result

    return forward


@torch.no_grad()
def _is_plain_norm(module: nn.Module, weight: torch.Tensor, eps: float) -> bool:
    if len(inspect.signature(module.forward).parameters) != 1:  # gated ones take a second tensor
        return False
    x = torch.linspace(-3, 5, 2 * weight.numel(), dtype=torch.float32).view(2, -1).to(weight.dtype)
    try:
        expected = module(x)
    except (RuntimeError, TypeError):
        return False
    got = _norm_forward(weight, eps)(x)
    scale = float(expected.abs().max())
    same = got.shape == expected.shape and got.dtype == expected.dtype
    return same and float((got - expected).abs().max()) <= _TOLERANCE * max(scale, 1e-6)


class _Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension; the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x.float()
        inverse = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()  # (…, 1)
        ctx.save_for_backward(x, weight, inverse)
        return (wide * inverse).to(x.dtype) * weight

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        x, weight, inverse = ctx.saved_tensors
        grad = (gradients[0] * weight).float()
        normed = x.float().mul_(inverse) if x.dtype != torch.float32 else x * inverse
        shared = (grad * normed).mean(-1, keepdim=True)
        return grad.addcmul_(normed, shared, value=-1).mul_(inverse).to(x.dtype), None, None


class FrozenOutput:
    """A frozen output layer, its weight in the layouts of its products, forward and backward."""

    def __init__(self, layer: nn.Linear) -> None:
        self.packed: torch.Tensor = prepack(layer.weight)
        self.packed_backward: torch.Tensor = prepack(layer.weight.detach().T.contiguous())
        self.bias: torch.Tensor | None = layer.bias

    @classmethod
    def of(cls, layer: nn.Module) -> FrozenOutput | None:
        """Return it for a plain linear layer, where prepacked products exist; else None."""
        if type(layer) is not nn.Linear or not can_prepack(layer.weight, layer.bias):
            return None
        return cls(layer)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map (tokens, hidden) to (tokens, vocabulary)."""
        result: torch.Tensor = _FrozenOutputFunction.apply(x, self)  # type: ignore[no-untyped-call]
        return result


class _FrozenOutputFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, output: FrozenOutput) -> torch.Tensor:
        ctx.output = output
        return prepacked_linear(x, output.packed, output.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return prepacked_linear(gradients[0], ctx.output.packed_backward), None
