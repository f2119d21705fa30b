"""Adapters of PEFT on plain models: loaded as they are, or merged into the weights.

The one home of both, for serving, exports and imports. PEFT decides what an adapter computes. What
it would load in part only, or what is more than an adapter of this model, is refused.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from torch import nn

from tunesmith.engine.domain.errors import EngineError

from .loading import load_plain_model

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = [
    "AdapterError",
    "adapter_keys",
    "changes_embeddings",
    "is_plain_lora",
    "load_with_adapter",
    "merge",
    "merge_adapter",
    "save_model",
]

WEIGHTS = "adapter_model.safetensors"

# Initial values that leave the base model's weights as they are. The others (PiSSA, OLoRA, CorDA,
# LoftQ, LoRA-GA) take from the base what they put into the adapter, so its own product is not all.
_PLAIN_INITS = (None, True, False, "gaussian", "eva", "orthogonal")
_MORE_THAN_PLAIN = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "velora_config",
)


class AdapterError(EngineError):
    """An adapter does not fit its base model, or is none that PEFT loads wholly."""


def is_plain_lora(config: dict[str, Any]) -> bool:
    """Return whether an adapter is its low-rank products on linear layers, and nothing else.

    Args:
        config: The content of `adapter_config.json`.
    """
    return (
        config.get("peft_type") == "LORA"
        and config.get("bias", "none") == "none"
        and config.get("init_lora_weights") in _PLAIN_INITS
        and not any(config.get(name) for name in _MORE_THAN_PLAIN)
    )


def load_with_adapter(base: Path, adapter: Path, dtype: torch.dtype) -> Any:
    """Return a base model with an adapter on it, as PEFT computes it.

    Args:
        base: Folder of the base model.
        adapter: Folder of the adapter.
        dtype: Precision of the base model's weights.

    Raises:
        AdapterError: The adapter cannot be read, or not everything in it has its place.
        OSError, ValueError, RuntimeError: The base model cannot be loaded.
    """
    from peft import PeftModel  # noqa: PLC0415 - slow to import

    saved = adapter_keys(adapter)
    model = load_plain_model(base, dtype)
    _untie(model, saved)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what would be missing is compared below
            wrapped: Any = PeftModel.from_pretrained(model, adapter)
    except Exception as error:
        raise AdapterError(_last_line(error)) from error
    _check_whole(wrapped, saved, adapter)
    return wrapped


def merge_adapter(base: Path, adapter: Path, dtype: torch.dtype) -> Any:
    """Return a plain model with the adapter's change in its weights.

    Raises:
        AdapterError: As for `load_with_adapter`.
        OSError, ValueError, RuntimeError: The base model cannot be loaded.
    """
    return merge(load_with_adapter(base, adapter, dtype))


def merge(model: Any) -> Any:
    """Return the plain model of what `load_with_adapter` returned, its weights changed.

    Raises:
        AdapterError: PEFT cannot merge an adapter of this kind.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are shared, which `_untie` has parted
            return model.merge_and_unload()
    except Exception as error:
        msg = f"it cannot be merged: {_last_line(error)}"
        raise AdapterError(msg) from error


def save_model(model: Any, folder: Path) -> None:
    """Write a plain model's weights and configuration to a folder.

    An adapter may have changed one of two layers that shared their weights. transformers writes
    the configuration as it was, by which one of them is lost (huggingface/peft#2777).
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embeddings.weight:
        _say_untied(model)
    model.save_pretrained(folder)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


def changes_embeddings(keys: set[str]) -> bool:
    """Return whether an adapter, by the keys of its weights, changes embeddings or output layer."""
    return any(name in key for key in keys for name in ("lm_head", "embed", ".wte."))


def _untie(model: Any, saved: set[str]) -> None:
    """Give the output layer weights of its own if a low-rank product is to be merged into them.

    Merged into weights that both share, a change of the one would change the other.
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    low_rank = {key for key in saved if ".lora_" in key}
    if head is None or head.weight is not embeddings.weight or not changes_embeddings(low_rank):
        return
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    _say_untied(model)


def _say_untied(model: Any) -> None:
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.tie_word_embeddings = False


def adapter_keys(adapter: Path) -> set[str]:
    """Return the names of an adapter's tensors.

    Raises:
        AdapterError: The file cannot be read.
    """
    try:
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        msg = f"{WEIGHTS} cannot be read: {error}"
        raise AdapterError(msg) from error


def _check_whole(model: Any, saved: set[str], adapter: Path) -> None:
    """Check that each tensor of the file is in the model, and none of the adapter's is missing."""
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    different = {key for key in saved ^ loaded if not _is_weight_of_base(model, key, adapter)}
    if different:
        first = min(different)
        where = "not in the file" if first in loaded else "not in the model"
        msg = f"{first} is {where}, one of {len(different)} that differ"
        raise AdapterError(msg)


def _is_weight_of_base(model: Any, key: str, adapter: Path) -> bool:
    """Return whether a tensor of the file is now a weight of the base model, as embeddings are."""
    import torch  # noqa: PLC0415 - slow to import

    try:
        parameter = model.get_parameter(key)
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            value = file.get_tensor(key)
    except (AttributeError, SafetensorError):
        return False
    return parameter.shape == value.shape and torch.equal(parameter, value.to(parameter.dtype))
