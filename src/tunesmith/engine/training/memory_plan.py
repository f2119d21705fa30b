"""How much memory a training needs, computed before it starts, and a plan to stay within it.

Weights, optimizer state, logits and what a backward pass saves (see `saved_tensors`) are added up
from the model's shapes alone. With a budget they become a plan: how many tokens go through the
layers at a time, and in how many layers the activations are computed again instead of kept. Knows
no files and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from tunesmith.engine.models.loading import projection_shape

from .saved_tensors import build_without_values, saved_bytes

if TYPE_CHECKING:
    from tunesmith.engine.models.verdicts import ModelPath
    from tunesmith.types.job_parameters import Recipe

    from .split_model import SplitModel

__all__ = [
    "FOUR_BITS",
    "MemoryNeeds",
    "MemoryPlan",
    "OptimizerName",
    "memory_needs",
    "plan_memory",
]

OptimizerName = Literal["adamw", "adamw_8bit"]
"""AdamW with its state in 32 bits, or in 8 (bitsandbytes)."""

# Bytes of a weight in NF4 with nested quantisation: half a byte, a scale in 8 bits for each 64
# weights, and one in 32 for each 256 of those.
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)

_TOKENS = 256  # of the pass that is counted, where the longest example is shorter
_LOGIT_ROWS = 256  # positions whose logits exist at the same time
_LOGIT_BYTES = 14  # logits in 2 and 4 bytes, their gradients, and the soft-max
_WHOLE_LOGIT_BYTES = 6  # of a model that runs as a whole: logits and two copies of gradients
_STATE_BYTES: dict[OptimizerName, float] = {"adamw": 8, "adamw_8bit": 2 + 2 * 4 / 256}
_RESERVE = 0.08  # of the budget: fragments, the device's own buffers
_FAST_SHARE = 0.2
_RANK = 16
_ENOUGH_TOKENS = 4096  # at a time; below it layers are recomputed to make more fit
_GB = 1e9


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """What one training of a model keeps in memory, in bytes.

    Attributes:
        fixed: Weights, gradients, optimizer state and the logits of one slice.
        weights: The model's weights, a part of `fixed`.
        kept: Per token and layer, on average: what the backward pass needs.
        recomputed: Per token and layer that is computed again: its input.
        layers: Layers through which gradients go.
        widest: Per token: what the layer that keeps most keeps.
        logits: Per token: logits that exist for all tokens at a time.
        whole: What each of several devices holds, however many they are: a part of `fixed`.
        gathered: Weights of the largest layer, which several devices put together to run it.
    """

    fixed: int
    weights: int
    kept: float
    recomputed: float
    layers: int
    widest: float
    logits: float = 0.0
    whole: int = 0
    gathered: int = 0

    def per_token(self, recomputed_layers: int) -> float:
        """Return the bytes of one token, with that many layers computed again."""
        # While a layer is computed again, all that it keeps exists once more.
        again = self.widest if recomputed_layers else 0.0
        kept_layers = self.layers - recomputed_layers
        # The backward pass of a layer works on about as much as the layer keeps.
        layers = kept_layers * self.kept + recomputed_layers * self.recomputed
        return layers + again + self.widest + self.logits

    def fixed_on(self, devices: int) -> float:
        """Return the bytes on each of some devices that share weights, gradients and state."""
        if devices == 1:
            return self.fixed
        # Two layers at a time: one that runs, and the next, which is fetched meanwhile.
        return (self.fixed - self.whole) / devices + self.whole + 2 * self.gathered


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


def plan_memory(needs: MemoryNeeds, budget: float, longest: int, *, devices: int = 1) -> MemoryPlan:
    """Return how a training fits into a budget.

    As few layers as possible are computed again: enough that the longest example fits, and, as
    small batches waste the device, some thousand tokens.

    Args:
        needs: What it needs.
        budget: Bytes that it may use, of each device.
        longest: Tokens of its longest example.
        devices: Devices over which weights, gradients and optimizer state are spread.
    """
    free = usable(budget) - needs.fixed_on(devices)
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


def usable(budget: float) -> float:
    """Return how much of a budget a plan uses."""
    return budget * (1 - _RESERVE)


def memory_needs(
    config: Any,
    recipe: Recipe,
    *,
    path: ModelPath = "fast",
    optimizer: OptimizerName = "adamw",
    length: int = _TOKENS,
    experts: bool = False,
) -> MemoryNeeds:
    """Return what training a model takes.

    Args:
        config: Configuration of the model, of transformers.
        recipe: How it is trained.
        path: By which path.
        optimizer: What keeps state for each trained weight.
        length: Tokens of an example, which matter where attention keeps each pair of them.
        experts: Whether adapters are put on experts, too.

    Raises:
        ValueError: The model cannot be run without values; the text says why.
    """
    ways: tuple[ModelPath, ...] = ("fast", "general") if path == "fast" else ("general",)
    fault: Exception | None = None
    for way in ways:  # the path may not have been proven yet
        try:
            single, copies = _without_copies(config)
            with FakeTensorMode(allow_non_fake_inputs=True):
                wide = torch.float32 if recipe == "full" else torch.bfloat16
                split = build_without_values(single, wide)
                if recipe == "full" and any(p.dim() > 2 for p in split.layers.parameters()):  # noqa: PLR2004
                    # There are no experts without values in 32 bits.
                    split = build_without_values(single, torch.bfloat16)
                needs = _count(split, copies, recipe, way, optimizer, max(_TOKENS, length))
                return _with_experts(needs, split, copies, optimizer) if experts else needs
        except Exception as error:  # noqa: BLE001 - whatever a model does that shapes do not answer
            fault = fault or error
    msg = f"what it needs cannot be computed from its shapes ({type(fault).__name__}: {fault})"
    raise ValueError(msg) from fault


def _count(  # noqa: PLR0917
    split: SplitModel,
    copies: int,
    recipe: Recipe,
    path: ModelPath,
    optimizer: OptimizerName,
    length: int,
) -> MemoryNeeds:
    """Return the needs of a model of which each layer stands for some equal ones."""
    count = len(split.layers) * copies
    trained = max(1, round(count * _FAST_SHARE)) if recipe == "fast" else count
    total = _numbers(split.whole) + (copies - 1) * _numbers(split.layers)
    in_four_bits, buffer = 0, 0
    if recipe == "qlora":
        linear = _quantized(split)
        in_four_bits = sum(linear) + (copies - 1) * sum(_quantized(split, inside=True))
        buffer = 2 * max(linear)  # a layer's weights in 16 bits while it runs
    weights = int(2 * (total - in_four_bits) + FOUR_BITS * in_four_bits)
    each = 4 + 4 + _STATE_BYTES[optimizer]  # a trained weight, its gradient, its state
    if recipe == "full":
        split.whole.requires_grad_(requires_grad=True)
        # With it a copy of the weights in 16 bits, which autocast keeps for the backward pass.
        state = int(total * each)
    else:
        state = int(_add_adapter(split, recipe, path) * copies * trained / count * each)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe in {"qlora", "full"}):
        kept = saved_bytes(split, length)
        if split.dtype == torch.float32:  # those copies are among what is kept
            half = saved_bytes(split, length // 2)
            kept = [2 * (long - short) for long, short in zip(kept, half, strict=True)]
    kept = (kept * copies)[-trained:]
    vocabulary = int(split.config.vocab_size)
    logits = _LOGIT_ROWS * vocabulary * _LOGIT_BYTES
    return MemoryNeeds(
        fixed=weights + state + logits + buffer,
        weights=weights,
        kept=sum(kept) / len(kept) / length,
        recomputed=float(split.hidden_size * split.dtype.itemsize),
        layers=trained,
        widest=max(kept) / length,
        logits=float(_WHOLE_LOGIT_BYTES * vocabulary) if path == "general" else 0.0,
        whole=logits + buffer,
        gathered=2 * max(_numbers(layer) for layer in split.layers),
    )


def _with_experts(
    needs: MemoryNeeds, split: SplitModel, copies: int, optimizer: OptimizerName
) -> MemoryNeeds:
    """Return the needs with adapters on the experts, as PEFT computes them.

    The changed weights of a layer's experts are kept for its backward pass, and there they and
    their gradient exist once more.
    """
    stacked = [split.whole.get_parameter(name) for name in split.expert_names()]
    size = split.dtype.itemsize * sum(parameter.numel() for parameter in stacked) * copies
    largest = split.dtype.itemsize * max((parameter.numel() for parameter in stacked), default=0)
    adapters = copies * sum(p.shape[0] * _RANK * (p.shape[1] + p.shape[2]) for p in stacked)
    state = int(adapters * (4 + 4 + _STATE_BYTES[optimizer]))
    return replace(needs, fixed=needs.fixed + size + 2 * largest + state)


def _without_copies(config: Any) -> tuple[Any, int]:
    """Return a configuration with one layer, and for how many that stands, if all are equal."""
    count = getattr(config, "num_hidden_layers", 1)
    kinds = set(getattr(config, "layer_types", None) or ())
    if config.get_text_config(decoder=True) is not config or count == 1 or len(kinds) > 1:
        return config, 1
    with torch.device("meta"):
        layers = build_without_values(config, torch.bfloat16).layers
    shapes = [[(name, p.shape) for name, p in layer.named_parameters()] for layer in layers]
    if any(shape != shapes[0] for shape in shapes):
        return config, 1
    values = config.to_dict()
    values.update(num_hidden_layers=1)
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:1]
    try:
        single = type(config).from_dict(values)
    except Exception:  # noqa: BLE001 - it has other lists of its layers
        return config, 1
    return (single, count) if single.num_hidden_layers == 1 else (config, 1)


def _numbers(module: nn.Module) -> int:
    """Return how many weights a module has; one that two of its parts share counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _quantized(split: SplitModel, *, inside: bool = False) -> list[int]:
    """Return the weights of each linear layer that is kept in four bits.

    Args:
        split: The model.
        inside: Count those of its transformer layers alone.
    """
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415 - slow to import

    output = split.whole.get_output_embeddings()
    sizes = [
        module.weight.numel()
        for module in (split.layers if inside else split.whole).modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D)) and module is not output
    ]
    if not sizes:
        raise ValueError("it has no linear layers that are put into four bits")
    return sizes


