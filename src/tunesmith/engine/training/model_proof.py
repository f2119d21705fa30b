"""Whether a model trains by the fast path: its numbers against those of the plain model.

A short text goes through both: the logits of every position, then the loss and the gradients of
adapters on all linear layers. Where one differs by more than rounding, or the fast path cannot
run the model at all, the general path trains it. Likewise examples are packed only where a model
computes the same for them as for each alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.domain.errors import TrainingError

from .lora import AdapterConfig, adapted_names, add_adapter
from .lora_layers import LoraLinear
from .packing import find_kernel, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .split_model import SplitModel

__all__ = ["PROOF_TEXT", "can_pack", "find_fault", "is_causal", "packs_exactly", "proof_tokens"]

PROOF_TEXT = (
    "The harbour was quiet at 6:45 that morning. She wrote three letters, folded each of them "
    "twice, and walked down to the boats -> calm\n"
)
_TOKENS = 32
_RANK = 2
# Of the standard deviation, at a position: rounding stays below, a wrong computation does not.
_EXACT, _ROUNDED = 1e-3, 0.1
_PACKED = 0.05
_SAME_DIRECTION = 0.95  # cosine of gradients in 16 bits


def proof_tokens(tokenizer: Any) -> list[int]:
    """Return the token ids of a short text, of which a proof is made."""
    ids: list[int] = tokenizer(PROOF_TEXT, add_special_tokens=False)["input_ids"]
    return (ids * (1 + _TOKENS // max(1, len(ids))))[:_TOKENS]


def find_fault(
    model: SplitModel, tokens: Sequence[int], *, own_adapters: bool = True
) -> str | None:
    """Return why a model must not be trained by the fast path; None if it computes the same.

    The model is left as it was.

    Args:
        model: The model.
        tokens: Token ids of a text.
        own_adapters: Also try the engine's own adapter layers.
    """
    try:
        with model.keeping_attention():
            return _fault(model, _Batch(model, tokens), own_adapters=own_adapters)
    except TrainingError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other path does without
        return f"its parts cannot be run alone ({type(error).__name__})"


def _fault(model: SplitModel, batch: _Batch, *, own_adapters: bool) -> str | None:
    with torch.no_grad():
        expected = batch.plain_logits()
        found = batch.fast_logits()
    if _differ(found, expected, exact=model.dtype == torch.float32):
        return "as parts it computes other logits than as a whole"
    return _adapter_fault(model, batch) if own_adapters else None


def is_causal(model: SplitModel, tokens: Sequence[int]) -> bool:
    """Return whether a model predicts each token from those before it alone.

    Args:
        model: The model.
        tokens: Token ids of a text.
    """
    half = len(tokens) // 2

    def logits(count: int) -> Tensor:
        inputs = torch.tensor([list(tokens[:count])], device=model.device)
        result: Tensor = model.whole(input_ids=inputs, use_cache=False).logits
        return result[0, :half].float()

    with torch.no_grad():
        whole, start = logits(len(tokens)), logits(half)
    return not _differ(start, whole, exact=model.dtype == torch.float32)


class _Batch:
    """A text and its beginning, as a padded batch."""

    def __init__(self, model: SplitModel, tokens: Sequence[int]) -> None:
        length, short = len(tokens), max(2, len(tokens) // 2)
        self._model = model
        self._inputs = torch.tensor([list(tokens), [*tokens[:short], *[0] * (length - short)]])
        self._inputs = self._inputs.to(model.device)
        self._mask = torch.ones_like(self._inputs)
        self._mask[1, short:] = 0
        positions = [*range(length - 1), *range(length, length + short - 1)]
        self._selection = torch.tensor(positions, device=model.device)
        self._targets = self._inputs.flatten()[self._selection + 1]

    def plain_logits(self) -> Tensor:
        """Return the logits that the whole model computes, shape (positions, vocabulary)."""
        output = self._model.whole(
            input_ids=self._inputs, attention_mask=self._mask, use_cache=False
        )
        logits: Tensor = output.logits
        return logits.flatten(0, 1)[self._selection].float()

    def fast_logits(self) -> Tensor:
        """Return those that the model in parts computes."""
        hidden = self._model.last_hidden(self._inputs, self._mask, self._selection)
        return self._model.logits(hidden).float()

    def loss(self, logits: Tensor) -> Tensor:
        """Return the mean loss of the text's tokens."""
        return functional.cross_entropy(logits, self._targets)


