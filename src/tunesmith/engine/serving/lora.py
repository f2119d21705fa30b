"""Multi-LoRA: many adapters on one base model, a different one for each sequence of a batch.

An adapter is a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`) of plain LoRA
on linear layers. Forward hooks, or the fused decoder, add each sequence's low-rank product to
the layer's output: the matrices of all active adapters are stacked along the rank, and a mask
zeroes, sequence by sequence, the ranks of the others. So a batch with different adapters costs
two small matrix products a layer, whatever the number of adapters. The base's weights are not
touched.

What this cannot express (DoRA, PiSSA, biases, `modules_to_save`, embeddings, experts) raises
`UnsupportedAdapterError`; the caller merges such an adapter into a copy of its base instead.

Shapes: B sequences, T tokens of each, r the rank of an adapter, R the ranks of all active
adapters together.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.loading import projection_shape
from tunesmith.engine.models.peft_adapters import is_plain_lora

from .generation_errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

__all__ = ["LoraAdapter", "MultiLora", "UnsupportedAdapterError", "join_adapter", "load_adapter"]

_SHORT = 16  # rows up to which the low-rank products are computed in float32
KEY = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")


class UnsupportedAdapterError(GenerationError):
    """The adapter is valid but is more than LoRA on linear layers."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoraAdapter:
    """An adapter's matrices, on the base's device and in its type.

    Attributes:
        weights: Module name → A (r, in) and B (out, r), the latter times the adapter's scale.
    """

    weights: dict[str, tuple[Tensor, Tensor]]

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices."""
        return sum(a.nbytes + b.nbytes for a, b in self.weights.values())


def load_adapter(folder: Path, model: nn.Module) -> LoraAdapter:
    """Read a PEFT LoRA adapter for `model`.

    Raises:
        UnsupportedAdapterError: It is more than LoRA on linear layers.
        GenerationError: The files are broken or do not fit the base.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except Exception as error:
        raise GenerationError(
            f"The adapter in {folder.name} cannot be read: "
            f"{str(error).replace(f'{folder.parent}/', '')}",
            kind=ErrorKind.INTERNAL,
            code="model_broken",
        ) from error
    _check_supported(config)
    linear = {
        name: module
        for name, module in model.named_modules()
        if projection_shape(module) is not None
    }
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = KEY.match(key)
        if match is None or match["module"] not in linear:
            raise UnsupportedAdapterError(
                f"The adapter changes {key}, which is not a linear layer."
            )
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    return LoraAdapter(
        {name: _prepare(name, pair, config, linear[name]) for name, pair in sides.items()}
    )


def _check_supported(config: dict[str, Any]) -> None:
    if not is_plain_lora(config):
        raise UnsupportedAdapterError("The adapter is more than LoRA on linear layers.")


def _prepare(
    name: str, pair: dict[str, Tensor], config: dict[str, Any], module: nn.Module
) -> tuple[Tensor, Tensor]:
    shape = projection_shape(module)
    lora_a, lora_b = pair.get("A"), pair.get("B")
    fits = (
        lora_a is not None
        and lora_b is not None
        and (lora_a.shape[1], lora_b.shape[0]) == shape
        and lora_b.shape[1] == lora_a.shape[0]
    )
    if lora_a is None or lora_b is None or not fits:
        raise GenerationError(
            f"The adapter does not fit its base model at {name}.",
            kind=ErrorKind.INTERNAL,
            code="model_broken",
        )
    rank = lora_a.shape[0]
    alpha = _pattern_value(config.get("alpha_pattern"), name, config.get("lora_alpha", rank))
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    weight: Any = module.weight
    return (
        lora_a.to(weight.device, weight.dtype).contiguous(),
        (lora_b.float() * scale).to(weight.device, weight.dtype).contiguous(),
    )


