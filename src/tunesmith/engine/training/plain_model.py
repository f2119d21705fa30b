"""The general path of a training: a model of transformers as it is, with PEFT's own adapters.

For every model of which the fast path was not proven equal. The whole model runs in every pass,
with its own attention, so there are no cached lower layers. Slower, and never something else
than what transformers and PEFT compute.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.engine.domain.errors import TrainingError

from .lora import Adapter, AdapterConfig, adapted_names
from .model_proof import find_fault, is_causal, proof_tokens
from .split_model import SplitModel, load_split_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tunesmith.engine.models.verdicts import ModelPath

__all__ = [
    "PlainModel",
    "add_peft_adapter",
    "has_experts",
    "load_training_model",
    "prove_training",
]

_ADAPTER = "default"
_EXPERTS = "its experts are trained, too, by PEFT's adapters on parameters"
_IN_FOUR_BITS = "its layers are kept in four bits, and PEFT's adapters are made for that"


class PlainModel(SplitModel):
    """A causal language model that is run as a whole.

    `last_hidden` returns logits already, and `logits` leaves them as they are: what a model does
    after its output layer (scales, caps) is its own affair.

    Args:
        model: A model of transformers.
        reason: Why the fast path does not train it.
    """

    path: ModelPath = "general"

    def __init__(self, model: Any, reason: str = "") -> None:
        super().__init__(model)
        self.path_reason: str = reason
        self._head: nn.Module | None = model.get_output_embeddings()
        self._selects: bool | None = None  # whether the output layer can be given a selection

    def can_run_in_parts(self, tokens: Tensor | None, cut: int) -> bool:
        """Return False: the model runs as a whole."""
        del tokens, cut
        return False

    def last_hidden(
        self,
        inputs: Tensor,
        mask: Tensor | None,
        selection: Tensor,
        *,
        as_in_training: bool = False,
    ) -> Tensor:
        """Return the logits at the selected positions.

        Args:
            inputs: Token ids, shape (batch, length).
            mask: 1 at tokens and 0 at padding, shape (batch, length); None without padding.
            selection: Positions in the flattened batch, shape (selected,).
            as_in_training: Has no effect: there is one way to compute.

        Returns:
            Shape (selected, vocabulary).
        """
        del as_in_training
        if self._selects is None:
            self._selects = self._can_select(inputs, mask, selection)
        if self._selects:
            return self._selected_logits(inputs, mask, selection)
        return self._all_logits(inputs, mask).index_select(0, selection)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the result of `last_hidden`, shape (n, vocabulary), as it is."""
        return hidden

    def _all_logits(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        output = self.whole(input_ids=inputs, attention_mask=mask, use_cache=False)
        logits: Tensor = output.logits  # (batch, length, vocabulary)
        return logits.flatten(0, 1)

    def _selected_logits(self, inputs: Tensor, mask: Tensor | None, selection: Tensor) -> Tensor:
        """Run the output layer on the selected positions alone."""

        def select(_module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden = arguments[0]  # (batch, length, hidden)
            chosen = hidden.reshape(-1, hidden.shape[-1]).index_select(0, selection)
            return chosen[None], *arguments[1:]

        assert self._head is not None  # noqa: S101 - _can_select has checked it
        handle = self._head.register_forward_pre_hook(select)
        try:
            return self._all_logits(inputs, mask)
        finally:
            handle.remove()

    def _can_select(self, inputs: Tensor, mask: Tensor | None, selection: Tensor) -> bool:
        """Return whether logits of the selection alone are what they are among all of them."""
        if self._head is None:
            return False
        inputs, mask = inputs[:1], None if mask is None else mask[:1]
        own = selection[selection < inputs.shape[1]]
        with torch.no_grad():
            expected = self._all_logits(inputs, mask).index_select(0, own)
            try:
                found = self._selected_logits(inputs, mask, own)
            except (RuntimeError, ValueError, IndexError):
                return False
        return found.shape == expected.shape and torch.allclose(
            found.float(), expected.float(), atol=1e-2 * float(expected.float().std() + 1e-6)
        )


def load_training_model(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    *,
    tokenizer: Any,
    path: ModelPath | None = None,
    four_bits: bool = False,
    experts: bool = False,
) -> SplitModel:
    """Load the model in `folder` for the fast path, or for the general one where that differs.

    Args:
        folder: Holds the model.
        dtype: Precision of the weights.
        device: Where to load them.
        tokenizer: Makes the text of the proof.
        path: What was proven before; None to prove it now.
        four_bits: Keep its linear layers in four bits, around which the adapters are PEFT's.
        experts: Its experts get adapters, too, which only PEFT has.

    Raises:
        TrainingError: The folder holds no model that can be loaded.
    """
    model = load_split_model(folder, dtype, device, four_bits=four_bits)
    tokens = proof_tokens(tokenizer)
    if four_bits:
        model.path, model.path_reason = "general", _IN_FOUR_BITS
        fault = find_fault(model, tokens, own_adapters=False)
        return model if fault is None else PlainModel(model.whole, _IN_FOUR_BITS)
    if experts:
        if not model.expert_names():
            msg = (
                "The base model keeps no experts in stacked parameters, so `train_experts` has "
                "nothing to train. Leave it out."
            )
            raise TrainingError(msg, "invalid_hyperparameters")
        return PlainModel(model.whole, _EXPERTS)
    if path == "fast":
        return model
    if not is_causal(model, tokens):
        msg = f"The model in {folder.name} is no causal language model: it also reads backwards."
        raise TrainingError(msg, "invalid_model")
    fault = find_fault(model, tokens)
    return model if fault is None else PlainModel(model.whole, fault)


def prove_training(folder: Path, dtype: torch.dtype, device: torch.device) -> tuple[ModelPath, str]:
    """Return by which path the model in `folder` is trained, and why it is not the fast one.

    Raises:
        TrainingError: It cannot be trained.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        msg = f"The tokenizer in {folder.name} cannot be loaded: {error}"
        raise TrainingError(msg, "invalid_model") from error
    model = load_training_model(folder, dtype, device, tokenizer=tokenizer)
    if not model.linear_names():
        msg = f"The model in {folder.name} has no linear layers that an adapter could be put on."
        raise TrainingError(msg, "invalid_model")
    return model.path, model.path_reason


def has_experts(folder: Path) -> bool:
    """Return whether the model in `folder` keeps experts in stacked parameters.

    Reads its configuration, and none of its weights.
    """
    from transformers import AutoConfig  # noqa: PLC0415 - slow to import

    from .saved_tensors import build_without_values  # noqa: PLC0415

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        return bool(build_without_values(config, torch.bfloat16).expert_names())


def add_peft_adapter(
    model: SplitModel, config: AdapterConfig, *, base_name: str = "", seed: int = 0
) -> Adapter:
    """Freeze a model and put PEFT's adapters on its linear layers, in place; see `add_adapter`.

    Raises:
        TrainingError: The model has no such linear layers.
    """
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - slow to import
    from peft.tuners.lora.layer import ParamWrapper  # noqa: PLC0415
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    model.whole.requires_grad_(requires_grad=False)
    names = adapted_names(model, config)
    transposed = any(type(model.whole.get_submodule(name)) is Conv1D for name in names)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses transformers' old names
        inject_adapter_in_model(
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,  # type: ignore[arg-type]  # any number will do
                target_modules=names,
                target_parameters=list(config.target_parameters) or None,
                fan_in_fan_out=transposed,
            ),
            model.whole,
            adapter_name=_ADAPTER,
        )
    experts = frozenset(
        name for name, module in model.whole.named_modules() if isinstance(module, ParamWrapper)
    )
    if len(experts) < len(config.target_parameters):
        msg = "The base model has no experts that an adapter could be put on."
        raise TrainingError(msg, "invalid_model")
    matrices: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
    for name in (*names, *sorted(experts)):
        layer: Any = model.whole.get_submodule(name)
        a, b = layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]
        for linear in (a, b):  # in 32 bits, whatever the base's precision is
            linear.weight = nn.Parameter(linear.weight.detach().float())
        matrices[name] = a.weight, b.weight
    return Adapter(config, matrices, base_name, transposed, experts=experts)
