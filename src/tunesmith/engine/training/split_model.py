"""A causal language model split into its transformer layers and its output layer.

The fast path of a training, for models that keep their transformer layers in one list and
compute the same in parts; `model_proof` finds out whether one does. The layers can be run in
two parts, so that the output of frozen lower layers is computed once. The output layer gets only
the positions that are needed, as a contiguous matrix: a strided slice of a batch costs a hundred
times as much on a CPU, and logits of every position cost memory in proportion to the vocabulary.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.models.loading import find_layers, load_plain_model, text_config

from .packing import PACKED_ATTENTION, is_packed, positions, register_attention
from .short_steps import (
    SHORT_ATTENTION,
    FrozenOutput,
    register_short_attention,
    replace_norms,
)
from .targets import adapter_targets, expert_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tunesmith.engine.models.verdicts import ModelPath

__all__ = ["SplitModel", "load_split_model"]

_EAGER_ATTENTION_UP_TO = 128  # tokens
_TOLERANCE = 0.05  # of the logits' standard deviation


class SplitModel:
    """A causal language model in parts.

    Attributes:
        whole: The model of transformers.
        config: The configuration of its text part.
        layers_name: Name in the model of its list of transformer layers.
        decoder: The module that holds the layers: embeddings, layers and final norm.
        hidden_size: Size of the hidden state of one token.
        device: Where the model is.
        path: "fast": by the engine's own layers and cached lower ones; see `plain_model`.
        path_reason: Why it is not "fast".
    """

    path: ModelPath = "fast"
    path_reason: str = ""

    def __init__(self, model: Any) -> None:
        self.whole = model
        self.layers_name: str = _require_layers(model)
        self.decoder: Any = model.get_submodule(self.layers_name.rpartition(".")[0])
        self.config: Any = text_config(model)
        self.hidden_size: int = self.config.hidden_size
        self.device: torch.device = next(model.parameters()).device
        self._all_layers: nn.ModuleList = self.layers
        self._short_attention = "eager"
        self._prepacked_output: FrozenOutput | None = None
        self._attentions: bool = getattr(model, "_supports_sdpa", False)

    def prepack_output(self) -> None:
        """Keep a second and third copy of the frozen output layer, for faster small products."""
        self._prepacked_output = FrozenOutput.of(self.whole.get_output_embeddings())

    def speed_up_steps(self, tokens: torch.Tensor) -> None:
        """Make norms and short attention faster on a processor; all but adapters is frozen.

        Args:
            tokens: Token ids of one example, shape (length,): what is faster is used where it
                computes the same for them.
        """
        replace_norms(self.decoder)
        inputs = tokens[None, :_EAGER_ATTENTION_UP_TO]
        selection = torch.arange(inputs.shape[1])
        register_short_attention()
        try:
            with torch.no_grad():
                plain = self.last_hidden(inputs, None, selection, as_in_training=True)
                self._short_attention = SHORT_ATTENTION
                short = self.last_hidden(inputs, None, selection, as_in_training=True)
        except (ValueError, TypeError, RuntimeError):  # a model with an attention of its own
            self._short_attention = "eager"
            return
        # The mean, as single values differ by much through layers of bf16 rounding.
        if float((plain - short).float().square().mean().sqrt()) > _TOLERANCE * float(plain.std()):
            self._short_attention = "eager"

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers in use: all of them, but within `only_layers`."""
        layers: nn.ModuleList = getattr(self.decoder, self._attribute)
        return layers

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights; of those that are not in four bits, where some are."""
        parameters: Iterator[nn.Parameter] = self.whole.parameters()
        return next(p.dtype for p in parameters if p.is_floating_point())

    @property
    def _attribute(self) -> str:
        return self.layers_name.rpartition(".")[2]

    def linear_names(self) -> tuple[str, ...]:
        """Return the exact names of the linear layers that can have an adapter."""
        return adapter_targets(self.whole, self.layers_name)

    def expert_names(self) -> tuple[str, ...]:
        """Return the exact names of the parameters that stack the weights of experts."""
        return expert_parameters(self.whole, self.layers_name)

    def can_run_in_parts(self, tokens: torch.Tensor | None, cut: int) -> bool:
        """Return whether the layers may be run in two parts: all have full attention, and fit.

        Args:
            tokens: Token ids of one example, shape (length,); None to trust the configuration.
            cut: First layer of the second part.
        """
        kinds = getattr(self.config, "layer_types", None) or ["full_attention"]
        if cut == 0 or set(kinds) != {"full_attention"}:
            return False
        return tokens is None or self.parts_match_whole(tokens, cut)

    def only_layers(
        self, first: int, end: int | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Within the block, run only the layers from `first` up to, not including, `end`."""
        return self._run(self.layers[first:end])

    @contextlib.contextmanager
    def _run(self, layers: nn.Module) -> Iterator[None]:
        before = self.layers
        setattr(self.decoder, self._attribute, layers)
        try:
            yield
        finally:
            setattr(self.decoder, self._attribute, before)

    def last_hidden(
        self,
        inputs: torch.Tensor,
        mask: torch.Tensor | None,
        selection: torch.Tensor,
        *,
        as_in_training: bool = False,
    ) -> torch.Tensor:
        """Return what enters the output layer at the selected positions.

        Args:
            inputs: Token ids, shape (batch, length), which go through all layers, or what
                enters the first layer in use, shape (batch, length, hidden).
            mask: 1 at tokens and 0 at padding, shape (batch, length); None without padding; or
                what `packing.pack` makes.
            selection: Positions in the flattened batch, shape (selected,).
            as_in_training: Compute without gradients exactly what is computed with them.

        Returns:
            Shape (selected, hidden).
        """
        is_hidden = inputs.dim() == 3  # noqa: PLR2004
        options: dict[str, Any] = {"inputs_embeds" if is_hidden else "input_ids": inputs}
        if mask is not None and is_packed(mask):
            options["position_ids"] = positions(mask, inputs.shape[1])
            self._use_attention(PACKED_ATTENTION)
        else:
            self._choose_attention(inputs.shape[1], as_in_training=as_in_training)
        with contextlib.nullcontext() if is_hidden else self._run(self._all_layers):
            output = self.decoder(**options, attention_mask=mask, use_cache=False)
        hidden: torch.Tensor = output.last_hidden_state  # (batch, length, hidden)
        return hidden.reshape(-1, hidden.shape[-1]).index_select(0, selection)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map the result of `last_hidden`, shape (n, hidden), to logits, shape (n, vocabulary)."""
        config = self.config
        output = self._prepacked_output or self.whole.get_output_embeddings()
        logits: torch.Tensor = output(hidden)
        # Cohere, Granite and Gemma 2 scale or cap the logits after the output layer.
        logits = logits * (getattr(config, "logit_scale", None) or 1)
        logits = logits / (getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def hidden_before(
        self, layer: int, tokens: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what enters transformer layer `layer`, without gradients.

        Args:
            layer: Index of the layer, at least 1.
            tokens: Token ids, shape (batch, length).
            mask: 1 at tokens and 0 at padding, shape (batch, length); None without padding.

        Returns:
            Shape (batch, length, hidden).
        """
        outputs: list[torch.Tensor] = []

        def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
            outputs.append(output[0] if isinstance(output, tuple) else output)

        # A hook, because the decoder's own output has gone through the final norm.
        handle = self.layers[layer - 1].register_forward_hook(keep)
        try:
            with torch.no_grad(), self.only_layers(0, layer):
                self._choose_attention(tokens.shape[1])
                self.decoder(input_ids=tokens, attention_mask=mask, use_cache=False)
        finally:
            handle.remove()
        return outputs[0]

    def parts_match_whole(self, tokens: torch.Tensor, cut: int) -> bool:
        """Return whether the parts compute what the whole model computes.

        Args:
            tokens: Token ids of one example, shape (length,).
            cut: First layer of the second part; 0 to run all layers in one part.
        """
        inputs = tokens[None].to(self.device)  # (1, length)
        last = torch.tensor([tokens.shape[0] - 1], device=self.device)
        with torch.no_grad():
            # One attention for both, whichever was used last: in bf16 two round differently.
            self._choose_attention(inputs.shape[1])
            whole = self.whole(input_ids=inputs, use_cache=False).logits[0, -1].float()
            if cut:
                inputs = self.hidden_before(cut, inputs, None)  # (1, length, hidden)
            with self.only_layers(cut):
                parts = self.logits(self.last_hidden(inputs, None, last))[0].float()
        # The root mean square: in bf16 a single logit of 16 or more rounds to an eighth.
        return bool((whole - parts).square().mean().sqrt() <= _TOLERANCE * whole.std())

    @contextlib.contextmanager
    def keeping_attention(self) -> Iterator[None]:
        """Afterwards the model has the attention that it had before the block."""
        before = self.whole.config._attn_implementation  # noqa: SLF001 - no public reader
        try:
            yield
        finally:
            if self.whole.config._attn_implementation != before:  # noqa: SLF001
                self.whole.set_attn_implementation(before)

    def _choose_attention(self, length: int, *, as_in_training: bool = False) -> None:
        """Choose the faster attention: on a CPU the fused one is slow backward for short texts."""
        if not self._attentions:
            return
        short = (
            length <= _EAGER_ATTENTION_UP_TO
            and (as_in_training or torch.is_grad_enabled())
            and self.device.type == "cpu"
        )
        self._use_attention(self._short_attention if short else "sdpa")

    def _use_attention(self, wanted: str) -> None:
        if wanted == PACKED_ATTENTION:
            register_attention()
        if self.whole.config._attn_implementation != wanted:  # noqa: SLF001 - no public reader
            self.whole.set_attn_implementation(wanted)


def load_split_model(
    folder: Path, dtype: torch.dtype, device: torch.device, *, four_bits: bool = False
) -> SplitModel:
    """Load the model in `folder` from safetensors; code that comes with it is never run.

    Args:
        folder: Holds the model.
        dtype: Precision of the weights.
        device: Where to load them.
        four_bits: Keep its linear layers in four bits.

    Raises:
        TrainingError: The folder holds no model that can be loaded.
    """
    try:
        where = {"four_bits_on" if four_bits else "device": device}
        model = load_plain_model(folder, dtype, **where)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, ImportError) as error:
        msg = f"The model in {folder.name} cannot be loaded: {error}"
        raise TrainingError(msg, "invalid_model") from error
    # In evaluation mode: with dropout a resumed training would differ from an uninterrupted one.
    return SplitModel(model)


def _require_layers(model: Any) -> str:
    name = find_layers(model)
    if name is None:
        kind = model.config.model_type
        msg = f"The transformer layers of a model of type {kind!r} were not found."
        raise TrainingError(msg, "invalid_model")
    return name
