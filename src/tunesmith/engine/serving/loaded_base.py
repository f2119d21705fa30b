"""A base model in memory, and its output layer, which computes the rows that are needed.

How it gets there is `model_loader`'s; how it runs, that of the runners.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.engine.models.chat_template import select_template
from tunesmith.engine.models.loading import text_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from tunesmith.engine.models.verdicts import ModelPath

    from .detokenizer import TokenBytes
    from .fused_decoder import FusedDecoder
    from .lora import LoraAdapter, MultiLora
    from .rounded_head import RoundedHead

__all__ = ["LoadedBase", "SelectiveLMHead"]

EXACT_HEAD_BYTES = 1 << 30  # a larger lm_head does not get a float32 copy


class SelectiveLMHead(nn.Module):
    """A model's `lm_head`, computed only for the positions that are needed.

    It flattens the hidden states (B, T, D) to a contiguous matrix (a strided 3-D input costs
    a hundred times as much) and keeps only the rows named by `rows`. Of these, the ones named
    by `exact_rows` are computed in float32, so that log probabilities have no bf16 rounding.

    Args:
        head: The model's own output layer.
        rounded: A form of it that finds the most likely token faster, if there is one.

    Attributes:
        hidden: The hidden states (rows, D) of the last pass.
        greedy: Whether only the most likely token is wanted.
        bound: The most by which a logit of the last pass may be off, where `rounded` computed it.
    """

    def __init__(self, head: nn.Linear, rounded: RoundedHead | None = None) -> None:
        super().__init__()
        self.rounded = rounded
        self.greedy: bool = False
        self.bound: float | None = None
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
        self.hidden, self.bound = hidden, None
        if self.greedy and self.rounded is not None and hidden.shape[0] == 1:
            logits, self.bound = self.rounded.logits(hidden[0])
            return logits.unsqueeze(0)
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
        batches: Whether, on the general path, it computes padded texts together as each alone.
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
    batches: bool = False
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