def _pattern_value(pattern: dict[str, float] | None, name: str, default: float) -> float:
    """Return the value of the first pattern that the module's name ends with, as PEFT matches."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


@dataclass(slots=True)
class _StackedWeights:
    """The matrices of all active adapters for one module.

    Attributes:
        lora_a: (R, in).
        lora_b: (out, R).
        ranks: The rank of each active adapter in this module, 0 where it leaves it alone.
    """

    lora_a: Tensor
    lora_b: Tensor
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _JoinedWeights:
    """The matrices of all active adapters for several modules that have the same input.

    Attributes:
        lora_a: (R, in), R the ranks of all modules together.
        lora_b: (out, R), out the outputs of all modules: 0 between one module's output and
            another one's ranks.
        ranks: `_StackedWeights.ranks` of each module that an adapter changes.
        float_a: `lora_a` in float32.
        float_b: `lora_b` in float32.
    """

    lora_a: Tensor
    lora_b: Tensor
    ranks: tuple[tuple[int, ...], ...]
    float_a: Tensor
    float_b: Tensor


def _join(stacked: Sequence[_StackedWeights | None], outputs: Sequence[int]) -> _JoinedWeights:
    """Join the matrices of modules with the same input and these numbers of outputs."""
    present = [weights for weights in stacked if weights is not None]
    lora_a = torch.cat([weights.lora_a for weights in present])
    lora_b = lora_a.new_zeros(sum(outputs), lora_a.shape[0])
    row = column = 0
    for weights, size in zip(stacked, outputs, strict=True):
        if weights is not None:
            rank = weights.lora_b.shape[1]
            lora_b[row : row + size, column : column + rank] = weights.lora_b
            column += rank
        row += size
    return _JoinedWeights(
        lora_a,
        lora_b,
        tuple(weights.ranks for weights in present),
        lora_a.float(),
        lora_b.float(),
    )


def join_adapter(
    adapter: LoraAdapter, names: Sequence[str], outputs: Sequence[int]
) -> tuple[Tensor, Tensor] | None:
    """Return A (R, in) and B (out, R) of an adapter for several modules with the same input.

    Args:
        adapter: The adapter.
        names: The modules.
        outputs: The number of outputs of each.
    """
    pairs = [adapter.weights.get(name) for name in names]
    if not any(pairs):
        return None
    stacked = [pair and _StackedWeights(*pair, ranks=(pair[0].shape[0],)) for pair in pairs]
    joined = _join(stacked, outputs)
    return joined.lora_a, joined.lora_b


@dataclass(slots=True)
class MultiLora:
    """Applies adapters to a model's linear layers, one for each sequence of a batch.

    Args:
        model: The base; a layer gets its hook when the first adapter that changes it comes.

    Attributes:
        adapters: That of each sequence of the next forward pass.
    """

    model: nn.Module
    adapters: Sequence[LoraAdapter | None] = ()
    _hooks: dict[str, RemovableHandle] = field(default_factory=dict)
    _active: tuple[LoraAdapter, ...] = ()
    _stacked: dict[str, _StackedWeights] = field(default_factory=dict)
    _masks: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)
    _joined: dict[tuple[str, ...], _JoinedWeights | None] = field(default_factory=dict)

    def set_active(self, adapters: Sequence[LoraAdapter | None]) -> None:
        """Set the adapter of each sequence of the next forward pass; None for the base alone."""
        active = tuple(dict.fromkeys(adapter for adapter in adapters if adapter is not None))
        if set(active) != set(self._active):
            self._active = active
            self._stacked = self._stack(active)
            self._joined.clear()
        self._masks = self._make_masks(adapters)
        self.adapters = adapters

    def unload(self, adapter: LoraAdapter) -> None:
        """Drop the copies made of an adapter that is being unloaded."""
        if adapter in self._active:
            self._active, self._stacked, self.adapters = (), {}, ()
            self._joined.clear()

    def changes(self, names: tuple[str, ...]) -> bool:
        """Return whether an active adapter changes one of these modules, which have one input."""
        return bool(self._stacked) and self._join(names) is not None

    def add_to(self, names: tuple[str, ...], inputs: Tensor, output: Tensor) -> Tensor:
        """Return the joined output of some modules with the low-rank products added.

        Args:
            names: Modules that have the same input, in the order of their outputs.
            inputs: (N, in), all tokens of a sequence together.
            output: (N, out), changed in place.
        """
        weights = self._join(names) if self._stacked else None
        if weights is None:
            return output
        is_short = inputs.shape[0] <= _SHORT
        # PyTorch's bf16 products of this size cost several times those in float32.
        lora_a = weights.float_a if is_short else weights.lora_a
        lora_b = weights.float_b if is_short else weights.lora_b
        low_rank = nn.functional.linear(inputs.to(lora_a.dtype), lora_a)  # (N, R)
        masks = [self._masks[ranks] for ranks in weights.ranks]
        if any(mask is not None for mask in masks):
            present = [mask for mask in masks if mask is not None]  # all or none are
            mask = present[0] if len(present) == 1 else torch.cat(present, dim=1)  # (B, R)
            by_sequence = low_rank.view(mask.shape[0], -1, low_rank.shape[1])
            low_rank = (by_sequence * mask.to(low_rank.dtype).unsqueeze(1)).view_as(low_rank)
        return output.add_(nn.functional.linear(low_rank, lora_b))

    def _join(self, names: tuple[str, ...]) -> _JoinedWeights | None:
        if names not in self._joined:
            present = [self._stacked.get(name) for name in names]
            self._joined[names] = _join(present, self._outputs(names)) if any(present) else None
        return self._joined[names]

    def _outputs(self, names: tuple[str, ...]) -> list[int]:
        return [int(self.model.get_submodule(name).out_features) for name in names]  # type: ignore[arg-type]

    def remove_hooks(self) -> None:
        """Leave the model's layers as they were, with no adapter active."""
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()
        self._active, self._stacked, self._masks = (), {}, {}
        self.adapters = ()

    def _stack(self, active: tuple[LoraAdapter, ...]) -> dict[str, _StackedWeights]:
        names = dict.fromkeys(name for adapter in active for name in adapter.weights)
        stacked: dict[str, _StackedWeights] = {}
        for name in names:
            if name not in self._hooks:
                self._add_hook(name)
            pairs = [adapter.weights.get(name) for adapter in active]
            present = [pair for pair in pairs if pair is not None]
            single = len(present) == 1
            stacked[name] = _StackedWeights(
                lora_a=present[0][0] if single else torch.cat([a for a, _ in present]),
                lora_b=present[0][1] if single else torch.cat([b for _, b in present], dim=1),
                ranks=tuple(0 if pair is None else pair[0].shape[0] for pair in pairs),
            )
        return stacked

    def _make_masks(
        self, adapters: Sequence[LoraAdapter | None]
    ) -> dict[tuple[int, ...], Tensor | None]:
        """Return for each tuple of ranks its mask (B, R); None where nothing is masked."""
        if not self._active:
            return {}
        if len(self._active) == 1 and all(adapter is not None for adapter in adapters):
            return {weights.ranks: None for weights in self._stacked.values()}
        weight = next(self.model.parameters())
        is_active = torch.tensor(  # (B, active adapters)
            [[float(adapter is active) for active in self._active] for adapter in adapters],
            dtype=weight.dtype,
            device=weight.device,
        )
        return {
            ranks: is_active.repeat_interleave(torch.tensor(ranks, device=weight.device), dim=1)
            for ranks in {weights.ranks for weights in self._stacked.values()}
        }

    def _add_hook(self, name: str) -> None:
        def add_lora(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            weights = self._stacked.get(name)
            if weights is None:
                return output
            low_rank = nn.functional.linear(args[0], weights.lora_a)  # (B, T, R)
            mask = self._masks[weights.ranks]
            if mask is not None:
                low_rank = low_rank * _spread(mask, low_rank)
            return output.add_(nn.functional.linear(low_rank, weights.lora_b))

        module = self.model.get_submodule(name)
        self._hooks[name] = module.register_forward_hook(add_lora)


def _spread(mask: Tensor, low_rank: Tensor) -> Tensor:
    """Return a mask (B, R) in the shape of a layer's low-rank product, whose last axis is R.

    Most layers see (B, T, …, R); experts and others that flatten their input see (B * T, R).
    """
    sequences, ranks = mask.shape
    if low_rank.dim() > 2:  # noqa: PLR2004
        return mask.view(sequences, *[1] * (low_rank.dim() - 2), ranks)
    return mask.repeat_interleave(low_rank.shape[0] // sequences, dim=0)
