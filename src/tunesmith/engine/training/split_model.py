"""The base model as a training sees it: its layers, and its output layer apart from them.

Works with any causal language model of transformers that keeps its transformer
layers in one list. The output layer is given only the positions that are needed, as a
contiguous matrix: the strided slice of a batch costs a hundred times as much on a
processor, and logits of every position cost memory that grows with the vocabulary.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.engine.training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SplitModel", "load_split_model"]

_EAGER_UP_TO = 128
_TOLERANCE = 0.05


class SplitModel:
    """A causal language model in pieces.

    Attributes:
        model: The whole model.
        layers_name: Name in the model of its list of transformer layers.
        hidden_size: Numbers per position between the layers.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers_name: str = _layers_name(model)
        self.decoder: Any = model.get_submodule(self.layers_name.rpartition(".")[0])
        self.hidden_size: int = model.config.hidden_size
        self.device: torch.device = next(model.parameters()).device

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers in use."""
        found: nn.ModuleList = getattr(self.decoder, self._attribute)
        return found

    @property
    def _attribute(self) -> str:
        return self.layers_name.rpartition(".")[2]

    def linear_names(self) -> tuple[str, ...]:
        """Return the last parts of the names of the linear layers inside the transformer layers."""
        return tuple(
            sorted(
                {
                    name.rpartition(".")[2]
                    for layer in self.layers
                    for name, module in layer.named_modules()
                    if isinstance(module, nn.Linear)
                }
            )
        )

    def can_be_cut(self) -> bool:
        """Return whether the layers may be run in two parts: all are of one kind."""
        kinds = getattr(self.model.config, "layer_types", None) or ["full_attention"]
        return set(kinds) == {"full_attention"}

    @contextlib.contextmanager
    def only_layers(self, first: int, last: int | None = None) -> Iterator[None]:
        """Run the layers from `first` up to before `last` alone, within the block."""
        whole = self.layers
        setattr(self.decoder, self._attribute, whole[first:last])
        try:
            yield
        finally:
            setattr(self.decoder, self._attribute, whole)

    def hidden(
        self, inputs: torch.Tensor, mask: torch.Tensor | None, selection: torch.Tensor
    ) -> torch.Tensor:
        """Return what enters the output layer at the selected positions.

        Args:
            inputs: Token numbers, shape (batch, length), or what enters the first layer
                in use, shape (batch, length, hidden).
            mask: 1 where there is a token, 0 where padding, shape (batch, length);
                None where all are tokens.
            selection: Positions in the flattened batch, shape (selected,).

        Returns:
            Shape (selected, hidden).
        """
        name = "inputs_embeds" if inputs.dim() == 3 else "input_ids"  # noqa: PLR2004
        self._prefer_attention(inputs.shape[1])
        output = self.decoder(**{name: inputs}, attention_mask=mask, use_cache=False)
        last: torch.Tensor = output.last_hidden_state
        return last.reshape(-1, last.shape[-1]).index_select(0, selection)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map what `hidden` gave, shape (n, hidden), to logits, shape (n, vocabulary)."""
        config = self.model.config
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden)
        # What Cohere, Granite and Gemma 2 do behind the output layer.
        logits = logits * (getattr(config, "logit_scale", None) or 1)
        logits = logits / (getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def agrees_with_itself(self, tokens: torch.Tensor, cut: int) -> bool:
        """Return whether the pieces give what the whole model gives, run in two parts at `cut`.

        Args:
            tokens: Token numbers of one example, shape (length,).
            cut: The first layer of the second part; 0 for a model in one part.
        """
        inputs = tokens[None].to(self.device)
        last = torch.tensor([tokens.shape[0] - 1], device=self.device)
        with torch.no_grad():
            whole = self.model(input_ids=inputs, use_cache=False).logits[0, -1].float()
            if cut:
                inputs = self.hidden_before(cut, inputs, None)
            with self.only_layers(cut):
                apart = self.logits(self.hidden(inputs, None, last))[0].float()
        return bool((whole - apart).abs().max() <= _TOLERANCE * whole.std())

    def hidden_before(
        self, layer: int, tokens: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what enters transformer layer `layer`, shape (batch, length, hidden)."""
        caught: list[torch.Tensor] = []

        def catch(_module: nn.Module, _arguments: Any, output: Any) -> None:
            caught.append(output[0] if isinstance(output, tuple) else output)

        handle = self.layers[layer - 1].register_forward_hook(catch)
        try:
            with torch.no_grad(), self.only_layers(0, layer):
                self._prefer_attention(tokens.shape[1])
                self.decoder(input_ids=tokens, attention_mask=mask, use_cache=False)
        finally:
            handle.remove()
        return caught[0]

    def _prefer_attention(self, length: int) -> None:
        """Choose the attention: the fused one is slow backward on processors for short texts."""
        short = length <= _EAGER_UP_TO and torch.is_grad_enabled() and self.device.type == "cpu"
        wanted = "eager" if short else "sdpa"
        if self.model.config._attn_implementation != wanted:  # noqa: SLF001 - the only reader
            self.model.set_attn_implementation(wanted)


def load_split_model(folder: Path, dtype: torch.dtype, device: torch.device) -> SplitModel:
    """Load the model in `folder` from safetensors; code that comes with it is never run.

    Raises:
        TrainingError: The folder holds no model that can be loaded.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - slow to import
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # in transformers
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        msg = f"The model in {folder} cannot be loaded: {error}"
        raise TrainingError(msg, "invalid_model") from error
    return SplitModel(model.to(device))


def _layers_name(model: Any) -> str:
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return str(name)
    msg = f"The layers of a model of the kind {model.config.model_type!r} were not found."
    raise TrainingError(msg, "invalid_model")
