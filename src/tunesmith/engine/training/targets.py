"""Which linear layers of a model an adapter is put on, by their exact names.

Exact, because PEFT reads a short name such as `gate_proj` as that of experts, too, and because
a name within a layer may occur twice in it. Layers that PEFT would read as something else, or
refuses, get no adapter: what is trained here is what PEFT loads. Experts of a mixture are kept
in stacked parameters, which are no linear layers; they get one only where a job asks for it, by
PEFT's `target_parameters`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tunesmith.engine.models.loading import projection_shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

__all__ = ["adapter_targets", "expert_parameters", "linear_layers"]

# PEFT refuses this one in these families: their fused kernels read its weight past the adapter.
_RECURRENT = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_READ_BY_KERNELS = {"out_proj", "conv1d"}
_STACKED = 3  # dimensions: experts, and those of a weight


def adapter_targets(model: Any, layers_name: str) -> tuple[str, ...]:
    """Return the names in a model of the linear layers that can have an adapter, sorted.

    Args:
        model: A causal language model of transformers.
        layers_name: Name of its list of transformer layers.
    """
    names = linear_layers(model, layers_name)
    refused = _refused_by_peft(model, {name.rpartition(".")[2] for name in names})
    return tuple(name for name in names if name.rpartition(".")[2] not in refused)


def expert_parameters(model: Any, layers_name: str) -> tuple[str, ...]:
    """Return the names of the parameters that stack the weights of experts, in their order.

    Args:
        model: A causal language model of transformers.
        layers_name: Name of its list of transformer layers.
    """
    return tuple(
        name
        for name, parameter in model.named_parameters()
        if name.startswith(f"{layers_name}.")
        and ".experts." in name
        and parameter.dim() == _STACKED
    )


def linear_layers(model: Any, layers_name: str) -> list[str]:
    """Return the names of the linear layers that a pass calls for their product, sorted.

    Args:
        model: A causal language model of transformers.
        layers_name: Name of its list of transformer layers.
    """
    candidates = {
        name: module
        for name, module in model.named_modules()
        if name.startswith(f"{layers_name}.")
        and ".experts." not in name
        and projection_shape(module) is not None
    }
    products = _computing_products(model, candidates.values())
    return sorted(name for name, module in candidates.items() if module in products)


def _computing_products(model: Any, modules: Iterable[nn.Module]) -> set[nn.Module]:
    """Return the modules that a pass calls, and that return their product and nothing else.

    Others are routers that return more, and layers whose weights are read past an adapter.
    """
    found: set[nn.Module] = set()

    def note_products(module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs = projection_shape(module)
        if isinstance(output, torch.Tensor) and outputs and output.shape[-1] == outputs[1]:
            found.add(module)

    handles = [module.register_forward_hook(note_products) for module in modules]
    device = next(model.parameters()).device
    # Transformers reads values of its masks, which weights on the meta device do not have.
    mode = FakeTensorMode(allow_non_fake_inputs=True) if device.type == "meta" else nullcontext()
    try:
        with torch.no_grad(), mode:
            model(input_ids=torch.tensor([[1, 2, 3]], device=device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _refused_by_peft(model: Any, names: set[str]) -> set[str]:
    """Return which names within a layer PEFT refuses or reads as those of experts."""
    refused: set[str] = set()
    if getattr(model.config, "model_type", "") in _RECURRENT:
        refused |= names & _READ_BY_KERNELS
    if any(".experts." in name for name, _ in model.named_parameters()):
        from peft import LoraConfig  # noqa: PLC0415 - slow to import
        from peft.utils.transformers_weight_conversion import (  # noqa: PLC0415
            convert_peft_config_for_transformers,
        )

        for name in names:
            config = LoraConfig(target_modules=[name])
            try:
                convert_peft_config_for_transformers(config, model, None)
            except ValueError:  # one half of what it would read as one
                refused.add(name)
                continue
            if name not in (config.target_modules or ()):
                refused.add(name)
    return refused
