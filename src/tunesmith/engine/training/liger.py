"""Fused norms, rotations and activations by Liger, where it is installed and a GPU is there.

Applied by Liger's own function for a model's family, then compared with the model before: logits
and gradients. What differs by more than rounding is taken back. Its fused loss is not used, as the
engine's own never has more than a slice of the logits (see `loss`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .split_model import SplitModel

__all__ = ["apply_liger"]

_PARTS = {"rope": True, "rms_norm": True, "layer_norm": True, "swiglu": True, "geglu": True}
_LOSSES = {"cross_entropy": False, "fused_linear_cross_entropy": False}
_TOLERANCE = 0.05  # of the logits' standard deviation
_SAME_DIRECTION = 0.98  # cosine of gradients in 16 bits


def apply_liger(model: SplitModel, tokens: Sequence[int]) -> bool:
    """Make a model compute with Liger's kernels, in place; return whether it does.

    Args:
        model: The model.
        tokens: Token ids of a text, to compare both on.
    """
    if model.device.type != "cuda" or find_spec("liger_kernel") is None:
        return False
    kind = model.whole.config.model_type
    try:
        patches = import_module("liger_kernel.transformers.monkey_patch")
        if kind not in patches.MODEL_TYPE_TO_APPLY_LIGER_FN:
            return False
    except (ImportError, AttributeError):  # no Triton, or another version of Liger
        return False
    before = _logits_and_gradients(model, tokens)
    modules = {module: dict(module.__dict__) for module in model.whole.modules()}
    source = sys.modules[type(model.whole).__module__]
    names = dict(vars(source))
    try:
        patches._apply_liger_kernel_to_instance(model.whole, **_PARTS, **_LOSSES)  # noqa: SLF001
        if _are_equal(_logits_and_gradients(model, tokens), before):
            return True
    except Exception:  # noqa: BLE001, S110 - whatever it is, the model as it was does without
        pass
    for module, attributes in modules.items():
        module.__dict__.clear()
        module.__dict__.update(attributes)
    vars(source).clear()
    vars(source).update(names)
    return False


def _logits_and_gradients(
    model: SplitModel, tokens: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits, and the gradients of the embeddings by a function of all of them."""
    whole: Any = model.whole
    inputs = torch.tensor([list(tokens)], device=model.device)
    embedded = whole.get_input_embeddings()(inputs).detach().requires_grad_()
    logits = whole(inputs_embeds=embedded, use_cache=False).logits.float()
    loss = functional.cross_entropy(logits[0, :-1], inputs[0, 1:])
    torch.autograd.backward(loss, inputs=[embedded])
    return logits.detach(), embedded.grad.float()


def _are_equal(
    found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]
) -> bool:
    error = (found[0] - expected[0]).square().mean().sqrt()
    cosine = functional.cosine_similarity(found[1].flatten(), expected[1].flatten(), dim=0)
    return bool(error <= _TOLERANCE * expected[0].std()) and bool(cosine >= _SAME_DIRECTION)
