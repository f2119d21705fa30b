"""How much memory a training needs, computed before it starts, and how it is kept within it.

The model's own transformer layer runs on the meta device, which computes shapes and no values,
and the tensors that its backward pass would need are counted. So the numbers follow the code
that trains. With a budget they become a plan: how many tokens go through the layers at a time,
and in how many layers the activations are computed again instead of kept.
Knows no files and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from tunesmith.types.job_parameters import Recipe

__all__ = ["MemoryNeeds", "MemoryPlan", "memory_needs", "plan_memory", "recompute_layers"]

_TOKENS = 256  # of the pass on the meta device
_LOGIT_ROWS = 256  # positions whose logits exist at the same time
_LOGIT_BYTES = 14  # logits in 2 and 4 bytes, their gradients, and the soft-max
_RESERVE = 0.08  # of the budget: fragments, the device's own buffers
_FAST_SHARE = 0.2
_RANK = 16
_ATTENTION = "tunesmith_planned"
_ENOUGH_TOKENS = 4096  # at a time; below it layers are recomputed to make more fit
_GB = 1e9


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """What one training of a model keeps in memory, in bytes.

    Attributes:
        fixed: Weights, gradients, optimizer state and the logits of one slice.
        weights: The model's weights, a part of `fixed`.
        kept: Per token and layer: what the backward pass needs.
        recomputed: Per token and layer that is computed again: its input.
        layers: Layers through which gradients go.
    """

    fixed: int
    weights: int
    kept: float
    recomputed: float
    layers: int

    def per_token(self, recomputed_layers: int) -> float:
        """Return the bytes of one token, with that many layers computed again."""
        # While a layer is computed again, all that it keeps exists once more.
        again = self.kept if recomputed_layers else 0.0
        kept_layers = self.layers - recomputed_layers
        # The backward pass of a layer works on about as much as the layer keeps.
        return kept_layers * self.kept + recomputed_layers * self.recomputed + again + self.kept


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a training is kept within its memory.

    Attributes:
        tokens: Most tokens that go through the layers at a time; 0 if none fits.
        recomputed_layers: Layers whose activations are computed again in the backward pass.
        reason: The arithmetic, for the user.
    """

    tokens: int
    recomputed_layers: int
    reason: str


def plan_memory(needs: MemoryNeeds, budget: float, longest: int) -> MemoryPlan:
    """Return how a training fits into a budget.

    As few layers as possible are computed again: enough that the longest example fits, and, as
    small batches waste the device, some thousand tokens.

    Args:
        needs: What it needs.
        budget: Bytes that it may use.
        longest: Tokens of its longest example.
    """
    free = budget * (1 - _RESERVE) - needs.fixed
    wanted = max(longest, _ENOUGH_TOKENS)
    best = (0, needs.layers)
    for recomputed in range(needs.layers + 1):
        tokens = max(0, int(free / needs.per_token(recomputed)))
        best = (tokens, recomputed)
        if tokens >= wanted:
            break
    tokens, recomputed = best
    each = needs.per_token(recomputed) / 1e6
    reason = f"{needs.weights / _GB:.1f} GB of weights, {each:.1f} MB a token: "
    reason += f"{tokens:,} tokens at a time"
    if recomputed:
        reason += f", activations of {recomputed} of {needs.layers} layers computed twice"
    return MemoryPlan(tokens, recomputed, reason)


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


def memory_needs(config: Any, recipe: Recipe, *, weight_bytes: int = 2) -> MemoryNeeds:
    """Return what training a model takes.

    Args:
        config: Configuration of the model, of transformers.
        recipe: How it is trained.
        weight_bytes: Bytes of a weight that is not trained.
    """
    from .lora import AdapterConfig, add_adapter  # noqa: PLC0415 - this module loads without it
    from .split_model import SplitModel  # noqa: PLC0415

    model, total = _one_layer_model(config)
    count = int(config.num_hidden_layers)
    trained_layers = max(1, round(count * _FAST_SHARE)) if recipe == "fast" else count
    split = SplitModel(model)
    if recipe == "full":
        model.requires_grad_(requires_grad=True)
        state = total * (4 + 4 + 8 - weight_bytes)
    else:
        adapter = add_adapter(split, AdapterConfig(_RANK, 2.0 * _RANK, split.linear_names()))
        numbers = sum(parameter.numel() for parameter in adapter.parameters().values())
        state = numbers * trained_layers * (4 + 4 + 8)
    kept = _kept_bytes(split) / _TOKENS
    logits = _LOGIT_ROWS * int(config.vocab_size) * _LOGIT_BYTES
    weights = total * weight_bytes
    return MemoryNeeds(
        fixed=weights + state + logits,
        weights=weights,
        kept=kept,
        recomputed=float(config.hidden_size * 2),
        layers=trained_layers,
    )


def _one_layer_model(config: Any) -> tuple[Any, int]:
    """Return the model with its first layer alone, on the meta device, and all its weights."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - slow to import

    from .split_model import SplitModel  # noqa: PLC0415

    values = config.to_dict()
    values.update(num_hidden_layers=1)
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:1]
    single = type(config).from_dict(values)
    _register_attention()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            single, dtype=torch.bfloat16, attn_implementation=_ATTENTION
        ).eval()
    unique = {id(p): p.numel() for p in model.parameters()}
    layer = sum(p.numel() for p in SplitModel(model).layers[0].parameters())
    return model, sum(unique.values()) + layer * (int(config.num_hidden_layers) - 1)


def _kept_bytes(model: Any) -> int:
    """Return the bytes that the backward pass of the one layer needs for `_TOKENS` tokens."""
    parameters = {p.untyped_storage()._cdata for p in model.whole.parameters()}  # noqa: SLF001
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - meta tensors have no address
        if key not in parameters:
            kept[key] = storage.nbytes()
            alive.append(tensor)
        return tensor

    hidden = torch.empty(
        1, _TOKENS, model.hidden_size, dtype=torch.bfloat16, device="meta", requires_grad=True
    )
    cosines = _rotary(model, hidden)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model.layers[0](hidden, attention_mask=None, position_embeddings=cosines)
    shared = {part.untyped_storage()._cdata for part in cosines or ()}  # noqa: SLF001
    return sum(size for key, size in kept.items() if key not in shared)


def _rotary(model: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
    """Return what all layers share of the positions, if the model has it."""
    rotary = getattr(model.decoder, "rotary_emb", None)
    if rotary is None:
        return None
    positions = torch.arange(hidden.shape[1], device="meta")[None]
    result: tuple[torch.Tensor, ...] = rotary(hidden, positions)
    return result


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
