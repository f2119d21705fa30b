"""The bytes that a backward pass saves, layer by layer, counted without computing anything.

A model runs on tensors that have shapes and no values, and PyTorch is asked which of them it saves
for the backward pass. So the numbers follow the code that trains. Knows no recipes and no budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from .split_model import SplitModel

__all__ = ["build_without_values", "saved_bytes"]

_ATTENTION = "tunesmith_planned"


def build_without_values(config: Any, dtype: torch.dtype) -> SplitModel:
    """Return a model of a configuration, with the attention of which the memory is counted.

    Args:
        config: Configuration of the model, of transformers.
        dtype: Of its weights.

    Raises:
        StopIteration: It is no configuration of a model that generates text.
    """
    import transformers  # noqa: PLC0415 - slow to import
    from transformers.initialization import no_init_weights  # noqa: PLC0415

    from .split_model import SplitModel  # noqa: PLC0415 - this module loads without it

    autos = (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText)
    auto: Any = next(a for a in autos if type(config) in a._model_mapping)  # noqa: SLF001
    _register_attention()
    with no_init_weights():
        model = auto.from_config(config, dtype=dtype).eval()
    model.tie_weights()
    text = model.config.get_text_config(decoder=True)
    if text._attn_implementation == "sdpa":  # noqa: SLF001 - no public reader
        model.set_attn_implementation(_ATTENTION)
    return SplitModel(model)


def saved_bytes(split: SplitModel, length: int) -> list[int]:
    """Return for each layer the bytes that its backward pass needs.

    Args:
        split: Made by `build_without_values`, with what it trains requiring gradients.
        length: Tokens that go through it.
    """
    weights = set(map(_storage, split.whole.parameters()))
    kept: list[dict[int, int]] = []
    shared: set[int] = set()
    alive: list[torch.Tensor] = []  # storages are told apart by addresses, which are used again
    is_inside = False

    def enter(_module: nn.Module, arguments: Any, keywords: Any) -> None:
        nonlocal is_inside
        is_inside = True
        kept.append({})
        tensors = tree_leaves((arguments[1:], keywords))  # masks and positions are everyone's
        shared.update(_storage(part) for part in tensors if isinstance(part, torch.Tensor))

    def leave(_module: nn.Module, _arguments: Any, _output: Any) -> None:
        nonlocal is_inside
        is_inside = False

    def count(tensor: torch.Tensor) -> torch.Tensor:
        key = _storage(tensor)
        if is_inside and key not in weights and key not in shared:
            kept[-1][key] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    def require_gradients(_module: nn.Module, _arguments: Any, output: torch.Tensor) -> None:
        if not output.requires_grad:
            output.requires_grad_()

    handles = [split.whole.get_input_embeddings().register_forward_hook(require_gradients)]
    for layer in split.layers:
        handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(layer.register_forward_hook(leave))
    try:
        inputs = torch.zeros(1, length, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            split.decoder(input_ids=inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return [sum(layer.values()) for layer in kept]


def _storage(tensor: torch.Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata  # noqa: SLF001 - these tensors have no address
    return key


def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface  # noqa: PLC0415 - slow
    from transformers.masking_utils import sdpa_mask  # noqa: PLC0415

    AttentionInterface.register(_ATTENTION, _attention)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


def _attention(
    _module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Return a tensor of attention's shape; keeps what a flash attention keeps."""
    output: torch.Tensor = _FlashMemory.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output.transpose(1, 2).contiguous(), None


class _FlashMemory(torch.autograd.Function):
    """Keeps inputs, output and one number for each head and position, as flash attention does."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, *_gradients: torch.Tensor) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
