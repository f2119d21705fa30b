"""Loads a base model for generation: weights, tokenizer, output layer, prepacked layers.

Weights are read from safetensors only, and no code that comes with a model is run. Which
models stay in memory is decided by `model_store`.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from tunesmith.engine.domain.errors import ErrorKind
from tunesmith.engine.models.chat_template import select_template
from tunesmith.engine.models.loading import load_plain_model, text_config
from tunesmith.engine.training.model_proof import proof_tokens

from .detokenizer import TokenBytes
from .fused_decoder import fuse_decoder
from .generation_errors import GenerationError
from .lora import MultiLora
from .packed_linear import can_quantize, quantization_error
from .path_proof import choose_general_path, fast_fault, known_fault, plain_logits
from .vocabulary import END_OF_TEXT
from .weight_prepacking import prepack_linear_layers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from tunesmith.engine.models.verdicts import ModelPath

    from .fused_decoder import FusedDecoder
    from .lora import LoraAdapter
    from .packed_linear import WeightFormat


__all__ = ["LoadedBase", "SelectiveLMHead", "load_base"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

LOSSLESS = 0.01  # change of the weights by 4 bits, relative; bf16 itself rounds by 0.002
EXACT_HEAD_BYTES = 1 << 30  # a larger lm_head does not get a float32 copy


class SelectiveLMHead(nn.Module):
    """A model's `lm_head`, computed only for the positions that are needed.

    It flattens the hidden states (B, T, D) to a contiguous matrix (a strided 3-D input costs
    a hundred times as much) and keeps only the rows named by `rows`. Of these, the ones named
    by `exact_rows` are computed in float32, so that log probabilities have no bf16 rounding.

    Args:
        head: The model's own output layer.

    Attributes:
        hidden: The hidden states (rows, D) of the last pass.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        self.rows: Tensor | None = None
        self.exact_rows: list[int] = []
        self.hidden: Tensor | None = None
        self._exact_weight: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The output layer's weight (V, D), which transformers expects here."""
        return self.head.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits (rows, V) of hidden states (B, T, D)."""
        hidden = hidden.reshape(-1, hidden.shape[-1])
        if self.rows is not None:
            hidden = hidden[self.rows]
        self.hidden = hidden
        weight = self._float_weight() if self.exact_rows else None
        if weight is None:
            result: Tensor = self.head(hidden)
            return result
        if len(self.exact_rows) == hidden.shape[0]:
            return self._exact(hidden, weight)
        result = self.head(hidden).float()
        result[self.exact_rows] = self._exact(hidden[self.exact_rows], weight)
        return result

    def _exact(self, hidden: Tensor, weight: Tensor) -> Tensor:
        bias: Tensor | None = self.head.bias
        return nn.functional.linear(hidden.float(), weight, None if bias is None else bias.float())

    def logits_of(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits (K,) of some tokens (K,) after one hidden state (D,), in float32."""
        logits = self.head.weight[tokens].float() @ hidden.float()
        bias: Tensor | None = self.head.bias
        return logits if bias is None else logits + bias[tokens].float()

    def _float_weight(self) -> Tensor | None:
        weight = self.head.weight
        if weight.dtype == torch.float32 or weight.numel() * 4 > EXACT_HEAD_BYTES:
            return None
        if self._exact_weight is None:
            self._exact_weight = weight.detach().float()
        return self._exact_weight


@dataclass(slots=True, eq=False)
class LoadedBase:
    """A base model in memory. It is its own `Vocabulary`; see there for those attributes.

    Attributes:
        lora: Applies adapters to it.
        weights_bytes: Bytes of the weights.
        decoder: The layers in fused form, where this architecture has one; else `model` runs.
        adapters: Its adapters in memory by folder, least recently used first.
        grammar_tokenizer: llguidance's form of the tokenizer, made when first needed.
        run_path: "fast", or "general" where plain transformers runs the model.
        path_reason: Why it is not "fast".
        is_prepacked: Whether the plain weights may have given way to prepacked ones.
        caches: Whether, on the general path, the model's own cache may be used.
        tokenizer_lock: Held while the tokenizer is used, which one thread may do at a time.
    """

    path: Path
    model: Any
    tokenizer: Any
    token_bytes: TokenBytes
    lm_head: SelectiveLMHead
    lora: MultiLora
    context_length: int
    vocab_size: int
    eos_token_ids: frozenset[int]
    start_token_id: int
    weights_bytes: int
    decoder: FusedDecoder | None = None
    adapters: OrderedDict[Path, LoraAdapter] = field(default_factory=OrderedDict)
    grammar_tokenizer: Any = None
    run_path: ModelPath = "fast"
    path_reason: str = ""
    is_prepacked: bool = False
    caches: bool = False
    tokenizer_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def chat_template(self) -> str:
        """The template that renders conversations; empty if there is none."""
        template = self.tokenizer.chat_template or ""
        if isinstance(template, dict):  # several, by name
            template = select_template(template)
        return str(template)

    @property
    def special_tokens(self) -> Mapping[str, Any]:
        """The texts of special tokens, by the names that templates use."""
        names: Mapping[str, Any] = self.tokenizer.special_tokens_map
        return names

    @property
    def config(self) -> Any:
        """The configuration of the text model."""
        return text_config(self.model)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.lm_head.weight.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and the adapters."""
        return self.weights_bytes + sum(adapter.nbytes for adapter in self.adapters.values())


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
        model: Any = load_plain_model(path, dtype)
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError) as error:
        raise GenerationError(
            f"The model in {path.name} cannot be loaded: {_without_folders(error, path)}",
            kind=ErrorKind.INTERNAL,
            code="model_broken",
        ) from error
    model.requires_grad_(requires_grad=False)
    model.to(device)
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
    return load_plain_model(path, dtype).requires_grad_(requires_grad=False).to(device)


def _prepared(path: Path, model: Any, tokenizer: Any, weights: str, *, prepack: bool) -> LoadedBase:
    """Return a model with an output layer that computes selected rows, its layers prepacked."""
    output = model.get_output_embeddings()
    nbytes = _weights_bytes(model)
    decoder = None
    if prepack:
        decoder = fuse_decoder(model, _weight_format(model, output, weights, path.name))
        if decoder is None and weights == "int4":
            logger.warning("%s: models of its kind are served with unquantized weights.", path.name)
        prepack_linear_layers(model, keep=output)
    lm_head = SelectiveLMHead(output)
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
