"""Loads a base model for generation: weights, tokenizer, output layer, prepacked layers.

Weights are read from safetensors only, and no code that comes with a model is run. Which
models stay in memory is decided by `model_store`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.loading import load_plain_model, text_config
from tunesmith.engine.training.model_proof import proof_tokens

from .detokenizer import TokenBytes
from .fused_decoder import fuse_decoder
from .generation_errors import GenerationError
from .loaded_base import LoadedBase, SelectiveLMHead
from .lora import MultiLora
from .packed_linear import can_quantize, quantization_error
from .path_proof import choose_general_path, fast_fault, known_fault, plain_logits
from .rounded_head import round_head
from .vocabulary import END_OF_TEXT
from .weight_prepacking import prepack_linear_layers

if TYPE_CHECKING:
    from pathlib import Path

    from .packed_linear import WeightFormat


__all__ = ["load_base"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

LOSSLESS = 0.01  # change of the weights by 4 bits, relative; bf16 itself rounds by 0.002


def _weights_bytes(model: nn.Module) -> int:
    weights = {parameter.data_ptr(): parameter.nbytes for parameter in model.parameters()}
    return sum(weights.values())


def load_base(
    path: Path,
    tokenizer_path: Path,
    device: torch.device,
    dtype: torch.dtype,
    weights: str = "unquantized",
) -> LoadedBase:
    """Load a base model, or full fine-tuned weights.

    Args:
        path: Folder of the weights.
        tokenizer_path: Folder of the tokenizer, where `path` has none.
        device: Where to load the weights.
        dtype: The type to load them in.
        weights: How to keep them; see `ServingConfig.weights`.

    Raises:
        GenerationError: The files are missing or broken, or the architecture is not supported.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

    if (path / "tokenizer_config.json").is_file():
        tokenizer_path = path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_path, local_files_only=True, trust_remote_code=False
        )
        model: Any = load_plain_model(path, dtype, device=device)
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError) as error:
        raise GenerationError(
            f"The model in {path.name} cannot be loaded: {_without_folders(error, path)}",
            kind=ErrorKind.INTERNAL,
            code="model_broken",
        ) from error
    model.requires_grad_(requires_grad=False)
    ids = proof_tokens(tokenizer)
    expected = plain_logits(model, ids, device)
    fault = known_fault(model)
    base = _prepared(path, model, tokenizer, weights, prepack=not fault)
    if not fault and weights == "unquantized":  # weights of 4 bits compute something else
        fault = fast_fault(base, ids, expected)
    if fault:
        if base.is_prepacked:  # its plain weights are gone, and the model itself may read them
            plain = _plain(path, dtype, device)
            base = _prepared(path, plain, tokenizer, weights, prepack=False)
        choose_general_path(base, fault, ids, expected)
    if base.path_reason:
        logger.info("%s is served by the general path: %s", path.name, base.path_reason)
    return base


def _plain(path: Path, dtype: torch.dtype, device: torch.device) -> Any:
    return load_plain_model(path, dtype, device=device).requires_grad_(requires_grad=False)


def _prepared(path: Path, model: Any, tokenizer: Any, weights: str, *, prepack: bool) -> LoadedBase:
    """Return a model with an output layer that computes selected rows, its layers prepacked."""
    output = model.get_output_embeddings()
    nbytes = _weights_bytes(model)
    decoder = None
    if prepack:
        decoder = fuse_decoder(
            model, _weight_format(model, output, weights, path.name), proof_tokens(tokenizer)
        )
        if decoder is None and weights == "int4":
            logger.warning("%s: models of its kind are served with unquantized weights.", path.name)
        prepack_linear_layers(model, keep=output)
    compiled = decoder.compiled if decoder is not None else None
    lm_head = SelectiveLMHead(output, round_head(output) if compiled is not None else None)
    if compiled is not None:
        nbytes += compiled.nbytes
    model.set_output_embeddings(lm_head)
    return LoadedBase(
        path=path,
        model=model,
        tokenizer=tokenizer,
        token_bytes=TokenBytes(tokenizer),
        lm_head=lm_head,
        lora=MultiLora(model),
        context_length=_context_length(model, tokenizer),
        vocab_size=output.weight.shape[0],
        eos_token_ids=_eos_token_ids(model, tokenizer),
        start_token_id=_start_token_id(tokenizer),
        weights_bytes=nbytes,
        decoder=decoder,
        is_prepacked=prepack,
    )


def _weight_format(model: nn.Module, keep: nn.Module, weights: str, name: str) -> WeightFormat:
    """Return the form that a model's weights are kept in; warn where it is not the one asked for.

    Args:
        model: The model.
        keep: Its output layer, which stays as it is.
        weights: What the settings say.
        name: That of the model's folder.
    """
    if weights == "unquantized":
        return "unquantized"
    layers = [
        module for module in model.modules() if type(module) is nn.Linear and module is not keep
    ]
    if not can_quantize(layers):
        if weights == "int4":
            logger.warning(
                "%s is served with unquantized weights: 4-bit products need a CPU, bfloat16 and "
                "layers of suitable sizes.",
                name,
            )
        return "unquantized"
    if weights == "int4" or quantization_error(layers) <= LOSSLESS:
        return "int4"
    return "unquantized"


def _without_folders(error: Exception, path: Path) -> str:
    """Return an error's text without the folders of this machine, which clients need not see."""
    return str(error).replace(f"{path.parent}/", "")


def _context_length(model: Any, tokenizer: Any) -> int:
    config = text_config(model)
    return int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length)


def _eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    eos: set[int] = set()
    for settings in (model.generation_config, model.config, text_config(model)):
        source = getattr(settings, "eos_token_id", None)
        if source is not None:
            eos.update(source if isinstance(source, list) else [source])
    if tokenizer.eos_token_id is not None:
        eos.add(tokenizer.eos_token_id)
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=False))
    eos.update(token_id for name, token_id in special.items() if name == END_OF_TEXT)
    return frozenset(eos)


def _start_token_id(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    return 0