def _add_adapter(split: SplitModel, recipe: Recipe, path: ModelPath) -> int:
    """Put on the adapters that the recipe trains; return the number of their weights."""
    from .lora import AdapterConfig, adapted_names, add_adapter  # noqa: PLC0415 - as above

    config = AdapterConfig(_RANK, 2.0 * _RANK, split.linear_names())
    if path == "fast" and recipe != "qlora":
        adapter = add_adapter(split, config)
        return sum(parameter.numel() for parameter in adapter.parameters().values())
    split.whole.requires_grad_(requires_grad=False)
    return sum(_add_plain_adapter(split, name) for name in adapted_names(split, config))


def _add_plain_adapter(split: SplitModel, name: str) -> int:
    """Add to a layer's output what PEFT's layers add, which keep their inputs in 32 bits.

    But where autocast makes those of four bits leave them as they are.
    """
    module = split.whole.get_submodule(name)
    shape = projection_shape(module)
    assert shape is not None  # noqa: S101 - only such layers are adapted
    a = nn.Parameter(torch.empty(_RANK, shape[0], dtype=torch.float32))
    b = nn.Parameter(torch.empty(shape[1], _RANK, dtype=torch.float32))

    def add(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        x = inputs[0] if torch.is_autocast_enabled("cpu") else inputs[0].float()
        low_rank = functional.linear(functional.linear(x, a), b)
        return output + (low_rank * 2.0).to(output.dtype)

    module.register_forward_hook(add)
    return a.numel() + b.numel()
