"""Keeps a running training within its memory, where the plan was wrong or none was made.

After an out-of-memory error the same step is done again with half the tokens at a time; where one
example is alone already, activations of more layers are computed again instead of kept. A step
sums over its examples, so its result is the same up to rounding. What a training came down to is
in its checkpoints. Where several processes share the step, the others wait for the part of the
one whose memory did not suffice: then all of them start again from the last checkpoint, with less.
Knows nothing of optimizers and files.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from tunesmith.engine.domain.errors import TrainingError
from tunesmith.engine.domain.exhausted import is_out_of_memory

from . import distributed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["LoweredLimitError", "MemoryLimit", "recompute_layers"]

T = TypeVar("T")


class LoweredLimitError(Exception):
    """All processes of a shared training must start again with less at a time.

    Attributes:
        tokens: Most tokens that go through the layers at a time from now on.
        recomputed_layers: Layers whose activations are computed again from now on.
    """

    def __init__(self, message: str, tokens: int, recomputed_layers: int) -> None:
        super().__init__(message)
        self.tokens: int = tokens
        self.recomputed_layers: int = recomputed_layers


class MemoryLimit:
    """How much goes through the layers of a model at a time.

    Args:
        layers: The transformer layers through which gradients go.
        tokens: Most tokens at a time, padding included.

    Attributes:
        tokens: Most tokens at a time, as lowered so far.
        recomputed_layers: Layers whose activations are computed again in the backward pass.
    """

    def __init__(self, layers: nn.ModuleList, tokens: int) -> None:
        self._layers = layers
        self.tokens: int = tokens
        self.recomputed_layers: int = 0
        self._examples, self._tokens_at_work = 1, 0

    def recompute(self, count: int) -> None:
        """Compute the activations of the first `count` layers again, not fewer than before."""
        if count > self.recomputed_layers:
            recompute_layers(self._layers[self.recomputed_layers : count])
            self.recomputed_layers = count

    def restore(self, tokens: int | None, recomputed_layers: int) -> None:
        """Take over what a training had come down to; None for tokens says nothing of them."""
        self.tokens = min(self.tokens, tokens or self.tokens)
        self.recompute(recomputed_layers)

    def note(self, examples: int, tokens: int) -> None:
        """Note what goes through the layers next: examples that can be split, and their tokens."""
        self._examples, self._tokens_at_work = examples, tokens

    def attempt(
        self, work: Callable[[], T], undo: Callable[[], None], report: Callable[[str, str], None]
    ) -> T:
        """Return the result of `work`, done again with less at a time while memory is too small.

        Args:
            work: Computes something that depends on nothing that it changed before it failed.
            undo: Takes back what a failed `work` has done.
            report: Receives a key and a sentence on each change.

        Raises:
            TrainingError: Not even one example fits with all layers computed again.
            LoweredLimitError: Several processes share the work, so all of them must start again.
        """
        while True:
            self.note(1, 0)
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if distributed.count() > 1:
                    message = self._lower()
                    raise LoweredLimitError(message, self.tokens, self.recomputed_layers) from error
            # Outside of the handler: a traceback holds the tensors of the pass.
            undo()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            elif torch.backends.mps.is_available():
                torch.mps.empty_cache()
            report(f"memory-{self.tokens}-{self.recomputed_layers}", self._lower())

    def _lower(self) -> str:
        """Take less at a time, and return a sentence on it.

        Raises:
            TrainingError: Nothing is left to take away.
        """
        count = len(self._layers)
        if self._examples > 1:
            before = min(self.tokens, self._tokens_at_work)
            self.tokens = max(1, before // 2)
            return (
                f"Memory did not suffice for {before:,} tokens at a time. The step is done again "
                f"with at most {self.tokens:,}."
            )
        if self.recomputed_layers < count:
            self.recompute(count)
            return (
                "Memory did not suffice for one example at a time. The step is done again with the "
                f"activations of all {count} layers computed twice."
            )
        of = f" of {self._tokens_at_work:,} tokens" if self._tokens_at_work else ""
        msg = (
            f"Memory does not suffice for one example{of}, with the activations of all layers "
            "computed twice. Use shorter examples, the recipe `qlora`, or a smaller base model."
        )
        raise TrainingError(msg, "out_of_memory")


def recompute_layers(layers: nn.ModuleList) -> None:
    """Compute the activations of layers again in the backward pass, not keep them.

    Args:
        layers: Transformer layers of a model of transformers.
    """
    for layer in layers:
        forward = layer.forward

        def checkpointed(*args: Any, _forward: Any = forward, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return _forward(*args, **kwargs)
            return checkpoint(_forward, *args, use_reentrant=False, **kwargs)

        layer.forward = checkpointed
