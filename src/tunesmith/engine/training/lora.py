"""Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) on a model's linear layers.

A trained low-rank term is added to a frozen weight W: y = W x + (alpha / rank) B A x. The
arithmetic runs in the frozen weight's precision, the adapter itself is kept in 32 bits.
Adapters are saved in PEFT's folder format, which transformers, PEFT and vLLM load unchanged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tunesmith.engine.domain.errors import TrainingError

from .lora_layers import LoraLinear, group_layers

if TYPE_CHECKING:
    from pathlib import Path

    from .split_model import SplitModel

__all__ = ["Adapter", "AdapterConfig", "add_adapter", "load_adapter_config"]

_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Size and place of an adapter.

    Attributes:
        rank: Rank of the added matrices.
        alpha: Their product is scaled by alpha / rank.
        target_modules: Names within a transformer layer of the linear layers that get it.
        layers: Indices of the transformer layers, ascending; None means all.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapted linear layers of a model.

    Attributes:
        config: Size and place.
        modules: The adapted layers by their full names in the model.
        base_name: The base model's name, for the saved adapter.
        pattern: Name of the module list of the transformer layers.
    """

    config: AdapterConfig
    modules: dict[str, LoraLinear]
    base_name: str
    pattern: str

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters under PEFT's names."""
        result = {}
        for name, module in self.modules.items():
            result[f"{_PREFIX}{name}.lora_A.weight"] = module.lora_a
        for name, module in self.modules.items():
            result[f"{_PREFIX}{name}.lora_B.weight"] = module.lora_b
        return result

    def prepack(self) -> None:
        """Keep a second and third copy of the frozen weights, for faster small products."""
        for module in self.modules.values():
            module.prepack()

    def load(self, folder: Path) -> None:
        """Load the parameters of the adapter in `folder`.

        Raises:
            TrainingError: It cannot be read, or does not fit the model.
        """
        try:
            saved = load_file(folder / "adapter_model.safetensors")
        except (OSError, SafetensorError) as error:
            msg = f"The adapter to continue from, {folder.name}, cannot be read: {error}."
            raise TrainingError(msg, "invalid_model") from error
        parameters = self.parameters()
        wrong = saved.keys() ^ parameters.keys() or {
            name for name in parameters if parameters[name].shape != saved[name].shape
        }
        if wrong:
            msg = (
                f"The adapter in {folder.name} does not fit the base model: {min(wrong)} differs "
                f"({len(wrong)} parts in all). Continue on the base model it was trained on."
            )
            raise TrainingError(msg, "invalid_model")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])

    def save(self, folder: Path) -> None:
        """Write the adapter to an existing folder, in PEFT's format."""
        tensors = {name: value.detach().cpu() for name, value in self.parameters().items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_name,
            "inference_mode": True,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            # A list: with a string such as "all-linear" PEFT refuses layers_to_transform.
            "target_modules": list(self.config.target_modules),
            "layers_to_transform": None if self.config.layers is None else list(self.config.layers),
            "layers_pattern": None if self.config.layers is None else self.pattern,
            "use_rslora": False,
            "use_dora": False,
        }
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )


def add_adapter(
    model: SplitModel, config: AdapterConfig, *, base_name: str = "", seed: int = 0
) -> Adapter:
    """Freeze a model and put an adapter on its linear layers, in place.

    Args:
        model: The base model.
        config: Size and place of the adapter.
        base_name: The base model's name, for the saved adapter.
        seed: Seed of the initial values.

    Raises:
        TrainingError: The model has no such linear layers.
    """
    model.whole.requires_grad_(requires_grad=False)
    modules: dict[str, LoraLinear] = {}
    torch.manual_seed(seed)
    for index, layer in enumerate(model.layers):
        if config.layers is not None and index not in config.layers:
            continue
        for name, module in list(layer.named_modules()):
            parent, _, last = name.rpartition(".")
            if isinstance(module, nn.Linear) and last in config.target_modules:
                adapted = LoraLinear(module, config.rank, config.alpha)
                setattr(layer.get_submodule(parent), last, adapted)
                modules[f"{model.layers_name}.{index}.{name}"] = adapted
        for parent in list(layer.modules()):
            group_layers(parent)
    if not modules:
        msg = "The base model has no linear layers that an adapter could be put on."
        raise TrainingError(msg, "invalid_model")
    return Adapter(config, modules, base_name, model.layers_name.rpartition(".")[2])


def load_adapter_config(folder: Path) -> AdapterConfig:
    """Return size and place of the adapter in `folder`.

    Raises:
        TrainingError: It is not a plain LoRA adapter.
    """
    try:
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        is_plain = (
            saved["peft_type"] == "LORA" and not saved.get("use_dora") and saved["bias"] == "none"
        )
        layers = saved.get("layers_to_transform")
        config = AdapterConfig(
            int(saved["r"]),
            float(saved["lora_alpha"]),
            tuple(sorted(saved["target_modules"])),
            None if layers is None else tuple(sorted(layers)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"The adapter to continue from, {folder.name}, cannot be read: {error}."
        raise TrainingError(msg, "invalid_model") from error
    if not is_plain or saved.get("use_rslora"):
        msg = f"The adapter to continue from, {folder.name}, is not a plain LoRA adapter."
        raise TrainingError(msg, "invalid_model")
    return config
