"""Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) on a model's linear layers.

A frozen weight W gets a trained sum: y = W x + (alpha / rank) B A x. The arithmetic
runs in the frozen weight's precision, the adapter itself is kept in 32 bits. Saved
in the folder format of PEFT, which transformers, PEFT and vLLM load unchanged.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tunesmith.engine.training.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Adapter", "AdapterConfig", "LoraLinear", "add_adapter", "load_adapter_config"]

_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter covers.

    Attributes:
        rank: Rank of the added matrices.
        alpha: Their sum is scaled by alpha / rank.
        targets: Last parts of the names of the linear layers that are adapted.
        layers: Numbers of the transformer layers, ascending; None means all.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    layers: tuple[int, ...] | None = None


class _LoraFunction(torch.autograd.Function):
    """y = W x + scale B A x, saving only x and A x for the way back."""

    @staticmethod
    def forward(  # noqa: PLR0917 - apply() passes by position
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        a_low, b_low = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = flat @ a_low.T
        y = nn.functional.linear(flat, weight, bias)
        y.addmm_(inner, b_low.T)
        ctx.save_for_backward(flat, inner, weight, a_low, b_low)
        ctx.scale = scale
        ctx.shape = x.shape
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        flat, inner, weight, a_low, b_low = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_inner = gradient @ b_low
        to_b = (gradient.T @ inner).float().mul_(ctx.scale)
        to_a = (to_inner.T @ flat).float()
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = gradient @ weight
            to_x = to_x.addmm_(to_inner, a_low).view(ctx.shape)
        return to_x, None, None, to_a, to_b, None


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank sum."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight: torch.Tensor = base.weight
        self.bias: torch.Tensor | None = base.bias
        device = base.weight.device
        self.lora_a: nn.Parameter = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.lora_b: nn.Parameter = nn.Parameter(
            torch.zeros(base.out_features, rank, device=device)
        )
        # As in the reference code: A random, B zero, so that training starts from the base.
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.scale: float = alpha / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        result: torch.Tensor = _LoraFunction.apply(  # type: ignore[no-untyped-call]  # in torch
            x, self.weight, self.bias, self.lora_a, self.lora_b, self.scale
        )
        return result


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapted layers of a model by their full names in it.

    Attributes:
        base_name: What to write as the base model's name.
        pattern: Name of the module list of the transformer layers.
    """

    shape: AdapterConfig
    modules: dict[str, LoraLinear]
    base_name: str
    pattern: str

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters under PEFT's names."""
        result = {}
        for name, module in self.modules.items():
            result[f"{_PREFIX}{name}.lora_A.weight"] = module.lora_a
            result[f"{_PREFIX}{name}.lora_B.weight"] = module.lora_b
        return result

    def load(self, folder: Path) -> None:
        """Take the values of the adapter in `folder`.

        Raises:
            TrainingError: It does not fit the model.
        """
        saved = load_file(folder / "adapter_model.safetensors")
        mine = self.parameters()
        wrong = saved.keys() ^ mine.keys() or {
            name for name in mine if mine[name].shape != saved[name].shape
        }
        if wrong:
            msg = (
                f"The adapter in {folder} does not fit the base model: {min(wrong)} differs "
                f"({len(wrong)} parts in all). Continue on the base model it was trained on."
            )
            raise TrainingError(msg, "invalid_model")
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(saved[name])

    def save(self, folder: Path) -> None:
        """Write the adapter to an existing folder, in PEFT's format."""
        tensors = {name: value.detach().cpu() for name, value in self.parameters().items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        described = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_name,
            "inference_mode": True,
            "r": self.shape.rank,
            "lora_alpha": self.shape.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            # A list: with a string such as "all-linear" PEFT refuses layers_to_transform.
            "target_modules": list(self.shape.targets),
            "layers_to_transform": None if self.shape.layers is None else list(self.shape.layers),
            "layers_pattern": None if self.shape.layers is None else self.pattern,
            "use_rslora": False,
            "use_dora": False,
        }
        (folder / "adapter_config.json").write_text(
            json.dumps(described, indent=2) + "\n", encoding="utf-8"
        )


def add_adapter(
    model: nn.Module, layers_name: str, shape: AdapterConfig, base_name: str, seed: int
) -> Adapter:
    """Replace the model's linear layers that `shape` names by adapted ones, in place.

    Args:
        model: A causal language model; all of its parameters are frozen.
        layers_name: Name in the model of the list of transformer layers.
        shape: What to adapt.
        base_name: Kept in the saved adapter.
        seed: Of the first random values.

    Raises:
        TrainingError: The model has no such linear layers.
    """
    model.requires_grad_(requires_grad=False)
    modules: dict[str, LoraLinear] = {}
    torch.manual_seed(seed)
    for number, layer in enumerate(_module_list(model, layers_name)):
        if shape.layers is not None and number not in shape.layers:
            continue
        for name, module in list(layer.named_modules()):
            parent, _, last = name.rpartition(".")
            if isinstance(module, nn.Linear) and last in shape.targets:
                adapted = LoraLinear(module, shape.rank, shape.alpha)
                setattr(layer.get_submodule(parent), last, adapted)
                modules[f"{layers_name}.{number}.{name}"] = adapted
    if not modules:
        msg = "The base model has no linear layers that an adapter could be put on."
        raise TrainingError(msg, "invalid_model")
    return Adapter(shape, modules, base_name, layers_name.rpartition(".")[2])


def load_adapter_config(folder: Path) -> AdapterConfig:
    """Return what the adapter in `folder` covers.

    Raises:
        TrainingError: It is no plain LoRA adapter.
    """
    try:
        told = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        plain = told["peft_type"] == "LORA" and not told.get("use_dora") and told["bias"] == "none"
        layers = told.get("layers_to_transform")
        shape = AdapterConfig(
            int(told["r"]),
            float(told["lora_alpha"]),
            tuple(sorted(told["target_modules"])),
            None if layers is None else tuple(sorted(layers)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"The adapter to continue from, {folder}, cannot be read: {error}."
        raise TrainingError(msg, "invalid_model") from error
    if not plain or told.get("use_rslora"):
        msg = f"The adapter to continue from, {folder}, is not a plain LoRA adapter."
        raise TrainingError(msg, "invalid_model")
    return shape


def _module_list(model: nn.Module, name: str) -> nn.ModuleList:
    found = model.get_submodule(name)
    assert isinstance(found, nn.ModuleList)  # noqa: S101 - the caller found it as one
    return found
