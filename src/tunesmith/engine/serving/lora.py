"""Many LoRA adapters on one base, switched row by row without touching the weights.

An adapter is a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`) of
plain LoRA on linear layers. Forward hooks add each row's own low-rank product to the
layer's output: the matrices of all adapters in use lie side by side, and a mask
blanks, row by row, the columns of the others. So a batch of rows with different
adapters costs two small products a layer, whatever the number of adapters.

What this cannot express (DoRA, biases, whole modules saved beside the adapter,
embeddings) raises `UnsupportedAdapterError`; the caller merges such an adapter into a copy of
its base instead.
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

from .generation_errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

__all__ = ["Adapter", "AdapterSwitch", "UnsupportedAdapterError", "load_adapter"]

KEY = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")


class UnsupportedAdapterError(GenerationError):
    """The adapter is sound but is more than LoRA on linear layers."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An adapter's matrices, ready for use.

    Attributes:
        parts: Module name → (A [rank, in], B [out, rank] times the adapter's scale).
    """

    parts: dict[str, tuple[Tensor, Tensor]]

    @property
    def nbytes(self) -> int:
        """The memory that the matrices take."""
        return sum(a.nbytes + b.nbytes for a, b in self.parts.values())


def load_adapter(folder: Path, model: nn.Module) -> Adapter:
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
            f"The adapter in {folder.name} cannot be read: {error}",
            status=500,
            code="model_broken",
        ) from error
    _refuse_what_is_not_plain(config)
    linear = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = KEY.match(key)
        if match is None or match["module"] not in linear:
            raise UnsupportedAdapterError(f"The adapter changes {key}, which is no linear layer.")
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    return Adapter({name: _ready(name, pair, config, linear[name]) for name, pair in sides.items()})


def _refuse_what_is_not_plain(config: dict[str, Any]) -> None:
    plain = (
        config.get("peft_type") == "LORA"
        and not config.get("use_dora")
        and not config.get("modules_to_save")
        and not config.get("fan_in_fan_out")
        and not config.get("lora_bias")
        and config.get("bias", "none") == "none"
    )
    if not plain:
        raise UnsupportedAdapterError("The adapter is more than LoRA on linear layers.")


def _ready(
    name: str, pair: dict[str, Tensor], config: dict[str, Any], module: nn.Linear
) -> tuple[Tensor, Tensor]:
    down, up = pair.get("A"), pair.get("B")
    fits = (
        down is not None
        and up is not None
        and down.shape[1] == module.in_features
        and up.shape[0] == module.out_features
        and up.shape[1] == down.shape[0]
    )
    if down is None or up is None or not fits:
        raise GenerationError(
            f"The adapter does not fit its base model at {name}.", status=500, code="model_broken"
        )
    rank = down.shape[0]
    alpha = _pattern_value(config.get("alpha_pattern"), name, config.get("lora_alpha", rank))
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    weight = module.weight
    return (
        down.to(weight.device, weight.dtype).contiguous(),
        (up.float() * scale).to(weight.device, weight.dtype).contiguous(),
    )


def _pattern_value(pattern: dict[str, float] | None, name: str, default: float) -> float:
    """Return the value of the first pattern that the module's name ends with, as PEFT matches."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return value
    return default


@dataclass(slots=True)
class _Part:
    """What the hook of one module adds: its matrices side by side, and whose columns they are."""

    down: Tensor
    up: Tensor
    ranks: tuple[int, ...]


@dataclass(slots=True)
class AdapterSwitch:
    """Puts adapters on a model's linear layers, row by row.

    Args:
        model: The base; hooks are put on its layers as adapters that change them come.
    """

    model: nn.Module
    _hooked: set[str] = field(default_factory=set)
    _active: tuple[Adapter, ...] = ()
    _parts: dict[str, _Part] = field(default_factory=dict)
    _masks: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)

    def select(self, rows: Sequence[Adapter | None]) -> None:
        """Say which adapter each row of the next forward passes has."""
        active = tuple(dict.fromkeys(adapter for adapter in rows if adapter is not None))
        if set(active) != set(self._active):
            self._active = active
            self._parts = self._side_by_side(active)
        self._masks = self._make_masks(rows)

    def unload(self, adapter: Adapter) -> None:
        """Drop the copies made of an adapter that is being unloaded."""
        if adapter in self._active:
            self._active, self._parts = (), {}

    def _side_by_side(self, active: tuple[Adapter, ...]) -> dict[str, _Part]:
        names = dict.fromkeys(name for adapter in active for name in adapter.parts)
        parts: dict[str, _Part] = {}
        for name in names:
            if name not in self._hooked:
                self._hook(name)
            pairs = [adapter.parts.get(name) for adapter in active]
            there = [pair for pair in pairs if pair is not None]
            alone = len(there) == 1
            parts[name] = _Part(
                down=there[0][0] if alone else torch.cat([down for down, _ in there]),
                up=there[0][1] if alone else torch.cat([up for _, up in there], dim=1),
                ranks=tuple(0 if pair is None else pair[0].shape[0] for pair in pairs),
            )
        return parts

    def _make_masks(self, rows: Sequence[Adapter | None]) -> dict[tuple[int, ...], Tensor | None]:
        if not self._active:
            return {}
        if len(self._active) == 1 and all(adapter is not None for adapter in rows):
            return {part.ranks: None for part in self._parts.values()}
        weight = next(self.model.parameters())
        owner = torch.tensor(
            [[float(adapter is active) for active in self._active] for adapter in rows],
            dtype=weight.dtype,
            device=weight.device,
        )
        return {
            ranks: owner.repeat_interleave(torch.tensor(ranks, device=weight.device), dim=1)
            for ranks in {part.ranks for part in self._parts.values()}
        }

    def _hook(self, name: str) -> None:
        self._hooked.add(name)

        def add(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            part = self._parts.get(name)
            if part is None:
                return output
            low = nn.functional.linear(args[0], part.down)
            mask = self._masks[part.ranks]
            if mask is not None:
                low = low * (mask.unsqueeze(1) if low.dim() > 2 else mask)  # noqa: PLR2004
            return output.add_(nn.functional.linear(low, part.up))

        self.model.get_submodule(name).register_forward_hook(add)