def _differ(found: Tensor, expected: Tensor, *, exact: bool) -> bool:
    """Return whether logits of n positions, shape (n, vocabulary), differ by more than rounding."""
    if not bool(torch.isfinite(found).all()):
        return True
    error = (found - expected).square().mean(-1).sqrt() / (expected.std(-1) + 1e-6)
    return bool(error.max() > _EXACT) if exact else bool(error.mean() > _ROUNDED)


def _adapter_fault(model: SplitModel, batch: _Batch) -> str | None:
    """Compare loss and gradients of adapters with those of plain linear algebra."""
    config = AdapterConfig(_RANK, float(_RANK), model.linear_names())
    names = adapted_names(model, config)
    state = torch.get_rng_state()
    flags = {name: parameter.requires_grad for name, parameter in model.whole.named_parameters()}
    originals = {name: model.whole.get_submodule(name) for name in names}
    try:
        matrices = add_adapter(model, config).matrices
        for _, b in matrices.values():
            nn.init.normal_(b, std=0.02)
        fast = batch.loss(batch.fast_logits())
        found = _gradients(fast, matrices)
        _restore(model, originals)
        handles = [
            _add_reference(originals[name], *pair, config.alpha / config.rank)
            for name, pair in matrices.items()
        ]
        try:
            plain = batch.loss(batch.plain_logits())
            expected = _gradients(plain, matrices)
        finally:
            for handle in handles:
                handle.remove()
    finally:
        _restore(model, originals)
        for name, parameter in model.whole.named_parameters():
            parameter.requires_grad_(flags[name])
        torch.set_rng_state(state)
    exact = model.dtype == torch.float32
    if abs(float(fast.detach() - plain.detach())) > (_EXACT if exact else _ROUNDED):
        return "with an adapter it has another loss than plain linear layers have"
    cosine = float(functional.cosine_similarity(found, expected, dim=0))
    if not cosine > (1 - _EXACT if exact else _SAME_DIRECTION):
        return "its adapters get other gradients than those of plain linear layers"
    return None


def _restore(model: SplitModel, originals: dict[str, nn.Module]) -> None:
    for name, module in originals.items():
        parent, _, last = name.rpartition(".")
        if isinstance(model.whole.get_submodule(name), LoraLinear):
            setattr(model.whole.get_submodule(parent), last, module)


def _add_reference(module: nn.Module, a: nn.Parameter, b: nn.Parameter, scale: float) -> Any:
    """Add the low-rank term to a layer's output, in the plainest way."""

    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        return output + scale * ((x @ a.to(x.dtype).T) @ b.to(x.dtype).T)

    return module.register_forward_hook(add)


def _gradients(loss: Tensor, matrices: dict[str, tuple[nn.Parameter, nn.Parameter]]) -> Tensor:
    """Return the gradients of all matrices in one row."""
    parameters = [matrix for pair in matrices.values() for matrix in pair]
    gradients = torch.autograd.grad(loss, parameters)
    return torch.cat([gradient.flatten().float() for gradient in gradients])


def can_pack(model: SplitModel, tokens: Sequence[int]) -> bool:
    """Return whether a kernel is there, and a model computes the same packed as padded.

    Args:
        model: The model.
        tokens: Token ids of a text.
    """
    if find_kernel(model.device, model.dtype) is None:
        return False
    try:
        with model.keeping_attention():
            return packs_exactly(model, tokens)
    except Exception:  # noqa: BLE001 - whatever it is, padding does without
        return False


def packs_exactly(model: SplitModel, tokens: Sequence[int]) -> bool:
    """Return whether a model computes the same for two packed sequences as for each alone.

    Args:
        model: The model.
        tokens: Token ids of a text.
    """
    texts = [torch.tensor(list(part)) for part in (tokens, tokens[: len(tokens) // 2 + 1])]
    inputs, mask = pack(texts)
    inputs, mask = inputs.to(model.device), mask.to(model.device)
    with torch.no_grad():
        last = torch.arange(inputs.shape[1], device=model.device)
        found = model.logits(model.last_hidden(inputs, mask, last)).float()
        start = 0
        for text in texts:
            rows = torch.arange(len(text), device=model.device)
            alone = model.last_hidden(text[None].to(model.device), None, rows)
            expected = model.logits(alone).float()
            error = found[start : start + len(text)] - expected
            if not bool(error.square().mean().sqrt() <= _PACKED * expected.std()):
                return False
            start += len(text)
    return True
