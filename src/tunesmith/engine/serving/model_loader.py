"""Models in memory: a base once, its adapters beside it, the least recently used let go.

Weights are read from safetensors only, with no code of the model's own. On a GPU and
on processors with bf16 arithmetic they are held in bf16, elsewhere in float32.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .attention_mask import check_attention
from .detokenizer import TokenBytes
from .generation_errors import GenerationError
from .lora import Adapter, AdapterSwitch, UnsupportedAdapterError, load_adapter
from .weight_prepacking import pack_linear_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tunesmith.engine.models.servable_model import ServableModel

__all__ = ["LoadedBase", "LoadedModels"]

logger: logging.Logger = logging.getLogger("tunesmith.serving")

EXACT_HEAD_BYTES = 1 << 30  # a larger head is not kept a second time in float32


class SelectiveHead(nn.Module):
    """A model's output layer, on the positions that are asked for and nowhere else.

    It flattens what it gets to a contiguous matrix (a strided 3-D input costs a
    hundred times as much) and keeps only the rows named by `rows`. With `exact`
    the product is computed in float32, so that log probabilities carry no rounding
    of bf16.

    Args:
        head: The model's own output layer.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        self.rows: Tensor | None = None
        self.exact = False
        self._exact_weight: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The output layer's weight, for code that looks for it."""
        return self.head.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits [rows, vocabulary]."""
        hidden = hidden.reshape(-1, hidden.shape[-1])
        if self.rows is not None:
            hidden = hidden[self.rows]
        weight = self._float_weight() if self.exact else None
        if weight is None:
            result: Tensor = self.head(hidden)
            return result
        bias: Tensor | None = self.head.bias
        return nn.functional.linear(hidden.float(), weight, None if bias is None else bias.float())

    def _float_weight(self) -> Tensor | None:
        weight = self.head.weight
        if weight.dtype == torch.float32 or weight.numel() * 4 > EXACT_HEAD_BYTES:
            return None
        if self._exact_weight is None:
            self._exact_weight = weight.detach().float()
        return self._exact_weight


@dataclass(slots=True, eq=False)
class LoadedBase:
    """A base in memory with what generation needs around it.

    Attributes:
        context: Most tokens of a prompt and its answer together.
        end_tokens: Tokens that end an answer.
        start_token: What an empty prompt begins with.
        weights_bytes: Memory that the weights take.
        grammar_tokenizer: The vocabulary as grammars see it, made when first needed.
    """

    path: Path
    model: Any
    tokenizer: Any
    token_bytes: TokenBytes
    head: SelectiveHead
    switch: AdapterSwitch
    context: int
    vocabulary: int
    end_tokens: frozenset[int]
    start_token: int
    weights_bytes: int
    adapters: OrderedDict[Path, Adapter] = field(default_factory=OrderedDict)
    grammar_tokenizer: Any = None

    @property
    def chat_template(self) -> str:
        """The template that writes conversations out; empty if there is none."""
        template = self.tokenizer.chat_template or ""
        if isinstance(template, dict):  # several, by name
            template = template.get("tool_use") or template.get("default") or ""
        return str(template)

    @property
    def config(self) -> Any:
        """The configuration of the text model."""
        return self.model.config.get_text_config()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.head.weight.dtype

    @property
    def nbytes(self) -> int:
        """Memory taken by the weights and the adapters."""
        return self.weights_bytes + sum(adapter.nbytes for adapter in self.adapters.values())


@dataclass(slots=True)
class LoadedModels:
    """The models in memory, least recently used first.

    Args:
        budget: Bytes of weights to hold at most; one base is held in any case.
        device: Where to hold them.
        dtype: What to hold them in.
        is_busy: Says whether a base is answering; such a base is never let go.
        on_unload: Called with a base that was let go.
    """

    budget: int
    device: torch.device
    dtype: torch.dtype
    is_busy: Callable[[LoadedBase], bool]
    on_unload: Callable[[LoadedBase], None]
    bases: OrderedDict[Path, LoadedBase] = field(default_factory=OrderedDict)

    def get(self, model: ServableModel) -> tuple[LoadedBase, Adapter | None]:
        """Return the base and the adapter of a model, loading what is not in memory.

        Raises:
            GenerationError: The files are missing, broken, or do not fit each other.
        """
        folder = model.adapter_path
        if folder is None:
            return self._base(model.base_path), None
        if not (folder / "adapter_config.json").is_file():
            return self._base(folder, tokenizer_path=model.base_path), None
        if folder in self.bases:  # an adapter that had to be merged
            return self._base(folder), None
        base = self._base(model.base_path)
        adapter = base.adapters.get(folder)
        if adapter is None:
            try:
                adapter = load_adapter(folder, base.model)
            except UnsupportedAdapterError:
                return self._merged(folder, model.base_path), None
            base.adapters[folder] = adapter
            self._make_room(keep=base)
        base.adapters.move_to_end(folder)
        return base, adapter

    def unload(self, folder: Path) -> None:
        """Let go of a model that has been deleted; a base that is answering stays for now."""
        for base in self.bases.values():
            adapter = base.adapters.pop(folder, None)
            if adapter is not None:
                base.switch.unload(adapter)
        base_of_its_own = self.bases.get(folder)
        if base_of_its_own is not None and not self.is_busy(base_of_its_own):
            self._unload(base_of_its_own)

    def loaded(self) -> dict[Path, int]:
        """Return the folders of what is in memory, bases and adapters, and the bytes of each."""
        sizes: dict[Path, int] = {}
        for path, base in self.bases.items():
            adapters = {folder: adapter.nbytes for folder, adapter in base.adapters.items()}
            sizes |= {path: base.nbytes - sum(adapters.values())} | adapters
        return sizes

    def _base(self, path: Path, tokenizer_path: Path | None = None) -> LoadedBase:
        base = self.bases.get(path)
        if base is None:
            self._make_room(incoming=_weights_size(path))
            base = _load(path, tokenizer_path or path, self.device, self.dtype)
            self.bases[path] = base
            self._make_room(keep=base)
        self.bases.move_to_end(path)
        return base

    def _merged(self, folder: Path, base_path: Path) -> LoadedBase:
        """Load an adapter that rows cannot share: merge it into a copy of its base."""
        from peft import PeftModel  # noqa: PLC0415 - slow to import and rarely needed
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        self._make_room(incoming=_weights_size(base_path))
        with tempfile.TemporaryDirectory(prefix="tunesmith-merge-") as scratch:
            plain = AutoModelForCausalLM.from_pretrained(
                base_path, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PEFT uses transformers' old names
                merged = PeftModel.from_pretrained(plain, folder).merge_and_unload()
            merged.save_pretrained(scratch)
            for item in base_path.glob("*token*"):
                shutil.copy(item, scratch)
            base = _load(Path(scratch), base_path, self.device, self.dtype)
        base.path = folder
        self.bases[folder] = base
        self._make_room(keep=base)
        return base

    def _make_room(self, *, incoming: int = 0, keep: LoadedBase | None = None) -> None:
        """Let go of the least recently used, until all fits: idle adapters and bases."""
        while sum(base.nbytes for base in self.bases.values()) + incoming > self.budget:
            idle = [
                base for base in self.bases.values() if base is not keep and not self.is_busy(base)
            ]
            if idle:
                self._unload(idle[0])
            elif keep is not None and len(keep.adapters) > 1 and not self.is_busy(keep):
                _, adapter = keep.adapters.popitem(last=False)
                keep.switch.unload(adapter)
            else:
                return

    def _unload(self, base: LoadedBase) -> None:
        logger.info("unloading %s", base.path.name)
        del self.bases[base.path]
        self.on_unload(base)


def _weights_bytes(model: nn.Module) -> int:
    weights = {parameter.data_ptr(): parameter.nbytes for parameter in model.parameters()}
    return sum(weights.values())


def _weights_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _load(path: Path, tokenizer_path: Path, device: torch.device, dtype: torch.dtype) -> LoadedBase:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - slow to import

    if (path / "tokenizer_config.json").is_file():
        tokenizer_path = path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_path, local_files_only=True, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, json.JSONDecodeError) as error:
        raise GenerationError(
            f"The model in {path.name} cannot be loaded: {error}", status=500, code="model_broken"
        ) from error
    check_attention(model, path.name)
    model.requires_grad_(requires_grad=False)
    model.eval().to(device)
    output = model.get_output_embeddings()
    nbytes = _weights_bytes(model)
    pack_linear_layers(model, keep=output)
    head = SelectiveHead(output)
    model.set_output_embeddings(head)
    return LoadedBase(
        path=path,
        model=model,
        tokenizer=tokenizer,
        token_bytes=TokenBytes(tokenizer),
        head=head,
        switch=AdapterSwitch(model),
        context=_context(model, tokenizer),
        vocabulary=output.weight.shape[0],
        end_tokens=_end_tokens(model, tokenizer),
        start_token=_start_token(tokenizer),
        weights_bytes=nbytes,
    )


def _context(model: Any, tokenizer: Any) -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends: set[int] = set()
    for source in (model.generation_config.eos_token_id, model.config.eos_token_id):
        if source is not None:
            ends.update(source if isinstance(source, list) else [source])
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=False))
    ends.update(number for name, number in special.items() if name == "<|endoftext|>")
    return frozenset(ends)


def _start_token(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    return 0
