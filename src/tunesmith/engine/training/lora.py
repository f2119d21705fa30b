"""Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) on a model's linear layers.

The fast path's own layers; those of the general path are PEFT's (`plain_model`). Both are
saved alike, with the exact names of the adapted layers.

A trained low-rank term is added to a frozen weight W: y = W x + (alpha / rank) B A x. The
arithmetic runs in the frozen weight's precision, the adapter itself is kept in 32 bits.
Adapters are saved in PEFT's folder format, which transformers, PEFT and vLLM load unchanged.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.loading import projection_shape

from .lora_layers import LoraLinear

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .split_model import SplitModel

__all__ = [
    "Adapter",
    "AdapterConfig",
    "adapted_names",
    "add_adapter",
    "load_adapter_config",
]

_PREFIX = "base_model.model."
_KEY = re.compile(re.escape(_PREFIX) + r"(?P<name>.+)\.lora_[AB]\.weight")
_MORE_THAN_PLAIN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Size and place of an adapter.

    Attributes:
        rank: Rank of the added matrices.
        alpha: Their product is scaled by alpha / rank.
        target_modules: Names of the linear layers that get it, whole or from a dot on, as in PEFT.
        layers: Indices of the transformer layers, ascending; None means all.
        target_parameters: Names of the stacked weights of experts that get it, too.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    target_parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapted linear layers of a model.

    Attributes:
        config: Size and place.
        matrices: By the full name of each adapted layer, A (rank, in) and B (out, rank); those of
            `experts` are stacked along the rank.
        base_name: The base model's name, for the saved adapter.
        layers: The engine's own adapted layers; none where they are PEFT's.
        transposed: Whether the layers keep their weights as (in, out), as GPT-2's do.
        experts: Which of `matrices` belong to the parameters in `config.target_parameters`.
    """

    config: AdapterConfig
    matrices: dict[str, tuple[nn.Parameter, nn.Parameter]]
    base_name: str
    transposed: bool = False
    layers: tuple[LoraLinear, ...] = ()
    experts: frozenset[str] = frozenset()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters under PEFT's names."""
        result = {}
        for name, (a, _) in self.matrices.items():
            result[f"{_PREFIX}{name}.lora_A.weight"] = a
        for name, (_, b) in self.matrices.items():
            result[f"{_PREFIX}{name}.lora_B.weight"] = b
        return result

    def prepack(self) -> None:
        """Keep a second and third copy of the frozen weights, for faster small products."""
        for module in self.layers:
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

    def save(self, folder: Path, parameters: Mapping[str, torch.Tensor] | None = None) -> None:
        """Write the adapter to an existing folder, in PEFT's format.

        Args:
            folder: The folder.
            parameters: The values, by PEFT's names; None for those in the model.
        """
        values = self.parameters() if parameters is None else parameters
        tensors = {name: value.detach().cpu() for name, value in values.items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config: dict[str, object] = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_name,
            "inference_mode": True,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": self.transposed,
            "init_lora_weights": True,
            # Exact names: PEFT reads a short one, such as gate_proj, as that of experts, too.
            "target_modules": sorted(self.matrices.keys() - self.experts),
            "use_rslora": False,
            "use_dora": False,
        }
        if self.config.target_parameters:
            config["target_parameters"] = list(self.config.target_parameters)
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )


def add_adapter(
    model: SplitModel,
    config: AdapterConfig,
    *,
    base_name: str = "",
    seed: int = 0,
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
    matrices: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
    layers: list[LoraLinear] = []
    torch.manual_seed(seed)
    for name in adapted_names(model, config):
        module = model.whole.get_submodule(name)
        if not isinstance(module, nn.Linear):
            msg = f"The layer {name} of the base model is no plain linear layer."
            raise TrainingError(msg, "invalid_model")
        adapted = LoraLinear(module, config.rank, config.alpha)
        parent, _, last = name.rpartition(".")
        setattr(model.whole.get_submodule(parent), last, adapted)
        matrices[name] = adapted.lora_a, adapted.lora_b
        layers.append(adapted)
    return Adapter(config, matrices, base_name, layers=tuple(layers))


def adapted_names(model: SplitModel, config: AdapterConfig) -> list[str]:
    """Return the full names of the linear layers that an adapter is put on, in their order.

    Raises:
        TrainingError: The model has no such linear layers.
    """
    start = len(model.layers_name) + 1
    names = [
        name
        for name, module in model.whole.named_modules()
        if name.startswith(f"{model.layers_name}.")
        and projection_shape(module) is not None
        and any(name == target or name.endswith(f".{target}") for target in config.target_modules)
        and (config.layers is None or int(name[start:].partition(".")[0]) in config.layers)
    ]
    if not names:
        msg = "The base model has no linear layers that an adapter could be put on."
        raise TrainingError(msg, "invalid_model")
    return names


def load_adapter_config(folder: Path) -> AdapterConfig:
    """Return size and place of the adapter in `folder`.

    Its place are the exact names in its weights, whatever short names its configuration has.

    Raises:
        TrainingError: It is not a plain LoRA adapter.
    """
    try:
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        is_plain = (
            saved["peft_type"] == "LORA"
            and saved["bias"] == "none"
            and not any(saved.get(name) for name in _MORE_THAN_PLAIN)
        )
        with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
            keys = list(tensors.keys())
        matches = [_KEY.fullmatch(key) for key in keys]
        parameters = tuple(map(str, saved.get("target_parameters") or ()))
        holders = tuple({name.rpartition(".")[0] for name in parameters})
        # PEFT keeps those of experts below the module that holds them.
        names = {match["name"] for match in matches if match is not None}
        names = {name for name in names if not f"{name}.".startswith(_below(holders))}
        config = AdapterConfig(
            int(saved["r"]),
            float(saved["lora_alpha"]),
            tuple(sorted(names)),
            target_parameters=parameters,
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        msg = f"The adapter to continue from, {folder.name}, cannot be read: {error}."
        raise TrainingError(msg, "invalid_model") from error
    if not is_plain or None in matches:
        msg = f"The adapter to continue from, {folder.name}, is not a plain LoRA adapter."
        raise TrainingError(msg, "invalid_model")
    return config


def _below(modules: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{module}." for module in modules)
