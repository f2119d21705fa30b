"""Loads a causal language model as plain transformers has it, and names its parts.

A model may be a wrapper around a text model and others for images or sound: Gemma 3, Mistral 3,
Qwen3-VL. Of such a model the text is used. Weights are read from safetensors only, and no code
that comes with a model is run. Nothing here changes how a model computes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from .memory_table import give_host_memory_back

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["find_layers", "load_plain_model", "projection_shape", "text_config"]

_OTHER_SENSES = ("vision", "visual", "image", "audio", "speech")
# Formats of 4 and 8 bits that are computed in 16: what is trained on them needs whole weights.
_DEQUANTIZED = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}


def load_plain_model(
    folder: Path,
    dtype: torch.dtype,
    *,
    device: torch.device | None = None,
    four_bits_on: torch.device | None = None,
) -> Any:
    """Load the model in `folder`, in evaluation mode, with the attention that it chooses itself.

    Args:
        folder: Holds configuration and safetensors.
        dtype: Precision of the weights.
        device: Where to put the weights. On a GPU they go there from the files, one after another:
            the host's memory does not have to hold them.
        four_bits_on: Keep its linear layers in four bits (NF4 of bitsandbytes), on this device,
            and compute in `dtype`. The output layer and the embeddings stay as they are.

    Raises:
        OSError: The files cannot be read.
        ValueError: The model is no causal language model, or its weights are not complete, or
            nothing of it can be kept in four bits.
        ImportError: Four bits were asked for, and bitsandbytes is not installed.
        RuntimeError: The weights do not fit the configuration.
        SafetensorError: A file of weights is broken.
    """
    import transformers  # noqa: PLC0415 - slow to import
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # in transformers
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if getattr(config, "is_encoder_decoder", False):
        msg = f"a model of type {config.model_type!r} has an encoder and a decoder"
        raise ValueError(msg)
    if four_bits_on is None:
        options = _quantization(config, transformers)
        if device is not None and device.type != "cpu":
            options["device_map"] = {"": device}
    else:
        options = _four_bits(config, dtype, four_bits_on, transformers)
    missing: set[str] = set()
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        if type(config) not in auto._model_mapping:  # noqa: SLF001 - no public reader
            continue
        loaded: Any = auto.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
        model, report = loaded
        if not report["missing_keys"]:
            if four_bits_on is not None:
                _prepare_four_bits(model)
            if options:  # the weights went through this memory, or were packed in it
                give_host_memory_back()
            return model.eval()
        missing = missing or set(report["missing_keys"])
    if missing:
        msg = f"its files lack weights ({len(missing)}, such as {min(missing)})"
        raise ValueError(msg)
    msg = f"a model of type {config.model_type!r} is no causal language model"
    raise ValueError(msg)


def text_config(model: Any) -> Any:
    """Return the configuration of a model's text part."""
    return model.config.get_text_config(decoder=True)


def find_layers(model: Any) -> str | None:
    """Return the name of the list of a model's transformer layers; None if there is none."""
    count = getattr(text_config(model), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.ModuleList)
            and len(module) == count
            and not any(sense in name for sense in _OTHER_SENSES)
        ):
            return str(name)
    return None


def projection_shape(module: nn.Module) -> tuple[int, int] | None:
    """Return a linear layer's numbers of inputs and outputs; None for other modules.

    Linear layers are those of PyTorch, their subclasses (Falcon has one), and GPT-2's `Conv1D`.
    """
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415 - slow to import

    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


def _quantization(config: Any, transformers: Any) -> dict[str, Any]:
    """Return how to load weights of 4 or 8 bits: as 16 bits, where transformers can."""
    quantization = getattr(config, "quantization_config", None) or {}
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    name = _DEQUANTIZED.get(str(method))
    if name is None:
        return {}
    return {"quantization_config": getattr(transformers, name)(dequantize=True)}


def _four_bits(
    config: Any, dtype: torch.dtype, device: torch.device, transformers: Any
) -> dict[str, Any]:
    """Return how to load a model whose linear layers are kept in four bits.

    Raises:
        ValueError: Its weights are quantised already.
    """
    if getattr(config, "quantization_config", None):
        raise ValueError("its weights are quantised already; they are not put into four bits")
    return {
        "quantization_config": transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
        "device_map": {"": device},
    }


def _prepare_four_bits(model: nn.Module) -> None:
    """Keep a model's layers in four bits in the layout through which gradients go.

    On a processor bitsandbytes otherwise changes a layer's weights, at the first pass without
    gradients in evaluation mode, to a layout of which the product has no gradient.

    Raises:
        ValueError: It has no such layers.
    """
    bitsandbytes: Any = import_module("bitsandbytes")  # an extra
    kind = bitsandbytes.nn.Linear4bit
    layers: list[Any] = [module for module in model.modules() if isinstance(module, kind)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    if not layers:
        raise ValueError("it has no linear layers that bitsandbytes puts into four bits")
